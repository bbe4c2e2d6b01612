//! Arrivals: bytes, by when they came.

use std::ops::Range;
use std::time::Duration;

/// Width of a bin.
const BIN: Duration = Duration::from_millis(20);
/// Time over which a rate is taken, in bins.
const WINDOW: usize = 5;

/// Bytes that arrived, in bins of 20 ms since the start of the measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals(Vec<u64>);

impl Arrivals {
    pub(super) fn note(&mut self, at: Duration, bytes: usize) {
        let bin = bin(at);
        if self.0.len() <= bin {
            self.0.resize(bin + 1, 0);
        }
        if let Some(there) = self.0.get_mut(bin) {
            *there += bytes as u64;
        }
    }

    /// Bits a second in this time.
    pub(super) fn rate(&self, time: Range<Duration>) -> f64 {
        let bins = bin(time.start)..bin(time.end);
        let seconds = bins.len() as f64 * BIN.as_secs_f64();
        let bytes: u64 = self.0.iter().skip(bins.start).take(bins.len()).sum();
        bytes as f64 * 8.0 / seconds.max(f64::MIN_POSITIVE)
    }

    /// The first instant at the end of 100 ms with at least this rate.
    pub(super) fn reached(&self, bits_per_second: f64) -> Option<Duration> {
        let wanted = bits_per_second / 8.0 * BIN.as_secs_f64() * WINDOW as f64;
        let mut windows = self.0.windows(WINDOW);
        let at = windows.position(|window| window.iter().sum::<u64>() as f64 >= wanted)?;
        u32::try_from(at + WINDOW).ok().map(|bins| BIN * bins)
    }
}

fn bin(at: Duration) -> usize {
    usize::try_from(at.as_nanos() / BIN.as_nanos()).unwrap_or(usize::MAX)
}

/// The median; zero of nothing.
pub(super) fn median<T: Copy + PartialOrd + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_their_beginning_are_read_from_bins() {
        let mut arrivals = Arrivals::default();
        for at in 0..50 {
            // Nothing for 200 ms, then 1000 bytes each 20 ms: 400 kbit/s.
            if at >= 10 {
                arrivals.note(BIN * at, 1000);
            }
        }
        let whole = arrivals.rate(Duration::from_millis(200)..Duration::from_millis(1000));
        assert!((whole - 400_000.0).abs() < 1.0, "{whole}");
        assert_eq!(arrivals.reached(399_000.0), Some(Duration::from_millis(300)));
        assert_eq!(arrivals.reached(401_000.0), None);
        assert_eq!(Arrivals::default().reached(1.0), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![5, 1, 3]), 3);
        assert_eq!(median(Vec::<u32>::new()), 0);
    }
}
