//! The experiment as a picture: lines over time, in SVG (W3C, SVG 1.1).

use std::fmt::Write;
use std::time::Duration;

use super::{BIN, Report, SWAP_AT, THIRD_AT};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
const LINES: [(&str, &str); 3] = [("first", "#1b6ca8"), ("second", "#d1495b"), ("third", "#2e8b57")];

/// Positions of numbers in the picture.
struct Axes {
    seconds: f64,
    top: f64,
    /// Between two labels.
    step: f64,
}

impl Axes {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, rate: f64) -> f64 {
        HEIGHT - BOTTOM - rate / self.top * (HEIGHT - TOP - BOTTOM)
    }
}

/// A picture of the rate of each response in each bin, over a bottleneck of `rate` bits per second.
pub fn svg(report: &Report, rate: u64) -> String {
    let bins = report.bins();
    let most = bins.iter().flatten().max().copied().unwrap_or(0);
    let step = rate as f64 / 5.0;
    let axes = Axes {
        seconds: bins.len() as f64 * BIN.as_secs_f64(),
        top: step * (per_second(most) / step).ceil().max(6.0),
        step,
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    draw_axes(&mut out, &axes);
    for (at, text) in [(THIRD_AT, "third asked for"), (SWAP_AT, "first and second swapped")] {
        draw_event(&mut out, &axes, at, text);
    }
    for (n, (name, colour)) in LINES.into_iter().enumerate() {
        let rates = bins.iter().map(|bin| bin.get(n).map_or(0.0, |b| per_second(*b)));
        draw_line(&mut out, &axes, colour, rates);
        let x = LEFT + 90.0 * n as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"8\" width=\"12\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"14\">{name}</text>",
            x + 17.0
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Bits per second for bytes in a bin.
fn per_second(bytes: u64) -> f64 {
    bytes as f64 * 8.0 / BIN.as_secs_f64()
}

fn draw_axes(out: &mut String, axes: &Axes) {
    let (bottom, right) = (axes.y(0.0), axes.x(axes.seconds));
    let middle = (TOP + bottom) / 2.0;
    let mut rate = 0.0;
    while rate <= axes.top {
        let y = axes.y(rate);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.1}</text>",
            LEFT - 6.0,
            y + 4.0,
            rate / 1e6
        );
        rate += axes.step;
    }
    let mut seconds = 0.0;
    while seconds <= axes.seconds {
        let x = axes.x(seconds);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\" stroke=\"#888\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{seconds}</text>",
            bottom + 4.0,
            bottom + 16.0
        );
        seconds += 2.0;
    }
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"#888\"/>\n\
         <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">seconds</text>\n\
         <text x=\"14\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle})\">Mbit/s</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 12.0,
    );
}

fn draw_event(out: &mut String, axes: &Axes, at: Duration, text: &str) {
    let x = axes.x(at.as_secs_f64());
    let _ = writeln!(
        out,
        "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#888\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{:.1}\" y=\"{}\" fill=\"#555\">{text}</text>",
        axes.y(0.0),
        x + 4.0,
        TOP + 8.0
    );
}

fn draw_line(out: &mut String, axes: &Axes, colour: &str, rates: impl Iterator<Item = f64>) {
    let mut points = String::new();
    for (n, rate) in rates.enumerate() {
        let at = (n as f64 + 0.5) * BIN.as_secs_f64();
        let _ = write!(points, "{:.1},{:.1} ", axes.x(at), axes.y(rate));
    }
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
        points.trim_end()
    );
}
