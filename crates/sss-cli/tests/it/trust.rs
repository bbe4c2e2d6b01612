//! Identities, known hosts, who may connect.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::{Home, Ran, noise};
use crate::terminal::Terminal;

#[test]
fn an_identity_is_made_shown_and_not_replaced_by_accident() {
    let home = Home::new();
    let eid = home.run(["id"]).expect(0).out;
    assert!(eid.starts_with("sss1") && eid.len() == 64, "{eid:?}");
    assert_eq!(home.run(["id"]).expect(0).out, eid);
    let fact = home.run(["id", "--json"]).expect(0).event("identity");
    assert_eq!(fact["eid"], eid.trim());
    let mode = fs::metadata(fact["file"].as_str().unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    home.run(["id", "--new"]).expect(1).says(&["exists already", "--force"]);
    assert_eq!(home.run(["id"]).expect(0).out, eid);
    assert_ne!(home.run(["id", "--new", "--force"]).expect(0).out, eid);

    let file = home.path("box.key");
    let file = file.to_str().unwrap();
    let other = home.run(["id", "--new", "--file", file]).expect(0).out;
    assert_eq!(home.run(["id", "--file", file]).expect(0).out, other);
    fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
    home.run(["id", "--file", file])
        .expect(1)
        .says(&["others can read", "chmod 600"]);
}

#[test]
fn a_host_known_by_address_is_trusted_once_and_then_held_to_it() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let mut serving = server.serve(&dir, &[]);
    let address = serving.address().to_owned();
    let ping = |args: &[&str]| client.run(["ping", &address, "-c", "2", "-i", "0.01"].iter().chain(args));

    ping(&[])
        .expect(4)
        .says(&[serving.eid(), "not known", "--trust", "compare the EID"]);
    let ran = ping(&["--trust"]).expect(0).says(&["remembered in"]);
    assert!(
        ran.out.contains("2 round trips: min ") && ran.out.contains("path MTU"),
        "{}",
        ran.out
    );
    ping(&[]).expect(0);
    client.run(["ls", &address]).expect(0);

    serving.kill();
    // Nobody asks a known host for its name: one that does not tell it is found as well.
    let mut hidden = server.serve_at(&address, &dir, &["--hidden"]);
    ping(&[]).expect(0);
    client.run(["services", &address]).expect(0);
    hidden.kill();
    let impostor = Home::new();
    let other = impostor.serve_at(&address, &dir, &[]);
    let ran = ping(&["--trust"]).expect(4);
    ran.says(&["not the one it was", serving.eid(), other.eid(), "remove the line"]);
    ping(&["--known-hosts", client.path("other").to_str().unwrap(), "--trust"]).expect(0);
}

#[test]
fn the_directory_of_a_file_that_is_named_is_not_made() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let missing = client.path("missing");
    let [hosts, key, secret] = ["kh", "key", "secret"].map(|name| missing.join(name).display().to_string());
    let ping = ["ping", serving.address(), "-c", "1", "--trust", "--known-hosts", &hosts];
    for (command, file) in [
        (&ping[..], "kh"),
        (&["id", "--new", "--file", &key], "key"),
        (&["id", "--new", "--force", "--file", &key], "key"),
        (&["ticket", "--ticket-file", &secret], "secret"),
        (&["serve", ".", "--ticket-file", &secret], "secret"),
    ] {
        let ran = client.run(command).expect(1);
        ran.says(&[
            "there is no directory",
            "missing",
            &format!("for the file {file}"),
            "make it",
        ]);
        assert!(!missing.exists(), "{command:?}");
    }
    fs::create_dir(&missing).unwrap();
    client.run(ping).expect(0).says(&["remembered in"]);
    // That of the user's files is: by whatever needs it first.
    let fresh = Home::new();
    fresh.run(["id", "--new"]).expect(0);
    let own = fs::metadata(fresh.path("config/sss")).unwrap();
    assert_eq!(own.permissions().mode() & 0o777, 0o700);
}

#[test]
fn nobody_answers_a_question_through_a_pipe() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let mut command = client.command();
    command.args(["ls", serving.address()]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended before it is said.
    let _ = child.stdin.take().unwrap().write_all(b"y\n");
    let ran = Ran::wait(child).expect(4).says(&["is not trusted"]);
    assert!(!ran.err.contains("[y/N]"), "{}", ran.err);
}

#[test]
fn all_questions_are_asked_before_anything_is_transferred() {
    let (server, other, client) = (Home::new(), Home::new(), Home::new());
    let (dir, there) = (server.dir("source"), other.dir("source"));
    fs::write(dir.join("big"), noise(1, 3_000_000)).unwrap();
    fs::write(there.join("far"), "far").unwrap();
    fs::write(there.join("more"), "more").unwrap();
    let (serving, far) = (server.serve(&dir, &[]), other.serve(&there, &[]));
    let far_at = |path: &str| format!("{}/{path}", far.address());
    let to = client.path("to");
    // The unknown one is the last, and it is meant twice, not in a row.
    let (first, last) = (far_at("far"), far_at("more"));
    let args = ["get", &first, &serving.at("big"), &last, to.to_str().unwrap()];
    let refused = Terminal::start(&client, args);
    refused.wait_for("[y/N]");
    refused.press("n\n");
    let seen = refused.end().expect(4);
    assert!(seen.text().contains("is not trusted"), "{}", seen.text());
    assert!(!to.exists(), "something was transferred");

    let args = [
        "get",
        &serving.at("big"),
        &first,
        &serving.at("big"),
        &last,
        to.to_str().unwrap(),
    ];
    let terminal = Terminal::start(&client, &args[..]);
    terminal.wait_for("[y/N]");
    assert!(!to.exists(), "something was transferred");
    terminal.press("y\n");
    let text = terminal.end().expect(1).text();
    assert_eq!(text.matches("[y/N]").count(), 1, "{text}");
    assert!(text.contains("another source has the same last name"), "{text}");
    assert_eq!(text.matches("remembered in").count(), 1, "{text}");
    for name in ["big", "far", "more"] {
        assert!(to.join(name).exists(), "{name}");
    }
    client.run(["ls", far.address()]).expect(0);
}

#[test]
fn a_wrong_eid_is_refused_and_the_right_one_named() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("source"), &[]);
    let wrong = client
        .run(["id", "--new", "--file", client.path("wrong").to_str().unwrap()])
        .expect(0)
        .out;
    let target = format!("{}@{}", wrong.trim(), serving.address());
    client
        .run(["ping", &target])
        .expect(4)
        .says(&[serving.eid(), wrong.trim(), "check address and EID"]);
}

#[test]
fn only_those_allowed_may_connect() {
    let (server, friend, stranger) = (Home::new(), Home::new(), Home::new());
    let eid = friend.run(["id"]).expect(0).out;
    let serving = server.serve(&server.dir("source"), &["--allow", eid.trim()]);
    friend.run(["ls", &serving.target]).expect(0);
    let ran = stranger.run(["ls", &serving.target, "--timeout", "3"]).expect(4);
    ran.says(&["does not allow our EID", "--allow", "sss id"]);
}

#[test]
fn two_processes_of_one_account_talk_to_each_other() {
    let home = Home::new();
    let serving = home.serve(&home.dir("source"), &[]);
    home.run(["ls", &serving.target]).expect(0);
}
