//! This host's own attempt to make a channel to the peer, from HELLO to ACCEPT: the first channel of a tree, or one
//! more (MIG-10 to MIG-13).

use std::collections::VecDeque;

use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::frame::{Frame, Frames};
use sss_wire::long::{self, Accept};
use sss_wire::params::{Earlier, Shard};
use sss_wire::{ChannelId, Eid};

use super::answer::{Accepted, Answer};
use super::context::{Arrival, Context};
use super::names::Name;
use super::packet_zero;
use super::purpose::Purpose;
use super::rival::Rivals;
use super::tree::SharedTree;
use crate::channel::{Channel, Fate, Path};
use crate::error::{Absence, DropReason, NegotiationError};
use crate::io::Datagram;
use crate::negotiation::{Agreed, HelloAnswer, Initiation, InitiatorStep, Schedule, Target};
use crate::role::Role;
use crate::route::{Route, RouteClass};
use crate::seen::Sightings;
use crate::streams::Streams;
use crate::time::Instant;

/// An attempt under way.
pub(super) struct Attempt {
    initiation: Initiation,
    /// The same by way of a server, until one of the two is answered.
    introduced: Option<Box<Initiation>>,
    purpose: Purpose,
    /// Once INITIATE was made.
    early: Option<Early>,
    /// The attempt before, whose INITIATE was not answered, and which has sent early data (NEG-24).
    earlier: Option<Box<Attempt>>,
    /// This host has moved since it began: its names were seen elsewhere.
    is_elsewhere: bool,
}

/// The channel of an attempt that has sent INITIATE.
struct Early {
    channel: Box<Channel>,
    local_id: ChannelId,
}

/// The attempt under way, if one is.
#[derive(Default)]
pub(crate) struct Attempts {
    current: Option<Box<Attempt>>,
    /// The peer's, if both have sent INITIATE (NEG-18).
    pub(super) rivals: Rivals,
    /// One has begun that the host was not told of yet.
    is_new: bool,
    /// The shard of the peer that has the tree (NEG-42).
    pub(super) shard: Option<Shard>,
}

impl Attempt {
    fn new(initiation: Initiation, purpose: Purpose, earlier: Option<Box<Self>>) -> Box<Self> {
        Box::new(Self {
            initiation,
            introduced: None,
            purpose,
            early: None,
            earlier,
            is_elsewhere: false,
        })
    }

    /// The name that the attempt has in the packets of the negotiation.
    pub(super) fn name(&self) -> &[u8; 8] {
        self.initiation.attempt()
    }

    /// Returns whether its channel carries early data of a new tree.
    fn carries_streams(&self) -> bool {
        self.purpose == Purpose::First && self.earlier.is_none()
    }

    /// The channel on which early data of a new tree is sent.
    fn early_carrier(&mut self) -> Option<&mut Channel> {
        let carries = self.carries_streams();
        self.early.as_mut().filter(|_| carries).map(|early| &mut *early.channel)
    }

    /// This attempt, or the one before.
    fn named(&self, attempt: &[u8; 8]) -> Option<&Self> {
        let this = (self.name() == attempt).then_some(self);
        this.or_else(|| self.earlier.as_ref()?.named(attempt))
    }

    /// Returns what INITIATE says of the one before.
    fn earlier_setting(&self) -> Option<Earlier> {
        let initiation = &self.earlier.as_ref()?.initiation;
        Some(Earlier {
            attempt: *initiation.attempt(),
            cookie: initiation.cookie()?.to_vec(),
        })
    }

    fn next_timer(&self) -> Instant {
        if self.is_elsewhere {
            return Instant::default();
        }
        let resend = self.initiation.next_timer();
        let early = self.early.as_ref().filter(|_| self.carries_streams());
        let channel = early.and_then(|e| e.channel.next_timer());
        channel.map_or(resend, |at| at.min(resend))
    }

    /// NEG-27: asks who is at the end of the routes by which no COOKIE came for long.
    fn probe_unanswered(&self, now: Instant, outbox: &mut VecDeque<Datagram>) {
        if !self.initiation.is_unanswered(now) {
            return;
        }
        let bytes = long::probe(self.name());
        outbox.extend(self.initiation.routes().iter().map(|route| Datagram {
            route: *route,
            local: None,
            bytes: bytes.clone(),
        }));
    }

