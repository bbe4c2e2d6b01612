//! Channels over a path that an earlier one has found out about (REC-15 to REC-17).

use std::fmt::Write;
use std::time::Duration;

use sss_proto::{Congestion, ResumeState};

use super::links::{MBIT, START, ms, seconds, secs, single};
use super::{Change, Report, Setup, run};

/// The first connection ends then, and the next begins so much later.
pub const END: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// Return of a sender to a path.
#[derive(Clone, Copy, Debug)]
pub enum Return {
    /// With another connection, after a pause in which the path may have changed.
    Anew(Option<Change>),
    /// With another channel of the same tree of streams.
    Renewed,
}

/// Results of the second channel.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From its beginning until it had 90 % of the rate over 200 ms.
    pub reached: Option<Duration>,
    /// Goodput of the three seconds from its beginning on, in bits per second.
    pub begun: f64,
    /// Datagrams for which the queue had no room, in the five seconds from its beginning on.
    pub overflowed: u64,
    /// Use that it made of what was known.
    pub state: ResumeState,
}

/// The path that a sender returns to: bits per second, the round trip, and the queue in round trips.
pub type Way = (u64, Duration, f64);

/// Plays a return.
///
/// # Errors
/// If the world does not come to rest, or a channel is lost.
pub fn play(control: Congestion, way: Way, back: Return, (resumes, seed): (bool, u64)) -> Result<Outcome, String> {
    let mut setup = Setup {
        seed,
        from: secs(1),
        ..single(control, (way.0, way.1), way.2)
    };
    let since = match back {
        Return::Renewed => END,
        Return::Anew(_) => END + PAUSE,
    };
    let mut rate = way.0 as f64;
    for sender in &mut setup.senders {
        sender.resumes = resumes;
        sender.renew = matches!(back, Return::Renewed).then_some(END);
    }
    if let Return::Anew(change) = back {
        setup.changes.push((END, Change::Anew(PAUSE)));
        setup.changes.extend(change.map(|change| (END + PAUSE / 2, change)));
        if let Some(Change::Rate(slower)) = change {
            rate = slower as f64;
        }
    }
    let until = |until| -> Result<Report, String> { run(&Setup { until, ..setup.clone() }) };
    let (before, after) = (until(since)?, until(since + secs(5))?);
    let flow = &after.flows[0];
    Ok(Outcome {
        reached: flow.reaches_over(START, 0.9 * rate, since),
        begun: flow.rate(since, since + secs(3)),
        overflowed: after.overflowed - before.overflowed,
        state: flow.channel.as_ref().map(|channel| channel.resume).unwrap_or_default(),
    })
}

/// The table of `docs/experiments/links.md`.
pub(super) fn table(seed: u64) -> Result<String, String> {
    let mut out = String::from(
        "| path | second channel | control | resumes | 90 % after | goodput of 3 s | overflowed in 5 s | state |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let (wide, narrow) = ((100 * MBIT, ms(100), 1.0), (20 * MBIT, ms(50), 0.25));
    let short = (wide.0, wide.1, 0.1);
    for (way, name, back) in [
        (wide, "another connection", Return::Anew(None)),
        (wide, "renewed", Return::Renewed),
        (narrow, "another connection", Return::Anew(None)),
        (narrow, "renewed", Return::Renewed),
        (
            short,
            "another connection, a tenth of the rate",
            Return::Anew(Some(Change::Rate(10 * MBIT))),
        ),
        (
            short,
            "another connection, a third of the rate",
            Return::Anew(Some(Change::Rate(33 * MBIT))),
        ),
        (
            wide,
            "another connection, a third of the round trip",
            Return::Anew(Some(Change::Rtt(ms(33)))),
        ),
    ] {
        for control in Congestion::ALL {
            for resumes in [false, true] {
                let outcome = play(control, way, back, (resumes, seed))?;
                let _ = writeln!(
                    out,
                    "| {} Mbit/s, {} ms, {} | {name} | {control} | {} | {} | {:.1} Mbit/s | {} | {:?} |",
                    way.0 / MBIT,
                    way.1.as_millis(),
                    way.2,
                    if resumes { "yes" } else { "no" },
                    match back {
                        Return::Renewed => "-".to_owned(),
                        Return::Anew(_) => seconds(outcome.reached),
                    },
                    outcome.begun / 1e6,
                    outcome.overflowed,
                    outcome.state,
                );
            }
        }
    }
    Ok(out)
}
