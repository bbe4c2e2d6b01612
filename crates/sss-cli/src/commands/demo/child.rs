//! The process of the second host.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sss::Eid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{self, ChildStdin, Command};

use crate::error::{Error, Exit};
use crate::place;
use crate::target::Target;

/// Time that the second host may take to start.
const START: Duration = Duration::from_secs(10);
/// Time that it may take to end once its input has ended.
const END: Duration = Duration::from_secs(1);

/// The second host. Killed when dropped.
pub(crate) struct Child {
    process: process::Child,
    /// Its standard input: when this is closed, it ends.
    input: Option<ChildStdin>,
    place: Place,
}

/// Identity and address of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) eid: Eid,
    pub(crate) address: SocketAddr,
    /// The number of its process.
    pub(crate) process: u32,
}

impl Child {
    /// Starts this program again as the second host, and reads where it listens.
    pub(crate) async fn start(dir: &Path) -> Result<Self, Error> {
        let failed = |what: String| {
            Error::new(
                Exit::Failed,
                what,
                "run it again with -v; check that processes and UDP sockets are allowed",
            )
        };
        let program = std::env::current_exe().map_err(|e| failed(format!("cannot find this program: {e}")))?;
        let mut command = Command::new(program);
        command
            .arg("demo-host")
            .arg(dir)
            // Signals of the terminal are for the first host, which ends this one.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command
            .spawn()
            .map_err(|e| failed(format!("cannot start the second host: {e}")))?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            let mut lines = BufReader::new(out);
            let read = tokio::time::timeout(START, lines.read_line(&mut line)).await;
            read.map_err(|_| failed("the second host did not start in time".to_owned()))?
                .map_err(|e| failed(format!("cannot read from the second host: {e}")))?;
        }
        let (eid, address) =
            parse(&line).ok_or_else(|| failed(format!("the second host failed to start: {line:?}")))?;
        let place = Place {
            eid,
            address,
            process: process.id().unwrap_or(0),
        };
        let input = process.stdin.take();
        Ok(Self { process, input, place })
    }

    /// Returns who and where it is.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Waits for it to end, which it must not do by itself.
    pub(crate) async fn ended(&mut self) -> Error {
        let how = match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Error::new(
            Exit::Failed,
            format!("the second host ended: {how}"),
            "run it again with -v, and report what it says",
        )
    }

    /// Lets it end, and ends it if it does not.
    pub(crate) async fn stop(mut self) {
        drop(self.input.take());
        if tokio::time::timeout(END, self.process.wait()).await.is_err() {
            // It may just have ended.
            let _ = self.process.kill().await;
        }
    }
}

fn parse(line: &str) -> Option<(Eid, SocketAddr)> {
    let target = Target::parse(line.strip_prefix("listening ")?.trim().as_ref()).ok()?;
    match target.places[..] {
        [place::Place::Address(address)] => Some((target.eid?, address)),
        _ => None,
    }
}
