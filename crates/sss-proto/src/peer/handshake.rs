//! Effects of the negotiation on a peer: what COOKIE, INITIATE and ACCEPT do to the tree, to its channels and to its
//! streams.

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::frame::Frames;
use sss_wire::long::Accept;

use super::Peer;
use super::acceptance::{self, Acceptance, AcceptedChannel, Initiated};
use super::answer::{Accepted, Answer};
use super::attempt;
use super::channels::{ChannelSerial, Origin};
use super::context::{Arrival, Context};
use super::dispatch::{self, Dispatch, Dispatched};
use super::namesakes::Answerer;
use super::packet_zero::{self, EarlierFate};
use super::transport::Transport;
use super::tree::SharedTree;
use crate::channel::Channel;
use crate::error::{CloseReason, DropReason, ProtocolError};
use crate::ids::TreeId;
use crate::negotiation::Proven;
use crate::role::Role;
use crate::route::Route;
use crate::streams::Streams;
use crate::time::Instant;

/// Text for whoever does not know a tree.
pub(super) const UNKNOWN: &str = "the tree that was asked for is not known";

/// The parts of a peer that a new channel concerns.
pub(super) struct Handshake<'a> {
    pub(super) tree: &'a mut SharedTree,
    pub(super) streams: &'a mut Streams,
    pub(super) transport: &'a mut Transport,
}

/// Outcome of ACCEPT.
pub(super) enum Answered {
    /// The peer wants no channel (NEG-23).
    Refused(CloseReason),
    /// The channel is not for the streams of this tree: the peer has lost them (NEG-25).
    Orphan(Accepted),
    /// Somebody was there who does not know the tree, and need not (MIG-4).
    Other(Answerer),
    Begun(Begun),
}

/// A channel whose responder does not know the streams that were sent to it as early data (NEG-25).
pub(crate) struct Orphan {
    pub(super) accepted: Accepted,
    pub(super) hints: Vec<Route>,
}

/// A channel whose packet 0 from the peer was taken in.
pub(super) struct Begun {
    pub(super) channel: ChannelSerial,
    /// It is the first of its tree.
    pub(super) is_first: bool,
    pub(super) packet_zero: Result<PacketZero, ProtocolError>,
}

/// Outcome of packet 0.
pub(super) enum PacketZero {
    /// All its frames were taken in.
    Taken,
    /// CLOSE was among them.
    Closed(Code, String),
    /// The peer has lost the tree that was asked for (MIG-4).
    UnknownTree,
}

/// A channel that is established, and what its packet 0 from the peer says.
struct Established {
    channel: ChannelSerial,
    tree: TreeId,
    /// The tree that this host has asked for.
    asked: Option<TreeId>,
    frames: Vec<u8>,
}

/// ACCEPT, as a peer takes it.
impl Peer {
    /// ACCEPT: if it is authentic, the channel is established, or the attempt refused. Returns the channel if it is not
    /// for the streams of this tree, which has ended then.
    pub(crate) fn on_accept(
        &mut self,
        context: &mut Context<'_>,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
    ) -> Result<Option<Orphan>, DropReason> {
        match self.handshake().on_accept(context, accept, size, arrival)? {
            Answered::Begun(begun) => self.on_begun(context.now, begun),
            Answered::Refused(reason) => self.end(context.now, (Code::NONE, ""), reason),
            Answered::Other(who) => self.transport.meet_other(context.now, arrival.route, who),
            Answered::Orphan(accepted) => {
                self.fail(CloseReason::PeerRestarted);
                let hints = self.transport.mobility().hints().to_vec();
                return Ok(Some(Orphan { accepted, hints }));
            }
        }
        Ok(None)
    }

    /// Takes over the channel of a peer whose streams its responder does not know.
    pub(crate) fn adopt(&mut self, context: &mut Context<'_>, orphan: Orphan) {
        self.transport.mobility.add_hints(&orphan.hints);
        self.streams.set_role(Role::Initiator);
        let begun = self.handshake().establish(context, orphan.accepted, None);
        self.on_begun(context.now, begun);
    }
}

