//! A peer: another host, the tree of streams shared with it, and what carries it.
//!
//! A channel knows no stream and a stream knows no channel; here frames and tokens pass between them. [`Peer`] is the
//! one place where the parts meet; they return values, and never call it:
//!
//! - [`tree`]: the name of the shared tree, and whether it lives; the streams themselves are [`Streams`];
//! - [`transport`]: what connects the hosts. In it are the [`channels`], those that stand by ([`standby`]), this host's
//!   own [`attempt`] to make another one, and what is known of the way and told of it ([`mobility`]);
//! - [`handshake`]: how a channel comes to be; [`acceptance`]: the responder's side of that; [`packet_zero`]: what
//!   INITIATE and ACCEPT carry;
//! - [`dispatch`]: the way up, the only match on frames; [`fill`]: the way down, the fixed order of writers;
//! - [`report`]: what can be known of the streams.

mod acceptance;
mod answer;
mod attempt;
mod channels;
mod context;
mod dispatch;
mod fill;
#[cfg(any(test, fuzzing))]
mod forging;
mod handshake;
mod mobility;
mod names;
mod namesakes;
mod packet_zero;
mod purpose;
mod report;
mod rival;
mod standby;
mod stats;
#[cfg(test)]
mod testing;
mod transport;
mod tree;

use std::collections::VecDeque;

use bytes::Bytes;
use sss_wire::frame::{Frame, Frames};
use sss_wire::{ChannelId, Code, Eid};

use crate::channel::{Opened, Received, TimerEvent};
use crate::error::{CloseReason, DropReason, NegotiationError, ProtocolError};
use crate::ids::{PeerId, StreamId, StreamKey, TreeId};
use crate::io::{Datagram, Event, LinkStatus, Transmit, TransmitBuf};
use crate::negotiation::{HelloAnswer, Proven};
use crate::route::Route;
use crate::streams::{self, StreamEvent, Streams};
use crate::time::{Earliest, Instant};
use crate::token::Token;
use dispatch::{Dispatch, Dispatched};
use handshake::{Begun, Handshake, PacketZero};
use mobility::Policy;
use purpose::Purpose;
use report::Report;
use transport::Transport;
use tree::SharedTree;

pub(crate) use acceptance::Initiated;
pub(crate) use channels::{ChannelSerial, Unheard};
pub(crate) use context::{Arrival, Context};
pub(crate) use dispatch::OpenPacket;
pub(crate) use names::{Name, NameChange};
pub(crate) use packet_zero::settings_of;
pub use stats::PeerStats;

/// One peer of a host: a tree of streams, and what carries it.
pub(crate) struct Peer {
    id: PeerId,
    tree: SharedTree,
    streams: Streams,
    transport: Transport,
    events: VecDeque<Event>,
}

