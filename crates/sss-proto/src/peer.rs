//! A peer: another host, the channel to it, and the tree of streams shared with it.
//!
//! A channel knows no stream and a stream knows no channel; here frames and tokens pass between them.
//! [`dispatch`] is the way up (the only match on frames), [`fill`] the way down (the fixed order of writers),
//! [`handshake`] how the channel comes to be.

mod dispatch;
mod fill;
mod handshake;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_wire::{ChannelId, Code, Eid};

use crate::channel::{Channel, ChannelInfo, Fate, TimerEvent};
use crate::error::{CloseReason, Drop, NegotiationError};
use crate::host::{Datagram, Own, TreeNode};
use crate::ids::{PeerId, StreamId, StreamKey};
use crate::io::{Ecn, Event, Instant};
use crate::negotiation::{Initiation, Step};
use crate::streams::{DatagramStats, StreamEvent, StreamInfo, Streams, SubtreeInfo};

pub(crate) use handshake::Incoming;

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

/// The names under which a peer's datagrams arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) attempt: Option<[u8; 8]>,
    pub(crate) channel: Option<ChannelId>,
    pub(crate) reset_token: Option<[u8; 16]>,
}

/// What names a peer had, and has now.
pub(crate) struct NameChange {
    pub(crate) old: Names,
    pub(crate) new: Names,
}

/// The state of the way to the peer.
///
/// ```text
///  Unlinked -> Negotiating -> Early -> Up -> Ending -> Down
///      |                                ^      (CLOSE)
///      +---- INITIATE accepted ---------+
///  any -> Down (failure, idle, stateless reset)
/// ```
enum Link {
    /// Nothing was tried.
    Unlinked,
    /// HELLO is out.
    Negotiating(Box<Initiation>),
    /// INITIATE is out, and early data may be sent.
    Early(Box<Initiation>, Box<Channel>),
    /// The channel is established. A responder keeps ACCEPT until it is known to have arrived.
    Up(Box<Channel>, Option<Box<Acceptance>>),
    /// CLOSE was sent or received, and the channel waits for late packets.
    Ending(Box<Channel>),
    /// There is no channel any more.
    Down,
}

/// The responder's ACCEPT, and the INITIATE that it answers (NEG-11).
pub(crate) struct Acceptance {
    version: u32,
    attempt: [u8; 8],
    initiate: Vec<u8>,
    /// Empty until it was made.
    accept: Vec<u8>,
    keys: handshake::AcceptKeys,
}

/// One peer of a host.
pub(crate) struct Peer {
    id: PeerId,
    eid: Eid,
    link: Link,
    streams: Streams,
    names: Names,
    /// Names as the host knows them.
    registered: Names,
    reason: Option<CloseReason>,
    /// When the channel was established.
    established: Instant,
    events: VecDeque<Event>,
    fates: Vec<Fate>,
    is_ready: bool,
}

impl Peer {
    pub(crate) fn new(id: PeerId, eid: Eid, context: &mut Context<'_>) -> Self {
        Self {
            id,
            eid,
            link: Link::Unlinked,
            streams: handshake::new_streams(context),
            names: Names::default(),
            registered: Names::default(),
            reason: None,
            established: context.now,
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

    fn channel(&self) -> Option<&Channel> {
        match &self.link {
            Link::Early(_, channel) | Link::Up(channel, _) | Link::Ending(channel) => Some(channel),
            Link::Unlinked | Link::Negotiating(_) | Link::Down => None,
        }
    }

    fn channel_mut(&mut self) -> Option<&mut Channel> {
        match &mut self.link {
            Link::Early(_, channel) | Link::Up(channel, _) | Link::Ending(channel) => Some(channel),
            Link::Unlinked | Link::Negotiating(_) | Link::Down => None,
        }
    }

    /// Whether the channel is established.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(..))
    }

    /// Whether an attempt of ours is under way.
    pub(crate) fn is_negotiating(&self) -> bool {
        matches!(self.link, Link::Negotiating(_) | Link::Early(..))
    }

    /// Whether our attempt has sent INITIATE (NEG-18).
    pub(crate) fn has_initiated(&self) -> bool {
        matches!(self.link, Link::Early(..))
    }

    /// Whether the channel is, or was to be, at this address.
    pub(crate) fn is_at(&self, remote: SocketAddr) -> bool {
        self.channel().is_some_and(|c| c.remote() == remote)
    }

    /// Whether the channel was established after `moment`, and is still up (NEG-20).
    pub(crate) fn is_up_since_after(&self, moment: Instant) -> bool {
        self.is_up() && moment < self.established
    }

    /// Whether streams can be opened no more.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.link, Link::Ending(_) | Link::Down)
    }

