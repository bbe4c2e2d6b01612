//! The tables of `docs/experiments/links.md`: how senders begin, share, and follow what a link does.

use std::fmt::Write;
use std::time::Duration;

use sss_proto::Congestion::{self, Bbr};

use super::{Change, Sender, Setup, resume, run};

pub(super) const MBIT: u64 = 1_000_000;
/// The rate of a start is that of so long a time.
pub const START: Duration = Duration::from_millis(200);

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A sender on a link of so many bits per second, this round trip, and a queue of so many products of both.
pub fn single(control: Congestion, (rate, rtt): (u64, Duration), products: f64) -> Setup {
    Setup {
        rtt,
        queue: (rate as f64 / 8.0 * rtt.as_secs_f64() * products) as usize,
        until: secs(10),
        ..Setup::single(control, rate, 1.0)
    }
}

/// A sender of 30 kB each half second over 2 Mbit/s.
pub fn pieces(control: Congestion) -> Setup {
    let mut setup = Setup {
        from: Duration::ZERO,
        until: secs(20),
        ..single(control, (2 * MBIT, ms(100)), 1.0)
    };
    for sender in &mut setup.senders {
        sender.pieces = Some((30_000, ms(500)));
    }
    setup
}

/// A sender over 20 Mbit/s, where the way takes 80 ms instead of 25 from 10 s on.
pub fn longer(control: Congestion) -> Setup {
    Setup {
        changes: vec![(secs(10), Change::Rtt(ms(160)))],
        until: secs(25),
        ..single(control, (20 * MBIT, ms(50)), 1.0)
    }
}

/// So many senders on 100 Mbit/s and 20 ms, which begin within two seconds, and a queue of so many round trips.
pub fn crowd(control: Congestion, senders: u32, products: f64) -> Setup {
    let setup = single(control, (100 * MBIT, ms(20)), products);
    let begins = |n| Sender::new(control, secs(2) * n / senders);
    Setup {
        senders: (0..senders).map(begins).collect(),
        from: secs(10),
        until: secs(40),
        ..setup
    }
}

/// Two senders on 20 Mbit/s, the second so long after the first.
pub fn late(control: Congestion, after: Duration, products: f64) -> Setup {
    Setup {
        from: after,
        until: after + secs(60),
        ..single(control, (20 * MBIT, ms(50)), products).shared(&[control; 2], after)
    }
}

/// A table.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Table {
    /// Time until a sender has the rate of the link.
    Starts,
    /// A sender of pieces on a slow link.
    Pieces,
    /// A path that becomes longer.
    Longer,
    /// Many senders.
    Crowds,
    /// A second sender, later.
    Late,
    /// A second connection over the same path.
    Resume,
}

/// Prints tables in Markdown, all of them if none is named.
///
/// # Errors
/// If one of the worlds fails.
pub fn print(tables: &[Table], seed: u64) -> Result<(), String> {
    let all = <Table as clap::ValueEnum>::value_variants();
    let tables = if tables.is_empty() { all } else { tables };
    for table in tables {
        let text = match table {
            Table::Starts => starts(seed),
            Table::Pieces => limited(seed),
            Table::Longer => longer_path(seed),
            Table::Crowds => crowds(seed),
            Table::Late => late_comers(seed),
            Table::Resume => resume::table(seed),
        };
        println!("{}", text?);
    }
    Ok(())
}

pub(super) fn seconds(time: Option<Duration>) -> String {
    time.map_or("not".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

/// From the first byte of a connection until 90 % of what the link carries.
fn starts(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| link | queue, round trips | marks CE | control | 90 % after | overflowed in 5 s | goodput from 5 s to 10 s |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for path in [(20 * MBIT, ms(50)), (100 * MBIT, ms(20)), (2 * MBIT, ms(100))] {
        for (products, marks) in [(0.25, false), (1.0, false), (4.0, false), (4.0, true)] {
            for control in Congestion::ALL {
                let mut setup = Setup {
                    seed,
                    ..single(control, path, products)
                };
                setup.mark_above = marks.then_some(setup.queue / 16);
                let whole = run(&setup)?;
                let begin = run(&Setup {
                    until: secs(5),
                    from: secs(4),
                    ..setup.clone()
                })?;
                let rate = 0.9 * setup.rate as f64;
                let _ = writeln!(
                    out,
                    "| {} Mbit/s, {} ms | {products} | {} | {control} | {} | {} | {:.1} % |",
                    path.0 / MBIT,
                    path.1.as_millis(),
                    if marks { "yes" } else { "no" },
                    seconds(whole.flows[0].reaches_over(START, rate, Duration::ZERO)),
                    begin.overflowed,
                    whole.total() * 100.0 / setup.rate as f64,
                );
            }
        }
    }
    Ok(out)
}

/// Senders that have little to send.
fn limited(seed: u64) -> Result<String, String> {
    let mut out = String::from("| control | overflowed, of 40 pieces of 30 kB | longest wait |\n|---|---|---|\n");
    for control in Congestion::ALL {
        let report = run(&Setup {
            seed,
            ..pieces(control)
        })?;
        let _ = writeln!(
            out,
            "| {control} | {} | {:.0} ms |",
            report.overflowed,
            report.wait.1.as_secs_f64() * 1e3
        );
    }
    Ok(out)
}

fn longer_path(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| control | goodput in the second to tenth second on the longer path | wait: mean |\n|---|---|---|\n",
    );
    for control in Congestion::ALL {
        let setup = Setup {
            seed,
            from: secs(12),
            ..longer(control)
        };
        let report = run(&setup)?;
        let _ = writeln!(
            out,
            "| {control} | {:.1} Mbit/s | {:.1} ms |",
            report.flows[0].rate(secs(12), secs(20)) / 1e6,
            report.wait.0.as_secs_f64() * 1e3
        );
    }
    Ok(out)
}

fn crowds(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| queue, round trips | senders | control | goodput of all | packets lost | Jain's index | wait: mean |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (products, senders) in [(1.0, 10), (1.0, 50), (4.0, 10), (4.0, 50)] {
        for control in Congestion::ALL {
            let report = run(&Setup {
                seed,
                ..crowd(control, senders, products)
            })?;
            let lost: f64 = report.flows.iter().map(|f| f.lost * f.goodput).sum();
            let _ = writeln!(
                out,
                "| {products} | {senders} | {control} | {:.1} Mbit/s | {:.1} % | {:.3} | {:.1} ms |",
                report.total() / 1e6,
                lost * 100.0 / report.total().max(1.0),
                report.fairness(),
                report.wait.0.as_secs_f64() * 1e3
            );
        }
    }
    Ok(out)
}

fn late_comers(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| queue, round trips | begins after | 40 % of the rate after | Jain's index of 60 s | wait: mean |\n|---|---|---|---|---|\n",
    );
    for products in [0.25, 1.0, 4.0] {
        for after in [ms(500), secs(3), secs(10), secs(20)] {
            let setup = Setup {
                seed,
                ..late(Bbr, after, products)
            };
            let report = run(&setup)?;
            let there = report.flows[1].reaches_over(secs(1), 0.4 * setup.rate as f64, after);
            let _ = writeln!(
                out,
                "| {products} | {:.1} s | {} | {:.3} | {:.1} ms |",
                after.as_secs_f64(),
                seconds(there),
                report.fairness(),
                report.wait.0.as_secs_f64() * 1e3
            );
        }
    }
    Ok(out)
}
