//! The responder: answers HELLO without keeping anything, and makes sure of INITIATE (NEG-9 to NEG-14).

use std::net::SocketAddr;

use rand::RngExt;
use rand::rngs::StdRng;
use sss_crypto::noise::Split;
use sss_crypto::noise::{self, SentCookie};
use sss_crypto::{StaticKey, Suite};
use sss_wire::long::{self, Hello, Initiate};
use sss_wire::params::{CookieAnswer, CookieParams, Earlier, HelloParams};
use sss_wire::{ChannelId, Eid};

use super::channel_ids::ChannelIds;
use super::cookie::{Binding, Contents, Cookies, Spent, cookie_mac};
use super::load::Load;
use super::terms::{VERSIONS, prologue, suite_from_wire, suite_to_wire};
use crate::config::Config;
use crate::error::DropReason;
use crate::time::Instant;

/// The responder's side of all negotiations: two cookie keys, two token keys, and no state per initiator.
pub(crate) struct Responder {
    cookies: Cookies,
    load: Load,
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
}

/// Standing of an attempt that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// That cannot be told: its cookie does not open here.
    Unknown,
    /// Its INITIATE never made a channel. The cookie's period and channel id.
    NeverAccepted(u8, ChannelId),
    /// It made this channel.
    Accepted(ChannelId),
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
    pub(crate) fn new(config: &Config, rng: &mut StdRng) -> Self {
        Self {
            cookies: Cookies::new(rng.random()),
            load: Load::new(config.hello_threshold, [rng.random(), rng.random()]),
        }
    }

    /// Answers HELLO with COOKIE, RETRY or VERSION.
    pub(crate) fn hello(
        &mut self,
        now: Instant,
        hello: &Hello<'_>,
        remote: SocketAddr,
        host: &mut Own<'_>,
    ) -> Result<Vec<u8>, DropReason> {
        self.rotate(now, host.rng);
        if !VERSIONS.contains(&hello.version) {
            return Ok(long::version(hello.attempt, VERSIONS));
        }
        if self.load.is_high(now) && !self.load.is_valid(hello.token, remote, hello.attempt) {
            let token = self.load.token(remote, hello.attempt);
            return Ok(long::retry(hello.version, hello.attempt, &token));
        }
        let prologue = prologue(hello.version, hello.attempt);
        let (noise, payload) =
            noise::Responder::read_hello(&prologue, host.key, hello.noise).map_err(|_| DropReason::Unauthentic)?;
        let offered = HelloParams::decode(&payload).map_err(|_| DropReason::Malformed)?;
        let suite = choose_suite(&offered, &host.config.suites);
        let channel_id = host.ids.next(host.rng);
        let params = match suite {
            Some(suite) => params_of(suite, channel_id).to_vec(),
            None => CookieAnswer::no_suite(VERSIONS),
        };
        let mut message = Vec::with_capacity(256);
        let noise = noise
            .write_cookie(host.rng.random(), &params, &mut message)
            .map_err(|_| DropReason::Unauthentic)?;
        let binding = Binding {
            remote,
            version: hello.version,
            attempt: hello.attempt,
        };
        let cookie = suite.map(|suite| {
            let contents = Contents {
                noise: noise.to_bytes(),
                suite,
                issued: now,
                channel_id,
            };
            self.cookies.seal(&contents, binding, host.rng.random())
        });
        let cookie = cookie.unwrap_or_default();
        let mut packet = long::cookie_without_mac(binding.version, binding.attempt, &message, &cookie);
        let mac = cookie_mac(noise.chaining_key(), &packet);
        packet.extend_from_slice(&mac);
        Ok(packet)
    }

    /// Checks INITIATE in the order of NEG-10, up to `se`.
    pub(crate) fn initiate(
        &mut self,
        now: Instant,
        initiate: &Initiate<'_>,
        remote: SocketAddr,
        rng: &mut StdRng,
    ) -> Result<Proven, Refusal> {
        self.rotate(now, rng);
        let (period, contents) = self.open(initiate, remote).ok_or(DropReason::StaleCookie)?;
        if self.cookies.spent(period, contents.channel_id).is_some() {
            return Err(Refusal::Again(contents.channel_id));
        }
        Ok(authenticate(initiate, period, &contents)?)
    }

    /// Returns who sent an INITIATE whose cookie is spent.
    ///
    /// # Errors
    /// If it is not genuine.
    pub(crate) fn initiate_spent(&self, initiate: &Initiate<'_>, remote: SocketAddr) -> Result<Proven, DropReason> {
        let (period, contents) = self.open(initiate, remote).ok_or(DropReason::StaleCookie)?;
        authenticate(initiate, period, &contents)
    }

    fn open(&self, initiate: &Initiate<'_>, remote: SocketAddr) -> Option<(u8, Contents)> {
        let binding = Binding {
            remote,
            version: initiate.version,
            attempt: initiate.attempt,
        };
        self.cookies.open(initiate.cookie, binding)
    }

    /// Returns what became of an earlier attempt that an initiator names (NEG-25).
    pub(crate) fn standing(&self, earlier: &Earlier, version: u32, remote: SocketAddr) -> Standing {
        let binding = Binding {
            remote,
            version,
            attempt: &earlier.attempt,
        };
        let Some((period, contents)) = self.cookies.open(&earlier.cookie, binding) else {
            return Standing::Unknown;
        };
        match self.cookies.spent(period, contents.channel_id) {
            Some(Spent::Accepted) => Standing::Accepted(contents.channel_id),
            _ => Standing::NeverAccepted(period, contents.channel_id),
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

    fn rotate(&mut self, now: Instant, rng: &mut StdRng) {
        let mut fresh = || rng.random();
        self.cookies.rotate(now, &mut fresh);
        self.load.rotate(now, &mut fresh);
    }
}

/// Parts of its host that the responder borrows.
pub(crate) struct Own<'a> {
    pub(crate) key: &'a StaticKey,
    pub(crate) config: &'a Config,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) ids: &'a mut ChannelIds,
}

/// Opens both parts of Noise message 3: then the initiator holds the key that it names.
fn authenticate(initiate: &Initiate<'_>, period: u8, contents: &Contents) -> Result<Proven, DropReason> {
    let noise = noise::Responder::<SentCookie>::from_bytes(&contents.noise);
    let (public, noise) = noise
        .read_static(initiate.sealed_static)
        .map_err(|_| DropReason::Unauthentic)?;
    let (frames, split) = noise
        .read_payload(initiate.sealed_frames)
        .map_err(|_| DropReason::Unauthentic)?;
    Ok(Proven {
        eid: Eid::from_public_key(&public),
        channel_id: contents.channel_id,
        suite: contents.suite,
        issued: contents.issued,
        split,
        frames,
        period,
    })
}

fn params_of(suite: Suite, channel_id: ChannelId) -> CookieParams {
    CookieParams {
        versions: VERSIONS.to_vec(),
        suite: suite_to_wire(suite),
        channel_id,
    }
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

    // spec: NEG-7
    #[test]
    fn every_host_supports_suite_1_and_offers_aes_first_only_with_hardware() {
        let suites = Config::default().suites;
        assert!(suites.contains(&Suite::ChaCha20Poly1305));
        assert_eq!(suites.first() == Some(&Suite::Aes256Gcm), Suite::hardware_aes());
    }
}
