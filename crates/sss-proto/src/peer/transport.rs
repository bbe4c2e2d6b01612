//! Connection of two hosts: the channels of their tree, the attempt to make another one, and what is known of the way.
//!
//! It knows no stream. What its channels had outstanding when they end goes to [`Transport::fates`], for the owner to
//! give to the streams; a changed status of the way is returned, for the owner to tell.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use sss_wire::params::Process;
use sss_wire::{ChannelId, Code, Eid};

use super::acceptance::Acceptance;
use super::attempt::Attempts;
use super::channels::{ChannelSerial, GoneChannel, Origin, TreeChannels, Unheard};
use super::context::{Arrival, Context};
use super::mobility::{Mobility, Policy};
use super::names::{Name, NameChange, Names};
use super::namesakes::{Answerer, Namesakes};
use super::purpose::Purpose;
use super::standby::Renewable;
use super::stats::PeerStats;
use super::tree::SharedTree;
use sss_wire::long;

use crate::channel::{Channel, ChannelInfo, Fate, Path, TimerEvent};
use crate::error::{Absence, CloseReason, NegotiationError};
use crate::io::{Datagram, LinkStatus};
use crate::key_log::ChannelSecret;
use crate::local_host::EndedTree;
use crate::negotiation::Schedule;
use crate::network::Network;
use crate::role::Role;
use crate::route::{Route, RouteClass};
use crate::time::{Earliest, Instant};

/// Channels, attempt and mobility of one peer.
pub(crate) struct Transport {
    eid: Eid,
    pub(super) channels: TreeChannels,
    pub(super) attempts: Attempts,
    pub(super) mobility: Mobility,
    pub(super) namesakes: Namesakes,
    pub(super) names: Names,
    /// Fates of frames, as far as their streams were not told.
    pub(super) fates: Vec<Fate>,
}

impl Transport {
    pub(super) fn new(eid: Eid, policy: Policy) -> Self {
        Self {
            eid,
            channels: TreeChannels::default(),
            attempts: Attempts::default(),
            mobility: Mobility::new(policy),
            namesakes: Namesakes::default(),
            names: Names::default(),
            fates: Vec::new(),
        }
    }

    /// Returns who is at the other end.
    pub(super) fn eid(&self) -> &Eid {
        &self.eid
    }

    pub(crate) fn channels(&self) -> &TreeChannels {
        &self.channels
    }

    pub(crate) fn channels_mut(&mut self) -> &mut TreeChannels {
        &mut self.channels
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(crate) fn attempts_mut(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// ACCEPT again, if `initiate` is the packet that it answers (NEG-11).
    pub(crate) fn accept_again(&mut self, initiate: &[u8], arrival: &Arrival) -> Option<Vec<u8>> {
        let of_rival = self.attempts.rivals.accept_again(initiate, arrival.path());
        of_rival.or_else(|| self.channels.accept_again(initiate, arrival.path()))
    }

    /// ACCEPT again, for an attempt that its initiator says was not answered (NEG-25). As
    /// [`TreeChannels::accept_earlier`].
    pub(crate) fn accept_earlier(&mut self, channel: ChannelId) -> Option<Option<Vec<u8>>> {
        match self.attempts.rivals.accept_earlier(channel) {
            None => self.channels.accept_earlier(channel),
            accept => Some(accept),
        }
    }

    /// Takes the secrets that its channels have begun to use, if they are to be told.
    pub(crate) fn take_secrets(&mut self) -> Vec<ChannelSecret> {
        let established = self.channels.iter_mut().map(|c| &mut *c.channel);
        let all = self.attempts.channel_mut().into_iter().chain(established);
        all.flat_map(Channel::take_secrets).collect()
    }

    pub(crate) fn mobility(&self) -> &Mobility {
        &self.mobility
    }

    /// Returns what the channel that carries the streams, or is to, looks like.
    pub(crate) fn info(&self) -> Option<ChannelInfo> {
        let latest = || self.channels.iter().last();
        let channel = self.channels.carrier().or_else(latest).map(|c| &*c.channel);
        channel.or_else(|| self.attempts.channel()).map(Channel::info)
    }

    /// Totals over all channels; `unsent` bytes wait in the streams.
    pub(super) fn stats(&self, unsent: u64) -> PeerStats {
        let counters = self.channels.counters();
        PeerStats {
            channels_made: self.channels.made(),
            migrations: self.channels.migrations(),
            outages: self.mobility.outages(),
            unsent,
            packets_sent: counters.packets_sent,
            bytes_sent: counters.bytes_sent,
            packets_received: counters.packets_received,
            bytes_received: counters.bytes_received,
            packets_lost: counters.packets_lost,
        }
    }

    /// Returns whether there is neither a channel nor an attempt to make one.
    pub(super) fn is_idle(&self) -> bool {
        self.channels.is_empty() && !self.attempts.is_under_way()
    }

    /// The carrier's way of coming to be, and its class, if it is open.
    fn carrier_origin(&self) -> Option<Renewable<'_>> {
        let carrier = self.channels.carrier().filter(|c| c.is_open());
        carrier.map(|c| (&c.origin, &c.channel.path().route))
    }

    /// Returns whether a packet that came may have changed the status, or which channel is to carry the streams.
    pub(super) fn is_to_review(&self) -> bool {
        self.mobility.trouble_since().is_some() || self.channels.is_mixed()
    }
}

/// Names.
impl Transport {
    /// A change of names that the host does not know of yet.
    pub(super) fn take_name_change(&mut self, tree: &SharedTree) -> Option<NameChange> {
        if !self.names.is_outdated() {
            return None;
        }
        let own = self.attempts.names().chain(self.channels.names());
        let names = own.chain(tree.live_id().map(Name::Tree)).collect();
        self.names.register(names)
    }
}

/// Time.
impl Transport {
    /// Returns when [`Self::on_attempt_timer`], [`Self::on_channel_timer`] or a review is next due.
    pub(super) fn next_timer(&mut self, tree: &SharedTree, has_streams: bool) -> Option<Instant> {
        let mut next = Earliest::default();
        next.add(self.attempts.next_timer());
        for channel in self.channels.iter() {
            next.add(channel.channel.next_timer());
        }
        if !tree.has_ended() {
            next.add(self.next_attempt(tree, has_streams).map(|(at, _)| at));
            next.add(self.channels.next_retirement());
            next.add(self.channels.next_takeover());
            next.add(self.leave_time(tree));
            next.add(self.linger_end(tree, has_streams));
        }
        next.get()
    }

