//! Negotiations by hand: each message is as its sender likes it, and sealed as it should be.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sss_crypto::kem::{self, DecapsulationKey};
use sss_crypto::noise::Split;
use sss_crypto::noise::hostile::{ForgedKey, Forger};
use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::ChannelSecrets;
use sss_crypto::{StaticKey, Suite};
use sss_wire::Kem;
use sss_wire::constants::VERSION;
use sss_wire::frame::{Frame, Frames};
use sss_wire::long::{self, Accept, Cookie, Kind, Long};
use sss_wire::params::HelloParams;

use crate::error::{AttackError, random};
use crate::tally::Tally;
use crate::victim::Victim;

/// Time for which answers are waited for that an honest host would get: long, for a machine at work.
pub(crate) const PATIENT: Duration = Duration::from_millis(300);
/// Time for which answers are waited for that nobody should get.
pub(crate) const BRIEF: Duration = Duration::from_millis(20);
/// Bytes of HELLO_K before those of the transcript: the prefix and the token.
const UNAUTHED: usize = long::PREFIX + 16;
/// Hosts of a network: each handshake is of the next network, since there are limits for each.
const NETWORK: u16 = 256;
/// Longest datagram that is read.
const LONGEST: usize = 2048;

/// A key as it should be.
pub(crate) fn true_key() -> Result<ForgedKey, AttackError> {
    Ok(ForgedKey::True(StaticKey::from_bytes(random()?)))
}

/// Parameters of HELLO that offer what an honest host does.
pub(crate) fn offer() -> HelloParams {
    HelloParams {
        versions: vec![VERSION],
        suites: vec![sss_wire::Suite::ChaCha20Poly1305],
        kems: vec![Kem::MlKem768],
        candidates: Vec::new(),
    }
}

/// Answers to HELLO and HELLO_K, as far as they came.
pub(crate) struct Cookies {
    /// The state behind COOKIE; none if COOKIE did not come.
    pub(crate) noise: Option<Forger>,
    /// COOKIE's cookie.
    pub(crate) cookie: Vec<u8>,
    /// The secret of the leg, and COOKIE_K's cookie.
    pub(crate) leg: Option<([u8; 32], Vec<u8>)>,
}

/// Fate of an INITIATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody said anything.
    Silence,
    /// ACCEPT came, and says that there is no channel.
    Refused,
    /// A channel was made.
    Made,
}

/// A negotiation by hand, from an address of its own.
pub(crate) struct Handshake {
    socket: UdpSocket,
    to: SocketAddr,
    attempt: [u8; 8],
    noise: Option<Forger>,
    leg: DecapsulationKey,
    hello: Vec<u8>,
    hello_k: Vec<u8>,
    tally: Tally,
}

impl Handshake {
    /// A negotiation with this ephemeral key, and these parameters in HELLO; the `n`th one.
    ///
    /// # Errors
    /// This program has no sockets, or no entropy.
    pub(crate) fn new(
        victim: &Victim,
        tally: &Tally,
        n: u16,
        e: ForgedKey,
        params: &[u8],
    ) -> Result<Self, AttackError> {
        tally.peer();
        let attempt: [u8; 8] = random()?;
        let prologue = [&b"SSS negotiation "[..], &VERSION.to_be_bytes(), &attempt].concat();
        let name = kem::hello_name(&e.public());
        let (mut message, mut payload) = (Vec::new(), params.to_vec());
        payload.resize(long::HELLO_PAYLOAD, 0);
        let noise = Forger::start(&prologue, victim.target.eid.public_key(), e, &payload, &mut message);
        let leg = DecapsulationKey::from_seed(random()?);
        let token = [0; 16];
        Ok(Self {
            socket: UdpSocket::bind(victim.target.source(70, n.wrapping_mul(NETWORK)))?,
            to: victim.target.address,
            attempt,
            noise: Some(noise),
            hello: long::hello(VERSION, &attempt, &token, &message),
            hello_k: long::hello_k(VERSION, &attempt, &token, &name, leg.encapsulation_key()),
            leg,
            tally: tally.clone(),
        })
    }

    /// Puts another key into HELLO_K.
    pub(crate) fn set_kem_key(&mut self, key: &[u8; long::KEM_KEY]) {
        let at = self.hello_k.len().saturating_sub(long::KEM_KEY + 2);
        if let Some(place) = self.hello_k.get_mut(at..at + long::KEM_KEY) {
            place.copy_from_slice(key);
        }
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        if self.socket.send_to(packet, self.to).is_ok() {
            self.tally.sent(packet.len());
        }
    }