/// The parts, and questions to all of them.
impl Peer {
    pub(crate) fn new(id: PeerId, eid: Eid, context: &mut Context<'_>) -> Self {
        let config = &context.host.config;
        let policy = Policy {
            renew: config.renew.into(),
            linger: config.linger.into(),
        };
        Self {
            id,
            tree: SharedTree::default(),
            streams: context.host.new_streams(),
            transport: Transport::new(eid, policy),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    /// The name that a stream of this peer has at its host.
    pub(crate) fn stream_id(&self, key: StreamKey) -> StreamId {
        StreamId { peer: self.id, key }
    }

    pub(crate) fn eid(&self) -> &Eid {
        self.transport.eid()
    }

    pub(crate) fn tree(&self) -> &SharedTree {
        &self.tree
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(crate) fn streams_mut(&mut self) -> &mut Streams {
        &mut self.streams
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Returns whether a channel is established.
    pub(crate) fn is_up(&self) -> bool {
        !self.tree.has_ended() && self.transport.channels().has_open()
    }

    /// Returns whether nothing is left of the tree and its channels.
    pub(crate) fn is_gone(&self) -> bool {
        self.tree.has_ended() && self.transport.channels().is_empty()
    }

    /// Returns whether nothing is to be sent to it, or to be heard from it.
    pub(crate) fn is_idle(&self) -> bool {
        self.transport.is_idle() && (self.tree.has_ended() || self.streams.len() == 0)
    }

    /// Returns whether it has neither a channel nor streams, and waits only for what the peer may have (MIG-14).
    pub(crate) fn is_dormant(&self) -> bool {
        self.is_idle() && !self.tree.has_ended()
    }

    /// Returns whether the application holds none of its streams, and knows all that there is to know.
    pub(crate) fn is_unused(&self) -> bool {
        self.streams.is_unused() && self.events.is_empty()
    }

    /// Returns whether an application's call left the names, the timer and the tree as they were.
    pub(crate) fn is_settled(&self) -> bool {
        !self.transport.names.is_outdated() && !self.tree.has_ended()
    }

    /// Returns how its streams are.
    pub(crate) fn report(&self) -> Report<'_> {
        Report {
            peer: self.id,
            streams: &self.streams,
            transport: &self.transport,
        }
    }

    /// Totals over all channels of the tree.
    pub(crate) fn stats(&self) -> PeerStats {
        self.transport.stats(self.streams.unsent())
    }

    /// The next event for the application.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            self.events.shrink_to_fit(); // They are rare.
            return Some(event);
        }
        Some(match self.streams.next_event()? {
            StreamEvent::Ready(key, interest) => Event::Ready(self.stream_id(key), interest),
            StreamEvent::DatagramSettled(datagram, fate) => Event::DatagramSettled(self.id, datagram, fate),
        })
    }

    /// A change of names that the host does not know of yet.
    pub(crate) fn take_name_change(&mut self) -> Option<NameChange> {
        self.transport.take_name_change(&self.tree)
    }
}

/// Time.
impl Peer {
    /// Returns when [`Self::on_timer`] is to be called.
    pub(crate) fn next_timer(&mut self) -> Option<Instant> {
        // CHN-3
        let is_used = !self.streams.is_unused();
        self.transport.channels.set_keepalive(is_used);
        let mut next = Earliest::default();
        next.add(self.streams.next_timer());
        next.add(self.transport.next_timer(&self.tree, self.streams.len() > 0));
        next.get()
    }

    /// Time has come for the streams, for the negotiation, for a channel, or for the tree.
    pub(crate) fn on_timer(&mut self, context: &mut Context<'_>, outbox: &mut VecDeque<Datagram>) {
        self.streams.on_timer(context.now);
        if let Err(error) = self.transport.on_attempt_timer(context, outbox) {
            self.on_attempt_failed(error);
        }
        self.settle_fates();
        for channel in self.transport.channels.serials() {
            self.on_channel_timer(context.now, channel);
        }
        if self.transport.channels.rest(context.now) {
            self.rest();
        }
        if !self.tree.has_ended() {
            self.review(context);
        }
    }

    /// Gives back spare memory.
    fn rest(&mut self) {
        streams::rest(&mut self.streams);
        self.transport.fates.shrink_to_fit();
        self.events.shrink_to_fit();
    }

    fn on_channel_timer(&mut self, now: Instant, channel: ChannelSerial) {
        let event = self.transport.on_channel_timer(now, channel);
        self.settle_fates();
        match event {
            TimerEvent::None | TimerEvent::Closed => {}
            TimerEvent::Quiet => self.events.push_back(Event::Quiet(self.id)),
            TimerEvent::Idle(after) => self.lose(now, channel, CloseReason::Idle(after)),
            TimerEvent::KeysUsedUp => {
                let reason = CloseReason::KeysUsedUp;
                self.end(now, (Code::AEAD_LIMIT, &reason.to_string()), reason);
            }
        }
    }

