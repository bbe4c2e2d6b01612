//! What the tool does with servers of STUN, on this machine alone. With real ones: `lab/stun.rs`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use crate::support::Home;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A server that sees everybody at that address, until the test ends. Returns where it is.
fn server_that_sees(seen: SocketAddrV4) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = socket.local_addr().unwrap().to_string();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 100];
        while let Ok((20, from)) = socket.recv_from(&mut question) {
            let mut answer = vec![1, 1, 0, 12];
            answer.extend(&question[4..20]);
            answer.extend([0, 0x20, 0, 8, 0, 1]);
            let hidden = seen.port().to_be_bytes().into_iter().chain(seen.ip().octets());
            let key = MAGIC_COOKIE[..2].iter().chain(&MAGIC_COOKIE);
            answer.extend(hidden.zip(key).map(|(byte, key)| byte ^ key));
            if socket.send_to(&answer, from).is_err() {
                break;
            }
        }
    });
    at
}

// spec: RCH-52, RCH-54
#[test]
fn a_ticket_names_what_servers_see_if_they_agree() {
    let home = Home::new();
    let one = server_that_sees("203.0.113.7:40112".parse().unwrap());
    let same = server_that_sees("203.0.113.7:40112".parse().unwrap());
    let other = server_that_sees("203.0.113.7:40113".parse().unwrap());
    let made = |servers: &[&str]| {
        let asking = servers.iter().flat_map(|server| ["--stun", server]);
        let fixed = ["ticket", "--public", "--json", "--port", "47757"];
        home.run(fixed.into_iter().chain(asking)).expect(0).out.clone()
    };
    let events = |out: &str| -> Vec<Value> { out.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let told = events(&made(&[&one, &same]));
    assert_eq!(told[0]["event"], "seen", "{told:?}");
    assert_eq!(told[0]["address"], "203.0.113.7:40112", "{told:?}");
    assert_eq!(told[0]["by"], serde_json::json!([one, same]), "{told:?}");
    let with = told[1]["ticket"].as_str().unwrap().len();
    let told = events(&made(&[&one, &other]));
    assert_eq!((told.len(), &told[0]["event"]), (2, &"note".into()), "{told:?}");
    assert!(
        told[0]["text"].as_str().unwrap().contains("different ports"),
        "{told:?}"
    );
    assert!(told[1]["ticket"].as_str().unwrap().len() < with, "{told:?}");
    let told = events(&made(&[]));
    assert!(
        told.len() == 1 && told[0]["ticket"].as_str().unwrap().len() < with,
        "{told:?}"
    );
    // The file names them, too.
    let directory = home.path("config/sss");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("stun"), format!("# ours\n{one}\n")).unwrap();
    assert_eq!(events(&made(&[])).len(), 2);
    let without = ["ticket", "--public", "--json", "--no-server"];
    assert_eq!(events(&home.run(without).expect(0).out).len(), 1);
    fs::write(directory.join("stun"), "no/server\n").unwrap();
    home.run(["ticket", "--public"]).expect(1).says(&["line 1 of", "stun"]);
}

// spec: RCH-52
#[test]
fn stun_beside_what_forbids_it_is_an_error_that_says_why() {
    let home = Home::new();
    let peer = Home::new().run(["id"]).expect(0).out;
    let there = format!("{}@127.0.0.1:9", peer.trim());
    let stun = ["--stun", "127.0.0.1:9"];
    for (args, words) in [
        (
            &["ls", &there, "--lan-only"][..],
            &["--lan-only", "seen from outside"][..],
        ),
        (&["serve", ".", "--lan-only"], &["--lan-only", "seen from outside"]),
        (
            &["serve", ".", "--relay-only"],
            &["--relay-only", "--stun is for packets"],
        ),
        (
            &["ticket", "--public", "--at", "nas.example"],
            &["--at", "does not name"],
        ),
        (&["ticket", "--public", "--no-addresses"], &["--no-addresses"]),
        (
            &[
                "ping", &there, "--stun", "a", "--stun", "b", "--stun", "c", "--stun", "d",
            ],
            &["at most 4"],
        ),
    ] {
        home.run([args, &stun].concat()).expect(2).says(words);
    }
    home.run(["serve", ".", "--call", peer.trim()])
        .expect(2)
        .says(&["--call needs", "sss ticket --stun"]);
    home.run(["ping", &there, "--stun", "224.0.0.1"])
        .expect(2)
        .says(&["no host is ever at"]);
}

/// A port that another program has cannot be seen.
#[test]
fn a_ticket_for_a_port_in_use_says_who_tells_instead() {
    let home = Home::new();
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    home.run(["ticket", "--public", "--stun", "127.0.0.1:9", "--port", &port])
        .expect(1)
        .says(&["is in use", "sss serve --stun"]);
}

// spec: RCH-52
#[test]
fn a_host_that_cannot_be_called_is_said_to_be_one() {
    let home = Home::new();
    let id = |home: &Home| home.run(["id"]).expect(0).out.trim().to_owned();
    let (own, peer) = (id(&home), id(&Home::new()));
    let call = |target: &str| home.run(["serve", ".", "--public", "--bind", "127.0.0.1:0", "--call", target]);
    call(&format!("{own}@127.0.0.1:9"))
        .expect(2)
        .says(&["--call names this host itself", "->"]);
    let ticket = home.run(["ticket", "--public", "--at", "127.0.0.1"]).expect(0).out;
    let ticket = ticket.split_whitespace().last().unwrap();
    call(ticket).expect(2).says(&["--call names this host itself"]);
    for nobody in ["224.0.0.1", "255.255.255.255", "[ff02::1]"] {
        call(&format!("{peer}@{nobody}:7757"))
            .expect(2)
            .says(&["no host is ever at", "->"]);
    }
    // It is tried on, and said once.
    let mut serve = home.command();
    serve.args(["serve", ".", "--public", "--bind", "127.0.0.1:0", "--call"]);
    let mut serve = serve.arg(format!("{peer}@nosuch.invalid:9")).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(6));
    serve.kill().unwrap();
    let ran = crate::support::Ran::wait(serve);
    assert_eq!(
        ran.err.matches("trying on: cannot look up \"nosuch.invalid").count(),
        1,
        "{}",
        ran.err
    );
}
