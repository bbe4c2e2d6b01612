//! The channels of a tree: which there are, and which carries the streams (MIG-5 to MIG-8).

mod left;
mod saved;

use std::cmp::Ordering;

use sss_crypto::constant_time_eq;
use sss_wire::constants::MAX_CHANNELS;
use sss_wire::{ChannelId, Code};

use super::acceptance::Acceptance;
use super::names::Name;
use super::standby::Standby;
use crate::channel::{self, Channel, Counters, Fate, Path, hand_on};
use crate::local_host::EndedTree;
use crate::rare::Rare;
use crate::role::Role;
use crate::route::{Route, RouteClass};
use crate::time::Instant;
use left::Left;

/// Probe timeouts for which a replaced channel is kept: by whoever replaced it, and by the other side.
const KEPT: u32 = 3;
const KEPT_BY_RESPONDER: u32 = 9;
/// Channels kept in all: those that have ended and wait for late packets included.
const MAX_KEPT: usize = 4 * MAX_CHANNELS;

/// An end of which the peer may not have heard.
pub(crate) enum Unheard {
    /// Of the channel of an attempt whose ACCEPT may not have arrived (NEG-23).
    Attempt([u8; 8], (Code, String)),
    /// Of a tree (MIG-21).
    Tree(EndedTree),
}

/// One channel of a tree, established; or ended, and waiting for late packets.
pub(super) struct TreeChannel {
    pub(super) channel: Box<Channel>,
    pub(super) origin: Origin,
    /// The peer's token for a stateless reset.
    pub(super) reset_token: Option<[u8; 16]>,
    /// Kept until ACCEPT is known to have arrived.
    pub(super) acceptance: Option<Box<Acceptance>>,
    serial: ChannelSerial,
    /// The time when it is closed as replaced.
    pub(super) retire_at: Option<Instant>,
}

/// Origin of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) role: Role,
    pub(super) made: Instant,
    /// True if it asked for a tree that existed: then nothing of streams comes in generation 0 (MIG-3).
    pub(super) continues: bool,
    /// True if it was made to stand by for another of its class (MIG-31).
    pub(super) stands_by: bool,
}

/// Names a channel of a peer: the first one made is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelSerial(u32);

/// A channel that carries nothing any more.
pub(super) struct GoneChannel {
    /// Last address of the peer on it.
    pub(super) route: Route,
    /// The peer was there then.
    pub(super) was_there: Instant,
    /// It carried the streams.
    pub(super) was_carrier: bool,
}

/// All channels of a tree, the oldest first.
#[derive(Default)]
pub(crate) struct TreeChannels {
    list: Vec<TreeChannel>,
    carrier: Option<ChannelSerial>,
    pub(super) standby: Standby,
    latest: ChannelSerial,
    /// Times that a channel became the carrier.
    carried: u64,
    /// Counters of the channels that are forgotten.
    past: Rare<Counters>,
    left: Rare<Left>,
}

impl ChannelSerial {
    /// The channel of the peer's attempt, as long as it is none of the tree's (NEG-18).
    pub(super) const RIVAL: Self = Self(0);

    /// Returns whether it is that of the peer's attempt.
    pub(crate) fn is_of_rival(self) -> bool {
        self == Self::RIVAL
    }
}

impl TreeChannel {
    pub(super) fn serial(&self) -> ChannelSerial {
        self.serial
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// The class of its route.
    pub(super) fn class(&self) -> RouteClass {
        self.channel.path().route.class()
    }

    /// Returns whether it leads another way than the other one: by a route of another class, or through another relay
    /// (MIG-25, MIG-31).
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.channel.path().route, &other.channel.path().route);
        ours.class() != theirs.class() || ours.is_by_other_relay(theirs)
    }

    /// Returns whether it may carry the streams, and nothing takes its place before long.
    pub(super) fn can_carry(&self) -> bool {
        self.is_open() && self.is_confirmed() && self.retire_at.is_none()
    }

    /// Returns whether the peer is known to have the channel.
    fn is_confirmed(&self) -> bool {
        self.acceptance.is_none()
    }

    /// Closes it as replaced; what it has outstanding is lost.
    fn retire(&mut self, now: Instant, fates: &mut Vec<Fate>) {
        self.channel.abandon(fates);
        self.channel.close(now, Code::REPLACED, "");
        self.acceptance = None;
        self.reset_token = None;
    }
}

