//! What the tool does with servers of TURN, on this machine alone. With real ones: `lab/turned.rs`.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Home, Ran};

/// Parts of a password that no output may have.
const SECRET: [&str; 2] = ["SECRET", "pw5"];

#[track_caller]
fn is_not_shown(ran: &Ran, what: &str) {
    for part in SECRET {
        assert!(
            !ran.out.contains(part) && !ran.err.contains(part),
            "{what}:\n{}\n{}",
            ran.out,
            ran.err
        );
    }
}

/// A file for its owner alone.
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

// spec: RCH-48
#[test]
fn no_error_shows_the_password_of_a_server() {
    let home = Home::new();
    let at_file = home.path("servers");
    for (server, words) in [
        ("turn:me:SECRETpw5", &["that is turn:USER"][..]),
        ("turn:SECRETpw5@turn.example", &["that is turn:USER"]),
        ("turn::SECRETpw5@turn.example", &["that is turn:USER"]),
        ("me:SECRETpw5@turn.example", &["that is turn:USER"]),
        ("turns:me:SECRETpw5@turn.example", &["turns: is TLS"]),
        ("TURNS:me:SECRETpw5@turn.example", &["turns: is TLS"]),
        ("TURN:me:SECRETpw5", &["that is turn:USER"]),
        ("turn:me:SECRETpw5@turn.example?transport=TCP", &["?transport=tcp"]),
        ("turn:me:SECRETpw5@turn.example?transport=tls", &["?transport=tcp"]),
        ("turn:me:SECRETpw5@turn.example:0", &["port"]),
        ("turn:me:SECRETpw5@turn.example:70000", &["port"]),
        ("turn:me:SECRET@turn.example:pw5", &["port", "%40"]),
        ("turn:me:SECRETpw5%zz@turn.example", &["%25"]),
        ("turn:me:SECRETpw5%4@turn.example", &["%25"]),
        ("turn:me:SECRETpw5%ff@turn.example", &["not UTF-8"]),
        ("turn:me:SECRET@pw5!", &["%40"]),
        ("turn:me:SECRET@pw5@turn.example", &["%40"]),
        ("turn:me:SECRETpw5@224.0.0.1", &["no host is ever"]),
    ] {
        for command in ["doctor", "search", "get"] {
            let target: &[&str] = match command {
                "doctor" => &[],
                "search" => &["word"],
                _ => &["127.0.0.1:9/a"],
            };
            let given = [&[command, "--turn", server], target].concat();
            let ran = home.run(&given).expect(2);
            is_not_shown(&ran, server);
            let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.iter().all(|word| said.contains(word)), "{server}: {said}");
            let ran = home.run([&given[..], &["--json"]].concat()).expect(2);
            assert_eq!(ran.event("error")["kind"], "usage", "{server}");
            is_not_shown(&ran, server);
            let joined = format!("--turn={server}");
            is_not_shown(&home.run([&[command, &joined], target].concat()).expect(2), server);
        }
        let mut doctor = home.command();
        doctor.arg("doctor").env("SSS_TURN", server);
        let ran = Ran::wait(doctor.spawn().unwrap()).expect(2).says(&["SSS_TURN: "]);
        is_not_shown(&ran, server);
        write(&at_file, server);
        let ran = home
            .run(["doctor", "--turn", &format!("@{}", at_file.display())])
            .expect(1);
        is_not_shown(&ran.says(&["line 1 of"]), server);
        // A switch that was forgotten, or is another one's.
        if server.to_lowercase().starts_with("turn") {
            for args in [
                &["doctor", server][..],
                &["doctor", "--stun", server],
                &["ping", server],
            ] {
                is_not_shown(&home.run(args).expect(2), server);
                is_not_shown(&home.run([args, &["--json"]].concat()).expect(2), server);
            }
        }
    }
}

// spec: RCH-48
#[test]
fn servers_are_read_once_and_from_pipes_too() {
    let home = Home::new();
    let doctor = |file: &str, text: &str| {
        let mut doctor = home.command();
        // It is not asked: nobody takes connections there.
        doctor.args(["doctor", "--json", "--timeout", "1", "--turn", file]);
        let mut child = doctor.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Ran::wait(child)
    };
    let line = "# ours\nTurn:me:SECRET#pw5@127.0.0.1:9?transport=tcp   # at home\n";
    for file in ["@/dev/stdin", "@/proc/self/fd/0"] {
        let ran = doctor(file, line);
        assert_eq!(ran.event("doctor")["turn"][0]["server"], "127.0.0.1:9?transport=tcp");
        is_not_shown(&ran, file);
    }
    let fifo = home.path("fifo");
    make_fifo(&fifo);
    let (to, text) = (fifo.clone(), line.to_owned());
    std::thread::spawn(move || fs::write(to, text));
    let ran = doctor(&format!("@{}", fifo.display()), "");
    assert_eq!(ran.event("doctor")["turn"][0]["server"], "127.0.0.1:9?transport=tcp");
    for empty in ["", "\n# turn:me:SECRET@127.0.0.1\n"] {
        let ran = doctor("@/dev/stdin", empty).expect(1);
        let error = ran.event("error")["error"].to_string();
        assert!(error.contains("/dev/stdin names no TURN server"), "{error}");
    }
}

