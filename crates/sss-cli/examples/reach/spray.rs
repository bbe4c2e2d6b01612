//! Pairs of which one NAT takes another port for each peer: how many get through by guessing ports, and how soon.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Mutex;

use serde_json::{Value, json};
use sss_lab::{Kind, Link};

use super::pair::Pair;
use super::results::{interval, recorded};
use super::world::Failure;

/// Caller and callee.
const PAIRS: [(Kind, Kind); 8] = [
    (Kind::Symmetric, Kind::Prc),
    (Kind::Prc, Kind::Symmetric),
    (Kind::Symmetric, Kind::EimRandom),
    (Kind::EimRandom, Kind::Symmetric),
    (Kind::Symmetric, Kind::PrcAccept),
    (Kind::PrcAccept, Kind::Symmetric),
    (Kind::Symmetric, Kind::Symmetric),
    (Kind::EimRandom, Kind::Prc),
];
/// Time from the start within which it counts.
const SOON: f64 = 3.0;

pub(super) fn run(file: &str, runs: usize, link: &[String]) -> Result<(), Failure> {
    let done = recorded(file, link)?;
    let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
    let results = Mutex::new(OpenOptions::new().create(true).append(true).open(file)?);
    let failures = Mutex::new(Vec::<String>::new());
    std::thread::scope(|scope| {
        for (one, other) in PAIRS {
            let left = runs.saturating_sub(of(&done, (one, other)).count());
            let (program, results, failures) = (&program, &results, &failures);
            scope.spawn(move || {
                let outcome = measure(program, (one, other), (left, link), results);
                if let (Err(error), Ok(mut failures)) = (outcome, failures.lock()) {
                    failures.push(format!("{} x {}: {error}", one.name(), other.name()));
                }
            });
        }
    });
    print(&recorded(file, link)?, link);
    match failures.into_inner() {
        Ok(failures) if !failures.is_empty() => Err(failures.join(", ").into()),
        _ => Ok(()),
    }
}

fn measure(
    program: &std::path::Path,
    (one, other): (Kind, Kind),
    (left, link): (usize, &[String]),
    results: &Mutex<fs::File>,
) -> Result<(), Failure> {
    if left == 0 {
        return Ok(());
    }
    let pair = Pair::start(program, (one, other), Link::parse(link)?)?;
    for _ in 0..left {
        // Another program each time: what it has tried within the hour does not count.
        let (callee, eid) = pair.callee(&[])?;
        let told = pair.doctor(&eid, &[])?;
        drop(callee);
        let line = json!({
            "link": link, "caller": one.name(), "callee": other.name(), "route": told["peer"]["route"],
            "nat": told["nat"], "spraying": told["peer"]["spraying"], "error": told["peer"]["error"],
        });
        if let Ok(mut results) = results.lock() {
            writeln!(results, "{line}")?;
        }
    }
    Ok(())
}

fn of(lines: &[Value], (one, other): (Kind, Kind)) -> impl Iterator<Item = &Value> {
    lines
        .iter()
        .filter(move |line| line["caller"] == one.name() && line["callee"] == other.name())
}

/// Seconds from the start until it was direct.
fn seconds(line: &Value) -> Option<f64> {
    line["spraying"]["seconds"].as_f64()
}

fn row(name: &str, lines: &[&Value]) {
    let mut times: Vec<f64> = lines.iter().filter_map(|line| seconds(line)).collect();
    times.sort_by(f64::total_cmp);
    let soon = times.iter().filter(|time| **time <= SOON).count();
    let direct = lines.iter().filter(|line| line["route"] == "direct").count();
    let at = |part: f64| {
        times
            .get((times.len() as f64 * part) as usize)
            .map_or("".to_owned(), |time| format!("{time:.2}"))
    };
    let share = 100.0 * soon as f64 / lines.len().max(1) as f64;
    let (low, high) = interval(soon, lines.len().max(1));
    println!(
        "| {name} | {} | {soon} | {share:.1} % ({low:.1}-{high:.1}) | {direct} | {} / {} |",
        lines.len(),
        at(0.5),
        at(0.9),
    );
}

fn print(lines: &[Value], link: &[String]) {
    println!("\n{}\n", link.join(" "));
    println!("| caller x callee | runs | direct within 3 s | share (95 %) | direct at all | median / p90, s |");
    println!("|---|---|---|---|---|---|");
    for pair in PAIRS {
        let name = format!("{} x {}", pair.0.name(), pair.1.name());
        row(&name, &of(lines, pair).collect::<Vec<_>>());
    }
    for (name, pairs) in [("sym and prc", &PAIRS[..2]), ("sym and eimrand", &PAIRS[2..4])] {
        let all = pairs.iter().flat_map(|pair| of(lines, *pair)).collect::<Vec<_>>();
        row(&format!("{name}, both ways"), &all);
    }
}
