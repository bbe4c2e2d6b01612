//! Latencies, quantiles and medians.

use serde::{Deserialize, Serialize};

/// Latencies of single operations in nanoseconds.
#[derive(Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one; above four seconds it counts as four seconds.
    pub(crate) fn record(&mut self, nanoseconds: u128) {
        self.0.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
    }

    /// Adds those of another worker.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The quantiles that reports show.
    pub(crate) fn quantiles(mut self) -> Quantiles {
        self.0.sort_unstable();
        let at = |share: f64| {
            let index = (self.0.len() as f64 * share) as usize;
            let value = self.0.get(index).or(self.0.last());
            value.map_or(0.0, |nanoseconds| f64::from(*nanoseconds) / 1e3)
        };
        Quantiles {
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The median; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut latencies = Latencies::default();
        for value in (1..=1000_u128).rev() {
            latencies.record(value * 1000);
        }
        let mut other = Latencies::default();
        other.record(u128::MAX);
        latencies.append(other);
        assert_eq!(latencies.quantiles(), Quantiles { p50: 501.0, p99: 991.0 });
        assert_eq!(Latencies::default().quantiles(), Quantiles::default());
    }
}
