//! Results of runs: read, counted, with intervals and medians.

use std::fs;

use serde_json::{Value, json};

use super::running::Failure;

/// The results of this link that a file has, each a line. There are none if there is no file.
pub(super) fn recorded(file: &str, link: &[String]) -> Result<Vec<Value>, Failure> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    Ok(lines.into_iter().filter(|line| line["link"] == json!(link)).collect())
}

/// The interval of 95 % for a share (Wilson, 1927).
pub(super) fn interval(hits: usize, of: usize) -> (f64, f64) {
    let (n, z) = (of as f64, 1.96_f64);
    let share = hits as f64 / n;
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0) * 100.0, (middle + half).min(1.0) * 100.0)
}

/// The median, the higher of two.
pub(super) fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}
