//! Every pair of kinds many times: how many are direct in the end, and how soon they are connected.
//!
//! The host that calls is the one that the skew is about; so each kind of caller has a lab of its own.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use sss_lab::Kind;
use sss_lab::check::{PAIRED, get_through};

use super::results::{interval, median, recorded};
use super::world::{Failure, World};

/// Round trips in a call: those that may end with guessed ports take longer.
const ROUNDS: (u32, u32) = (5, 18);

/// Calls each pair until the file has so many results of it, and prints the table.
pub(super) fn run(file: &str, runs: usize, link: &[String]) -> Result<(), Failure> {
    let done = recorded(file, link)?;
    let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
    let results = Mutex::new(OpenOptions::new().create(true).append(true).open(file)?);
    for caller in PAIRED {
        let left = |callee| runs.saturating_sub(of(&done, (caller, callee)).count());
        let left = PAIRED.map(|callee| (callee, left(callee)));
        if left.iter().any(|(_, left)| *left > 0) {
            eprintln!("{} calls", caller.name());
            row(&program, (caller, &left), link, &results)?;
        }
    }
    print(&recorded(file, link)?, link);
    Ok(())
}

/// Measures what is left of the row of one caller: those that it calls at the same time.
fn row(
    program: &Path,
    (caller, left): (Kind, &[(Kind, usize)]),
    link: &[String],
    results: &Mutex<fs::File>,
) -> Result<(), Failure> {
    let mut world = World::start(program, link, caller)?;
    std::thread::scope(|scope| {
        for (callee, left) in left {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..*left {
                    let line = call(world, (caller, *callee), link);
                    if let Ok(mut results) = results.lock() {
                        // What is not there is measured again.
                        let _ = writeln!(results, "{line}");
                    }
                }
            });
        }
    });
    if world.is_up() {
        Ok(())
    } else {
        Err("the server has ended".into())
    }
}

fn call(world: &World, (caller, callee): (Kind, Kind), link: &[String]) -> Value {
    let rounds = if get_through(caller, callee) {
        ROUNDS.0
    } else {
        ROUNDS.1
    };
    let mut line = json!({"link": link, "caller": caller.name(), "callee": callee.name()});
    match world.call(caller, callee, rounds) {
        Ok(outcome) => {
            line["routes"] = json!(outcome.routes);
            line["connected_ms"] = json!(outcome.connected.as_secs_f64() * 1e3);
        }
        Err(error) => line["error"] = json!(error.to_string()),
    }
    line
}

fn of(lines: &[Value], (one, other): (Kind, Kind)) -> impl Iterator<Item = &Value> {
    lines
        .iter()
        .filter(move |line| line["caller"] == one.name() && line["callee"] == other.name())
}

/// The number of calls that were direct in the end, of those that went through a relay then, and of those that failed.
fn counts<'a>(lines: impl Iterator<Item = &'a Value>) -> [usize; 3] {
    lines.fold([0; 3], |[direct, relay, none], line| match line["routes"][1].as_str() {
        Some("direct") => [direct + 1, relay, none],
        Some(_) => [direct, relay + 1, none],
        None => [direct, relay, none + 1],
    })
}

fn cell(lines: &[&Value]) -> String {
    let [direct, relay, none] = counts(lines.iter().copied());
    let times = lines.iter().filter_map(|line| line["connected_ms"].as_f64()).collect();
    let time = median(times).map_or(String::new(), |time| format!(": {time:.0}"));
    let named = [(direct, "direct"), (relay, "relay"), (none, "none")];
    let parts = named.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, name)| format!("{name} {count}")).collect();
    format!("{}{time}", parts.join(", "))
}

/// Pairs about which something is promised, and whether one is of them.
type Group = (&'static str, fn(Kind, Kind) -> bool);

const GROUPS: [Group; 5] = [
    ("plain packets get through", get_through),
    ("prc-accept, with prc-accept, prc or eimrand", |one, other| {
        let is_one_of = |kind| matches!(kind, Kind::PrcAccept | Kind::Prc | Kind::EimRandom);
        is_one_of(one) && is_one_of(other) && (one == Kind::PrcAccept || other == Kind::PrcAccept)
    }),
    ("sym, with prc or eimrand", |one, other| {
        let is_hard = |kind| matches!(kind, Kind::Prc | Kind::EimRandom);
        one == Kind::Symmetric && is_hard(other) || is_hard(one) && other == Kind::Symmetric
    }),
    ("sym with prc-accept", |one, other| {
        [(one, other), (other, one)].contains(&(Kind::Symmetric, Kind::PrcAccept))
    }),
    ("sym with sym", |one, other| {
        one == Kind::Symmetric && other == Kind::Symmetric
    }),
];

fn print(lines: &[Value], link: &[String]) {
    println!(
        "\n{}: how many were direct in the end, or relayed; median of the ms until connected\n",
        link.join(" ")
    );
    println!("| calls \\ is called | {} |", PAIRED.map(Kind::name).join(" | "));
    println!("|---|{}", "---|".repeat(PAIRED.len()));
    for one in PAIRED {
        let row = PAIRED.map(|other| cell(&of(lines, (one, other)).collect::<Vec<_>>()));
        println!("| {} | {} |", one.name(), row.join(" | "));
    }
    println!("\n| both sides | calls | direct | share (95 %) | relayed | not connected |");
    println!("|---|---|---|---|---|---|");
    for (name, is_in) in GROUPS {
        let pairs = PAIRED
            .iter()
            .flat_map(|one| PAIRED.iter().map(move |other| (*one, *other)));
        let all = pairs.filter(|(one, other)| is_in(*one, *other));
        let [direct, relay, none] = counts(all.flat_map(|pair| of(lines, pair)));
        let calls = direct + relay + none;
        let (low, high) = interval(direct, calls.max(1));
        println!("| {name} | {calls} | {direct} | {low:.1}-{high:.1} % | {relay} | {none} |");
    }
}