/// Which there are.
impl TreeChannels {
    pub(super) fn iter(&self) -> impl Iterator<Item = &TreeChannel> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut TreeChannel> {
        self.list.iter_mut()
    }

    /// Gives back what the channels can make again, of those on which nothing moves; returns whether the last has done
    /// so.
    pub(super) fn rest(&mut self, now: Instant) -> bool {
        let rested = self
            .list
            .iter_mut()
            .filter_map(|c| channel::rest(&mut c.channel, now).then_some(()));
        rested.count() > 0 && self.list.iter().all(|c| channel::rests(&c.channel))
    }

    /// The channels that neither side has ended.
    pub(super) fn open(&self) -> impl DoubleEndedIterator<Item = &TreeChannel> + Clone {
        self.list.iter().filter(|c| c.is_open())
    }

    pub(super) fn has_open(&self) -> bool {
        self.open().next().is_some()
    }

    /// The serials of all channels.
    pub(super) fn serials(&self) -> impl Iterator<Item = ChannelSerial> + use<> {
        let mut serials = [None; MAX_KEPT + 1];
        for (slot, channel) in serials.iter_mut().zip(&self.list) {
            *slot = Some(channel.serial);
        }
        serials.into_iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get(&self, serial: ChannelSerial) -> Option<&TreeChannel> {
        self.list.iter().find(|c| c.serial == serial)
    }

    pub(super) fn get_mut(&mut self, serial: ChannelSerial) -> Option<&mut TreeChannel> {
        self.list.iter_mut().find(|c| c.serial == serial)
    }

    /// The channel on which this host receives under `id`.
    pub(super) fn by_id(&mut self, id: ChannelId) -> Option<&mut TreeChannel> {
        self.list.iter_mut().rfind(|c| c.channel.local_id() == id)
    }

    pub(super) fn by_token(&self, token: &[u8; 16]) -> Option<&TreeChannel> {
        let has_it = |of: &[u8; 16]| constant_time_eq(of, token);
        self.list.iter().find(|c| c.reset_token.as_ref().is_some_and(has_it))
    }

    /// Returns when the open channel to an address was made, if there is one (NEG-20).
    pub(crate) fn made_at(&self, route: Route) -> Option<Instant> {
        let there = self.open().find(|c| c.channel.route() == route);
        there.map(|c| c.origin.made)
    }

    /// Routes of the carrier and of the other open channels, the newest of these first: the peer was heard by each
    /// (MIG-11).
    pub(super) fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for channel in self.carrier().into_iter().chain(self.open().rev()) {
            let route = channel.channel.route();
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        routes
    }

    /// Returns when the peer is known to have been there, of the open channels that know it latest.
    pub(super) fn was_there(&self) -> Instant {
        let open = self.open().map(|c| c.channel.flight().was_there());
        open.max().unwrap_or_default()
    }

    /// Returns when the newest channel was made (MIG-9).
    pub(crate) fn newest_made(&self) -> Option<Instant> {
        self.list.iter().map(|c| c.origin.made).max()
    }

    /// The names under which datagrams for the channels arrive.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        self.list.iter().flat_map(|c| {
            let token = c.reset_token.filter(|_| c.is_open()).map(Name::ResetToken);
            std::iter::once(Name::Channel(c.channel.local_id())).chain(token)
        })
    }

    /// Returns what all channels counted together.
    pub(super) fn counters(&self) -> Counters {
        let mut sum = self.past.get().copied().unwrap_or_default();
        for channel in &self.list {
            sum.add(channel.channel.counters());
        }
        sum
    }

    /// Returns how many channels were made.
    pub(super) fn made(&self) -> u64 {
        u64::from(self.latest.0)
    }
}

/// Adding and removing channels.
impl TreeChannels {
    /// Adds a channel. If there are too many open ones of its class now, the oldest that does not carry the streams is
    /// closed as replaced (MIG-8).
    pub(super) fn add(
        &mut self,
        channel: Box<Channel>,
        origin: Origin,
        acceptance: Option<Box<Acceptance>>,
        fates: &mut Vec<Fate>,
    ) -> ChannelSerial {
        if self.list.len() >= MAX_KEPT
            && let Some(ended) = self.list.iter().position(|c| !c.is_open())
        {
            self.forget(ended);
        }
        self.latest = ChannelSerial(self.latest.0.wrapping_add(1));
        // Most trees have one channel, and never another.
        self.list.reserve_exact(1);
        self.list.push(TreeChannel {
            channel,
            origin,
            reset_token: None,
            acceptance,
            serial: self.latest,
            retire_at: None,
        });
        if let Some(oldest) = self.one_too_many() {
            self.retire(origin.made, oldest, fates);
        }
        self.latest
    }

