//! Which hosts reach each other, how, and how soon: the tool behind real NATs of every pair of kinds (docs/lab.md).
//!
//! `cargo build -p sss-cli && cargo run -p sss-cli --example reach -- results.jsonl delay=50ms skew=60ms`, as root.
//! Each pair is a line of the file; those that are there already are not tried again. Then the table is printed. With
//! `skewed=prc-accept` the skew is that of the caller behind such a router (`open` by default).
//!
//! With `spray=200` behind the file it is tried 200 times each instead which pairs with one NAT that takes another port
//! for each peer get through by guessing ports, and how soon. With `runs=20` every pair is called 20 times, and the
//! table tells how many were direct in the end; the skew is that of each caller then.

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/running.rs"]
mod running;

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/world.rs"]
mod world;

#[cfg(target_os = "linux")]
#[path = "../tests/it/lab/pair.rs"]
mod pair;

#[cfg(target_os = "linux")]
#[path = "reach/cells.rs"]
mod cells;

#[cfg(target_os = "linux")]
#[path = "reach/spray.rs"]
mod spray;

#[cfg(target_os = "linux")]
#[path = "reach/results.rs"]
mod results;

#[cfg(target_os = "linux")]
fn main() -> Result<(), world::Failure> {
    linux::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("labs are made of Linux's network namespaces");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use sss_lab::Kind;
    use sss_lab::check::PAIRED;

    use super::world::{Failure, World};

    /// Round trips in each call.
    const ROUNDS: u32 = 15;

    /// A table of many calls for each pair: its file, their number, and the link.
    type Many = fn(&str, usize, &[String]) -> Result<(), Failure>;

    /// The cells of the table, by the kinds of caller and callee.
    type Cells = BTreeMap<(String, String), String>;

    pub(super) fn run() -> Result<(), Failure> {
        let mut args = std::env::args().skip(1);
        let file = args.next().ok_or("the file for the results, then settings of links")?;
        let link: Vec<String> = args.collect();
        for (name, run) in [("spray=", super::spray::run as Many), ("runs=", super::cells::run)] {
            let runs = link.iter().find_map(|setting| setting.strip_prefix(name));
            if let Some(runs) = runs {
                let settings: Vec<String> = link.iter().filter(|one| !one.starts_with(name)).cloned().collect();
                return run(&file, runs.parse()?, &settings);
            }
        }
        let skewed = |setting: &String| setting.strip_prefix("skewed=").map(str::to_owned);
        let kind = link.iter().find_map(skewed).unwrap_or_else(|| "open".to_owned());
        let kind = PAIRED
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or("no such kind")?;
        let done = read(&file, &link)?;
        let is_open = |one: Kind, other: Kind| !done.contains_key(&(one.name().into(), other.name().into()));
        let open = PAIRED
            .iter()
            .any(|one| PAIRED.iter().any(|other| is_open(*one, *other)));
        if open {
            let settings: Vec<String> = link.iter().filter(|one| skewed(one).is_none()).cloned().collect();
            let program = std::env::current_exe()?.parent().ok_or("nowhere")?.join("../sss");
            let mut world = World::start(&program, &settings, kind)?;
            let results = Mutex::new(OpenOptions::new().create(true).append(true).open(&file)?);
            std::thread::scope(|scope| {
                for one in PAIRED {
                    let (world, results, link) = (&world, &results, &link);
                    scope.spawn(move || {
                        for other in PAIRED.into_iter().filter(|other| is_open(one, *other)) {
                            let line = measure(world, (one, other), link);
                            println!("{line}");
                            if let Ok(mut results) = results.lock() {
                                // What is not there is measured again.
                                let _ = writeln!(results, "{line}");
                            }
                        }
                    });
                }
            });
            if !world.is_up() {
                return Err("the server has ended".into());
            }
        }
        print(&read(&file, &link)?, &link);
        Ok(())
    }

    fn measure(world: &World, (one, other): (Kind, Kind), link: &[String]) -> Value {
        let pair = json!({"link": link, "caller": one.name(), "callee": other.name()});
        let mut line = pair;
        match world.call(one, other, ROUNDS) {
            Ok(outcome) => {
                line["routes"] = json!(outcome.routes);
                line["connected_ms"] = json!(outcome.connected.as_millis() as u64);
                line["median_ms"] = json!(outcome.median);
            }
            Err(error) => line["error"] = json!(error.to_string()),
        }
        line
    }

    /// The results of this link that are there.
    fn read(file: &str, link: &[String]) -> Result<Cells, Failure> {
        let mut cells = Cells::new();
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(line)?;
            if line["link"] != json!(link) {
                continue;
            }
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let cell = match line.get("error") {
                Some(_) => "no".to_owned(),
                None => {
                    let [first, last] = [0, 1].map(|at| word(&line["routes"][at]));
                    let how = if first == last {
                        first
                    } else {
                        format!("{first}, {last}")
                    };
                    format!(
                        "{how} {} / {:.0}",
                        line["connected_ms"],
                        line["median_ms"].as_f64().unwrap_or(f64::NAN)
                    )
                }
            };
            cells.insert((word(&line["caller"]), word(&line["callee"])), cell);
        }
        Ok(cells)
    }

    fn print(cells: &Cells, link: &[String]) {
        println!(
            "\n{}: route, ms until connected / median round trip in ms\n",
            link.join(" ")
        );
        let names = PAIRED.map(Kind::name);
        println!("| calls \\ is called | {} |", names.join(" | "));
        println!("|---|{}", "---|".repeat(names.len()));
        for one in names {
            let row = names.map(|other| cells.get(&(one.into(), other.into())).map_or("", |cell| cell));
            println!("| {one} | {} |", row.join(" | "));
        }
    }
}
