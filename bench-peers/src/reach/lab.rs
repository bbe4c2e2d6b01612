//! Runs, each in a lab of its own.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use sss_bench::Outcome;
use sss_lab::{Kind, Lab, Link, Node};

use crate::results::{self, SYSTEMS};

/// Runs at the same time.
const AT_ONCE: usize = 3;
/// Time from when the callee is there until it is counted what it sends by itself, and for how long.
const SETTLING: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(4);
/// Time from one look at the server's counters to the next.
const SAMPLE: Duration = Duration::from_millis(50);
/// A step of a run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(100);

/// A host that leaves its network for another one.
type Move = (&'static str, &'static str);

/// A kind of run.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Kinds of the routers of caller and callee.
    kinds: (Kind, Kind),
    link: &'static [&'static str],
    what: What,
}

/// A thing to be measured.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// A call with small requests.
    Rounds,
    /// A transfer, to the caller, in which hosts move.
    Bulk(Option<Move>),
}

const NEAR: &[&str] = &["delay=5ms"];
const FAR: &[&str] = &["delay=50ms"];
/// That of docs/experiments/mobility.md.
const SLOW: &[&str] = &["rate=20M", "delay=25ms", "queue=125000"];
const PRC: (Kind, Kind) = (Kind::Prc, Kind::Prc);

