//! Rates, sizes, shares and times as people write them.

use std::time::Duration;

use crate::error::Error;

/// A time with its unit: `25ms`, `1.5s`, `300us`. `0` needs none.
pub(crate) fn duration(text: &str) -> Result<Duration, Error> {
    let scale = |unit: &str| match unit {
        "us" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        _ => None,
    };
    let seconds = match split(text) {
        Some((0.0, "")) => Some(0.0),
        Some((number, unit)) => scale(unit).map(|scale| number * scale),
        None => None,
    };
    seconds
        .filter(|s| (0.0..=3600.0).contains(s))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| Error::Description(format!("{text:?} is no time: 25ms, 1.5s or 300us, at most an hour")))
}

/// A share of all packets: `1%` or `0.01`.
pub(crate) fn share(text: &str) -> Result<f64, Error> {
    let share = match split(text) {
        Some((number, "%")) => Some(number / 100.0),
        Some((number, "")) => Some(number),
        _ => None,
    };
    share
        .filter(|s| (0.0..=1.0).contains(s))
        .ok_or_else(|| Error::Description(format!("{text:?} is no share: 1% or 0.01, from 0 to 1")))
}

/// Bits in a second: `20M`, `1.5M`, `300k`, `1G`.
pub(crate) fn rate(text: &str) -> Result<u64, Error> {
    let rate = scaled(text).filter(|rate| (1e3..=1e12).contains(rate));
    rate.map(|rate| rate as u64).ok_or_else(|| {
        Error::Description(format!(
            "{text:?} is no rate: 20M, 300k or 1G bits in a second, 1k at least"
        ))
    })
}

/// Bytes: `125000`, `125k`, `1M`.
pub(crate) fn bytes(text: &str) -> Result<usize, Error> {
    let bytes = scaled(text).filter(|bytes| (0.0..=1e9).contains(bytes));
    bytes.map(|bytes| bytes as usize).ok_or_else(|| {
        Error::Description(format!(
            "{text:?} is no number of bytes: 125000, 125k or 1M, at most 1G"
        ))
    })
}

fn scaled(text: &str) -> Option<f64> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return None,
    };
    Some(number * scale)
}

/// The number at the beginning, and the unit behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(duration("25ms").unwrap(), Duration::from_millis(25));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        assert_eq!(share("1%").unwrap(), 0.01);
        assert_eq!(share("0.25").unwrap(), 0.25);
        assert_eq!(rate("1.5M").unwrap(), 1_500_000);
        assert_eq!(bytes("125k").unwrap(), 125_000);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "25", "ms", "-1ms", "1h", "2e9s", "1.2.3s", "99999s", "NaN"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "101%", "2", "-1%", "1%%"] {
            assert!(share(text).is_err(), "{text}");
        }
        for text in ["", "0", "12", "5T", "20 M"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert!(bytes("2G").is_err());
    }
}
