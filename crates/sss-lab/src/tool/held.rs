//! A lab that this process holds, until its programs end or somebody interrupts it.

use std::io::Write;
use std::process::ExitCode;

use sss_lab::{Builder, Error, Lab};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::control;
use super::programs::Programs;

/// Makes a lab; runs a command in its hosts, or in those that are named, or holds it if there is none.
pub(crate) fn hold(lab: Builder, command: Vec<String>, on: &[String], as_json: bool) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system)?;
    runtime.block_on(async {
        // From here on a signal ends the lab, and not just the process: also while it is being made.
        let mut signals = Signals::new().map_err(system)?;
        let mut lab = lab.build()?;
        let orders = UnixListener::bind(sss_lab::control_socket(lab.tag())).map_err(system)?;
        let mut programs = Programs::start(&lab, &command, on)?;
        if command.is_empty() {
            announce(&lab, as_json);
        }
        loop {
            tokio::select! {
                () = signals.next() => return Ok(ExitCode::SUCCESS),
                outcome = programs.end(), if !command.is_empty() => return Ok(outcome),
                connection = orders.accept() => {
                    if let Ok((stream, _)) = connection {
                        control::serve(stream, &mut lab).await;
                    }
                }
            }
        }
    })
}

fn announce(lab: &Lab, as_json: bool) {
    let text = if as_json {
        format!("{}\n", lab.json())
    } else {
        let tag = lab.tag();
        format!(
            "{}\nThe lab {tag} is up until this is interrupted (Ctrl-C). In another terminal:\n  \
             ip netns exec lab-{tag}-a sh\n  sss-lab change --lab {tag} link loss=5%\n",
            lab.table()
        )
    };
    // Whoever closed the output does not want it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

fn system(source: std::io::Error) -> Error {
    Error::System {
        what: "holding the lab".into(),
        source,
    }
}

/// Signals that end a lab.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
