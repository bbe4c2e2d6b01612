//! The inside of the client and server processes: control over standard input and output.

use std::io::{BufRead as _, stdin};
use std::process::exit;
use std::thread;

use crate::backend::Backend;
use crate::control::{ClientLine, ServerLine, Work, say};
use crate::outcome::Outcome;
use crate::setup::Setup;
use crate::usage::raise_file_limit;

/// Runs the server process until its input ends.
pub(crate) fn serve(backends: &[Backend]) -> Outcome<()> {
    let (backend, setup) = begin(backends)?;
    let work = Work::default();
    let counted = work.clone();
    thread::spawn(move || answer(&counted));
    backend.serve(&setup, work)
}

/// Answers every line of input with the usage of this process; ends the process with the input.
fn answer(work: &Work) {
    for line in stdin().lines() {
        let answered = match line {
            Ok(_) => work.snapshot().and_then(|snapshot| say(&ServerLine::Usage(snapshot))),
            Err(error) => Err(error.into()),
        };
        if let Err(failure) = answered {
            eprintln!("sss-bench serve: {failure}");
            exit(1);
        }
    }
    exit(0);
}

/// Runs the client process: one measurement.
pub(crate) fn client(backends: &[Backend]) -> Outcome<()> {
    let (backend, setup) = begin(backends)?;
    thread::spawn(|| {
        for line in stdin().lines() {
            if line.is_err() {
                break;
            }
        }
        exit(1);
    });
    let quantiles = backend.measure(&setup)?;
    say(&ClientLine::Done { quantiles })?;
    // Taking a hundred thousand streams apart is no part of the measurement.
    exit(0)
}

/// Reads the first line of input.
fn begin(backends: &[Backend]) -> Outcome<(Backend, Setup)> {
    raise_file_limit();
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let setup: Setup = serde_json::from_str(&line)?;
    let named = backends.iter().find(|backend| backend.name == setup.backend);
    let backend = named.ok_or_else(|| format!("there is no backend {:?}", setup.backend))?;
    Ok((*backend, setup))
}
