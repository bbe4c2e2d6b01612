//! The channels of a tree: which there are, and which carries the streams (MIG-5 to MIG-8).

use sss_wire::constants::MAX_CHANNELS;
use sss_wire::{ChannelId, Code};

use crate::channel::{Channel, Counters};
use crate::local_host::EndedTree;
use crate::negotiation::AcceptKeys;
use crate::role::Role;
use crate::time::Instant;

/// Probe timeouts for which a replaced channel is kept: by whoever replaced it, and by the other side.
const KEPT: u32 = 3;
const KEPT_BY_RESPONDER: u32 = 9;
/// Channels kept in all: those that have ended and wait for late packets included.
const MAX_LINKS: usize = 4 * MAX_CHANNELS;

/// The responder's ACCEPT, and the INITIATE that it answers (NEG-11).
pub(crate) struct Acceptance {
    pub(super) version: u32,
    pub(super) attempt: [u8; 8],
    pub(super) initiate: Vec<u8>,
    /// Empty until it was made.
    pub(super) accept: Vec<u8>,
    pub(super) keys: AcceptKeys,
    /// The id that the cookie had.
    pub(super) channel: ChannelId,
    /// The attempt that the initiator named, and that is void (NEG-25).
    pub(super) void: Option<[u8; 8]>,
}

/// An end of which the peer may not have heard.
pub(crate) enum Unheard {
    /// Of the channel of an attempt whose ACCEPT may not have arrived (NEG-23).
    Attempt([u8; 8], (Code, String)),
    /// Of a tree (MIG-21).
    Tree(EndedTree),
}

/// One channel of a tree, established; or ended, and waiting for late packets.
pub(super) struct Link {
    pub(super) channel: Box<Channel>,
    pub(super) origin: Origin,
    /// The peer's token for a stateless reset.
    pub(super) reset_token: Option<[u8; 16]>,
    /// Kept until ACCEPT is known to have arrived.
    pub(super) acceptance: Option<Box<Acceptance>>,
    serial: u32,
    /// When it is closed as replaced.
    retire_at: Option<Instant>,
}

/// How a channel came to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) role: Role,
    pub(super) made: Instant,
    /// Whether it asked for a tree that existed: then nothing of streams comes in generation 0 (MIG-3).
    pub(super) continues: bool,
}

/// Names a channel of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(u32);

/// All channels of a tree, the oldest first.
#[derive(Default)]
pub(super) struct Links {
    list: Vec<Link>,
    carrier: Option<LinkId>,
    serial: u32,
    /// How often a channel became the carrier.
    carried: u64,
    /// What the channels counted that are forgotten.
    past: Counters,
    pub(super) unheard: Vec<Unheard>,
}

impl Link {
    pub(super) fn id(&self) -> LinkId {
        LinkId(self.serial)
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// Whether the peer is known to have the channel.
    fn is_confirmed(&self) -> bool {
        self.acceptance.is_none()
    }
}

impl Links {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.list.iter_mut()
    }

    /// Closes all channels that are open. Where ACCEPT was not sent yet, it says so; where it may have been lost, the
    /// end is remembered.
    pub(super) fn close_all(&mut self, now: Instant, code: Code, reason: &str) {
        for link in self.list.iter_mut().filter(|l| l.is_open()) {
            link.channel.close(now, code, reason);
            if let Some(acceptance) = link.acceptance.take() {
                let end = (code, reason.to_owned());
                self.unheard.push(Unheard::Attempt(acceptance.attempt, end));
                link.acceptance = Some(acceptance).filter(|a| a.accept.is_empty());
            }
        }
    }

    /// The ACCEPT that is asked for, if it was made.
    pub(super) fn accept_again(&mut self, which: impl Fn(&Acceptance) -> bool) -> Option<Vec<u8>> {
        let mut links = self.list.iter_mut();
        links.find_map(|link| {
            let acceptance = link.acceptance.as_ref()?;
            let accept = Some(&acceptance.accept).filter(|a| which(acceptance) && !a.is_empty())?;
            link.channel.note_packet_zero_repeated();
            Some(accept.clone())
        })
    }

    /// The ids of all channels.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + use<> {
        let mut ids = [None; MAX_LINKS + 1];
        for (slot, link) in ids.iter_mut().zip(&self.list) {
            *slot = Some(link.id());
        }
        ids.into_iter().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn has_open(&self) -> bool {
        self.list.iter().any(Link::is_open)
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        self.list.iter().find(|l| l.serial == id.0)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.list.iter_mut().find(|l| l.serial == id.0)
    }

    /// The channel on which this host receives under `id`.
    pub(super) fn by_channel(&mut self, id: ChannelId) -> Option<&mut Link> {
        self.list.iter_mut().rfind(|l| l.channel.local_id() == id)
    }

    pub(super) fn by_token(&self, token: &[u8; 16]) -> Option<&Link> {
        self.list.iter().find(|l| l.reset_token.as_ref() == Some(token))
    }

