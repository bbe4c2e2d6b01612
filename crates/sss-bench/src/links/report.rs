//! Rows and tables of what was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use super::arrivals::median;
use super::curves::Curves;
use super::flow::{Ended, Sort};
use super::{Case, Seen, WARM};
use crate::outcome::Outcome;

/// Part of the rate that a transfer has reached when it is under way.
const UNDER_WAY: f64 = 0.9;

/// One that was alone on a link.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Alone {
    link: String,
    kind: &'static str,
    /// Content, in Mbit/s, without the first seconds.
    goodput: f64,
    /// The same as a part of what the link carries, in percents.
    share: f64,
    /// Seconds from the beginning until 90 % of the rate.
    start: Option<f64>,
    /// Packets that found the queue full, of all transfers and in percents of all packets.
    dropped: u64,
    dropped_share: f64,
    /// Median of what small packets waited in the queue, in milliseconds.
    waited: f64,
    #[serde(skip)]
    pub(super) curves: Curves,
}

/// Two that shared a link.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Both {
    link: String,
    first: &'static str,
    second: &'static str,
    /// Part of the content that was the first's, in percents.
    share: f64,
    /// Both together, in Mbit/s.
    goodput: f64,
    /// Fairness (Jain, 1984).
    jain: f64,
    dropped_share: f64,
    waited: f64,
    #[serde(skip)]
    pub(super) curves: Curves,
}

impl Alone {
    pub(super) fn of(case: Case, sort: Sort, seen: &Seen, end: Duration) -> Self {
        let rate = case.bits_per_second();
        let flow = seen.flows.first();
        let goodput = flow.map_or(0.0, |flow| flow.arrivals.rate(WARM..end));
        let start = flow.and_then(|flow: &Ended| {
            let reached = flow.arrivals.reached(rate * UNDER_WAY)?;
            Some(reached.saturating_sub(flow.begun).as_secs_f64())
        });
        Self {
            link: case.to_string(),
            kind: sort.name(),
            goodput: goodput / 1e6,
            share: goodput / rate * 100.0,
            start,
            dropped: seen.dropped,
            dropped_share: percents(seen.dropped, seen.packets),
            waited: seen.waited.as_secs_f64() * 1e3,
            curves: Curves::of(case, &[sort], seen, end),
        }
    }
}

impl Both {
    pub(super) fn of(case: Case, (first, second): (Sort, Sort), seen: &Seen, time: Range<Duration>) -> Self {
        let rates: Vec<f64> = seen.flows.iter().map(|flow| flow.arrivals.rate(time.clone())).collect();
        let sum: f64 = rates.iter().sum();
        let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
        Self {
            link: case.to_string(),
            first: first.name(),
            second: second.name(),
            share: rates.first().copied().unwrap_or_default() / sum.max(1.0) * 100.0,
            goodput: sum / 1e6,
            jain: sum * sum / (rates.len() as f64 * squares).max(1.0),
            dropped_share: percents(seen.dropped, seen.packets),
            waited: seen.waited.as_secs_f64() * 1e3,
            curves: Curves::of(case, &[first, second], seen, time.end),
        }
    }
}

fn percents(part: u64, of: u64) -> f64 {
    part as f64 / (of.max(1) as f64) * 100.0
}

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start.map_or("-".to_owned(), |start| format!("{start:.2}"));
        write!(
            f,
            "| {} | {} | {:.2} | {:.1} | {start} | {} ({:.2} %) | {:.1} |",
            self.link, self.kind, self.goodput, self.share, self.dropped, self.dropped_share, self.waited
        )
    }
}

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {} | {:.1} | {:.2} | {:.3} | {:.2} | {:.1} |",
            self.link, self.first, self.second, self.share, self.goodput, self.jain, self.dropped_share, self.waited
        )
    }
}

/// Rows of the same link and kinds, in the order in which they came first.
fn together<T: Clone, K: Ord + Clone>(rows: &[T], key: impl Fn(&T) -> K) -> Vec<Vec<T>> {
    let mut order = Vec::new();
    let mut groups = BTreeMap::<K, Vec<T>>::new();
    for row in rows {
        let key = key(row);
        if !groups.contains_key(&key) {
            order.push(key.clone());
        }
        groups.entry(key).or_default().push(row.clone());
    }
    order.iter().filter_map(|key| groups.remove(key)).collect()
}