    /// The oldest open channel of the class of the newest that does not carry the streams, if there are too many.
    fn one_too_many(&self) -> Option<ChannelSerial> {
        let class = self.list.last()?.class();
        let mut of_class = self.open().filter(|c| c.class() == class);
        if of_class.clone().count() <= MAX_CHANNELS {
            return None;
        }
        of_class
            .find(|c| Some(c.serial) != self.carrier)
            .map(TreeChannel::serial)
    }

    /// Closes a channel as replaced; what it has outstanding is lost.
    fn retire(&mut self, now: Instant, serial: ChannelSerial, fates: &mut Vec<Fate>) {
        if let Some(channel) = self.get_mut(serial) {
            channel.retire(now, fates);
        }
        self.save();
        self.unload(serial);
    }

    /// Closes the replaced channels whose time has come. Returns whether there were any.
    pub(super) fn retire_due(&mut self, now: Instant, fates: &mut Vec<Fate>) -> bool {
        let mut any = false;
        while let Some(due) = self.due(now) {
            self.retire(now, due, fates);
            any = true;
        }
        any
    }

    /// A replaced channel whose time has come.
    fn due(&self, now: Instant) -> Option<ChannelSerial> {
        let due = self.open().find(|c| c.retire_at.is_some_and(|at| at <= now));
        due.map(TreeChannel::serial)
    }

    /// Returns when a replaced channel is to be closed next.
    pub(super) fn next_retirement(&self) -> Option<Instant> {
        self.open().filter_map(|c| c.retire_at).min()
    }

    /// The peer has closed a channel as replaced: what it has outstanding is lost, and it waits for late packets.
    pub(super) fn on_replaced(
        &mut self,
        now: Instant,
        serial: ChannelSerial,
        fates: &mut Vec<Fate>,
    ) -> Option<GoneChannel> {
        let channel = self.get_mut(serial)?;
        channel.channel.abandon(fates);
        channel.channel.on_close(now);
        channel.acceptance = None;
        channel.reset_token = None;
        let (route, was_there) = (channel.channel.route(), channel.channel.flight().was_there());
        self.save();
        Some(GoneChannel {
            route,
            was_there,
            was_carrier: self.unload(serial),
        })
    }

    /// A channel has ended: what it has outstanding is lost, and it is forgotten.
    pub(super) fn lose(&mut self, serial: ChannelSerial, fates: &mut Vec<Fate>) -> Option<GoneChannel> {
        let channel = self.get_mut(serial)?;
        channel.channel.abandon(fates);
        Some(GoneChannel {
            route: channel.channel.route(),
            was_there: channel.channel.flight().was_there(),
            was_carrier: self.remove(serial),
        })
    }

    /// Closes all channels that are open. Where ACCEPT was not sent yet, it says so; where it may have been lost, the
    /// end is remembered. None is kept for longer than the carrier, if that works: who hears CLOSE there ends the
    /// others (MIG-20).
    pub(super) fn close_all(&mut self, now: Instant, code: Code, reason: &str) {
        let works = |c: &&TreeChannel| c.is_open() && !c.channel.is_stalled();
        let working = self.carrier().filter(works).map(TreeChannel::serial);
        for channel in self.list.iter_mut().filter(|c| c.is_open()) {
            channel.channel.close(now, code, reason);
            if let Some(acceptance) = channel.acceptance.take() {
                let end = (code, reason.to_owned());
                self.left
                    .make()
                    .unheard
                    .push(Unheard::Attempt(*acceptance.attempt(), end));
                channel.acceptance = Some(acceptance).filter(|a| a.is_owed());
            }
        }
        self.save();
        let working = working.and_then(|serial| self.get_mut(serial));
        if let Some(end) = working.and_then(|c| c.channel.ending().next_timer()) {
            self.list.iter_mut().for_each(|c| c.channel.ending().hasten(end));
        }
    }

