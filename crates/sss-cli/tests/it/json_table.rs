//! What `--json` prints is what the table in docs/book/cli.md says. Every line that any test here gets is checked
//! against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::support::Home;

const PAGE: &str = include_str!("../../../../docs/book/cli.md");

/// The keys of an event, and whether they are always there.
type Keys = BTreeMap<String, bool>;

/// The words in backquotes of a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The table: the keys of each event.
fn table() -> BTreeMap<String, Keys> {
    let begin = PAGE.find("## For scripts").expect("the page has a chapter for scripts");
    let rows = PAGE[begin..].lines().skip_while(|line| !line.starts_with("|---"));
    let mut table: BTreeMap<String, Keys> = BTreeMap::new();
    for row in rows.skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [_, event, keys] = cells[..] else {
            panic!("three cells: {row}")
        };
        let event = quoted(event).next().expect("an event");
        let keys = match keys.trim().strip_prefix("as ") {
            Some(other) => table[quoted(other).next().expect("another event")].clone(),
            None => quoted(keys)
                .map(|key| (key.trim_end_matches('?').to_owned(), !key.ends_with('?')))
                .collect(),
        };
        assert!(table.insert(event.to_owned(), keys).is_none(), "{event} is there twice");
    }
    table
}

/// Checks the JSON lines of a program's output; other lines are for people.
#[track_caller]
pub(crate) fn check(out: &str) {
    let facts = out
        .lines()
        .filter(|line| line.starts_with("{\"") && line.contains("\"event\":"));
    let mut table = None;
    for line in facts {
        let fact: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let event = fact["event"].as_str().expect("an event has a name");
        let keys = table.get_or_insert_with(self::table).get(event);
        let keys = keys.unwrap_or_else(|| panic!("docs/book/cli.md does not know {event}: {line}"));
        let found: BTreeSet<&str> = fact.as_object().unwrap().keys().map(String::as_str).collect();
        for key in found.iter().filter(|key| **key != "event") {
            assert!(
                keys.contains_key(*key),
                "docs/book/cli.md: {event} has no {key}: {line}"
            );
        }
        for (key, is_always) in keys {
            assert!(
                !is_always || found.contains(key.as_str()),
                "{event} without {key}: {line}"
            );
        }
    }
}

/// What the table knows is somewhere in the program.
#[test]
fn the_table_tells_of_nothing_that_is_not_there() {
    let mut sources = String::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let table = table();
    assert!(table.len() >= 20, "{} events", table.len());
    for (event, keys) in table {
        for word in keys.keys().chain([&event]) {
            assert!(
                sources.contains(&format!("\"{word}\"")),
                "{event}: {word} is nowhere in src"
            );
        }
    }
}

fn collect(folder: &Path, sources: &mut String) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, sources);
        } else {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Events that no other test asks for.
#[test]
fn the_table_knows_every_event() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    fs::write(dir.join("one"), "1").unwrap();
    let mut serving = server.command();
    serving
        .args(["serve", "--json", "--public", "--bind", "127.0.0.1:0"])
        .arg(&dir);
    let mut serving = serving.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serving.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    check(&line);
    let fact: Value = serde_json::from_str(&line).unwrap();
    let (target, address) = (fact["target"].as_str().unwrap(), fact["address"].as_str().unwrap());
    let to = client.path("copy");
    let to = to.to_str().unwrap();
    let mut seen = BTreeSet::new();
    let failed = format!("{target}/missing");
    for (args, code) in [
        (vec!["id"], 0),
        (vec!["ls", target], 0),
        (vec!["services", target], 0),
        (vec!["ping", "--count", "2", target], 0),
        (vec!["ping", address], 4),
        (vec!["get", target, to], 0),
        (vec!["ls", &failed], 1),
    ] {
        let ran = client.run(args.iter().copied().chain(["--json"]));
        seen.extend(ran.expect(code).json().iter().map(|fact| fact["event"].to_string()));
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
    let expected = [
        "done",
        "entry",
        "error",
        "identity",
        "link",
        "ping",
        "round_trip",
        "round_trips",
    ];
    for event in expected.into_iter().chain(["service", "services", "unknown_host"]) {
        assert!(seen.contains(&format!("\"{event}\"")), "{event} is not in {seen:?}");
    }
}
