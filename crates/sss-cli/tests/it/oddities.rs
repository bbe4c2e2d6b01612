//! What is odd about names, files, standard streams, descriptors and words is told, and nothing is lost without a word.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::support::{Home, Ran, assert_same, noise};

/// Runs `sss` with words behind it as a shell understands them, such as `<&-`.
fn in_shell(home: &Home, words: &str) -> Ran {
    let mut shell = home.command_of("sh");
    shell.args(["-c", &format!("\"$0\" {words}"), env!("CARGO_BIN_EXE_sss")]);
    Ran::wait(shell.spawn().unwrap())
}

// spec: FIL-5
#[test]
fn what_only_has_the_name_of_a_temporary_file_is_missed_aloud() {
    let (server, client) = (Home::new(), Home::new());
    let source = server.dir("source");
    fs::create_dir(source.join(".keep.sss-part")).unwrap();
    fs::write(source.join(".keep.sss-part/v"), "v").unwrap();
    symlink("n", source.join(".l.sss-part")).unwrap();
    // Nothing but what a transfer leaves by itself.
    symlink(
        "sss: mode and time of this directory are not set yet",
        source.join(".made.sss-part"),
    )
    .unwrap();
    fs::write(source.join(".begun.sss-part"), "").unwrap();
    fs::write(source.join("n"), "n").unwrap();
    let serving = server.serve(&source, &["--write"]);
    let copy = client.path("copy");
    let says = &["not taken because of a name like .NAME.sss-part: 2"];
    client
        .run(["get", &serving.target, copy.to_str().unwrap()])
        .expect(0)
        .says(says);
    client
        .run(["put", source.to_str().unwrap(), &serving.at("again")])
        .expect(0)
        .says(says);
    let listed = client.run(["ls", &serving.target]).expect(0);
    assert!(listed.out.contains(" .: not taken"), "{}", listed.out);
}

#[test]
fn a_standard_stream_that_is_closed_is_not_an_empty_one() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("f"), "data").unwrap();
    let serving = server.serve(&dir, &["--write"]);
    in_shell(&client, &format!("put --force - {}/f <&-", serving.target))
        .expect(2)
        .says(&["standard input is closed"]);
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"data");
    in_shell(&client, &format!("get {}/f - >&-", serving.target))
        .expect(2)
        .says(&["standard output is closed"]);
    in_shell(&client, &format!("put --force - {}/f </dev/null", serving.target)).expect(0);
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"");
    in_shell(&client, &format!("get {}/f - >/dev/null", serving.target)).expect(0);
}

#[test]
fn files_of_proc_are_not_taken_for_empty_ones() {
    let proc = std::path::Path::new("/proc/sys/kernel");
    if !proc.join("osrelease").exists() {
        eprintln!("SKIPPED: no /proc/sys/kernel");
        return;
    }
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    let serving = server.serve(&dir, &["--write"]);
    let says = &["it has content and says that it is empty"];
    client
        .run(["put", "/proc/version", &serving.at("v")])
        .expect(1)
        .says(says);
    assert!(!dir.join("v").exists());
    let serving = server.serve(proc, &[]);
    let copy = client.dir("copy");
    let to = copy.to_str().unwrap();
    client.run(["get", &serving.at("osrelease"), to]).expect(1).says(says);
    client.run(["get", &serving.at("os*"), to]).expect(1).says(says);
    client.run(["get", &serving.at("osrelease"), "-"]).expect(1).says(says);
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 0);
}

#[test]
fn links_are_counted_and_what_stands_for_a_pipe_is_none() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("dest");
    let serving = server.serve(&dir, &["--write"]);
    let link = client.path("l");
    symlink("nowhere", &link).unwrap();
    let ran = client.run(["put", link.to_str().unwrap(), &serving.target]).expect(0);
    assert!(
        ran.out.contains("sent no file") && ran.out.contains("1 symbolic link"),
        "{}",
        ran.out
    );
    let says = &["is a link to what is no file, such as a pipe", "sss put - HOST/NAME"];
    for source in ["put /dev/stdin", "put /dev/fd/0"] {
        in_shell(&client, &format!("{source} {}/in </dev/null", serving.target))
            .expect(1)
            .says(says);
    }
    assert!(fs::symlink_metadata(dir.join("in")).is_err());
}

