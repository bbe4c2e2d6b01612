//! The first look at HELLO and HELLO_K: who is asked to prove its address, and who is given no answer (NEG-12, NEG-36,
//! NEG-37).

use std::fmt;
use std::net::SocketAddr;

use rand::RngExt;
use sss_wire::Kem;
use sss_wire::long::{self, Hello, HelloK, Long};

use super::cookie::Binding;
use super::load::Meter;
use super::retry_tokens::{Asking, RetryTokens, TokenState};
use super::terms::{VERSIONS, kems};
use crate::config::{Config, PostQuantum};
use crate::entropy::Randomness;
use crate::error::DropReason;
use crate::nearby::Networks;
use crate::network::{Network, is_usable, stays_in_lan};
use crate::route::Route;
use crate::time::Instant;

/// Does for a host what costs least of answering HELLO and HELLO_K, for all that come: the size, the version, the
/// token, and how many are answered with arithmetic. It keeps nothing for any of them.
///
/// In a flood that is all there is to do for most, so [`Host::lend_greeter`](crate::Host::lend_greeter) gives it away,
/// to be used on another thread, and [`Host::give_back`](crate::Host::give_back) takes it back. There is one of a host,
/// so that its keys and counters exist once.
pub struct Greeter {
    hellos: Meter,
    hello_ks: Meter,
    tokens: RetryTokens,
    /// The networks of established peers (NEG-39).
    near: Networks,
    /// Set if the host answers HELLO_K.
    takes_leg: bool,
    /// Set if the host keeps to its local network.
    lan_only: bool,
    /// Set if the host is reached by relays alone.
    relay_only: bool,
    /// Randomness for keys of tokens while it is lent.
    rng: Option<Randomness>,
    stats: GreeterStats,
}

/// Counters of a greeter since they were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GreeterStats {
    pub(crate) datagrams_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) datagrams_sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) denied: u64,
    pub(crate) dropped: [u64; DropReason::COUNT],
}

/// Fate of a packet that a greeter has looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeted {
    /// The host is to do the work for it: [`Input::Admitted`](crate::Input::Admitted).
    Admitted,
    /// This is to be sent to where it came from: RETRY or VERSION.
    Answer(Vec<u8>),
    /// It is dropped, and counted.
    Dropped,
}

/// Parts of HELLO or HELLO_K by which it is judged.
pub(super) struct Greeting<'a> {
    what: Asking,
    version: u32,
    attempt: &'a [u8; 8],
    token: &'a [u8; 16],
    part: Part,
}

/// Part of a packet that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// Its [header](Greeter::HEADER): it cannot be worked for.
    Header,
}

impl<'a> From<&Hello<'a>> for Greeting<'a> {
    fn from(hello: &Hello<'a>) -> Self {
        Self {
            what: Asking::Hello,
            version: hello.version,
            attempt: hello.attempt,
            token: hello.token,
            part: Part::Whole,
        }
    }
}

impl<'a> From<&HelloK<'a>> for Greeting<'a> {
    fn from(hello_k: &HelloK<'a>) -> Self {
        Self {
            what: Asking::HelloK,
            version: hello_k.version,
            attempt: hello_k.attempt,
            token: hello_k.token,
            part: Part::Whole,
        }
    }
}

/// Reasons why a packet gets no answer that costs something.
enum Denied {
    /// Its sender is to prove its address first, with this token.
    Retry([u8; 16]),
    /// The token was used up, or the sender's network has had its share.
    Drop,
}

impl fmt::Debug for Greeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeter").finish_non_exhaustive()
    }
}

impl Greeter {
    /// First bytes of HELLO and HELLO_K that tell all but whether they are worth work.
    pub const HEADER: usize = 46;

    /// Returns whether a packet with this first byte is one to [greet](Self::greet): HELLO or HELLO_K.
    pub fn is_greeting(first: u8) -> bool {
        first == long::Kind::Hello as u8 || first == long::Kind::HelloK as u8
    }

    pub(super) fn new(meters: [Meter; 2], keys: [[u8; 32]; 2], near: Networks, policy: PostQuantum) -> Self {
        let [hellos, hello_ks] = meters;
        Self {
            hellos,
            hello_ks,
            tokens: RetryTokens::new(keys),
            near,
            takes_leg: kems(policy).contains(&Kem::MlKem768),
            lan_only: false,
            relay_only: false,
            rng: None,
            stats: GreeterStats::default(),
        }
    }

    /// The same, of a host that keeps to its local network, or to relays.
    pub(super) fn keeping_to(self, config: &Config) -> Self {
        let (lan_only, relay_only) = (config.lan_only, config.relay_only);
        Self {
            lan_only,
            relay_only,
            ..self
        }
    }

    /// Sets randomness of its own, for as long as the host does not replace its keys.
    pub(super) fn set_rng(&mut self, rng: Option<Randomness>) {
        self.rng = rng;
    }

