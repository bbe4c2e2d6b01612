//! Long packets: what the negotiation does with them (docs/spec/negotiation.md).

use std::net::SocketAddr;

use sss_wire::long::{self, Accept, Cookie, Hello, Initiate, Long};

use super::Host;
use crate::error::Drop;
use crate::io::{Event, Instant};
use crate::negotiation::{Accepted, Refusal};
use crate::peer::{Arrival, Peer};

impl Host {
    pub(super) fn receive_long(&mut self, now: Instant, packet: &[u8], arrival: &Arrival) -> Result<(), Drop> {
        if !is_usable_source(arrival.remote) {
            return Err(Drop::BadAddress);
        }
        match Long::parse(packet).map_err(|_| Drop::Malformed)? {
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
            Long::ProbeReply(reply) => self.on_probe_reply(reply.attempt, reply.eid, arrival),
        }
    }

    fn on_hello(&mut self, now: Instant, hello: &Hello<'_>, arrival: &Arrival) -> Result<(), Drop> {
        let mut own = self.own.for_responder();
        let reply = self.responder.hello(now, hello, arrival.remote, &mut own)?;
        self.push_datagram(arrival.remote, reply);
        Ok(())
    }

    fn on_cookie(&mut self, now: Instant, cookie: &Cookie<'_>, arrival: &Arrival) -> Result<(), Drop> {
        let index = self.demux.attempt(cookie.attempt).ok_or(Drop::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(Drop::UnknownAttempt)?;
        peer.on_cookie(&mut self.own.context(now), cookie, arrival)?;
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
    ) -> Result<(), Drop> {
        // NEG-19: an attempt of this very host has come back to it.
        if self.demux.attempt(initiate.attempt).is_some() {
            return Err(Drop::Unwelcome);
        }
        let mut own = self.own.for_responder();
        let accepted = match self.responder.initiate(now, initiate, arrival.remote, &mut own) {
            Ok(accepted) => accepted,
            Err(Refusal::Drop(reason)) => return Err(reason),
            Err(Refusal::Again(channel)) => {
                let index = self.demux.channel(channel).ok_or(Drop::Duplicate)?;
                let peer = self.peers.at(index).ok_or(Drop::Duplicate)?;
                let reply = peer.accept_again(packet).ok_or(Drop::Duplicate)?.to_vec();
                self.push_datagram(arrival.remote, reply);
                return Err(Drop::Duplicate);
            }
        };
        if self.is_outdated(&accepted) {
            return Err(Drop::StaleCookie);
        }
        if self.own_attempt_wins(&accepted) || self.demux.has_channel(accepted.channel_id) {
            return Err(Drop::Unwelcome);
        }
        self.make_channel(now, &accepted, initiate, packet, arrival)
    }

    /// NEG-20: an INITIATE from before the channel with that peer was established is of an attempt that the peer has given up.
    fn is_outdated(&mut self, accepted: &Accepted) -> bool {
        let index = self.peers.by_eid.get(&accepted.eid).copied();
        let peer = index.and_then(|i| self.peers.at(i));
        peer.is_some_and(|p| p.is_up_since_after(accepted.issued))
    }

    /// NEG-18.
    fn own_attempt_wins(&mut self, accepted: &Accepted) -> bool {
        let own = self.own.eid;
        let index = self.peers.by_eid.get(&accepted.eid).copied();
        let peer = index.and_then(|i| self.peers.at(i));
        peer.is_some_and(|p| p.has_initiated()) && own < accepted.eid
    }

    /// A valid INITIATE makes a channel: for the peer we were trying to reach ourselves, or for a new one.
    fn make_channel(
        &mut self,
        now: Instant,
        accepted: &Accepted,
        initiate: &Initiate<'_>,
        packet: &[u8],
        arrival: &Arrival,
    ) -> Result<(), Drop> {
        let existing = self.peers.by_eid.get(&accepted.eid).copied();
        let known = existing.and_then(|i| {
            self.peers
                .at(i)
                .map(|p| (i, p.is_negotiating(), p.is_at(arrival.remote)))
        });
        let index = match known {
            Some((index, true, _)) => {
                let peer = self.peers.at(index).ok_or(Drop::Unwelcome)?;
                peer.on_initiate(
                    &mut self.own.context(now),
                    accepted,
                    (initiate.version, initiate.attempt),
                    packet,
                    arrival,
                )?;
                index
            }
            other => {
                let id = self.peers.next_id();
                let mut peer = Peer::new(id, accepted.eid, &mut self.own.context(now));
                peer.on_initiate(
                    &mut self.own.context(now),
                    accepted,
                    (initiate.version, initiate.attempt),
                    packet,
                    arrival,
                )?;
                // The new peer takes its slot before the old one's may become free: its id names the slot.
                let index = self.peers.insert(peer);
                match other {
                    Some((old, _, true)) => self.end_restarted(old),
                    Some((old, _, false)) => self.doubt(now, old),
                    None => {}
                }
                index
            }
        };
        self.responder.spend(accepted);
        self.stats.channels_made += 1;
        self.settle(index);
        self.mark_ready(index);
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

    fn on_accept(&mut self, now: Instant, accept: &Accept<'_>, size: usize, arrival: &Arrival) -> Result<(), Drop> {
        let index = self.demux.attempt(accept.attempt).ok_or(Drop::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(Drop::UnknownAttempt)?;
        peer.on_accept(&mut self.own.context(now), accept, size, arrival)?;
        self.stats.channels_made += 1;
        self.settle(index);
        self.mark_ready(index);
        Ok(())
    }

    fn on_retry(&mut self, attempt: &[u8; 8], token: &[u8; 16], arrival: &Arrival) -> Result<(), Drop> {
        let index = self.demux.attempt(attempt).ok_or(Drop::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(Drop::UnknownAttempt)?;
        let hello = peer.on_retry(token)?.to_vec();
        self.push_datagram(arrival.remote, hello);
        Ok(())
    }

    fn on_version(&mut self, attempt: &[u8; 8], versions: Vec<u32>) -> Result<(), Drop> {
        let index = self.demux.attempt(attempt).ok_or(Drop::UnknownAttempt)?;
        let peer = self.peers.at(index).ok_or(Drop::UnknownAttempt)?;
        peer.on_version(versions)?;
        self.settle(index);
        Ok(())
    }

    fn on_probe_reply(&mut self, nonce: &[u8; 8], eid: sss_wire::Eid, arrival: &Arrival) -> Result<(), Drop> {
        let asked = self.probes.nonces.get(nonce).ok_or(Drop::UnknownAttempt)?;
        if *asked != arrival.remote {
            return Err(Drop::UnknownAttempt);
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
