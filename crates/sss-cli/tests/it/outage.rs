//! A server that falls silent, and comes back.

use std::time::Duration;

use crate::support::{Home, Ran};

fn ping(home: &Home, target: &str, args: &[&str]) -> std::process::Child {
    let mut command = home.command();
    command.args(["ping", target, "-i", "0.25"]).args(args);
    command.spawn().unwrap()
}

#[test]
fn a_silence_is_told_and_survived() {
    for json in [false, true] {
        let home = Home::new();
        let server = home.serve(&home.dir("served"), &[]);
        let args = if json { &["-c", "6", "--json"][..] } else { &["-c", "6"] };
        let pinging = ping(&home, &server.target, args);
        std::thread::sleep(Duration::from_millis(700));
        server.freeze(true);
        std::thread::sleep(Duration::from_secs(5));
        server.freeze(false);
        let ran = Ran::wait(pinging).expect(0);
        if json {
            let links = ran.json().into_iter().filter(|fact| fact["event"] == "peer");
            let told: Vec<_> = links.map(|fact| fact["status"].as_str().unwrap().to_owned()).collect();
            assert_eq!(told, ["stalled", "up"]);
        } else {
            ran.says(&["does not answer", "answers again"]);
        }
    }
}

#[test]
fn a_server_that_was_restarted_is_told_apart_from_one_that_is_away() {
    let home = Home::new();
    let served = home.dir("served");
    let mut server = home.serve(&served, &[]);
    let address = server.address().to_owned();
    let pinging = ping(&home, &server.target, &["-c", "100"]);
    std::thread::sleep(Duration::from_millis(700));
    server.kill();
    let _again = home.serve_at(&address, &served, &[]);
    Ran::wait(pinging).expect(3).says(&["restarted", "again"]);
}
