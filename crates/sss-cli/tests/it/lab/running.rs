//! Programs that run in a lab, each with a home of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// What both sides of a failure are told with.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A process that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        Ok(Self {
            child,
            out: BufReader::new(out),
        })
    }

    /// The next event of a name.
    pub(crate) fn event(&mut self, name: &str) -> Result<Value, Failure> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.out.read_line(&mut line)? == 0 {
                return Err(format!("it ended without {name:?}").into());
            }
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
