//! Bars for each workload: how many times better than the best peer each library is. SVG written by hand, since its
//! colours follow the reader's scheme by CSS, which libraries that draw charts do not write.

use std::fmt::Write as _;

use super::{Report, number};
use crate::backend::OWN;
use crate::colours::{class, styles};
use crate::setup::Settings;
use crate::workloads::Metric;

const WIDTH: f64 = 825.0;
/// Names of workloads stand left of this, bars right of it.
const LEFT: f64 = 165.0;
/// Room for the number behind the longest bar.
const RIGHT: f64 = 70.0;
const BAR: f64 = 12.0;
const GAP: f64 = 16.0;
/// Of one library in the legend.
const ENTRY: f64 = 94.0;
const ENTRIES: usize = 7;
const LINE: f64 = 18.0;
/// Room for the numbers of the axis, and for what it is called.
const BOTTOM: f64 = 44.0;

/// A picture and the name of its file.
pub(crate) struct Chart {
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// Results of one workload.
struct Group {
    name: String,
    unit: String,
    /// Library, how many times better than the best peer, and what was measured.
    bars: Vec<(&'static str, f64, f64)>,
}

/// A picture for the backends of each settings that there are results of.
pub(crate) fn of(report: &Report) -> Vec<Chart> {
    let charts = Settings::ALL.into_iter().filter_map(|settings| {
        let groups = groups(report, settings);
        let svg = (!groups.is_empty()).then(|| draw(&groups, settings))?;
        let file = format!("{}.svg", settings.name());
        Some(Chart { file, svg })
    });
    charts.collect()
}

fn groups(report: &Report, settings: Settings) -> Vec<Group> {
    let workloads = report.workloads().into_iter();
    workloads
        .filter_map(|workload| {
            let headlines = report.headlines(workload, settings);
            let peers = headlines.iter().filter(|(library, _)| *library != OWN);
            let better = |best: Metric, metric: Metric| if metric.ratio(&best) > 1.0 { metric } else { best };
            let best = peers.map(|(_, metric)| metric.clone()).reduce(better)?;
            let bars = headlines.iter();
            Some(Group {
                name: workload.name(),
                unit: best.name.clone(),
                bars: bars
                    .map(|(library, metric)| (*library, metric.ratio(&best), metric.value))
                    .collect(),
            })
        })
        .collect()
}

/// Libraries of a picture in the order of their bars.
fn libraries(groups: &[Group]) -> Vec<&'static str> {
    let mut all = Vec::new();
    for (library, ..) in groups.iter().flat_map(|group| &group.bars) {
        if !all.contains(library) {
            all.push(*library);
        }
    }
    all
}

/// Positions along the axis of ratios.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    fn of(groups: &[Group]) -> Self {
        let ratios = groups.iter().flat_map(|group| &group.bars).map(|(_, ratio, _)| *ratio);
        let most = ratios.fold(1.0, f64::max);
        let step = [0.25, 0.5, 1.0, 2.0, 5.0].into_iter().find(|step| most / step <= 9.0);
        let step = step.unwrap_or(most / 9.0);
        Self {
            end: (most / step).ceil() * step,
            step,
        }
    }

    fn x(&self, ratio: f64) -> f64 {
        LEFT + ratio / self.end * (WIDTH - LEFT - RIGHT)
    }
}

fn draw(groups: &[Group], settings: Settings) -> String {
    let libraries = libraries(groups);
    let axis = Axis::of(groups);
    let top = 40.0 + LINE * libraries.len().div_ceil(ENTRIES) as f64;
    let height = |group: &Group| BAR * group.bars.len() as f64 + GAP;
    let bottom = top + groups.iter().map(height).sum::<f64>();
    let mut out = head(bottom + BOTTOM, &libraries, settings);
    grid(&mut out, &axis, top, bottom);
    let mut y = top + GAP / 2.0;
    for group in groups {
        bars(&mut out, &axis, group, &libraries, y);
        y += height(group);
    }
    out + "</svg>\n"
}

