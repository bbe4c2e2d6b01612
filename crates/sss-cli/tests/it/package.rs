//! What packages are made of: completions, manual pages, and the unit that the book shows.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::Home;

const COMMANDS: [&str; 12] = [
    "id",
    "serve",
    "get",
    "put",
    "ls",
    "ping",
    "services",
    "search",
    "ticket",
    "doctor",
    "rendezvous",
    "demo",
];

/// Runs a program that may not be there.
fn runs(command: &mut Command) -> Option<std::process::Output> {
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {command:?} is not there");
            None
        }
        other => Some(other.unwrap()),
    }
}

#[test]
fn completions_know_every_command_and_are_scripts() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(["completions", shell]).expect(0).out;
        assert!(!script.contains("demo-host"), "{shell}: what is hidden stays so");
        for word in COMMANDS.iter().chain(&["trust", "next-port"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    home.run(["completions", "csh"]).expect(2).says(&["bash"]);

    fs::write(home.path("sss.bash"), home.run(["completions", "bash"]).out).unwrap();
    // The second word of `sss se` becomes one of three; the option of get is found behind it.
    let complete = "
source \"$0\"
COMP_WORDS=(sss $1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); _sss sss \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"
echo \"${COMPREPLY[*]}\"";
    for (line, expected) in [("se", "serve services search"), ("get --tru", "--trust")] {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", complete])
            .arg(home.path("sss.bash"))
            .arg(line);
        if let Some(ran) = runs(&mut bash) {
            let words = String::from_utf8_lossy(&ran.stdout);
            assert_eq!(words.trim(), expected, "{}", String::from_utf8_lossy(&ran.stderr));
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let home = Home::new();
    let dir = home.path("man1");
    home.run(["man", "--dir", dir.to_str().unwrap()]).expect(0);
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let all = COMMANDS.iter().chain(&["completions", "man"]);
    let mut expected: Vec<_> = all
        .map(|name| format!("sss-{name}.1"))
        .chain(["sss.1".to_owned()])
        .collect();
    expected.sort();
    assert_eq!(names, expected);
    for name in &names {
        let mut groff = Command::new("groff");
        groff
            .args(["-man", "-Tutf8", "-ww"])
            .arg(dir.join(name))
            .env("LC_ALL", "C.UTF-8");
        if let Some(ran) = runs(&mut groff) {
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success() && said.is_empty(), "{name:?}: {said}");
        }
    }
    let page = home.run(["man", "get"]).expect(0).out;
    assert_eq!(page, fs::read_to_string(dir.join("sss-get.1")).unwrap());
    assert!(page.contains("Examples:") && page.contains("\\-\\-force"), "{page}");
    assert!(home.run(["man"]).expect(0).out.contains("Exit codes:"));
    home.run(["man", "nothing"]).expect(2).says(&["nothing", "--help"]);
    home.run(["man", "demo-host"]).expect(2);
}

#[test]
fn the_unit_in_the_book_is_one() {
    const PAGE: &str = include_str!("../../../../docs/book/cli.md");
    let begin = PAGE.find("```ini\n").expect("the page shows a unit") + "```ini\n".len();
    let unit = &PAGE[begin..][..PAGE[begin..].find("```").unwrap()];
    let home = Home::new();
    let binary = env!("CARGO_BIN_EXE_sss");
    let unit = unit.replace("/usr/bin/sss", binary);
    fs::write(home.path("sss.service"), &unit).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no"])
        .arg(home.path("sss.service"))
        .stdin(Stdio::null());
    if let Some(ran) = runs(&mut verify) {
        let said = String::from_utf8_lossy(&ran.stderr);
        // Other units of this machine may have faults of their own.
        let ours: Vec<_> = said.lines().filter(|line| line.contains("sss.service")).collect();
        assert!(ours.is_empty(), "{said}");
    }
    // The command line in it is one.
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let state = home.dir("state");
    let words = start
        .replace("%S/sss", state.to_str().unwrap())
        .replace("/srv/files", home.dir("files").to_str().unwrap());
    let words: Vec<_> = words.split_whitespace().skip(1).map(str::to_owned).collect();
    let mut command = home.command();
    command.args(&words).args(["--bind", "127.0.0.1", "--port", "0"]);
    let serving = crate::support::Serving::start(command.spawn().unwrap());
    assert!(serving.target.starts_with("sss1"));
}