    /// Decides what becomes of a datagram from that address.
    pub fn greet(&mut self, now: Instant, remote: SocketAddr, packet: &[u8]) -> Greeted {
        self.count(now, remote, packet, Part::Whole)
    }

    /// Decides what becomes of a datagram of 1232 bytes of which only the [first](Self::HEADER) are there: it is never
    /// admitted, whatever the load is. For those without a token, of which most get no more in a flood.
    pub fn greet_header(&mut self, now: Instant, remote: SocketAddr, header: &[u8; Self::HEADER]) -> Greeted {
        let mut packet = [0; long::HELLO_SIZE];
        for (to, from) in packet.iter_mut().zip(header) {
            *to = *from;
        }
        self.count(now, remote, &packet, Part::Header)
    }

    fn count(&mut self, now: Instant, remote: SocketAddr, packet: &[u8], part: Part) -> Greeted {
        if let Some(rng) = &mut self.rng {
            self.tokens.rotate(now, &mut || rng.random());
        }
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += packet.len() as u64;
        match self.judge(now, Route::udp(remote), packet, part) {
            Ok(None) => Greeted::Admitted,
            Ok(Some(answer)) => {
                self.stats.datagrams_sent += 1;
                self.stats.bytes_sent += answer.len() as u64;
                Greeted::Answer(answer)
            }
            Err(reason) => {
                if let Some(count) = self.stats.dropped.get_mut(reason as usize) {
                    *count += 1;
                }
                Greeted::Dropped
            }
        }
    }

    /// Returns what it has done since this was last called.
    pub fn take_stats(&mut self) -> GreeterStats {
        std::mem::take(&mut self.stats)
    }

    fn judge(&mut self, now: Instant, route: Route, packet: &[u8], part: Part) -> Result<Option<Vec<u8>>, DropReason> {
        if !is_usable(&route) {
            return Err(DropReason::BadAddress);
        }
        // RCH-37
        if self.lan_only && !stays_in_lan(&route) {
            return Err(DropReason::OutsideLan);
        }
        // RCH-40: it is given what has come directly, and servers say no HELLO.
        if self.relay_only {
            return Err(DropReason::NotRelayed);
        }
        let greeting = match Long::parse(packet).map_err(|_| DropReason::Malformed)? {
            Long::Hello(hello) => Greeting::from(&hello),
            Long::HelloK(hello_k) => Greeting::from(&hello_k),
            _ => return Err(DropReason::Malformed),
        };
        self.screen(now, route, &Greeting { part, ..greeting })
    }

    /// Replaces the token key if it is due. `fresh` makes key bytes.
    pub(super) fn rotate(&mut self, now: Instant, fresh: &mut dyn FnMut() -> [u8; 32]) {
        self.tokens.rotate(now, fresh);
    }

    /// Returns the answer, RETRY or VERSION, of what is not worth more.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn screen(
        &mut self,
        now: Instant,
        route: Route,
        greeting: &Greeting<'_>,
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let (version, attempt) = (greeting.version, greeting.attempt);
        match greeting.what {
            Asking::Hello if !VERSIONS.contains(&version) => return Ok(Some(long::version(attempt, VERSIONS))),
            // HELLO of that version is answered with VERSION.
            Asking::HelloK if !VERSIONS.contains(&version) || !self.takes_leg => return Err(DropReason::Unwelcome),
            Asking::Hello | Asking::HelloK => {}
        }
        match self.admit(now, greeting, route) {
            Ok(()) => Ok(None),
            Err(denied) => {
                self.stats.denied += 1;
                match denied {
                    Denied::Retry(token) => Ok(Some(long::retry(version, attempt, &token))),
                    Denied::Drop => Err(DropReason::Overload),
                }
            }
        }
    }

    /// Decides whether a packet is answered with arithmetic. Only one with a valid token counts against its network,
    /// since anybody can write an address (NEG-37).
    fn admit(&mut self, now: Instant, greeting: &Greeting<'_>, route: Route) -> Result<(), Denied> {
        let meter = match greeting.what {
            Asking::Hello => &mut self.hellos,
            Asking::HelloK => &mut self.hello_ks,
        };
        if !meter.is_high(now) && greeting.part == Part::Whole {
            return Ok(());
        }
        let binding = Binding {
            place: route.into(),
            version: greeting.version,
            attempt: greeting.attempt,
        };
        let token = match self.tokens.check(greeting.token, binding, greeting.what) {
            TokenState::Valid(token) if greeting.part == Part::Whole => token,
            TokenState::Valid(_) | TokenState::UsedUp => return Err(Denied::Drop),
            TokenState::Other(token) => return Err(Denied::Retry(token)),
        };
        let network = Network::from(&route);
        if !meter.allow(now, network, self.near.standing(network)) {
            return Err(Denied::Drop);
        }
        self.tokens.spend(token);
        Ok(())
    }
}
