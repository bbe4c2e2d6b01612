//! Cost of a request: 100 in flight, and one after another.

use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use sss::Stream;
use tokio::task::JoinSet;

use super::holder::Ask;
use super::session::{Session, exchange};
use crate::outcome::Outcome;
use crate::stats::{Latencies, Quantiles};

/// Requests in flight.
const CALLERS: usize = 100;

/// Costs of requests of 100 bytes with responses of 100 bytes.
pub(super) struct Calls {
    per_second: f64,
    /// CPU time of both processes, in microseconds.
    cpu: f64,
    /// Latency of one at a time.
    alone: Quantiles,
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} /s with {CALLERS} in flight, CPU {:.2} us each; one at a time p50 {:.0}, p99 {:.0} us",
            self.per_second, self.cpu, self.alone.p50, self.alone.p99
        )
    }
}

impl Session {
    /// Measures requests on substreams of a stream, for `seconds` each.
    pub(super) async fn calls(&self, parent: Rc<Stream>, seconds: f64) -> Outcome<Calls> {
        // To warm up.
        run(&parent, CALLERS, seconds / 4.0).await?;
        let before = self.usage().await?;
        let many = run(&parent, CALLERS, seconds).await?;
        let used = self.usage().await?.since(&before);
        let cpu = used.client.cpu_seconds() + used.server.cpu_seconds();
        let alone = run(&parent, 1, seconds).await?;
        Ok(Calls {
            per_second: many.count as f64 / many.seconds,
            cpu: 1e6 * cpu / many.count as f64,
            alone: alone.latencies.quantiles(),
        })
    }
}

struct Done {
    count: usize,
    seconds: f64,
    latencies: Latencies,
}

async fn run(parent: &Rc<Stream>, callers: usize, seconds: f64) -> Outcome<Done> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let parent = Rc::clone(parent);
        tasks.spawn_local(async move {
            let (mut latencies, mut count) = (Latencies::default(), 0);
            while begun.elapsed().as_secs_f64() < seconds {
                let asked = Instant::now();
                exchange(&parent, Ask::Call).await?;
                latencies.record(asked.elapsed().as_nanos());
                count += 1;
            }
            Outcome::Ok((latencies, count))
        });
    }
    let mut done = Done {
        count: 0,
        seconds: 0.0,
        latencies: Latencies::default(),
    };
    while let Some(ended) = tasks.join_next().await {
        let (latencies, count) = ended??;
        done.latencies.append(latencies);
        done.count += count;
    }
    done.seconds = begun.elapsed().as_secs_f64();
    Ok(done)
}