    /// Does what is due for the attempt under way.
    ///
    /// # Errors
    /// If it has failed.
    pub(super) fn on_attempt_timer(
        &mut self,
        context: &mut Context<'_>,
        outbox: &mut VecDeque<Datagram>,
    ) -> Result<(), NegotiationError> {
        let has_new_names = self.attempts.on_timer(context, outbox, &mut self.fates)?;
        if has_new_names {
            self.names.set_outdated();
        }
        Ok(())
    }

    /// Does what is due for a channel.
    pub(super) fn on_channel_timer(&mut self, now: Instant, serial: ChannelSerial) -> TimerEvent {
        let carries = self.channels.carrier_serial() == Some(serial);
        let channel = self.channels.get_mut(serial).map(|c| &mut c.channel);
        let Some(channel) = channel.filter(|c| c.next_timer().is_some_and(|at| at <= now)) else {
            return TimerEvent::None;
        };
        let event = channel.on_timer(now, &mut self.fates);
        // Streams go on elsewhere, and this one goes on asking (MIG-7).
        if !carries && channel.is_open() && channel.is_stalled() && channel.flight().asks() {
            channel.abandon(&mut self.fates);
            channel.ask();
        }
        if event == TimerEvent::Closed {
            self.channels.remove(serial);
            self.names.set_outdated();
        }
        event
    }

    /// Returns when the channels there are may be left behind, if this host has moved.
    fn leave_time(&self, tree: &SharedTree) -> Option<Instant> {
        tree.more_from().filter(|_| self.mobility.is_to_leave())
    }

    fn next_attempt(&self, tree: &SharedTree, has_streams: bool) -> Option<(Instant, Purpose)> {
        let channels = (self.carrier_origin(), self.channels.standing_by());
        let next = self.mobility.next_attempt(tree, channels, has_streams);
        next.filter(|(_, purpose)| !self.attempts.keep_waiting(*purpose))
    }

    /// Returns when a tree without an open channel is given up, or one whose peer is believed to have lost it.
    pub(super) fn linger_end(&self, tree: &SharedTree, has_streams: bool) -> Option<Instant> {
        let is_detached = tree.id().is_some() && !self.channels.has_open();
        let lingered = self.mobility.linger_end(has_streams).filter(|_| is_detached);
        lingered.into_iter().chain(self.lost_at()).min()
    }

