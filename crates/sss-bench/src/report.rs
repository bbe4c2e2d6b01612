//! Medians over the rounds, ratios, tables.

pub(crate) mod charts;
mod machine;
mod table;

use serde::Serialize;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::setup::{Settings, Workload};
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

/// All rounds of one backend with one workload.
struct Row {
    workload: Workload,
    backend: Backend,
    rounds: Vec<Vec<Metric>>,
}

/// Everything measured so far.
pub(crate) struct Report {
    /// In the order of the table.
    backends: Vec<Backend>,
    lock: &'static str,
    rows: Vec<Row>,
    left_out: Vec<(Workload, Backend, &'static str)>,
    failures: Vec<Failed>,
}

impl Report {
    /// A report about these backends, by a program that was built with these versions.
    pub(crate) fn new(backends: &[Backend], lock: &'static str) -> Self {
        Self {
            backends: backends.to_vec(),
            lock,
            rows: Vec::new(),
            left_out: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Notes that a backend has no result of a workload.
    pub(crate) fn leave_out(&mut self, workload: Workload, backend: Backend, why: &'static str) {
        self.left_out.push((workload, backend, why));
    }

    /// Adds the result of one measurement.
    pub(crate) fn add(&mut self, workload: Workload, backend: Backend, metrics: Vec<Metric>) {
        let same = |row: &&mut Row| row.workload == workload && row.backend == backend;
        match self.rows.iter_mut().find(same) {
            Some(row) => row.rounds.push(metrics),
            None => self.rows.push(Row {
                workload,
                backend,
                rounds: vec![metrics],
            }),
        }
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
        let mut text = machine::description(self.lock, &self.packages());
        for workload in self.workloads() {
            text += &heading(&workload.name());
            text += &self.table(workload).render(markdown);
            text += &self.reasons(workload);
        }
        let ratios = self.ratios();
        if !ratios.is_empty() {
            text += &heading("libsss against its peers of the same settings (above 1: libsss is better)");
            text += &ratios.render(markdown);
        }
        for failed in &self.failures {
            text += &format!("\nFAILED: {} {}: {}\n", failed.workload, failed.backend, failed.why);
        }
        text
    }

    /// The whole report for machines.
    pub(crate) fn json(&self) -> Value {
        let results = self.rows.iter().map(|row| {
            json!({
                "workload": row.workload.name(),
                "backend": row.backend.name,
                "medians": medians(&row.rounds),
                "rounds": row.rounds,
            })
        });
        json!({
            "machine": machine::facts(self.lock, &self.packages()),
            "results": results.collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }

    /// Packages whose versions matter.
    fn packages(&self) -> Vec<&'static str> {
        self.backends
            .iter()
            .flat_map(|backend| backend.packages)
            .copied()
            .collect()
    }

    /// Workloads that were measured, in the order in which they are declared.
    fn workloads(&self) -> Vec<Workload> {
        let mut all: Vec<Workload> = self.rows.iter().map(|row| row.workload).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Results of a workload: all of the default settings, then all tuned ones, each in the order of the table.
    fn rows(&self, workload: Workload) -> Vec<&Row> {
        let of = |backend: &Backend| {
            let same = |row: &&Row| row.workload == workload && row.backend == *backend;
            self.rows.iter().find(same)
        };
        let mut rows: Vec<&Row> = self.backends.iter().filter_map(of).collect();
        rows.sort_by_key(|row| row.backend.settings.is_tuned());
        rows
    }

    fn table(&self, workload: Workload) -> Table {
        let rows = self.rows(workload);
        let mut header = vec!["backend".to_owned()];
        if let Some(row) = rows.first() {
            header.extend(medians(&row.rounds).into_iter().map(|metric| metric.name));
        }
        header.insert(header.len().min(2), "lowest to highest".to_owned());
        header.push("x best peer of the same settings".to_owned());
        let mut table = Table::new(header);
        for row in &rows {
            let metrics = medians(&row.rounds);
            let mut cells = vec![row.backend.name.to_owned()];
            cells.extend(metrics.iter().map(|metric| number(metric.value)));
            cells.insert(cells.len().min(2), range(&row.rounds));
            let best = best(&rows, |peer| {
                !peer.is_own() && peer.is_peer && peer.settings == row.backend.settings
            });
            cells.push(match (metrics.first(), best) {
                (Some(first), Some(best)) => format!("{:.2}", first.ratio(&best)),
                _ => "-".to_owned(),
            });
            table.push(cells);
        }
        table
    }

    /// Tells of each backend without a result why there is none.
    fn reasons(&self, workload: Workload) -> String {
        let here = self.left_out.iter().filter(|(of, ..)| *of == workload);
        let lines = by_reason(here.map(|(_, backend, why)| (backend.name.to_owned(), *why)));
        match &lines[..] {
            [] => String::new(),
            some => format!("\nLeft out: {}.\n", some.join("; ")),
        }
    }

    /// The peers' libraries, in the order of the table.
    fn libraries(&self) -> Vec<&'static str> {
        let mut all: Vec<&str> = Vec::new();
        for backend in self.backends.iter().filter(|backend| !backend.is_own()) {
            if !all.contains(&backend.library) {
                all.push(backend.library);
            }
        }
        all
    }

    /// One row for each workload and libsss backend: its headline number over that of each peer of the same settings.
    fn ratios(&self) -> Table {
        let libraries = self.libraries();
        let mut header = vec!["workload".to_owned(), "backend".to_owned(), "metric".to_owned()];
        header.extend(libraries.iter().map(|name| format!("x {name}")));
        let mut table = Table::new(header);
        for workload in self.workloads() {
            let rows = self.rows(workload);
            for row in rows.iter().filter(|row| row.backend.is_own()) {
                let Some(own) = medians(&row.rounds).into_iter().next() else {
                    continue;
                };
                let mut cells = vec![workload.name(), row.backend.name.to_owned(), own.name.clone()];
                for library in &libraries {
                    let best = best(&rows, |peer| {
                        peer.library == *library && peer.settings == row.backend.settings
                    });
                    cells.push(best.map_or("-".to_owned(), |best| format!("{:.2}", own.ratio(&best))));
                }
                table.push(cells);
            }
        }
        table
    }

    /// The best headline metric of each library with these settings, for a picture; libsss first.
    fn headlines(&self, workload: Workload, settings: Settings) -> Vec<(&'static str, Metric)> {
        let rows = self.rows(workload);
        let own = [crate::backend::OWN].into_iter();
        own.chain(self.libraries())
            .filter_map(|library| {
                let of = |peer: &Backend| peer.library == library && peer.is_peer && peer.settings == settings;
                Some((library, best(&rows, of)?))
            })
            .collect()
    }
}

/// The best headline metric among the backends that `counts` admits.
fn best(rows: &[&Row], counts: impl Fn(&Backend) -> bool) -> Option<Metric> {
    rows.iter()
        .filter(|row| counts(&row.backend))
        .filter_map(|row| medians(&row.rounds).into_iter().next())
        .reduce(|best, metric| if metric.ratio(&best) > 1.0 { metric } else { best })
}

/// The headline metric of the worst and of the best round.
fn range(rounds: &[Vec<Metric>]) -> String {
    let values = || {
        rounds
            .iter()
            .filter_map(|round| round.first())
            .map(|metric| metric.value)
    };
    match (values().reduce(f64::min), values().reduce(f64::max)) {
        (Some(low), Some(high)) if rounds.len() > 1 => format!("{} to {}", number(low), number(high)),
        _ => "-".to_owned(),
    }
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

/// Lists together what is left out for one reason: `a, b: why`.
pub(crate) fn by_reason(left_out: impl Iterator<Item = (String, &'static str)>) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, why) in left_out {
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let lines = reasons
        .iter()
        .map(|(why, names)| format!("{}: {why}", names.join(", ")));
    lines.collect()
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
