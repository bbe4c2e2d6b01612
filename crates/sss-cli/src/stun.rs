//! STUN servers: which ones are asked, and what is told of what they see.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use sss::{Host, HostBuilder, StunReport, StunServer, StunState};

use crate::output::{Output, milliseconds};
use crate::place::Place;

/// The UDP port of STUN servers.
const PORT: u16 = 3478;
/// Servers that a host asks, at most.
pub(crate) const MOST: usize = 4;
/// Time for an answer before what there is to tell is told without: a question is sent four times in it.
const SETTLING: Duration = Duration::from_secs(4);
/// Time that passes after the first answer until others are not waited for: few servers are farther away than that.
const LATER: Duration = Duration::from_millis(1200);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause between two looks at what seldom changes.
const SELDOM: Duration = Duration::from_secs(1);

/// Arguments that say which STUN servers are asked.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StunArgs {
    /// Ask this STUN server where it sees this host, and keep that open in the router (may be given up to 4 times;
    /// the port is 3478 if none is given)
    #[arg(long, value_name = "HOST[:PORT]", value_parser = place)]
    pub(crate) stun: Vec<Place>,
}

/// Reads a STUN server.
pub(crate) fn place(text: &str) -> Result<Place, String> {
    let place = Place::parse(text, Some(PORT)).map_err(|error| error.to_string())?;
    match place.is_nobodys() {
        true => Err(format!("no host is ever at {}", place.host())),
        false => Ok(place),
    }
}

impl StunArgs {
    /// Returns whether some are asked.
    pub(crate) fn is_on(&self) -> bool {
        !self.stun.is_empty()
    }

    /// Number of servers.
    pub(crate) fn count(&self) -> usize {
        self.stun.len()
    }

    /// The servers of a file's lines, if none are given.
    pub(crate) fn or_else<E>(&mut self, lines: impl FnOnce() -> Result<Vec<StunPlace>, E>) -> Result<(), E> {
        if self.stun.is_empty() {
            self.stun = lines()?.into_iter().map(|StunPlace(place)| place).collect();
        }
        Ok(())
    }

    /// The host asks them.
    pub(crate) fn apply(&self, builder: HostBuilder) -> HostBuilder {
        self.stun.iter().fold(builder, |builder, server| builder.stun(server))
    }
}

/// A STUN server as a line of a file.
pub(crate) struct StunPlace(Place);

impl std::str::FromStr for StunPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        place(text).map(Self)
    }
}

/// Addresses at which servers see this host, and that others may try.
pub(crate) fn outside(host: &Host) -> Vec<SocketAddr> {
    host.outside_addrs()
}