    /// Returns when it is to be believed that the peer has lost the tree: never where it comes back by itself.
    fn lost_at(&self) -> Option<Instant> {
        self.namesakes.believed_at().filter(|_| !self.mobility.waits_for_peer())
    }

    /// Returns why a tree is given up at the time of [`Self::linger_end`].
    pub(super) fn reason_of_silence(&self, now: Instant) -> CloseReason {
        if self.lost_at().is_some_and(|at| at <= now) {
            return CloseReason::PeerRestarted;
        }
        self.mobility.reason_of_silence(now)
    }

    /// Closes the replaced channels whose time has come. After a move nothing is sent any more on those there are, as
    /// soon as another one may be attempted.
    pub(super) fn retire_due(&mut self, now: Instant, tree: &SharedTree) {
        if self.leave_time(tree).is_some_and(|at| at <= now) {
            let routes = self.channels.routes();
            self.mobility.on_left(now, &routes);
            let was_there = self.channels.was_there();
            routes
                .into_iter()
                .for_each(|route| self.namesakes.note_home(route, was_there));
            self.attempts.give_up(&mut self.fates);
            self.channels.leave(now, &mut self.fates);
            self.names.set_outdated();
        }
        if self.channels.retire_due(now, &mut self.fates) {
            self.names.set_outdated();
        }
    }

    /// Begins the next attempt, if it is due.
    pub(super) fn begin_due_attempt(&mut self, context: &mut Context<'_>, tree: &SharedTree, has_streams: bool) {
        if let Some((at, purpose)) = self.next_attempt(tree, has_streams)
            && at <= context.now
        {
            if context.host.has_many_ghosts && self.mobility.is_waited_for(purpose) {
                return self.mobility.put_off(context.now);
            }
            self.attempts.give_up(&mut self.fates);
            // Without an address the peer has to come by itself.
            let _ = self.begin_attempt(context, purpose);
            self.mobility.on_attempt(context.now, purpose);
        }
    }
}

/// Attempts.
impl Transport {
    /// Begins an attempt to reach the peer where it was last, and where it was said to be.
    ///
    /// # Errors
    /// If no address is known, or the EID cannot be used.
    pub(super) fn begin_attempt(
        &mut self,
        context: &mut Context<'_>,
        purpose: Purpose,
    ) -> Result<(), NegotiationError> {
        let mut routes = self.mobility.routes(purpose, self.channels.routes());
        routes.retain(|route| !self.namesakes.are_at(route));
        let schedule = match purpose {
            Purpose::First => Schedule::first(context.host.config.connect_timeout),
            Purpose::Upgrade(_) | Purpose::Standby(_) => Schedule::once(),
            _ => {
                let since = self.mobility.trouble_since().unwrap_or(context.now);
                Schedule::again(since, self.mobility.pace(purpose))
            }
        };
        self.attempts.begin(context, &self.eid, routes, purpose, schedule)?;
        self.names.set_outdated();
        Ok(())
    }

    /// Returns who has answered by a route, and does not know the tree, if there is one (MIG-4).
    pub(super) fn answerer(
        &self,
        now: Instant,
        tree: &SharedTree,
        route: &Route,
        process: Option<Process>,
    ) -> Answerer {
        if tree.id().is_none() || !self.may_be_away_from(route) {
            return Answerer::Peer;
        }
        // The peer comes back by itself; while it is there, nobody has taken its place.
        let is_missed = !self.mobility.waits_for_peer() && self.mobility.trouble_since().is_some();
        let process = process.filter(|_| is_missed);
        let told = process.and_then(|process| self.namesakes.recognise(now, self.channels.was_there(), process));
        told.unwrap_or(Answerer::Unknown)
    }

    /// Returns whether no channel of the tree has ever led there.
    fn may_be_away_from(&self, route: &Route) -> bool {
        let open = self.channels.routes();
        let is_somewhere = self.namesakes.knows_home() || !open.is_empty();
        let is_there = self.namesakes.is_home(route) || open.contains(route);
        is_somewhere && !is_there
    }

    /// Somebody has answered by a route who does not know the tree: it goes on being looked for, elsewhere.
    pub(super) fn meet_other(&mut self, now: Instant, route: Route, who: Answerer) {
        self.namesakes.meet(now, route, who);
        self.mobility.retry_now();
    }

    /// Returns whether somebody is at the end of a route who does not know the tree.
    pub(super) fn knows_namesake_at(&self, route: &Route) -> bool {
        self.namesakes.are_at(route)
    }

    /// The attempt has come to nothing.
    pub(super) fn give_up_attempt(&mut self) {
        if self.attempts.give_up(&mut self.fates) {
            self.names.set_outdated();
        }
    }