    /// CLOSE has come on a channel that has ended. If it answers one of this host, nothing more is to come on this
    /// channel; nor on any other, if the tree `has_ended` (CHN-12, MIG-20).
    pub(super) fn on_close_answered(&mut self, now: Instant, serial: ChannelSerial, has_ended: bool) {
        let closed = self.get_mut(serial);
        if closed.is_none_or(|channel| !channel.channel.ending().has_closed()) {
            return;
        }
        let done = self.list.iter_mut().filter(|c| has_ended || c.serial == serial);
        done.for_each(|c| c.channel.ending().hasten(now));
    }

    /// Forgets all channels that are open. What has ended already still waits for late packets.
    pub(super) fn forget_open(&mut self) {
        for serial in self.serials() {
            if self.get(serial).is_some_and(TreeChannel::is_open) {
                self.remove(serial);
            }
        }
    }

    /// Forgets a channel. Returns whether it was the carrier.
    pub(super) fn remove(&mut self, serial: ChannelSerial) -> bool {
        if let Some(at) = self.list.iter().position(|c| c.serial == serial) {
            self.forget(at);
        }
        self.unload(serial)
    }

    fn forget(&mut self, at: usize) {
        let mut channel = self.list.remove(at);
        self.past.make().add(channel.channel.counters());
        self.keep_saved(channel::take_saved(&mut channel.channel));
    }
}

/// ACCEPT.
impl TreeChannels {
    /// A channel whose ACCEPT is to be made now.
    pub(super) fn owing_accept(&mut self) -> Option<(&mut Channel, &mut Acceptance)> {
        self.list.iter_mut().find_map(|c| {
            let is_due = c.is_open() || c.channel.close_due().is_some();
            let acceptance = c.acceptance.as_mut().filter(|a| is_due && a.is_owed())?;
            Some((&mut *c.channel, &mut **acceptance))
        })
    }

    /// ACCEPT again, if `initiate` is the packet that it answers (NEG-11).
    pub(crate) fn accept_again(&mut self, initiate: &[u8], path: Path) -> Option<Vec<u8>> {
        let mut all = self.list.iter_mut().filter_map(|c| c.acceptance.as_mut());
        all.find(|acceptance| acceptance.answers(initiate))?.note_way(path);
        self.repeat_accept(|acceptance| acceptance.answers(initiate))
    }

    /// ACCEPT again, for an attempt that its initiator says was not answered (NEG-25). The outer `None`: no channel of
    /// this attempt is left; the inner one: it has ACCEPT, or that is still to be made.
    pub(crate) fn accept_earlier(&mut self, channel: ChannelId) -> Option<Option<Vec<u8>>> {
        self.by_id(channel).filter(|c| c.is_open())?;
        Some(self.repeat_accept(|acceptance| acceptance.channel() == channel))
    }

    fn repeat_accept(&mut self, is_meant: impl Fn(&Acceptance) -> bool) -> Option<Vec<u8>> {
        self.list.iter_mut().find_map(|c| {
            let acceptance = c.acceptance.as_ref().filter(|a| is_meant(a) && !a.is_owed())?;
            c.channel.note_packet_zero_repeated();
            Some(acceptance.accept().to_vec())
        })
    }
}

/// Which of them carries the streams.
impl TreeChannels {
    pub(super) fn carrier(&self) -> Option<&TreeChannel> {
        self.get(self.carrier?)
    }

    pub(super) fn carrier_mut(&mut self) -> Option<&mut TreeChannel> {
        self.get_mut(self.carrier?)
    }

    pub(super) fn carrier_serial(&self) -> Option<ChannelSerial> {
        self.carrier
    }

    /// Returns how often the streams moved from one channel to another.
    pub(super) fn migrations(&self) -> u64 {
        self.carried.saturating_sub(1)
    }

    /// The carrier is no longer to be used. Returns whether it was that channel.
    fn unload(&mut self, serial: ChannelSerial) -> bool {
        self.carrier.take_if(|carrier| *carrier == serial).is_some()
    }

    /// MIG-6: whether a channel that does not carry the streams is to do so now. A responder's is as soon as the peer
    /// is known to have it, or if there is nothing better; none is as long as one of a better class works (MIG-25), or
    /// one of its own that it is to stand by for (MIG-31).
    pub(super) fn is_to_carry(&self, serial: ChannelSerial) -> bool {
        let Some(channel) = self.get(serial) else {
            return false;
        };
        let working = self.carrier().filter(|c| c.is_open() && !c.channel.is_stalled());
        let is_next = |c: &TreeChannel| match channel.class().cmp(&c.class()) {
            Ordering::Less => true,
            Ordering::Equal => !(channel.origin.stands_by && channel.is_beside(c)),
            Ordering::Greater => false,
        };
        let may_carry = working.is_none_or(|c| channel.is_confirmed() && is_next(c));
        may_carry && self.carrier != Some(serial)
    }

