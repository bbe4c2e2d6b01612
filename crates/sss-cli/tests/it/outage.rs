//! A server that falls silent, and comes back.

use std::time::{Duration, Instant};

use crate::support::{Home, Ran};
use crate::terminal::Terminal;

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
fn a_silence_is_told_when_there_is_nothing_to_say() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("served"), &[]);
    // Between two pings nothing is under way that would have to be acknowledged.
    let terminal = Terminal::start(&client, ["ping", &serving.target, "-i", "60", "-c", "2"]);
    terminal.wait_for("    1  ");
    std::thread::sleep(Duration::from_millis(300));
    serving.freeze(true);
    let begun = Instant::now();
    terminal.wait_for("does not answer");
    let took = begun.elapsed();
    eprintln!("told after {took:?}");
    // A host that does not ask finds out after 15 s at the earliest.
    assert!(took < Duration::from_secs(13), "{took:?}");
    terminal.interrupt();
    terminal.end().expect(130);
}

#[test]
fn patience_is_over_although_the_next_ping_is_not_due() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("served"), &[]);
    let args = ["ping", &serving.target, "-i", "120", "-c", "2", "--patience", "1"];
    let terminal = Terminal::start(&client, args);
    terminal.wait_for("    1  ");
    serving.freeze(true);
    let begun = Instant::now();
    terminal.end().expect(3);
    let took = begun.elapsed();
    eprintln!("ended after {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
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

#[test]
fn a_silence_is_told_on_a_terminal_while_a_transfer_goes_on() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("served");
    // Of one large file the client has nothing to send but acknowledgements, which nobody answers.
    let large = std::fs::File::create(dir.join("large")).unwrap();
    large.set_len(1 << 30).unwrap();
    let serving = server.serve(&dir, &[]);
    let to = client.path("to");
    let terminal = Terminal::start(&client, ["get", &serving.target, to.to_str().unwrap()]);
    terminal.wait_for(" left");
    serving.freeze(true);
    let begun = Instant::now();
    terminal.wait_for("does not answer");
    let took = begun.elapsed();
    eprintln!("told after {took:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    terminal.wait_for("nothing for");
    // What was said stays, though the line below it is drawn again and again.
    std::thread::sleep(Duration::from_millis(500));
    terminal.wait_for("does not answer");
    serving.freeze(false);
    let seen = terminal.end().expect(0);
    let text = seen.text();
    assert!(
        text.contains("does not answer") && text.contains("answers again"),
        "{text}"
    );
    assert!(!text.contains(" left") && !text.contains("nothing for"), "{text}");
}

#[test]
fn who_has_no_patience_waits_for_a_pause_nevertheless() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("served"), &[]);
    let args = ["ping", &serving.target, "-c", "3", "-i", "0.7", "--patience", "0"];
    client.run(args).expect(0);
}

#[test]
fn a_silence_is_given_up_when_it_was_said() {
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&server.dir("served"), &[]);
    let pinging = ping(&client, &serving.target, &["-c", "1000", "--patience", "4"]);
    std::thread::sleep(Duration::from_millis(1000));
    serving.freeze(true);
    let begun = Instant::now();
    let ran = Ran::wait(pinging).expect(3);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(3) && took < Duration::from_secs(15),
        "{took:?}"
    );
    ran.says(&["for 4 s at most", "nothing was heard"]);
}
