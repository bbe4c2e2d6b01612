//! The peer's attempt, where both hosts have sent INITIATE and this one's EID is the smaller (NEG-18).
//!
//! It is answered at once, with nothing but SETTINGS, and nothing of it is delivered: the peer decides which of the two
//! attempts makes the channel, by what reaches it first. A packet of generation 1 tells that it is the peer's; ACCEPT,
//! that it is this host's.

use sss_wire::ChannelId;

use super::Peer;
use super::acceptance::{self, AcceptedChannel, Initiated};
use super::channels::ChannelSerial;
use super::context::{Arrival, Context};
use super::tree::SharedTree;
use crate::channel::{Opened, Path};
use crate::error::DropReason;
use crate::ids::TreeId;
use crate::negotiation::Proven;
use crate::time::Instant;

/// An INITIATE of the peer that was answered, and may come to nothing.
pub(super) struct Rival {
    /// The time when it was answered.
    met: Instant,
    accepted: AcceptedChannel,
    /// The frames of INITIATE.
    frames: Vec<u8>,
}

/// The rivals of an attempt: the one that there is, and the channel of the one that has won.
#[derive(Default)]
pub(super) struct Rivals {
    current: Option<Box<Rival>>,
    won: Option<ChannelSerial>,
}

impl Rivals {
    /// Answers an INITIATE of the peer, and takes it in place of an earlier one. Returns ACCEPT.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub(super) fn meet(
        &mut self,
        context: &mut Context<'_>,
        proven: &Proven,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
        tree: &SharedTree,
    ) -> Result<Vec<u8>, DropReason> {
        let mut accepted = acceptance::accept(context, proven, initiated, arrival, tree)?;
        let AcceptedChannel {
            channel, acceptance, ..
        } = &mut accepted;
        acceptance
            .make(context, channel, None, &mut Vec::new())
            .ok_or(DropReason::Malformed)?;
        let accept = acceptance.accept().to_vec();
        self.current = Some(Box::new(Rival {
            met: context.now,
            accepted,
            frames: proven.frames.clone(),
        }));
        Ok(accept)
    }

    pub(super) fn is_there(&self) -> bool {
        self.current.is_some()
    }

    /// The id on which this host receives from it.
    pub(super) fn id(&self) -> Option<ChannelId> {
        Some(self.current.as_ref()?.accepted.channel.local_id())
    }

    /// ACCEPT again, if `initiate` is the packet that it answers (NEG-11).
    pub(super) fn accept_again(&mut self, initiate: &[u8], path: Path) -> Option<Vec<u8>> {
        let acceptance = &mut self.current.as_mut()?.accepted.acceptance;
        if !acceptance.answers(initiate) {
            return None;
        }
        acceptance.note_way(path);
        Some(acceptance.accept().to_vec())
    }

    /// ACCEPT again, for an attempt that its initiator says was not answered (NEG-25).
    pub(super) fn accept_earlier(&self, channel: ChannelId) -> Option<Vec<u8>> {
        let acceptance = &self.current.as_ref()?.accepted.acceptance;
        (acceptance.channel() == channel).then(|| acceptance.accept().to_vec())
    }

    /// Opens a packet on its channel in place. Its peer has ACCEPT if it opens.
    ///
    /// # Errors
    /// Why it is to be dropped: also because it is of generation 0, as early data is that may never be delivered.
    pub(super) fn open(&mut self, id: ChannelId, packet: &mut [u8]) -> Result<Opened, DropReason> {
        let rival = self.current.as_mut().filter(|r| r.accepted.channel.local_id() == id);
        let opened = rival.ok_or(DropReason::UnknownChannel)?.accepted.channel.open(packet)?;
        match opened.generation {
            0 => Err(DropReason::Unwelcome),
            _ => Ok(opened),
        }
    }

    /// The tree that begins with it if it wins.
    fn tree(&self) -> Option<TreeId> {
        Some(self.current.as_ref()?.accepted.tree)
    }

    /// Takes it: it has won.
    fn take(&mut self) -> Option<Box<Rival>> {
        self.current.take()
    }

    fn on_won(&mut self, channel: ChannelSerial) {
        self.won = Some(channel);
    }

    /// The channel of the one that has won last.
    fn won(&self) -> Option<ChannelSerial> {
        self.won
    }

    /// Forgets it: this host's own attempt has made the channel, or nobody wants one.
    pub(super) fn clear(&mut self) {
        self.current = None;
    }
}

impl Peer {
    /// Answers an INITIATE of the peer beside this host's own attempt, which goes on. Returns ACCEPT.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub(crate) fn meet(
        &mut self,
        context: &mut Context<'_>,
        proven: &Proven,
        initiated: &Initiated<'_>,
        arrival: &Arrival,
    ) -> Result<Vec<u8>, DropReason> {
        self.transport.names.set_outdated();
        let rivals = &mut self.transport.attempts.rivals;
        rivals.meet(context, proven, initiated, arrival, &self.tree)
    }

    /// Returns whether an INITIATE of the peer was answered that may come to nothing.
    pub(crate) fn has_met(&self) -> bool {
        self.transport.attempts.rivals.is_there()
    }

    /// The channel that a packet has come on. If it is that of the peer's attempt, the peer has decided for it: this
    /// host's own is over, and what INITIATE said is taken in.
    pub(super) fn channel_of(&mut self, context: &mut Context<'_>, serial: ChannelSerial) -> ChannelSerial {
        if !serial.is_of_rival() {
            return serial;
        }
        let won = self.let_rival_win(context);
        won.or(self.transport.attempts.rivals.won()).unwrap_or(serial)
    }

    /// The peer asks for a tree: if it is that of its attempt that this host has answered, it has decided for that.
    /// Returns whether it is.
    pub(crate) fn decide_by_tree(&mut self, context: &mut Context<'_>, tree: TreeId) -> bool {
        self.transport.attempts.rivals.tree() == Some(tree) && self.let_rival_win(context).is_some()
    }

    /// This host's own attempt is over, and what the INITIATE of the peer's said is taken in. Returns its channel.
    fn let_rival_win(&mut self, context: &mut Context<'_>) -> Option<ChannelSerial> {
        let rival = self.transport.attempts.rivals.take()?;
        let begun = self
            .handshake()
            .take_over(context, rival.met, rival.accepted, rival.frames);
        let channel = begun.channel;
        self.transport.attempts.rivals.on_won(channel);
        self.on_begun(context.now, begun);
        Some(channel)
    }
}
