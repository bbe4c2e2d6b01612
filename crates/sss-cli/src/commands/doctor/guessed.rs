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
    format!("{part}{}", outcome(&report.outcome))
}

fn outcome(outcome: &SprayOutcome) -> String {
    match outcome {
        SprayOutcome::UnderWay => "under way".to_owned(),
        SprayOutcome::Direct(after) => format!("direct after {}", Seconds(*after)),
        SprayOutcome::Missed => "no two ports met; it is tried again after an hour".to_owned(),
        SprayOutcome::Refused(verdict) => format!("not done: {}", why(*verdict)),
        SprayOutcome::Silent => "not done: the peer has not answered".to_owned(),
        SprayOutcome::NoSockets => "not done: the system lets no sockets be opened".to_owned(),
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
}
