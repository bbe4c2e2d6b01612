//! Results of runs, as tables.

use serde_json::Value;
use sss_bench::Outcome;

use crate::lab::{CASES, Case};

pub(crate) const SYSTEMS: [&str; 2] = ["sss", "iroh"];

/// The lines that a file has. There are none if there is no file.
pub(crate) fn recorded(file: &str) -> Outcome<Vec<Value>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// The results of a case for a system.
pub(crate) fn of<'a>(lines: &'a [Value], case: &'a Case, system: &'a str) -> impl Iterator<Item = &'a Value> {
    let lines = lines
        .iter()
        .filter(move |line| line["case"] == case.name && line["system"] == system);
    lines.map(|line| &line["result"])
}

/// The time at which a call became direct, and stayed so, from its beginning.
fn direct(result: &Value) -> Option<f64> {
    let latest = result["direct"].as_array()?.last()?;
    latest[0].as_f64().filter(|_| latest[1] == true)
}

/// Bytes that the server had received and sent a second after the caller was started.
fn early(result: &Value) -> Option<f64> {
    let samples = result["samples"].as_array()?;
    let sample = samples
        .iter()
        .rfind(|sample| sample[0].as_f64().is_some_and(|time| time < 1000.0))?;
    sample[1].as_f64()
}

/// The median, the higher of two.
fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}

/// Median, least and most.
fn spread(of: Vec<f64>) -> String {
    let least = of.iter().copied().fold(f64::INFINITY, f64::min);
    let most = of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match median(of) {
        Some(median) => format!("{median:.0} ({least:.0}-{most:.0})"),
        None => "-".to_owned(),
    }
}

/// The cases of which there are results, each with a system's.
fn grouped(lines: &[Value], is_call: bool) -> impl Iterator<Item = (&'static str, &'static str, Vec<&Value>)> {
    let cases = CASES.iter().filter(move |case| case.is_call() == is_call);
    let each = cases.flat_map(|case| SYSTEMS.map(|system| (case, system)));
    let all = each.map(|(case, system)| (case.name, system, of(lines, case, system).collect::<Vec<_>>()));
    all.filter(|(_, _, results)| !results.is_empty())
}

/// Prints a table for calls, and one for moves.
pub(crate) fn print(lines: &[Value]) {
    println!("| routers, delay | system | runs | first byte, ms | direct | after, ms | bytes in 1 s | in all |");
    println!("|---|---|---|---|---|---|---|---|");
    for (case, system, all) in grouped(lines, true) {
        let each = |figure: &dyn Fn(&Value) -> Option<f64>| -> Vec<f64> {
            all.iter().filter_map(|result| figure(result)).collect()
        };
        let first = each(&|result| result["first_byte_ms"].as_f64());
        let directs = each(&direct);
        println!(
            "| {case} | {system} | {} of {} | {} | {} | {} | {} | {} |",
            first.len(),
            all.len(),
            spread(first),
            directs.len(),
            spread(directs),
            spread(each(&early)),
            spread(each(&|result| result["server_bytes"].as_f64())),
        );
    }
    println!("\n| what happens | system | runs | whole | stall, ms | seconds |\n|---|---|---|---|---|---|");
    for (case, system, all) in grouped(lines, false) {
        let whole = all.iter().filter(|result| result["whole"] == true).count();
        let each = |name: &str| -> Vec<f64> { all.iter().filter_map(|result| result[name].as_f64()).collect() };
        println!(
            "| {case} | {system} | {} | {whole} | {} | {:.1} |",
            all.len(),
            spread(each("stall_ms")),
            median(each("seconds")).unwrap_or(f64::NAN),
        );
    }
}
