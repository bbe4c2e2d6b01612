//! Long packets: what the negotiation does with them (docs/spec/negotiation.md).

use std::net::SocketAddr;

use rand::RngExt;
use sss_wire::long::{self, Accept, Cookie, Hello, Initiate, Long, ProbeReply, Retry};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code};

use super::Host;
use crate::error::{CloseReason, DropReason, NegotiationError};
use crate::ids::TreeId;
use crate::io::Event;
use crate::negotiation::{self, Proven, Refusal, Standing};
use crate::peer::{Arrival, Initiated, Peer, settings_of};
use crate::seen::Seen;
use crate::time::Instant;

/// An INITIATE that may have to be answered without a channel.
struct Asked<'a> {
    initiate: &'a Initiate<'a>,
    size: usize,
    remote: SocketAddr,
}

impl<'a> Asked<'a> {
    fn new(initiate: &'a Initiate<'a>, packet: &[u8], arrival: &Arrival) -> Self {
        Self {
            initiate,
            size: packet.len(),
            remote: arrival.remote,
        }
    }
}

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
            Long::Retry(retry) => self.on_retry(&retry, arrival),
            Long::Version(version) => self.on_version(version.attempt, version.versions().collect()),
            Long::Probe(probe) => {
                let eid = self.local.eid;
                self.push_datagram(arrival.remote, long::probe_reply(probe.attempt, &eid));
                Ok(())
            }
            Long::ProbeReply(reply) => self.on_probe_reply(now, &reply, arrival),
        }
    }

    fn on_hello(&mut self, now: Instant, hello: &Hello<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let mut local = self.local.for_responder();
        let reply = self.responder.hello(now, hello, arrival.remote, &mut local)?;
        self.push_datagram(arrival.remote, reply);
        Ok(())
    }

    fn on_cookie(&mut self, now: Instant, cookie: &Cookie<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let index = self.demux.attempt(cookie.attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        if let Err(reason) = peer.on_cookie(&mut self.local.context(now), cookie, arrival) {
            if reason == DropReason::Unauthentic {
                self.local.sightings.note(now, arrival.remote, Seen::Unopened);
            }
            return Err(reason);
        }
        peer.on_timer(&mut self.local.context(now), &mut self.queues.outbox);
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
        let asked = Asked::new(initiate, packet, arrival);
        let rng = &mut self.local.rng;
        let proven = match self.responder.initiate(now, initiate, arrival.remote, rng) {
            Ok(proven) => proven,
            Err(Refusal::Drop(reason)) => return Err(reason),
            Err(Refusal::Again(channel)) => return self.on_spent(now, initiate, (packet, channel), arrival),
        };
        let settings = match self.judge(&proven, arrival) {
            Ok(settings) => settings,
            Err((code, reason)) => return self.refuse(now, &asked, &proven, (code, &reason)),
        };
        // MIG-21; a host that is silent answers as one that does not know the tree.
        let is_silent = self.local.config.refuse_silently;
        let unknown = settings
            .tree
            .filter(|tree| !is_silent && self.demux.tree(tree).is_none());
        let ended = unknown.and_then(|tree| self.local.history.end_of_tree(now, &proven.eid, &tree));
        if let Some((code, reason)) = ended {
            return self.refuse(now, &asked, &proven, (code, &reason));
        }
        let standing = self.standing(initiate, &settings, arrival);
        let earlier = settings.attempts.earlier.as_ref();
        let earlier = earlier.filter(|_| settings.tree.is_none()).map(|e| e.attempt);
        let begun = match (standing, earlier) {
            (Standing::Accepted(channel), _) if self.is_accept_owed(&proven, channel, arrival) => {
                return Err(DropReason::Duplicate);
            }
            (Standing::Accepted(_) | Standing::Unknown, Some(attempt)) => {
                if let Some((code, reason)) = self.local.history.end_of(now, &proven.eid, &attempt) {
                    return self.refuse(now, &asked, &proven, (code, &reason));
                }
                self.tree_begun(now, &proven, &attempt)
            }
            _ => None,
        };
        let initiated = Initiated {
            version: initiate.version,
            attempt: *initiate.attempt,
            packet,
            void: earlier.filter(|_| matches!(standing, Standing::NeverAccepted(..))),
            settings,
        };
        if self.demux.has_channel(proven.channel_id) {
            return Err(DropReason::Unwelcome);
        }
        let index = match initiated.settings.tree.or(begun) {
            Some(tree) => self.join_tree(now, &proven, &initiated, tree, arrival)?,
            None => self.begin_tree(now, &proven, &initiated, arrival)?,
        };
        self.responder.spend(&proven);
        if let Standing::NeverAccepted(period, channel) = standing {
            self.responder.void(period, channel);
        }
        self.stats.channels_made += 1;
        self.settle(index);
        self.mark_ready(index);
        Ok(())
    }

    /// An INITIATE whose cookie is spent: ACCEPT again, or the end of the channel if its sender cannot have heard of
    /// it, or the refusal again (NEG-11, NEG-23).
    fn on_spent(
        &mut self,
        now: Instant,
        initiate: &Initiate<'_>,
        (packet, channel): (&[u8], ChannelId),
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        if let Some(index) = self.demux.channel(channel) {
            let peer = self.peers.at(index).ok_or(DropReason::Duplicate)?;
            if let Some(reply) = peer.transport_mut().channels_mut().accept_again(packet) {
                self.push_datagram(arrival.remote, reply);
                return Err(DropReason::Duplicate);
            }
        }
        if !self.refusals.allow(now) {
            return Err(DropReason::Overload);
        }
        let asked = Asked::new(initiate, packet, arrival);
        let proven = self.responder.initiate_spent(initiate, arrival.remote)?;
        let end = self.local.history.end_of(now, &proven.eid, initiate.attempt);
        let end = end.or_else(|| self.judge(&proven, arrival).err());
        let (code, reason) = end.ok_or(DropReason::Duplicate)?;
        self.tell_refused(&asked, &proven, (code, &reason));
        Err(DropReason::Duplicate)
    }

    /// Whether this host makes a channel of a genuine INITIATE: what it says, or why not (NEG-10).
    fn judge(&self, proven: &Proven, arrival: &Arrival) -> Result<Settings, (Code, String)> {
        let config = &self.local.config;
        // NEG-19
        if proven.eid == self.local.eid && !config.allow_own_eid {
            return Err((Code::FORBIDDEN, "it has the same EID".to_owned()));
        }
        let filter = config.accept_filter.as_ref();
        if filter.is_some_and(|filter| !filter(&proven.eid, arrival.remote)) {
            return Err((Code::FORBIDDEN, "it is not among those allowed".to_owned()));
        }
        settings_of(proven).map_err(|error| (error.code, error.what.to_owned()))
    }

    /// NEG-23: whoever has proven its identity is told why it is refused, and nothing is kept but that its cookie is
    /// spent.
    fn refuse(
        &mut self,
        now: Instant,
        asked: &Asked<'_>,
        proven: &Proven,
        why: (Code, &str),
    ) -> Result<(), DropReason> {
        if !self.local.config.refuse_silently && self.refusals.allow(now) {
            self.responder.void(proven.period, proven.channel_id);
            self.tell_refused(asked, proven, why);
        }
        Err(DropReason::Unwelcome)
    }

    fn tell_refused(&mut self, asked: &Asked<'_>, proven: &Proven, why: (Code, &str)) {
        if self.local.config.refuse_silently && why.0 == Code::FORBIDDEN {
            return;
        }
        let nonce = self.local.rng.random();
        if let Some(packet) = negotiation::refusal(asked.initiate, asked.size, proven, nonce, why) {
            self.stats.refusals_sent += 1;
            self.push_datagram(asked.remote, packet);
        }
    }

    /// What became of the earlier attempt that an initiator names (NEG-25).
    fn standing(&self, initiate: &Initiate<'_>, settings: &Settings, arrival: &Arrival) -> Standing {
        let earlier = settings.attempts.earlier.as_ref().filter(|_| settings.tree.is_none());
        earlier.map_or(Standing::Unknown, |earlier| {
            self.responder.standing(earlier, initiate.version, arrival.remote)
        })
    }

    /// Whether the channel of an earlier attempt lives: then there is to be no other, and its ACCEPT is sent again if
    /// it was made (NEG-25).
    fn is_accept_owed(&mut self, proven: &Proven, channel: ChannelId, arrival: &Arrival) -> bool {
        let peer = self.demux.channel(channel).and_then(|index| self.peers.at(index));
        let accept = peer
            .filter(|p| *p.eid() == proven.eid)
            .and_then(|p| p.transport_mut().channels_mut().accept_earlier(channel));
        let Some(accept) = accept else {
            return false;
        };
        if let Some(accept) = accept {
            self.push_datagram(arrival.remote, accept);
        }
        true
    }

    /// The tree that began with an earlier attempt, if it is left without the channel, or its initiator has moved
    /// (NEG-25).
    fn tree_begun(&mut self, now: Instant, proven: &Proven, attempt: &[u8; 8]) -> Option<TreeId> {
        let tree = self.local.history.tree_of(now, &proven.eid, attempt)?;
        let peer = self.demux.tree(&tree).and_then(|index| self.peers.at(index));
        peer.filter(|p| *p.eid() == proven.eid && !p.tree().has_ended())
            .map(|_| tree)
    }

    /// An INITIATE that asks for a tree (MIG-2): one more channel of it, or a channel that says that it is not known
    /// here.
    fn join_tree(
        &mut self,
        now: Instant,
        accepted: &Proven,
        initiated: &Initiated<'_>,
        tree: TreeId,
        arrival: &Arrival,
    ) -> Result<u32, DropReason> {
        let own = self.local.eid;
        let known = self.demux.tree(&tree);
        let known = known.and_then(|i| Some((i, self.peers.at(i)?)));
        let Some((index, peer)) = known.filter(|(_, p)| *p.eid() == accepted.eid) else {
            let peer = self.accept_new(now, accepted, initiated, arrival)?;
            return Ok(self.peers.insert_unlisted(peer));
        };
        // MIG-9
        if peer
            .transport()
            .channels()
            .newest_made()
            .is_some_and(|made| accepted.issued < made)
        {
            return Err(DropReason::StaleCookie);
        }
        // NEG-18
        if peer.transport().attempts().has_initiated() && own < accepted.eid {
            return Err(DropReason::Unwelcome);
        }
        peer.on_initiate(&mut self.local.context(now), accepted, initiated, arrival)?;
        Ok(index)
    }

    /// An INITIATE that asks for no tree: of the peer that this host was trying to reach itself, or of a new one.
    fn begin_tree(
        &mut self,
        now: Instant,
        accepted: &Proven,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<u32, DropReason> {
        let own = self.local.eid;
        let existing = self.peers.by_eid.get(&accepted.eid).copied();
        if let Some((index, peer)) = existing.and_then(|i| Some((i, self.peers.at(i)?)))
            && peer.transport().attempts().is_first()
        {
            if peer
                .transport()
                .attempts()
                .is_among(&initiated.settings.attempts.accepted)
            {
                // NEG-21
                peer.fail(NegotiationError::EndedUnheard.into());
                self.settle(index);
            } else if peer.transport().attempts().has_initiated() && own < accepted.eid {
                // NEG-18
                return Err(DropReason::Unwelcome);
            } else {
                peer.on_initiate(&mut self.local.context(now), accepted, initiated, arrival)?;
                return Ok(index);
            }
        }
        let others = &initiated.settings.other_trees;
        let existing = self.peers.by_eid.get(&accepted.eid).copied();
        let existing = existing.filter(|i| self.peers.at(*i).is_some_and(|p| !p.tree().is_among(others)));
        self.refuse_outdated(accepted, existing, arrival)?;
        let peer = self.accept_new(now, accepted, initiated, arrival)?;
        // The new peer takes its slot before the old one's may become free: its id names the slot.
        let index = self.peers.insert(peer);
        if let Some(old) = existing {
            let is_same = self
                .peers
                .at(old)
                .is_some_and(|p| p.transport().channels().made_at(arrival.remote).is_some());
            if is_same {
                self.end_restarted(old);
            } else {
                self.probe_liveness(now, old);
            }
        }
        Ok(index)
    }

    fn accept_new(
        &mut self,
        now: Instant,
        accepted: &Proven,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<Peer, DropReason> {
        let id = self.peers.next_id();
        let mut peer = Peer::new(id, accepted.eid, &mut self.local.context(now));
        peer.on_initiate(&mut self.local.context(now), accepted, initiated, arrival)?;
        Ok(peer)
    }

    /// NEG-20: an INITIATE of an attempt that the peer has given up.
    fn refuse_outdated(
        &mut self,
        accepted: &Proven,
        existing: Option<u32>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let there = existing.and_then(|i| self.peers.at(i)?.transport().channels().made_at(arrival.remote));
        let is_outdated = there.is_some_and(|made| accepted.issued < made)
            || self.local.history.has_initiated_since(&accepted.eid, accepted.issued);
        if is_outdated {
            return Err(DropReason::StaleCookie);
        }
        Ok(())
    }

    /// NEG-20: the peer may have been restarted, or be another process with the same identity.
    fn probe_liveness(&mut self, now: Instant, index: u32) {
        if let Some(peer) = self.peers.at(index) {
            peer.transport_mut().probe_liveness(now);
        }
        self.settle(index);
        self.mark_ready(index);
    }

    /// NEG-20: a new channel from the same address proves that the peer has lost the old one.
    fn end_restarted(&mut self, index: u32) {
        if let Some(peer) = self.peers.at(index) {
            peer.fail(CloseReason::PeerRestarted);
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
        let orphan = peer.on_accept(&mut self.local.context(now), accept, size, arrival)?;
        self.stats.channels_made += u64::from(peer.is_up() || orphan.is_some());
        let Some(orphan) = orphan else {
            self.settle(index);
            self.mark_ready(index);
            return Ok(());
        };
        // NEG-25: the streams were lost with the peer's state, and the channel is there for others.
        let eid = *peer.eid();
        let id = self.peers.next_id();
        let mut fresh = Peer::new(id, eid, &mut self.local.context(now));
        fresh.adopt(&mut self.local.context(now), orphan);
        let fresh = self.peers.insert(fresh);
        for index in [index, fresh] {
            self.settle(index);
            self.mark_ready(index);
        }
        Ok(())
    }

    fn on_retry(&mut self, retry: &Retry<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let index = self.demux.attempt(retry.attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        let hello = peer
            .transport_mut()
            .attempts_mut()
            .on_retry(retry.version, retry.token)?
            .to_vec();
        self.push_datagram(arrival.remote, hello);
        Ok(())
    }

    fn on_version(&mut self, attempt: &[u8; 8], versions: Vec<u32>) -> Result<(), DropReason> {
        let index = self.demux.attempt(attempt).ok_or(DropReason::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(DropReason::UnknownAttempt)?;
        peer.transport_mut().attempts_mut().on_version(versions)?;
        self.settle(index);
        Ok(())
    }

    fn on_probe_reply(&mut self, now: Instant, reply: &ProbeReply<'_>, arrival: &Arrival) -> Result<(), DropReason> {
        let (nonce, eid) = (reply.attempt, reply.eid);
        // NEG-27
        if let Some(peer) = self.demux.attempt(nonce).and_then(|index| self.peers.at(index)) {
            if !peer.transport().attempts().is_tried_at(arrival.remote) {
                return Err(DropReason::UnknownAttempt);
            }
            self.local.sightings.note(now, arrival.remote, Seen::OtherHost(eid));
            return Ok(());
        }
        if !self.probes.answer(nonce, arrival.remote) {
            return Err(DropReason::UnknownAttempt);
        }
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
