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

/// Lowest and highest rate, in bytes per second.
const LOWEST: u64 = 1 << 10;
const HIGHEST: u64 = 900 << 40;

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

/// Reason why a text is no number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBytes {
    Malformed,
    TooLarge,
}

/// A number of bytes, with a fraction and a unit if need be, in any case: K or KiB is 1024, KB 1000, and so on to T.
///
/// # Errors
/// If it is none, or more than fits.
pub(crate) fn bytes(text: &str) -> Result<u64, NoBytes> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
    let (power, base) = match unit.strip_suffix("IB") {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024_u64),
        Some(_) => return Err(NoBytes::Malformed),
        None => match unit.strip_suffix('B') {
            Some(prefix) => (prefix, 1000),
            None => (unit.as_str(), 1024),
        },
    };
    let power = match power {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(NoBytes::Malformed),
    };
    let factor = base.pow(power);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = digits.parse().map_err(|_| NoBytes::Malformed)?;
    if !is_number {
        return Err(NoBytes::Malformed);
    }
    // Whole numbers are exact.
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor).ok_or(NoBytes::TooLarge);
    }
    let bytes = number * factor as f64;
    if bytes >= u64::MAX as f64 {
        return Err(NoBytes::TooLarge);
    }
    Ok(bytes as u64)
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match bytes(text) {
            Ok(bytes) if bytes < LOWEST => Err(format!("{text:?} is too slow: at least 1K")),
            Ok(bytes) if bytes <= HIGHEST => Ok(Self(bytes)),
            Ok(_) | Err(NoBytes::TooLarge) => Err(format!("{text:?} is too fast: at most 900T")),
            Err(NoBytes::Malformed) => Err(format!(
                "{text:?} is no rate: write bytes per second, such as 500K, 2M or 1.5M (K: 1024)"
            )),
        }
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
            ("2kB", 2000),
            ("2kb", 2000),
            ("1.5MB", 1_500_000),
            ("2kib", 2048),
            ("1T", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bytes)), "{text}");
        }
        for bad in [
            "", "K", "0", "1", "-5K", "5X", "1e9Q", "inf", "NaN", "1e300", "5 K", "5iB",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        for fast in ["99999999999G", "901T", "999999999999999999999", "99999999999999.5T"] {
            assert!(fast.parse::<Rate>().unwrap_err().contains("at most 900T"), "{fast}");
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
