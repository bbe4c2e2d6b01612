//! How long the first byte of a request takes between two hosts (docs/experiments/reach.md).
//!
//! `cargo build -p sss-cli && cargo run -p sss-cli --example first_byte -- 30`, as root. Two cases: both hosts are
//! registered, and behind routers of the kind `prc`, 50 ms from each other and from the server; and one knows the other
//! one's address, without a delay, with a server at which it is registered and without any, in turns. Each call is one
//! of a host that has never spoken with the other; it is over when the first byte is read there.

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/running.rs"]
mod running;

#[cfg(target_os = "linux")]
#[path = "reach/place.rs"]
mod place;

#[cfg(target_os = "linux")]
fn main() -> Result<(), running::Failure> {
    linux::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("labs are made of Linux's network namespaces");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::SocketAddr;
    use std::process::Stdio;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use sss::{Eid, FoundBy, Host, RouteClass, Server};
    use sss_lab::{Kind, Lab, Link, Node};

    use super::place::Place;
    use super::running::{Failure, Running, command, text};

    type ServerAt = (Eid, SocketAddr);

    /// The moment at which a first byte came, and the way by which it did.
    type Came = (Instant, Option<RouteClass>);

    /// Knowledge of the caller.
    #[derive(Clone, Copy)]
    struct Known {
        server: Option<ServerAt>,
        address: Option<SocketAddr>,
    }

    async fn host(server: Option<ServerAt>, found_by: FoundBy) -> Result<Host, Failure> {
        let builder = Host::builder().bind("0.0.0.0:0").found_by(found_by);
        let Some((eid, at)) = server else {
            return Ok(builder.build().await?);
        };
        let host = builder.rendezvous(eid, at).build().await?;
        while host.observed_addrs().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What follows the registration has been sent, too.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(host)
    }

    /// Tells of the first byte of each stream.
    async fn listen(host: Host, server: Server, tell: mpsc::Sender<Came>) -> Result<(), Failure> {
        while let Ok((mut stream, _)) = server.accept().await {
            let _ = stream.read_chunk(1).await?.ok_or("a stream without a byte")?;
            let now = Instant::now();
            let route = stream.peer().info().map(|info| info.route.class());
            tell.send((now, route))?;
        }
        drop(host);
        Ok(())
    }

    /// A host that is called, and a place to call it from.
    struct World {
        caller: Place,
        _callee: Place,
        eid: Eid,
        /// Its address in its own network.
        at: SocketAddr,
        came: mpsc::Receiver<Came>,
    }

    impl World {
        fn new((caller, callee): (&Node, &Node), server: Option<ServerAt>) -> Result<Self, Failure> {
            let (caller, there) = (Place::of(caller)?, Place::of(callee)?);
            let (name, named) = mpsc::channel();
            let (tell, came) = mpsc::channel();
            there.spawn(async move {
                let host = host(server, FoundBy::Known).await?;
                let server = host.listen("first", "1")?;
                let port = host.local_addrs().first().map_or(0, SocketAddr::port);
                name.send((host.eid(), port))?;
                listen(host, server, tell).await
            });
            let (eid, port) = named.recv()?;
            let ip = callee.ipv4().ok_or("the callee has no address")?;
            Ok(Self {
                caller,
                _callee: there,
                eid,
                at: (ip, port).into(),
                came,
            })
        }

        /// One call, by a new host: the time from before `connect` until the byte is there, and the way.
        fn call(&self, known: Known) -> Result<(Duration, Option<RouteClass>), Failure> {
            let eid = self.eid;
            let (tell, told) = mpsc::channel();
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            self.caller.spawn(async move {
                let host = host(known.server, FoundBy::Nobody).await?;
                tell.send(Instant::now())?;
                let mut stream = host.connect(eid, "first", "1").hints(known.address).open()?;
                stream.write_all(b"?").await?;
                let _ = ended.await;
                Ok(())
            });
            let begun = told.recv()?;
            let (came, route) = self.came.recv_timeout(Duration::from_secs(20))?;
            let _ = end.send(());
            Ok((came - begun, route))
        }
    }

    fn server(lab: &Lab, homes: &tempfile::TempDir) -> Result<(Running, ServerAt), Failure> {
        let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
        let node = lab.node("server")?;
        let at = SocketAddr::from((node.ipv4().ok_or("the server has no address")?, 7757));
        let mut server = command(homes, node, &program);
        server.args(["rendezvous", "--relay", "--json", "--bind", &at.to_string()]);
        let mut server = Running::start(server.stderr(Stdio::null()))?;
        let eid: Eid = text(&server.event("listening")?["eid"]).parse()?;
        Ok((server, (eid, at)))
    }

    /// The median, the ninth tenth and the longest.
    fn ms(times: &[Duration]) -> (f64, f64, f64) {
        let mut all: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        all.sort_by(f64::total_cmp);
        let of = |at: usize| all.get(at).copied().unwrap_or(f64::NAN);
        (of(all.len() / 2), of(all.len() * 9 / 10), of(all.len() - 1))
    }

    pub(super) fn run() -> Result<(), Failure> {
        let runs: u32 = std::env::args().nth(1).unwrap_or_else(|| "30".to_owned()).parse()?;
        let homes = tempfile::tempdir()?;
        println!("| case | calls | first byte, ms: median | p90 | most | direct |");
        println!("|---|--:|--:|--:|--:|--:|");
        registered(runs.max(1), &homes)?;
        known(runs.max(1) * 10, &homes)
    }

    fn row(name: &str, calls: &[(Duration, Option<RouteClass>)]) {
        let times: Vec<Duration> = calls.iter().map(|(time, _)| *time).collect();
        let direct = calls
            .iter()
            .filter(|(_, route)| *route == Some(RouteClass::Direct))
            .count();
        let (median, p90, most) = ms(&times);
        println!(
            "| {name} | {} | {median:.2} | {p90:.2} | {most:.2} | {direct} |",
            calls.len()
        );
    }

    /// Both are registered, and behind NATs; 50 ms from each to each.
    fn registered(runs: u32, homes: &tempfile::TempDir) -> Result<(), Failure> {
        let lab = Lab::builder()
            .site("a", Kind::Prc)
            .site("b", Kind::Prc)
            .link(Link::parse(["delay=50ms", "server-delay=50ms"])?)
            .build()?;
        let (_server, at) = server(&lab, homes)?;
        let world = World::new((lab.node("a")?, lab.node("b")?), Some(at))?;
        let known = Known {
            server: Some(at),
            address: None,
        };
        let calls: Result<Vec<_>, Failure> = (0..runs).map(|_| world.call(known)).collect();
        row("both behind `prc`, registered, 50 ms", &calls?);
        Ok(())
    }

    /// The callee's address is known: with a server, and without any.
    fn known(runs: u32, homes: &tempfile::TempDir) -> Result<(), Failure> {
        let lab = Lab::builder()
            .site("a", Kind::Open)
            .site("b", Kind::Open)
            .link(Link::parse(["delay=5ms"])?)
            .build()?;
        let (_server, at) = server(&lab, homes)?;
        let nodes = (lab.node("a")?, lab.node("b")?);
        let (alone, listed) = (World::new(nodes, None)?, World::new(nodes, Some(at))?);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let known = |world: &World, server| Known {
                server,
                address: Some(world.at),
            };
            without.push(alone.call(known(&alone, None))?);
            with.push(listed.call(known(&listed, Some(at)))?);
        }
        row("address known, 5 ms, no server", &without);
        row("address known, 5 ms, both registered", &with);
        Ok(())
    }
}