/// Everything above the bars.
fn head(height: f64, libraries: &[&str], settings: Settings) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<style>\n{}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"ink\" x=\"12\" y=\"22\" font-size=\"15\">libsss and its peers, settings: {}</text>\n",
        styles(),
        settings.name()
    );
    for (index, library) in libraries.iter().enumerate() {
        let (column, row) = (index % ENTRIES, index / ENTRIES);
        let (x, y) = (12.0 + ENTRY * column as f64, 42.0 + LINE * row as f64);
        let _ = writeln!(
            out,
            "<rect class=\"{}\" x=\"{x}\" y=\"{}\" width=\"12\" height=\"10\"/>\
             <text class=\"ink\" x=\"{}\" y=\"{y}\">{library}</text>",
            class(index),
            y - 9.0,
            x + 17.0
        );
    }
    out
}

/// The axis of ratios, with a line at what the best peer does.
fn grid(out: &mut String, axis: &Axis, top: f64, bottom: f64) {
    let mut at = 0.0;
    while at <= axis.end + axis.step / 2.0 {
        let (x, class) = (axis.x(at), if at == 1.0 { "one" } else { "grid" });
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>\
             <text class=\"ink\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{at}</text>",
            bottom + 16.0
        );
        at += axis.step;
    }
    let _ = writeln!(
        out,
        "<text class=\"ink\" x=\"{LEFT}\" y=\"{}\">times the best peer; longer is better; \
         behind each bar what was measured</text>",
        bottom + 35.0
    );
}

fn bars(out: &mut String, axis: &Axis, group: &Group, libraries: &[&str], y: f64) {
    let middle = y + BAR * group.bars.len() as f64 / 2.0;
    let right = LEFT - 10.0;
    let _ = writeln!(
        out,
        "<text class=\"ink\" x=\"{right}\" y=\"{}\" text-anchor=\"end\" font-weight=\"bold\">{}</text>\
         <text class=\"ink\" x=\"{right}\" y=\"{}\" text-anchor=\"end\" font-size=\"11\">{}</text>",
        middle - 2.0,
        group.name,
        middle + 12.0,
        group.unit
    );
    for (index, (library, ratio, value)) in group.bars.iter().enumerate() {
        let top = y + BAR * index as f64;
        let colour = libraries.iter().position(|name| name == library).unwrap_or(0);
        let end = axis.x(*ratio);
        let _ = writeln!(
            out,
            "<rect class=\"{}\" x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\"/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"{}\" font-size=\"10\">{}</text>",
            class(colour),
            end - LEFT,
            BAR - 2.0,
            end + 4.0,
            top + BAR - 3.5,
            number(*value)
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::tests::report;
    use super::*;
    use crate::setup::Workload;

    #[test]
    fn bars_are_as_long_as_the_ratio_to_the_best_peer_of_the_same_settings() {
        let report = report();
        let groups = groups(&report, Settings::Tuned);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].bars, [(OWN, 2.0, 1000.0), ("quinn", 1.0, 500.0)]);
        let axis = Axis::of(&groups);
        assert_eq!((axis.end, axis.step), (2.0, 0.25));
        assert!(axis.x(1.0) - LEFT == (axis.x(2.0) - LEFT) / 2.0);
    }

    #[test]
    fn each_settings_have_a_picture_of_their_own() {
        let charts = of(&report());
        let files: Vec<&str> = charts.iter().map(|chart| chart.file.as_str()).collect();
        assert_eq!(files, ["default.svg", "tuned.svg"]);
        let tuned = &charts[1].svg;
        assert_eq!(tuned.matches("class=\"l0\"").count(), 2, "legend and bar: {tuned}");
        assert!(
            tuned.contains(">requests/s</text>") && tuned.contains(">1,000</text>"),
            "{tuned}"
        );
        // Colours come from the two schemes alone.
        assert_eq!(tuned.matches("fill=").count(), 0, "{tuned}");
        assert!(tuned.contains("prefers-color-scheme:dark"), "{tuned}");
    }

    #[test]
    fn every_name_fits_left_of_its_bars() {
        // Of a bold letter at this size.
        let wide = 7.5;
        for workload in Workload::value_variants() {
            assert!(wide * workload.name().len() as f64 + 12.0 < LEFT, "{}", workload.name());
        }
    }

    #[test]
    fn nothing_is_drawn_without_a_peer() {
        let mut report = report();
        report.rows.retain(|row| row.backend.is_own());
        assert!(of(&report).is_empty());
    }
}
