//! The responder: answers HELLO without keeping anything, and makes sure of INITIATE (NEG-9 to NEG-14).

use std::net::SocketAddr;

use rand::{Rng, RngExt};
use sss_crypto::noise::Split;
use sss_crypto::noise::{self, SentCookie};
use sss_crypto::{AuthError, StaticKey, Suite, kem, schedule};
use sss_wire::long::{self, Hello, HelloK, Initiate};
use sss_wire::params::{CookieAnswer, CookieParams, Earlier, HelloParams, Shard};
use sss_wire::{ChannelId, Eid, Kem};
use zeroize::{Zeroize, Zeroizing};

use super::channel_ids::ChannelIds;
use super::cookie::{Binding, Contents, Cookies, MAX_VAIN, Place, Spent, cookie_mac};
use super::greeter::{Greeter, GreeterStats};
use super::introductions::{self, Introductions};
use super::leg::LegKeys;
use super::load::{Load, Meter};
use super::terms::{VERSIONS, kems, prologue, suite_from_wire, suite_to_wire};
use crate::config::{Config, PostQuantum};
use crate::entropy::{Entropy, Randomness};
use crate::error::DropReason;
use crate::limit::Standing;
use crate::nearby::Networks;
use crate::route::{Route, RouteClass};
use crate::time::Instant;

/// The responder's side of all negotiations: two cookie keys, two token keys, the key of the legs, and no state per
/// initiator.
pub(crate) struct Responder {
    cookies: Cookies,
    legs: LegKeys,
    load: Load,
    introductions: Introductions,
    /// Away while it is lent.
    greeter: Option<Greeter>,
    /// The one for what comes by relays and tunnels: a flood of others takes nothing from those, and is not lent.
    beside: Beside,
}

/// A greeter that is made when something comes that it is for.
struct Beside {
    greeter: Option<Box<Greeter>>,
    threshold: u32,
    keys: [Zeroizing<[u8; 32]>; 2],
    seeds: [u64; 2],
    near: Networks,
    policy: PostQuantum,
}

impl Beside {
    fn greeter(&mut self) -> &mut Greeter {
        self.greeter.get_or_insert_with(|| {
            let meters = self.seeds.map(|seed| Meter::new(self.threshold, seed));
            let keys = [*self.keys[0], *self.keys[1]];
            Box::new(Greeter::new(meters, keys, self.near.clone(), self.policy))
        })
    }
}

/// An INITIATE whose sender has proven who it is. Its frames are not yet looked at.
pub(crate) struct Proven {
    pub(crate) eid: Eid,
    pub(crate) channel_id: ChannelId,
    pub(crate) suite: Suite,
    /// The time when the HELLO of this negotiation was answered.
    pub(crate) issued: Instant,
    pub(crate) split: Split,
    /// The plaintext of the initiator's packet 0.
    pub(crate) frames: Vec<u8>,
    pub(crate) period: u8,
    /// It was introduced: it may come by a relay too.
    pub(crate) is_introduced: bool,
}

/// Fate of an attempt that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// That cannot be told: its cookie does not open here.
    Unknown,
    /// Its INITIATE never made a channel. The cookie's period and channel id.
    NeverAccepted(u8, ChannelId),
    /// It made this channel.
    Accepted(ChannelId),
}

/// Answer to HELLO or HELLO_K.
pub(crate) enum Reply {
    /// COOKIE or COOKIE_K: what it took to make it is not to be in vain.
    Worked(Vec<u8>),
    /// RETRY or VERSION.
    Hint(Vec<u8>),
}

impl Reply {
    fn into_packet(self) -> Vec<u8> {
        match self {
            Self::Worked(packet) | Self::Hint(packet) => packet,
        }
    }
}

/// Sender of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) route: Route,
    pub(crate) standing: Standing,
}