    /// Returns whether an attempt has begun since this was last asked.
    pub(crate) fn take_new_attempt(&mut self) -> bool {
        self.attempts.take_new()
    }

    /// Addresses at which the peer may be. They are tried at once by an attempt under way, and, if the peer does not
    /// answer where it was, by a new one.
    pub(crate) fn add_hints(&mut self, now: Instant, hints: &[Route]) {
        if self.mobility.add_hints(hints) {
            self.attempts.add_routes(now, hints);
            self.mobility.on_hint();
        }
    }

    /// The peer hears this host by a route, as it seems: what an attempt under way has sent is sent again, and that
    /// way too.
    pub(crate) fn on_open(&mut self, now: Instant, route: Route) {
        self.add_hints(now, &[route]);
        self.mobility.on_open();
        self.attempts.nudge(now);
    }

    /// Greeting that is to travel to the peer by way of a server (RCH-11): the short HELLO, and the encapsulation key
    /// of HELLO_K. `None` if no attempt is under way, or HELLO was answered.
    pub(crate) fn introduce(
        &mut self,
        context: &mut Context<'_>,
        (best, candidates): (RouteClass, &[SocketAddr]),
    ) -> Option<(&[u8], Option<&[u8; long::KEM_KEY]>)> {
        self.names.set_outdated();
        self.attempts.introduce(context, (best, candidates))
    }

    /// No address of the peer is to be had: an attempt that has none fails.
    pub(crate) fn on_unfound(&mut self, now: Instant, absence: Absence) {
        self.attempts.on_unfound(now, absence);
    }

    /// The peer is not reached by those routes any more.
    pub(crate) fn forget_hints(&mut self, is_gone: impl Fn(&Route) -> bool) {
        self.mobility.forget_hints(is_gone);
    }

    /// The peer can be reached through a relay (MIG-29, MIG-31).
    pub(crate) fn note_relay(&mut self, route: Route) {
        self.mobility.beside.reserve.set(route);
    }

    /// The path in use, if there is an open channel.
    pub(crate) fn path(&self) -> Option<&Path> {
        let carrier = self.channels.carrier().filter(|c| c.is_open());
        carrier.map(|c| c.channel.path())
    }

    /// The network of the peer, if there is an open channel.
    pub(crate) fn network(&self) -> Option<Network> {
        let carrier = self.channels.carrier().filter(|c| c.is_open());
        carrier.map(|c| c.channel.network())
    }

    /// Returns whether something is under way on the carrier that should have been acknowledged by now.
    pub(crate) fn is_in_doubt(&self, now: Instant) -> bool {
        let carrier = self.channels.carrier().filter(|c| c.is_open());
        carrier.is_some_and(|c| {
            let (flight, timeout) = (c.channel.flight(), c.channel.probe_timeout());
            flight.probe_count() > 0 || flight.asks() && !c.channel.was_heard_since(now - timeout)
        })
    }

    /// The addresses of this host have changed; `has_moved` tells whether the one used towards this peer has (MIG-13).
    pub(crate) fn on_network_change(&mut self, mut has_moved: impl FnMut(&Route, Option<IpAddr>) -> bool) {
        let path = self.path().copied();
        let mut is_elsewhere = false;
        if path.is_some_and(|path| has_moved(&path.route, path.local)) {
            is_elsewhere = true;
            self.mobility.on_moved();
            self.namesakes.part();
            // Those that have to be used on (MIG-13) are, from whatever address there is.
            self.channels.iter_mut().for_each(|c| c.channel.forget_local());
        }
        if is_elsewhere || path.is_none() {
            let local = path.and_then(|path| path.local);
            // Whoever sees a handle at both addresses would know that they are of one host (RCH-19).
            let mut is_left_behind = |route: &Route| route.handle.is_some() && has_moved(route, local);
            self.mobility.forget_hints(&mut is_left_behind);
            self.attempts.on_moved(is_left_behind);
            self.mobility.retry_now();
        }
    }
}

/// Channels.
impl Transport {
    /// Adds a channel of the tree, or the first one; the oldest is replaced if there are too many.
    pub(super) fn add(
        &mut self,
        channel: Box<Channel>,
        origin: Origin,
        acceptance: Option<Box<Acceptance>>,
    ) -> ChannelSerial {
        self.names.set_outdated();
        self.channels.add(channel, origin, acceptance, &mut self.fates)
    }

