//! `cargo run -p xtask -- tidy`: checks the caps on sizes, that every MUST of the specification has a test, and that the test
//! vectors are described and read.

mod book;
mod caps;
mod spec;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Checks that the project's own rules hold.

Usage: cargo run -p xtask -- tidy

tidy    caps: file 600 lines without tests, function 80 lines, 6 parameters, 12 fields;
        specification: every requirement that says MUST has a test that cites it
        (`// spec: NEG-4` above the test), and every id that is cited exists;
        test vectors: every requirement of their README is cited by a test, and every
        file and field is in the README's table and named by a test that reads it;
        pages: links lead to files and headings that exist, and the book's code names what there is
";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy(),
        Some("--help" | "-h") => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn tidy() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = rust_files(&root);
    let mut findings = Vec::new();
    for path in &sources {
        match std::fs::read_to_string(path) {
            Ok(text) => caps::check(&name(&root, path), &text, &mut findings),
            Err(error) => findings.push(format!("{}: {error}", path.display())),
        }
    }
    let requirements = spec::check(&root, &sources, &mut findings);
    vectors::check(&root, &sources, &mut findings);
    let links = book::check(&root, &sources, &mut findings);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    println!(
        "tidy: {} files, {requirements} requirements, {links} links, {} findings",
        sources.len(),
        findings.len()
    );
    if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn name(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// All Rust files of the workspace's members, sorted.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if path.file_name().is_none_or(|n| n != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}