/// Reasons why an INITIATE makes no channel.
pub(crate) enum Refusal {
    /// It is dropped.
    Drop(DropReason),
    /// Its cookie is spent: it may have made this channel.
    Again(ChannelId),
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

impl Responder {
    pub(crate) fn new(config: &Config, near: Networks, rng: &mut dyn Rng) -> Self {
        let (cookies, legs) = (Cookies::new(rng.random()), LegKeys::new(rng.random()));
        let (keys, seeds): (_, [u64; 4]) = (rng.random(), rng.random());
        let [hello, hello_k, initiate, vain] = seeds;
        let meters = [hello, hello_k].map(|seed| Meter::new(config.hello_threshold, seed));
        let beside = Beside {
            greeter: None,
            threshold: config.hello_threshold,
            keys: derived(&keys),
            seeds: [!hello, !hello_k],
            near: near.clone(),
            policy: config.post_quantum,
        };
        Self {
            cookies,
            legs,
            load: Load::new(config.hello_threshold, [initiate, vain]),
            introductions: Introductions::default(),
            greeter: Some(Greeter::new(meters, keys, near, config.post_quantum).keeping_to(config)),
            beside,
        }
    }

    /// Gives the greeter away, if it is here: greetings are dropped until it is back, but for those that it admits.
    pub(crate) fn lend_greeter(&mut self, rng: &mut Randomness) -> Option<Greeter> {
        let mut greeter = self.greeter.take()?;
        let seed: [u8; 32] = rng.refresh().random();
        greeter.set_rng(Some(Randomness::new(Entropy::from(seed))));
        Some(greeter)
    }

    /// Takes the greeter back.
    pub(crate) fn give_back(&mut self, mut greeter: Greeter) {
        greeter.set_rng(None);
        self.greeter = Some(greeter);
    }

    /// Returns what the greeters that are here have done.
    pub(crate) fn take_greeter_stats(&mut self) -> [GreeterStats; 2] {
        let beside = self.beside.greeter.as_deref_mut();
        [self.greeter.as_mut(), beside].map(|greeter| greeter.map(Greeter::take_stats).unwrap_or_default())
    }

    /// The greeter that is for what comes by a route.
    fn greeter_for(&mut self, route: &Route) -> Result<&mut Greeter, DropReason> {
        match route.class() {
            RouteClass::Direct => self.greeter.as_mut().ok_or(DropReason::Overload),
            RouteClass::Relay | RouteClass::Turn | RouteClass::Tunnel => Ok(self.beside.greeter()),
        }
    }

    /// Answers HELLO with COOKIE, RETRY or VERSION.
    pub(crate) fn hello(
        &mut self,
        now: Instant,
        hello: &Hello<'_>,
        route: Route,
        host: &mut Own<'_>,
    ) -> Result<Reply, DropReason> {
        self.rotate(now, host.rng);
        let greeter = self.greeter_for(&route)?;
        if let Some(hint) = greeter.screen(now, route, &hello.into())? {
            return Ok(Reply::Hint(hint));
        }
        self.work_for_hello(now, hello, route.into(), host)
            .map(|(reply, _)| reply)
    }

    /// Answers a HELLO that was [admitted](super::Greeted::Admitted) with COOKIE.
    pub(crate) fn hello_admitted(
        &mut self,
        now: Instant,
        hello: &Hello<'_>,
        route: Route,
        host: &mut Own<'_>,
    ) -> Result<Reply, DropReason> {
        self.rotate(now, host.rng);
        self.work_for_hello(now, hello, route.into(), host)
            .map(|(reply, _)| reply)
    }

