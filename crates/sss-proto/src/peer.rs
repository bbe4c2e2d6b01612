//! A peer: another host, the tree of streams shared with it, and the channels that carry it.
//!
//! A channel knows no stream and a stream knows no channel; here frames and tokens pass between them.
//! [`dispatch`] is the way up (the only match on frames), [`fill`] the way down (the fixed order of writers),
//! [`attempt`] and [`handshake`] how a channel comes to be, [`link`] which channels there are, [`migrate`] when there
//! is to be another one.

mod attempt;
mod dispatch;
mod fill;
mod handshake;
mod link;
mod migrate;
mod stats;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use sss_wire::params::MAX_OTHER_TREES;
use sss_wire::{ChannelId, Code, Eid};

use crate::channel::{Channel, ChannelInfo, Fate, TimerEvent};
use crate::error::{CloseReason, DropReason, NegotiationError};
use crate::ids::{PeerId, StreamId, StreamKey, TreeId};
use crate::io::{Datagram, Ecn, Event};
use crate::local_host::{EndedTree, Own};
use crate::negotiation::Step;
use crate::role::Role;
use crate::streams::{DatagramStats, StreamEvent, StreamInfo, Streams, SubtreeDelivery, SubtreeInfo, TreeNode};
use crate::time::Instant;
use attempt::{Attempt, Purpose};
use link::Links;
use migrate::{Mobility, Policy};

pub(crate) use dispatch::OpenPacket;
pub(crate) use handshake::{Incoming, Initiated, settings_of};
pub(crate) use link::{LinkId, Unheard};
pub use stats::PeerStats;

/// What a peer borrows from its host for one call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) own: &'a mut Own,
}

/// How a datagram came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: Ecn,
}

/// A name under which datagrams for a peer arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A negotiation that this host began.
    Attempt([u8; 8]),
    /// An id on which this host receives.
    Channel(ChannelId),
    /// The peer's token for a stateless reset.
    ResetToken([u8; 16]),
    /// The tree.
    Tree(TreeId),
}

/// What names a peer had, and has now.
pub(crate) struct NameChange {
    pub(crate) old: Vec<Name>,
    pub(crate) new: Vec<Name>,
}

/// The tree that is shared with the peer.
#[derive(Default)]
struct Tree {
    /// Once a channel of it was established (MIG-1).
    id: Option<TreeId>,
    /// When its first channel was established.
    began: Instant,
    /// Whether the peer is known to know it (MIG-11).
    is_confirmed: bool,
    /// Why it has ended.
    ended: Option<CloseReason>,
    /// Trees shared with the same host that were there when this one was begun (NEG-20).
    others: Vec<TreeId>,
}

/// One peer of a host: a tree of streams, and what carries it.
pub(crate) struct Peer {
    id: PeerId,
    eid: Eid,
    tree: Tree,
    streams: Streams,
    links: Links,
    attempt: Option<Box<Attempt>>,
    mobility: Mobility,
    /// Names as the host knows them.
    registered: Vec<Name>,
    names_changed: bool,
    events: VecDeque<Event>,
    fates: Vec<Fate>,
    is_ready: bool,
}

impl Peer {
    pub(crate) fn new(id: PeerId, eid: Eid, context: &mut Context<'_>) -> Self {
        let config = &context.own.config;
        let policy = Policy {
            renew: config.renew,
            linger: config.linger,
        };
        Self {
            id,
            eid,
            tree: Tree::default(),
            streams: handshake::new_streams(context),
            links: Links::default(),
            attempt: None,
            mobility: Mobility::new(policy),
            registered: Vec::new(),
            names_changed: false,
            events: VecDeque::new(),
            fates: Vec::new(),
            is_ready: false,
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    pub(crate) fn eid(&self) -> &Eid {
        &self.eid
    }

    pub(crate) fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// The channel that carries the streams, or is to.
    fn channel(&self) -> Option<&Channel> {
        let early = self
            .attempt
            .as_ref()
            .and_then(|a| a.early.as_ref())
            .map(|e| &*e.channel);
        let link = self.links.carrier().or_else(|| self.links.iter().last());
        link.map(|l| &*l.channel).or(early)
    }

    /// Whether a channel is established.
    pub(crate) fn is_up(&self) -> bool {
        self.tree.ended.is_none() && self.links.has_open()
    }

    /// Whether this host tries to reach the peer for the first time.
    pub(crate) fn is_negotiating(&self) -> bool {
        self.attempt.as_ref().is_some_and(|a| a.purpose == Purpose::First)
    }

    /// Whether an attempt of this host has sent INITIATE (NEG-18).
    pub(crate) fn has_initiated(&self) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|a| a.early.is_some() || a.earlier.is_some())
    }

