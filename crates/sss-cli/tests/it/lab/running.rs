//! Programs that run in a lab, each with a home of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What both sides of a failure are told with.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(90);

/// A process that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Mutex<mpsc::Receiver<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let lines = Mutex::new(lines);
        Ok(Self { child, lines })
    }

    /// The next event of a name.
    pub(crate) fn event(&mut self, name: &str) -> Result<Value, Failure> {
        let end = Instant::now() + PATIENCE;
        let lines = self.lines.get_mut().map_err(|_| "a thread has panicked")?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).map_err(|error| match error {
                mpsc::RecvTimeoutError::Disconnected => format!("it ended without {name:?}"),
                mpsc::RecvTimeoutError::Timeout => format!("no {name:?} in {PATIENCE:?}"),
            })?;
            let fact: Value = serde_json::from_str(&line).unwrap_or_default();
            if fact["event"] == name {
                return Ok(fact);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tool at a node, with a configuration of its own.
pub(crate) fn command(homes: &tempfile::TempDir, node: &sss_lab::Node, program: &Path) -> Command {
    let home = homes.path().join(node.name());
    let mut command = node.command(&program.to_string_lossy());
    command
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env_remove("SSS_SERVER");
    command
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
