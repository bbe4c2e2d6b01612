//! The initiator's side of one negotiation (NEG-15 to NEG-18).

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, RngExt};
use sss_crypto::noise::{self, Split};
use sss_crypto::{StaticKey, constant_time_eq};
use sss_wire::long::{self, Cookie, CookieK};
use sss_wire::params::{CookieAnswer, Shard};
use sss_wire::reach::RELAY_HEADER;
use sss_wire::{Eid, Kem};
use zeroize::{Zeroize, Zeroizing};

use super::cookie::cookie_mac;
use super::greeting::{Agreed, Greeting, Held, HelloAnswer};
use super::leg::Leg;
use super::repeats::{InitiatorStep, Resend, Schedule};
use super::search::Search;
use super::shards::attempt_name;
use super::target::Target;
use super::terms::{VERSIONS, kem_error, kems, offer, prologue, suite_from_wire, version_fraud};
use super::ways::Ways;
use crate::config::Config;
use crate::error::{Absence, DropReason, NegotiationError};
use crate::route::{Route, RouteClass};
use crate::seen::Sightings;
use crate::time::Instant;

/// Time that a VERSION, which anybody can forge, leaves the true responder to answer (NEG-13).
const VERSION_GRACE: Duration = Duration::from_secs(3);
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(3);
/// HELLO by way of a server is repeated no sooner (RCH-11).
const INTRODUCED_ONCE: Duration = Duration::from_millis(300);
/// For how long at least, and at most unless the round trip is long, INITIATE goes unanswered before the initiator
/// begins again with HELLO (NEG-24).
const MIN_UNANSWERED: Duration = Duration::from_millis(500);
const MAX_UNANSWERED: Duration = Duration::from_millis(1250);

/// One attempt to make a channel to a peer.
pub(crate) struct Initiation {
    target: Target,
    attempt: [u8; 8],
    version: u32,
    began: Instant,
    deadline: Instant,
    schedule: Schedule,
    resend: Resend,
    stage: Stage,
    /// The versions that an unauthenticated VERSION named.
    foreign_versions: Option<Vec<u32>>,
    /// The time when the first attempt of a row began (NEG-24), and who answered it.
    sought: Sought,
    search: Search,
}

/// Knowledge from the attempts before, and about the way of this one.
#[derive(Clone, Copy)]
struct Sought {
    since: Instant,
    answered: Option<Route>,
    /// Set if HELLO travels by way of a server: the best class of routes by which its answers are taken.
    introduced: Option<RouteClass>,
}

/// Wishes for an attempt.
struct Wanted<'a> {
    target: Target,
    schedule: Schedule,
    /// Least length of HELLO's plaintext.
    padding: usize,
    candidates: &'a [SocketAddr],
}

enum Stage {
    /// HELLO is out, and HELLO_K beside it.
    Hello(Box<Greeting>),
    /// INITIATE is out.
    Initiate {
        packet: Vec<u8>,
        ways: Box<Ways>,
        split: Split,
        cookie: Vec<u8>,
        /// The time when the initiator begins again with HELLO.
        unanswered_at: Instant,
    },
}

impl Initiation {
    /// Begins an attempt at `now`. HELLO is due at once, and HELLO_K with it unless the leg is off.
    ///
    /// # Errors
    /// [`NegotiationError::BadEid`] if the peer's key cannot be used.
    pub(crate) fn new(
        now: Instant,
        target: Target,
        schedule: Schedule,
        config: &Config,
        rng: &mut dyn Rng,
    ) -> Result<Self, NegotiationError> {
        let wanted = Wanted {
            target,
            schedule,
            padding: long::HELLO_PAYLOAD,
            candidates: &[],
        };
        Self::begin(now, wanted, config, rng)
    }