    /// Returns the answer, and the initiator's candidates.
    fn work_for_hello(
        &mut self,
        now: Instant,
        hello: &Hello<'_>,
        place: Place,
        host: &mut Own<'_>,
    ) -> Result<(Reply, Vec<SocketAddr>), DropReason> {
        let binding = Binding {
            place,
            version: hello.version,
            attempt: hello.attempt,
        };
        let prologue = prologue(hello.version, hello.attempt);
        let (noise, payload) =
            noise::Responder::read_hello(&prologue, host.key, hello.noise).map_err(|_| DropReason::Unauthentic)?;
        let offered = HelloParams::decode(&payload).map_err(|_| DropReason::Malformed)?;
        // Not before: what is dropped, or has to come back with a token, costs no entropy.
        let channel_id = host.ids.next(host.rng.refresh());
        let name = hello.noise.first_chunk().map(kem::hello_name).unwrap_or_default();
        let mac_key = self.legs.mac_key(binding, &name);
        let choice = Choice::make(&offered, host.config);
        let params = choice.params((channel_id, host.config.shard), &mac_key);
        let mut message = Vec::with_capacity(256);
        let noise = noise
            .write_cookie(host.rng.random(), &params, &mut message)
            .map_err(|_| DropReason::Unauthentic)?;
        let cookie = match choice {
            Choice::Made { suite, kem } => {
                let contents = Contents {
                    noise: noise.to_bytes(),
                    suite,
                    kem,
                    issued: now,
                    channel_id,
                };
                self.cookies.seal(&contents, binding, host.rng.random())
            }
            Choice::NoSuite | Choice::NoKem => Vec::new(),
        };
        let mut packet = long::cookie_without_mac(binding.version, binding.attempt, &message, &cookie);
        let mac = cookie_mac(noise.chaining_key(), &packet);
        packet.extend_from_slice(&mac);
        Ok((Reply::Worked(packet), offered.candidates))
    }

    /// Answers HELLO_K with COOKIE_K or RETRY (NEG-31).
    pub(crate) fn hello_k(
        &mut self,
        now: Instant,
        hello_k: &HelloK<'_>,
        route: Route,
        host: &mut Own<'_>,
    ) -> Result<Reply, DropReason> {
        self.rotate(now, host.rng);
        let greeter = self.greeter_for(&route)?;
        if let Some(hint) = greeter.screen(now, route, &hello_k.into())? {
            return Ok(Reply::Hint(hint));
        }
        self.work_for_hello_k(hello_k, route.into(), host)
    }

    /// Answers a HELLO_K that was [admitted](super::Greeted::Admitted) with COOKIE_K.
    pub(crate) fn hello_k_admitted(
        &mut self,
        now: Instant,
        hello_k: &HelloK<'_>,
        route: Route,
        host: &mut Own<'_>,
    ) -> Result<Reply, DropReason> {
        self.rotate(now, host.rng);
        self.work_for_hello_k(hello_k, route.into(), host)
    }

    fn work_for_hello_k(&self, hello_k: &HelloK<'_>, place: Place, host: &mut Own<'_>) -> Result<Reply, DropReason> {
        let binding = Binding {
            place,
            version: hello_k.version,
            attempt: hello_k.attempt,
        };
        let answer = self.legs.answer(hello_k, binding, &self.cookies, host.rng.refresh())?;
        Ok(Reply::Worked(answer))
    }

    /// Answers a short HELLO that has come by way of a server, under this name, with COOKIE (RCH-16). INITIATE may come
    /// by these routes. Returns COOKIE, and the initiator's candidates (RCH-42).
    pub(crate) fn introduced(
        &mut self,
        now: Instant,
        name: [u8; 8],
        (packet, routes): (&[u8], &[Route]),
        host: &mut Own<'_>,
    ) -> Result<(Vec<u8>, Vec<SocketAddr>), DropReason> {
        self.rotate(now, host.rng);
        let hello = introductions::short_hello(packet)?;
        if !VERSIONS.contains(&hello.version) {
            return Err(DropReason::Unwelcome);
        }
        let (reply, candidates) = self.work_for_hello(now, &hello, Place::Introduction(name), host)?;
        let answer = reply.into_packet();
        self.introductions.put(now, name, (&hello, &answer), routes);
        Ok((answer, candidates))
    }

