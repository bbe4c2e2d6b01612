//! Machine and versions that the numbers were measured on and with.

use std::collections::BTreeMap;
use std::{fs, thread};

use serde_json::{Value, json};

/// Machine and versions for machines.
pub(super) fn facts(lock: &str, packages: &[&str]) -> Value {
    json!({
        "processor": processor(),
        "cores": cores(),
        "kernel": kernel(),
        "versions": versions(lock, packages),
    })
}

/// Machine and versions in two lines.
pub(super) fn description(lock: &str, packages: &[&str]) -> String {
    let versions: Vec<String> = versions(lock, packages)
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    format!(
        "{}, {} cores, {}\n{}\n",
        processor(),
        cores(),
        kernel(),
        versions.join(", ")
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or("unknown processor").to_owned()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(0, usize::from)
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim())
}

/// The newest version of each package in the text of a lock file.
fn versions(lock: &str, packages: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = quoted(line, "name = ") {
            name = value;
        } else if let Some(version) = quoted(line, "version = ").filter(|_| packages.contains(&name)) {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROGRAM;

    #[test]
    fn every_package_is_locked() {
        for backend in PROGRAM.backends {
            let found = versions(PROGRAM.lock, backend.packages);
            for package in backend.packages {
                assert!(found.contains_key(*package), "{package}");
            }
        }
    }

    #[test]
    fn the_newest_of_two_versions_counts() {
        let lock = "[[package]]\nname = \"ring\"\nversion = \"0.17.13\"\n\nname = \"ring\"\nversion = \"0.17.14\"\n";
        assert_eq!(
            versions(lock, &["ring"]).get("ring").map(String::as_str),
            Some("0.17.14")
        );
    }
}
