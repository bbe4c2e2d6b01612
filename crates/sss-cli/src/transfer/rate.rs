//! A limit on how fast a transfer goes.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Pieces that a second's worth of bytes is divided into, so that a slow transfer is slow and not in fits.
const PIECES: u64 = 8;
/// Smallest piece, in bytes.
const LEAST: u64 = 4096;
/// Time for which bytes that were not used may be used later.
const BURST: Duration = Duration::from_millis(250);

/// Bytes per second: at least 1 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl Rate {
    /// Bytes per second.
    pub(crate) fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// Bytes to move at a time.
    pub(crate) fn piece(self) -> u64 {
        (self.0 / PIECES).max(LEAST)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate: write bytes per second, such as 500K, 2M or 1.5M (K: 1024)");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
        let factor: f64 = match unit.as_str() {
            "" => 1.0,
            "K" | "KIB" => 1024.0,
            "M" | "MIB" => 1_048_576.0,
            "G" | "GIB" => 1_073_741_824.0,
            _ => return Err(wrong()),
        };
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        let bytes = number * factor;
        if !(0.0..1e15).contains(&bytes) {
            return Err(wrong());
        }
        if bytes < 1024.0 {
            return Err(format!("{text:?} is too slow: at least 1K"));
        }
        Ok(Self(bytes as u64))
    }
}

/// Bytes are taken from it before they are moved; they come in at a rate.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: Rate,
    /// Time at which all that was taken has come in.
    due: Mutex<Instant>,
}

impl Limiter {
    /// Nothing has been taken.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            due: Mutex::new(Instant::now()),
        }
    }

    /// The rate.
    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Waits until so many bytes may be moved. Who asks first is served first.
    ///
    /// Not cancel safe: what was asked for counts as moved.
    pub(crate) async fn take(&self, bytes: u64) {
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let since = now.checked_sub(BURST).unwrap_or(now);
            let cost = Duration::from_secs_f64(bytes as f64 / self.rate.0 as f64);
            *due = (*due).max(since) + cost;
            *due
        };
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, bytes) in [
            ("2048", 2048),
            ("500K", 512_000),
            ("500k", 512_000),
            ("1.5M", 1_572_864),
            ("2MiB", 2_097_152),
            ("1g", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
        for bad in ["", "K", "0", "1", "-5K", "5X", "1e9Q", "inf", "NaN", "1e300", "5 K"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn bytes_come_in_at_the_rate_whoever_takes_them() {
        let limiter = std::sync::Arc::new(Limiter::new(Rate(1_000_000)));
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let limiter = limiter.clone();
            tasks.spawn(async move {
                for _ in 0..5 {
                    limiter.take(20_000).await;
                }
            });
        }
        tasks.join_all().await;
        assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
        // What was not used for long is not made up for.
        tokio::time::sleep(BURST * 2).await;
        let begun = Instant::now();
        limiter.take(1_000_000).await;
        assert!(begun.elapsed() >= Duration::from_millis(740), "{:?}", begun.elapsed());
    }
}