    /// The next packet that comes before a moment.
    fn receive<'a>(&self, until: Instant, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let left = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())?;
        self.socket.set_read_timeout(Some(left)).ok()?;
        let n = self.socket.recv(packet).ok()?;
        self.tally.answered(n);
        packet.get(..n)
    }

    /// Returns whether a COOKIE is an authentic one, and the first.
    fn reads(&mut self, cookie: &Cookie<'_>) -> bool {
        let noise = self.noise.as_mut();
        noise.is_some_and(|noise| noise.read_cookie(cookie.e, cookie.sealed).is_ok())
    }

    /// Sends HELLO and HELLO_K, and waits for both answers.
    pub(crate) fn greet(&mut self, patience: Duration) -> Cookies {
        let (until, mut packet) = (Instant::now() + patience, [0; LONGEST]);
        let mut cookies = Cookies {
            noise: None,
            cookie: Vec::new(),
            leg: None,
        };
        self.send(&self.hello);
        self.send(&self.hello_k);
        while cookies.noise.is_none() || cookies.leg.is_none() {
            let Some(packet) = self.receive(until, &mut packet) else {
                break;
            };
            match Long::parse(packet) {
                Ok(Long::Retry(retry)) => {
                    long::set_token(&mut self.hello, retry.token);
                    long::set_token(&mut self.hello_k, retry.token);
                    self.send(&self.hello);
                    self.send(&self.hello_k);
                }
                Ok(Long::Cookie(cookie)) if self.reads(&cookie) => {
                    cookies.noise = self.noise.take();
                    cookies.cookie = cookie.cookie.to_vec();
                }
                Ok(Long::CookieK(cookie_k)) => {
                    let transcript =
                        kem::transcript(self.hello_k.get(UNAUTHED..).unwrap_or_default(), cookie_k.ciphertext);
                    let secret = kem::leg_secret(&self.leg.decapsulate(cookie_k.ciphertext), &transcript);
                    cookies.leg = Some((*secret, cookie_k.cookie.to_vec()));
                }
                _ => {}
            }
        }
        cookies
    }

    /// INITIATE with these cookies, this static key and these frames, however long it is; and what it leads to.
    pub(crate) fn initiate(&self, cookies: Cookies, s: &ForgedKey, frames: &[u8]) -> Option<(Vec<u8>, Split)> {
        let mut noise = cookies.noise?;
        let mut kem = Vec::new();
        if let Some((secret, cookie)) = cookies.leg {
            noise.mix_kem(&secret);
            kem = cookie;
        }
        let mut message = Vec::new();
        let split = noise.write_initiate(s, frames, &mut message);
        let (cookie_len, kem_len) = (u8::try_from(cookies.cookie.len()).ok()?, u16::try_from(kem.len()).ok()?);
        let prefix = [&[Kind::Initiate as u8][..], &VERSION.to_be_bytes(), &self.attempt].concat();
        let packet = [
            &prefix[..],
            &[cookie_len],
            &cookies.cookie,
            &kem_len.to_be_bytes(),
            &kem,
            &message,
        ];
        Some((packet.concat(), split))
    }

    /// Sends INITIATE, and waits for what becomes of it.
    pub(crate) fn conclude(&self, initiate: &[u8], split: &Split, patience: Duration) -> Fate {
        self.send(initiate);
        let (until, mut packet) = (Instant::now() + patience, [0; LONGEST]);
        while let Some(packet) = self.receive(until, &mut packet) {
            if let Ok(Long::Accept(accept)) = Long::parse(packet)
                && let Some(fate) = self.read_accept(&accept, split)
            {
                return fate;
            }
        }
        Fate::Silence
    }

    fn read_accept(&self, accept: &Accept<'_>, split: &Split) -> Option<Fate> {
        let secrets = ChannelSecrets::derive(split, accept.nonce);
        let key = PacketKey::new(Suite::ChaCha20Poly1305, &secrets.responder);
        let mut frames = accept.sealed_frames.to_vec();
        let len = key.open(0, accept.header, &mut frames).ok()?;
        match Frames::new(frames.get(..len)?).next()?.ok()? {
            Frame::Close(close) => {
                self.tally.closed(close.code);
                Some(Fate::Refused)
            }
            _ => Some(Fate::Made),
        }
    }
}