    /// Closes all channels, as the tree ends; that of a first attempt too, which may have been accepted. Remembers what
    /// the peer may not hear of, unless it `is_told` that the tree has ended.
    pub(super) fn close(&mut self, now: Instant, tree: &SharedTree, (code, text): (Code, &str), is_told: bool) {
        if let Some(channel) = self.attempts.take_first_channel() {
            let origin = Origin {
                role: Role::Initiator,
                made: now,
                continues: tree.id().is_some(),
                stands_by: false,
            };
            self.add(channel, origin, None);
        }
        self.channels.close_all(now, code, text);
        if let Some(tree) = tree.live_id().filter(|_| !is_told) {
            let ended = EndedTree {
                eid: self.eid,
                tree,
                at: now,
                end: (code, text.to_owned()),
            };
            self.channels.leave_unheard(Unheard::Tree(ended));
        }
    }

    /// The tree has ended: no attempt is under way any more.
    pub(super) fn on_end(&mut self) {
        self.names.set_outdated();
        self.attempts.clear();
    }

    /// Asks the peer for a sign of life: the way is stalled soon, if there is none (NEG-20, NEG-35).
    pub(crate) fn ask(&mut self) {
        if let Some(carrier) = self.channels.carrier_mut() {
            carrier.channel.ask();
        }
    }

    /// A channel was established: if it is to carry the streams now, those it replaces go (MIG-6, MIG-8). Returns the
    /// status of the way if it has changed.
    pub(super) fn consider(&mut self, now: Instant, serial: ChannelSerial) -> Option<LinkStatus> {
        if !self.channels.is_to_carry(serial) {
            if self.channels.stand_by(now, serial, &mut self.fates) {
                self.mobility.beside.reserve.on_made();
            }
            return None;
        }
        self.mobility.on_channel_made();
        self.carry(now, serial)
    }

    /// Makes a channel the carrier, and closes those it replaces that are of no use. Returns the status of the way if
    /// it has changed.
    fn carry(&mut self, now: Instant, serial: ChannelSerial) -> Option<LinkStatus> {
        self.channels.carry(now, serial, &mut self.fates);
        self.names.set_outdated();
        self.review_status(now)
    }

    /// The peer has closed a channel as replaced. Returns whether it carried the streams.
    pub(super) fn on_replaced(&mut self, now: Instant, serial: ChannelSerial) -> bool {
        let gone = self.channels.on_replaced(now, serial, &mut self.fates);
        self.on_gone(gone)
    }

    /// A channel has ended, and is forgotten. Returns whether it carried the streams.
    pub(super) fn lose(&mut self, serial: ChannelSerial) -> bool {
        let gone = self.channels.lose(serial, &mut self.fates);
        self.on_gone(gone)
    }

    fn on_gone(&mut self, gone: Option<GoneChannel>) -> bool {
        self.names.set_outdated();
        gone.is_some_and(|gone| {
            self.mobility.add_hints(&[gone.route]);
            self.namesakes.note_home(gone.route, gone.was_there);
            gone.was_carrier
        })
    }

    /// The carrier is gone: another channel takes over, or the streams wait for one. Returns the status of the way if
    /// it has changed.
    ///
    /// # Errors
    /// If they are not to wait: the tree is lost for that reason.
    pub(super) fn after_loss(&mut self, now: Instant, reason: CloseReason) -> Result<Option<LinkStatus>, CloseReason> {
        if let Some(next) = self.channels.successor() {
            return Ok(self.carry(now, next));
        }
        // MIG-15: the peer may have lost the channel alone, and have streams of which this host does not know yet.
        if !self.mobility.lingers() {
            return Err(reason);
        }
        Ok(self.mobility.on_detached(now, reason))
    }

    /// Compares the carrier with what was last told (MIG-11). Returns the status of the way if it has changed.
    /// Another channel takes over if it is the better one now (MIG-26).
    pub(super) fn review_status(&mut self, now: Instant) -> Option<LinkStatus> {
        if let Some(better) = self.channels.better(now) {
            self.channels.take_over(better, &mut self.fates);
            self.names.set_outdated();
        }
        let Some(carrier) = self.channels.carrier().filter(|c| c.is_open()) else {
            return self.mobility.review_move(now);
        };
        if carrier.channel.is_stalled() {
            return self.mobility.on_stalled(now);
        }
        let class = carrier.class();
        self.namesakes.part();
        let status = self.mobility.on_working(now, class);
        if status.is_some() && self.attempts.give_up_needless() {
            self.names.set_outdated();
        }
        status
    }
}