const fn rounds(name: &'static str, kinds: (Kind, Kind), link: &'static [&'static str]) -> Case {
    let what = What::Rounds;
    Case {
        name,
        kinds,
        link,
        what,
    }
}

const fn bulk(name: &'static str, moves: Option<Move>) -> Case {
    Case {
        name,
        kinds: PRC,
        link: SLOW,
        what: What::Bulk(moves),
    }
}

pub(crate) static CASES: [Case; 10] = [
    rounds("prc x prc, 5 ms", PRC, NEAR),
    rounds("prc x prc, 50 ms", PRC, FAR),
    rounds("prc x sym, 5 ms", (Kind::Prc, Kind::Symmetric), NEAR),
    rounds("prc x sym, 50 ms", (Kind::Prc, Kind::Symmetric), FAR),
    rounds("sym x prc, 50 ms", (Kind::Symmetric, Kind::Prc), FAR),
    rounds("sym x sym, 5 ms", (Kind::Symmetric, Kind::Symmetric), NEAR),
    rounds("sym x sym, 50 ms", (Kind::Symmetric, Kind::Symmetric), FAR),
    bulk("nobody moves", None),
    bulk("the caller moves, who reads", Some(("a", "c"))),
    bulk("the callee moves, who writes", Some(("b", "d"))),
];

impl Case {
    pub(crate) fn is_call(&self) -> bool {
        matches!(self.what, What::Rounds)
    }
}

/// Makes the runs that the file does not have yet, and prints tables of all that it has.
pub(crate) fn run(file: &str, settings: &[&str]) -> Outcome<()> {
    let (mut runs, mut only) = (10, "");
    for setting in settings {
        match setting.strip_prefix("only=") {
            Some(name) => only = name,
            None => runs = setting.parse()?,
        }
    }
    let done = results::recorded(file)?;
    let there = |case: &Case, system: &str| results::of(&done, case, system).count();
    let left: Vec<(&Case, &str)> = (0..runs)
        .flat_map(|n| CASES.iter().map(move |case| (n, case)))
        .flat_map(|(n, case)| SYSTEMS.map(|system| (n, case, system)))
        .filter(|(n, case, system)| case.name.contains(only) && *n >= there(case, system))
        .map(|(_, case, system)| (case, system))
        .collect();
    let results = Mutex::new(OpenOptions::new().create(true).append(true).open(file)?);
    let next = Mutex::new(left.iter().enumerate());
    let work = || {
        while let Some((n, (case, system))) = next.lock().ok().and_then(|mut next| next.next()) {
            let line = match one(case, system, n) {
                Ok(line) => line,
                Err(error) => json!({ "error": error.to_string() }),
            };
            let line = json!({ "case": case.name, "system": system, "result": line });
            if let Ok(mut results) = results.lock() {
                let _ = writeln!(results, "{line}");
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    results::print(&results::recorded(file)?);
    Ok(())
}

/// A process of this program in a node of a lab, and what it says.
struct Running {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Running {
    fn start(node: &Node, system: &str, words: &[&str]) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let program = program.to_str().ok_or("the program has no usual name")?;
        let mut command = node.command(program);
        let mut child = command
            .args(["node", system])
            .args(words)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines
                .flat_map(|line| serde_json::from_str(&line))
                .try_for_each(|line| say.send(line))
        });
        Ok(Self { child, lines })
    }

    fn line(&self) -> Outcome<Value> {
        Ok(self
            .lines
            .recv_timeout(PATIENCE)
            .map_err(|_| "a host or server ended, or said nothing")?)
    }

    /// What it says next, under a name.
    fn text(&self, name: &str) -> Outcome<String> {
        Ok(self.line()?[name]
            .as_str()
            .ok_or_else(|| format!("no {name}"))?
            .to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that a node has received and sent since it was made, of IP packets.
fn bytes(node: &Node) -> Outcome<u64> {
    let table = node.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let devices = table.lines().filter_map(|line| line.trim().split_once(':'));
    let others = devices.filter(|(name, _)| *name != "lo");
    let numbers = others.flat_map(|(_, row)| {
        let row: Vec<u64> = row.split_whitespace().flat_map(str::parse).collect();
        [row.first().copied(), row.get(8).copied()]
    });
    Ok(numbers.flatten().sum())
}

/// A lab in which a callee is online at a relay.
struct World<'a> {
    system: &'a str,
    /// What a caller is told: the server's address and key, and the callee's id.
    place: [String; 3],
    // Processes end before the lab does.
    _callee: Running,
    _relay: Running,
    lab: Lab,
}

impl<'a> World<'a> {
    fn start(case: &Case, system: &'a str) -> Outcome<Self> {
        let lab = Lab::builder()
            .site("a", case.kinds.0)
            .site("b", case.kinds.1)
            .site("c", Kind::Prc)
            .site("d", Kind::EimRandom)
            .link(Link::parse(case.link)?)
            .build()?;
        let server = lab.node("server")?;
        let at = server.ipv4().ok_or("the server has no address")?.to_string();
        let relay = Running::start(server, system, &["relay", &at])?;
        let key = relay.text("key")?;
        let callee = Running::start(lab.node("b")?, system, &["listen", &at, &key])?;
        let id = callee.text("id")?;
        std::thread::sleep(SETTLING);
        Ok(Self {
            system,
            place: [at, key, id],
            _callee: callee,
            _relay: relay,
            lab,
        })
    }

    fn call(&self, what: &str) -> Outcome<Running> {
        let [at, key, id] = &self.place;
        Running::start(self.lab.node("a")?, self.system, &["call", at, key, id, what])
    }

    fn bytes(&self) -> Outcome<u64> {
        bytes(self.lab.node("server")?)
    }
}

fn one(case: &Case, system: &str, n: usize) -> Outcome<Value> {
    let world = World::start(case, system)?;
    match case.what {
        What::Rounds => counted(&world),
        What::Bulk(moves) => moved(world, moves, n),
    }
}

/// A call, with what the server receives and sends meanwhile, less what it does so without one.
fn counted(world: &World<'_>) -> Outcome<Value> {
    let before = world.bytes()?;
    std::thread::sleep(IDLE);
    let (idle, begun) = (world.bytes()?, Instant::now());
    let mut caller = world.call("rounds")?;
    let mut samples = Vec::new();
    let mut line = loop {
        match caller.lines.recv_timeout(SAMPLE) {
            Ok(line) => break line,
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < PATIENCE => {
                samples.push((begun.elapsed().as_secs_f64() * 1e3, world.bytes()? - idle));
            }
            Err(error) => return Err(error.into()),
        }
    };
    caller.child.wait()?;
    // What is under way arrives.
    std::thread::sleep(Duration::from_millis(200));
    let (after, seconds) = (world.bytes()?, begun.elapsed().as_secs_f64());
    let per_second = (idle - before) as f64 / IDLE.as_secs_f64();
    line["samples"] = json!(samples);
    line["idle_bytes_per_s"] = json!(per_second);
    line["server_bytes"] = json!((after - idle) as f64 - per_second * seconds);
    Ok(line)
}

/// A transfer in which somebody moves, with the longest time in which nothing came, from just before that on.
fn moved(mut world: World<'_>, moves: Option<Move>, n: usize) -> Outcome<Value> {
    let caller = world.call("bulk")?;
    caller.line()?;
    let begun = Instant::now();
    // Spread over two seconds.
    std::thread::sleep(Duration::from_millis(2000 + (n as u64 * 619) % 2000));
    let moved = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
    if let Some((host, site)) = moves {
        world.lab.move_host(host, site)?;
    }
    let mut line = caller.line()?;
    let gaps = line["gaps"].as_array().into_iter().flatten();
    let gaps = gaps.filter_map(|gap| Some((gap[0].as_f64()?, gap[1].as_f64()?)));
    let after = gaps.filter(|(at, gap)| at + gap / 1e3 > moved).map(|(_, gap)| gap);
    let stall = after.fold(0.0, f64::max);
    line["stall_ms"] = json!(stall);
    line["seconds"] = json!(begun.elapsed().as_secs_f64());
    line["moved"] = json!(moved);
    Ok(line)
}
