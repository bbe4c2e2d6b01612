//! Rates over time, as lines in panels. SVG written by hand, for the same reason as that of bars.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::flow::Sort;
use super::{Case, Seen};
use crate::colours::{class, line_class, styles};

/// Points of a line.
const POINTS: u32 = 120;
/// Panels side by side, and their size.
const COLUMNS: usize = 2;
const PANEL: (f64, f64) = (400.0, 150.0);
/// Room in a panel around its lines: left, right, above, below.
const ROOM: [f64; 4] = [36.0, 14.0, 24.0, 30.0];
const WIDTH: f64 = PANEL.0 * COLUMNS as f64;
/// Room for the name of the picture and what its colours mean.
const TOP: f64 = 56.0;

/// Rates of transfers over the same link at the same time, or of several that had it one after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Curves {
    link: String,
    /// Of the link, in Mbit/s.
    rate: f64,
    length: Duration,
    lines: Vec<Line>,
}

/// Rates of one transfer, in Mbit/s, at equal distances.
#[derive(Clone, Debug)]
struct Line {
    sort: Sort,
    rates: Vec<f64>,
}

impl Curves {
    pub(super) fn of(case: Case, sorts: &[Sort], seen: &Seen, length: Duration) -> Self {
        let step = length / POINTS;
        let lines = sorts.iter().zip(&seen.flows).map(|(sort, flow)| Line {
            sort: *sort,
            rates: (0..POINTS)
                .map(|n| flow.arrivals.rate(step * n..step * (n + 1)) / 1e6)
                .collect(),
        });
        Self {
            link: case.to_string(),
            rate: case.bits_per_second() / 1e6,
            length,
            lines: lines.collect(),
        }
    }

    fn sorts(&self) -> Vec<Sort> {
        self.lines.iter().map(|line| line.sort).collect()
    }

    fn pair(&self) -> String {
        let names: Vec<&str> = self.sorts().into_iter().map(Sort::name).collect();
        names.join(", then ")
    }
}

/// A panel for each link, with the first transfer of each kind that had it alone.
pub(super) fn on_each_link<'a>(all: impl Iterator<Item = &'a Curves>) -> Vec<(String, Curves)> {
    let mut panels: Vec<(String, Curves)> = Vec::new();
    for curves in all {
        match panels.iter_mut().find(|(link, _)| *link == curves.link) {
            None => panels.push((curves.link.clone(), curves.clone())),
            Some((_, panel)) if curves.sorts().iter().all(|sort| !panel.sorts().contains(sort)) => {
                panel.lines.extend(curves.lines.iter().cloned());
            }
            Some(_) => {}
        }
    }
    panels
}

/// A panel for the first time that each pair shared each link.
pub(super) fn of_each_pair<'a>(all: impl Iterator<Item = &'a Curves>) -> Vec<(String, Curves)> {
    let mut seen = BTreeSet::new();
    all.map(|curves| (format!("{}: {}", curves.link, curves.pair()), curves.clone()))
        .filter(|(name, _)| seen.insert(name.clone()))
        .collect()
}

/// A picture of panels; nothing of none.
pub(super) fn draw(name: &str, panels: Vec<(String, Curves)>) -> Option<String> {
    let rows = panels.len().div_ceil(COLUMNS);
    let height = TOP + PANEL.1 * rows as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n<style>\n{}polyline{{fill:none;stroke-width:1.3}}\n</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"ink\" x=\"12\" y=\"22\" font-size=\"15\">{name}: Mbit/s over seconds</text>\n",
        styles()
    );
    for (sort, place) in Sort::ALL.into_iter().zip(0u8..) {
        let x = 12.0 + 110.0 * f64::from(place);
        let _ = writeln!(
            out,
            "<rect class=\"{}\" x=\"{x}\" y=\"33\" width=\"12\" height=\"10\"/>\
             <text class=\"ink\" x=\"{}\" y=\"42\" font-size=\"12\">{}</text>",
            class(colour(sort)),
            x + 17.0,
            sort.name()
        );
    }
    for (index, (title, curves)) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        panel(
            &mut out,
            (PANEL.0 * column as f64, TOP + PANEL.1 * row as f64),
            title,
            curves,
        );
    }
    (!panels.is_empty()).then(|| out + "</svg>\n")
}

