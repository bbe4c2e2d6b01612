//! Calls: a request and a response, on a substream each, many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sss::Stream;
use tokio::task::JoinSet;

use crate::commands::ping::{Spread, call};
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::transfer::exchange::TransferError;

/// Calls under way at once.
const AT_ONCE: u32 = 32;
/// Bytes of a request, and of its response.
const BYTES: usize = 100;

/// Makes `count` calls and shows how fast they were.
pub(crate) async fn run(session: Arc<Stream>, count: u32, output: Output) -> Result<(), Error> {
    let begun = Instant::now();
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE.min(count) {
        callers.spawn(caller(session.clone(), next.clone(), count));
    }
    let mut times = Vec::with_capacity(count as usize);
    while let Some(done) = callers.join_next().await {
        match done {
            Ok(called) => times.append(&mut called?),
            Err(error) => {
                return Err(Error::new(
                    Exit::Failed,
                    format!("a task failed: {error}"),
                    "report this as a defect",
                ));
            }
        }
    }
    show(&mut times, begun.elapsed(), output);
    Ok(())
}

async fn caller(session: Arc<Stream>, next: Arc<AtomicU32>, count: u32) -> Result<Vec<Duration>, TransferError> {
    let mut times = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(times);
        }
        let mut request = [0; BYTES];
        let digits = number.to_be_bytes();
        request
            .iter_mut()
            .zip(digits.iter().cycle())
            .for_each(|(to, byte)| *to = *byte);
        times.push(call(session.open_substream()?, &request).await?);
    }
}

fn show(times: &mut [Duration], took: Duration, output: Output) {
    let count = times.len();
    let spread = Spread::of(times);
    let rate = count as f64 / took.as_secs_f64().max(1e-6);
    let mut fact = spread.json("calls");
    fact["count"] = json!(count);
    fact["at_once"] = json!(AT_ONCE);
    fact["bytes"] = json!(BYTES);
    fact["seconds"] = json!(took.as_secs_f64());
    fact["per_second"] = json!(rate);
    let text = format!(
        "{} of {BYTES} bytes and back, a substream each, {AT_ONCE} at once: {rate:.0} per second; {}",
        crate::output::count(count as u64, "call"),
        spread.text()
    );
    output.prose(text, &fact);
}
