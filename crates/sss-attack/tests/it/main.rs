//! The program, as it is called.

use std::net::UdpSocket;
use std::process::{Command, Output};

use sss::{Eid, Host};

fn attack(target: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sss-attack"));
    command.args(["--seconds", "1", "hellos", "--rate", "100", target]);
    command.output().unwrap()
}

/// It must have ended so, and its errors say this.
#[track_caller]
fn expect(ran: &Output, code: i32, says: &str) {
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(code), "{err}");
    assert!(err.contains(says), "{says:?} is not in: {err}");
}

#[test]
fn nobody_is_attacked_where_nobody_is() {
    // Nobody reads from it.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    let _server = host.listen("files", "sync/1").unwrap();
    let other = Eid::from_public_key(&[9; 32]);
    let nobody = format!("{}@{}", host.eid(), silent.local_addr().unwrap());
    let wrong = format!("{other}@{}", host.local_addr());
    let right = format!("{}@{}", host.eid(), host.local_addr());
    std::thread::scope(|scope| {
        let [nobody, wrong] = [nobody, wrong].map(|target| scope.spawn(move || attack(&target)));
        expect(&attack(&right), 0, "");
        expect(
            &nobody.join().unwrap(),
            1,
            "there is nothing to attack: no answer from 127.0.0.1",
        );
        expect(
            &wrong.join().unwrap(),
            1,
            "there is nothing to attack: no answer from 127.0.0.1",
        );
    });
    expect(&attack("example.com:1"), 2, "EID@ADDRESS:PORT");
}