    /// Answers the other half of it, made of its encapsulation key, with COOKIE_K.
    pub(crate) fn introduced_leg(
        &mut self,
        now: Instant,
        name: &[u8; 8],
        key: &[u8; long::KEM_KEY],
        host: &mut Own<'_>,
    ) -> Result<Vec<u8>, DropReason> {
        self.rotate(now, host.rng);
        if !kems(host.config.post_quantum).contains(&Kem::MlKem768) {
            return Err(DropReason::Unwelcome);
        }
        let packet = self
            .introductions
            .hello_k(name, key)
            .ok_or(DropReason::UnknownAttempt)?;
        let hello_k = introductions::hello_k(&packet)?;
        let reply = self.work_for_hello_k(&hello_k, Place::Introduction(*name), host)?;
        Ok(reply.into_packet())
    }

    /// The greetings that have come by way of a server.
    pub(crate) fn introductions_mut(&mut self) -> &mut Introductions {
        &mut self.introductions
    }

    /// Checks INITIATE in the order of NEG-10, up to `se`.
    pub(crate) fn initiate(
        &mut self,
        now: Instant,
        initiate: &Initiate<'_>,
        sender: Sender,
        rng: &mut dyn Rng,
    ) -> Result<Proven, Refusal> {
        self.rotate(now, rng);
        let route = sender.route;
        self.introductions.expire(now);
        let place = self.introductions.place(initiate.attempt, initiate.cookie, route)?;
        let (period, contents) = self.open(initiate, place).ok_or(DropReason::StaleCookie)?;
        match self.cookies.spent(period, contents.channel_id) {
            Some(Spent::Accepted | Spent::Void) => return Err(Refusal::Again(contents.channel_id)),
            Some(Spent::Vain(times)) if times >= MAX_VAIN => return Err(DropReason::Overload.into()),
            Some(Spent::Vain(_)) | None => {}
        }
        if !self.load.admit_initiate(now, (&route).into(), sender.standing) {
            return Err(DropReason::Overload.into());
        }
        let proven = self.authenticate(initiate, place, period, &contents);
        if proven.is_err() {
            self.note_vain(now, route, (period, contents.channel_id));
        }
        Ok(proven?)
    }

    /// An INITIATE whose cookie opened made no channel: not too many may come with it, nor from there (NEG-38).
    pub(crate) fn note_vain(&mut self, now: Instant, route: Route, (period, channel): (u8, ChannelId)) {
        self.cookies.note_vain(period, channel);
        self.load.note_vain(now, (&route).into());
    }

    /// Returns who sent an INITIATE whose cookie is spent.
    ///
    /// # Errors
    /// If it is not genuine.
    pub(crate) fn initiate_spent(&self, initiate: &Initiate<'_>, route: Route) -> Result<Proven, DropReason> {
        let place = self.introductions.place(initiate.attempt, initiate.cookie, route)?;
        let (period, contents) = self.open(initiate, place).ok_or(DropReason::StaleCookie)?;
        self.authenticate(initiate, place, period, &contents)
    }

    fn open(&self, initiate: &Initiate<'_>, place: Place) -> Option<(u8, Contents)> {
        self.cookies.open(initiate.cookie, binding_of(initiate, place))
    }