    /// An answer to HELLO, or to the one that went by way of a server. When that one has both, it takes over.
    fn on_answer(
        &mut self,
        context: &Context<'_>,
        answer: &HelloAnswer<'_>,
        arrival: &Arrival,
    ) -> Result<Result<Option<Agreed>, NegotiationError>, DropReason> {
        let (now, route, config) = (context.now, arrival.route, &context.host.config);
        let beside = self
            .introduced
            .as_mut()
            .filter(|beside| beside.attempt() == answer.attempt());
        let Some(beside) = beside else {
            if self.early.is_some() && !self.purpose.is_served_by(&route) {
                return Err(DropReason::UnknownAttempt);
            }
            return self.initiation.on_answer(now, answer, route, config);
        };
        // It may have been answered by several.
        if !self.purpose.is_served_by(&route) {
            return Err(DropReason::UnknownAttempt);
        }
        let agreed = beside.on_answer(now, answer, route, config)?;
        if matches!(agreed, Ok(Some(_))) {
            std::mem::swap(&mut self.initiation, beside);
            // An attempt that follows goes on where the peer may be.
            let routes = beside.routes().iter().copied().chain([route]);
            self.initiation.add_routes(now, routes);
        }
        Ok(agreed)
    }

    /// COOKIE was authentic: makes the channel, and INITIATE with the first frames.
    fn initiate(
        &mut self,
        context: &mut Context<'_>,
        agreed: Agreed,
        arrival: &Arrival,
        tree: &SharedTree,
        streams: &mut Streams,
    ) -> Result<(), NegotiationError> {
        let (now, host) = (context.now, &mut *context.host);
        let local_id = host.new_channel_id();
        let ids = (local_id, agreed.channel_id);
        // Where COOKIE came from: COOKIE_K, the last packet, may have been sent on by anybody.
        let path = Path {
            route: agreed.route(),
            ..arrival.path()
        };
        let setup = host.channel_setup(Role::Initiator, ids, path);
        let (rtt, suite) = (agreed.rtt, agreed.suite);
        let mut settings = host.settings(local_id, Some(local_id));
        settings.tree = tree.id();
        settings.stands_by = matches!(self.purpose, Purpose::Standby(_));
        settings.attempts.earlier = self.earlier_setting();
        let streams = if tree.id().is_some() {
            None
        } else {
            settings.other_trees = tree.others().to_vec();
            settings.attempts.accepted = host.history.accepted_from(now, self.initiation.eid());
            streams.set_role(Role::Initiator);
            // NEG-24
            Some(streams).filter(|_| self.earlier.is_none())
        };
        let mut tokens = Vec::new();
        let frames = packet_zero::write((agreed.room(), host.config.padding), &settings, streams, &mut tokens);
        self.introduced = None;
        let split = self.initiation.initiate(now, agreed, &host.key, &frames)?;
        let mut channel = Channel::early(now, setup, suite, &EarlySecrets::from(split), rtt);
        channel.record_packet_zero(now, self.initiation.initiate_size(), &tokens);
        self.early = Some(Early {
            channel: Box::new(channel),
            local_id,
        });
        Ok(())
    }
}

/// Questions.
impl Attempts {
    pub(super) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Returns whether an attempt for a purpose has to wait for the one that is under way.
    pub(super) fn keep_waiting(&self, purpose: Purpose) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|a| !a.purpose.gives_way_to(purpose))
    }

    /// Returns whether this host tries to reach the peer for the first time.
    pub(crate) fn is_first(&self) -> bool {
        self.current.as_ref().is_some_and(|a| a.purpose == Purpose::First)
    }

    /// Returns whether INITIATE was sent (NEG-18).
    pub(crate) fn has_initiated(&self) -> bool {
        let attempt = self.current.as_ref();
        attempt.is_some_and(|a| a.early.is_some() || a.earlier.is_some())
    }

    /// Returns whether the attempt under way is one of these (NEG-21).
    pub(crate) fn is_among(&self, attempts: &[[u8; 8]]) -> bool {
        let own = self.current.as_ref();
        own.is_some_and(|own| attempts.iter().any(|a| own.named(a).is_some()))
    }

    /// Returns whether the peer is looked for by a route.
    pub(crate) fn is_tried_at(&self, route: Route) -> bool {
        let attempt = self.current.as_ref();
        attempt.is_some_and(|a| a.initiation.routes().contains(&route))
    }

    /// Returns why the first attempt would fail now.
    pub(crate) fn failure(&self, now: Instant, sightings: &Sightings) -> Option<NegotiationError> {
        let attempt = self.current.as_ref().filter(|a| a.purpose == Purpose::First)?;
        Some(attempt.initiation.failure(now, sightings))
    }

    /// The channel of the attempt, if INITIATE was sent.
    pub(super) fn channel(&self) -> Option<&Channel> {
        Some(&self.current.as_ref()?.early.as_ref()?.channel)
    }

    /// The channel on which early data of a new tree is sent.
    pub(super) fn early_carrier(&mut self) -> Option<&mut Channel> {
        self.current.as_mut()?.early_carrier()
    }

    /// The channel that no ACCEPT has come for yet, if INITIATE was sent.
    pub(super) fn channel_mut(&mut self) -> Option<&mut Channel> {
        Some(&mut self.current.as_mut()?.early.as_mut()?.channel)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.current.as_ref().map(|a| a.next_timer())
    }

    /// The names under which datagrams for the attempt, and for the one before, arrive.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        let earlier = self.current.as_ref().and_then(|a| a.earlier.as_ref());
        let own = self.current.iter().chain(earlier).flat_map(|attempt| {
            let channel = attempt.early.as_ref().map(|e| Name::Channel(e.local_id));
            let beside = attempt
                .introduced
                .as_ref()
                .map(|beside| Name::Attempt(*beside.attempt()));
            std::iter::once(Name::Attempt(*attempt.name()))
                .chain(beside)
                .chain(channel)
        });
        own.chain(self.rivals.id().map(Name::Channel))
    }
}

