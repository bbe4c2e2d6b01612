//! Several registration servers with a directory in Redis, which is that of Debian.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rendezvous::{Found, Server};
use crate::support::{Home, Ran};

/// Time within which all is as it was when Redis is there again.
const SECONDS: Duration = Duration::from_secs(10);

/// A Redis of its own.
struct Redis {
    home: Home,
    port: u16,
    child: Child,
}

impl Redis {
    /// `None` where it is not installed, which is said.
    fn start() -> Option<Self> {
        let is_there = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if is_there.is_err() {
            eprintln!("SKIPPED: redis-server is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut home = Home::new();
        let child = Self::run(&mut home, port);
        Some(Self { home, port, child })
    }

    fn run(home: &mut Home, port: u16) -> Child {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(home.dir("redis"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < SECONDS, "it does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Another one takes its place, which knows nothing.
    fn restart(&mut self) {
        self.child = Self::run(&mut self.home, self.port);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn sss(client: &Home, server: &str, args: &[&str]) -> Ran {
    let mut command = client.command();
    Ran::wait(command.args(args).args(["--server", server]).spawn().unwrap())
}

/// Runs it again until it says what is awaited. Returns how long that took.
#[track_caller]
fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}

// spec: RCH-44
#[test]
fn hosts_of_two_servers_find_each_other() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let servers = [(); 2].map(|()| Server::start(&["--redis", &redis.url()]));
    let homes = [Home::new(), Home::new()];
    let listed = ["--public", "--listed", "photos", "--profile"];
    let hosts = [0, 1].map(|n| {
        let args = [&listed[..], &[["first", "second"][n]]].concat();
        Found::start(&homes[n], &servers[n].at, &args)
    });
    let client = Home::new();
    for (server, host) in [(&servers[0], &hosts[1]), (&servers[1], &hosts[0])] {
        let other = servers.iter().find(|other| other.at != server.at).unwrap();
        // The entry is there as soon as Redis has it.
        until(SECONDS, || sss(&client, &server.at, &["ls", &host.eid]).code == Some(0));
        let found = sss(&client, &server.at, &["ls", &host.eid]).expect(0);
        found.says(&[&format!("found by the server {}", other.address())]);
        sss(&client, &server.at, &["ping", &host.eid, "--count", "1"]).expect(0);
        let all = sss(&client, &server.at, &["search", "photos"]).expect(0);
        assert!(all.out.contains("first") && all.out.contains("second"), "{}", all.out);
        assert!(hosts.iter().all(|host| all.out.contains(&host.eid)), "{}", all.out);
    }
    let got = sss(
        &client,
        &servers[0].at,
        &["get", &format!("{}/one", hosts[1].eid), "--json"],
    );
    got.expect(0);
}

// spec: RCH-45
#[test]
fn when_redis_is_killed_each_server_goes_on_and_all_is_well_seconds_after_it_is_back() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let servers = [(); 2].map(|()| Server::start(&["--redis", &redis.url()]));
    let (home, client) = (Home::new(), Home::new());
    let host = Found::start(&home, &servers[1].at, &["--public", "--listed", "photos"]);
    let ls = |server: &Server| sss(&client, &server.at, &["ls", &host.eid, "--timeout", "8"]);
    let search = |server: &Server| sss(&client, &server.at, &["search", "photos", "--json"]);
    until(SECONDS, || ls(&servers[0]).code == Some(0));
    redis.kill();
    until(SECONDS, || search(&servers[1]).out.contains("are missing"));
    ls(&servers[1]).expect(0);
    assert!(search(&servers[1]).out.contains(&host.eid));
    // What was known is remembered for a second.
    until(SECONDS, || ls(&servers[0]).code == Some(3));
    ls(&servers[0]).expect(3).says(&["no host of this EID has registered"]);
    redis.restart();
    let after = until(SECONDS, || ls(&servers[0]).code == Some(0));
    eprintln!("found again {after:?} after Redis was back");
    until(SECONDS, || search(&servers[0]).out.contains(&host.eid));
}

// spec: RCH-44
#[test]
fn an_entry_that_is_stale_is_said_to_be() {
    let Some(redis) = Redis::start() else {
        return;
    };
    let [one, mut two] = [(); 2].map(|()| Server::start(&["--redis", &redis.url()]));
    let (home, client) = (Home::new(), Home::new());
    let mut host = Found::start(&home, &two.at, &["--public"]);
    let ls = || sss(&client, &one.at, &["ls", &host.eid, "--timeout", "8"]);
    until(SECONDS, || ls().code == Some(0));
    two.running.kill();
    ls().expect(3).says(&[
        &format!("the server {} says that the server {}", one.address(), two.eid()),
        "knows the host, and it does not answer",
    ]);
    // The host goes to the other one.
    host.running.kill();
    let again = Found::start(&home, &one.at, &["--public"]);
    assert_eq!(again.eid, host.eid);
    ls().expect(0);
}

#[test]
fn a_url_that_is_none_is_an_error() {
    let run = |url: &str| {
        let mut command = Home::new().command();
        Ran::wait(command.args(["rendezvous", "--redis", url]).spawn().unwrap())
    };
    run("http://127.0.0.1")
        .expect(2)
        .says(&["--redis", "redis://HOST:PORT"]);
}
