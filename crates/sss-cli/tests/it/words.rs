//! What is printed: text of others, figures, and where it does not fit.

use std::fs;
use std::process::Stdio;

use sss::Host;

use crate::support::{Home, Ran, Serving, noise};
use crate::terminal::{Seen, Terminal};

/// Text that a peer would like to have on our terminal.
const EVIL: &str = "fine\x1b[2J\x1b]0;owned\x07\nsss: done\r\u{9b}31m\u{202e}gnp.exe\u{200b}\u{2066}\u{3164}";

/// A host that says that text wherever it can, and what it serves.
struct Hostile {
    runtime: tokio::runtime::Runtime,
    host: Host,
}

impl Hostile {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
        Self { runtime, host }
    }

    fn target(&self) -> String {
        format!("{}@{}", self.host.eid(), self.host.local_addr())
    }
}

#[track_caller]
fn is_printable(ran: &Ran) {
    for text in [&ran.out, &ran.err] {
        let hidden: Vec<char> = text.chars().filter(|c| *c != '\n' && !sss::is_printable(*c)).collect();
        assert!(hidden.is_empty(), "{hidden:?} in:\n{text}");
        assert!(
            !text.lines().any(|line| line.starts_with("sss: done")),
            "a line of its own:\n{text}"
        );
    }
}

#[test]
fn what_a_peer_says_of_an_end_is_printable() {
    let client = Home::new();
    for kind in ["reset", "stop", "close", "forbidden"] {
        for arg in ["--json", "-vv"] {
            let hostile = match kind {
                "forbidden" => {
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    let nobody = Host::builder().bind("127.0.0.1:0").accept_filter(|_, _| false);
                    let host = runtime.block_on(nobody.build()).unwrap();
                    Hostile { runtime, host }
                }
                _ => Hostile::new(),
            };
            let server = hostile.host.listen("files", "sync/1").unwrap();
            let host = hostile.host.clone();
            hostile.runtime.spawn(async move {
                while let Ok((session, _)) = server.accept().await {
                    let Ok(Some(mut request)) = session.accept_substream().await else {
                        continue;
                    };
                    match kind {
                        "reset" => request.reset_with(8, EVIL),
                        "stop" => {
                            request.stop_with(8, EVIL);
                            request.reset_with(8, EVIL);
                        }
                        _ => session.peer().close(7, EVIL),
                    }
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    drop((session, request));
                }
                drop(host);
            });
            let ran = client.run(["ls", &hostile.target(), arg]);
            assert_ne!(ran.code, Some(0));
            is_printable(&ran);
            if kind != "forbidden" {
                assert!(
                    format!("{}{}", ran.out, ran.err).contains("fine"),
                    "{}{}",
                    ran.out,
                    ran.err
                );
            }
        }
    }
}

#[test]
fn descriptions_and_names_of_a_peer_are_printable() {
    let (server, client) = (Home::new(), Home::new());
    let hostile = Hostile::new();
    let offered = hostile.host.service(EVIL).describe(EVIL).protocol(EVIL, EVIL);
    let _listening = {
        let _inside = hostile.runtime.enter();
        offered.listen().unwrap()
    };
    for args in [
        &["services", &hostile.target()][..],
        &["services", &hostile.target(), "--json"],
    ] {
        let ran = client.run(args).expect(0);
        is_printable(&ran);
        assert!(ran.out.contains("fine"));
        if args.len() == 3 {
            // Machines get what was said.
            assert_eq!(ran.event("service")["description"], EVIL);
        }
    }

    let dir = server.dir("source");
    fs::write(dir.join(EVIL), "x").unwrap();
    std::os::unix::fs::symlink(EVIL, dir.join("link")).unwrap();
    let serving = server.serve(&dir, &[]);
    let ran = client.run(["ls", &serving.target]).expect(0);
    is_printable(&ran);
    assert!(ran.out.contains("\\u{202e}gnp.exe\\u{200b}"), "{}", ran.out);
    is_printable(&client.run(["ls", &serving.target, "--json"]).expect(0));
    // What is in the way is named.
    let to = client.dir("to");
    fs::create_dir(to.join(EVIL)).unwrap();
    is_printable(&client.run(["get", &serving.target, to.to_str().unwrap()]).expect(1));
}