/// Beginning and ending attempts.
impl Attempts {
    /// Begins an attempt.
    ///
    /// # Errors
    /// If no route is known, the EID cannot be used, or it is the first one of a host that begins none (NEG-42).
    pub(super) fn begin(
        &mut self,
        context: &mut Context<'_>,
        eid: &Eid,
        routes: Vec<Route>,
        purpose: Purpose,
        schedule: Schedule,
    ) -> Result<(), NegotiationError> {
        let host = &mut *context.host;
        if purpose == Purpose::First && host.config.shard.is_some() {
            return Err(NegotiationError::Sharded);
        }
        if routes.is_empty() && !host.config.seeks {
            return Err(NegotiationError::NoAddress);
        }
        let target = Target {
            eid: *eid,
            routes,
            shard: self.shard,
        };
        let initiation = Initiation::new(context.now, target, schedule, &host.config, host.rng.refresh())?;
        self.current = Some(Attempt::new(initiation, purpose, None));
        self.is_new = true;
        Ok(())
    }

    /// Returns whether an attempt has begun since this was last asked.
    pub(super) fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.is_new) && self.current.is_some()
    }

    /// No address of the peer is to be had.
    pub(super) fn on_unfound(&mut self, now: Instant, absence: Absence) {
        if let Some(attempt) = &mut self.current {
            attempt.initiation.on_unfound(now, absence);
        }
    }

    /// INITIATE was not answered, or this host has moved: another attempt begins with HELLO. What is known of the first
    /// one that sent INITIATE for a new tree is kept, because it may have been accepted after all (NEG-24). One for a
    /// tree that exists has sent nothing that could be lost (MIG-13).
    fn begin_again(&mut self, context: &mut Context<'_>) -> Result<(), NegotiationError> {
        let Some(attempt) = &mut self.current else {
            return Ok(());
        };
        let host = &mut *context.host;
        // The EID was good enough before.
        let initiation = attempt.initiation.next(context.now, &host.config, host.rng.refresh())?;
        let next = Attempt::new(initiation, attempt.purpose, None);
        self.is_new = true;
        let mut before = std::mem::replace(attempt, next);
        // Of those that sent no early data nothing need be known.
        let earlier = before.earlier.take();
        let may_be_accepted = before.purpose == Purpose::First && before.early.is_some();
        attempt.earlier = earlier.or_else(|| may_be_accepted.then_some(before));
        Ok(())
    }

    /// The address of this host has changed: the attempt goes on under another name, so that nothing tells an observer
    /// whose it was (MIG-13), and by other routes than those that it `has_left`.
    pub(super) fn on_moved(&mut self, has_left: impl FnMut(&Route) -> bool) {
        if let Some(attempt) = &mut self.current {
            attempt.is_elsewhere = true;
            attempt.initiation.forget_routes(has_left);
        }
    }

    /// More routes by which the peer may be reached: they are tried at once.
    pub(super) fn add_routes(&mut self, now: Instant, routes: &[Route]) {
        if let Some(attempt) = &mut self.current {
            let served = routes.iter().copied().filter(|r| attempt.purpose.is_served_by(r));
            attempt.initiation.add_routes(now, served);
        }
    }

    /// Greeting that is to travel to the peer by way of a server (RCH-11): the short HELLO, and the encapsulation key
    /// of HELLO_K. `None` if no attempt is under way, or HELLO was answered. The terms are those of
    /// [`Initiation::introduced`].
    pub(super) fn introduce(
        &mut self,
        context: &mut Context<'_>,
        terms: (RouteClass, &[std::net::SocketAddr]),
    ) -> Option<(&[u8], Option<&[u8; long::KEM_KEY]>)> {
        let attempt = self.current.as_deref_mut().filter(|attempt| attempt.early.is_none())?;
        if attempt.introduced.is_none() {
            let host = &mut *context.host;
            let beside = attempt
                .initiation
                .introduced(context.now, terms, &host.config, host.rng.refresh());
            attempt.introduced = Some(Box::new(beside.ok()?));
        }
        attempt.introduced.as_ref()?.greeting()
    }

    /// There is reason to believe that the peer hears this host now.
    pub(super) fn nudge(&mut self, now: Instant) {
        if let Some(attempt) = &mut self.current {
            attempt.initiation.nudge(now);
        }
    }

    /// Does what is due for the attempt. Returns whether its names have changed.
    ///
    /// # Errors
    /// If it has failed.
    pub(super) fn on_timer(
        &mut self,
        context: &mut Context<'_>,
        outbox: &mut VecDeque<Datagram>,
        fates: &mut Vec<Fate>,
    ) -> Result<bool, NegotiationError> {
        let Some(attempt) = &mut self.current else {
            return Ok(false);
        };
        if attempt.is_elsewhere {
            return self.begin_again(context).map(|()| true);
        }
        let (now, host) = (context.now, &mut *context.host);
        if self.rivals.is_there() {
            // NEG-18: the peer is there, and has what it needs.
            attempt.initiation.keep_on();
        }
        match attempt.initiation.step(now, &host.sightings, &mut host.rng) {
            InitiatorStep::Wait => {}
            // The next is due at once, and is sent with the next call.
            InitiatorStep::BeginAgain => return self.begin_again(context).map(|()| true),
            InitiatorStep::Send(packet, beside, routes) => {
                for bytes in std::iter::once(packet).chain(beside) {
                    outbox.extend(routes.iter().map(|route| Datagram {
                        route: *route,
                        local: None,
                        bytes: bytes.to_vec(),
                    }));
                }
                if attempt.purpose == Purpose::First {
                    attempt.probe_unanswered(now, outbox);
                }
            }
            InitiatorStep::Fail(error) => return Err(error),
        }
        let early = attempt.early_carrier();
        if let Some(channel) = early.filter(|c| c.next_timer().is_some_and(|at| at <= now)) {
            channel.on_timer(now, fates);
        }
        Ok(false)
    }

    /// RETRY for the attempt.
    ///
    /// # Errors
    /// If it is not expected.
    pub(crate) fn on_retry(&mut self, version: u32, token: &[u8; 16]) -> Result<Vec<&[u8]>, DropReason> {
        self.greeting()?.initiation.on_retry(version, token)
    }

    /// VERSION for the attempt.
    ///
    /// # Errors
    /// If it is not expected.
    pub(crate) fn on_version(&mut self, versions: Vec<u32>) -> Result<(), DropReason> {
        self.greeting()?.initiation.on_version(versions)
    }

    /// COOKIE or COOKIE_K for the attempt: with both, makes the channel, and INITIATE with the first frames.
    ///
    /// # Errors
    /// The outer one: the packet is dropped; the inner one: the attempt has failed.
    pub(super) fn on_answer(
        &mut self,
        context: &mut Context<'_>,
        answer: &HelloAnswer<'_>,
        arrival: &Arrival,
        tree: &SharedTree,
        streams: &mut Streams,
    ) -> Result<Result<(), NegotiationError>, DropReason> {
        // Also once INITIATE was sent: the same COOKIE may come by another route.
        let attempt = self.current.as_deref_mut().ok_or(DropReason::UnknownAttempt)?;
        let agreed = attempt.on_answer(context, answer, arrival)?;
        Ok(agreed.and_then(|agreed| match agreed {
            Some(agreed) => attempt.initiate(context, agreed, arrival, tree, streams),
            None => Ok(()),
        }))
    }

    /// The attempt, as long as it has not sent INITIATE.
    fn greeting(&mut self) -> Result<&mut Attempt, DropReason> {
        let attempt = self.current.as_deref_mut().filter(|a| a.early.is_none());
        attempt.ok_or(DropReason::UnknownAttempt)
    }

    /// ACCEPT for the attempt, or for the one before. If it is authentic, no attempt is under way any more.
    ///
    /// # Errors
    /// Why the packet is to be dropped.
    pub(super) fn on_accept(
        &mut self,
        now: Instant,
        accept: &Accept<'_>,
        size: usize,
        arrival: &Arrival,
        fates: &mut Vec<Fate>,
    ) -> Result<Answer, DropReason> {
        let (frames, secrets) = self.open_accept(accept)?;
        let attempt = self.current.take().ok_or(DropReason::UnknownAttempt)?;
        self.rivals.clear();
        let was_repeated = attempt
            .named(accept.attempt)
            .is_some_and(|a| a.initiation.was_repeated());
        let attempt = if attempt.name() == accept.attempt {
            attempt
        } else {
            // The one before was accepted after all.
            attempt.earlier.ok_or(DropReason::UnknownAttempt)?
        };
        if let Some(Ok(Frame::Close(close))) = Frames::new(&frames).next() {
            return Ok(Answer::Refused(packet_zero::refusal(&close, arrival)));
        }
        let mut channel = attempt.early.ok_or(DropReason::UnknownAttempt)?.channel;
        if attempt.initiation.goes_by(&arrival.route) {
            channel.settle_on(arrival.path());
        }
        channel.install(now, &secrets);
        channel.note_packet_zero_received(now, size, arrival.ecn);
        channel.ack_packet_zero(now, was_repeated, fates);
        Ok(Answer::Accepted(Accepted {
            channel,
            frames,
            tree: secrets.half_initiator,
            stands_by: matches!(attempt.purpose, Purpose::Standby(_)),
            shard: attempt.initiation.shard(),
            earlier: attempt.earlier,
        }))
    }

    /// Opens ACCEPT: its frames, and the keys of the channel.
    fn open_accept(&self, accept: &Accept<'_>) -> Result<(Vec<u8>, ChannelSecrets), DropReason> {
        let attempt = self.current.as_ref().and_then(|a| a.named(accept.attempt));
        let attempt = attempt.ok_or(DropReason::UnknownAttempt)?;
        let early = attempt.early.as_ref().ok_or(DropReason::UnknownAttempt)?;
        let split = attempt.initiation.split().ok_or(DropReason::UnknownAttempt)?;
        let secrets = ChannelSecrets::derive(split, accept.nonce);
        let key = PacketKey::new(early.channel.suite(), &secrets.responder);
        let mut frames = accept.sealed_frames.to_vec();
        let len = key
            .open(0, accept.header, &mut frames)
            .map_err(|_| DropReason::Unauthentic)?;
        frames.truncate(len);
        Ok((frames, secrets))
    }

    /// Gives up an attempt that was begun because the carrier did not work, unless it has sent INITIATE. Returns
    /// whether there was one.
    pub(super) fn give_up_needless(&mut self) -> bool {
        let is_needless = |a: &mut Box<Attempt>| a.purpose == Purpose::Trouble && a.early.is_none();
        self.current.take_if(is_needless).is_some()
    }

    /// Forgets the attempt, with what was sent as early data.
    pub(super) fn clear(&mut self) {
        self.current = None;
        self.rivals.clear();
    }

    /// Gives up the attempt: what was sent as early data is lost. Returns whether there was one.
    pub(super) fn give_up(&mut self, fates: &mut Vec<Fate>) -> bool {
        self.rivals.clear();
        let Some(attempt) = self.current.take() else {
            return false;
        };
        abandon(attempt, fates);
        true
    }

    /// Takes the channel of a first attempt that may have been accepted, as the tree ends. No attempt is under way any
    /// more.
    pub(super) fn take_first_channel(&mut self) -> Option<Box<Channel>> {
        self.rivals.clear();
        let mut attempt = self.current.take()?;
        // Of a row of attempts, the first is the one that may have been accepted with something.
        let first = attempt.earlier.take().unwrap_or(attempt);
        let early = first.early.filter(|_| first.purpose == Purpose::First)?;
        Some(early.channel)
    }
}

#[cfg(test)]
impl Attempts {
    /// Makes an attempt under way behave as one for that purpose.
    pub(super) fn pretend(&mut self, purpose: Purpose) {
        if let Some(attempt) = &mut self.current {
            attempt.purpose = purpose;
            attempt.initiation.forget_routes(|route| !purpose.is_served_by(route));
        }
    }
}

/// Loses the early data of an attempt, or of the one before: that attempt becomes no channel (NEG-26).
pub(super) fn abandon(mut attempt: Box<Attempt>, fates: &mut Vec<Fate>) {
    let mut first = attempt.earlier.take().unwrap_or(attempt);
    if let Some(channel) = first.early_carrier() {
        channel.abandon(fates);
    }
}