    /// A channel is established that does not carry the streams, since another one does: it stands by in place of the
    /// others of its class, once the peer is known to have it (MIG-25, MIG-31). Returns whether it does.
    pub(super) fn stand_by(&mut self, now: Instant, serial: ChannelSerial, fates: &mut Vec<Fate>) -> bool {
        let confirmed = self.get(serial).filter(|c| c.is_confirmed());
        let stands_by = confirmed.is_some() && self.carrier != Some(serial);
        if stands_by {
            self.replace_by(now, serial, fates);
        }
        stands_by
    }

    /// Makes a channel the carrier, as [`Self::take_over`]. Those of its class before it are replaced (MIG-8): the ones
    /// of no use are closed at once.
    pub(super) fn carry(&mut self, now: Instant, serial: ChannelSerial, fates: &mut Vec<Fate>) {
        if self.carrier != Some(serial) {
            self.take_over(serial, fates);
            self.replace_by(now, serial, fates);
        }
    }

    /// Makes a channel the carrier, and leaves those beside it. What was sent on the carrier before goes on the new one
    /// if it leads another way, and the peer does not answer on the old one, which goes on asking (MIG-26).
    pub(super) fn take_over(&mut self, serial: ChannelSerial, fates: &mut Vec<Fate>) {
        let Some(next) = self.get(serial) else {
            return;
        };
        let silent = self.carrier().filter(|c| c.channel.flight().probe_count() > 0);
        let silent = silent.filter(|c| c.is_open() && c.is_beside(next));
        let silent = silent.map(|c| (c.serial, c.class() == next.class(), c.channel.flight().used_window()));
        if let Some((before, is_of_class, window)) = silent {
            if let Some(before) = self.get_mut(before) {
                before.channel.abandon(fates);
                before.channel.ask();
            }
            if let Some(next) = self.get_mut(serial).filter(|_| is_of_class) {
                hand_on(window, &mut next.channel);
            }
        }
        self.carrier = Some(serial);
        self.carried += 1;
        self.standby = Standby::default();
    }

    /// Those of its class are replaced by a channel, but for the carrier.
    fn replace_by(&mut self, now: Instant, serial: ChannelSerial, fates: &mut Vec<Fate>) {
        let Some(channel) = self.get_mut(serial) else {
            return;
        };
        let class = channel.class();
        // It may have been replaced before, by one that is gone.
        channel.retire_at = None;
        let periods = match channel.origin.role {
            Role::Initiator => KEPT,
            Role::Responder => KEPT_BY_RESPONDER,
        };
        let route = channel.channel.route();
        let carrier = self.carrier;
        let is_kept = |c: &TreeChannel| c.serial == serial || Some(c.serial) == carrier;
        let others = self.list.iter_mut().filter(|c| c.is_open() && !is_kept(c));
        for replaced in others.filter(|c| c.class() == class) {
            if replaced.channel.is_stalled() {
                replaced.retire(now, fates);
            } else {
                // MIG-7: the peer has moved, and does not answer on it any more.
                if replaced.channel.route() != route {
                    replaced.channel.abandon(fates);
                }
                let at = now + replaced.channel.probe_timeout() * periods;
                replaced.retire_at.get_or_insert(at);
            }
        }
    }

    /// This host is somewhere else: nothing more is sent on the channels that are open, not even that they end; what
    /// they have outstanding is lost. So nothing on the new path is like anything on the old one (MIG-13).
    pub(super) fn leave(&mut self, now: Instant, fates: &mut Vec<Fate>) {
        for left in self.list.iter_mut().filter(|c| c.is_open()) {
            left.channel.abandon(fates);
            left.channel.on_close(now);
            left.acceptance = None;
            left.reset_token = None;
        }
        self.carrier = None;
    }

    /// Another open channel when the carrier is gone: one that works, of the best class, the newest of these.
    pub(super) fn successor(&self) -> Option<ChannelSerial> {
        let best = self.open().rev().min_by_key(|c| (c.channel.is_stalled(), c.class()));
        best.map(TreeChannel::serial)
    }
}