    /// Opens the leg, and both parts of Noise message 3: then the initiator holds the key that it names.
    fn authenticate(
        &self,
        initiate: &Initiate<'_>,
        place: Place,
        period: u8,
        contents: &Contents,
    ) -> Result<Proven, DropReason> {
        let mut noise = noise::Responder::<SentCookie>::from_bytes(&contents.noise);
        match contents.kem {
            Kem::MlKem768 => {
                let secret = self.cookies.open_leg(initiate.kem, binding_of(initiate, place));
                noise.mix_kem(&*secret.ok_or(DropReason::StaleCookie)?);
            }
            Kem::None if initiate.kem.is_empty() => {}
            Kem::None => return Err(DropReason::Malformed),
        }
        let (public, noise) = noise.read_static(initiate.sealed_static).map_err(unauthentic)?;
        let (frames, split) = noise.read_payload(initiate.sealed_frames).map_err(unauthentic)?;
        Ok(Proven {
            eid: Eid::from_public_key(&public),
            channel_id: contents.channel_id,
            suite: contents.suite,
            issued: contents.issued,
            split,
            frames,
            period,
            is_introduced: matches!(place, Place::Introduction(_)),
        })
    }

    /// Returns what became of an earlier attempt that an initiator names (NEG-25). It may have been elsewhere then, or
    /// introduced, and that is forgotten.
    pub(crate) fn fate(&self, earlier: &Earlier, version: u32, route: Route) -> Fate {
        let binding = Binding {
            place: route.into(),
            version,
            attempt: &earlier.attempt,
        };
        let Some((period, contents)) = self.cookies.open_anywhere(&earlier.cookie, binding) else {
            return Fate::Unknown;
        };
        match self.cookies.spent(period, contents.channel_id) {
            Some(Spent::Accepted) => Fate::Accepted(contents.channel_id),
            _ => Fate::NeverAccepted(period, contents.channel_id),
        }
    }

    /// Remembers that a channel was made, so that the same INITIATE makes no second one (NEG-11).
    pub(crate) fn spend(&mut self, proven: &Proven) {
        self.cookies.spend(proven.period, proven.channel_id, Spent::Accepted);
    }

    /// No channel is ever made from this cookie.
    pub(crate) fn void(&mut self, period: u8, channel_id: ChannelId) {
        self.cookies.spend(period, channel_id, Spent::Void);
    }

    fn rotate(&mut self, now: Instant, rng: &mut dyn Rng) {
        let mut fresh = || rng.random();
        self.cookies.rotate(now, &mut fresh);
        if let Some(greeter) = &mut self.greeter {
            greeter.rotate(now, &mut fresh);
        }
        if let Some(greeter) = &mut self.beside.greeter {
            greeter.rotate(now, &mut fresh);
        }
    }
}

/// Keys of their own for another greeter.
fn derived(keys: &[[u8; 32]; 2]) -> [Zeroizing<[u8; 32]>; 2] {
    keys.map(|key| {
        let mut derived = Zeroizing::new([0; 32]);
        schedule::label(&key, "greeter beside", b"", &mut *derived);
        derived
    })
}

#[cfg(test)]
impl Responder {
    /// Forgets which INITIATEs were accepted.
    pub(crate) fn forget_spent(&mut self) {
        self.cookies.forget_spent();
    }
}

/// Parts of its host that the responder borrows.
pub(crate) struct Own<'a> {
    pub(crate) key: &'a StaticKey,
    pub(crate) config: &'a Config,
    pub(crate) rng: &'a mut Randomness,
    pub(crate) ids: &'a mut ChannelIds,
}

fn unauthentic(_: AuthError) -> DropReason {
    DropReason::Unauthentic
}

fn binding_of<'a>(initiate: &Initiate<'a>, place: Place) -> Binding<'a> {
    Binding {
        place,
        version: initiate.version,
        attempt: initiate.attempt,
    }
}

/// Answer to what a HELLO offers.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Made { suite: Suite, kem: Kem },
    NoSuite,
    NoKem,
}

impl Choice {
    fn make(offered: &HelloParams, config: &Config) -> Self {
        let Some(kem) = choose_kem(offered, config.post_quantum) else {
            return Self::NoKem;
        };
        match choose_suite(offered, &config.suites) {
            Some(suite) => Self::Made { suite, kem },
            None => Self::NoSuite,
        }
    }

