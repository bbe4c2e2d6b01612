//! One lease: a registered host, and where it is.

use std::time::Duration;

use sss_proto::Instant;
use sss_wire::reach::bodies::Presence;
use sss_wire::reach::records::Visibility;

use super::Message;
use crate::path::Path;
use crate::server::tokens::Bearer;

/// A registered host.
pub(in crate::server) struct Lease {
    pub(in crate::server) instance: [u8; 8],
    /// The way to its validated address.
    pub(in crate::server) path: Path,
    /// The number of the latest packet.
    pub(super) counter: u64,
    pub(super) heard: Instant,
    /// Number of the lease: what waits in the queue for one that was given up does not count.
    pub(super) serial: u32,
    /// Round-trip time to the host in microseconds; 0 if it is not known.
    pub(in crate::server) rtt: u32,
    pub(super) visibility: Visibility,
    pub(super) state: State,
    /// Words of its latest REGISTER, in this run of the server.
    pub(super) said: Said,
    /// Nobody is to be told where it is (RCH-38).
    pub(in crate::server) is_veiled: bool,
    /// The port of its address that a router lets in for it, and that it has proven; 0 if there is none (RCH-25).
    pub(super) mapped: u16,
    pub(super) listing: Option<Box<Listing>>,
}

/// Words of a host's latest REGISTER that nothing else keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has not registered in this run of the server: something is missing.
    Nothing,
    /// It asks here alone.
    Stays,
    /// It asks where an answer sends it (RCH-44).
    Follows,
}

/// State of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was renewed.
    Heard,
    /// The host has not answered NOTIFY since.
    Silent,
    /// The host has given it up. The number of its latest packet is remembered, so that none before it brings it back.
    Left,
}

/// Statement that a listed host makes of itself.
pub(super) struct Listing {
    pub(super) words: String,
    pub(super) profile: String,
}

impl Lease {
    /// The number of the latest packet.
    pub(in crate::server) fn counter(&self) -> u64 {
        self.counter
    }

    pub(super) fn new(now: Instant, bearer: &Bearer, path: Path) -> Self {
        Self {
            instance: bearer.instance,
            path,
            counter: 0,
            heard: now,
            serial: 0,
            rtt: 0,
            visibility: Visibility::Hidden,
            state: State::Heard,
            said: Said::Nothing,
            is_veiled: false,
            mapped: 0,
            listing: None,
        }
    }

    /// The mapped port that others are told of: not the one that they are told of anyhow.
    pub(in crate::server) fn mapped_of_others(&self) -> u16 {
        match self.path.link.address() {
            Some(address) if address.port() != self.mapped => self.mapped,
            _ => 0,
        }
    }

    /// A port that was proven stays so as long as the host names it, and stays where it is.
    pub(super) fn note_mapped(&mut self, message: &Message, is_proof: bool) {
        let named = message.mapped.unwrap_or(self.mapped);
        let stays = self.path.link == message.from.link && self.mapped == named;
        self.mapped = if is_proof || stays { named } else { 0 };
    }

    pub(super) fn is_over(&self, now: Instant, ttl: Duration) -> bool {
        self.state == State::Left || self.heard + ttl <= now
    }

    /// Returns whether it asks where an answer sends it (RCH-44).
    pub(in crate::server) fn follows(&self) -> bool {
        self.said == Said::Follows
    }

    pub(super) fn is_visible(&self) -> bool {
        self.visibility != Visibility::Hidden
    }

    pub(super) fn renew(&mut self, now: Instant, message: &Message) {
        self.heard = now;
        self.rtt = message.rtt;
        self.is_veiled = message.is_veiled.unwrap_or(self.is_veiled);
        self.state = State::Heard;
        // What is listed was said on a stream.
        if let Some(presence) = message.presence.filter(|_| self.visibility != Visibility::Listed) {
            self.visibility = match presence {
                Presence::Found => Visibility::Known,
                Presence::Hidden | Presence::Leaving => Visibility::Hidden,
            };
        }
    }
}

impl Listing {
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.split(' ').filter(|word| !word.is_empty())
    }
}
