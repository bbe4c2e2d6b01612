//! Keys, their generations, and the protection of packets (docs/spec/protection.md).

mod freezable;

use std::ops::Range;

use sss_crypto::Suite;
use sss_crypto::packet::PacketKey;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets, Secret};
use sss_wire::short::{self, Header, TAG};

use crate::error::DropReason;
use crate::key_log::{ChannelSecret, Direction, KeyLog};
use crate::time::Instant;
use freezable::{FreezableHeader, FreezableKey};

/// Limits to the use of the keys of one generation (PRT-8, PRT-9).
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Packets sealed after which the sender moves on.
    pub(super) update: u64,
    /// Packets sealed at which the channel closes.
    pub(super) seal: u64,
    /// Packets that failed to open at which the channel closes.
    pub(super) fail: u64,
}

/// Packets that may still be sealed when the channel closes, to tell the peer.
const RESERVE: u64 = 64;

impl Limits {
    const CHACHA: Self = Self {
        update: 1 << 30,
        seal: 1 << 36,
        fail: 1 << 36,
    };
    const AES: Self = Self {
        update: 1 << 22,
        seal: 1 << 23,
        fail: 1 << 52,
    };

    fn of(suite: Suite) -> &'static Self {
        match suite {
            Suite::ChaCha20Poly1305 => &Self::CHACHA,
            Suite::Aes256Gcm => &Self::AES,
        }
    }
}

/// The secret of a generation of one direction, and the key of its headers.
pub(super) struct DirectionKeys<'a> {
    pub(super) secret: &'a Secret,
    pub(super) header: &'a [u8; 32],
}

impl super::Channel {
    /// Takes the secrets that it has begun to use, if they are to be told.
    pub(crate) fn take_secrets(&mut self) -> Vec<ChannelSecret> {
        self.keys.log.take()
    }
}

/// The keys of a channel.
pub(super) struct Keys {
    suite: Suite,
    limits: &'static Limits,
    send: SendKeys,
    /// `None` for an initiator before ACCEPT (NEG-17).
    receive: Option<ReceiveKeys>,
    failed: u64,
    /// True if the negotiation had the post-quantum leg.
    is_post_quantum: bool,
    log: KeyLog,
}

struct SendKeys {
    header: FreezableHeader,
    key: FreezableKey,
    secret: Secret,
    generation: u32,
    /// Packets sealed in this generation.
    sealed: u64,
    /// Number of the first packet of this generation.
    first: u64,
    /// True if a packet of this generation was acknowledged.
    is_acked: bool,
}

struct ReceiveKeys {
    header: FreezableHeader,
    key: FreezableKey,
    generation: u32,
    next_secret: Secret,
    /// The key of the next generation, once a packet seemed to need it.
    next: Option<Box<FreezableKey>>,
    previous: Option<Previous>,
}

/// The key of the generation before, for packets that come late.
struct Previous {
    key: Box<FreezableKey>,
    /// The time when it is to be forgotten; unknown until the packet that caused the update was noted.
    until: Option<Instant>,
}

/// A packet that was opened in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenPacket {
    pub(super) seq: u64,
    pub(super) generation: u32,
    pub(super) plaintext: (usize, usize),
}

impl OpenPacket {
    pub(super) fn range(&self) -> Range<usize> {
        self.plaintext.0..self.plaintext.1
    }
}

impl Keys {
    /// The initiator's keys: they send in generation 0, and cannot receive before [`Self::install`] (NEG-17).
    pub(super) fn early(suite: Suite, secrets: &EarlySecrets, log: KeyLog) -> Self {
        let send = DirectionKeys {
            secret: &secrets.initiator,
            header: secrets.initiator_header(),
        };
        Self {
            is_post_quantum: secrets.is_post_quantum(),
            ..Self::sending(suite, 0, &send, log)
        }
    }

    /// The responder's keys: they send in generation 1, and receive in generations 0 and 1.
    pub(super) fn accepted(suite: Suite, early: &EarlySecrets, secrets: &ChannelSecrets, log: KeyLog) -> Self {
        let send = DirectionKeys {
            secret: &secrets.responder,
            header: secrets.responder_header(),
        };
        let receive = DirectionKeys {
            secret: &early.initiator,
            header: early.initiator_header(),
        };
        let mut keys = Self {
            is_post_quantum: early.is_post_quantum(),
            ..Self::sending(suite, 1, &send, log)
        };
        keys.receive_from(0, &receive, secrets.initiator.clone());
        keys
    }

    /// Moves an initiator's keys to generation 1, both ways, from its packet `next` on (NEG-17).
    pub(super) fn install(&mut self, next: u64, secrets: &ChannelSecrets) {
        let send = DirectionKeys {
            secret: &secrets.initiator,
            header: secrets.initiator_header(),
        };
        let receive = DirectionKeys {
            secret: &secrets.responder,
            header: secrets.responder_header(),
        };
        self.send_from(next, &send);
        self.receive_from(1, &receive, secrets.responder.next());
    }

