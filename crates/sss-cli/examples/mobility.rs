//! How long a transfer stands still when hosts move, routers forget, or servers die (docs/experiments/mobility.md).
//!
//! `cargo build -p sss-cli && cargo run -p sss-cli --example mobility -- results.jsonl 30`, as root, with settings of
//! the link behind it, if other than `rate=20M delay=25ms queue=125000`. A host reads a stream of 20 MB from another,
//! each time in a lab of its own; something happens a few seconds after the first byte. The stall is the longest
//! time in which nothing came, from just before that on. With `only=moves` it is what has that in its name. Each run is
//! a line of the file; those that are there already are not made again. Then the table is printed.

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/running.rs"]
mod running;

#[cfg(target_os = "linux")]
#[path = "reach/place.rs"]
mod place;

#[cfg(target_os = "linux")]
#[path = "reach/results.rs"]
mod results;

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
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::net::SocketAddr;
    use std::path::Path;
    use std::process::Stdio;
    use std::sync::{Mutex, mpsc};
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use serde_json::{Value, json};
    use sss::{Eid, FoundBy, Host, HostBuilder, RelayUse, RouteClass, Server};
    use sss_lab::{Kind, Lab, Link};

    use super::place::Place;
    use super::results::{interval, median, recorded};
    use super::running::{Failure, Running, command, text};

    /// Bytes of the file.
    const FILE: usize = 20_000_000;
    /// Runs at the same time.
    const AT_ONCE: usize = 3;
    /// A run that takes longer has failed.
    const PATIENCE: Duration = Duration::from_secs(90);
    const LINK: [&str; 3] = ["rate=20M", "delay=25ms", "queue=125000"];

    /// An event in the life of a transfer.
    struct Scenario {
        name: &'static str,
        /// Kinds of the routers of reader and writer.
        kinds: (Kind, Kind),
        relay: RelayUse,
        /// Milliseconds after the first byte, from and to, in which it happens.
        after: (u64, u64),
        event: fn(&mut World) -> Result<(), Failure>,
    }

    const PRC: (Kind, Kind) = (Kind::Prc, Kind::Prc);
    /// When all that stands by is there.
    const LATER: (u64, u64) = (2000, 4000);
    /// Before another relay stands by (MIG-31).
    const SOON: (u64, u64) = (300, 1500);

    const SCENARIOS: [Scenario; 11] = [
        Scenario {
            name: "nothing",
            kinds: PRC,
            relay: RelayUse::Allowed,
            after: LATER,
            event: |_| Ok(()),
        },
        Scenario {
            name: "the reader moves",
            kinds: PRC,
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| world.move_to("a", "c"),
        },
        Scenario {
            name: "the writer moves",
            kinds: PRC,
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| world.move_to("b", "d"),
        },
        Scenario {
            name: "both move at once",
            kinds: PRC,
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| world.move_to("a", "c").and_then(|()| world.move_to("b", "d")),
        },
        Scenario {
            name: "the reader moves, no relay",
            kinds: PRC,
            relay: RelayUse::Never,
            after: LATER,
            event: |world| world.move_to("a", "c"),
        },
        Scenario {
            name: "both move at once, no relay",
            kinds: PRC,
            relay: RelayUse::Never,
            after: LATER,
            event: |world| world.move_to("a", "c").and_then(|()| world.move_to("b", "d")),
        },
        Scenario {
            name: "the reader's router is renumbered",
            kinds: PRC,
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| Ok(world.lab.renumber("a").map(drop)?),
        },
        Scenario {
            name: "the reader's router starts again",
            kinds: (Kind::EimRandom, Kind::Prc),
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| Ok(world.lab.reboot("a")?),
        },
        Scenario {
            name: "the servers are killed",
            kinds: PRC,
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| world.kill_the_servers(),
        },
        Scenario {
            name: "the relay that carries is killed, of two",
            kinds: (Kind::Symmetric, Kind::Symmetric),
            relay: RelayUse::Allowed,
            after: LATER,
            event: |world| world.kill_the_relay(),
        },
        Scenario {
            name: "the relay that carries is killed, and none stands by",
            kinds: (Kind::Symmetric, Kind::Symmetric),
            relay: RelayUse::Allowed,
            after: SOON,
            event: |world| world.kill_the_relay(),
        },
    ];

    /// Two hosts, each behind a router, two more networks to go to, and two servers that relay.
    struct World {
        // Hosts and processes end before the lab does.
        reader: Place,
        writer: Place,
        servers: Vec<(Running, ServerAt)>,
        /// The address of the relay that the reader began with, if it did not begin directly.
        relay: Option<SocketAddr>,
        lab: Lab,
        _homes: tempfile::TempDir,
    }

    type ServerAt = (Eid, SocketAddr);

    async fn registered(servers: Vec<ServerAt>, (relay, found_by): (RelayUse, FoundBy)) -> Result<Host, Failure> {
        let number = servers.len();
        let builder = Host::builder().bind("0.0.0.0:0").relay(relay).found_by(found_by);
        let add = |builder: HostBuilder, (eid, at)| builder.rendezvous(eid, at);
        let host = servers.into_iter().fold(builder, add).build().await?;
        while host.observed_addrs().len() < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(host)
    }

    /// Writes the content on every stream, until its end is acknowledged.
    async fn write(host: Host, server: Server, content: Bytes) -> Result<(), Failure> {
        while let Ok((mut stream, _)) = server.accept().await {
            stream.write_chunk(content.clone()).await?;
            stream.finish()?;
            stream.stopped().await?;
        }
        drop(host);
        Ok(())
    }

    /// News of the reader.
    enum News {
        Connected(Option<SocketAddr>),
        Bytes(Instant, Bytes),
    }

    async fn read(host: Host, eid: Eid, tell: mpsc::Sender<News>) -> Result<(), Failure> {
        let mut stream = host.connect(eid, "bulk", "1").await?;
        stream.finish()?;
        let route = stream.peer().info().map(|info| info.route);
        let relay = route.filter(|route| route.class() == RouteClass::Relay);
        tell.send(News::Connected(relay.and_then(|route| route.address())))?;
        while let Some(chunk) = stream.read_chunk(1 << 16).await? {
            tell.send(News::Bytes(Instant::now(), chunk))?;
        }
        Ok(())
    }

    impl World {
        fn start(program: &Path, scenario: &Scenario, link: &[String]) -> Result<Self, Failure> {
            let lab = Lab::builder()
                .site("a", scenario.kinds.0)
                .site("b", scenario.kinds.1)
                .site("c", Kind::Prc)
                .site("d", Kind::EimRandom)
                .servers(2)
                .link(Link::parse(link)?)
                .build()?;
            let homes = tempfile::tempdir()?;
            let mut servers = Vec::new();
            for name in ["server", "server2"] {
                let node = lab.node(name)?;
                let at = SocketAddr::from((node.ipv4().ok_or("the server has no address")?, 7757));
                let mut server = command(&homes, node, program);
                server.args(["rendezvous", "--relay", "--json", "--bind", &at.to_string()]);
                let mut server = Running::start(server.stderr(Stdio::null()))?;
                let eid: Eid = text(&server.event("listening")?["eid"]).parse()?;
                servers.push((server, (eid, at)));
            }
            Ok(Self {
                reader: Place::of(lab.node("a")?)?,
                writer: Place::of(lab.node("b")?)?,
                servers,
                relay: None,
                lab,
                _homes: homes,
            })
        }

        /// Begins the transfer.
        fn begin(&self, relay: RelayUse, content: Bytes) -> Result<mpsc::Receiver<News>, Failure> {
            let at: Vec<ServerAt> = self.servers.iter().map(|(_, at)| *at).collect();
            let (name, named) = mpsc::channel();
            let servers = at.clone();
            self.writer.spawn(async move {
                let host = registered(servers, (relay, FoundBy::Known)).await?;
                let server = host.listen("bulk", "1")?;
                name.send(host.eid())?;
                write(host, server, content).await
            });
            let eid = named.recv()?;
            let (tell, news) = mpsc::channel();
            self.reader.spawn(async move {
                let host = registered(at, (relay, FoundBy::Nobody)).await?;
                read(host, eid, tell).await
            });
            Ok(news)
        }

        fn move_to(&mut self, host: &str, site: &str) -> Result<(), Failure> {
            Ok(self.lab.move_host(host, site)?)
        }

        fn kill_the_servers(&mut self) -> Result<(), Failure> {
            let mut servers = self.servers.iter_mut();
            Ok(servers.try_for_each(|(server, _)| server.child.kill())?)
        }

        fn kill_the_relay(&mut self) -> Result<(), Failure> {
            let relay = self.relay;
            let carrier = self.servers.iter_mut().find(|(_, (_, at))| Some(*at) == relay);
            let (server, _) = carrier.ok_or("no relay carries")?;
            Ok(server.child.kill()?)
        }
    }

    pub(super) fn run() -> Result<(), Failure> {
        let mut args = std::env::args().skip(1);
        let file = args
            .next()
            .ok_or("the file for the results, the number of runs, settings of the link")?;
        let runs: usize = args.next().unwrap_or_else(|| "30".to_owned()).parse()?;
        let (only, mut link): (Vec<String>, _) = args.partition(|word| word.starts_with("only="));
        let only = only
            .first()
            .and_then(|word| word.strip_prefix("only="))
            .unwrap_or_default();
        if link.is_empty() {
            link = LINK.map(str::to_owned).into();
        }
        let done = recorded(&file, &link)?;
        let left: Vec<&Scenario> = SCENARIOS
            .iter()
            .filter(|scenario| scenario.name.contains(only))
            .flat_map(|scenario| {
                let there = of(&done, scenario.name).count();
                std::iter::repeat_n(scenario, runs.saturating_sub(there))
            })
            .collect();
        measure(&left, &file, &link)?;
        print(&recorded(&file, &link)?, &link);
        Ok(())
    }

    /// Makes the runs that are left, some at a time.
    fn measure(left: &[&Scenario], file: &str, link: &[String]) -> Result<(), Failure> {
        let results = Mutex::new(OpenOptions::new().create(true).append(true).open(file)?);
        let content: Bytes = (0..FILE / 4)
            .flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
        let next = Mutex::new(left.iter().enumerate());
        let work = || {
            while let Some((n, scenario)) = next.lock().ok().and_then(|mut next| next.next()) {
                let (from, to) = scenario.after;
                let after = Duration::from_millis(from + (n as u64 * 619) % (to - from));
                let mut line = json!({"link": link, "what": scenario.name});
                match transfer(&program, scenario, (link, &content), after) {
                    Ok((stall, whole, seconds)) => {
                        line["stall_ms"] = json!(stall.as_secs_f64() * 1e3);
                        line["whole"] = json!(whole);
                        line["seconds"] = json!(seconds.as_secs_f64());
                    }
                    Err(error) => line["error"] = json!(error.to_string()),
                }
                println!("{line}");
                if let Ok(mut results) = results.lock() {
                    let _ = writeln!(results, "{line}");
                }
            }
        };
        std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
        Ok(())
    }

    /// The stall, whether all bytes came as they are, and the time that it took.
    fn transfer(
        program: &Path,
        scenario: &Scenario,
        (link, content): (&[String], &Bytes),
        after: Duration,
    ) -> Result<(Duration, bool, Duration), Failure> {
        let mut world = World::start(program, scenario, link)?;
        let news = world.begin(scenario.relay, content.clone())?;
        let end = Instant::now() + PATIENCE;
        let (mut begun, mut latest, mut has_happened) = (None, None, false);
        let (mut at, mut stall, mut is_whole) = (0, Duration::ZERO, true);
        loop {
            let happens = begun.filter(|_| !has_happened).map(|begun: Instant| begun + after);
            let wait = happens.unwrap_or(end).saturating_duration_since(Instant::now());
            match news.recv_timeout(wait) {
                Ok(News::Connected(relay)) => world.relay = relay,
                Ok(News::Bytes(now, part)) => {
                    begun.get_or_insert(now);
                    let gap = latest.map_or(Duration::ZERO, |latest| now - latest);
                    stall = if has_happened { stall.max(gap) } else { stall };
                    latest = Some(now);
                    is_whole &= content.get(at..at + part.len()) == Some(&part[..]);
                    at += part.len();
                }
                Err(mpsc::RecvTimeoutError::Timeout) if happens.is_some() => {
                    has_happened = true;
                    eprintln!(
                        "EVENT {:.6}",
                        std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64()
                    );
                    (scenario.event)(&mut world)?;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(format!("{at} bytes in {PATIENCE:?}").into()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        match (begun, latest) {
            (Some(begun), Some(latest)) if has_happened => Ok((stall, is_whole && at == content.len(), latest - begun)),
            _ => Err(format!("it was over at {at} bytes, before anything happened").into()),
        }
    }

    fn of<'a>(lines: &'a [Value], name: &'static str) -> impl Iterator<Item = &'a Value> {
        lines.iter().filter(move |line| line["what"] == name)
    }

    fn print(lines: &[Value], link: &[String]) {
        println!("\n{}\n", link.join(" "));
        println!("| what happens | runs | whole (95 %) | stall, ms: median | p90 | most |");
        println!("|---|---|---|---|---|---|");
        for Scenario { name, .. } in &SCENARIOS {
            let runs = of(lines, name).count();
            let whole = of(lines, name).filter(|line| line["whole"] == true).count();
            let mut stalls: Vec<f64> = of(lines, name).filter_map(|line| line["stall_ms"].as_f64()).collect();
            stalls.sort_by(f64::total_cmp);
            let at = |share: usize| stalls.get(stalls.len() * share / 100).copied().unwrap_or(f64::NAN);
            let (low, high) = interval(whole, runs.max(1));
            println!(
                "| {name} | {runs} | {whole} ({low:.0}-{high:.0} %) | {:.0} | {:.0} | {:.0} |",
                median(stalls.clone()).unwrap_or(f64::NAN),
                at(90),
                stalls.last().copied().unwrap_or(f64::NAN),
            );
        }
    }
}
