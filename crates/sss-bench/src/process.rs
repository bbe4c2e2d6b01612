//! Starts this program again as the client or the server of a measurement, and talks to it in lines of JSON.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::outcome::Outcome;

/// The part of a child process in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
    /// The server of [`million`](crate::million).
    Holder,
}

impl Role {
    fn subcommand(self) -> &'static str {
        match self {
            Self::Server => "serve",
            Self::Client => "client",
            Self::Holder => "hold",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server | Self::Holder => "server",
            Self::Client => "client",
        })
    }
}

/// A child process. It ends when its input ends, and is killed when this is dropped.
pub(crate) struct Process {
    role: Role,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this program in a role; what it writes to its standard error appears on ours.
    pub(crate) fn start(role: Role) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role.subcommand())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no pipe to the child's input")?;
        let output = child.stdout.take().ok_or("no pipe from the child's output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            role,
            child,
            input,
            lines,
        })
    }

    /// Sends one message.
    pub(crate) fn send(&mut self, message: &impl Serialize) -> Outcome<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.input
            .write_all(&line)
            .map_err(|error| format!("the {} takes no input: {error}", self.role))?;
        Ok(())
    }

    /// Waits for one message. Fails if none comes before `deadline`, or if the child has ended.
    pub(crate) fn receive<M: DeserializeOwned>(&mut self, deadline: Instant) -> Outcome<M> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(serde_json::from_str(&line)?),
            Err(RecvTimeoutError::Timeout) => Err(format!("the {} did not answer in time", self.role).into()),
            Err(RecvTimeoutError::Disconnected) => Err(self.obituary().into()),
        }
    }

    /// Tells why the child is gone. Its output ends a moment before it does.
    fn obituary(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return format!("the {} died: {status}", self.role),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Ok(None) => return format!("the {} closed its output", self.role),
                Err(error) => return format!("the {} is gone: {error}", self.role),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