#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("f"), "x").unwrap();
    let serving = server.serve(&dir, &[]);
    let target = serving.target.as_str();
    let to = client.path("to");
    let commands = [
        &["id"][..],
        &["ls", target],
        &["services", target],
        &["ping", target, "-c", "3", "-i", "0.05"],
        &["get", target, to.to_str().unwrap()],
        &["serve", dir.to_str().unwrap(), "--bind", "127.0.0.1:0"],
        &["serve", dir.to_str().unwrap(), "--bind", "127.0.0.1:0", "--public"],
        &["rendezvous", "--bind", "127.0.0.1:0"],
        &["demo", "--calls", "10"],
        &["--help"],
        &["get", "--help"],
        &["--version"],
        &["completions", "bash"],
        &["man"],
    ];
    for command in commands {
        for json in [&[][..], &["--json"]] {
            let mut run = client.command();
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            run.args(command).args(json).stdout(full);
            let ran = Ran::wait(run.spawn().unwrap());
            assert_eq!(ran.code, Some(1), "{command:?}: {}", ran.err);
            ran.says(&["sss: cannot write to standard output", "No space left"]);
        }
    }
}

#[test]
fn nobody_who_reads_is_no_failure() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    for number in 0..2000 {
        fs::write(dir.join(format!("{}-{number}", "x".repeat(60))), "").unwrap();
    }
    let serving = server.serve(&dir, &[]);
    let mut command = client.command();
    let mut child = command.args(["ls", &serving.target]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::wait(child).expect(0);
    assert_eq!(
        ran.err.lines().filter(|line| line.starts_with("sss:")).count(),
        0,
        "{}",
        ran.err
    );
}

#[test]
fn a_wrong_command_line_is_told_to_machines_too() {
    let home = Home::new();
    let commands = [
        &["get", "--json"][..],
        &["--json", "nonsense"],
        &["ls", "127.0.0.1:0", "--json"],
        &["serve", ".", "--allow", "sss1x", "--json"],
        &["--json", "ping", "127.0.0.1:1", "-i", "-1"],
    ];
    for command in commands {
        let ran = home.run(command).expect(2);
        let fact = ran.event("error");
        assert_eq!(
            (&fact["kind"], &fact["exit"]),
            (&"usage".into(), &2.into()),
            "{command:?}"
        );
        let text = fact["error"].as_str().unwrap();
        assert!(
            text.len() > 10 && !text.contains('\x1b') && !text.starts_with("error"),
            "{text}"
        );
        assert_eq!(ran.json().len(), 1);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn a_log_in_a_file_has_no_colours_and_one_on_a_terminal_may() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let ran = client.run(["-vv", "ls", &serving.target]).expect(0);
    assert!(ran.err.contains("DEBUG") && !ran.err.contains('\x1b'), "{}", ran.err);
    let seen = Terminal::start(&client, ["-vv", "ls", &serving.target]).end().expect(0);
    assert!(seen.text().contains("DEBUG"), "{}", seen.text());
}

#[test]
fn a_name_that_was_typed_wrong_makes_no_identity() {
    let home = Home::new();
    let typo = home.path("typo.key");
    let file = typo.to_str().unwrap();
    let dir = home.dir("served");
    let dir = dir.to_str().unwrap();
    for command in [
        &["id", "--file", file][..],
        &["serve", dir, "--identity", file],
        &["ls", "127.0.0.1:1", "--identity", file],
    ] {
        home.run(command)
            .expect(1)
            .says(&["there is no identity in", "typo.key", "sss id --new --file"]);
        assert!(!typo.exists());
    }
    let made = home.run(["id", "--new", "--file", file]).expect(0).out;
    assert_eq!(home.run(["id", "--file", file]).expect(0).out, made);
    let ran = home
        .run(["id", "--file", dir])
        .expect(1)
        .says(&["is a directory", "name the file"]);
    assert!(!ran.err.contains("chmod"), "{}", ran.err);
    // The one of the user is made when it is needed, and that is said.
    home.run(["id"])
        .expect(0)
        .says(&["made a new identity", "config/sss/identity"]);
    assert_eq!(home.run(["id"]).expect(0).err, "");
}

#[test]
fn one_is_not_many() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("one"), "1").unwrap();
    let serving = server.serve(&dir, &[]);
    let to = client.dir("to");
    let get = ["get", &serving.target, to.to_str().unwrap()];
    assert!(client.run(get).expect(0).out.starts_with("received 1 file, "));
    assert!(client.run(get).expect(0).out.ends_with("; 1 was there already\n"));
    let ping = client.run(["ping", &serving.target, "-c", "1"]).expect(0);
    assert!(ping.out.contains("\n1 round trip: "), "{}", ping.out);
}