#[test]
fn what_is_in_a_directory_goes_where_it_is_sent() {
    let (server, client) = (Home::new(), Home::new());
    let (dest, source) = (server.dir("dest"), client.dir("source"));
    fs::write(source.join("f"), "f").unwrap();
    let serving = server.serve(&dest, &["--write"]);
    client
        .run(["put", &format!("{}/.", source.display()), &serving.at("")])
        .expect(0);
    assert_same(&source, &dest);
}

#[test]
fn patterns_go_to_standard_output_and_bad_ones_are_wrong_words() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    for name in ["g1", "g2", "h"] {
        fs::write(dir.join(name), format!("{name}\n")).unwrap();
    }
    let serving = server.serve(&dir, &[]);
    fs::create_dir(dir.join("folder")).unwrap();
    let says = &["folder: is a directory", "standard output takes files alone"];
    client.run(["get", &serving.at("folder"), "-"]).expect(1).says(says);
    let ran = client.run(["get", &serving.at("g?"), "-"]).expect(0);
    assert_eq!(ran.out, "g1\ng2\n");
    for command in [
        &["get", &serving.at("["), "-"][..],
        &["get", &serving.at("[")],
        &["ls", &serving.at("[")],
    ] {
        client.run(command).expect(2).says(&["it is no pattern"]);
    }
}

#[test]
fn few_descriptors_are_enough() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let deep = dir.join("d1/d2/d3/d4/d5");
    fs::create_dir_all(&deep).unwrap();
    for i in 0..60 {
        fs::write(deep.join(format!("f{i}")), noise(i, 100_000)).unwrap();
        fs::write(dir.join(format!("g{i}")), noise(i, 2000)).unwrap();
    }
    let limited = |descriptors: u32, args: &[&str]| {
        let mut command = client.command_with_descriptors(descriptors);
        Ran::wait(command.args(args).spawn().unwrap())
    };
    client.run(["id"]).expect(0);
    let serving = server.serve(&dir, &[]);
    for descriptors in 16..32 {
        let copy = client.path(&format!("copy-{descriptors}"));
        let ran = limited(descriptors, &["get", &serving.target, copy.to_str().unwrap()]);
        // Either it is enough, or it is said that it is not: it does not try for ever.
        match ran.code {
            Some(0) => assert_same(&dir, &copy),
            code => assert!(
                descriptors < 26 && code == Some(1),
                "{descriptors}: {code:?} {}",
                ran.err
            ),
        }
        let _ = fs::remove_dir_all(&copy);
    }
    let mut command = server.command_with_descriptors(24);
    command.args(["serve", "--public", "--bind", "127.0.0.1:0"]).arg(&dir);
    let serving = crate::support::Serving::start(command.stderr(Stdio::inherit()).spawn().unwrap());
    let copy = client.path("copy");
    client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(0);
    assert_same(&dir, &copy);
}

// spec: FIL-43
#[test]
fn no_message_has_a_ticket() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let mut command = server.command();
    command.args(["serve", "--bind", "127.0.0.1:0"]).arg(&dir);
    let serving = crate::support::Serving::start(command.stderr(Stdio::null()).spawn().unwrap());
    let secret = "q".repeat(60);
    let ticket = format!("ssst1{secret}");
    for words in [
        &["get", &format!("{ticket}/../x")][..],
        &["get", "--json", &format!("{ticket}/..")],
        &["get", &format!("{ticket}/a//b")],
        &["get", &ticket, &ticket],
        &["ls", &ticket, &ticket],
        &["ls", &format!("x@{ticket}")],
        &["ls", &format!("{ticket}:77/x")],
        &["ls", &format!("{}.example/x", ticket.to_uppercase())],
        &["put", "x", &format!("{ticket}/x")],
        &["ping", &format!("--timeout={ticket}"), &serving.target],
    ] {
        let ran = client.run(words);
        let said = format!("{}{}", ran.out, ran.err).to_lowercase();
        assert!(ran.code == Some(2) || ran.code == Some(1), "{words:?}: {said}");
        assert!(!said.contains(&secret[..20]), "{words:?}: {said}");
        assert!(!said.contains("cannot look up"), "{words:?}: {said}");
    }
}