    /// Keys that send `send` in the given generation, and cannot receive.
    pub(super) fn sending(suite: Suite, generation: u32, send: &DirectionKeys<'_>, mut log: KeyLog) -> Self {
        log.note_header(Direction::Sent, send.header);
        log.note_generation(Direction::Sent, generation, send.secret);
        Self {
            suite,
            limits: Limits::of(suite),
            send: SendKeys::new(generation, send),
            receive: None,
            failed: 0,
            is_post_quantum: false,
            log,
        }
    }

    /// Adds keys to receive in the given generation; `next` is the secret of the one after.
    pub(super) fn receive_from(&mut self, generation: u32, receive: &DirectionKeys<'_>, next: Secret) {
        self.log.note_header(Direction::Received, receive.header);
        self.log
            .note_generation(Direction::Received, generation, receive.secret);
        self.receive = Some(ReceiveKeys {
            header: FreezableHeader::new(receive.header),
            key: FreezableKey::new(receive.secret),
            generation,
            next_secret: next,
            next: None,
            previous: None,
        });
    }

    /// Sends in generation 1 from packet `next` on (NEG-17).
    pub(super) fn send_from(&mut self, next: u64, send: &DirectionKeys<'_>) {
        self.log.note_generation(Direction::Sent, 1, send.secret);
        self.send = SendKeys {
            first: next,
            ..SendKeys::new(1, send)
        };
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn is_post_quantum(&self) -> bool {
        self.is_post_quantum
    }

    pub(super) fn can_receive(&self) -> bool {
        self.receive.is_some()
    }

    /// The generation in which packets are sent.
    pub(super) fn generation(&self) -> u32 {
        self.send.generation
    }

    /// Moves to the next generation as a peer does that waits for nothing.
    #[cfg(test)]
    pub(super) fn update_now(&mut self, seq: u64) {
        self.update(seq);
    }

    /// Returns how many keys are there that can be made again.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        let sending = [self.send.header.is_frozen(), self.send.key.is_frozen()];
        let receiving = self.receive.iter().flat_map(|r| {
            let others = r.next.iter().chain(r.previous.iter().map(|p| &p.key));
            let others = others.map(|key| key.is_frozen());
            others.chain([r.header.is_frozen(), r.key.is_frozen()])
        });
        sending
            .into_iter()
            .chain(receiving)
            .filter(|is_frozen| !is_frozen)
            .count()
    }

