//! The pace of a flood.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Pause between two bursts of a flood.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

/// Span of time of an attack, which may be told to end before.
pub(crate) struct Span {
    end: Instant,
    stop: Stop,
}

impl Span {
    /// The span that begins now, and takes so long.
    pub(crate) fn new(time: Duration, stop: Stop) -> Self {
        let end = Instant::now() + time;
        Self { end, stop }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.stop.0.load(Ordering::Relaxed)
    }
}

/// Means to end an attack on clients before its time. Clones end the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends it, within some milliseconds.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The pace of packets of which there are so many a second, at most.
pub(crate) struct Pace {
    rate: f64,
    begun: Instant,
    done: f64,
}

impl Pace {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate: rate.into(),
            begun: Instant::now(),
            done: 0.0,
        }
    }

    /// Returns how many packets are due. What the machine had no time for is not made up for.
    pub(crate) fn burst(&mut self) -> u64 {
        let due = self.begun.elapsed().as_secs_f64() * self.rate;
        let most = (self.rate * PAUSE.as_secs_f64() * 4.0).max(1.0);
        let burst = (due - self.done).clamp(0.0, most).ceil();
        self.done = due;
        burst as u64
    }
}