    /// The parameters of COOKIE. `mac_key` is told to those that have a leg.
    fn params(&self, (channel_id, shard): (ChannelId, Option<Shard>), mac_key: &[u8; 32]) -> Zeroizing<Vec<u8>> {
        let (suite, kem) = match self {
            Self::Made { suite, kem } => (*suite, *kem),
            Self::NoSuite => return CookieAnswer::no_suite(VERSIONS).into(),
            Self::NoKem => return CookieAnswer::no_kem(VERSIONS).into(),
        };
        let mut params = CookieParams {
            versions: VERSIONS.to_vec(),
            suite: suite_to_wire(suite),
            channel_id,
            kem: (kem == Kem::MlKem768).then_some(*mac_key),
            shard,
        };
        let list = params.to_vec();
        params.kem.zeroize();
        list.into()
    }
}

/// The best KEM, or none, that this host accepts and that is offered (NEG-29).
fn choose_kem(offered: &HelloParams, policy: PostQuantum) -> Option<Kem> {
    kems(policy).iter().copied().find(|kem| offered.kems.contains(kem))
}

/// The first suite offered that this host supports (NEG-7).
fn choose_suite(offered: &HelloParams, ours: &[Suite]) -> Option<Suite> {
    let mut offered = offered.suites.iter().map(|s| suite_from_wire(*s));
    offered.find(|s| ours.contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(suites: &[sss_wire::Suite]) -> HelloParams {
        HelloParams {
            versions: VERSIONS.to_vec(),
            suites: suites.to_vec(),
            kems: vec![Kem::None],
            candidates: Vec::new(),
        }
    }

    // spec: NEG-7
    #[test]
    fn the_first_offered_suite_that_is_supported_is_chosen() {
        use sss_wire::Suite as Wire;
        let both = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
        let chacha = [Suite::ChaCha20Poly1305];
        let aes_first = offer(&[Wire::Aes256Gcm, Wire::ChaCha20Poly1305]);
        let chacha_first = offer(&[Wire::ChaCha20Poly1305, Wire::Aes256Gcm]);
        assert_eq!(choose_suite(&aes_first, &both), Some(Suite::Aes256Gcm));
        assert_eq!(choose_suite(&chacha_first, &both), Some(Suite::ChaCha20Poly1305));
        assert_eq!(choose_suite(&aes_first, &chacha), Some(Suite::ChaCha20Poly1305));
        assert_eq!(choose_suite(&offer(&[Wire::Aes256Gcm]), &chacha), None);
    }

    // spec: NEG-29
    #[test]
    fn the_best_kem_that_both_accept_is_chosen() {
        let offers = PostQuantum::ALL.map(|policy| HelloParams {
            kems: kems(policy).to_vec(),
            ..offer(&[])
        });
        let chosen = |policy| offers.each_ref().map(|offer| choose_kem(offer, policy));
        let (leg, none) = (Some(Kem::MlKem768), Some(Kem::None));
        assert_eq!(chosen(PostQuantum::Required), [leg, leg, None]);
        assert_eq!(chosen(PostQuantum::Preferred), [leg, leg, none]);
        assert_eq!(chosen(PostQuantum::Off), [None, none, none]);
        let backwards = HelloParams {
            kems: vec![Kem::None, Kem::MlKem768],
            ..offer(&[])
        };
        assert_eq!(choose_kem(&backwards, PostQuantum::Preferred), leg, "in whatever order");
        let nothing = HelloParams {
            kems: Vec::new(),
            ..offer(&[])
        };
        assert_eq!(choose_kem(&nothing, PostQuantum::Preferred), None);
    }

    // spec: NEG-7
    #[test]
    fn every_host_supports_suite_1_and_offers_aes_first_only_with_hardware() {
        let suites = Config::default().suites;
        assert!(suites.contains(&Suite::ChaCha20Poly1305));
        assert_eq!(suites.first() == Some(&Suite::Aes256Gcm), Suite::hardware_aes());
    }
}