    /// Does what is due: replaced channels go, an attempt begins, or the streams are given up.
    fn review(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.review_status(now);
        self.transport.retire_due(now, &self.tree);
        self.settle_fates();
        let has_streams = self.streams.len() > 0;
        let linger_end = self.transport.linger_end(&self.tree, has_streams);
        if linger_end.is_some_and(|at| at <= now) {
            return self.fail(self.transport.reason_of_silence(now));
        }
        self.transport.begin_due_attempt(context, &self.tree, has_streams);
    }
}

/// Making channels.
impl Peer {
    /// Begins to reach the peer for the first time, for a tree beside others.
    ///
    /// # Errors
    /// If no address is given, or the EID cannot be used.
    pub(crate) fn connect(
        &mut self,
        context: &mut Context<'_>,
        hints: &[Route],
        others: Vec<TreeId>,
    ) -> Result<(), NegotiationError> {
        self.tree = SharedTree::beside(others);
        self.transport.mobility.add_hints(hints);
        self.transport.begin_attempt(context, Purpose::First)
    }

    /// Gives up the first attempt if nobody waits for it; whether it did.
    pub(crate) fn abandon(&mut self, now: Instant) -> bool {
        let is_first = self.transport.attempts().is_first();
        if !is_first || !self.streams.is_unused() || self.streams.has_undelivered() {
            return false;
        }
        self.close(now, Code::NONE, "the attempt was given up");
        true
    }

    /// The attempt under way has failed: so has the tree, if it is the first.
    fn on_attempt_failed(&mut self, error: NegotiationError) {
        if self.transport.attempts().is_first() {
            self.fail(error.into());
        } else {
            self.give_up_attempt();
        }
    }

    /// Gives up the attempt under way; what was sent as early data is sent again.
    fn give_up_attempt(&mut self) {
        self.transport.give_up_attempt();
        self.settle_fates();
    }

    /// COOKIE or COOKIE_K: with both, the channel is made, and INITIATE with the first frames.
    pub(crate) fn on_answer(
        &mut self,
        context: &mut Context<'_>,
        answer: &HelloAnswer<'_>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        if self.transport.knows_namesake_at(&arrival.route) {
            return Err(DropReason::UnknownAttempt);
        }
        let (attempts, streams) = (&mut self.transport.attempts, &mut self.streams);
        match attempts.on_answer(context, answer, arrival, &self.tree, streams)? {
            Ok(()) => self.transport.names.set_outdated(),
            Err(error) => self.on_attempt_failed(error),
        }
        Ok(())
    }

    /// INITIATE was checked by the responder: if its frames are good, the channel is established.
    pub(crate) fn on_initiate(
        &mut self,
        context: &mut Context<'_>,
        proven: &Proven,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let begun = self.handshake().on_initiate(context, proven, initiated, arrival)?;
        self.on_begun(context.now, begun);
        Ok(())
    }

    fn handshake(&mut self) -> Handshake<'_> {
        Handshake {
            tree: &mut self.tree,
            streams: &mut self.streams,
            transport: &mut self.transport,
        }
    }

    /// The peer's packet 0 was taken in.
    fn on_begun(&mut self, now: Instant, begun: Begun) {
        if begun.is_first {
            self.events.push_back(Event::Connected(self.id, *self.eid()));
        }
        match begun.packet_zero {
            Ok(PacketZero::Taken) => {}
            Ok(PacketZero::Closed(code, reason)) => self.on_close(now, begun.channel, code, &reason),
            Ok(PacketZero::UnknownTree) => {
                let end = (Code::UNKNOWN_TREE, handshake::UNKNOWN);
                self.end(now, end, CloseReason::PeerRestarted);
            }
            Err(violation) => return self.violated(now, violation),
        }
        self.consider(now, begun.channel);
    }

    /// A channel is established: it carries the streams now, if it is the better one (MIG-6).
    fn consider(&mut self, now: Instant, channel: ChannelSerial) {
        let status = self.transport.consider(now, channel);
        self.announce(status);
    }
}

/// Up.
impl Peer {
    /// Unmasks, opens and checks a short packet in place.
    pub(crate) fn open(&mut self, id: ChannelId, packet: &mut [u8]) -> Result<(ChannelSerial, Opened), DropReason> {
        // NEG-17: the channel of an attempt is none of the tree's yet.
        let Some(channel) = self.transport.channels.by_id(id) else {
            let opened = self.transport.attempts.rivals.open(id, packet)?;
            return Ok((ChannelSerial::RIVAL, opened));
        };
        let opened = channel.channel.open(packet)?;
        Ok((channel.serial(), opened))
    }

