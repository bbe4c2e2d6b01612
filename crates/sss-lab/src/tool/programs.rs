//! The same command in several nodes.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use sss_lab::{Error, Lab, Node, Role};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

/// Commands that run.
pub(crate) struct Programs {
    running: JoinSet<std::io::Result<Option<u8>>>,
    status: u8,
}

impl Programs {
    /// Starts a command in the hosts of a lab, or in the nodes that are named.
    pub(crate) fn start(lab: &Lab, command: &[String], on: &[String]) -> Result<Self, Error> {
        let mut programs = Self {
            running: JoinSet::new(),
            status: 0,
        };
        let Some((program, arguments)) = command.split_first() else {
            return Ok(programs);
        };
        let nodes: Vec<&Node> = if on.is_empty() {
            lab.hosts().collect()
        } else {
            on.iter().map(|name| lab.node(name)).collect::<Result<_, _>>()?
        };
        let is_alone = nodes.len() == 1;
        for node in nodes {
            let mut command = node.command(program);
            command.args(arguments).envs(environment(lab, node));
            if !is_alone {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
            }
            let child = tokio::process::Command::from(command).spawn();
            let child = child.map_err(|source| Error::System {
                what: format!("{program} in {}", node.name()),
                source,
            })?;
            programs.running.spawn(attend(node.name().to_owned(), child));
        }
        Ok(programs)
    }

    /// Waits until all have ended: the status of the first that failed.
    pub(crate) async fn end(&mut self) -> ExitCode {
        while let Some(ended) = self.running.join_next().await {
            // Ended by a signal, or not to be waited for: failed.
            let status = ended.ok().and_then(Result::ok).flatten().unwrap_or(1);
            if self.status == 0 {
                self.status = status;
            }
        }
        ExitCode::from(self.status)
    }
}

/// Prints what a program prints, each line with the name of its node, until it ends.
async fn attend(name: String, mut child: Child) -> std::io::Result<Option<u8>> {
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let output = relay(&name, output, |line| println!("{line}"));
    let errors = relay(&name, errors, |line| eprintln!("{line}"));
    let relays = async { tokio::join!(output, errors) };
    tokio::pin!(relays);
    let status = tokio::select! {
        status = child.wait() => {
            // Something that it started and left behind may hold its outputs open.
            let _ = tokio::time::timeout(Duration::from_secs(1), relays).await;
            status
        }
        _ = &mut relays => child.wait().await,
    };
    Ok(status?.code().and_then(|code| u8::try_from(code).ok()))
}

async fn relay(name: &str, from: Option<impl AsyncRead + Unpin>, print: impl Fn(String)) {
    let Some(from) = from else {
        return;
    };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        print(format!("{name} | {line}"));
    }
}

/// Variables that tell a program where it is.
fn environment(lab: &Lab, node: &Node) -> Vec<(&'static str, String)> {
    let mut all = vec![("LAB_TAG", lab.tag().to_owned()), ("LAB_SIDE", node.name().to_owned())];
    let address = |node: &Node| node.addresses().first().map(ToString::to_string);
    let mut add = |name, value: Option<String>| all.extend(value.map(|value| (name, value)));
    add("LAB_ADDRESS", address(node));
    add("LAB_OUTSIDE", lab.outside(node).map(|address| address.to_string()));
    let is_peer = |other: &&Node| other.role() == Role::Host && other.name() != node.name();
    add("LAB_PEER", lab.nodes().iter().find(is_peer).and_then(address));
    if let Ok(server) = lab.node("server") {
        add("LAB_SERVER", address(server));
        add("LAB_SERVER_2", server.addresses().get(1).map(ToString::to_string));
    }
    all
}
