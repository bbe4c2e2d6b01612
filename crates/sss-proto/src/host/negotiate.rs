//! Long packets: what the negotiation does with them (docs/spec/negotiation.md).

use rand::RngExt;
use sss_wire::long::{self, Accept, Hello, HelloK, Initiate, Long, ProbeReply, Retry};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code, Eid};

use super::outbox::Outbox;
use super::peers::Peers;
use super::probes::Probes;
use super::stats::HostStats;
use crate::error::{CloseReason, DropReason, NegotiationError, SHUTTING_DOWN};
use crate::ids::TreeId;
use crate::io::Event;
use crate::limit::{Limit, Standing};
use crate::local_host::LocalHost;
use crate::negotiation::{self, Fate, HelloAnswer, Proven, Refusal, Reply, Responder, Sender};
use crate::network::{Network, is_usable};
use crate::peer::{Arrival, Context, Initiated, Peer, settings_of};
use crate::route::Route;
use crate::seen::Seen;
use crate::time::Instant;

/// The responder's side of the negotiation, and the pace of its refusals.
pub(super) struct Admission {
    pub(super) responder: Responder,
    /// Answers to hosts that are refused (NEG-23).
    pub(super) refusals: Limit,
}

/// Parts of the host that a packet of the negotiation may change.
pub(super) struct Negotiation<'a> {
    pub(super) now: Instant,
    /// Way by which the packet came in.
    pub(super) arrival: Arrival,
    pub(super) local: &'a mut LocalHost,
    pub(super) peers: &'a mut Peers,
    pub(super) admission: &'a mut Admission,
    pub(super) outbox: &'a mut Outbox,
    pub(super) probes: &'a mut Probes,
    pub(super) stats: &'a mut HostStats,
}

/// Whoever asks for a channel by an INITIATE, and may have to be answered without one.
struct Applicant<'a> {
    initiate: &'a Initiate<'a>,
    size: usize,
    route: Route,
}

impl<'a> Applicant<'a> {
    fn new(initiate: &'a Initiate<'a>, packet: &[u8], route: Route) -> Self {
        Self {
            initiate,
            size: packet.len(),
            route,
        }
    }
}

