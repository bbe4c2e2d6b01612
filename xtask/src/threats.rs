//! The threats and their tests: every row of the table in `docs/security.md` names tests that exist and carry its
//! number, and every test that carries a number is named there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The page with the table.
const PAGE: &str = "docs/security.md";
/// Threats are numbered from 1 to this.
const THREATS: u8 = 43;
/// Beginning of the names of tests that carry numbers.
const PREFIX: &str = "threat_";

/// Checks the page against the tests; returns how many of them there are.
pub(crate) fn check(root: &Path, sources: &[PathBuf], findings: &mut Vec<String>) -> usize {
    let tests: BTreeSet<String> = sources
        .iter()
        .flat_map(|path| tests(&std::fs::read_to_string(path).unwrap_or_default()))
        .collect();
    compare(
        &std::fs::read_to_string(root.join(PAGE)).unwrap_or_default(),
        &tests,
        findings,
    );
    tests.len()
}

fn compare(page: &str, tests: &BTreeSet<String>, findings: &mut Vec<String>) {
    let named = named(page);
    for threat in 1..=THREATS {
        if !named
            .get(&threat)
            .is_some_and(|names| names.iter().any(|name| tests.contains(name)))
        {
            findings.push(format!("{PAGE}: threat {threat} names no test that exists"));
        }
    }
    for (threat, names) in &named {
        for name in names {
            if !tests.contains(name) {
                findings.push(format!("{PAGE}: there is no test {name}"));
            } else if !numbers(name).contains(threat) {
                findings.push(format!("{PAGE}: {name} is in the row of threat {threat}"));
            }
        }
    }
    for name in tests {
        let numbers = numbers(name);
        if numbers.is_empty() {
            findings.push(format!("the test {name} carries no number of {PAGE}"));
        }
        for threat in numbers {
            if !named.get(&threat).is_some_and(|names| names.contains(name)) {
                findings.push(format!(
                    "{PAGE}: the row of threat {threat} does not name the test {name}"
                ));
            }
        }
    }
}

/// By threat, the tests that the rows of the page name, of all tables in which a row begins with a number.
fn named(page: &str) -> BTreeMap<u8, BTreeSet<String>> {
    let mut found: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines() {
        let Some(cells) = line.strip_prefix("| ") else { continue };
        let Some((Ok(number), rest)) = cells.split_once(" |").map(|(first, rest)| (first.parse(), rest)) else {
            continue;
        };
        let names = rest
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.starts_with(PREFIX));
        found.entry(number).or_default().extend(names.map(str::to_owned));
    }
    found
}

/// The names of the tests that carry numbers.
fn tests(source: &str) -> Vec<String> {
    let names = source.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")?.split_once('(').map(|(name, _)| name)
    });
    names
        .filter(|name| name.starts_with(PREFIX))
        .map(str::to_owned)
        .collect()
}

/// The numbers that a test carries: `threat_15_16_hello` has two.
fn numbers(name: &str) -> Vec<u8> {
    let parts = name.strip_prefix(PREFIX).unwrap_or_default().split('_');
    parts
        .take_while(|part| part.len() == 2)
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_tests_and_tests_are_named() {
        let mut page: String = (1..=THREATS)
            .map(|n| format!("| {n} | `threat_{n:02}_x` |\n"))
            .collect();
        let mut all: BTreeSet<String> = (1..=THREATS).map(|n| format!("threat_{n:02}_x")).collect();
        let findings = |page: &str, all: &BTreeSet<String>| {
            let mut findings = Vec::new();
            compare(page, all, &mut findings);
            findings
        };
        assert_eq!(findings(&page, &all), Vec::<String>::new());
        all.insert("threat_07_08_y".to_owned());
        assert_eq!(findings(&page, &all).len(), 2, "not in either row");
        page.push_str("| 7 | sss-wire: `threat_07_08_y` |\n| 8 | `threat_07_08_y`, `threat_08_z` |\n");
        assert_eq!(
            findings(&page, &all),
            ["docs/security.md: there is no test threat_08_z"]
        );
        page.push_str("| 9 | `threat_07_08_y` |\n");
        assert!(
            findings(&page, &all)
                .iter()
                .any(|f| f.ends_with("is in the row of threat 9"))
        );
        all.remove("threat_30_x");
        assert!(findings(&page, &all).contains(&"docs/security.md: threat 30 names no test that exists".to_owned()));
        all.insert("threat_of_rain".to_owned());
        assert!(findings(&page, &all).iter().any(|f| f.contains("carries no number")));
    }

    #[test]
    fn finds_tests_and_their_numbers() {
        let source = "    fn threat_03_a() {\nasync fn threat_39_b() {\nfn other() { threat_03_a() }\n";
        assert_eq!(tests(source), ["threat_03_a", "threat_39_b"]);
        assert_eq!(numbers("threat_15_16_hello"), [15, 16]);
        assert_eq!(numbers("threat_20_numbers_rise"), [20]);
    }
}
