//! Transfers over emulated links, beside the kernel's TCP: what each makes of a link alone, and how two share one.
//!
//! Both ends live in namespaces of a lab (`sss-lab`), joined by its emulator; nothing leaves the machine. Each
//! measurement has a lab of its own, and the kinds take turns.

mod arrivals;
mod curves;
mod flow;
mod report;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sss_lab::{Lab, Link};

use self::arrivals::Arrivals;
use self::flow::{Ended, Plan, Sort};
use self::report::{Alone, Both};
use crate::cli::Links;
use crate::outcome::Outcome;

/// Part of a transfer that is not counted: its start.
const WARM: Duration = Duration::from_secs(5);
/// The second of two begins later by one of so many times, which are so far apart.
const STEPS: u32 = 20;
const STEP: Duration = Duration::from_millis(100);

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
const PAIRS: [(Sort, Sort); 10] = [
    (Sort::TcpCubic, Sort::TcpCubic),
    (Sort::SssCubic, Sort::TcpCubic),
    (Sort::TcpCubic, Sort::SssCubic),
    (Sort::SssCubic, Sort::SssCubic),
    (Sort::TcpBbr, Sort::TcpBbr),
    (Sort::SssBbr, Sort::TcpBbr),
    (Sort::TcpBbr, Sort::SssBbr),
    (Sort::SssBbr, Sort::SssBbr),
    (Sort::SssBbr, Sort::TcpCubic),
    (Sort::TcpCubic, Sort::SssBbr),
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

/// One measurement.
#[derive(Clone, Copy)]
enum Work {
    Alone(Case, Sort),
    /// Of a pair, in its place among all.
    Both(Case, (Sort, Sort), u32),
}

/// Outcome of one.
enum Row {
    Alone(Alone),
    Both(Both),
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alone(row) => row.fmt(f),
            Self::Both(row) => row.fmt(f),
        }
    }
}

impl Work {
    /// All of a round, in order.
    fn all() -> Vec<Self> {
        let alone = ALONE
            .into_iter()
            .flat_map(|case| Sort::ALL.map(|sort| Self::Alone(case, sort)));
        let both = SHARED.into_iter().flat_map(|queue| {
            let case = Case::new(20, 50, queue, 0);
            let pairs = PAIRS.into_iter().zip(0..);
            pairs.map(move |(pair, number)| Self::Both(case, pair, number))
        });
        alone.chain(both).collect()
    }

    /// Its name: `20 Mbit/s, 50 ms, 1 BDP: SSS BBR, TCP BBR`.
    fn name(self) -> String {
        match self {
            Self::Alone(case, sort) => format!("{case}: {}", sort.name()),
            Self::Both(case, (first, second), _) => format!("{case}: {}, {}", first.name(), second.name()),
        }
    }

    fn length(self, options: &Links) -> Duration {
        Duration::from_secs(match self {
            Self::Alone(..) => options.seconds.into(),
            Self::Both(..) => options.shared_seconds.into(),
        })
    }

    fn measure(self, round: u32, length: Duration) -> Outcome<Row> {
        match self {
            Self::Alone(case, sort) => {
                let seen = measure(case, &[(sort, Duration::ZERO)], length, round)?;
                Ok(Row::Alone(Alone::of(case, sort, &seen, length)))
            }
            Self::Both(case, (first, second), number) => {
                // Other times in each round, and the same in each run of this program.
                let later = STEP * (1 + (round * 7 + number * 3) % STEPS);
                let seen = measure(case, &[(first, Duration::ZERO), (second, later)], length, round)?;
                Ok(Row::Both(Both::of(case, (first, second), &seen, later + WARM..length)))
            }
        }
    }
}

/// Measures, and prints tables.
pub(crate) fn run(options: &Links) -> Outcome<()> {
    let is_wanted = |work: &Work| options.only.iter().all(|word| work.name().contains(word));
    let works: Vec<Work> = Work::all().into_iter().filter(is_wanted).collect();
    if works.is_empty() {
        let names = Work::all().into_iter().map(Work::name).collect::<Vec<_>>().join("\n  ");
        return Err(format!("--only leaves nothing of\n  {names}").into());
    }
    let total: Duration = works.iter().map(|work| work.length(options)).sum();
    eprintln!(
        "{} rounds of {} minutes; let nothing else run ..",
        options.rounds,
        (total.as_secs() / u64::from(options.at_once)).div_ceil(60)
    );
    let rounds = (0..options.rounds).flat_map(|round| works.iter().map(move |work| (round, *work)));
    let rows = measure_all(rounds.collect(), options)?;
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Row::Alone(row) => alone.push(row),
            Row::Both(row) => both.push(row),
        }
    }
    println!("{}\n{}", report::alone(&alone), report::both(&both));
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&alone, &both)?)?;
    }
    if let Some(folder) = &options.charts {
        draw(folder, &alone, &both)?;
    }
    Ok(())
}

/// Draws what was measured in the first round.
fn draw(folder: &Path, alone: &[Alone], both: &[Both]) -> Outcome<()> {
    let alone = alone.iter().map(|row| &row.curves);
    let both = both.iter().map(|row| &row.curves);
    let pictures = [
        (
            "alone.svg",
            curves::draw("Alone on a link", curves::on_each_link(alone)),
        ),
        ("shared.svg", curves::draw("Two on a link", curves::of_each_pair(both))),
    ];
    std::fs::create_dir_all(folder)?;
    for (file, picture) in pictures {
        if let Some(picture) = picture {
            std::fs::write(folder.join(file), picture)?;
        }
    }
    Ok(())
}

/// Makes all measurements, so many at a time as is wanted, and returns their rows in order.
fn measure_all(works: Vec<(u32, Work)>, options: &Links) -> Outcome<Vec<Row>> {
    let next = Mutex::new(works.into_iter().enumerate());
    let worker = || -> Outcome<Vec<(usize, Row)>> {
        let mut rows = Vec::new();
        // The lock ends with the statement.
        while let Some((place, (round, work))) = { next.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            let row = work.measure(round, work.length(options))?;
            eprintln!("round {round}: {row}");
            rows.push((place, row));
        }
        Ok(rows)
    };
    let mut rows = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.at_once).map(|_| scope.spawn(worker)).collect();
        let rows = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err("a measurement panicked".into())));
        rows.collect::<Outcome<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
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
