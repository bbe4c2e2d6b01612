//! Transfers over emulated links, beside the kernel's TCP: what each makes of a link alone, and how two share one.
//!
//! Both ends live in namespaces of a lab (`sss-lab`), joined by its emulator; nothing leaves the machine. Each
//! measurement has a lab of its own, and the kinds take turns.

mod arrivals;
mod flow;
mod report;

use std::time::Duration;

use sss_lab::{Lab, Link};

use self::arrivals::Arrivals;
use self::flow::{Ended, Plan, Sort};
use self::report::{Alone, Both};
use crate::cli::Links;
use crate::outcome::Outcome;

/// Part of a transfer that is not counted: its start.
const WARM: Duration = Duration::from_secs(5);
/// Time by which the second of two begins later, at most; and between the possible times.
const APART: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(250);

/// A link.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Megabits a second of IP packets.
    rate: u32,
    /// Milliseconds there and back, without a queue.
    rtt: u32,
    /// Hundredths of what the link carries in that time, that wait before it at most.
    queue: u32,
    /// Thousandths of the packets that are lost each way.
    loss: u32,
}

/// Links on which each kind is alone.
const ALONE: [Case; 7] = [
    Case::new(20, 50, 25, 0),
    Case::new(20, 50, 100, 0),
    Case::new(20, 50, 400, 0),
    Case::new(100, 20, 25, 0),
    Case::new(100, 20, 100, 0),
    Case::new(100, 20, 400, 0),
    Case::new(20, 50, 100, 10),
];
/// Queues where two share 20 Mbit/s.
const SHARED: [u32; 2] = [100, 400];
/// Pairs, in both orders where they differ.
const PAIRS: [(Sort, Sort); 8] = [
    (Sort::TcpCubic, Sort::TcpCubic),
    (Sort::SssCubic, Sort::TcpCubic),
    (Sort::TcpCubic, Sort::SssCubic),
    (Sort::SssCubic, Sort::SssCubic),
    (Sort::TcpBbr, Sort::TcpBbr),
    (Sort::SssBbr, Sort::TcpBbr),
    (Sort::TcpBbr, Sort::SssBbr),
    (Sort::SssBbr, Sort::SssBbr),
];

impl Case {
    const fn new(rate: u32, rtt: u32, queue: u32, loss: u32) -> Self {
        Self { rate, rtt, queue, loss }
    }

    /// Settings of the emulator.
    fn link(self, seed: u64) -> Outcome<Link> {
        let round = u64::from(self.rate) * u64::from(self.rtt) * 125;
        let queue = (round * u64::from(self.queue) / 100).max(3000);
        let settings = [
            format!("rate={}M", self.rate),
            format!("delay={}us", self.rtt * 500),
            format!("queue={queue}"),
            format!("loss={}", f64::from(self.loss) / 1000.0),
            format!("seed={seed}"),
        ];
        Ok(Link::parse(settings)?)
    }

    fn bits_per_second(self) -> f64 {
        f64::from(self.rate) * 1e6
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} Mbit/s, {} ms, {} BDP",
            self.rate,
            self.rtt,
            f64::from(self.queue) / 100.0
        )?;
        if self.loss > 0 {
            write!(f, ", {} % lost", f64::from(self.loss) / 10.0)?;
        }
        Ok(())
    }
}

/// Outcome of transfers over one link at the same time.
struct Seen {
    flows: Vec<Ended>,
    /// Packets that found the queue full, and all that came.
    dropped: u64,
    packets: u64,
    /// Median of what small packets waited, beyond the time of the empty link.
    waited: Duration,
}

/// Measures, and prints tables.
pub(crate) fn run(options: &Links) -> Outcome<()> {
    let seconds = Duration::from_secs(options.seconds.into());
    let length = Duration::from_secs(options.shared_seconds.into());
    let total = seconds * count(ALONE.len() * Sort::ALL.len()) + length * count(SHARED.len() * PAIRS.len());
    eprintln!(
        "{} rounds of {} minutes; let nothing else run ..",
        options.rounds,
        total.as_secs().div_ceil(60)
    );
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        for case in ALONE {
            for sort in Sort::ALL {
                let seen = measure(case, &[(sort, Duration::ZERO)], seconds, round)?;
                let row = Alone::of(case, sort, &seen, seconds);
                eprintln!("round {round}: {row}");
                alone.push(row);
            }
        }
        for queue in SHARED {
            let case = Case::new(20, 50, queue, 0);
            for (number, (first, second)) in PAIRS.into_iter().enumerate() {
                // Other times in each round, and the same in each run of this program.
                let steps = count(APART.as_millis() as usize / STEP.as_millis() as usize);
                let later = STEP * (1 + (round * 5 + count(number) * 3) % steps);
                let seen = measure(case, &[(first, Duration::ZERO), (second, later)], length, round)?;
                let row = Both::of(case, (first, second), &seen, later + WARM..length);
                eprintln!("round {round}: {row}");
                both.push(row);
            }
        }
    }
    println!("{}\n{}", report::alone(&alone), report::both(&both));
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&alone, &both)?)?;
    }
    Ok(())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Has transfers from host b to host a begin at these times, and go on until `length` is over.
fn measure(case: Case, sorts: &[(Sort, Duration)], length: Duration, seed: u32) -> Outcome<Seen> {
    let lab = Lab::wire().link(case.link(seed.into())?).build()?;
    let (here, there) = (lab.node("a")?, lab.node("b")?);
    let address = here.ipv4().ok_or("host a has no address")?.into();
    let (flows, waits) = std::thread::scope(|scope| {
        let plan = Plan::new(address, length);
        let pings = scope.spawn(move || flow::ping(here, there, plan));
        let begun: Vec<_> = sorts
            .iter()
            .map(|(sort, later)| scope.spawn(move || flow::run(*sort, (here, there), plan.later(*later))))
            .collect();
        let flows: Outcome<Vec<Ended>> = begun
            .into_iter()
            .map(|flow| flow.join().unwrap_or_else(|_| Err("a transfer panicked".into())))
            .collect();
        let waits = pings.join().unwrap_or_else(|_| Err("the pings panicked".into()));
        (flows, waits)
    });
    let counters = lab.counters()?;
    let empty = Duration::from_millis(case.rtt.into());
    Ok(Seen {
        flows: flows?,
        dropped: counters.queue_full,
        packets: counters.received,
        waited: arrivals::median(waits?).saturating_sub(empty),
    })
}