// spec: RCH-48
#[test]
fn a_pipe_beside_the_identity_stops_no_command() {
    let home = Home::new();
    let file = home.dir("config/sss").join("turn");
    make_fifo(&file);
    home.run(["search", "word"]).expect(1).says(&["is no file of at most"]);
    fs::remove_file(&file).unwrap();
    write(&file, "# none yet\n");
    home.run(["search", "word"]).expect(2).says(&["no registration server"]);
}

// spec: RCH-48
#[test]
fn servers_that_are_too_many_or_have_too_long_names_are_errors_that_say_the_limit() {
    let home = Home::new();
    let server = "turn:me:SECRETpw5@turn.example";
    home.run(["doctor"].into_iter().chain(["--turn", server].repeat(5)))
        .expect(2)
        .says(&["at most 4 TURN servers", "5 are named"]);
    let long = "x".repeat(509);
    home.run(["doctor", "--turn", &format!("turn:me:{long}@turn.example")])
        .expect(2)
        .says(&["password has 509 bytes, and 508"]);
    home.run(["doctor", "--turn", &format!("turn:{long}:a@turn.example")])
        .expect(2)
        .says(&["user name has 509 bytes, and 508"]);
}

// spec: RCH-48
#[test]
fn where_a_server_is_of_no_use_that_is_said() {
    let home = Home::new();
    let peer = Home::new().run(["id"]).expect(0).out;
    let there = format!("{}@127.0.0.1:9", peer.trim());
    let turn = ["--turn", "turn:me:SECRETpw5@127.0.0.1:9"];
    for args in [&["ping", &there, "--lan-only"][..], &["serve", ".", "--lan-only"]] {
        let ran = home.run([args, &turn].concat()).expect(2);
        is_not_shown(
            &ran.says(&["--turn", "--lan-only", "leave one of the two out"]),
            "--lan-only",
        );
    }
    let ping = ["ping", &there, "--timeout", "1"];
    let none = home.run([&ping[..], &turn].concat()).expect(3);
    none.says(&["TURN is of no use", "--server EID@HOST"]);
    let without = home.run([&ping[..], &turn, &["--no-server"]].concat()).expect(3);
    without.says(&["TURN is of no use", "leave --no-server out"]);
    let wrong = ["--turn", "turn:me:SECRETpw5", "--no-server"];
    home.run([&ping[..], &wrong].concat()).expect(2);
}

/// A server that knows no user, until the test ends. Returns where it is.
fn server_that_refuses() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = socket.local_addr().unwrap().to_string();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    std::thread::spawn(move || {
        let mut request = [0; 1500];
        while let Ok((_, from)) = socket.recv_from(&mut request) {
            // An error of ALLOCATE: ERROR-CODE 401, REALM, NONCE.
            let mut answer = vec![0x01, 0x13, 0, 24];
            answer.extend(&request[4..20]);
            answer.extend([0, 9, 0, 4, 0, 0, 4, 1]);
            answer.extend(b"\0\x14\0\x04here");
            answer.extend(b"\0\x15\0\x04once");
            if socket.send_to(&answer, from).is_err() {
                break;
            }
        }
    });
    at
}

// spec: RCH-50
#[test]
fn a_server_that_refuses_is_told_once_and_named_by_the_error() {
    let home = Home::new();
    let id = |home: &Home| home.run(["id"]).expect(0).out.trim().to_owned();
    let (peer, server) = (id(&Home::new()), format!("{}@127.0.0.1:9", id(&Home::new())));
    let turn = format!("turn:me:SECRETpw5@{}", server_that_refuses());
    let asked = ["--server", &server, "--turn", &turn];
    let target = format!("{peer}/a");
    let get = ["get", &target, "--timeout", "4"];
    let ran = home.run([&get[..], &asked].concat()).expect(3);
    is_not_shown(&ran, "get");
    let told = ran.err.matches("the user name or the password is wrong").count();
    assert_eq!(told, 2, "a note, and the error: {}", ran.err);
    let ran = home.run([&get[..], &asked, &["--json"]].concat()).expect(3);
    let said = ran.event("note")["text"].to_string();
    assert!(said.contains("TURN server 127.0.0.1:"), "{said}");
    let advice = ran.event("error")["next"].to_string();
    assert!(advice.contains("correct user name and password"), "{advice}");
    // One that nobody has at that port, over TCP already.
    let tcp = [
        "--server",
        &server,
        "--turn",
        "turn:me:SECRETpw5@127.0.0.1:9?transport=tcp",
    ];
    let ran = home.run([&get[..], &tcp].concat()).expect(3).says(&["takes TCP there"]);
    assert!(!ran.err.contains("write ?transport=tcp"), "{}", ran.err);
    // A host that serves.
    let mut serve = home.command();
    serve
        .args(["serve", ".", "--public", "--bind", "127.0.0.1:0"])
        .args(asked);
    let serve = serve.spawn().unwrap();
    let ran = ended_after(Duration::from_secs(4), serve);
    assert_eq!(
        ran.err.matches("the user name or the password is wrong").count(),
        1,
        "{}",
        ran.err
    );
}

/// A host that serves, ended after that time.
fn ended_after(time: Duration, child: std::process::Child) -> Ran {
    std::thread::sleep(time);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    Ran::wait(child)
}
