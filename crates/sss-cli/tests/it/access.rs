//! Who may use a server: tickets, `--public`, `--allow`; and what it says about that.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sss::Host;

use crate::hostile::{NO_SECRET, runtime};
use crate::support::{Home, Serving, assert_same, noise};

/// A server as people start it, with everything that it says.
struct Told {
    child: Child,
    listening: String,
    ticket: Option<String>,
    log: std::sync::mpsc::Receiver<String>,
}

impl Told {
    fn serve(home: &Home, dir: &std::path::Path, args: &[&str]) -> Self {
        let mut command = home.command();
        command.arg("serve").arg(dir).args(["--bind", "127.0.0.1:0"]).args(args);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = out.next().unwrap().unwrap();
        let asks = !args.contains(&"--public") && !args.contains(&"--allow");
        let ticket = asks.then(|| out.next().unwrap().unwrap());
        let (sender, log) = std::sync::mpsc::channel();
        let err = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in err.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || out.count());
        Self {
            child,
            listening: listening.strip_prefix("listening ").unwrap().to_owned(),
            ticket: ticket.map(|line| line.strip_prefix("ticket ").unwrap().to_owned()),
            log,
        }
    }

    /// The next line of the log that has all these words.
    #[track_caller]
    fn logs(&self, words: &[&str]) -> String {
        let until = Instant::now() + Duration::from_secs(30);
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                panic!("no line with {words:?} in {seen:#?}")
            };
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            seen.push(line);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_ticket_need_not_stand_on_the_command_line() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::create_dir(dir.join("tree")).unwrap();
    fs::write(dir.join("tree/f"), "f").unwrap();
    let serving = Told::serve(&server, &dir, &["--write"]);
    let ticket = serving.ticket.clone().unwrap();
    let file = client.path("ticket");
    let with = |args: &[&str]| client.run(args.iter().copied().chain(["--ticket", file.to_str().unwrap()]));
    // As `sss serve > ticket` leaves it.
    fs::write(&file, format!("listening {}\nticket {ticket}\n", serving.listening)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = with(&["ls", "@"]).expect(1);
    assert!(!ran.err.contains(&ticket), "{}", ran.err);
    ran.says(&["others can read the ticket in", "chmod 600"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let copy = client.path("copy");
    with(&["get", "@/tree", copy.to_str().unwrap()]).expect(0);
    assert_same(&dir.join("tree"), &copy);
    with(&["put", copy.to_str().unwrap(), "@/again"]).expect(0);
    assert_same(&copy, &dir.join("again"));
    assert!(with(&["ls", "@"]).expect(0).out.contains("again/"));
    with(&["get", "@/tree/f", "@/none", copy.to_str().unwrap()])
        .expect(1)
        .says(&["none: no such file"]);
    with(&["ping", "@", "-c", "1"]).expect(0);
    with(&["services", "@"]).expect(0);

    let in_environment = |value: &str, args: &[&str]| {
        let mut command = client.command();
        crate::support::Ran::wait(command.args(args).env("SSS_TICKET", value).spawn().unwrap())
    };
    in_environment(&ticket, &["ls", "@/tree"]).expect(0);
    // What is named comes before what is there anyway.
    let mut both = client.command();
    both.args(["ls", "@", "--ticket", file.to_str().unwrap()])
        .env("SSS_TICKET", "nonsense");
    crate::support::Ran::wait(both.spawn().unwrap()).expect(0);

    in_environment("nonsense", &["ls", "@"])
        .expect(2)
        .says(&["no ticket in SSS_TICKET"]);
    let broken = format!("{ticket}q");
    let ran = in_environment(&broken, &["ls", "@"])
        .expect(2)
        .says(&["SSS_TICKET: the checksum"]);
    assert!(!ran.err.contains(&ticket), "{}", ran.err);
    client.run(["ls", "@"]).expect(2).says(&["--ticket FILE", "SSS_TICKET"]);
    with(&["ls", &serving.listening])
        .expect(2)
        .says(&["does not need it", "@/PATH"]);
    client.run(["get", "@/a", "@/b"]).expect(2).says(&["is a source"]);
    fs::remove_file(&file).unwrap();
    with(&["ls", "@"])
        .expect(1)
        .says(&["cannot read the ticket in", "check the name"]);
}

// spec: FIL-30 FIL-31
#[test]
fn a_ticket_is_asked_for_unless_something_else_was_chosen() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("f"), noise(1, 300_000)).unwrap();
    let serving = Told::serve(&server, &dir, &[]);
    let ticket = serving.ticket.clone().unwrap();
    assert!(ticket.starts_with("ssst1"), "{ticket}");

    let copy = client.path("copy");
    let ran = client
        .run(["get", &serving.listening, copy.to_str().unwrap()])
        .expect(4);
    ran.says(&["asks for a ticket", "in place of the address"]);
    assert!(!copy.exists(), "nothing was made");
    serving.logs(&["session", "asks for a ticket", "127.0.0.1:"]);
    for args in [["ls", &serving.listening], ["get", &serving.listening]] {
        client.run(args).expect(4).says(&["asks for a ticket"]);
    }
    fs::write(client.path("x"), "x").unwrap();
    let x = client.path("x");
    client
        .run(["put", x.to_str().unwrap(), &serving.listening])
        .expect(4)
        .says(&["asks for a ticket"]);
    // Who it is, and what it offers, is no secret.
    client.run(["ping", "-c", "1", &serving.listening]).expect(0);
    client.run(["services", &serving.listening]).expect(0);

    client.run(["get", &ticket, copy.to_str().unwrap()]).expect(0);
    assert_same(&dir, &copy);
    let line = serving.logs(&["get", " f "]);
    let eid = client.run(["id"]).expect(0).out;
    assert!(
        line.contains(eid.trim()) && line.ends_with("ok") && line.contains("KiB"),
        "{line}"
    );
    client.run(["ls", &format!("{ticket}/f")]).expect(0);
    client.run(["get", &format!("{ticket}/none")]).expect(1);
    serving.logs(&["list none", "no such file"]);
}