fn panel(out: &mut String, (x, y): (f64, f64), title: &str, curves: &Curves) {
    let [left, right, above, below] = ROOM;
    let (width, height) = (PANEL.0 - left - right, PANEL.1 - above - below);
    let (left, top) = (x + left, y + above);
    let (bottom, end) = (top + height, left + width);
    let _ = writeln!(
        out,
        "<text class=\"ink\" x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
        top - 8.0
    );
    for part in 0..=2u8 {
        let part = f64::from(part) / 2.0;
        let (line, across) = (bottom - height * part, left + width * part);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{end}\" y1=\"{line}\" y2=\"{line}\"/>\
             <text class=\"ink\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text class=\"ink\" x=\"{across}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            left - 5.0,
            line + 3.5,
            curves.rate * part,
            bottom + 14.0,
            curves.length.as_secs_f64() * part
        );
    }
    for (place, line) in curves.lines.iter().enumerate() {
        let steps = line.rates.len().max(1) as f64;
        let points = line.rates.iter().enumerate().map(|(at, rate)| {
            let part = (rate / curves.rate).min(1.05);
            let across = left + width * (at as f64 + 0.5) / steps;
            format!("{across:.1},{:.1}", bottom - height * part)
        });
        // The second of two of one kind.
        let is_again = curves.lines.iter().take(place).any(|before| before.sort == line.sort);
        let dashes = if is_again { " stroke-dasharray=\"3 2\"" } else { "" };
        let _ = writeln!(
            out,
            "<polyline class=\"{}\"{dashes} points=\"{}\"/>",
            line_class(colour(line.sort)),
            points.collect::<Vec<_>>().join(" ")
        );
    }
}

/// Colour of a kind.
fn colour(sort: Sort) -> usize {
    match sort {
        Sort::SssCubic => 0,
        Sort::TcpCubic => 1,
        Sort::SssBbr => 2,
        Sort::TcpBbr => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(link: &str, sorts: &[Sort]) -> Curves {
        let line = |sort: &Sort| Line {
            sort: *sort,
            rates: vec![5.0, 10.0],
        };
        Curves {
            link: link.to_owned(),
            rate: 20.0,
            length: Duration::from_secs(60),
            lines: sorts.iter().map(line).collect(),
        }
    }

    #[test]
    fn a_link_has_a_panel_with_the_first_round_of_each_kind() {
        let all = [
            curves("a", &[Sort::SssCubic]),
            curves("a", &[Sort::TcpCubic]),
            curves("b", &[Sort::SssCubic]),
            curves("a", &[Sort::SssCubic]),
        ];
        let panels = on_each_link(all.iter());
        let lines: Vec<_> = panels
            .iter()
            .map(|(link, panel)| (link.as_str(), panel.lines.len()))
            .collect();
        assert_eq!(lines, [("a", 2), ("b", 1)]);
        let picture = draw("Alone", panels).unwrap();
        assert_eq!(picture.matches("<polyline").count(), 3, "{picture}");
        assert_eq!(draw("Alone", Vec::new()), None);
    }

    #[test]
    fn the_second_of_two_of_one_kind_is_dashed_and_rates_are_as_high_as_they_were() {
        let all = [
            curves("a", &[Sort::SssBbr, Sort::SssBbr]),
            curves("a", &[Sort::SssBbr, Sort::TcpBbr]),
            curves("a", &[Sort::SssBbr, Sort::SssBbr]),
        ];
        let picture = draw("Two", of_each_pair(all.iter())).unwrap();
        assert_eq!(picture.matches("<polyline").count(), 4, "{picture}");
        assert_eq!(picture.matches("stroke-dasharray").count(), 1);
        assert!(picture.contains(">a: SSS BBR, then TCP BBR</text>"));
        let (_, _, height) = (ROOM[2], ROOM[3], PANEL.1 - ROOM[2] - ROOM[3]);
        let half = TOP + ROOM[2] + height / 2.0;
        assert!(
            picture.contains(&format!(",{half:.1}\"/>")),
            "10 of 20 Mbit/s: {picture}"
        );
        assert!(picture.contains("prefers-color-scheme:dark"));
    }
}
