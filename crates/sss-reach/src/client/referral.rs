//! Servers that others name for a host that they do not know themselves (RCH-44).

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{Host, Instant, Link};
use sss_wire::reach::bodies::{Elsewhere, Found, Status, Unfound};
use sss_wire::{Eid, Seconds};
use thiserror::Error;

use super::calls::Referred;
use super::registration::{Registration as Tried, ServerAddress};
use super::{Client, is_nearer};

/// Servers at a time that nobody but others have named.
const MAX_NAMED: usize = 32;
/// Peers of which is remembered what came of it.
const MAX_REFERRALS: usize = 64;

/// A server that another one has named for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referral {
    /// The peer.
    pub peer: Eid,
    /// The server that was asked.
    pub by: Eid,
    /// The server that it has named.
    pub server: Eid,
    /// Its address, as the other has it.
    pub address: SocketAddr,
    /// Reason why it was of no use. `None` as long as nothing else is known.
    pub failure: Option<StaleReferral>,
}

/// Reason why a server that was named for a peer does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StaleReferral {
    /// It is nearer than the server that has named it, or nowhere (RCH-14): it was not asked.
    #[error("its address is one that another server may not send this host to")]
    Address,
    /// It does not answer.
    #[error("it does not answer")]
    Silent,
    /// It does not know the peer.
    #[error("it does not know the host: what the other has is not true any more")]
    Unknown,
    /// The peer was there, and is not.
    #[error("it has heard nothing of the host for {}", Seconds(*.0))]
    Offline(Duration),
    /// It names another one, which was not asked.
    #[error("it names another server in turn")]
    Chain,
    /// It does not serve this host, or was asked too often.
    #[error("it does not serve this host, or was asked too often")]
    Refused,
}

impl Client {
    /// The latest server that another one has named for a peer.
    pub(crate) fn referral(&self, eid: &Eid) -> Option<Referral> {
        self.found
            .referrals
            .iter()
            .rev()
            .find(|known| known.peer == *eid)
            .cloned()
    }

    fn note_referral(&mut self, referral: Referral) {
        self.found.referrals.retain(|known| known.peer != referral.peer);
        self.found.referrals.push_back(referral);
        while self.found.referrals.len() > MAX_REFERRALS {
            self.found.referrals.pop_front();
        }
    }

    /// Takes in that a server that was named is of no use.
    pub(super) fn note_stale(&mut self, referred: &Referred, unfound: &Unfound) {
        let known = self
            .found
            .referrals
            .iter_mut()
            .find(|known| known.peer == referred.peer);
        if let Some(known) = known.filter(|known| known.server == referred.server) {
            known.failure = Some(match unfound.status {
                Status::Offline => StaleReferral::Offline(Duration::from_secs(unfound.since.into())),
                Status::NeverSeen => StaleReferral::Unknown,
                Status::Elsewhere => StaleReferral::Chain,
                Status::NotAllowed | Status::TooMany => StaleReferral::Refused,
                _ => StaleReferral::Silent,
            });
        }
    }

    /// The server at the end of a link says that another one knows the peer of an introduction: it is asked too, if
    /// this host may be sent there. Returns what the call is told.
    pub(super) fn follow(
        &mut self,
        now: Instant,
        (by, link): (Eid, Link),
        found: &Found,
        host: &Host,
    ) -> Option<Found> {
        let Err(Unfound {
            elsewhere: Some(other), ..
        }) = found.outcome
        else {
            return None;
        };
        let ip = self.registration(link).ok().and_then(|tried| tried.ip_at(link));
        let (peer, is_first) = self.calls.peer(&found.introduction)?;
        let useless = |status| {
            Some(Found {
                introduction: found.introduction,
                outcome: Err(Unfound::because(status)),
            })
        };
        if !is_first {
            return useless(Status::Elsewhere);
        }
        let Elsewhere { server, address } = other;
        let is_place = sss_proto::is_usable(&address.into()) && !is_nearer(ip, address);
        let is_good = is_place && server != host.eid() && server != by;
        let mut referral = Referral {
            peer,
            by,
            server,
            address,
            failure: (!is_good).then_some(StaleReferral::Address),
        };
        if is_good && !self.know(now, server, address) {
            referral.failure = Some(StaleReferral::Refused);
        }
        let is_of_use = referral.failure.is_none();
        self.note_referral(referral);
        if !is_of_use {
            return useless(Status::NeverSeen);
        }
        self.calls.refer(now, (&found.introduction, server), &mut self.rng);
        useless(Status::NeverSeen)
    }

    /// The server can be asked from now on. Returns false if there are too many.
    fn know(&mut self, now: Instant, eid: Eid, address: SocketAddr) -> bool {
        if let Some(known) = self.registrations.iter_mut().find(|known| *known.eid() == eid) {
            known.be_at(now, address);
            return true;
        }
        let named = self.registrations.iter().filter(|known| known.is_named()).count();
        let has_room = named < MAX_NAMED;
        if has_room {
            let server = ServerAddress {
                eid,
                addresses: vec![address],
                tls: None,
            };
            let mut named = Tried::named(now, server);
            named.visit(now);
            self.registrations.push(named);
        }
        has_room
    }
}
