//! Long packets: what the negotiation does with them (docs/spec/negotiation.md).

use std::net::SocketAddr;

use sss_wire::long::{self, Accept, Cookie, Hello, Initiate, Long, ProbeReply};

use super::Host;
use crate::error::DropReason;
use crate::io::{Event, Instant};
use crate::negotiation::{Accepted, Refusal};
use crate::peer::{Arrival, Initiated, Peer, TreeId, settings_of};
use crate::seen::Seen;

impl Host {
    pub(super) fn receive_long(&mut self, now: Instant, packet: &[u8], arrival: &Arrival) -> Result<(), DropReason> {
        if !is_usable_source(arrival.remote) {
            return Err(DropReason::BadAddress);
        }
        match Long::parse(packet).map_err(|_| DropReason::Malformed)? {
            Long::Hello(hello) => self.on_hello(now, &hello, arrival),
            Long::Cookie(cookie) => self.on_cookie(now, &cookie, arrival),
            Long::Initiate(initiate) => self.on_initiate(now, &initiate, packet, arrival),
            Long::Accept(accept) => self.on_accept(now, &accept, packet.len(), arrival),
            Long::Retry(retry) => self.on_retry(retry.attempt, retry.token, arrival),
            Long::Version(version) => self.on_version(version.attempt, version.versions().collect()),
            Long::Probe(probe) => {
                let eid = self.own.eid;
                self.push_datagram(arrival.remote, long::probe_reply(probe.attempt, &eid));
                Ok(())
            }
            Long::ProbeReply(reply) => self.on_probe_reply(now, &reply, arrival),
        }
    }

    fn on_hello(&mut self, now: Instant, hello: &Hello<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let mut own = self.own.for_responder();
        let reply = self.responder.hello(now, hello, arrival.remote, &mut own)?;
        self.push_datagram(arrival.remote, reply);
        Ok(())
    }

