//! The local network: the switch that looks for hosts there by mDNS, and what is told of it.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use sss::{Eid, FoundBy, Host, HostBuilder, Mdns, MdnsLink, MdnsReport, Route, Seconds};

use crate::error::NOT_ON_LAN;
use crate::output::Output;

/// Time for hosts on the local network to answer: it is asked at 0, 1 and 3 s.
const SURVEY: Duration = Duration::from_millis(3300);
/// As many instances as are told apart.
const MANY: usize = 64;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Advises what to do if mDNS cannot be used.
const CANNOT_BE_USED: &str = "connect this machine to a local network; if it is, stop the program that keeps UDP port \
                              5353 for itself";

/// Argument that says whether mDNS is used.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MdnsArgs {
    /// Find hosts on the local network by their EIDs (mDNS); `sss serve` announces itself there, to be found by those
    /// who know its EID, and tells that to nobody else, as with --hidden
    #[arg(long)]
    pub(crate) mdns: bool,
}

impl MdnsArgs {
    /// The host looks for others, if it is to, and announces itself if it wants to be found.
    pub(crate) fn apply(self, builder: HostBuilder, found_by: &FoundBy) -> HostBuilder {
        match (self.mdns, found_by) {
            (false, _) => builder,
            (true, FoundBy::Nobody) => builder.mdns(Mdns::Browse),
            (true, _) => builder.mdns(Mdns::Announce),
        }
    }

    /// Returns whether hosts are looked for.
    pub(crate) fn is_on(self) -> bool {
        self.mdns
    }
}

/// Asks on the local network who is there, and waits until most have answered, or the time is over: returns how long,
/// if that is shorter. Nothing if mDNS is off.
pub(crate) async fn survey(host: &Host, limit: Duration) -> Option<Duration> {
    host.mdns()?;
    host.survey_lan();
    tokio::time::sleep(SURVEY.min(limit)).await;
    (limit < SURVEY).then_some(limit)
}

/// Findings about the local network, for people and for machines.
pub(crate) struct Examined {
    pub(crate) words: String,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
    /// Addresses where a host was heard that has the peer's tag.
    pub(crate) found: Vec<String>,
}

fn link_words(link: &MdnsLink) -> String {
    let addresses: Vec<_> = link.addresses.iter().map(ToString::to_string).collect();
    format!("{} ({})", link.name, addresses.join(", "))
}

fn links_words(report: &MdnsReport) -> String {
    let links: Vec<_> = report.links.iter().map(link_words).collect();
    links.join(", ")
}

/// Addresses at which a host seemed to be.
fn places_of<'a>(report: &'a MdnsReport, eid: &'a Eid) -> impl Iterator<Item = String> + 'a {
    let found = report.found.iter().filter(move |(found, _)| found == eid);
    found.map(|(_, address)| address.to_string())
}

/// Findings about a host that was looked for, if one was; else about all, in the time that [`survey`] has told. `None`
/// if mDNS is off.
pub(crate) fn examined(host: &Host, wanted: Option<&Eid>, cut_short: Option<Duration>) -> Option<Examined> {
    let report = host.mdns()?;
    let places: Vec<String> = wanted.iter().flat_map(|eid| places_of(&report, eid)).collect();
    let mut advice = Vec::new();
    let words = match (&report.failure, wanted) {
        (Some(failure), _) => {
            advice.push(CANNOT_BE_USED.to_owned());
            format!("cannot be used: {failure}")
        }
        (None, None) => {
            let there = match report.instances {
                0 => "no host announces itself there".to_owned(),
                1 => "one host announces itself there".to_owned(),
                MANY => format!("{MANY} hosts announce themselves there, or more"),
                n => format!("{n} hosts announce themselves there"),
            };
            let time = cut_short.map_or_else(String::new, |time| {
                advice.push("with more --timeout, those are heard that answer later".to_owned());
                format!(" within {}", Seconds(time))
            });
            format!(
                "asked on {}: {there}{time}; an EID tells whether it is one of them",
                links_words(&report)
            )
        }
        (None, Some(_)) => {
            let others = match report.heard {
                0 => "no host was heard".to_owned(),
                1 => "one announcement was heard".to_owned(),
                n => format!("{n} announcements were heard"),
            };
            let found = match places.is_empty() {
                false => format!("the peer's is from {}", places.join(", ")),
                true => {
                    advice.push(NOT_ON_LAN.to_owned());
                    "none was the peer's".to_owned()
                }
            };
            match report.heard {
                0 => format!("asked on {}: {others}", links_words(&report)),
                _ => format!("asked on {}: {others}; {found}", links_words(&report)),
            }
        }
    };
    let links = report.links.iter().map(link_fact);
    let fact = json!({
        "links": links.collect::<Vec<_>>(),
        "failure": report.failure,
        "questions": report.questions,
        "heard": report.heard,
        "instances": report.instances,
        "dropped": report.dropped,
        "found": places,
    });
    Some(Examined {
        words,
        advice,
        fact,
        found: places,
    })
}

fn link_fact(link: &MdnsLink) -> Value {
    let addresses: Vec<_> = link.addresses.iter().map(ToString::to_string).collect();
    json!({"name": link.name, "addresses": addresses, "instance": link.instance})
}

/// Words about mDNS for an error, where it has not helped.
pub(crate) fn failed(host: &Host) -> Option<String> {
    let report = host.mdns()?;
    Some(match report.failure {
        Some(failure) => format!("mDNS cannot be used: {failure}"),
        None => format!("the local network was asked by mDNS: {}", links_words(&report)),
    })
}

/// Returns whether a host was found by mDNS where a route leads.
pub(crate) fn has_found(host: &Host, eid: &Eid, route: Route) -> bool {
    let report = host.mdns();
    report.is_some_and(|report| {
        let mut found = report.found.iter();
        found.any(|(found, address)| found == eid && route == Route::udp(*address))
    })
}

/// Tells on which links the host has announced itself, whenever that changes, for as long as it is at work.
pub(crate) async fn watch(host: Host, output: Output) {
    let (mut told, mut failed): (Vec<MdnsLink>, Option<String>) = (Vec::new(), None);
    while let Some(report) = host.mdns().filter(|_| !host.is_closed()) {
        if report.links != told && report.announcements > 0 {
            if !report.links.is_empty() {
                let text = format!("announced on the local network: {}", links_words(&report));
                let links: Vec<_> = report.links.iter().map(link_fact).collect();
                output.prose(text, &json!({"event": "announced", "links": links}));
            }
            told.clone_from(&report.links);
        }
        if let Some(failure) = report.failure.as_ref().filter(|_| report.failure != failed) {
            output.note(format!(
                "mDNS cannot be used: {failure}\n  -> {CANNOT_BE_USED}: it is tried again"
            ));
        }
        failed = report.failure;
        tokio::time::sleep(PAUSE).await;
    }
}