impl Negotiation<'_> {
    /// Takes in a long packet.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn receive(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if !is_usable(&self.arrival.route) {
            return Err(DropReason::BadAddress);
        }
        match Long::parse(packet).map_err(|_| DropReason::Malformed)? {
            Long::Hello(hello) => self.on_hello(&hello),
            Long::HelloK(hello_k) => self.on_hello_k(&hello_k),
            Long::Cookie(cookie) => self.on_answer(cookie.attempt, &HelloAnswer::Cookie(&cookie)),
            Long::CookieK(cookie_k) => self.on_answer(cookie_k.attempt, &HelloAnswer::CookieK(&cookie_k)),
            Long::Initiate(initiate) => self.on_initiate(&initiate, packet),
            Long::Accept(accept) => self.on_accept(&accept, packet.len()),
            Long::Retry(retry) => self.on_retry(&retry),
            Long::Version(version) => self.on_version(version.attempt, version.versions().collect()),
            Long::Probe(probe) => self.on_probe(probe.attempt),
            Long::ProbeReply(reply) => self.on_probe_reply(&reply),
        }
    }

    /// NEG-14: only a host that wants to be found says who it is.
    fn on_probe(&mut self, nonce: &[u8; 8]) -> Result<(), DropReason> {
        if !self.local.config.answer_probes || self.peers.services.is_empty() {
            return Err(DropReason::Unwelcome);
        }
        let reply = long::probe_reply(nonce, &self.local.eid);
        self.outbox.hint(self.arrival.way_back(), reply);
        Ok(())
    }

    fn on_hello(&mut self, hello: &Hello<'_>) -> Result<(), DropReason> {
        let (route, mut local) = (self.arrival.route, self.local.for_responder());
        let reply = self.admission.responder.hello(self.now, hello, route, &mut local);
        self.note_greeter();
        self.reply(reply?);
        Ok(())
    }

    fn on_hello_k(&mut self, hello_k: &HelloK<'_>) -> Result<(), DropReason> {
        let (route, mut local) = (self.arrival.route, self.local.for_responder());
        let reply = self.admission.responder.hello_k(self.now, hello_k, route, &mut local);
        self.note_greeter();
        self.reply(reply?);
        Ok(())
    }

    /// Counts what the greeter has done of a packet.
    fn note_greeter(&mut self) {
        let greeters = self.admission.responder.take_greeter_stats();
        greeters.iter().for_each(|greeter| self.stats.add(greeter));
    }

    /// Does the work for a HELLO or HELLO_K that a greeter has admitted.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn receive_admitted(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        let (now, route, mut local) = (self.now, self.arrival.route, self.local.for_responder());
        let responder = &mut self.admission.responder;
        let reply = match Long::parse(packet).map_err(|_| DropReason::Malformed)? {
            Long::Hello(hello) => responder.hello_admitted(now, &hello, route, &mut local)?,
            Long::HelloK(hello_k) => responder.hello_k_admitted(now, &hello_k, route, &mut local)?,
            _ => return Err(DropReason::Malformed),
        };
        self.reply(reply);
        Ok(())
    }

    fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Worked(packet) => self.outbox.reply(self.arrival.way_back(), packet),
            Reply::Hint(packet) => self.outbox.hint(self.arrival.way_back(), packet),
        }
    }

    /// Returns who sent the packet, and whether an established peer is in the same network (NEG-39).
    fn sender(&self) -> Sender {
        let route = self.arrival.route;
        Sender {
            route,
            standing: self.peers.networks().standing((&route).into()),
        }
    }

    fn on_answer(&mut self, attempt: &[u8; 8], answer: &HelloAnswer<'_>) -> Result<(), DropReason> {
        let peer = self.peers.by_attempt(attempt);
        let (index, peer) = peer.ok_or(DropReason::UnknownAttempt)?;
        if let Err(reason) = peer.on_answer(&mut Context::new(self.now, self.local), answer, &self.arrival) {
            if reason == DropReason::Unauthentic {
                self.local.sightings.note(self.now, self.arrival.route, Seen::Unopened);
            }
            return Err(reason);
        }
        peer.on_timer(&mut Context::new(self.now, self.local), self.outbox.attempts());
        self.peers.settle_ready(self.local, index);
        Ok(())
    }

    fn on_initiate(&mut self, initiate: &Initiate<'_>, packet: &[u8]) -> Result<(), DropReason> {
        // NEG-19: an attempt of this very host has come back to it.
        if self.peers.demux.attempt(initiate.attempt).is_some() {
            return Err(DropReason::Unwelcome);
        }
        let applicant = Applicant::new(initiate, packet, self.arrival.route);
        let (sender, responder) = (self.sender(), &mut self.admission.responder);
        let proven = match responder.initiate(self.now, initiate, sender, &mut self.local.rng) {
            Ok(proven) => proven,
            Err(Refusal::Drop(reason)) => return Err(reason),
            Err(Refusal::Again(channel)) => return self.on_spent(initiate, (packet, channel)),
        };
        let made = self.on_proven(&applicant, &proven, packet);
        // What is a duplicate was sent by one that has its channel.
        if made.is_err_and(|reason| reason != DropReason::Duplicate) {
            let cookie = (proven.period, proven.channel_id);
            self.admission.responder.note_vain(self.now, applicant.route, cookie);
        }
        made
    }

    /// An INITIATE whose sender has proven who it is: makes a channel, if nothing is against it.
    fn on_proven(&mut self, applicant: &Applicant<'_>, proven: &Proven, packet: &[u8]) -> Result<(), DropReason> {
        let initiate = applicant.initiate;
        let settings = match self.judge(proven) {
            Ok(settings) => settings,
            Err((code, reason)) => return self.refuse(applicant, proven, (code, &reason)),
        };
        // MIG-21; a host that is silent answers as one that does not know the tree.
        let is_silent = self.local.config.refuse_silently;
        let unknown = settings
            .tree
            .filter(|tree| !is_silent && self.peers.demux.tree(tree).is_none());
        let ended = unknown.and_then(|tree| self.local.history.end_of_tree(self.now, &proven.eid, &tree));
        if let Some((code, reason)) = ended {
            return self.refuse(applicant, proven, (code, &reason));
        }
        let fate = self.fate(initiate, &settings);
        let earlier = settings.attempts.earlier.as_ref();
        let earlier = earlier.filter(|_| settings.tree.is_none()).map(|e| e.attempt);
        let begun = match (fate, earlier) {
            (Fate::Accepted(channel), _) if self.is_accept_owed(proven, channel) => {
                return Err(DropReason::Duplicate);
            }
            (Fate::Accepted(_) | Fate::Unknown, Some(attempt)) => {
                if let Some((code, reason)) = self.local.history.end_of(self.now, &proven.eid, &attempt) {
                    return self.refuse(applicant, proven, (code, &reason));
                }
                let tree = self.local.history.tree_of(self.now, &proven.eid, &attempt);
                tree.filter(|tree| self.has_tree(tree, &proven.eid))
            }
            (Fate::NeverAccepted(..), Some(void)) => {
                let tree = self.local.history.tree_of_row(self.now, &proven.eid, &void);
                tree.filter(|tree| self.has_tree(tree, &proven.eid))
            }
            _ => None,
        };
        let initiated = Initiated {
            version: initiate.version,
            attempt: *initiate.attempt,
            packet,
            void: earlier.filter(|_| matches!(fate, Fate::NeverAccepted(..))),
            settings,
            process: self.local.process.told(self.now, !self.peers.services.is_empty()),
        };
        if self.peers.demux.has_channel(proven.channel_id) {
            return Err(DropReason::Unwelcome);
        }
        let tree = initiated.settings.tree.or(begun);
        if let Err(code) = self.make_room(proven, tree) {
            return self.refuse(applicant, proven, (code, "there are too many connections to this host"));
        }
        let index = match tree {
            Some(tree) => self.join_tree(proven, &initiated, tree)?,
            None => self.begin_tree(proven, &initiated)?,
        };
        self.admission.responder.spend(proven);
        if let Fate::NeverAccepted(period, channel) = fate {
            self.admission.responder.void(period, channel);
        }
        let is_undecided = self.peers.at(index).is_some_and(|peer| peer.has_met());
        self.stats.channels_made += u64::from(!is_undecided);
        self.peers.settle_ready(self.local, index);
        Ok(())
    }

    /// An INITIATE whose cookie is spent: ACCEPT again, or the end of the channel if its sender cannot have heard of
    /// it, or the refusal again (NEG-11, NEG-23).
    fn on_spent(&mut self, initiate: &Initiate<'_>, (packet, channel): (&[u8], ChannelId)) -> Result<(), DropReason> {
        if let Some(index) = self.peers.demux.channel(channel) {
            let peer = self.peers.at(index).ok_or(DropReason::Duplicate)?;
            if let Some(reply) = peer.transport_mut().accept_again(packet, &self.arrival) {
                self.outbox.reply(self.arrival.way_back(), reply);
                return Err(DropReason::Duplicate);
            }
        }
        if !self.may_refuse() {
            return Err(DropReason::Overload);
        }
        let applicant = Applicant::new(initiate, packet, self.arrival.route);
        let proven = self.admission.responder.initiate_spent(initiate, self.arrival.route)?;
        let end = self.local.history.end_of(self.now, &proven.eid, initiate.attempt);
        let end = end.or_else(|| self.judge(&proven).err());
        let (code, reason) = end.ok_or(DropReason::Duplicate)?;
        self.tell_refused(&applicant, &proven, (code, &reason));
        Err(DropReason::Duplicate)
    }

    /// Returns whether this host makes a channel of a genuine INITIATE: what it says, or why not (NEG-10).
    fn judge(&self, proven: &Proven) -> Result<Settings, (Code, String)> {
        let config = &self.local.config;
        if self.local.process.is_ending() {
            return Err((Code::SHUTDOWN, SHUTTING_DOWN.to_owned()));
        }
        // NEG-19
        if proven.eid == self.local.eid && !config.allow_own_eid {
            return Err((Code::FORBIDDEN, "it has the same EID".to_owned()));
        }
        let filter = config.accept_filter.as_ref();
        if filter.is_some_and(|filter| !filter(&proven.eid, self.arrival.route)) {
            return Err((Code::FORBIDDEN, "it is not among those allowed".to_owned()));
        }
        settings_of(proven).map_err(|error| (error.code, error.what.to_owned()))
    }

    /// NEG-23: whoever has proven its identity is told why it is refused, and nothing is kept but that its cookie is
    /// spent.
    fn refuse(&mut self, applicant: &Applicant<'_>, proven: &Proven, why: (Code, &str)) -> Result<(), DropReason> {
        if !self.local.config.refuse_silently && self.may_refuse() {
            self.admission.responder.void(proven.period, proven.channel_id);
            self.tell_refused(applicant, proven, why);
        }
        Err(DropReason::Unwelcome)
    }

    /// Returns whether the sender may be told once more that it is refused.
    fn may_refuse(&mut self) -> bool {
        let sender = Network::from(&self.arrival.route);
        self.admission.refusals.allow(self.now, sender, Standing::Stranger)
    }

    fn tell_refused(&mut self, applicant: &Applicant<'_>, proven: &Proven, why: (Code, &str)) {
        if self.local.config.refuse_silently && why.0 == Code::FORBIDDEN {
            return;
        }
        let nonce = self.local.rng.refresh().random();
        if let Some(packet) = negotiation::refusal(applicant.initiate, applicant.size, proven, nonce, why) {
            self.stats.refusals_sent += 1;
            self.outbox.reply(self.arrival.way_back(), packet);
        }
    }

    /// Returns what became of the earlier attempt that an initiator names (NEG-25).
    fn fate(&self, initiate: &Initiate<'_>, settings: &Settings) -> Fate {
        let earlier = settings.attempts.earlier.as_ref().filter(|_| settings.tree.is_none());
        earlier.map_or(Fate::Unknown, |earlier| {
            self.admission
                .responder
                .fate(earlier, initiate.version, self.arrival.route)
        })
    }

    /// Returns whether the channel of an earlier attempt lives: then there is to be no other, and its ACCEPT is sent
    /// again if it was made (NEG-25).
    fn is_accept_owed(&mut self, proven: &Proven, channel: ChannelId) -> bool {
        let peer = self.peers.demux.channel(channel).and_then(|index| self.peers.at(index));
        let accept = peer
            .filter(|p| *p.eid() == proven.eid)
            .and_then(|p| p.transport_mut().accept_earlier(channel));
        let Some(accept) = accept else {
            return false;
        };
        if let Some(accept) = accept {
            self.outbox.reply(self.arrival.way_back(), accept);
        }
        true
    }

    /// Returns whether this host shares a tree with a peer.
    fn has_tree(&mut self, tree: &TreeId, eid: &Eid) -> bool {
        let peer = self.peers.demux.tree(tree).and_then(|index| self.peers.at(index));
        peer.is_some_and(|p| p.eid() == eid && !p.tree().has_ended())
    }

    /// Makes room for a tree, unless it is one that this host shares with the peer (NEG-35).
    fn make_room(&mut self, proven: &Proven, tree: Option<TreeId>) -> Result<(), Code> {
        if tree.is_some_and(|tree| self.has_tree(&tree, &proven.eid)) {
            return Ok(());
        }
        let of = (&proven.eid, Network::from(&self.arrival.route));
        self.peers.make_room(self.now, self.local, of)
    }

    /// An INITIATE that asks for a tree (MIG-2): one more channel of it, or a channel that says that it is not known
    /// here.
    fn join_tree(&mut self, accepted: &Proven, initiated: &Initiated<'_>, tree: TreeId) -> Result<u32, DropReason> {
        let own = self.local.eid;
        let known = self.peers.demux.tree(&tree);
        let known = known.or_else(|| self.decided_for(&accepted.eid, tree));
        let known = known.and_then(|i| Some((i, self.peers.at(i)?)));
        let Some((index, peer)) = known.filter(|(_, p)| *p.eid() == accepted.eid) else {
            // It is told that the tree is not known, and closes the channel.
            let peer = self.accept_new(accepted, initiated)?;
            let index = self.peers.insert_unlisted(peer);
            self.peers.count(self.local, index, Network::from(&self.arrival.route));
            return Ok(index);
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
            return self.meet(index, accepted, initiated);
        }
        peer.on_initiate(
            &mut Context::new(self.now, self.local),
            accepted,
            initiated,
            &self.arrival,
        )?;
        Ok(index)
    }

    /// NEG-40: the peer whose attempt has begun this tree, if it has decided for it unheard.
    fn decided_for(&mut self, eid: &Eid, tree: TreeId) -> Option<u32> {
        let index = self.peers.by_eid(eid)?;
        let peer = self.peers.at(index)?;
        if !peer.decide_by_tree(&mut Context::new(self.now, self.local), tree) {
            return None;
        }
        self.stats.channels_made += 1;
        Some(index)
    }

    /// An INITIATE that asks for no tree: of the peer that this host was trying to reach itself, or of a new one.
    fn begin_tree(&mut self, accepted: &Proven, initiated: &Initiated<'_>) -> Result<u32, DropReason> {
        let own = self.local.eid;
        let existing = self.peers.by_eid(&accepted.eid);
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
                self.peers.settle(self.local, index);
            } else if peer.transport().attempts().has_initiated() && own < accepted.eid {
                // NEG-18
                return self.meet(index, accepted, initiated);
            } else {
                peer.on_initiate(
                    &mut Context::new(self.now, self.local),
                    accepted,
                    initiated,
                    &self.arrival,
                )?;
                return Ok(index);
            }
        }
        let others = &initiated.settings.other_trees;
        let existing = self.peers.by_eid(&accepted.eid);
        let existing = existing.filter(|i| self.peers.at(*i).is_some_and(|p| !p.tree().is_among(others)));
        self.refuse_outdated(accepted, existing)?;
        let peer = self.accept_new(accepted, initiated)?;
        // The new peer takes its slot before the old one's may become free: its id names the slot.
        let index = self.peers.insert(peer);
        self.peers.count(self.local, index, Network::from(&self.arrival.route));
        if let Some(old) = existing {
            let is_same = self
                .peers
                .at(old)
                .is_some_and(|p| p.transport().channels().made_at(self.arrival.route).is_some());
            if is_same {
                self.end_restarted(old);
            } else {
                self.ask(old);
            }
        }
        Ok(index)
    }

    /// NEG-18: the peer is answered, and decides which of two attempts makes the channel.
    fn meet(&mut self, index: u32, accepted: &Proven, initiated: &Initiated<'_>) -> Result<u32, DropReason> {
        let peer = self.peers.at(index).ok_or(DropReason::Unwelcome)?;
        let accept = peer.meet(
            &mut Context::new(self.now, self.local),
            accepted,
            initiated,
            &self.arrival,
        )?;
        self.outbox.reply(self.arrival.way_back(), accept);
        Ok(index)
    }

    fn accept_new(&mut self, accepted: &Proven, initiated: &Initiated<'_>) -> Result<Peer, DropReason> {
        let mut peer = self.peers.make(self.now, self.local, accepted.eid);
        peer.on_initiate(
            &mut Context::new(self.now, self.local),
            accepted,
            initiated,
            &self.arrival,
        )?;
        Ok(peer)
    }

    /// NEG-20: an INITIATE of an attempt that the peer has given up.
    fn refuse_outdated(&mut self, accepted: &Proven, existing: Option<u32>) -> Result<(), DropReason> {
        let there = existing.and_then(|i| self.peers.at(i)?.transport().channels().made_at(self.arrival.route));
        let is_outdated = there.is_some_and(|made| accepted.issued < made)
            || self.local.history.has_initiated_since(&accepted.eid, accepted.issued);
        if is_outdated {
            return Err(DropReason::StaleCookie);
        }
        Ok(())
    }

    /// NEG-20: the peer may have been restarted, or be another process with the same identity.
    fn ask(&mut self, index: u32) {
        if let Some(peer) = self.peers.at(index) {
            peer.transport_mut().ask();
        }
        self.peers.settle_ready(self.local, index);
    }

    /// NEG-20: a new channel from the same address proves that the peer has lost the old one.
    fn end_restarted(&mut self, index: u32) {
        if let Some(peer) = self.peers.at(index) {
            peer.fail(CloseReason::PeerRestarted);
        }
        self.peers.settle(self.local, index);
    }

    fn on_accept(&mut self, accept: &Accept<'_>, size: usize) -> Result<(), DropReason> {
        let peer = self.peers.by_attempt(accept.attempt);
        let (index, peer) = peer.ok_or(DropReason::UnknownAttempt)?;
        let orphan = peer.on_accept(&mut Context::new(self.now, self.local), accept, size, &self.arrival)?;
        self.stats.channels_made += u64::from(peer.is_up() || orphan.is_some());
        let Some(orphan) = orphan else {
            self.peers.settle_ready(self.local, index);
            return Ok(());
        };
        // NEG-25: the streams were lost with the peer's state, and the channel is there for others.
        let eid = *peer.eid();
        let mut fresh = self.peers.make(self.now, self.local, eid);
        fresh.adopt(&mut Context::new(self.now, self.local), orphan);
        let fresh = self.peers.insert(fresh);
        for index in [index, fresh] {
            self.peers.settle_ready(self.local, index);
        }
        Ok(())
    }

    fn on_retry(&mut self, retry: &Retry<'_>) -> Result<(), DropReason> {
        let peer = self.peers.by_attempt(retry.attempt);
        let (_, peer) = peer.ok_or(DropReason::UnknownAttempt)?;
        // NEG-12: what goes back is many times as large, so it goes to nobody to whom it was not sent before.
        if !peer.transport().attempts().is_tried_at(self.arrival.route) {
            return Err(DropReason::UnknownAttempt);
        }
        let packets = peer
            .transport_mut()
            .attempts_mut()
            .on_retry(retry.version, retry.token)?;
        for packet in packets {
            self.outbox.reply(self.arrival.way_back(), packet.to_vec());
        }
        // NEG-27
        self.local.sightings.note(self.now, self.arrival.route, Seen::Busy);
        Ok(())
    }

    fn on_version(&mut self, attempt: &[u8; 8], versions: Vec<u32>) -> Result<(), DropReason> {
        let peer = self.peers.by_attempt(attempt);
        let (index, peer) = peer.ok_or(DropReason::UnknownAttempt)?;
        peer.transport_mut().attempts_mut().on_version(versions)?;
        self.peers.settle(self.local, index);
        Ok(())
    }

    fn on_probe_reply(&mut self, reply: &ProbeReply<'_>) -> Result<(), DropReason> {
        let (nonce, eid) = (reply.attempt, reply.eid);
        // NEG-27
        if let Some((_, peer)) = self.peers.by_attempt(nonce) {
            if !peer.transport().attempts().is_tried_at(self.arrival.route) {
                return Err(DropReason::UnknownAttempt);
            }
            self.local
                .sightings
                .note(self.now, self.arrival.route, Seen::OtherHost(eid));
            return Ok(());
        }
        if !self.probes.answer(nonce, self.arrival.route) {
            return Err(DropReason::UnknownAttempt);
        }
        self.peers.events.push_back(Event::ProbeReply(self.arrival.route, eid));
        Ok(())
    }
}
