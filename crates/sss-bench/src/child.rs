//! The inside of the client and server processes: control over standard input and output, the runtime, the dispatch to
//! the backend.

use std::io::{BufRead as _, stdin};
use std::process::exit;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use crate::backends::{quinn, sss, yamux};
use crate::control::{ClientLine, ServerLine, Work, say};
use crate::outcome::Outcome;
use crate::setup::{Backend, Setup};
use crate::stats::Quantiles;
use crate::transport::Transport;
use crate::usage::raise_file_limit;
use crate::{serve, workloads};

/// Runs the server process until its input ends.
pub(crate) fn serve() -> Outcome<()> {
    let setup = begin()?;
    let work = Work::default();
    let counted = work.clone();
    thread::spawn(move || answer(&counted));
    let runtime = runtime(setup.backend)?;
    match setup.backend {
        Backend::Sss | Backend::SssTuned | Backend::SssDedicated | Backend::SssDeep => {
            runtime.block_on(serving::<sss::Sss>(&setup, work))
        }
        Backend::QuinnRing | Backend::QuinnRingTuned | Backend::QuinnAws | Backend::QuinnAwsTuned => {
            runtime.block_on(serving::<quinn::Quinn>(&setup, work))
        }
        Backend::Yamux | Backend::YamuxTuned => runtime.block_on(serving::<yamux::Yamux>(&setup, work)),
    }
}

async fn serving<T: Transport>(setup: &Setup, work: Work) -> Outcome<()> {
    let (listener, address) = T::listen(setup).await?;
    say(&ServerLine::Ready(address))?;
    serve::run(listener, setup, work).await
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
pub(crate) fn client() -> Outcome<()> {
    let setup = begin()?;
    thread::spawn(|| {
        for line in stdin().lines() {
            if line.is_err() {
                break;
            }
        }
        exit(1);
    });
    let runtime = runtime(setup.backend)?;
    let quantiles = match setup.backend {
        Backend::Sss | Backend::SssTuned | Backend::SssDedicated | Backend::SssDeep => {
            runtime.block_on(measuring::<sss::Sss>(&setup))
        }
        Backend::QuinnRing | Backend::QuinnRingTuned | Backend::QuinnAws | Backend::QuinnAwsTuned => {
            runtime.block_on(measuring::<quinn::Quinn>(&setup))
        }
        Backend::Yamux | Backend::YamuxTuned => runtime.block_on(measuring::<yamux::Yamux>(&setup)),
    }?;
    say(&ClientLine::Done { quantiles })?;
    // Taking a hundred thousand streams apart is no part of the measurement.
    exit(0)
}

async fn measuring<T: Transport>(setup: &Setup) -> Outcome<Quantiles> {
    let address = setup
        .address
        .as_ref()
        .ok_or("the client was not told where the server is")?;
    let dialer = T::dialer(setup, address).await?;
    workloads::run(dialer, setup).await
}

/// Reads the first line of input.
fn begin() -> Outcome<Setup> {
    raise_file_limit();
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn runtime(backend: Backend) -> Outcome<Runtime> {
    let mut builder = if backend.is_tuned() {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    Ok(builder.enable_all().build()?)
}