    /// Whether the attempt under way is one of these (NEG-21).
    pub(crate) fn is_attempting(&self, attempts: &[[u8; 8]]) -> bool {
        let own = self.attempt.as_ref();
        own.is_some_and(|own| attempts.iter().any(|a| own.named(a).is_some()))
    }

    /// The open channel at an address was made then (NEG-20).
    pub(crate) fn made_at(&self, remote: SocketAddr) -> Option<Instant> {
        let mut open = self.links.iter().filter(|l| l.is_open());
        open.find(|l| l.channel.remote() == remote).map(|l| l.origin.made)
    }

    /// When the newest channel of the tree was made (MIG-9).
    pub(crate) fn newest_made(&self) -> Option<Instant> {
        self.links.newest_made()
    }

    /// Whether streams can be opened no more.
    pub(crate) fn is_down(&self) -> bool {
        self.tree.ended.is_some()
    }

    /// Whether nothing is left of the tree and its channels.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_down() && self.links.is_empty()
    }

    /// Whether nothing is to be sent to it, or to be heard from it.
    pub(crate) fn is_idle(&self) -> bool {
        self.links.is_empty() && self.attempt.is_none() && (self.is_down() || self.streams.len() == 0)
    }

    /// Whether it has neither a channel nor streams, and waits only for what the peer may have (MIG-14).
    pub(crate) fn is_dormant(&self) -> bool {
        self.is_idle() && !self.is_down()
    }

    /// The latest trees shared with the peer's host, this one included.
    pub(crate) fn trees(&self) -> Vec<TreeId> {
        let own = self.tree.id.into_iter();
        own.chain(self.tree.others.iter().copied())
            .take(MAX_OTHER_TREES)
            .collect()
    }

    /// Whether the tree is one of these.
    pub(crate) fn is_among(&self, trees: &[TreeId]) -> bool {
        self.tree.id.is_some_and(|id| trees.contains(&id))
    }

    /// The tree is begun beside others.
    pub(crate) fn set_other_trees(&mut self, others: Vec<TreeId>) {
        self.tree.others = others;
    }

    /// Whether the application holds none of its streams.
    pub(crate) fn is_unused(&self) -> bool {
        self.streams.is_unused() && self.events.is_empty()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Sets whether it is in the host's queue of peers with something to send; returns what it was.
    pub(crate) fn set_ready(&mut self, ready: bool) -> bool {
        std::mem::replace(&mut self.is_ready, ready)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.tree.ended.clone()
    }

    pub(crate) fn channel_info(&self) -> Option<ChannelInfo> {
        self.channel().map(Channel::info)
    }

    pub(crate) fn stream_info(&self, key: StreamKey) -> Option<StreamInfo> {
        let mut info = self.streams.describe(key, |key| StreamId { peer: self.id, key })?;
        self.complete(&mut info);
        Some(info)
    }

    pub(crate) fn subtree_info(&self, key: StreamKey) -> Option<SubtreeInfo> {
        self.streams.subtree_info(key)
    }

    pub(crate) fn undelivered(&self, key: StreamKey) -> Vec<(StreamKey, u64)> {
        self.streams.undelivered(key)
    }

    pub(crate) fn delivery(&self, key: StreamKey) -> Option<SubtreeDelivery> {
        self.streams.delivery(key)
    }

    pub(crate) fn max_datagram(&self) -> u64 {
        self.streams.max_datagram()
    }

    pub(crate) fn datagram_stats(&self) -> DatagramStats {
        self.streams.datagram_stats()
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn tree(&self) -> Vec<TreeNode> {
        let id = |key| StreamId { peer: self.id, key };
        let node = |(key, parent, mut info): (_, Option<_>, _)| {
            self.complete(&mut info);
            TreeNode {
                id: id(key),
                parent: parent.map(id),
                info,
            }
        };
        self.streams.tree(id).into_iter().map(node).collect()
    }

    /// The next event for the application.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        Some(match self.streams.next_event()? {
            StreamEvent::Ready(key, interest) => Event::Ready(StreamId { peer: self.id, key }, interest),
            StreamEvent::DatagramSettled(datagram, fate) => Event::DatagramSettled(self.id, datagram, fate),
        })
    }

    /// The next top-level stream that the peer opened.
    pub(crate) fn next_incoming(&mut self) -> Option<Incoming> {
        let incoming = self.streams.take_incoming()?;
        Some(Incoming {
            id: StreamId {
                peer: self.id,
                key: incoming.key,
            },
            service: incoming.service,
            protocol: incoming.protocol,
        })
    }

    /// Answers a stream without the application.
    pub(crate) fn answer(&mut self, key: StreamKey, answer: bytes::Bytes) {
        self.streams.answer(key, answer);
    }

    pub(crate) fn refuse(&mut self, key: StreamKey, code: Code) {
        self.streams.refuse(key, code);
    }

    /// A change of names that the host does not know of yet.
    pub(crate) fn take_name_change(&mut self) -> Option<NameChange> {
        if !std::mem::take(&mut self.names_changed) {
            return None;
        }
        let new = self.names();
        let old = std::mem::replace(&mut self.registered, new.clone());
        (old != new).then_some(NameChange { old, new })
    }

    fn names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        let earlier = self.attempt.as_ref().and_then(|a| a.earlier.as_ref());
        for attempt in self.attempt.iter().chain(earlier) {
            names.push(Name::Attempt(*attempt.initiation.attempt()));
            names.extend(attempt.early.as_ref().map(|e| Name::Channel(e.local_id)));
        }
        for link in self.links.iter() {
            names.push(Name::Channel(link.channel.local_id()));
            names.extend(link.reset_token.filter(|_| link.is_open()).map(Name::ResetToken));
        }
        names.extend(self.tree.id.filter(|_| self.tree.ended.is_none()).map(Name::Tree));
        names
    }

    /// Whether an application's call left the names, the timer and the tree as they were.
    pub(crate) fn is_settled(&self) -> bool {
        !self.names_changed && self.tree.ended.is_none()
    }

    /// When [`Self::on_timer`] is to be called.
    pub(crate) fn next_timer(&mut self) -> Option<Instant> {
        let streams = self.streams.next_timer();
        [self.next_link_timer(), streams].into_iter().flatten().min()
    }

    fn next_link_timer(&mut self) -> Option<Instant> {
        // CHN-3
        let has_streams = !self.streams.is_unused();
        if let Some(carrier) = self.links.carrier_mut() {
            carrier.channel.set_keepalive(has_streams);
        }
        let attempt = self.attempt.as_ref().map(|a| a.next_timer());
        let links = self.links.iter().filter_map(|l| l.channel.next_timer()).min();
        [attempt, links, self.next_review()].into_iter().flatten().min()
    }

    /// Time has come for the streams, for the negotiation, for a channel, or for the tree.
    pub(crate) fn on_timer(&mut self, context: &mut Context<'_>, outbox: &mut VecDeque<Datagram>) {
        self.streams.on_timer(context.now);
        self.on_attempt_timer(context, outbox);
        for link in self.links.ids() {
            self.on_link_timer(context.now, link);
        }
        if self.tree.ended.is_none() {
            self.review(context);
        }
    }

    fn on_attempt_timer(&mut self, context: &mut Context<'_>, outbox: &mut VecDeque<Datagram>) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let purpose = attempt.purpose;
        let own = &mut *context.own;
        match attempt.initiation.step(context.now, &own.sightings, &mut own.rng) {
            Step::Wait => {}
            // The next is due at once, and is sent with the next call.
            Step::BeginAgain => return self.begin_again(context),
            Step::Send(packet, addresses) => {
                for remote in addresses {
                    let (remote, bytes) = (*remote, packet.to_vec());
                    outbox.push_back(Datagram { remote, bytes });
                }
                if purpose == Purpose::First {
                    self.probe_unanswered(outbox);
                }
            }
            Step::Fail(error) if purpose == Purpose::First => return self.fail(error.into()),
            Step::Fail(_) => return self.give_up_attempt(),
        }
        let early = self.attempt.as_mut().and_then(|a| a.early_carrier());
        if let Some(channel) = early.filter(|c| c.next_timer().is_some_and(|at| at <= context.now)) {
            channel.on_timer(context.now, &mut self.fates);
            self.settle_fates();
        }
    }

    fn on_link_timer(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        if link.channel.next_timer().is_none_or(|at| at > now) {
            return;
        }
        let event = link.channel.on_timer(now, &mut self.fates);
        self.settle_fates();
        match event {
            TimerEvent::None => {}
            TimerEvent::Forgotten => self.on_restarted(),
            TimerEvent::Idle(after) => self.lose_link(now, id, CloseReason::Idle(after)),
            TimerEvent::KeysUsedUp => {
                let reason = CloseReason::KeysUsedUp;
                self.end(now, (Code::AEAD_LIMIT, &reason.to_string()), reason);
            }
            TimerEvent::Closed => {
                self.links.remove(id);
                self.names_changed = true;
            }
        }
    }

    /// The peer's host says that it does not know a channel (PRT-13, MIG-15). While the channel is young, the answer
    /// may be to early data that overtook INITIATE.
    pub(crate) fn on_stateless_reset(&mut self, now: Instant, token: &[u8; 16]) -> Result<(), DropReason> {
        let link = self.links.by_token(token).ok_or(DropReason::UnknownChannel)?;
        let grace = 3 * link.channel.probe_timeout();
        if now < link.origin.made + grace {
            return Err(DropReason::UnknownChannel);
        }
        self.lose_link(now, link.id(), CloseReason::PeerRestarted);
        Ok(())
    }

    /// The peer has made another channel: it is asked whether it still knows this one (NEG-20).
    pub(crate) fn doubt(&mut self, now: Instant) {
        if let Some(link) = self.links.carrier_mut() {
            link.channel.doubt(now);
        }
    }

    /// The peer has lost the tree (NEG-20).
    pub(crate) fn on_restarted(&mut self) {
        self.fail(CloseReason::PeerRestarted);
    }

    /// The peer had accepted this host's attempt, and ended the channel before ACCEPT arrived (NEG-21).
    pub(crate) fn on_unheard(&mut self) {
        self.fail(NegotiationError::EndedUnheard.into());
    }

    /// The application ends the tree.
    pub(crate) fn close(&mut self, now: Instant, code: Code, reason: &str) {
        let end = CloseReason::Local {
            code,
            reason: reason.to_owned(),
        };
        self.end(now, (code, reason), end);
    }

    /// Ends the tree, and its channels with CLOSE.
    fn end(&mut self, now: Instant, (code, text): (Code, &str), reason: CloseReason) {
        // Of a row of attempts, the first is the one that may have been accepted with something.
        if let Some(earlier) = self.attempt.as_mut().and_then(|a| a.earlier.take()) {
            self.attempt = Some(earlier);
        }
        if let Some(early) = self
            .attempt
            .take_if(|a| a.purpose == Purpose::First)
            .and_then(|a| a.early)
        {
            self.add_link(now, early.channel, Role::Initiator, None);
        }
        self.links.close_all(now, code, text);
        // A peer that has ended the tree itself need not be told.
        if let Some(tree) = self.tree.id
            && self.tree.ended.is_none()
            && !matches!(reason, CloseReason::Peer { .. })
        {
            self.links.unheard.push(Unheard::Tree(EndedTree {
                eid: self.eid,
                tree,
                at: now,
                end: (code, text.to_owned()),
            }));
        }
        self.end_streams(reason);
    }

    /// Ends the tree without telling the peer. What has ended already still waits for late packets.
    fn fail(&mut self, reason: CloseReason) {
        for id in self.links.ids() {
            if self.links.get(id).is_some_and(|l| l.is_open()) {
                self.links.remove(id);
            }
        }
        self.end_streams(reason);
    }

    fn end_streams(&mut self, reason: CloseReason) {
        self.names_changed = true;
        self.attempt = None;
        if self.tree.ended.is_some() {
            return;
        }
        self.streams.fail_all(&reason);
        self.events
            .push_back(Event::Disconnected(self.id, self.eid, reason.clone()));
        self.tree.ended = Some(reason);
    }

    /// ACCEPT again, if `initiate` is the packet that it answers (NEG-11).
    pub(crate) fn accept_again(&mut self, initiate: &[u8]) -> Option<Vec<u8>> {
        self.links.accept_again(|acceptance| acceptance.initiate == initiate)
    }

    /// ACCEPT again, for an attempt that its initiator says was not answered (NEG-25). The outer `None`: no channel of
    /// this attempt is left; the inner one: it has ACCEPT, or that is still to be made.
    pub(crate) fn accept_earlier(&mut self, channel: ChannelId) -> Option<Option<Vec<u8>>> {
        self.links.by_channel(channel).filter(|l| l.is_open())?;
        Some(self.links.accept_again(|acceptance| acceptance.channel == channel))
    }

    /// Ends of which the initiators of channels have not heard (NEG-23).
    pub(crate) fn take_unheard(&mut self) -> Vec<Unheard> {
        std::mem::take(&mut self.links.unheard)
    }

    /// Gives each frame whose packet's fate is known back to its stream.
    fn settle_fates(&mut self) {
        for fate in self.fates.drain(..) {
            if fate.acked {
                self.streams.on_acked(fate.token);
            } else {
                self.streams.on_lost(fate.token);
            }
        }
    }
}