fn middle<T>(rows: &[T], of: impl Fn(&T) -> f64) -> f64 {
    median(rows.iter().map(of).collect())
}

/// Table of medians over the rounds.
pub(super) fn alone(rows: &[Alone]) -> String {
    let mut text = String::from(
        "| link | transfer | Mbit/s | % of the rate | 90 % after s | dropped | queue ms |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    for rows in together(rows, |row| (row.link.clone(), row.kind)) {
        let Some(mut row) = rows.first().cloned() else { continue };
        row.goodput = middle(&rows, |row| row.goodput);
        row.share = middle(&rows, |row| row.share);
        // One that has never come so far is slower than all.
        let start = middle(&rows, |row| row.start.unwrap_or(f64::MAX));
        row.start = (start < f64::MAX).then_some(start);
        row.dropped = median(rows.iter().map(|row| row.dropped).collect());
        row.dropped_share = middle(&rows, |row| row.dropped_share);
        row.waited = middle(&rows, |row| row.waited);
        text.push_str(&format!("{row}\n"));
    }
    text
}

/// Table of means over the rounds, with the interval of 95 % of the mean share of the first (normal), and the least and
/// the largest share.
pub(super) fn both(rows: &[Both]) -> String {
    let mut text = String::from(
        "| link | first | second | rounds | % for the first | +- (95 %) | least to most | Mbit/s | Jain | dropped % | queue ms |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for rows in together(rows, |row| (row.link.clone(), row.first, row.second)) {
        let Some(row) = rows.first() else { continue };
        let mean = |of: fn(&Both) -> f64| rows.iter().map(of).sum::<f64>() / rows.len() as f64;
        let shares = rows.iter().map(|row| row.share);
        let error = interval(shares.clone());
        let (least, most) = (shares.clone().fold(f64::MAX, f64::min), shares.fold(0.0, f64::max));
        text.push_str(&format!(
            "| {} | {} | {} | {} | {:.1} | {error} | {least:.0} to {most:.0} | {:.2} | {:.3} | {:.2} | {:.1} |\n",
            row.link,
            row.first,
            row.second,
            rows.len(),
            mean(|row| row.share),
            mean(|row| row.goodput),
            mean(|row| row.jain),
            mean(|row| row.dropped_share),
            mean(|row| row.waited),
        ));
    }
    text
}

/// Half of the interval of 95 % of a mean; a dash for one value, which tells nothing of that.
fn interval(values: impl ExactSizeIterator<Item = f64> + Clone) -> String {
    match values.len() {
        0 | 1 => "-".to_owned(),
        _ => format!("{:.1}", 1.96 * standard_error(values)),
    }
}

/// The standard error of the mean of two values or more.
fn standard_error(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let n = values.len() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    (squares / (n - 1.0) / n).sqrt()
}

/// All rows of all rounds.
pub(super) fn json(alone: &[Alone], both: &[Both]) -> Outcome<String> {
    let all = serde_json::json!({ "alone": alone, "shared": both });
    Ok(serde_json::to_string_pretty(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(link: &str, goodput: f64, start: Option<f64>) -> Alone {
        Alone {
            link: link.to_owned(),
            kind: "SSS BBR",
            goodput,
            share: goodput,
            start,
            dropped: 1,
            dropped_share: 0.5,
            waited: 2.0,
            curves: Curves::default(),
        }
    }

    #[test]
    fn an_interval_is_that_of_the_mean_of_several() {
        assert_eq!(interval([47.0].into_iter()), "-");
        // Deviations of 3 each: a standard error of 3 * sqrt(4 / 3 / 4).
        assert_eq!(interval([44.0, 50.0, 44.0, 50.0].into_iter()), "3.4");
    }

    #[test]
    fn rounds_become_medians_in_the_order_of_the_first_round() {
        let rows = [
            row("b", 1.0, Some(1.0)),
            row("a", 9.0, None),
            row("b", 3.0, None),
            row("b", 2.0, Some(0.5)),
        ];
        let table = alone(&rows);
        let lines: Vec<_> = table.lines().skip(2).collect();
        let b = "| b | SSS BBR | 2.00 | 2.0 | 1.00 | 1 (0.50 %) | 2.0 |";
        let a = "| a | SSS BBR | 9.00 | 9.0 | - | 1 (0.50 %) | 2.0 |";
        assert_eq!(lines, [b, a]);
    }
}
