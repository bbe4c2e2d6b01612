//! The command line.

mod args;
mod control;
mod held;
mod programs;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use sss_lab::check::{self, Finding};
use sss_lab::{Error, Kind, OPTIONS, SETTINGS};

use self::args::{Cli, Command};

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("sss-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Error> {
    match cli.command {
        Command::Up(up) => held::hold(up.lab.builder()?, Vec::new(), &[], up.json),
        Command::Run(run) => held::hold(run.lab.builder()?, run.command, &run.on, false),
        Command::Link(link) => held::hold(link.builder()?, link.command, &[], link.json),
        Command::Change(change) => control::ask(change.lab.as_deref(), &change.change.join(" ")),
        Command::List => {
            sss_lab::living().iter().for_each(|tag| println!("{tag}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Sweep => {
            sss_lab::sweep()?.iter().for_each(|tag| println!("removed {tag}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Kinds => {
            print!("{}", kinds());
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { json } => check(json),
    }
}

fn kinds() -> String {
    let mut text = "Kinds of routers:\n".to_owned();
    for kind in Kind::ALL {
        text += &format!("  {:<12} {}\n", kind.name(), kind.describe());
    }
    text += &format!("\nBehind a kind, with commas between (prc,cgn,ipv6=stateful):\n{OPTIONS}\n");
    text + &format!("\nSettings of links:\n{SETTINGS}\n")
}

fn check(as_json: bool) -> Result<ExitCode, Error> {
    let parts = [
        ("kinds", check::kinds as fn() -> Result<Vec<Finding>, Error>),
        ("firewalls", check::firewalls),
        ("pairs", check::pairs),
    ];
    let mut all_good = true;
    let mut report = serde_json::Map::new();
    for (name, part) in parts {
        let findings = part()?;
        all_good &= findings.iter().all(Finding::is_good);
        if as_json {
            let rows = findings.iter().map(|finding| {
                json!({
                    "what": finding.what,
                    "expected": finding.expected,
                    "found": finding.found,
                    "good": finding.is_good(),
                })
            });
            report.insert(name.to_owned(), rows.collect());
        } else {
            println!("{name}:");
            findings.iter().for_each(print_finding);
        }
    }
    if as_json {
        println!("{}", serde_json::Value::Object(report));
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_finding(finding: &Finding) {
    let (what, found) = (&finding.what, &finding.found);
    if finding.is_good() {
        println!("  ok     {what:<28} {found}");
    } else {
        println!("  WRONG  {what:<28} {found}; expected: {}", finding.expected);
    }
}