    /// Takes in the frames of an opened packet of `batch`.
    pub(crate) fn receive(
        &mut self,
        context: &mut Context<'_>,
        batch: &Bytes,
        packet: &OpenPacket<'_>,
        arrival: &Arrival,
    ) {
        let (now, serial) = (context.now, self.channel_of(context, packet.channel));
        let Some(mut channel) = self.transport.channels.get_mut(serial) else {
            return;
        };
        if !channel.is_open() {
            let is_close = |frame| matches!(frame, Ok(Frame::Close(_)));
            if Frames::new(packet.frames).any(is_close) {
                let channels = &mut self.transport.channels;
                return channels.on_close_answered(now, serial, self.tree.has_ended());
            }
            channel.channel.ending().on_packet();
            return;
        }
        let is_accepted = packet.opened.generation > 0;
        if is_accepted && let Some(acceptance) = channel.acceptance.take() {
            if let Some(path) = acceptance.way(&arrival.route) {
                channel.channel.settle_on(path);
            }
            self.on_confirmed(context, serial);
            match self.transport.channels.get_mut(serial) {
                Some(same) => channel = same,
                None => return,
            }
        }
        if packet.frames.is_empty() {
            let empty = ProtocolError::new(Code::FRAME_ENCODING, "a packet without frames");
            return self.violated(now, empty);
        }
        let dispatch = Dispatch {
            now,
            channel: &mut channel.channel,
            streams: &mut self.streams,
            fates: &mut self.transport.fates,
            takes_streams: is_accepted || !channel.origin.continues,
        };
        match dispatch.run(Frames::new(packet.frames), batch) {
            Ok(Dispatched::All { is_ack_eliciting }) => {
                let received = Received {
                    ack_eliciting: is_ack_eliciting,
                    ecn: arrival.ecn,
                    bytes: packet.datagram,
                    route: &arrival.route,
                };
                channel.channel.note(now, packet.opened, &received);
            }
            Ok(Dispatched::Closed(close)) => self.on_close(now, serial, close.code, close.reason),
            Err(violation) => return self.violated(now, violation),
        }
        if self.transport.is_to_review() {
            self.review_status(now);
        }
    }

    /// The first packet of generation 1: the initiator has ACCEPT.
    fn on_confirmed(&mut self, context: &mut Context<'_>, channel: ChannelSerial) {
        if let Some(tree) = self.tree.id() {
            context.host.history.confirm(&tree);
        }
        self.tree.confirm();
        self.consider(context.now, channel);
    }

    /// CLOSE ends the tree, unless the channel was replaced (MIG-8).
    fn on_close(&mut self, now: Instant, channel: ChannelSerial, code: Code, reason: &str) {
        let reason = match code {
            Code::REPLACED => {
                let was_carrier = self.transport.on_replaced(now, channel);
                return self.after_loss(now, was_carrier, CloseReason::Replaced);
            }
            Code::UNKNOWN_TREE => CloseReason::PeerRestarted,
            code => CloseReason::Peer {
                code,
                reason: reason.to_owned(),
            },
        };
        // It is answered with CLOSE, but to a peer that has not waited for ACCEPT (CHN-12).
        let unheard = self.transport.channels.get_mut(channel);
        if let Some(channel) = unheard.filter(|channel| channel.acceptance.is_some()) {
            channel.channel.on_close(now);
        }
        self.end(now, (Code::NONE, ""), reason);
    }

    /// The peer broke a rule: CLOSE with the code, and the end of all streams.
    fn violated(&mut self, now: Instant, violation: ProtocolError) {
        let reason = CloseReason::Violation(violation);
        let text = reason.to_string();
        self.end(now, (violation.code, &text), reason);
    }

