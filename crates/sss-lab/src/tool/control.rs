//! Orders for a lab that another process holds: a line there, an answer back.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sss_lab::{Error, Lab};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

/// Longest order.
const LONGEST: u64 = 4096;

/// Sends an order to a lab, and prints its answer.
pub(crate) fn ask(tag: Option<&str>, order: &str) -> Result<ExitCode, Error> {
    let tag = match (tag, &sss_lab::living()[..]) {
        (Some(tag), _) => tag.to_owned(),
        (None, [only]) => only.clone(),
        (None, []) => return Err(Error::Unknown("lab that is up: sss-lab up".into())),
        (None, several) => {
            let tags = several.join(", ");
            return Err(Error::Impossible(format!(
                "several labs are up: --lab with one of {tags}"
            )));
        }
    };
    let talk = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(sss_lab::control_socket(&tag))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(format!("{order}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(|error| Error::Impossible(format!("the lab {tag} does not answer: {error}")))?;
    // An answer is one line: those of a text come as one.
    match answer.trim_end().split_once(' ') {
        Some(("error", text)) => Err(Error::Impossible(text.replace('\u{1f}', "\n"))),
        Some((_, text)) => {
            println!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Does what one line of a connection says, and answers.
pub(crate) async fn serve(mut stream: tokio::net::UnixStream, lab: &mut Lab) {
    let mut order = String::new();
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::new(read.take(LONGEST));
    let line = tokio::time::timeout(Duration::from_secs(1), read.read_line(&mut order));
    if !matches!(line.await, Ok(Ok(_))) {
        return;
    }
    let answer = match obey(&order, lab) {
        Ok(text) if text.is_empty() => "ok\n".to_owned(),
        Ok(text) => format!("ok {text}\n"),
        Err(error) => format!("error {}\n", error.to_string().replace('\n', "\u{1f}")),
    };
    // Whoever asked may have gone.
    let _ = write.write_all(answer.as_bytes()).await;
}

fn obey(order: &str, lab: &mut Lab) -> Result<String, Error> {
    let words: Vec<&str> = order.split_whitespace().collect();
    match words[..] {
        ["link", ref settings @ ..] if !settings.is_empty() => lab.set_link(settings)?,
        ["reboot", site] => lab.reboot(site)?,
        ["renumber", site] => return Ok(lab.renumber(site)?.to_string()),
        ["move", host, site] => {
            lab.move_host(host, site)?;
            let addresses: Vec<String> = lab.node(host)?.addresses().iter().map(ToString::to_string).collect();
            return Ok(addresses.join(" "));
        }
        ["firewall", site, rule] => lab.set_firewall(site, rule.parse()?)?,
        ["show"] => {
            let mut facts = lab.json();
            let counters = lab.counters()?;
            facts["packets"] = json!({
                "received": counters.received,
                "delivered": counters.delivered,
                "lost": counters.lost,
                "queue_full": counters.queue_full,
                "unroutable": counters.unroutable,
                "expired": counters.expired,
            });
            return Ok(facts.to_string());
        }
        _ => {
            return Err(Error::Description(format!(
                "{:?} is no change: see sss-lab change --help",
                order.trim()
            )));
        }
    }
    Ok(String::new())
}
