//! Words for what came of guessing the ports of NATs.

use serde_json::{Value, json};
use sss::{Mapping, Seconds, SprayOutcome, SprayReport, SprayRole, Verdict};

/// Words for people.
pub(super) fn words(report: &SprayReport) -> String {
    let part = match report.role {
        Some(SprayRole::ToPorts) => format!(
            "{} packets to the peer's NAT, which had {} sockets behind it: ",
            report.sent, report.sockets
        ),
        Some(SprayRole::FromSockets) => format!("{} packets from {} sockets here: ", report.sent, report.sockets),
        _ => String::new(),
    };
    let lack = lack(report.lacks_sockets(), report.role, report.sockets);
    format!("{part}{}{}", outcome(&report.outcome), lack)
}

/// Says who lacks sockets, if that may be why nothing came of it.
fn lack(lacks_sockets: bool, role: Option<SprayRole>, sockets: usize) -> String {
    match (lacks_sockets, role) {
        (false, _) => String::new(),
        (true, Some(SprayRole::FromSockets)) => {
            format!("; the system lets {sockets} be opened here, and 256 are wanted: raise `ulimit -n`")
        }
        (true, _) => {
            format!("; the system of the peer lets {sockets} be opened, and 256 are wanted: `ulimit -n` there")
        }
    }
}

fn outcome(outcome: &SprayOutcome) -> String {
    match outcome {
        SprayOutcome::UnderWay => "under way".to_owned(),
        SprayOutcome::Direct(after) => format!("direct after {}", Seconds(*after)),
        SprayOutcome::Missed => "no two ports met; it is tried again after an hour".to_owned(),
        SprayOutcome::Refused(verdict) => format!("not done: {}", why(*verdict)),
        SprayOutcome::Silent => "not done: the peer has not answered".to_owned(),
        SprayOutcome::NoSockets => "not done: no sockets".to_owned(),
        SprayOutcome::Moved => "given up: the network has changed".to_owned(),
        _ => "not known".to_owned(),
    }
}

fn why(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Off => "the peer does not do it",
        Verdict::Spent => "it was tried within the hour",
        Verdict::NoAddress => "no server has told the peer where this host is",
        Verdict::Useless => "with these two NATs it would not help",
        Verdict::Busy => "the peer does it for somebody else just now",
        Verdict::Agreed => "agreed",
    }
}

fn name(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::Unknown => "unknown",
        Mapping::Same => "same port",
        Mapping::Other => "other ports",
    }
}

/// The same, for programs.
pub(super) fn fact(report: &SprayReport) -> Value {
    let (outcome, seconds) = match &report.outcome {
        SprayOutcome::UnderWay => ("under way", None),
        SprayOutcome::Direct(after) => ("direct", Some(after.as_secs_f64())),
        SprayOutcome::Missed => ("missed", None),
        SprayOutcome::Refused(_) => ("refused", None),
        SprayOutcome::Silent => ("silent", None),
        SprayOutcome::NoSockets => ("no sockets", None),
        SprayOutcome::Moved => ("moved", None),
        _ => ("unknown", None),
    };
    let refused = match report.outcome {
        SprayOutcome::Refused(verdict) => Some(why(verdict)),
        _ if report.lacks_sockets() => Some("the system lets too few sockets be opened"),
        _ => None,
    };
    let role = report.role.map(|role| match role {
        SprayRole::FromSockets => "from sockets",
        _ => "to ports",
    });
    json!({
        "role": role,
        "nat": name(report.own),
        "peers_nat": name(report.theirs),
        "sockets": report.sockets,
        "sent": report.sent,
        "outcome": outcome,
        "seconds": seconds,
        "why": refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_words() {
        let verdicts = [
            Verdict::Off,
            Verdict::Spent,
            Verdict::NoAddress,
            Verdict::Useless,
            Verdict::Busy,
        ];
        let mut all: Vec<String> = verdicts
            .into_iter()
            .map(SprayOutcome::Refused)
            .map(|one| outcome(&one))
            .collect();
        all.extend([
            outcome(&SprayOutcome::UnderWay),
            outcome(&SprayOutcome::Missed),
            outcome(&SprayOutcome::Silent),
            outcome(&SprayOutcome::NoSockets),
            outcome(&SprayOutcome::Moved),
        ]);
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!((distinct.len(), all.len()), (10, 10));
    }

    #[test]
    fn whose_system_lets_too_few_sockets_be_opened_is_said() {
        let here = lack(true, Some(SprayRole::FromSockets), 17);
        assert!(
            here.contains("lets 17 be opened here") && here.contains("ulimit -n"),
            "{here}"
        );
        let there = lack(true, Some(SprayRole::ToPorts), 17);
        assert!(there.contains("the system of the peer lets 17"), "{there}");
        assert_eq!(lack(false, Some(SprayRole::ToPorts), 256), "");
    }
}