#[test]
fn a_closed_terminal_ends_it_as_other_signals_do() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let start = |command: &mut Command| command.stdout(Stdio::piped()).spawn().unwrap();
    let mut child = start(
        server
            .command()
            .args(["serve", "--public", "--bind", "127.0.0.1:0"])
            .arg(&dir),
    );
    let mut first = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    rustix::process::kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(
        child.wait().unwrap().code(),
        Some(0),
        "it ends as it does when it is told to"
    );

    // As `nohup` does.
    let mut shell = client.command_of("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sss")]);
    let mut child = start(shell.args(["serve", "--public", "--bind", "127.0.0.1:0"]).arg(&dir));
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    rustix::process::kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_directory_that_was_removed_is_not_an_empty_one() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("f"), "f").unwrap();
    let serving = server.serve(&dir, &["--write"]);
    client.run(["ls", &serving.target]).expect(0);
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "f").unwrap();
    let says = &["the directory that is served was removed"];
    client.run(["ls", &serving.target]).expect(1).says(says);
    client
        .run(["get", &serving.target, client.path("copy").to_str().unwrap()])
        .expect(1)
        .says(says);
}

#[test]
fn commands_that_are_none_are_told_without_those_that_are_hidden() {
    let client = Home::new();
    for words in [&["--json"][..], &[]] {
        let ran = client.run(words).expect(2);
        assert!(
            !format!("{}{}", ran.out, ran.err).contains("demo-host"),
            "{}{}",
            ran.out,
            ran.err
        );
    }
    for (words, says) in [
        (
            &["ping", "127.0.0.1", "--timeout", "-1"][..],
            "is not a number of seconds",
        ),
        (&["ping", "127.0.0.1", "-i", "-1"], "\"-1\" is not a number of seconds"),
        (
            &["ping", "127.0.0.1", "-i", "-1s"],
            "\"-1s\" is not a number of seconds",
        ),
        (&["ping", "127.0.0.1", "-i", "NaN"], "is not a number of seconds"),
        (
            &["ping", "127.0.0.1", "-c", "-1"],
            "\"-1\" is not a whole number from 1 to 10000000",
        ),
        (&["ping", "127.0.0.1", "-c", "1.5"], "is not a whole number from 1"),
        (&["ping", "127.0.0.1", "-c", "0"], "is not a whole number from 1"),
        (&["demo", "--seed", "-1"], "is not a whole number from 0"),
        (&["search", "x", "-n", "-1"], "is not a whole number from 1 to 65535"),
        (&["search", "x", "--timeout", "-1"], "is not a number of seconds"),
        (
            &["serve", ".", "--port", "-1"],
            "is no port: that is a whole number from 0 to 65535",
        ),
        (&["serve", ".", "--write", "--quota", "-5M"], "\"-5M\" is not a size"),
        (&["get", "127.0.0.1", "--limit-rate", "-5M"], "\"-5M\" is no rate"),
        (&["put", "x", "127.0.0.1", "--limit-rate", "-1"], "\"-1\" is no rate"),
        (&["rendezvous", "--relay", "--relay-rate", "-1"], "is no rate"),
        (&["rendezvous", "--lease", "5"], "is not a whole number from 6 to 600"),
        (
            &["ticket", "--public", "--port", "-1"],
            "is not a whole number from 1 to 65535",
        ),
    ] {
        let ran = client.run(words).expect(2).says(&[says]);
        assert!(!ran.err.contains("tip:"), "{words:?}: {}", ran.err);
    }
    client
        .run(["ping", "127.0.0.1", "--timeout", "0"])
        .expect(2)
        .says(&["no time at all"]);
}

#[test]
fn what_a_command_does_not_look_at_is_said() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let at = serving.at("a/b");
    let says = "the path /a/b is not looked at: this is about the host";
    for command in [
        &["doctor", &at, "--no-server"][..],
        &["ping", &at, "-c", "1"],
        &["services", &at],
    ] {
        client.run(command).expect(0).says(&[says]);
        let ran = client.run(command.iter().chain(&["--json"])).expect(0);
        assert_eq!(ran.event("note")["text"], says);
    }
    let ran = client.run(["doctor", &serving.target, "--no-server"]).expect(0);
    assert_eq!(ran.err, "");

    // A ticket stands for it here as elsewhere.
    client
        .run(["doctor", "@"])
        .expect(2)
        .says(&["@ stands for a ticket", "neither --ticket FILE nor SSS_TICKET"]);
    client
        .run(["doctor", "--ticket", "file"])
        .expect(2)
        .says(&["--ticket is given, and no host"]);
    let ticket = server.run(["ticket", "--public", "--at", serving.address()]).expect(0);
    let file = client.path("ticket");
    fs::write(&file, ticket.out).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let ran = client.run(["doctor", "@", "--ticket", file.to_str().unwrap(), "--no-server"]);
    assert!(ran.expect(0).out.contains(serving.eid()));
}
