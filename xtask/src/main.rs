//! `cargo run -p xtask -- tidy`: checks the caps on sizes, that every MUST of the specification has a test, and that the test
//! vectors are described and read. Further commands measure: see [`USAGE`].

mod book;
mod caps;
mod instructions;
mod spec;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Checks that the project's own rules hold, and measures it.

Usage: cargo run -p xtask -- tidy
       cargo run -p xtask -- instructions [--save FILE] [--compare FILE] [WORKLOAD]..

tidy    caps: file 600 lines without tests, function 80 lines, 6 parameters, 12 fields;
        specification: every requirement that says MUST has a test that cites it
        (`// spec: NEG-4` above the test), and every id that is cited exists;
        test vectors: every requirement of their README is cited by a test, and every
        file and field is in the README's table and named by a test that reads it;
        pages: links lead to files and headings that exist, and the book's code names what there is

instructions    builds `sss-sim` for release and counts the instructions of `sss-sim work` under
        callgrind, which has to be installed: bulk, rpc, tree, datagram, migration. --save writes
        the counts to a file; --compare tells what changed since such a file was written
";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (Some(command.as_str()), rest),
        None => (None, &[][..]),
    };
    match command {
        Some("tidy") => tidy(&root),
        Some("instructions") => exit(instructions::run(&root, rest)),
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

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn tidy(root: &Path) -> ExitCode {
    let sources = rust_files(root);
    let mut findings = Vec::new();
    for path in &sources {
        match std::fs::read_to_string(path) {
            Ok(text) => caps::check(&name(root, path), &text, &mut findings),
            Err(error) => findings.push(format!("{}: {error}", path.display())),
        }
    }
    let requirements = spec::check(root, &sources, &mut findings);
    vectors::check(root, &sources, &mut findings);
    let links = book::check(root, &sources, &mut findings);
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
