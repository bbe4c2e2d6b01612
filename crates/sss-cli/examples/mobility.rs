//! How long a transfer stands still when hosts move, routers forget, or servers die (docs/experiments/mobility.md).
//!
//! `cargo build -p sss-cli && cargo run -p sss-cli --example mobility -- results.jsonl 30`, as root, with settings of
//! the link behind it, if other than `rate=20M delay=25ms queue=125000`. `sss get` fetches 20 MB from `sss serve`, each
//! time in a lab of its own; something happens two to four seconds after the first byte. The stall is the longest time
//! in which nothing came, from just before that on. Each run is a line of the file; those that are there already are
//! not made again. Then the table is printed.

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/running.rs"]
mod running;

#[cfg(target_os = "linux")]
#[path = "reach/statistics.rs"]
mod statistics;

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
    use std::fs::{self, OpenOptions};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdout, Stdio};
    use std::sync::{Mutex, mpsc};
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};
    use sss_lab::{Kind, Lab, Link};

    use super::running::{Failure, Running, command, text};
    use super::statistics::{interval, median};

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
        /// Kinds of the routers of those who get and serve.
        kinds: (Kind, Kind),
        /// Switches of both.
        switches: &'static [&'static str],
        event: fn(&mut World) -> Result<(), Failure>,
    }

    const PRC: (Kind, Kind) = (Kind::Prc, Kind::Prc);

    const SCENARIOS: [Scenario; 10] = [
        Scenario {
            name: "nothing",
            kinds: PRC,
            switches: &[],
            event: |_| Ok(()),
        },
        Scenario {
            name: "who gets moves",
            kinds: PRC,
            switches: &[],
            event: |world| world.move_to("a", "c"),
        },
        Scenario {
            name: "who serves moves",
            kinds: PRC,
            switches: &[],
            event: |world| world.move_to("b", "d"),
        },
        Scenario {
            name: "both move at once",
            kinds: PRC,
            switches: &[],
            event: |world| world.move_to("a", "c").and_then(|()| world.move_to("b", "d")),
        },
        Scenario {
            name: "who gets moves, no relay",
            kinds: PRC,
            switches: &["--no-relay"],
            event: |world| world.move_to("a", "c"),
        },
        Scenario {
            name: "both move at once, no relay",
            kinds: PRC,
            switches: &["--no-relay"],
            event: |world| world.move_to("a", "c").and_then(|()| world.move_to("b", "d")),
        },
        Scenario {
            name: "the router of who gets is renumbered",
            kinds: PRC,
            switches: &[],
            event: |world| Ok(world.lab.renumber("a").map(drop)?),
        },
        Scenario {
            name: "the router of who gets starts again",
            kinds: (Kind::EimRandom, Kind::Prc),
            switches: &[],
            event: |world| Ok(world.lab.reboot("a")?),
        },
        Scenario {
            name: "the servers are killed",
            kinds: PRC,
            switches: &[],
            event: |world| world.kill(2),
        },
        Scenario {
            name: "the relay that carries is killed, of two",
            kinds: (Kind::Symmetric, Kind::Symmetric),
            switches: &[],
            event: |world| world.kill_the_relay(),
        },
    ];

    /// Two hosts, each behind a router, two more networks to go to, and two servers that relay.
    struct World {
        // Processes end before the lab does.
        get: Option<Getting>,
        _serve: Running,
        servers: Vec<(Running, String)>,
        eid: String,
        /// How it says to be connected.
        how: String,
        lab: Lab,
        homes: tempfile::TempDir,
        program: PathBuf,
    }

    /// `sss get`, until this is dropped.
    struct Getting(Child);

    impl Drop for Getting {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl World {
        fn start(program: &Path, scenario: &Scenario, (link, file): (&[String], &[u8])) -> Result<Self, Failure> {
            let lab = Lab::builder()
                .site("a", scenario.kinds.0)
                .site("b", scenario.kinds.1)
                .site("c", Kind::Prc)
                .site("d", Kind::EimRandom)
                .servers(2)
                .link(Link::parse(link)?)
                .build()?;
            let homes = tempfile::tempdir()?;
            fs::create_dir(homes.path().join("served"))?;
            fs::write(homes.path().join("served/file"), file)?;
            let mut servers = Vec::new();
            for name in ["server", "server2"] {
                let node = lab.node(name)?;
                let address = node.ipv4().ok_or("the server has no address")?;
                let mut server = command(&homes, node, program);
                server.args(["rendezvous", "--relay", "--json", "--bind", &format!("{address}:7757")]);
                let mut server = Running::start(server.stderr(Stdio::null()))?;
                let eid = text(&server.event("listening")?["eid"]);
                servers.push((server, format!("{eid}@{address}:7757")));
            }
            let mut serve = command(&homes, lab.node("b")?, program);
            serve.args(["serve", "--public", "--json", "--bind", "0.0.0.0:0"]);
            serve.args(servers.iter().flat_map(|(_, at)| ["--server", at]));
            serve.args(scenario.switches).arg(homes.path().join("served"));
            let mut serve = Running::start(serve.stderr(Stdio::null()))?;
            let eid = text(&serve.event("listening")?["eid"]);
            servers.iter().try_for_each(|_| serve.event("registered").map(drop))?;
            Ok(Self {
                get: None,
                _serve: serve,
                servers,
                eid,
                how: String::new(),
                lab,
                homes,
                program: program.to_owned(),
            })
        }

        /// Begins to get the file. Its bytes come from what is returned.
        fn get(&mut self, scenario: &Scenario) -> Result<ChildStdout, Failure> {
            let mut get = command(&self.homes, self.lab.node("a")?, &self.program);
            get.args(["get", &format!("{}/file", self.eid), "-"]);
            get.args(self.servers.iter().flat_map(|(_, at)| ["--server", at]));
            get.args(scenario.switches).stdin(Stdio::null());
            let mut child = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            let bytes = child.stdout.take().ok_or("no output")?;
            let mut told = BufReader::new(child.stderr.take().ok_or("no errors")?);
            self.get = Some(Getting(child));
            while !self.how.contains("connected to") {
                if told.read_line(&mut self.how)? == 0 {
                    return Err(format!("not connected: {}", self.how).into());
                }
            }
            // What else it says is of no interest, and must have a place to go to.
            std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
            Ok(bytes)
        }

        fn move_to(&mut self, host: &str, site: &str) -> Result<(), Failure> {
            Ok(self.lab.move_host(host, site)?)
        }

        fn kill(&mut self, number: usize) -> Result<(), Failure> {
            let mut servers = self.servers.iter_mut().take(number);
            Ok(servers.try_for_each(|(server, _)| server.child.kill())?)
        }

        /// Kills the server through whose relay the other host was reached.
        fn kill_the_relay(&mut self) -> Result<(), Failure> {
            let how = self.how.split("found by").next().unwrap_or_default();
            let carries = |at: &str| {
                at.split('@')
                    .nth(1)
                    .is_some_and(|at| how.contains(&format!("relay {at}")))
            };
            let carrier = self.servers.iter_mut().find(|(_, at)| carries(at));
            let (server, _) = carrier.ok_or_else(|| format!("no relay carries: {how}"))?;
            Ok(server.child.kill()?)
        }
    }

    pub(super) fn run() -> Result<(), Failure> {
        let mut args = std::env::args().skip(1);
        let file = args
            .next()
            .ok_or("the file for the results, the number of runs, settings of the link")?;
        let runs: usize = args.next().unwrap_or_else(|| "30".to_owned()).parse()?;
        let mut link: Vec<String> = args.collect();
        if link.is_empty() {
            link = LINK.map(str::to_owned).into();
        }
        let done = read(&file, &link)?;
        let left: Vec<&Scenario> = SCENARIOS
            .iter()
            .flat_map(|scenario| {
                let there = of(&done, scenario.name).count();
                std::iter::repeat_n(scenario, runs.saturating_sub(there))
            })
            .collect();
        measure(&left, &file, &link)?;
        print(&read(&file, &link)?, &link);
        Ok(())
    }

    /// Makes the runs that are left, some at a time.
    fn measure(left: &[&Scenario], file: &str, link: &[String]) -> Result<(), Failure> {
        let results = Mutex::new(OpenOptions::new().create(true).append(true).open(file)?);
        let content: Vec<u8> = (0..FILE / 4)
            .flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
        let next = Mutex::new(left.iter().enumerate());
        let work = || {
            while let Some((n, scenario)) = next.lock().ok().and_then(|mut next| next.next()) {
                // Spread over two seconds.
                let after = Duration::from_millis(2000 + (n as u64 * 619) % 2000);
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
        (link, content): (&[String], &[u8]),
        after: Duration,
    ) -> Result<(Duration, bool, Duration), Failure> {
        let mut world = World::start(program, scenario, (link, content))?;
        let mut bytes = world.get(scenario)?;
        let (tell, arrivals) = mpsc::channel();
        std::thread::spawn(move || {
            let mut room = vec![0; 1 << 16];
            while let Ok(n @ 1..) = bytes.read(&mut room) {
                if tell.send((Instant::now(), room[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
        let began = Instant::now();
        let (mut event, mut latest): (Option<Instant>, Option<Instant>) = (None, None);
        let (mut at, mut stall, mut is_whole) = (0, Duration::ZERO, true);
        let mut happens = None;
        loop {
            let wait = happens.filter(|_| event.is_none()).unwrap_or(began + PATIENCE);
            match arrivals.recv_timeout(wait.saturating_duration_since(Instant::now())) {
                Ok((now, part)) => {
                    happens.get_or_insert(now + after);
                    if let (Some(_), Some(latest)) = (event, latest) {
                        stall = stall.max(now - latest);
                    }
                    latest = Some(now);
                    is_whole &= content.get(at..at + part.len()) == Some(&part[..]);
                    at += part.len();
                }
                Err(mpsc::RecvTimeoutError::Timeout) if event.is_none() && happens.is_some() => {
                    event = Some(Instant::now());
                    (scenario.event)(&mut world)?;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(format!("{at} bytes in {PATIENCE:?}").into()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        if event.is_none() {
            return Err("it was over before anything happened".into());
        }
        Ok((stall, is_whole && at == content.len(), began.elapsed()))
    }

    fn read(file: &str, link: &[String]) -> Result<Vec<Value>, Failure> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()?;
        Ok(lines.into_iter().filter(|line| line["link"] == json!(link)).collect())
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
