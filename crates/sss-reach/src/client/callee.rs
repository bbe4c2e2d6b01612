//! A caller that this host has heard of: what is sent to it, and by which way (RCH-13 to RCH-16).

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Instant, Route};
use sss_wire::reach::Punch;
use sss_wire::reach::bodies::Way;

use super::punch::{Punched, Punching};

/// An introduction that this host has heard of.
pub(super) struct Callee {
    punching: Punching,
    direct: Route,
    /// The time from which something may go directly.
    begins: Instant,
    /// COOKIE, and COOKIE_K, as far as they were made.
    answers: Vec<Vec<u8>>,
    /// The number of them that were sent directly.
    sent_directly: usize,
}

impl Callee {
    pub(super) fn new(now: Instant, way: &Way, rng: &mut Generator) -> Self {
        Self {
            punching: Punching::new(now, way, rng),
            direct: Route::udp(way.address),
            begins: now + Duration::from_micros(u64::from(way.hold)),
            answers: Vec::new(),
            sent_directly: 0,
        }
    }

    /// The way to the caller that its server has seen.
    pub(super) fn direct(&self) -> Route {
        self.direct
    }

    /// Returns how many answers there are.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    /// An answer was made.
    pub(super) fn put_answer(&mut self, answer: Vec<u8>) {
        self.answers.push(answer);
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let waits = self.sent_directly < self.answers.len();
        let direct = Some(self.begins).filter(|_| waits);
        self.punching.next_timer().into_iter().chain(direct).min()
    }

    /// Packets that are due.
    pub(super) fn on_timer(&mut self, now: Instant) -> Vec<(Route, Vec<u8>)> {
        let mut packets = Vec::new();
        if let Some((to, packet)) = self.punching.on_timer(now) {
            packets.push((Route::udp(to), packet));
        }
        while self.begins <= now
            && let Some(answer) = self.answers.get(self.sent_directly)
        {
            packets.push((self.direct, answer.clone()));
            self.sent_directly += 1;
        }
        packets
    }

    /// Takes a PUNCH or its answer in. `None` if it is not genuine.
    pub(super) fn on_punch(&mut self, from: SocketAddr, punch: &Punch<'_>) -> Option<Punched> {
        self.punching.on_punch(from, punch)
    }
}