    /// Whether nothing is left of the channel.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.link, Link::Down)
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
        self.reason.clone()
    }

    pub(crate) fn channel_info(&self) -> Option<ChannelInfo> {
        self.channel().map(Channel::info)
    }

    pub(crate) fn stream_info(&self, key: StreamKey) -> Option<StreamInfo> {
        self.streams.info(key)
    }

    pub(crate) fn subtree_info(&self, key: StreamKey) -> Option<SubtreeInfo> {
        self.streams.subtree_info(key)
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
        let nodes = self.streams.tree().into_iter();
        nodes
            .map(|(key, parent, info)| TreeNode {
                id: id(key),
                parent: parent.map(id),
                info,
            })
            .collect()
    }

    /// The next event for the application.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let id = |key| StreamId { peer: self.id, key };
        Some(match self.streams.next_event()? {
            StreamEvent::Readable(key) => Event::Readable(id(key)),
            StreamEvent::Writable(key) => Event::Writable(id(key)),
            StreamEvent::SubstreamReady(key) => Event::SubstreamReady(id(key)),
            StreamEvent::Drained(key) => Event::Drained(id(key)),
            StreamEvent::DatagramReadable(key) => Event::DatagramReadable(id(key)),
            StreamEvent::DatagramWritable(key) => Event::DatagramWritable(id(key)),
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

    pub(crate) fn refuse(&mut self, key: StreamKey, code: Code) {
        self.streams.refuse(key, code);
    }

    /// A change of names that the host does not know of yet.
    pub(crate) fn take_name_change(&mut self) -> Option<NameChange> {
        let (old, new) = (self.registered, self.names);
        self.registered = new;
        (old != new).then_some(NameChange { old, new })
    }

    /// Whether an application's call left the names, the timer and the link as they were.
    pub(crate) fn is_settled(&self) -> bool {
        self.registered == self.names && !matches!(self.link, Link::Down | Link::Ending(_))
    }

    /// When [`Self::on_timer`] is to be called.
    pub(crate) fn next_timer(&mut self) -> Option<Instant> {
        let streams = self.streams.next_timer();
        [self.next_link_timer(), streams].into_iter().flatten().min()
    }

    fn next_link_timer(&mut self) -> Option<Instant> {
        // CHN-3
        let has_streams = !self.streams.is_unused();
        if let Some(channel) = self.channel_mut() {
            channel.set_keepalive(has_streams);
        }
        match &self.link {
            Link::Unlinked | Link::Down => None,
            Link::Negotiating(initiation) => Some(initiation.next_timer()),
            Link::Early(initiation, channel) => {
                let resend = initiation.next_timer();
                Some(channel.next_timer().map_or(resend, |t| t.min(resend)))
            }
            Link::Up(channel, _) | Link::Ending(channel) => channel.next_timer(),
        }
    }

    /// Time has come for the streams, for the negotiation, or for the channel.
    pub(crate) fn on_timer(&mut self, context: &mut Context<'_>, outbox: &mut VecDeque<Datagram>) {
        self.streams.on_timer(context.now);
        if let Link::Negotiating(initiation) | Link::Early(initiation, _) = &mut self.link {
            match initiation.step(context.now, &mut context.own.rng) {
                Step::Wait => {}
                Step::Send(packet, addresses) => outbox.extend(addresses.iter().map(|remote| Datagram {
                    remote: *remote,
                    bytes: packet.to_vec(),
                })),
                Step::Fail(error) => return self.fail(error.into()),
            }
        }
        self.on_channel_timer(context.now);
    }

    fn on_channel_timer(&mut self, now: Instant) {
        let (Link::Early(_, channel) | Link::Up(channel, _) | Link::Ending(channel)) = &mut self.link else {
            return;
        };
        if channel.next_timer().is_none_or(|at| at > now) {
            return;
        }
        let event = channel.on_timer(now, &mut self.fates);
        self.settle_fates();
        match event {
            TimerEvent::None => {}
            TimerEvent::Forgotten => self.on_restarted(),
            TimerEvent::Idle(after) => self.fail(CloseReason::Idle(after)),
            TimerEvent::KeysUsedUp => self.close_with(now, Code::AEAD_LIMIT, CloseReason::KeysUsedUp),
            TimerEvent::Closed => self.set_down(),
        }
    }

    /// The peer's host says that it does not know the channel (PRT-13). While the channel is young, the answer may be to
    /// early data that overtook INITIATE.
    pub(crate) fn on_stateless_reset(&mut self, now: Instant) -> Result<(), Drop> {
        let grace = self.channel().map_or(Duration::ZERO, |c| 3 * c.probe_timeout());
        if now < self.established + grace {
            return Err(Drop::UnknownChannel);
        }
        self.on_restarted();
        Ok(())
    }

    /// The peer has made another channel: it is asked whether it still knows this one (NEG-20).
    pub(crate) fn doubt(&mut self, now: Instant) {
        if let Link::Up(channel, _) = &mut self.link {
            channel.doubt(now);
        }
    }

    /// The peer has lost the channel (PRT-13, NEG-20).
    pub(crate) fn on_restarted(&mut self) {
        self.fail(CloseReason::PeerRestarted);
    }

    /// The application ends the channel.
    pub(crate) fn close(&mut self, now: Instant, code: Code, reason: &str) {
        let reason = CloseReason::Local {
            code,
            reason: reason.to_owned(),
        };
        self.close_with(now, code, reason);
    }

    /// Ends the channel with CLOSE, and all streams with `reason`.
    fn close_with(&mut self, now: Instant, code: Code, reason: CloseReason) {
        let text = match &reason {
            CloseReason::Local { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        match std::mem::replace(&mut self.link, Link::Down) {
            Link::Up(mut channel, _) | Link::Early(_, mut channel) => {
                channel.close(now, code, &text);
                self.link = Link::Ending(channel);
                self.names.attempt = None;
                self.names.reset_token = None;
                self.end_streams(reason);
            }
            ending @ Link::Ending(_) => self.link = ending,
            Link::Unlinked | Link::Negotiating(_) | Link::Down => self.fail(reason),
        }
    }

    /// Ends the channel without telling the peer.
    fn fail(&mut self, reason: CloseReason) {
        self.set_down();
        self.end_streams(reason);
    }

    fn set_down(&mut self) {
        self.link = Link::Down;
        self.names = Names::default();
    }

    fn end_streams(&mut self, reason: CloseReason) {
        if self.reason.is_some() {
            return;
        }
        self.streams.fail_all(&reason);
        self.events
            .push_back(Event::Disconnected(self.id, self.eid, reason.clone()));
        self.reason = Some(reason);
    }

    /// Adds addresses to an attempt under way.
    pub(crate) fn add_hints(&mut self, now: Instant, hints: &[SocketAddr]) {
        if let Link::Negotiating(initiation) = &mut self.link {
            initiation.add_addresses(now, hints);
        }
    }

    pub(crate) fn on_retry(&mut self, token: &[u8; 16]) -> Result<&[u8], Drop> {
        match &mut self.link {
            Link::Negotiating(initiation) => initiation.on_retry(token),
            _ => Err(Drop::UnknownAttempt),
        }
    }

    pub(crate) fn on_version(&mut self, versions: Vec<u32>) -> Result<(), Drop> {
        match &mut self.link {
            Link::Negotiating(initiation) => initiation.on_version(versions),
            _ => Err(Drop::UnknownAttempt),
        }
    }

    /// ACCEPT again, if `initiate` is the packet that it answers (NEG-11).
    pub(crate) fn accept_again(&self, initiate: &[u8]) -> Option<&[u8]> {
        match &self.link {
            Link::Up(_, Some(a)) if a.initiate == initiate && !a.accept.is_empty() => Some(&a.accept),
            _ => None,
        }
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

    /// Begins an attempt to reach the peer.
    pub(crate) fn negotiate(
        &mut self,
        context: &mut Context<'_>,
        hints: &[SocketAddr],
    ) -> Result<(), NegotiationError> {
        if hints.is_empty() {
            return Err(NegotiationError::NoAddress);
        }
        let config = &context.own.config;
        let (timeout, suites) = (config.connect_timeout, &config.suites);
        let rng = &mut context.own.rng;
        let initiation = Initiation::new(context.now, &self.eid, hints.to_vec(), timeout, suites, rng)?;
        self.names.attempt = Some(*initiation.attempt());
        self.link = Link::Negotiating(Box::new(initiation));
        Ok(())
    }
}