    /// An attempt beside this one, whose HELLO travels by way of a server: it is sent by whoever asks for it with
    /// [`Self::greeting`] (RCH-11). It fails when this one does. Answers by routes better than `best` are not taken.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn introduced(
        &self,
        now: Instant,
        (best, candidates): (RouteClass, &[SocketAddr]),
        config: &Config,
        rng: &mut dyn Rng,
    ) -> Result<Self, NegotiationError> {
        let wanted = Wanted {
            target: self.target.nowhere(),
            schedule: self.schedule,
            padding: 0,
            candidates,
        };
        let mut beside = Self::begin(now, wanted, config, rng)?;
        beside.deadline = self.deadline;
        beside.sought = self.sought;
        beside.sought.introduced = Some(best);
        Ok(beside)
    }

    /// HELLO, and the encapsulation key of HELLO_K, unless both were answered.
    pub(crate) fn greeting(&self) -> Option<(&[u8], Option<&[u8; long::KEM_KEY]>)> {
        match &self.stage {
            Stage::Hello(greeting) => Some((&greeting.hello, greeting.leg.as_ref().map(Leg::key))),
            Stage::Initiate { .. } => None,
        }
    }

    fn begin(now: Instant, wanted: Wanted<'_>, config: &Config, rng: &mut dyn Rng) -> Result<Self, NegotiationError> {
        let Wanted {
            target,
            schedule,
            padding,
            candidates,
        } = wanted;
        let attempt = attempt_name(target.shard, config.shard, rng);
        let version = VERSIONS.first().copied().unwrap_or_default();
        let params = offer(config, candidates);
        let has_leg = params.kems.contains(&Kem::MlKem768);
        let mut payload = params.to_vec();
        payload.resize(padding.max(payload.len()), 0);
        let mut message = Vec::with_capacity(long::HELLO_SIZE);
        let prologue = prologue(version, &attempt);
        let noise = noise::Initiator::start(&prologue, target.eid.public_key(), rng.random(), &payload, &mut message)
            .map_err(|_| NegotiationError::BadEid)?;
        let e = message.first_chunk().filter(|_| has_leg);
        let leg = e.map(|e| Leg::new(version, &attempt, e, rng));
        let hello = match padding {
            0 => long::short_hello(version, &attempt, &message),
            _ => long::hello(version, &attempt, &[0; 16], &message),
        };
        Ok(Self {
            target,
            attempt,
            version,
            began: now,
            deadline: now + schedule.timeout(),
            schedule,
            resend: Resend::new(now, schedule),
            stage: Stage::Hello(Box::new(Greeting::new(noise, hello, leg))),
            foreign_versions: None,
            sought: Sought {
                since: now,
                answered: None,
                introduced: None,
            },
            search: Search::new(now, config.lan_search),
        })
    }

    /// The next attempt of a row: it fails when this one would have.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn next(&self, now: Instant, config: &Config, rng: &mut dyn Rng) -> Result<Self, NegotiationError> {
        let mut next = Self::new(now, self.target.clone(), self.schedule, config, rng)?;
        next.deadline = self.deadline;
        next.sought.since = self.sought.since;
        next.sought.answered = self.answered();
        Ok(next)
    }

    /// Returns who answered HELLO, of this attempt or of one before.
    fn answered(&self) -> Option<Route> {
        match &self.stage {
            Stage::Initiate { ways, .. } => Some(ways.first()),
            Stage::Hello(_) => self.held().map(|held| held.agreed.route()).or(self.sought.answered),
        }
    }

    /// The COOKIE whose COOKIE_K is missing.
    fn held(&self) -> Option<&Held> {
        match &self.stage {
            Stage::Hello(greeting) => greeting.held.as_ref(),
            Stage::Initiate { .. } => None,
        }
    }

    /// The cookie of this attempt, if it was given one.
    pub(crate) fn cookie(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Initiate { cookie, .. } => Some(cookie),
            Stage::Hello(_) => None,
        }
    }

    /// Returns when the initiator begins again with HELLO.
    fn unanswered_at(&self) -> Option<Instant> {
        match (&self.stage, self.schedule) {
            (Stage::Initiate { unanswered_at, .. }, Schedule::First(_)) => Some(*unanswered_at),
            _ => None,
        }
    }

    /// INITIATE is repeated until the attempt fails: it is no reason to begin again that it is not answered.
    pub(crate) fn keep_on(&mut self) {
        if let Stage::Initiate { unanswered_at, .. } = &mut self.stage {
            *unanswered_at = self.deadline;
        }
    }

    /// The peer that is looked for.
    pub(crate) fn eid(&self) -> &Eid {
        &self.target.eid
    }

    /// The shard of the peer that has answered, as far as it is known.
    pub(crate) fn shard(&self) -> Option<Shard> {
        self.target.shard
    }

    pub(crate) fn attempt(&self) -> &[u8; 8] {
        &self.attempt
    }

    /// Returns whether INITIATE was sent (NEG-18).
    pub(crate) fn has_initiated(&self) -> bool {
        matches!(self.stage, Stage::Initiate { .. })
    }

    /// Returns where HELLO goes.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.target.routes
    }

    /// Returns whether HELLO was sent again because nobody has answered for long (NEG-27).
    pub(crate) fn is_unanswered(&self, now: Instant) -> bool {
        !self.has_initiated() && self.held().is_none() && self.was_repeated() && self.search.may_ask(now)
    }

    /// Returns when [`Self::step`] is to be called next.
    pub(crate) fn next_timer(&self) -> Instant {
        let at = self.resend.at.min(self.fails_at()).min(self.version_deadline());
        let others_at = self.ways().and_then(Ways::next_timer);
        self.unanswered_at().into_iter().chain(others_at).fold(at, Instant::min)
    }

    fn version_deadline(&self) -> Instant {
        let foreign = self.foreign_versions.as_ref();
        foreign.map_or(self.deadline, |_| self.began + VERSION_GRACE)
    }

    /// Returns whether the packet of this stage was sent more than once.
    pub(crate) fn was_repeated(&self) -> bool {
        self.resend.sent > 1 || self.ways().is_some_and(Ways::is_spread)
    }

    /// Returns whether INITIATE goes by a route.
    pub(crate) fn goes_by(&self, route: &Route) -> bool {
        self.ways().is_some_and(|ways| ways.has(route))
    }

    fn ways(&self) -> Option<&Ways> {
        match &self.stage {
            Stage::Initiate { ways, .. } => Some(ways),
            Stage::Hello(_) => None,
        }
    }

    /// Returns what is due at `now`.
    pub(crate) fn step(&mut self, now: Instant, sightings: &Sightings, rng: &mut dyn Rng) -> InitiatorStep<'_> {
        if now >= self.fails_at() || now >= self.version_deadline() {
            return InitiatorStep::Fail(self.failure(now, sightings));
        }
        if self.unanswered_at().is_some_and(|at| now >= at) {
            return InitiatorStep::BeginAgain;
        }
        let is_due = now >= self.resend.at;
        if is_due {
            self.resend.arm(now, self.schedule, rng);
        }
        match &mut self.stage {
            Stage::Hello(_) if !is_due => InitiatorStep::Wait,
            Stage::Hello(greeting) => {
                let (packet, beside) = greeting.unanswered();
                InitiatorStep::Send(packet, beside, &self.target.routes)
            }
            Stage::Initiate { packet, ways, .. } => match ways.due(now, is_due.then_some(self.resend.sent)) {
                [] => InitiatorStep::Wait,
                routes => InitiatorStep::Send(packet, None, routes),
            },
        }
    }

    /// The error if the attempt fails now.
    pub(crate) fn failure(&self, now: Instant, sightings: &Sightings) -> NegotiationError {
        let (since, after) = (self.sought.since, now.since(self.sought.since));
        if let Some(theirs) = self.foreign_versions.clone() {
            let ours = VERSIONS.to_vec();
            return NegotiationError::Version { theirs, ours };
        }
        if let Some(held) = self.held() {
            let route = held.agreed.route();
            return NegotiationError::PostQuantumUnanswered {
                address: route.to_string(),
                after,
                is_busy: sightings.is_busy(route, since),
            };
        }
        match self.answered() {
            None if self.search.is_in_vain(now, &self.target.routes) => {
                NegotiationError::Unfound(self.search.absence())
            }
            None => NegotiationError::NoAnswer {
                addresses: sightings.of(&self.target.routes, since, &self.target.eid),
                attempts: self.resend.sent,
                after,
            },
            Some(address) => NegotiationError::NotAccepted {
                address: address.to_string(),
                after,
                is_busy: sightings.is_busy(address, since),
            },
        }
    }

    /// Adds routes to try. HELLO goes to all of them at once.
    pub(crate) fn add_routes(&mut self, now: Instant, hints: impl Iterator<Item = Route>) {
        if self.target.add_routes(hints) && !self.has_initiated() {
            self.resend.at = now;
            self.search.on_routes(now);
        }
    }

    /// Forgets routes that lead nowhere any more.
    pub(crate) fn forget_routes(&mut self, mut is_gone: impl FnMut(&Route) -> bool) {
        self.target.routes.retain(|route| !is_gone(route));
    }

    /// There is reason to believe that HELLO would arrive now: it is sent again, unless it was answered.
    pub(crate) fn nudge(&mut self, now: Instant) {
        if !self.has_initiated() && self.held().is_none() {
            self.resend.at = now;
        }
    }

    /// No address is to be had: the attempt fails, unless it has one ([`Search`]).
    pub(crate) fn on_unfound(&mut self, now: Instant, absence: Absence) {
        self.search.on_unfound(now, absence, &self.target.routes);
    }

    /// The time when the attempt fails if nothing comes of it.
    fn fails_at(&self) -> Instant {
        let search = Some(self.search).filter(|_| self.answered().is_none());
        search.map_or(self.deadline, |search| search.end(self.deadline, &self.target.routes))
    }

    /// RETRY: the same HELLO and HELLO_K again, with the token, unless they were answered. Returns the packets to send
    /// to the address that asked.
    pub(crate) fn on_retry(&mut self, version: u32, token: &[u8; 16]) -> Result<Vec<&[u8]>, DropReason> {
        match &mut self.stage {
            // NEG-1
            Stage::Hello(greeting) if version == self.version => greeting.on_retry(token),
            _ => Err(DropReason::UnknownAttempt),
        }
    }

    /// VERSION: a hint that the peer speaks other versions only (NEG-13).
    pub(crate) fn on_version(&mut self, versions: Vec<u32>) -> Result<(), DropReason> {
        if self.has_initiated() || self.held().is_some() || versions.contains(&self.version) {
            return Err(DropReason::UnknownAttempt);
        }
        self.foreign_versions.get_or_insert(versions);
        Ok(())
    }

    /// COOKIE or COOKIE_K: checks it, leaving the attempt as it was if it is not authentic. `None` if the other one is
    /// still missing.
    ///
    /// # Errors
    /// The outer error drops the packet; the inner one ends the attempt.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        answer: &HelloAnswer<'_>,
        route: Route,
        config: &Config,
    ) -> Result<Result<Option<Agreed>, NegotiationError>, DropReason> {
        let agreed = match answer {
            HelloAnswer::Cookie(cookie) => self.on_cookie(now, cookie, route, config),
            HelloAnswer::CookieK(cookie_k) => self.on_cookie_k(cookie_k).map(Ok),
        }?;
        if let (Ok(None), Stage::Hello(greeting)) = (&agreed, &mut self.stage)
            && !std::mem::replace(&mut greeting.is_half_answered, true)
        {
            self.resend.ask_for_the_rest(now);
        }
        Ok(agreed)
    }

    /// The round trip, now that HELLO is answered. By way of a server it is known only if it cannot have been repeated
    /// there (RCH-11).
    fn round_trip(&self, now: Instant) -> Option<Duration> {
        let time = Some(now.since(self.began)).filter(|_| !self.was_repeated());
        time.filter(|time| self.resend.sent > 0 || *time < INTRODUCED_ONCE)
    }

    fn on_cookie(
        &mut self,
        now: Instant,
        cookie: &Cookie<'_>,
        route: Route,
        config: &Config,
    ) -> Result<Result<Option<Agreed>, NegotiationError>, DropReason> {
        if self.sought.introduced.is_some_and(|best| route.class() < best) {
            return Err(DropReason::UnknownAttempt);
        }
        let rtt = self.round_trip(now);
        let Stage::Hello(greeting) = &mut self.stage else {
            return self.on_cookie_again(now, cookie, route).map(|()| Ok(None));
        };
        if greeting.holds(cookie) {
            // RCH-16
            greeting.note_way(route);
            return Err(DropReason::Duplicate);
        }
        let (noise, payload) = greeting
            .noise
            .read_cookie(cookie.e, cookie.sealed)
            .map_err(|_| DropReason::Unauthentic)?;
        let payload = Zeroizing::new(payload);
        if !constant_time_eq(&cookie_mac(noise.chaining_key(), cookie.authed), cookie.mac) {
            return Err(DropReason::Unauthentic);
        }
        let answer = CookieAnswer::decode(&payload).map_err(|_| DropReason::Malformed)?;
        // NEG-13
        self.foreign_versions = None;
        let mut params = match answer {
            CookieAnswer::Chosen(params) => params,
            CookieAnswer::NoSuite => return Ok(Err(NegotiationError::Suite)),
            CookieAnswer::NoKem => return Ok(Err(kem_error(config.post_quantum))),
        };
        let mac_key = params.kem.map(Zeroizing::new);
        params.kem.zeroize();
        // NEG-8
        if let Some(error) = version_fraud(self.version, VERSIONS, &params) {
            return Ok(Err(error));
        }
        let suite = suite_from_wire(params.suite);
        if !config.suites.contains(&suite) {
            return Ok(Err(NegotiationError::Suite));
        }
        // NEG-29
        let chosen = mac_key.as_ref().map_or(Kem::None, |_| Kem::MlKem768);
        if !kems(config.post_quantum).contains(&chosen) {
            return Ok(Err(kem_error(config.post_quantum)));
        }
        self.target.shard = params.shard;
        let agreed = Agreed {
            noise,
            ways: Ways::new(route),
            suite,
            channel_id: params.channel_id,
            rtt: greeting.rtt().or(rtt),
            cookie: cookie.cookie.to_vec(),
            kem_cookie: Vec::new(),
            overhead: self.sought.introduced.map_or(route.overhead(), |_| RELAY_HEADER),
        };
        Ok(Ok(match mac_key {
            Some(mac_key) => greeting.complete_or_hold(agreed, mac_key),
            None => Some(agreed),
        }))
    }

    /// COOKIE comes after INITIATE: if it is the same by another route, INITIATE goes by that too (RCH-16).
    fn on_cookie_again(&mut self, now: Instant, again: &Cookie<'_>, route: Route) -> Result<(), DropReason> {
        let Stage::Initiate {
            ways,
            cookie,
            unanswered_at,
            ..
        } = &mut self.stage
        else {
            return Err(DropReason::UnknownAttempt);
        };
        if self.sought.introduced.is_none() || cookie != again.cookie {
            return Err(DropReason::UnknownAttempt);
        }
        let asked = now.since(self.began);
        let at = ways.add_late(now, asked, route).ok_or(DropReason::Duplicate)?;
        *unanswered_at = (*unanswered_at).max(at + MIN_UNANSWERED);
        Ok(())
    }

    /// COOKIE_K: it counts if it comes from whoever sent COOKIE (NEG-33).
    fn on_cookie_k(&mut self, cookie_k: &CookieK<'_>) -> Result<Option<Agreed>, DropReason> {
        let Stage::Hello(greeting) = &mut self.stage else {
            return Err(DropReason::UnknownAttempt);
        };
        let leg = greeting.leg.as_mut().ok_or(DropReason::UnknownAttempt)?;
        let Some(held) = &greeting.held else {
            leg.keep(cookie_k);
            return Ok(None);
        };
        let Some(opened) = leg.open(&held.mac_key, cookie_k) else {
            // It may belong to a COOKIE that is still under way, of another address or of a host that was restarted.
            leg.keep(cookie_k);
            return Err(DropReason::Unauthentic);
        };
        Ok(greeting.held.take().map(|held| held.agreed.with_leg(opened)))
    }

    /// Makes INITIATE with `frames` as packet 0; it is due at once.
    ///
    /// # Errors
    /// [`NegotiationError::BadEid`] if the Diffie-Hellman with the responder's ephemeral key is refused.
    pub(crate) fn initiate(
        &mut self,
        now: Instant,
        agreed: Agreed,
        key: &StaticKey,
        frames: &[u8],
    ) -> Result<&Split, NegotiationError> {
        let mut message = Vec::with_capacity(long::BASE_DATAGRAM);
        let split = agreed
            .noise
            .write_initiate(key, frames, &mut message)
            .map_err(|_| NegotiationError::BadEid)?;
        self.resend = Resend::initiate(now, agreed.rtt, now.since(self.began));
        if let Schedule::Again(..) | Schedule::Once = self.schedule {
            self.deadline = now + ACCEPT_TIMEOUT;
        }
        let mut ways = Box::new(agreed.ways);
        ways.begin(now, now.since(self.began));
        let interval = self.resend.interval;
        // At least two were sent by then, with any jitter.
        let unanswered = (interval * 4)
            .clamp(MIN_UNANSWERED, MAX_UNANSWERED)
            .max(interval * 3 / 2);
        self.stage = Stage::Initiate {
            packet: long::initiate(
                self.version,
                &self.attempt,
                &agreed.cookie,
                &agreed.kem_cookie,
                &message,
            ),
            ways,
            split,
            cookie: agreed.cookie,
            unanswered_at: now + unanswered,
        };
        self.split().ok_or(NegotiationError::BadEid)
    }

    /// The handshake's result, once INITIATE was made.
    pub(crate) fn split(&self) -> Option<&Split> {
        match &self.stage {
            Stage::Initiate { split, .. } => Some(split),
            Stage::Hello(_) => None,
        }
    }

    /// The size of INITIATE, in bytes.
    pub(crate) fn initiate_size(&self) -> usize {
        match &self.stage {
            Stage::Initiate { packet, .. } => packet.len(),
            Stage::Hello(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rand::SeedableRng;
    use sss_wire::long::{Hello, Long};

    use rand::rngs::StdRng;

    use super::*;
    use crate::config::PostQuantum;
    use sss_crypto::kem;
    use sss_wire::ChannelId;
    use sss_wire::params::CookieParams;

    // spec: RCH-16
    #[test]
    fn the_time_to_the_cookie_of_an_introduced_hello_is_a_round_trip_if_it_is_short() {
        let attempt = attempt(&mut StdRng::seed_from_u64(1), Vec::new());
        let after = |ms| attempt.round_trip(attempt.began + Duration::from_millis(ms));
        assert_eq!(after(299), Some(Duration::from_millis(299)));
        assert_eq!(after(300), None, "who knows how long it waited");
    }

    fn attempt(rng: &mut StdRng, routes: Vec<Route>) -> Initiation {
        attempt_with(PostQuantum::Off, rng, routes)
    }

    fn attempt_with(policy: PostQuantum, rng: &mut StdRng, routes: Vec<Route>) -> Initiation {
        let eid = Eid::from_public_key(&StaticKey::from_bytes([7; 32]).public());
        let start = Instant::from_nanos(0);
        let schedule = Schedule::first(Duration::from_secs(60));
        let config = Config::default().with(|config| config.post_quantum = policy);
        let target = Target {
            eid,
            routes,
            shard: None,
        };
        Initiation::new(start, target, schedule, &config, rng).unwrap()
    }

    fn route() -> Route {
        Route::udp(SocketAddr::from(([192, 0, 2, 1], 4433)))
    }

    fn hello(packet: &[u8]) -> Hello<'_> {
        match Long::parse(packet) {
            Ok(Long::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    // spec: NEG-8
    #[test]
    fn threat_10_a_better_common_version_than_the_one_in_use_is_fraud() {
        let params = |versions: &[u32]| CookieParams {
            versions: versions.to_vec(),
            suite: sss_wire::Suite::ChaCha20Poly1305,
            channel_id: ChannelId::default(),
            kem: None,
            shard: None,
        };
        assert_eq!(version_fraud(1, &[2, 1], &params(&[1])), None);
        assert_eq!(version_fraud(2, &[2, 1], &params(&[3, 2, 1])), None);
        assert!(version_fraud(1, &[2, 1], &params(&[2, 1])).is_some());
        assert!(version_fraud(1, &[2, 1], &params(&[3])).is_some());
    }

    // spec: NEG-15, NEG-30
    #[test]
    fn hello_is_repeated_unchanged_with_doubling_intervals_until_the_deadline() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut attempt = attempt_with(PostQuantum::Required, &mut rng, vec![route()]);
        let mut times = Vec::new();
        let mut packets = Vec::new();
        let error = loop {
            let now = attempt.next_timer();
            match attempt.step(now, &Sightings::default(), &mut rng) {
                InitiatorStep::Send(packet, beside, to) => {
                    assert_eq!(to, [route()]);
                    packets.push([packet, beside.unwrap()].concat());
                    times.push(now);
                }
                InitiatorStep::Wait | InitiatorStep::BeginAgain => {}
                InitiatorStep::Fail(error) => break error,
            }
        };
        assert!(packets.iter().all(|p| *p == packets[0]));
        assert_eq!(packets[0].len(), long::HELLO_SIZE + long::HELLO_K_SIZE);
        let (first, beside) = packets[0].split_at(long::HELLO_SIZE);
        let first = hello(first);
        let Ok(Long::HelloK(beside)) = Long::parse(beside) else {
            panic!("not HELLO_K");
        };
        assert_eq!((beside.version, beside.attempt), (VERSIONS[0], attempt.attempt()));
        assert_eq!(*beside.hello, kem::hello_name(first.noise.first_chunk().unwrap()));
        let expected = Hello {
            version: VERSIONS[0],
            attempt: attempt.attempt(),
            token: &[0; 16],
            ..first
        };
        assert_eq!(first, expected);
        for (n, pair) in times.windows(2).enumerate() {
            let expected = match n {
                0 | 1 => 0.5,
                2 => 1.0,
                3..8 => 2.0,
                _ => (2.0 * f64::from(1_u32 << (n - 7))).min(10.0),
            };
            let gap = pair[1].since(pair[0]).as_secs_f64() / expected;
            assert!((0.74..1.26).contains(&gap), "interval {n} is {gap} of {expected} s");
        }
        assert!(matches!(error, NegotiationError::NoAnswer { .. }), "{error}");
        assert!((13..16).contains(&packets.len()), "{} HELLOs", packets.len());
    }

    // spec: NEG-12
    #[test]
    fn retry_changes_the_token_only_and_is_followed_three_times() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut attempt = attempt(&mut rng, vec![route()]);
        let InitiatorStep::Send(first, None, _) = attempt.step(Instant::from_nanos(0), &Sightings::default(), &mut rng)
        else {
            panic!("HELLO is due at once");
        };
        let first = first.to_vec();
        let with = |token| Hello { token, ..hello(&first) };
        assert_eq!(with(&[0; 16]), hello(&first));
        for token in &[[5; 16], [6; 16], [7; 16]] {
            let unknown = attempt.on_retry(2, &[9; 16]);
            assert_eq!(unknown, Err(DropReason::UnknownAttempt), "of another version");
            let again = attempt.on_retry(1, token).unwrap();
            assert_eq!(again.iter().map(|p| hello(p)).collect::<Vec<_>>(), [with(token)]);
            assert_eq!(
                attempt.on_retry(1, token),
                Err(DropReason::Duplicate),
                "it has that token"
            );
        }
        assert_eq!(attempt.on_retry(1, &[8; 16]), Err(DropReason::UnknownAttempt));
    }

    // spec: NEG-13
    #[test]
    fn version_fails_the_attempt_only_after_a_grace_and_only_without_ours() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut attempt = attempt(&mut rng, vec![route()]);
        let with_ours = attempt.on_version(vec![9, VERSIONS[0]]);
        assert_eq!(with_ours, Err(DropReason::UnknownAttempt));
        attempt.on_version(vec![9]).unwrap();
        let almost = Instant::from_nanos(2_999_000_000);
        assert!(!matches!(
            attempt.step(almost, &Sightings::default(), &mut rng),
            InitiatorStep::Fail(_)
        ));
        let InitiatorStep::Fail(error) =
            attempt.step(Instant::from_nanos(3_000_000_000), &Sightings::default(), &mut rng)
        else {
            panic!("the grace is over");
        };
        let expected = NegotiationError::Version {
            theirs: vec![9],
            ours: VERSIONS.to_vec(),
        };
        assert_eq!(error, expected);
    }
}
