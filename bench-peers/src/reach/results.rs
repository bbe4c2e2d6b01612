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

/// The time that it took to connect and have the first byte, once the endpoint was there.
fn after_bind(result: &Value) -> Option<f64> {
    Some(result["first_byte_ms"].as_f64()? - result["built_ms"].as_f64()?)
}

/// Median (the higher of two), least and most.
fn spread(mut of: Vec<f64>) -> String {
    of.sort_by(f64::total_cmp);
    match (of.first(), of.get(of.len() / 2), of.last()) {
        (Some(least), Some(median), Some(most)) => format!("{median:.0} ({least:.0}-{most:.0})"),
        _ => "-".to_owned(),
    }
}

/// Prints a table for calls, and one for moves.
pub(crate) fn print(lines: &[Value]) {
    println!("| routers, delay | system | runs | first byte, ms | of that after bind | direct | direct, ms | bytes |");
    println!("|---|---|---|---|---|---|---|---|");
    for (case, system) in CASES
        .iter()
        .filter(|case| case.is_call())
        .flat_map(|case| SYSTEMS.map(|name| (case, name)))
    {
        let all: Vec<&Value> = of(lines, case, system).collect();
        let each = |figure: &dyn Fn(&Value) -> Option<f64>| -> Vec<f64> {
            all.iter().filter_map(|result| figure(result)).collect()
        };
        let first = each(&|result| result["first_byte_ms"].as_f64());
        let directs = each(&direct);
        println!(
            "| {} | {system} | {} of {} | {} | {} | {} | {} | {} |",
            case.name,
            first.len(),
            all.len(),
            spread(first),
            spread(each(&after_bind)),
            directs.len(),
            spread(directs),
            spread(each(&|result| result["relayed"].as_f64())),
        );
    }
    println!("\n| what happens | system | runs | whole | stall, ms |\n|---|---|---|---|---|");
    for (case, system) in CASES
        .iter()
        .filter(|case| !case.is_call())
        .flat_map(|case| SYSTEMS.map(|name| (case, name)))
    {
        let all: Vec<&Value> = of(lines, case, system).collect();
        let whole = all.iter().filter(|result| result["whole"] == true).count();
        let stalls = all.iter().filter_map(|result| result["stall_ms"].as_f64()).collect();
        println!(
            "| {} | {system} | {} | {whole} | {} |",
            case.name,
            all.len(),
            spread(stalls)
        );
    }
}
