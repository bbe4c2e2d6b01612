//! PUNCH: packets that open the NATs of both hosts towards each other (RCH-14, RCH-15).

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::reach::{self, bodies::Way};
use zeroize::Zeroizing;

use crate::keys;

/// The times of PUNCH after the hold, in milliseconds.
const TIMES: [u64; 6] = [0, 50, 150, 350, 750, 1550];
/// Answers that are given to the PUNCHes of one introduction, at most.
const MAX_ANSWERS: u8 = 16;

/// One host's PUNCHes of one introduction.
pub(super) struct Punching {
    introduction: [u8; 8],
    key: Zeroizing<[u8; 32]>,
    /// The addresses that they go to.
    targets: Vec<SocketAddr>,
    nonce: [u8; 16],
    begins: Instant,
    sent: usize,
    answers: u8,
    /// The address from which the other has answered.
    open: Option<SocketAddr>,
}

/// Answer to a PUNCH, or news of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Punched {
    /// A packet that is to go back to where it came from.
    Answer(Vec<u8>),
    /// The other is reached at this address, and reaches this host.
    Open(SocketAddr),
    /// Nothing new.
    Known,
}

impl Punching {
    /// PUNCHes to the address of the way, and to its mapped one (RCH-15), when its hold is over.
    pub(super) fn new(now: Instant, way: &Way, rng: &mut Generator) -> Self {
        let introduction = keys::punch_name(&way.punch_key);
        let mut nonce = [0; 16];
        rng.fill(&mut nonce);
        Self {
            introduction,
            key: Zeroizing::new(way.punch_key),
            targets: std::iter::once(way.address).chain(way.mapped_address()).collect(),
            nonce,
            begins: now + Duration::from_micros(u64::from(way.hold)),
            sent: 0,
            answers: 0,
            open: None,
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let after = TIMES.get(self.sent).filter(|_| self.open.is_none())?;
        Some(self.begins + Duration::from_millis(*after))
    }

    /// PUNCHes that are due, and where they go.
    pub(super) fn on_timer(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        if self.next_timer().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.sent = self.sent.saturating_add(1);
        let packet = keys::punch(false, &self.introduction, &self.nonce, &self.key);
        self.targets.iter().map(|to| (*to, packet.clone())).collect()
    }

    /// Takes a PUNCH or its answer in. `None` if it is not genuine.
    pub(super) fn on_punch(&mut self, from: SocketAddr, punch: &reach::Punch<'_>) -> Option<Punched> {
        if !keys::is_genuine_punch(punch, &self.key) {
            return None;
        }
        if punch.is_answer {
            if *punch.nonce != self.nonce {
                return None;
            }
            let is_new = self.open.replace(from) != Some(from);
            return Some(if is_new { Punched::Open(from) } else { Punched::Known });
        }
        // One of this host's own has come back to it.
        if *punch.nonce == self.nonce || self.answers >= MAX_ANSWERS {
            return Some(Punched::Known);
        }
        self.answers = self.answers.saturating_add(1);
        // From another address than was said: that is where the other is, as this host sees it.
        if self.open.is_none() {
            self.targets = vec![from];
        }
        Some(Punched::Answer(keys::punch(
            true,
            &self.introduction,
            punch.nonce,
            &self.key,
        )))
    }
}