#[test]
fn times_are_told_as_people_tell_them() {
    let client = Home::new();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let eid = client.run(["id"]).expect(0).out;
    let other = client
        .run(["id", "--new", "--file", client.path("k").to_str().unwrap()])
        .expect(0)
        .out;
    assert_ne!(eid, other);
    let target = format!("{}@{nobody}", other.trim());
    client
        .run(["ls", &target, "--timeout", "1"])
        .expect(3)
        .says(&["within 1 s ("]);
    client
        .run(["ping", &nobody.to_string(), "--timeout", "1.5"])
        .expect(3)
        .says(&["within 1.5 s"]);
}

/// No word may be broken by the edge of the terminal, unless it is longer than a line of it.
#[track_caller]
fn no_word_is_broken(what: &str, seen: &Seen) {
    for row in &seen.broken {
        let (row, next) = (&seen.rows[*row], &seen.rows[row + 1]);
        let word: usize = row.rsplit(' ').next().map_or(0, str::len) + next.split(' ').next().map_or(0, str::len);
        assert!(word > 80, "{what}: {row:?} goes on with {next:?}\n{}", seen.text());
        assert!(!row.contains(' '), "{what}: {row:?} has other words\n{}", seen.text());
    }
}

/// Looks at what a person sees, and prints it: `cargo nextest run -p sss-cli eighty_columns --no-capture`.
#[track_caller]
fn look(command: &[&str], seen: &Seen) {
    let command = command.join(" ");
    eprintln!("$ sss {command}\n{}\n(exit code {:?})\n", seen.text(), seen.code);
    no_word_is_broken(&command, seen);
}

/// A server with a few files, and room for more.
fn serve_a_few(server: &Home) -> (Serving, std::path::PathBuf) {
    let dir = server.dir("source");
    fs::create_dir(dir.join("sub")).unwrap();
    for name in ["one", "two", "sub/three"] {
        fs::write(dir.join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("one", dir.join("link")).unwrap();
    (server.serve(&dir, &["--write"]), dir)
}

#[test]
fn no_word_is_broken_at_eighty_columns() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, dir) = serve_a_few(&server);
    let target = serving.target.as_str();
    let key = client.path("k");
    let other = client
        .run(["id", "--new", "--file", key.to_str().unwrap()])
        .expect(0)
        .out;
    let wrong = format!("{}@{}", other.trim(), serving.address());
    let nobody = format!("{}@127.0.0.1:1", other.trim());
    let (to, missing) = (client.path("to"), serving.at("missing"));
    let (to, into) = (to.to_str().unwrap(), serving.at("new/"));
    let commands = [
        &["id"][..],
        &["id", "--file", "typo.key"],
        &["id", "--file", to],
        &["services", target],
        &["services", &nobody, "--timeout", "1"],
        &["ls", "-r", target],
        &["ls", &missing],
        &["ls", &wrong],
        &["ping", target, "-c", "2", "-i", "0.1"],
        &["ping", serving.address()],
        &["get", target, to],
        &["get", target, to],
        &["get", &missing],
        &["get", "nonsense@127.0.0.1"],
        &["get", "--nonsense"],
        &["put", to, &into],
        &["put", to, &into],
        &["put", "/no/such/file", target],
        &["serve", "/no/such/directory"],
        &["serve", dir.to_str().unwrap(), "--bind", serving.address()],
        &["demo", "--calls", "10"],
        &[],
        &["--help"],
        &["--version"],
    ];
    for command in commands {
        let terminal = Terminal::start(&client, command);
        if command == ["ping", serving.address()] {
            terminal.wait_for("[y/N]");
            terminal.press("n\n");
        }
        look(command, &terminal.end());
    }
    for command in [
        "id",
        "serve",
        "get",
        "put",
        "ls",
        "ping",
        "services",
        "demo",
        "completions",
        "man",
    ] {
        look(
            &[command, "--help"],
            &Terminal::start(&client, [command, "--help"]).end(),
        );
    }
}

