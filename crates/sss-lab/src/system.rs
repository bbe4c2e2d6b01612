//! Programs of the system: `ip` and `nft`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::Error;

/// Runs a program with what it is to read, and gives what it printed.
pub(crate) fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, Error> {
    let failed = |message: String| Error::Command {
        command: format!("{program} {}\n{input}", arguments.join(" "))
            .trim_end()
            .to_owned(),
        message,
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(program),
        _ => failed(error.to_string()),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Checks that everything is there of which labs are made.
pub(crate) fn check() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    for program in ["ip", "nft"] {
        match Command::new(program).arg("-V").output() {
            Ok(_) => {}
            Err(_) => return Err(missing(program)),
        }
    }
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    device.map(drop).map_err(Error::NoTun)
}

fn missing(program: &'static str) -> Error {
    let package = match program {
        "ip" => "iproute2",
        "nft" => "nftables",
        "chrt" => "util-linux",
        _ => program,
    };
    Error::NoProgram { program, package }
}