#[cfg(test)]
impl Peer {
    pub(crate) fn tree_id(&self) -> Option<TreeId> {
        self.tree.id
    }

    /// Makes it ask for a tree.
    pub(crate) fn set_tree_id(&mut self, id: TreeId) {
        self.tree.id = Some(id);
    }

    /// The carrier is gone, as after a stateless reset.
    pub(crate) fn lose_carrier(&mut self, now: Instant) {
        let carrier = self.links.carrier_id().expect("there is a carrier");
        self.lose_link(now, carrier, CloseReason::Idle(std::time::Duration::ZERO));
    }

    /// Makes an attempt under way behave as the first of a tree.
    pub(crate) fn pretend_first_attempt(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.purpose = Purpose::First;
        }
    }

    /// The peer has announced this token for the carrier.
    pub(crate) fn set_reset_token(&mut self, token: [u8; 16]) {
        self.links.carrier_mut().expect("there is a carrier").reset_token = Some(token);
        self.names_changed = true;
    }

    /// The ids on which it receives.
    pub(crate) fn channel_ids(&self) -> Vec<Vec<u8>> {
        let ids = self.links.iter().map(|l| l.channel.local_id());
        ids.map(|id| id.as_slice().to_vec()).collect()
    }

    pub(crate) fn open_channels(&self) -> usize {
        self.links.iter().filter(|l| l.is_open()).count()
    }
}
