//! Rates, times and sizes as people write them on a command line.

use std::time::Duration;

/// Bits per second: `20M`, `1.5G`, `64k`, `9600`.
///
/// # Errors
/// If the text is no number with an optional suffix.
pub fn rate(text: &str) -> Result<u64, String> {
    scaled(
        text,
        &[("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)],
        "a rate like 20M or 1.5G (bits per second)",
    )
}

/// Bytes: `125000`, `64k`, `1M`, in powers of 1000.
///
/// # Errors
/// If the text is no number with an optional suffix.
pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(
        text,
        &[("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)],
        "a size like 125000 or 64k (bytes)",
    )
}

/// Times: `50ms`, `10s`, `200us`.
///
/// # Errors
/// If the text is no number with a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    scaled(text, &units, "a time like 50ms or 10s").map(Duration::from_nanos)
}

/// A probability from 0 to 1: `0.01`, `1%`.
///
/// # Errors
/// If the text is no such number.
pub fn probability(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 0.01));
    let value = number.parse::<f64>().ok().map(|v| v * scale);
    value
        .filter(|v| (0.0..=1.0).contains(v))
        .ok_or_else(|| format!("{text:?} is not a probability like 0.01 or 1%"))
}

fn scaled(text: &str, units: &[(&str, f64)], wanted: &str) -> Result<u64, String> {
    let found = units.iter().find_map(|(suffix, scale)| {
        let number = text.strip_suffix(suffix)?.parse::<f64>().ok()?;
        Some(number * scale)
    });
    match found {
        Some(value) if value.is_finite() && (0.0..1e18).contains(&value) => Ok(value as u64),
        _ => Err(format!("{text:?} is not {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(rate("20M"), Ok(20_000_000));
        assert_eq!(rate("1.5G"), Ok(1_500_000_000));
        assert_eq!(bytes("125000"), Ok(125_000));
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(probability("1%"), Ok(0.01));
        assert!(rate("fast").unwrap_err().contains("20M"));
        assert!(duration("50").is_err());
        assert!(probability("1.5").is_err());
    }
}
