//! The responder: answers HELLO without keeping anything, and makes sure of INITIATE (NEG-9 to NEG-14).

use std::net::SocketAddr;

use rand::RngExt;
use rand::rngs::StdRng;
use sss_crypto::noise::Split;
use sss_crypto::noise::{self, SentCookie};
use sss_crypto::{StaticKey, Suite, mac16, schedule};
use sss_wire::long::{self, Hello, Initiate};
use sss_wire::params::{CookieParams, HelloParams};
use sss_wire::{ChannelId, Eid};

use super::channel_ids::ChannelIds;
use super::cookie::{Binding, Contents, Cookies};
use super::load::Load;
use super::{VERSIONS, prologue, suite_from_wire, suite_to_wire};
use crate::config::Config;
use crate::error::DropReason;
use crate::io::Instant;

/// The responder's side of all negotiations: two cookie keys, two token keys, and no state per initiator.
pub(crate) struct Responder {
    cookies: Cookies,
    load: Load,
}

/// A negotiation completed by a valid INITIATE, whose frames are not yet looked at.
pub(crate) struct Accepted {
    pub(crate) eid: Eid,
    pub(crate) channel_id: ChannelId,
    pub(crate) suite: Suite,
    /// When the HELLO of this negotiation was answered.
    pub(crate) issued: Instant,
    pub(crate) split: Split,
    /// The plaintext of the initiator's packet 0.
    pub(crate) frames: Vec<u8>,
    period: u8,
}

/// Why an INITIATE makes no channel.
pub(crate) enum Refusal {
    /// It is dropped.
    Drop(DropReason),
    /// It is one that was accepted before, for this channel.
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
        let suite = choose_suite(&offered, &host.config.suites).ok_or(DropReason::Malformed)?;
        let params = CookieParams {
            versions: VERSIONS.to_vec(),
            suite: suite_to_wire(suite),
            channel_id: host.ids.next(host.rng),
        };
        let mut message = Vec::with_capacity(256);
        let noise = noise
            .write_cookie(host.rng.random(), &params.to_vec(), &mut message)
            .map_err(|_| DropReason::Unauthentic)?;
        let binding = Binding {
            remote,
            version: hello.version,
            attempt: hello.attempt,
        };
        let contents = Contents {
            noise: noise.to_bytes(),
            suite,
            issued: now,
            channel_id: params.channel_id,
        };
        Ok(self.cookie_packet(&noise, &message, &contents, binding, host.rng.random()))
    }

    fn cookie_packet(
        &self,
        noise: &noise::Responder<SentCookie>,
        message: &[u8],
        contents: &Contents,
        binding: Binding<'_>,
        nonce: [u8; 12],
    ) -> Vec<u8> {
        let cookie = self.cookies.seal(contents, binding, nonce);
        let mut packet = long::cookie_without_mac(binding.version, binding.attempt, message, &cookie);
        let mac = cookie_mac(noise.chaining_key(), &packet);
        packet.extend_from_slice(&mac);
        packet
    }

    /// Checks INITIATE in the order of NEG-10, up to its frames.
    pub(crate) fn initiate(
        &mut self,
        now: Instant,
        initiate: &Initiate<'_>,
        remote: SocketAddr,
        host: &mut Own<'_>,
    ) -> Result<Accepted, Refusal> {
        self.rotate(now, host.rng);
        let binding = Binding {
            remote,
            version: initiate.version,
            attempt: initiate.attempt,
        };
        let (period, contents) = self
            .cookies
            .open(initiate.cookie, binding)
            .ok_or(DropReason::StaleCookie)?;
        if self.cookies.is_spent(period, contents.channel_id) {
            return Err(Refusal::Again(contents.channel_id));
        }
        let noise = noise::Responder::<SentCookie>::from_bytes(&contents.noise);
        let (public, noise) = noise
            .read_static(initiate.sealed_static)
            .map_err(|_| DropReason::Unauthentic)?;
        let eid = Eid::from_public_key(&public);
        if !host.welcomes(&eid, remote) {
            return Err(DropReason::Unwelcome.into());
        }
        let (frames, split) = noise
            .read_payload(initiate.sealed_frames)
            .map_err(|_| DropReason::Unauthentic)?;
        Ok(Accepted {
            eid,
            channel_id: contents.channel_id,
            suite: contents.suite,
            issued: contents.issued,
            split,
            frames,
            period,
        })
    }

    /// Remembers that a channel was made, so that the same INITIATE makes no second one (NEG-11).
    pub(crate) fn spend(&mut self, accepted: &Accepted) {
        self.cookies.spend(accepted.period, accepted.channel_id);
    }

    fn rotate(&mut self, now: Instant, rng: &mut StdRng) {
        let mut fresh = || rng.random();
        self.cookies.rotate(now, &mut fresh);
        self.load.rotate(now, &mut fresh);
    }
}

/// What the responder borrows from its host.
pub(crate) struct Own<'a> {
    pub(crate) key: &'a StaticKey,
    pub(crate) eid: &'a Eid,
    pub(crate) config: &'a Config,
    pub(crate) rng: &'a mut StdRng,
    pub(crate) ids: &'a mut ChannelIds,
}

impl Own<'_> {
    /// Whether this host talks to the initiator at all (NEG-10, NEG-19).
    fn welcomes(&self, eid: &Eid, remote: SocketAddr) -> bool {
        let is_other = eid != self.eid || self.config.allow_own_eid;
        is_other
            && self
                .config
                .accept_filter
                .as_ref()
                .is_none_or(|filter| filter(eid, remote))
    }
}

/// NEG-6.
pub(super) fn cookie_mac(chaining_key: &[u8; 32], packet: &[u8]) -> [u8; 16] {
    let mut key = [0; 32];
    schedule::label(chaining_key, "cookie mac", b"", &mut key);
    mac16(&key, &[packet])
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