#[test]
fn interruptions_at_eighty_columns() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, dir) = serve_a_few(&server);
    let served = dir.to_str().unwrap();
    for number in 0..100 {
        fs::write(dir.join(format!("{number}")), noise(number, 3 << 20)).unwrap();
    }
    let target = serving.target.as_str();
    let (to, into) = (client.path("to"), serving.at("new"));
    client.run(["id"]).expect(0);
    let commands = [
        (&["get", target, to.to_str().unwrap()][..], "left", 130),
        (&["put", served, &into], "left", 130),
        (&["ping", target, "-c", "100", "-i", "0.2"], "    2  ", 130),
        (&["ping", serving.address()], "[y/N]", 130),
        (&["demo"], "left", 130),
        (&["serve", served, "--bind", "127.0.0.1:0"], "listening", 0),
    ];
    for (command, when, code) in commands {
        let terminal = Terminal::start(&client, command);
        terminal.wait_for(when);
        let before = terminal.rows();
        eprintln!("$ sss {}\n{}\n^C", command.join(" "), before.join("\n"));
        assert!(
            before
                .iter()
                .all(|row| row.chars().count() < 79 || !row.contains("left")),
            "{before:?}"
        );
        terminal.interrupt();
        let seen = terminal.end().expect(code);
        assert!(!seen.text().contains("^C"), "{}", seen.text());
        look(command, &seen);
    }
}

#[test]
fn lines_elsewhere_are_as_long_as_they_are() {
    let (server, client) = (Home::new(), Home::new());
    let (serving, dir) = serve_a_few(&server);
    let target = serving.target.as_str();
    let to = client.path("to");
    let missing = serving.at("missing");
    for command in [
        &["id"][..],
        &["services", target],
        &["ls", target],
        &["ping", target, "-c", "2", "-i", "0.1"],
        &["ping", serving.address()],
        &["get", target, to.to_str().unwrap()],
        &["put", dir.to_str().unwrap(), target],
        &["get", &missing],
        &["get", "nonsense@127.0.0.1"],
    ] {
        let ran = client.run(command);
        eprintln!(
            "$ sss {} | cat\n{}{}(exit code {:?})\n",
            command.join(" "),
            ran.out,
            ran.err,
            ran.code
        );
        assert!(!format!("{}{}", ran.out, ran.err).contains(['\x1b', '\r']));
        // Of what is said in sentences, none goes on in the next line.
        assert!(!ran.err.lines().any(|line| line.starts_with("     ")), "{}", ran.err);
    }
}

#[test]
fn a_pipe_gets_whole_lines() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let args = ["ping", &serving.target, "-c", "1"];
    let seen = Terminal::start_with(&client, args, |command| command.stdout(Stdio::null())).end();
    seen.expect(0);
    let ran = client.run(args).expect(0);
    assert!(ran.out.lines().any(|line| line.chars().count() > 80), "{}", ran.out);
}