    fn on_cookie(&mut self, now: Instant, cookie: &Cookie<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let index = self.demux.attempt(cookie.attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        if let Err(reason) = peer.on_cookie(&mut self.own.context(now), cookie, arrival) {
            if reason == DropReason::Unauthentic {
                self.own.sightings.note(now, arrival.remote, Seen::Unopened);
            }
            return Err(reason);
        }
        peer.on_timer(&mut self.own.context(now), &mut self.queues.outbox);
        self.settle(index);
        self.mark_ready(index);
        Ok(())
    }

    fn on_initiate(
        &mut self,
        now: Instant,
        initiate: &Initiate<'_>,
        packet: &[u8],
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        // NEG-19: an attempt of this very host has come back to it.
        if self.demux.attempt(initiate.attempt).is_some() {
            return Err(DropReason::Unwelcome);
        }
        let mut own = self.own.for_responder();
        let accepted = match self.responder.initiate(now, initiate, arrival.remote, &mut own) {
            Ok(accepted) => accepted,
            Err(Refusal::Drop(reason)) => return Err(reason),
            Err(Refusal::Again(channel)) => {
                let index = self.demux.channel(channel).ok_or(DropReason::Duplicate)?;
                let peer = self.peers.at(index).ok_or(DropReason::Duplicate)?;
                let reply = peer.accept_again(packet).ok_or(DropReason::Duplicate)?.to_vec();
                self.push_datagram(arrival.remote, reply);
                return Err(DropReason::Duplicate);
            }
        };
        let initiated = Initiated {
            version: initiate.version,
            attempt: *initiate.attempt,
            packet,
            settings: settings_of(&accepted)?,
        };
        if self.demux.has_channel(accepted.channel_id) {
            return Err(DropReason::Unwelcome);
        }
        let index = match initiated.settings.tree {
            Some(tree) => self.join_tree(now, &accepted, &initiated, tree, arrival)?,
            None => self.begin_tree(now, &accepted, &initiated, arrival)?,
        };
        self.responder.spend(&accepted);
        self.stats.channels_made += 1;
        self.settle(index);
        self.mark_ready(index);
        Ok(())
    }

    /// An INITIATE that asks for a tree (MIG-2): one more channel of it, or a channel that says that it is not known here.
    fn join_tree(
        &mut self,
        now: Instant,
        accepted: &Accepted,
        initiated: &Initiated<'_>,
        tree: TreeId,
        arrival: &Arrival,
    ) -> Result<u32, DropReason> {
        let own = self.own.eid;
        let known = self.demux.tree(&tree);
        let known = known.and_then(|i| Some((i, self.peers.at(i)?)));
        let Some((index, peer)) = known.filter(|(_, p)| *p.eid() == accepted.eid) else {
            let peer = self.accept_new(now, accepted, initiated, arrival)?;
            return Ok(self.peers.insert_unlisted(peer));
        };
        // MIG-9
        if peer.newest_made().is_some_and(|made| accepted.issued < made) {
            return Err(DropReason::StaleCookie);
        }
        // NEG-18
        if peer.has_initiated() && own < accepted.eid {
            return Err(DropReason::Unwelcome);
        }
        peer.on_initiate(&mut self.own.context(now), accepted, initiated, arrival)?;
        Ok(index)
    }

    /// An INITIATE that asks for no tree: of the peer that this host was trying to reach itself, or of a new one.
    fn begin_tree(
        &mut self,
        now: Instant,
        accepted: &Accepted,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<u32, DropReason> {
        let own = self.own.eid;
        let existing = self.peers.by_eid.get(&accepted.eid).copied();
        if let Some((index, peer)) = existing.and_then(|i| Some((i, self.peers.at(i)?)))
            && peer.is_negotiating()
        {
            if peer.is_attempting(&initiated.settings.accepted) {
                // NEG-21
                peer.on_unheard();
                self.settle(index);
            } else if peer.has_initiated() && own < accepted.eid {
                // NEG-18
                return Err(DropReason::Unwelcome);
            } else {
                peer.on_initiate(&mut self.own.context(now), accepted, initiated, arrival)?;
                return Ok(index);
            }
        }
        let others = &initiated.settings.other_trees;
        let existing = self.peers.by_eid.get(&accepted.eid).copied();
        let existing = existing.filter(|i| self.peers.at(*i).is_some_and(|p| !p.is_among(others)));
        self.refuse_outdated(accepted, existing, arrival)?;
        let peer = self.accept_new(now, accepted, initiated, arrival)?;
        // The new peer takes its slot before the old one's may become free: its id names the slot.
        let index = self.peers.insert(peer);
        if let Some(old) = existing {
            let is_same = self.peers.at(old).is_some_and(|p| p.made_at(arrival.remote).is_some());
            if is_same {
                self.end_restarted(old);
            } else {
                self.doubt(now, old);
            }
        }
        Ok(index)
    }

    fn accept_new(
        &mut self,
        now: Instant,
        accepted: &Accepted,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<Peer, DropReason> {
        let id = self.peers.next_id();
        let mut peer = Peer::new(id, accepted.eid, &mut self.own.context(now));
        peer.on_initiate(&mut self.own.context(now), accepted, initiated, arrival)?;
        Ok(peer)
    }

    /// NEG-20: an INITIATE of an attempt that the peer has given up.
    fn refuse_outdated(
        &mut self,
        accepted: &Accepted,
        existing: Option<u32>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let there = existing.and_then(|i| self.peers.at(i)?.made_at(arrival.remote));
        let is_outdated = there.is_some_and(|made| accepted.issued < made)
            || self.own.history.has_initiated_since(&accepted.eid, accepted.issued);
        if is_outdated {
            return Err(DropReason::StaleCookie);
        }
        Ok(())
    }

    /// NEG-20: the peer may have been restarted, or be another process with the same identity.
    fn doubt(&mut self, now: Instant, index: u32) {
        if let Some(peer) = self.peers.at(index) {
            peer.doubt(now);
        }
        self.settle(index);
        self.mark_ready(index);
    }

    /// NEG-20: a new channel from the same address proves that the peer has lost the old one.
    fn end_restarted(&mut self, index: u32) {
        if let Some(peer) = self.peers.at(index) {
            peer.on_restarted();
        }
        self.settle(index);
    }

    fn on_accept(
        &mut self,
        now: Instant,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let index = self.demux.attempt(accept.attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        peer.on_accept(&mut self.own.context(now), accept, size, arrival)?;
        self.stats.channels_made += 1;
        self.settle(index);
        self.mark_ready(index);
        Ok(())
    }

    fn on_retry(&mut self, attempt: &[u8; 8], token: &[u8; 16], arrival: &Arrival) -> Result<(), DropReason> {
        let index = self.demux.attempt(attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        let hello = peer.on_retry(token)?.to_vec();
        self.push_datagram(arrival.remote, hello);
        Ok(())
    }

    fn on_version(&mut self, attempt: &[u8; 8], versions: Vec<u32>) -> Result<(), DropReason> {
        let index = self.demux.attempt(attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        peer.on_version(versions)?;
        self.settle(index);
        Ok(())
    }

    fn on_probe_reply(&mut self, now: Instant, reply: &ProbeReply<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let (nonce, eid) = (reply.attempt, reply.eid);
        // NEG-27
        if let Some(peer) = self.demux.attempt(nonce).and_then(|index| self.peers.at(index)) {
            if !peer.is_tried_at(arrival.remote) {
                return Err(DropReason::UnknownAttempt);
            }
            self.own.sightings.note(now, arrival.remote, Seen::OtherHost(eid));
            return Ok(());
        }
        let asked = self.probes.nonces.get(nonce).ok_or(DropReason::UnknownAttempt)?;
        if *asked != arrival.remote {
            return Err(DropReason::UnknownAttempt);
        }
        self.probes.nonces.remove(nonce);
        self.queues.events.push_back(Event::ProbeReply(arrival.remote, eid));
        Ok(())
    }
}

/// Whether an address can be answered at all.
fn is_usable_source(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