/// Waits until all servers have answered, or have not for a while.
pub(crate) async fn settled(host: &Host) {
    let begun = Instant::now();
    let mut answered = None;
    while let Some(report) = host.stun().filter(StunReport::is_pending) {
        if report.seen().next().is_some() && answered.is_none() {
            answered = Some(Instant::now());
        }
        let is_late = answered.is_some_and(|at| at.elapsed() >= LATER);
        if is_late || begun.elapsed() >= SETTLING {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The place of a server, as it was given, and its address if that is another.
fn name(one: &StunServer) -> String {
    match one.at {
        Some(at) if at.to_string() != one.server => format!("{} ({at})", one.server),
        _ => one.server.clone(),
    }
}

fn words(one: &StunServer) -> String {
    let what = match &one.state {
        StunState::Sees { address, rtt } => {
            format!("sees this host at {address}, {:.1} ms", milliseconds(*rtt))
        }
        StunState::Unresolved(why) => format!("its name is not found: {why}"),
        StunState::Refused(why) => format!("refuses: {why}"),
        StunState::Useless(why) => format!("its answer is of no use: {why}"),
        StunState::Silent => "does not answer".to_owned(),
        _ => "has not answered".to_owned(),
    };
    format!("{}: {what}", name(one))
}

fn kind(state: &StunState) -> &'static str {
    match state {
        StunState::Sees { .. } => "sees",
        StunState::Unresolved(_) => "unresolved",
        StunState::Refused(_) => "refused",
        StunState::Useless(_) => "useless",
        StunState::Silent => "silent",
        _ => "asking",
    }
}

/// Advice on what would help.
fn advice(report: &StunReport) -> Vec<String> {
    let mut advice = Vec::new();
    let is = |kinds: &[&str]| report.servers.iter().any(|one| kinds.contains(&kind(&one.state)));
    let is_answered = report.seen().next().is_some();
    if report.is_contradictory() {
        advice.push(
            "the STUN servers see this host at different ports: the router takes another for each peer, so that what \
             they see leads nobody here; use a registration server that relays, or --port-mapping"
                .to_owned(),
        );
    }
    if is(&["silent", "asking"]) && !is_answered {
        advice.push(
            "no STUN server answers: UDP is blocked, from here or there, or none is at that port; try another server"
                .to_owned(),
        );
    } else if is(&["silent", "asking"]) {
        advice.push("one STUN server does not answer, and another does: leave it out, or correct its port".to_owned());
    }
    if is(&["unresolved"]) {
        advice.push("correct the name of the STUN server, or give its address".to_owned());
    }
    if is(&["refused", "useless"]) {
        advice.push("use another STUN server: that one is broken, or it is none, or it lies".to_owned());
    }
    if report.servers.len() == 1 && is_answered {
        advice.push("a second STUN server would show whether the router takes one port for all".to_owned());
    }
    advice
}

fn fact(one: &StunServer) -> Value {
    let (address, rtt) = match one.state {
        StunState::Sees { address, rtt } => (Some(address.to_string()), Some(milliseconds(rtt))),
        _ => (None, None),
    };
    json!({
        "server": one.server,
        "at": one.at.map(|at| at.to_string()),
        "state": kind(&one.state),
        "address": address,
        "rtt_ms": rtt,
        "says": words(one),
    })
}

/// Findings of STUN servers, for people and for machines.
pub(crate) struct Examined {
    pub(crate) words: Vec<String>,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
}

/// Findings of the servers; `None` if none were asked.
pub(crate) fn examined(host: &Host) -> Option<Examined> {
    let report = host.stun()?;
    Some(Examined {
        words: report.servers.iter().map(words).collect(),
        advice: advice(&report),
        fact: json!(report.servers.iter().map(fact).collect::<Vec<_>>()),
    })
}

/// Tells what servers see, when they have answered or should have: in a line for all of them.
pub(crate) fn tell(host: &Host, output: Output) {
    let Some(report) = host.stun() else {
        return;
    };
    let outside = host.outside_addrs();
    for address in &outside {
        let seen_by = report
            .servers
            .iter()
            .filter(|one| matches!(one.state, StunState::Sees { address: seen, .. } if seen == *address));
        let by: Vec<&str> = seen_by.map(|one| one.server.as_str()).collect();
        let text = format!("seen at {address} by {}", by.join(" and "));
        output.prose_aside(
            &text,
            &json!({"event": "seen", "address": address.to_string(), "by": by}),
        );
    }
    let failed: Vec<String> = report
        .servers
        .iter()
        .filter(|one| !matches!(one.state, StunState::Sees { .. }))
        .map(words)
        .collect();
    let note = |text: String| output.prose_aside(&text, &json!({"event": "note", "text": text}));
    // Where another has told, that is enough.
    if !failed.is_empty() && report.seen().next().is_none() {
        note(format!(
            "where this host is seen from outside is not known: {}\n  -> `sss doctor --stun ..` tells more",
            failed.join("; ")
        ));
    }
    if report.is_contradictory() {
        note(
            "the STUN servers see this host at different ports: its router takes another for each peer, and where it \
             is seen leads nobody here\n  -> use a registration server that relays (--server), or --port-mapping"
                .to_owned(),
        );
    }
}

/// Tells what servers see, once that is known, for commands that do something else meanwhile.
pub(crate) async fn tell_when_known(host: Host, output: Output) {
    if host.stun().is_some() {
        settled(&host).await;
        tell(&host, output);
    }
}

/// Calls `anew` whenever others are to try other addresses than before, and servers have told them; for as long as the
/// host is at work.
pub(crate) async fn watch(host: Host, output: Output, mut anew: impl FnMut(&[SocketAddr])) {
    let mut told = host.outside_addrs();
    while host.stun().is_some() && !host.is_closed() {
        tokio::time::sleep(SELDOM).await;
        let is_settled = !host.stun().is_some_and(|report| report.is_pending());
        let outside = host.outside_addrs();
        if is_settled && outside != told {
            told = outside;
            tell(&host, output);
            if !told.is_empty() {
                anew(&told);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_the_port_of_stun_unless_another_is_given() {
        for (text, meant) in [
            ("192.0.2.1", "192.0.2.1:3478"),
            ("Stun.Example", "stun.example:3478"),
            ("stun.example:19302", "stun.example:19302"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
        ] {
            assert_eq!(place(text).unwrap().to_string(), meant, "{text}");
        }
        for bad in ["", "a b", "stun.example:0", "224.0.0.1", "0.0.0.0", "2001:db8::1"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_counts_where_nothing_is_given() {
        let lines = || Ok::<_, ()>(vec!["a.example".parse().unwrap(), "b.example:1".parse().unwrap()]);
        let mut args = StunArgs::default();
        args.or_else(lines).unwrap();
        let shown: Vec<_> = args.stun.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.example:3478", "b.example:1"]);
        args.stun.pop();
        args.or_else(lines).unwrap();
        assert_eq!(args.count(), 1);
    }
}
