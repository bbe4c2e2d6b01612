//! `cargo run -p xtask -- tidy`: checks the caps on sizes, that every MUST of the specification has a test, and that
//! the test vectors are described and read. Further commands measure: see [`USAGE`].

mod book;
mod caps;
mod commands;
mod english;
mod frames;
mod graph;
mod habits;
mod instructions;
mod layers;
mod secrets;
mod shape;
mod source;
mod spec;
mod threats;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Checks that the project's own rules hold, and measures it.

Usage: cargo run -p xtask -- tidy
       cargo run -p xtask -- shape [CRATE [MODULE]]
       cargo run -p xtask -- instructions [--save FILE] [--compare FILE] [WORKLOAD]..

tidy    caps: file 600 lines without tests, function 80 lines, 6 parameters (a tuple counts as often as
        it has elements), 12 fields, 60 methods of a type over all its files, comments 120 columns;
        English: documentation in `crates` opens with a noun or a verb, not with What or Whether;
        layers: no crate uses one, and no module takes a name from one, that is not below it;
        specification: every requirement that says MUST has a test that cites it
        (`// spec: NEG-4` above the test), and every id that is cited exists;
        threats: every row of docs/security.md names tests that exist and carry its number
        (`threat_08_..`), and every such test is in its row;
        test vectors: every requirement of their README is cited by a test, and every
        file and field is in the README's table and named by a test that reads it;
        frames: every field is in the specification's table, and in a vector;
        subcommands: every one is shown on a page;
        steps of CI: every one is a recipe of the justfile;
        pages: links lead to files and headings that exist, the book's code names what there is, and lines
        of prose have 120 columns

shape   of a crate (sss-proto if none is named): the types with the most methods over all their
        files, and for each module the files that call each other, or take names from each
        other, in a circle

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
        Some("shape") => exit(shape::print(&root, &crates(&root), &rust_files(&root), rest)),
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
    let mut texts = Vec::new();
    for path in &sources {
        match std::fs::read_to_string(path) {
            Ok(text) => texts.push((name(root, path), text)),
            Err(error) => findings.push(format!("{}: {error}", path.display())),
        }
    }
    for (name, text) in &texts {
        caps::check(name, text, &mut findings);
    }
    caps::check_comments(&texts, &mut findings);
    english::check(&texts, &mut findings);
    for (name, folder) in crates(root) {
        match source::Crate::load(root, &folder, &sources) {
            Ok(krate) => {
                shape::check(&name, &krate, &mut findings);
                layers::check(&name, &folder, &krate, &mut findings);
                commands::check(root, &name, &krate, &mut findings);
                if !["sss-sim", "sss-bench", "xtask"].contains(&name.as_str()) {
                    secrets::check(&krate, &mut findings);
                }
                if name == "sss-wire" {
                    frames::check(root, &krate, &mut findings);
                }
            }
            // It was found above.
            Err(_) => continue,
        }
    }
    layers::check_page(root, &mut findings);
    habits::check(root, &mut findings);
    let requirements = spec::check(root, &sources, &mut findings);
    let threats = threats::check(root, &sources, &mut findings);
    vectors::check(root, &sources, &mut findings);
    let links = book::check(root, &sources, &mut findings);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    println!(
        "tidy: {} files, {requirements} requirements, {threats} tests of threats, {links} links, {} findings",
        sources.len(),
        findings.len()
    );
    if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All crates with their folders; `libsss` is in `crates/sss`.
fn crates(root: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(root.join("crates")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.push(root.join("xtask"));
    folders.sort();
    let named = folders.into_iter().filter(|folder| folder.join("src").is_dir());
    named
        .map(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let name = if name == "sss" { "libsss".into() } else { name };
            (name.into_owned(), folder)
        })
        .collect()
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
