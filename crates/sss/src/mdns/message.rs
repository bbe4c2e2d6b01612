//! Messages of mDNS (RFC 6762, RFC 6763), as far as hosts say and hear them (RCH-33, RCH-35).

use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};
use sss_reach::mdns::{Nonce, SERVICE, TAG_KEY, Tag};

/// Largest message that is read.
pub(super) const MAX_MESSAGE: usize = 1500;
/// Questions and records of a message that is read, at most.
const MAX_RECORDS: u32 = 128;
/// Hosts, or names, of a message of which note is taken, at most.
const MAX_NAMES: usize = 16;
/// Time for which others may remember records, in seconds.
pub(super) const TTL: u32 = 120;
/// The question for all types of services (RFC 6763, section 9).
const ALL_TYPES: &str = "_services._dns-sd._udp.local";

/// Words of a host about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) nonce: Nonce,
    pub(super) tag: Tag,
    /// Port of the host's socket.
    pub(super) port: u16,
}

/// Message that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Asked(Asked),
    /// Hosts that are there.
    Told(Vec<Presence>),
}

/// Question of others, as far as it may be about this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// It is for all hosts.
    pub(super) all: bool,
    /// It is for these, by instance or host name.
    pub(super) names: Vec<Nonce>,
    /// These are known to whoever asks.
    pub(super) known: Vec<Nonce>,
    /// The answer may go to whoever asks alone.
    pub(super) unicast: bool,
}

/// The question for all hosts.
pub(super) fn question(unicast: bool) -> Vec<u8> {
    let mut packet = Packet::new_query(0);
    let name = Name::new_unchecked(SERVICE);
    let kind = QTYPE::TYPE(TYPE::PTR);
    let class = QCLASS::CLASS(CLASS::IN);
    packet.questions.push(Question::new(name, kind, class, unicast));
    packet.build_bytes_vec_compressed().unwrap_or_default()
}

/// The announcement of a host, with its addresses on a link; or, with `is_farewell`, the word that it goes.
pub(super) fn announcement(presence: &Presence, addresses: &[IpAddr], is_farewell: bool) -> Vec<u8> {
    let ttl = if is_farewell { 0 } else { TTL };
    let label = presence.nonce.to_text();
    let (instance, host) = (format!("{label}.{SERVICE}"), format!("{label}.local"));
    let (instance, host) = (Name::new_unchecked(&instance), Name::new_unchecked(&host));
    let service = Name::new_unchecked(SERVICE);
    let tag = presence.tag.to_text();
    let text = TXT::new()
        .with_attribute(TAG_KEY, Some(tag.as_bytes()))
        .unwrap_or_default();
    let location = SRV {
        priority: 0,
        weight: 0,
        port: presence.port,
        target: host.clone(),
    };
    let shared = |name: Name<'static>, of| ResourceRecord::new(name, CLASS::IN, ttl, RData::PTR(PTR(of)));
    let own = |name, data| ResourceRecord::new(name, CLASS::IN, ttl, data).with_cache_flush(true);
    let mut packet = Packet::new_reply(0);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    packet.answers.push(shared(service.clone(), instance.clone()));
    if !is_farewell {
        packet.answers.push(shared(Name::new_unchecked(ALL_TYPES), service));
    }
    packet.answers.push(own(instance.clone(), RData::SRV(location)));
    packet.answers.push(own(instance, RData::TXT(text)));
    for address in addresses {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A::from(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA::from(*v6)),
        };
        packet.answers.push(own(host.clone(), data));
    }
    packet.build_bytes_vec_compressed().unwrap_or_default()
}

/// Reads a message. `None`: it makes no sense, or is more than is read.
pub(super) fn read(bytes: &[u8]) -> Option<Heard> {
    // Of what the counts say, room is made.
    let counts = bytes.get(4..12)?.chunks_exact(2);
    let records: u32 = counts
        .map(|count| u32::from(u16::from_be_bytes([count[0], count[1]])))
        .sum();
    if records > MAX_RECORDS || bytes.len() > MAX_MESSAGE {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    if packet.opcode() != OPCODE::StandardQuery {
        return None;
    }
    Some(match packet.has_flags(PacketFlag::RESPONSE) {
        true => Heard::Told(told(&packet)),
        false => Heard::Asked(asked(&packet)),
    })
}

fn asked(packet: &Packet<'_>) -> Asked {
    let mut asked = Asked::default();
    for question in &packet.questions {
        let is = |name: &str| question.qname == Name::new_unchecked(name);
        let is_pointer = matches!(question.qtype, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY);
        if is_pointer && (is(SERVICE) || is(ALL_TYPES)) {
            asked.all = true;
        } else if let Some(nonce) = instance(&question.qname).or_else(|| host(&question.qname))
            && asked.names.len() < MAX_NAMES
        {
            asked.names.push(nonce);
        } else {
            continue;
        }
        asked.unicast |= question.unicast_response;
    }
    // RFC 6762, section 7.1: what is known for at least half of its time is not said again.
    let known = packet.answers.iter().filter(|record| record.ttl >= TTL / 2);
    let known = known.filter_map(|record| match &record.rdata {
        RData::PTR(PTR(name)) => instance(name),
        _ => None,
    });
    asked.known = known.take(MAX_NAMES).collect();
    asked
}

/// Of each host all is to be in one message: nobody asks on.
fn told(packet: &Packet<'_>) -> Vec<Presence> {
    let records = || packet.answers.iter().chain(&packet.additional_records);
    let mut hosts = Vec::new();
    for record in records().filter(|record| record.ttl > 0) {
        let (RData::TXT(text), Some(nonce)) = (&record.rdata, instance(&record.name)) else {
            continue;
        };
        let mut attributes = text.iter_raw();
        let tag = attributes.find(|(key, _)| key.eq_ignore_ascii_case(TAG_KEY.as_bytes()));
        let tag = tag.and_then(|(_, value)| Tag::parse(value?));
        let port = records().find_map(|other| match &other.rdata {
            RData::SRV(location) if other.name == record.name && other.ttl > 0 => Some(location.port),
            _ => None,
        });
        if let (Some(tag), Some(port)) = (tag, port.filter(|port| *port != 0)) {
            hosts.push(Presence { nonce, tag, port });
        }
        if hosts.len() == MAX_NAMES {
            break;
        }
    }
    hosts
}

/// The number in an instance's name.
fn instance(name: &Name<'_>) -> Option<Nonce> {
    nonce_before(name, SERVICE)
}

/// The number in a host's name.
fn host(name: &Name<'_>) -> Option<Nonce> {
    nonce_before(name, "local")
}

fn nonce_before(name: &Name<'_>, domain: &str) -> Option<Nonce> {
    let domain = Name::new_unchecked(domain);
    let (first, rest) = name.get_labels().split_first()?;
    if rest != domain.get_labels() {
        return None;
    }
    Nonce::parse(first.as_ref())
}

#[cfg(test)]
pub(super) mod tests;
