//! The tables of `docs/experiments/congestion.md`.

use std::fmt::Write;
use std::time::Duration;

use sss_proto::Congestion;

use super::{Change, Report, Setup, run};
use crate::link::Blackout;

const MBIT: u64 = 1_000_000;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn percent(part: f64, whole: f64) -> f64 {
    part * 100.0 / whole
}

/// All tables, in Markdown.
///
/// # Errors
/// If one of the worlds fails.
pub fn all(seed: u64) -> Result<String, String> {
    let tables = [single, jitter, sharing, blackout, steps];
    tables
        .iter()
        .map(|table| table(seed))
        .collect::<Result<Vec<_>, _>>()
        .map(|tables| tables.join("\n"))
}

/// One sender, with loss by chance and queues of several lengths.
fn single(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| rate | queue, round trips | loss by chance | control | goodput | of the rate | packets lost | wait at the bottleneck: mean / most |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let paths = [
        (20, 1.0, 0.0),
        (20, 1.0, 0.01),
        (20, 1.0, 0.05),
        (100, 1.0, 0.0),
        (100, 1.0, 0.01),
        (100, 1.0, 0.05),
        (20, 0.25, 0.0),
        (100, 0.25, 0.0),
        (20, 4.0, 0.0),
    ];
    for (rate, products, loss) in paths {
        for control in Congestion::ALL {
            let setup = Setup {
                seed,
                loss,
                ..Setup::single(control, rate * MBIT, products)
            };
            let report = run(&setup)?;
            let _ = writeln!(
                out,
                "| {rate} Mbit/s | {products} | {} % | {control} | {:.1} Mbit/s | {:.1} % | {:.2} % | {:.1} / {:.1} ms |",
                loss * 100.0,
                report.total() / 1e6,
                percent(report.total(), setup.rate as f64),
                report.flows.iter().map(|f| f.lost).sum::<f64>() * 100.0,
                ms(report.wait.0),
                ms(report.wait.1),
            );
        }
    }
    Ok(out)
}

/// One sender whose packets are lost by chance, and take longer by chance.
fn jitter(seed: u64) -> Result<String, String> {
    let mut out = String::from("| jitter each way | control | goodput | of the rate |\n|---|---|---|---|\n");
    for millis in [0, 2, 5, 10, 20] {
        for control in Congestion::ALL {
            let setup = Setup {
                seed,
                loss: 0.05,
                jitter: Duration::from_millis(millis),
                ..Setup::single(control, 20 * MBIT, 1.0)
            };
            let total = run(&setup)?.total();
            let (rate, share) = (total / 1e6, percent(total, setup.rate as f64));
            let _ = writeln!(
                out,
                "| 0 to {millis} ms | {control} | {rate:.1} Mbit/s | {share:.1} % |"
            );
        }
    }
    Ok(out)
}

/// Senders that share a bottleneck.
fn sharing(seed: u64) -> Result<String, String> {
    use Congestion::{Bbr, Cubic};
    let mut out = String::from(
        "| queue, round trips | senders | goodput of each | together, of the rate | Jain's index | packets lost | wait: mean |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let groups: [&[Congestion]; 5] = [&[Cubic; 2], &[Bbr; 2], &[Bbr; 4], &[Bbr, Cubic], &[Cubic, Bbr]];
    for products in [0.5, 1.0, 4.0] {
        for controls in groups {
            let setup = Setup {
                seed,
                from: secs(30),
                until: secs(60),
                ..Setup::single(Cubic, 20 * MBIT, products).shared(controls, secs(3))
            };
            let report = run(&setup)?;
            let each = |f: fn(&super::FlowReport) -> String| report.flows.iter().map(f).collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                out,
                "| {products} | {} | {} Mbit/s | {:.1} % | {:.3} | {} % | {:.1} ms |",
                each(|f| f.control.to_string()),
                each(|f| format!("{:.1}", f.goodput / 1e6)),
                percent(report.total(), setup.rate as f64),
                report.fairness(),
                each(|f| format!("{:.2}", f.lost * 100.0)),
                ms(report.wait.0),
            );
        }
    }
    Ok(out)
}

fn reached(report: &Report, rate: f64, since: Duration) -> String {
    let time = report.flows.first().and_then(|f| f.reaches(rate, since));
    time.map_or("not".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}

/// A path that is dark for a time.
fn blackout(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| dark for | control | 80 % of the rate again after | second to tenth second after, of the rate |\n|---|---|---|---|\n",
    );
    for dark in [1, 5, 20] {
        for control in Congestion::ALL {
            let end = secs(10 + dark);
            let setup = Setup {
                seed,
                blackouts: vec![Blackout {
                    from: secs(10),
                    until: end,
                }],
                until: end + secs(12),
                ..Setup::single(control, 20 * MBIT, 1.0)
            };
            let report = run(&setup)?;
            let rate = setup.rate as f64;
            let later = report
                .flows
                .iter()
                .map(|f| f.rate(end + secs(2), end + secs(10)))
                .sum::<f64>();
            let again = reached(&report, 0.8 * rate, end);
            let _ = writeln!(
                out,
                "| {dark} s | {control} | {again} | {:.1} % |",
                percent(later, rate)
            );
        }
    }
    Ok(out)
}

/// A path that becomes slower, and fast again.
fn steps(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| control | at 100 Mbit/s | 80 % of 10 Mbit/s after | at 10 Mbit/s, fifth to fifteenth second | packets lost | 80 % of 100 Mbit/s after | at 100 Mbit/s, fifth to fifteenth second |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for control in Congestion::ALL {
        let setup = Setup {
            seed,
            changes: vec![
                (secs(10), Change::Rate(10 * MBIT)),
                (secs(30), Change::Rate(100 * MBIT)),
            ],
            from: secs(10),
            until: secs(50),
            ..Setup::single(control, 100 * MBIT, 1.0)
        };
        let report = run(&setup)?;
        let at = |from, until| {
            report
                .flows
                .iter()
                .map(|f| f.rate(secs(from), secs(until)))
                .sum::<f64>()
                / 1e6
        };
        let _ = writeln!(
            out,
            "| {control} | {:.1} % | {} | {:.1} % | {:.2} % | {} | {:.1} % |",
            at(5, 10),
            reached(&report, 8e6, secs(10)),
            at(15, 25) * 10.0,
            report.flows.iter().map(|f| f.lost).sum::<f64>() * 100.0,
            reached(&report, 80e6, secs(30)),
            at(35, 45),
        );
    }
    Ok(out)
}