#[test]
fn a_ticket_file_keeps_the_ticket_and_nobody_else_reads_it() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let file = server.path("ticket");
    let file = file.to_str().unwrap();
    let first = Told::serve(&server, &dir, &["--ticket-file", file]);
    let address = first.listening.split_once('@').unwrap().1.to_owned();
    let ticket = first.ticket.clone().unwrap();
    drop(first);
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = server.serve_at(&address, &dir, &["--ticket-file", file]);
    client.run(["ls", &ticket]).expect(0);
    drop(again);
    let other = server.serve_at(
        &address,
        &dir,
        &["--ticket-file", server.path("other").to_str().unwrap()],
    );
    client
        .run(["ls", &ticket])
        .expect(4)
        .says(&["not one of this server", "ask who runs the server"]);
    drop(other);

    let serve = |args: &[&str]| server.run(["serve", dir.to_str().unwrap()].iter().chain(args));
    fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
    serve(&["--ticket-file", file])
        .expect(1)
        .says(&["others can read", "chmod 600"]);
    fs::write(server.path("nonsense"), "nonsense").unwrap();
    fs::set_permissions(server.path("nonsense"), fs::Permissions::from_mode(0o600)).unwrap();
    let nonsense = server.path("nonsense");
    serve(&["--ticket-file", nonsense.to_str().unwrap()])
        .expect(1)
        .says(&["no ticket file"]);
    serve(&["--public", "--ticket-file", file]).expect(2);
    let eid = server.run(["id"]).expect(0).out;
    serve(&["--public", "--allow", eid.trim()]).expect(2);
}

#[test]
fn those_who_are_turned_away_are_logged() {
    let (server, friend, stranger) = (Home::new(), Home::new(), Home::new());
    let eid = friend.run(["id"]).expect(0).out;
    let serving = Told::serve(&server, &server.dir("source"), &["--allow", eid.trim()]);
    let other = stranger.run(["id"]).expect(0).out;
    stranger.run(["ls", &serving.listening, "--timeout", "3"]).expect(4);
    serving.logs(&["connect", other.trim(), "not allowed"]);
    friend.run(["ls", &serving.listening]).expect(0);
    serving.logs(&["list", eid.trim(), "ok"]);
}

