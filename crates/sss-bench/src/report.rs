//! Medians over the rounds, ratios, tables.

mod machine;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::setup::{Backend, Family, Workload};
use crate::stats::median;
use crate::workloads::Metric;
use table::Table;

/// A measurement that failed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failed {
    pub(crate) workload: String,
    pub(crate) backend: String,
    pub(crate) why: String,
}

/// Everything measured so far.
pub(crate) struct Report {
    rounds: BTreeMap<(Workload, Backend), Vec<Vec<Metric>>>,
    failures: Vec<Failed>,
}

/// The groups of peers that libsss is compared with, and how they are called.
const PEERS: [(Family, &str); 3] = [
    (Family::Quinn, "best quinn on defaults"),
    (Family::QuinnTuned, "best quinn tuned"),
    (Family::Yamux, "best TCP + TLS + yamux"),
];

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            rounds: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Adds the result of one measurement.
    pub(crate) fn add(&mut self, workload: Workload, backend: Backend, metrics: Vec<Metric>) {
        self.rounds.entry((workload, backend)).or_default().push(metrics);
    }

    /// Notes a measurement that failed.
    pub(crate) fn fail(&mut self, failed: Failed) {
        self.failures.push(failed);
    }

    /// Returns whether nothing failed.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// The whole report as text.
    pub(crate) fn text(&self, markdown: bool) -> String {
        let heading = |title: &str| {
            if markdown {
                format!("\n## {title}\n\n")
            } else {
                format!("\n{title}\n")
            }
        };
        let mut text = machine::description();
        for workload in self.workloads() {
            text += &heading(&workload.name());
            text += &self.table(workload).render(markdown);
        }
        let ratios = self.ratios();
        if !ratios.is_empty() {
            text += &heading("libsss against its peers (above 1: libsss is better)");
            text += &ratios.render(markdown);
        }
        for failed in &self.failures {
            text += &format!("\nFAILED: {} {}: {}\n", failed.workload, failed.backend, failed.why);
        }
        text
    }

    /// The whole report for machines.
    pub(crate) fn json(&self) -> Value {
        let results = self.rounds.iter().map(|((workload, backend), rounds)| {
            json!({
                "workload": workload.name(),
                "backend": backend.name(),
                "medians": medians(rounds),
                "rounds": rounds,
            })
        });
        json!({
            "machine": machine::facts(),
            "results": results.collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }

    fn workloads(&self) -> Vec<Workload> {
        let mut all: Vec<Workload> = self.rounds.keys().map(|(workload, _)| *workload).collect();
        all.dedup();
        all
    }

    /// Medians of the backends that have results of a workload.
    fn rows(&self, workload: Workload) -> Vec<(Backend, Vec<Metric>)> {
        let of_workload = self.rounds.iter().filter(|((measured, _), _)| *measured == workload);
        of_workload
            .map(|((_, backend), rounds)| (*backend, medians(rounds)))
            .collect()
    }

    fn table(&self, workload: Workload) -> Table {
        let rows = self.rows(workload);
        let best = best(&rows, |backend| !backend.is_sss());
        let mut header = vec!["backend".to_owned()];
        if let Some((_, metrics)) = rows.first() {
            header.extend(metrics.iter().map(|metric| metric.name.clone()));
        }
        header.push("x best peer".to_owned());
        let mut table = Table::new(header);
        for (backend, metrics) in &rows {
            let mut cells = vec![backend.name()];
            cells.extend(metrics.iter().map(|metric| number(metric.value)));
            cells.push(match (metrics.first(), &best) {
                (Some(first), Some(best)) => format!("{:.2}", first.ratio(best)),
                _ => "-".to_owned(),
            });
            table.push(cells);
        }
        table
    }

    /// One row for each workload and libsss backend: its headline number over that of each group of peers.
    fn ratios(&self) -> Table {
        let mut header = vec!["workload".to_owned(), "backend".to_owned(), "metric".to_owned()];
        header.extend(PEERS.iter().map(|(_, name)| format!("x {name}")));
        let mut table = Table::new(header);
        for workload in self.workloads() {
            let rows = self.rows(workload);
            for (backend, metrics) in rows.iter().filter(|(backend, _)| backend.is_sss()) {
                let Some(own) = metrics.first() else { continue };
                let mut cells = vec![workload.name(), backend.name(), own.name.clone()];
                for (family, _) in PEERS {
                    let best = best(&rows, |backend| backend.family() == family);
                    cells.push(best.map_or("-".to_owned(), |best| format!("{:.2}", own.ratio(&best))));
                }
                table.push(cells);
            }
        }
        table
    }
}

/// The best headline metric among the backends that `counts` admits.
fn best(rows: &[(Backend, Vec<Metric>)], counts: impl Fn(Backend) -> bool) -> Option<Metric> {
    let headlines = rows
        .iter()
        .filter(|(backend, _)| counts(*backend))
        .filter_map(|(_, metrics)| metrics.first());
    headlines
        .reduce(|best, metric| if metric.ratio(best) > 1.0 { metric } else { best })
        .cloned()
}

/// The median of each metric over rounds.
fn medians(rounds: &[Vec<Metric>]) -> Vec<Metric> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let metrics = first.iter().enumerate().map(|(index, metric)| Metric {
        value: median(
            rounds
                .iter()
                .filter_map(|round| round.get(index))
                .map(|metric| metric.value)
                .collect(),
        ),
        ..metric.clone()
    });
    metrics.collect()
}

/// All metrics of one measurement on one line.
pub(crate) fn brief(metrics: &[Metric]) -> String {
    let parts: Vec<String> = metrics
        .iter()
        .map(|metric| format!("{} {}", number(metric.value), metric.name))
        .collect();
    parts.join(", ")
}

/// Three significant digits or all digits before the point, with thousands apart.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests;