    #[cfg(test)]
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = Box::leak(Box::new(limits));
    }

    /// Returns whether the channel must close (PRT-9).
    pub(super) fn is_exhausted(&self) -> bool {
        self.send.sealed >= self.limits.seal.saturating_sub(RESERVE) || self.failed >= self.limits.fail
    }

    /// Unmasks and opens a packet in place; `expected` is one more than the highest number opened (PRT-2, PRT-3,
    /// PRT-8).
    pub(super) fn open(&mut self, packet: &mut [u8], id_len: usize, expected: u64) -> Result<OpenPacket, DropReason> {
        // NEG-17
        let receive = self.receive.as_mut().ok_or(DropReason::UnknownChannel)?;
        let sample = short::sample(packet, id_len).map_err(|_| DropReason::Malformed)?;
        let mask = receive.header.get(self.suite).mask(sample);
        let header = short::unmask(packet, id_len, &mask).map_err(|_| DropReason::Malformed)?;
        let seq = short::recover_sequence(header.sequence, header.sequence_len, expected);
        let body_start = header.encoded_len();
        let (aad, body) = packet.split_at_mut_checked(body_start).ok_or(DropReason::Malformed)?;
        let opening = receive
            .opening(header.key_phase, seq >= expected, self.suite)
            .ok_or(DropReason::Unauthentic)?;
        let (key, of) = opening;
        let Ok(len) = key.open(seq, aad, body) else {
            self.failed = self.failed.saturating_add(1);
            return Err(DropReason::Unauthentic);
        };
        // PRT-20: before anything changes.
        if short::has_reserved_bits(*aad.first().ok_or(DropReason::Malformed)?) {
            return Err(DropReason::Malformed);
        }
        if of == Generation::Next {
            let next = receive.generation.saturating_add(1);
            self.log
                .note_generation(Direction::Received, next, &receive.next_secret);
        }
        let generation = receive.settle(of);
        Ok(OpenPacket {
            seq,
            generation,
            plaintext: (body_start, body_start + len),
        })
    }

    /// A packet was taken in: old keys are kept for `grace` from now on.
    pub(super) fn on_received(&mut self, now: Instant, grace: impl FnOnce() -> std::time::Duration) {
        if let Some(previous) = self.receive.as_mut().and_then(|r| r.previous.as_mut())
            && previous.until.is_none()
        {
            previous.until = Some(now + grace());
        }
    }

    /// Returns when old keys are to be forgotten.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.receive.as_ref()?.previous.as_ref()?.until
    }

    /// Returns whether the keys that open packets are to be made again.
    pub(super) fn is_receiving_frozen(&self) -> bool {
        self.receive.as_ref().is_none_or(|r| r.header.is_frozen())
    }

    /// Returns whether no keys are there that could be given back.
    pub(super) fn is_frozen(&self) -> bool {
        self.is_receiving_frozen() && self.send.header.is_frozen()
    }

    /// Gives back the keys that open packets: the next one to be opened makes them again.
    pub(super) fn freeze_receiving(&mut self) {
        if let Some(receive) = &mut self.receive {
            receive.freeze();
        }
    }

    /// Gives back all keys that can be made again.
    pub(super) fn freeze(&mut self) {
        self.freeze_receiving();
        self.send.header.freeze();
        self.send.key.freeze();
    }

    /// Forgets old keys whose time is over.
    pub(super) fn on_timer(&mut self, now: Instant) {
        if self.next_timer().is_some_and(|at| now >= at)
            && let Some(receive) = &mut self.receive
        {
            receive.previous = None;
        }
    }

    /// Moves to the next generation before packet `seq` is sealed, if it is time (PRT-8).
    pub(super) fn before_seal(&mut self, seq: u64) {
        let Some(reached) = self.receive.as_ref().map(|receive| receive.generation) else {
            return;
        };
        // A peer that does not wait for acknowledgements may be ahead by more than one.
        while self.send.generation < reached {
            self.update(seq);
        }
        if self.send.sealed >= self.limits.update && self.send.is_acked {
            self.update(seq);
        }
    }

    /// Moves to the next generation before packet `seq` is sealed.
    fn update(&mut self, seq: u64) {
        self.send.update(seq);
        let SendKeys { generation, secret, .. } = &self.send;
        self.log.note_generation(Direction::Sent, *generation, secret);
    }

    /// The largest newly acknowledged number.
    pub(super) fn on_acked(&mut self, largest: u64) {
        self.send.is_acked |= largest >= self.send.first;
    }

    /// The phase bit of packets sealed now.
    pub(super) fn key_phase(&self) -> bool {
        self.send.generation & 1 == 1
    }

    /// Seals and masks a packet in place: header, plaintext, and room for the tag (PRT-2, PRT-3).
    pub(super) fn seal(&mut self, seq: u64, header: &Header, packet: &mut [u8]) {
        let id_len = header.channel_id.len();
        let Some((aad, body)) = packet.split_at_mut_checked(header.encoded_len()) else {
            return;
        };
        debug_assert!(body.len() >= short::min_plaintext_len(header.sequence_len) + TAG);
        self.send.key.get(self.suite).seal(seq, aad, body);
        self.send.sealed += 1;
        if let Ok(sample) = short::sample(packet, id_len) {
            let mask = self.send.header.get(self.suite).mask(sample);
            let masked = short::mask(packet, id_len, &mask);
            debug_assert!(masked.is_ok());
        }
    }
}

impl SendKeys {
    fn new(generation: u32, keys: &DirectionKeys<'_>) -> Self {
        Self {
            header: FreezableHeader::new(keys.header),
            key: FreezableKey::new(keys.secret),
            secret: keys.secret.clone(),
            generation,
            sealed: 0,
            first: 0,
            is_acked: false,
        }
    }

    fn update(&mut self, first: u64) {
        self.secret = self.secret.next();
        self.key = FreezableKey::new(&self.secret);
        self.generation += 1;
        self.sealed = 0;
        self.first = first;
        self.is_acked = false;
    }
}

/// Which generation a packet is of, seen from the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Previous,
    Present,
    Next,
}

impl ReceiveKeys {
    /// The one key to try for a packet with the given phase; `is_new` if its number is above all others (PRT-21).
    fn opening(&mut self, phase: bool, is_new: bool, suite: Suite) -> Option<(&PacketKey, Generation)> {
        if phase == (self.generation & 1 == 1) {
            Some((self.key.get(suite), Generation::Present))
        } else if is_new {
            let secret = &self.next_secret;
            let next = self.next.get_or_insert_with(|| Box::new(FreezableKey::new(secret)));
            Some((next.get(suite), Generation::Next))
        } else {
            self.previous.as_mut().map(|p| (p.key.get(suite), Generation::Previous))
        }
    }

    fn freeze(&mut self) {
        self.header.freeze();
        self.key.freeze();
        if let Some(next) = &mut self.next {
            next.freeze();
        }
        if let Some(previous) = &mut self.previous {
            previous.key.freeze();
        }
    }

    /// A packet was opened with the key of `generation`; returns its generation.
    fn settle(&mut self, generation: Generation) -> u32 {
        match generation {
            Generation::Previous => return self.generation.saturating_sub(1),
            Generation::Present => {}
            Generation::Next => {
                if let Some(next) = self.next.take() {
                    let old = std::mem::replace(&mut self.key, *next);
                    self.previous = Some(Previous {
                        key: Box::new(old),
                        until: None,
                    });
                    self.next_secret = self.next_secret.next();
                    self.generation += 1;
                }
            }
        }
        self.generation
    }
}