// spec: FIL-31
#[test]
fn nothing_is_answered_before_a_greeting() {
    let server = Home::new();
    let dir = server.dir("source");
    fs::write(dir.join("f"), "content").unwrap();
    let serving = server.serve(&dir, &[]);
    runtime().block_on(async {
        let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
        let eid = serving.eid().parse().unwrap();
        for (greeting, expected) in [
            (NO_SECRET, 0),
            (&[1, 1, 3, 7, 7, 7][..], 0),
            (&[0, 0], 13),
            (&[0xff; 1100], 13),
        ] {
            let connect = host.connect(eid, "files", "sync/1").hint(serving.address());
            let mut session = connect.await.unwrap();
            let mut request = session.open_substream().unwrap();
            request.write_all(&[2, 1, b'f', 0]).await.unwrap();
            request.finish().unwrap();
            let early = tokio::time::timeout(Duration::from_millis(300), request.read_chunk(100)).await;
            assert!(early.is_err(), "{early:?}");
            let _ = session.write_all(greeting).await;
            let answer = session.read_chunk(2000).await.unwrap().unwrap();
            assert_eq!(answer.first(), Some(&expected), "{answer:?}");
            let content = request.read_to_end(1000).await;
            assert_eq!(content.is_ok(), expected == 0, "{content:?}");
        }
    });
}

#[test]
fn a_log_for_machines_is_json() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("f"), "content").unwrap();
    let mut command = server.command();
    command.args(["serve", "--json", "--bind", "127.0.0.1:0"]).arg(&dir);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        crate::json_table::check(&line);
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let listening = next();
    let ticket = listening["ticket"].as_str().unwrap();
    let copy = client.path("copy");
    client
        .run(["get", &format!("{ticket}/f"), copy.to_str().unwrap()])
        .expect(0);
    client.run(["ls", listening["target"].as_str().unwrap()]).expect(4);
    let facts: Vec<Value> = (0..3).map(|_| next()).collect();
    let find = |what: &str| facts.iter().find(|fact| fact["request"] == what).unwrap();
    assert_eq!(
        (&find("get")["path"], &find("get")["status"]),
        (&"f".into(), &"Ok".into())
    );
    assert!(find("get")["sent"].as_u64() > Some(7));
    assert_eq!(find("session")["status"], "Unauthorized");
    assert_eq!(find("list")["error"], Value::Null);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The target of a server that asks for nothing is its address.
#[test]
fn a_public_server_has_no_ticket() {
    let (server, client) = (Home::new(), Home::new());
    let serving: Serving = server.serve(&server.dir("source"), &["--public"]);
    client.run(["ls", &serving.target]).expect(0);
}

/// A way to a server that leads there from another port from some time on, as behind a NAT that was restarted.
struct Way {
    front: SocketAddr,
    backs: [SocketAddr; 2],
    has_moved: Arc<AtomicBool>,
}

impl Way {
    fn to(server: SocketAddr) -> Self {
        let socket = || Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let (front, backs) = (socket(), [socket(), socket()]);
        let has_moved = Arc::new(AtomicBool::new(false));
        let client: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let way = Self {
            front: front.local_addr().unwrap(),
            backs: [0, 1].map(|at: usize| backs[at].local_addr().unwrap()),
            has_moved: has_moved.clone(),
        };
        for back in backs.clone() {
            let (front, client) = (front.clone(), client.clone());
            std::thread::spawn(move || {
                let mut buf = [0; 65_536];
                while let Ok(len) = back.recv(&mut buf) {
                    let client = *client.lock().unwrap();
                    let _ = front.send_to(&buf[..len], client.unwrap());
                }
            });
        }
        std::thread::spawn(move || {
            let mut buf = [0; 65_536];
            while let Ok((len, from)) = front.recv_from(&mut buf) {
                *client.lock().unwrap() = Some(from);
                let back = &backs[usize::from(has_moved.load(Ordering::Relaxed))];
                let _ = back.send_to(&buf[..len], server);
            }
        });
        way
    }
}

#[test]
fn the_log_names_where_a_peer_was_at_the_end() {
    let (home, client) = (Home::new(), Home::new());
    let dir = home.dir("served");
    fs::write(dir.join("large"), noise(1, 1 << 20)).unwrap();
    let told = Told::serve(&home, &dir, &["--public"]);
    let (eid, address) = told.listening.split_once('@').unwrap();
    let way = Way::to(address.parse().unwrap());
    let has_moved = way.has_moved.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        has_moved.store(true, Ordering::Relaxed);
    });
    let to = client.path("to");
    let target = format!("{eid}@{}/large", way.front);
    let get = ["get", &target, to.to_str().unwrap(), "--limit-rate", "256K"];
    client.run(get).expect(0);
    let line = told.logs(&["get large"]);
    assert!(
        line.contains(&format!(" {} ", way.backs[1])) && !line.contains(&way.backs[0].to_string()),
        "{line}"
    );
}