    /// The peer's host says that it does not know a channel (PRT-13, MIG-15). While the channel is young, the answer
    /// may be to early data that overtook INITIATE.
    pub(crate) fn on_stateless_reset(&mut self, now: Instant, token: &[u8; 16]) -> Result<(), DropReason> {
        let channel = self.transport.channels().by_token(token);
        let channel = channel.ok_or(DropReason::UnknownChannel)?;
        let grace = 3 * channel.channel.probe_timeout();
        if now < channel.origin.made + grace {
            return Err(DropReason::UnknownChannel);
        }
        self.lose(now, channel.serial(), CloseReason::PeerRestarted);
        Ok(())
    }
}

/// Down.
impl Peer {
    /// Returns whether an application's call may have left something to send.
    pub(crate) fn has_output(&self) -> bool {
        self.streams.wants() || self.streams.has_work() || self.tree.has_ended()
    }

    /// Fills the buffer with what is to be sent now, if anything is: ACCEPT before all else.
    pub(crate) fn transmit(
        &mut self,
        context: &mut Context<'_>,
        buf: &mut TransmitBuf,
        tokens: &mut Vec<Token>,
    ) -> Option<Transmit> {
        let (transport, streams) = (&mut self.transport, &mut self.streams);
        streams.walk();
        if let Some((channel, acceptance)) = transport.channels.owing_accept()
            && let Some(accept) = acceptance.transmit(context, channel, streams, buf, tokens)
        {
            return Some(accept);
        }
        let now = context.now;
        if let Some(channel) = transport.attempts.early_carrier() {
            return fill::transmit_on(now, channel, Some(streams), (buf, tokens));
        }
        let carrier = transport.channels.carrier_serial();
        transport.channels.iter_mut().find_map(|channel| {
            let carried = (Some(channel.serial()) == carrier).then_some(&mut *streams);
            fill::transmit_on(now, &mut channel.channel, carried, (buf, tokens))
        })
    }
}

/// Ends.
impl Peer {
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
        // A peer that has ended the tree itself need not be told.
        let is_told = matches!(reason, CloseReason::Peer { .. });
        self.transport.close(now, &self.tree, (code, text), is_told);
        self.end_streams(reason);
    }

    /// Ends the tree without telling the peer. What has ended already still waits for late packets.
    pub(crate) fn fail(&mut self, reason: CloseReason) {
        self.transport.channels.forget_open();
        self.end_streams(reason);
    }

    fn end_streams(&mut self, reason: CloseReason) {
        self.transport.on_end();
        self.settle_fates();
        if self.tree.has_ended() {
            return;
        }
        self.streams.fail_all(&reason);
        self.transport.mobility.on_end(reason.clone());
        self.events
            .push_back(Event::Disconnected(self.id, *self.eid(), reason.clone()));
        self.tree.end(reason);
    }

    /// A channel has ended, but not the tree (MIG-7, MIG-14).
    fn lose(&mut self, now: Instant, channel: ChannelSerial, reason: CloseReason) {
        let was_carrier = self.transport.lose(channel);
        self.after_loss(now, was_carrier, reason);
    }

    /// A channel is gone: if it was the carrier, another one takes over, or the streams wait for one.
    fn after_loss(&mut self, now: Instant, was_carrier: bool, reason: CloseReason) {
        self.settle_fates();
        if !was_carrier {
            return;
        }
        match self.transport.after_loss(now, reason) {
            Ok(status) => self.announce(status),
            Err(reason) => self.fail(reason),
        }
    }

    /// Compares the carrier with what was last told (MIG-11).
    fn review_status(&mut self, now: Instant) {
        let status = self.transport.review_status(now);
        self.announce(status);
    }

    /// Gives what has ended with channels back to the streams, and tells the application of a changed status.
    fn announce(&mut self, status: Option<LinkStatus>) {
        self.settle_fates();
        if let Some(status) = status {
            self.events.push_back(Event::Link(self.id, status));
        }
    }

    /// Gives each frame whose packet's fate is known back to its stream.
    fn settle_fates(&mut self) {
        dispatch::settle(&mut self.transport.fates, &mut self.streams);
    }
}