    /// The channel that carries the streams.
    pub(super) fn carrier(&self) -> Option<&Link> {
        self.get(self.carrier?)
    }

    pub(super) fn carrier_mut(&mut self) -> Option<&mut Link> {
        self.get_mut(self.carrier?)
    }

    pub(super) fn carrier_id(&self) -> Option<LinkId> {
        self.carrier
    }

    /// What all channels counted together.
    pub(super) fn counters(&self) -> Counters {
        let mut sum = self.past;
        for link in &self.list {
            sum.add(link.channel.counters());
        }
        sum
    }

    /// How many channels were made.
    pub(super) fn made(&self) -> u64 {
        u64::from(self.serial)
    }

    /// How often the streams moved from one channel to another.
    pub(super) fn migrations(&self) -> u64 {
        self.carried.saturating_sub(1)
    }

    /// When the newest channel was made.
    pub(super) fn newest_made(&self) -> Option<Instant> {
        self.list.iter().map(|l| l.origin.made).max()
    }

    /// Adds a channel. Returns its id, and the oldest one if there are too many now.
    pub(super) fn add(
        &mut self,
        channel: Box<Channel>,
        origin: Origin,
        acceptance: Option<Box<Acceptance>>,
    ) -> (LinkId, Option<LinkId>) {
        if self.list.len() >= MAX_LINKS
            && let Some(ended) = self.list.iter().position(|l| !l.is_open())
        {
            self.forget(ended);
        }
        self.serial = self.serial.wrapping_add(1);
        self.list.push(Link {
            channel,
            origin,
            reset_token: None,
            acceptance,
            serial: self.serial,
            retire_at: None,
        });
        let open = self.list.iter().filter(|l| l.is_open()).count();
        let oldest = self.list.iter().find(|l| l.is_open()).map(Link::id);
        (LinkId(self.serial), oldest.filter(|_| open > MAX_CHANNELS))
    }

    /// Forgets a channel. Whether it was the carrier.
    pub(super) fn remove(&mut self, id: LinkId) -> bool {
        if let Some(at) = self.list.iter().position(|l| l.serial == id.0) {
            self.forget(at);
        }
        self.carrier.take_if(|carrier| *carrier == id).is_some()
    }

    fn forget(&mut self, at: usize) {
        let link = self.list.remove(at);
        self.past.add(link.channel.counters());
    }

    /// The carrier is no longer to be used, although it is still there.
    pub(super) fn unload(&mut self, id: LinkId) -> bool {
        self.carrier.take_if(|carrier| *carrier == id).is_some()
    }

    /// MIG-6: whether the channel becomes the carrier now. A responder's does as soon as the peer is known to have it,
    /// or if there is nothing better.
    pub(super) fn may_carry(&self, id: LinkId) -> bool {
        let is_confirmed = self.get(id).is_some_and(Link::is_confirmed);
        is_confirmed || self.carrier().is_none_or(|c| !c.is_open() || c.channel.is_stalled())
    }

    /// Makes a channel the carrier. Those before it are replaced (MIG-8): returns the ones to be closed at once.
    pub(super) fn carry(&mut self, now: Instant, id: LinkId) -> Vec<LinkId> {
        if self.carrier == Some(id) {
            return Vec::new();
        }
        let Some(link) = self.get_mut(id) else {
            return Vec::new();
        };
        // It may have been replaced before, by one that is gone.
        link.retire_at = None;
        let periods = match link.origin.role {
            Role::Initiator => KEPT,
            Role::Responder => KEPT_BY_RESPONDER,
        };
        self.carrier = Some(id);
        self.carried += 1;
        let mut at_once = Vec::new();
        for link in self.list.iter_mut().filter(|l| l.serial != id.0 && l.is_open()) {
            if link.channel.is_stalled() {
                at_once.push(link.id());
            } else {
                let at = now + link.channel.probe_timeout() * periods;
                link.retire_at.get_or_insert(at);
            }
        }
        at_once
    }

    /// Another open channel when the carrier is gone: the newest that works, else the newest.
    pub(super) fn successor(&self) -> Option<LinkId> {
        let mut open = self.list.iter().rev().filter(|l| l.is_open());
        let newest = open.clone().next();
        open.find(|l| !l.channel.is_stalled()).or(newest).map(Link::id)
    }

    /// When a replaced channel is to be closed next.
    pub(super) fn next_retirement(&self) -> Option<Instant> {
        let open = self.list.iter().filter(|l| l.is_open());
        open.filter_map(|l| l.retire_at).min()
    }

    /// A replaced channel whose time has come.
    pub(super) fn due(&self, now: Instant) -> Option<LinkId> {
        let mut open = self.list.iter().filter(|l| l.is_open());
        open.find(|l| l.retire_at.is_some_and(|at| at <= now)).map(Link::id)
    }
}
