//! The pace of a flood.

use std::time::{Duration, Instant};

/// Pause between two bursts of a flood.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);

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
