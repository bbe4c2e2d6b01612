//! The program `reach`: a call by each system, in labs.
#![cfg(all(feature = "lab", target_os = "linux"))]

use std::process::Command;

use sss_lab::{Kind, Lab};

#[test]
fn both_systems_are_called_and_counted() {
    match Lab::builder().site("a", Kind::Prc).build() {
        Err(error) if error.is_missing() => return eprintln!("SKIPPED: {error}"),
        lab => drop(lab.expect("a lab")),
    }
    let file = std::env::temp_dir().join(format!("reach-{}.jsonl", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_reach"))
        .arg(&file)
        .args(["1", "only=prc x prc, 5 ms"])
        .output()
        .expect("the program starts");
    let results = std::fs::read_to_string(&file).expect("results");
    std::fs::remove_file(&file).expect("the file is there");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && results.lines().count() == 2, "{results}");
    for system in ["sss", "iroh"] {
        assert!(
            table.contains(&format!("| prc x prc, 5 ms | {system} | 1 of 1 |")),
            "{table}\n{results}"
        );
    }
}