impl Handshake<'_> {
    /// ACCEPT: if it is authentic, the initiator's channel is established, or the attempt refused.
    ///
    /// # Errors
    /// Why the packet is to be dropped.
    pub(super) fn on_accept(
        mut self,
        context: &mut Context<'_>,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
    ) -> Result<Answered, DropReason> {
        let (attempts, fates) = (&mut self.transport.attempts, &mut self.transport.fates);
        let answer = attempts.on_accept(context.now, accept, size, arrival, fates)?;
        self.transport.names.set_outdated();
        self.settle_fates();
        let who = self.answerer(context.now, &answer, &arrival.route);
        let mut accepted = match answer {
            Answer::Accepted(accepted) if who != Answerer::Peer => {
                self.turn_away(context.now, accepted.channel);
                return Ok(Answered::Other(who));
            }
            Answer::Accepted(accepted) => accepted,
            Answer::Refused(_) if who != Answerer::Peer => return Ok(Answered::Other(who)),
            Answer::Refused(reason) => return Ok(Answered::Refused(reason)),
        };
        let mut asked = self.tree.id();
        if let Some(earlier) = accepted.earlier.take() {
            match packet_zero::fate_of(earlier.name(), &accepted.frames) {
                EarlierFate::NeverAccepted => {}
                EarlierFate::Begun(tree) => asked = Some(tree),
                EarlierFate::Unknown => return Ok(Answered::Orphan(accepted)),
            }
            attempt::abandon(earlier, &mut self.transport.fates);
            self.settle_fates();
        }
        Ok(Answered::Begun(self.establish(context, accepted, asked)))
    }

    /// Returns who has answered (MIG-4).
    fn answerer(&self, now: Instant, answer: &Answer, route: &Route) -> Answerer {
        let stranger = match answer {
            Answer::Accepted(accepted) => packet_zero::stranger(&accepted.frames),
            Answer::Refused(reason) => packet_zero::is_of_any_tree(reason).then_some(None),
        };
        stranger.map_or(Answerer::Peer, |process| {
            self.transport.answerer(now, self.tree, route, process)
        })
    }

    /// Whoever has made the channel does not know the tree: it is none of the tree's, and is closed at once (MIG-4).
    fn turn_away(&mut self, now: Instant, mut channel: Box<Channel>) {
        channel.close(now, Code::UNKNOWN_TREE, UNKNOWN);
        self.add(now, channel, Role::Initiator, None);
    }

    /// The initiator's channel is established; `asked` is the tree that it is to be of.
    pub(super) fn establish(mut self, context: &mut Context<'_>, accepted: Accepted, asked: Option<TreeId>) -> Begun {
        let now = context.now;
        if self.tree.id().is_none() {
            context.host.history.note_initiated(now, *self.transport.eid());
        }
        self.tree.confirm();
        self.transport.attempts.shard = accepted.shard;
        let channel = self.add(now, accepted.channel, Role::Initiator, None);
        self.resume(context, channel);
        if let Some(made) = self.transport.channels.get_mut(channel) {
            made.origin.stands_by = accepted.stands_by;
        }
        let established = Established {
            channel,
            tree: asked.unwrap_or(accepted.tree),
            asked,
            frames: accepted.frames,
        };
        self.begin(now, established)
    }

    /// INITIATE was checked: the responder's channel is established.
    ///
    /// # Errors
    /// Why the packet is to be dropped.
    pub(super) fn on_initiate(
        self,
        context: &mut Context<'_>,
        proven: &Proven,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<Begun, DropReason> {
        let accepted = acceptance::accept(context, proven, initiated, arrival, self.tree)?;
        if self.tree.id().is_none() {
            let (now, attempt) = (context.now, (initiated.attempt, initiated.void));
            let history = &mut context.host.history;
            history.note_accepted(now, proven.eid, attempt, accepted.tree);
        }
        Ok(self.take_over(context, context.now, accepted, proven.frames.clone()))
    }

    /// The responder's channel, which was made at some time before, is established, in place of an attempt of this
    /// host; `frames` are those of INITIATE.
    pub(super) fn take_over(
        mut self,
        context: &mut Context<'_>,
        made: Instant,
        accepted: AcceptedChannel,
        frames: Vec<u8>,
    ) -> Begun {
        let now = context.now;
        let AcceptedChannel {
            mut channel,
            acceptance,
            tree,
            arrived: (size, ecn),
        } = accepted;
        channel.note_packet_zero_received(now, size, ecn);
        // What was sent as early data on an attempt that lost is sent again (NEG-18).
        self.transport.give_up_attempt();
        self.settle_fates();
        if self.tree.id().is_none() {
            self.streams.set_role(Role::Responder);
        }
        let channel = self.add(made, channel, Role::Responder, Some(acceptance));
        self.resume(context, channel);
        let established = Established {
            channel,
            tree,
            asked: None,
            frames,
        };
        self.begin(now, established)
    }

    /// Gives a new channel what is known of its path from earlier ones (REC-15).
    fn resume(&mut self, context: &mut Context<'_>, channel: ChannelSerial) {
        if context.host.config.careful_resume {
            let eid = *self.transport.eid();
            let known = &mut context.host.history.saved_paths;
            self.transport.channels.resume(context.now, (eid, channel), known);
        }
    }

    fn add(
        &mut self,
        made: Instant,
        channel: Box<Channel>,
        role: Role,
        acceptance: Option<Box<Acceptance>>,
    ) -> ChannelSerial {
        let origin = Origin {
            role,
            made,
            continues: self.tree.id().is_some(),
            stands_by: false,
        };
        let channel = self.transport.add(channel, origin, acceptance);
        self.settle_fates();
        channel
    }

    fn begin(self, now: Instant, established: Established) -> Begun {
        let is_first = self.tree.begin(now, established.tree);
        if is_first && let Some(channel) = self.transport.channels.get(established.channel) {
            self.transport.mobility.on_tree_begun(channel.origin.role);
        }
        Begun {
            channel: established.channel,
            is_first,
            packet_zero: self.take_packet_zero(now, established, is_first),
        }
    }

    /// Takes in the frames of the peer's packet 0.
    fn take_packet_zero(
        self,
        now: Instant,
        established: Established,
        is_first: bool,
    ) -> Result<PacketZero, ProtocolError> {
        let (transport, streams) = (self.transport, self.streams);
        let Some(channel) = transport.channels.get_mut(established.channel) else {
            return Ok(PacketZero::Taken);
        };
        let is_initiator = channel.origin.role == Role::Initiator;
        let bytes = Bytes::from(established.frames);
        let mut frames = Frames::new(&bytes);
        let settings = packet_zero::read_settings(&mut frames)?;
        packet_zero::check_role(&settings, channel.origin.role)?;
        streams.set_peer_settings(&settings)?;
        channel.reset_token = settings.reset_token;
        channel.origin.stands_by |= settings.stands_by && !is_initiator;
        channel.channel.apply_peer_settings(&settings);
        transport.names.set_outdated();
        if is_first && is_initiator {
            transport.namesakes.set_peer(settings.process);
        }
        if is_initiator && !packet_zero::is_of_tree(established.asked, settings.tree)? {
            return Ok(PacketZero::UnknownTree);
        }
        let dispatch = Dispatch {
            now,
            channel: &mut channel.channel,
            streams,
            fates: &mut transport.fates,
            takes_streams: is_first || is_initiator,
        };
        Ok(match dispatch.run(frames, &bytes)? {
            Dispatched::All { .. } => PacketZero::Taken,
            Dispatched::Closed(close) => PacketZero::Closed(close.code, close.reason.to_owned()),
        })
    }

    fn settle_fates(&mut self) {
        dispatch::settle(&mut self.transport.fates, self.streams);
    }
}
