//! Questions for the EID of whoever is at an address.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::route::Route;

/// Questions that are out at a time.
const MAX_PROBES: usize = 1024;

/// The questions that are out, by the nonce of each.
#[derive(Default)]
pub(super) struct Probes {
    asked: HashMap<[u8; 8], Route, RandomState>,
    /// Their nonces, the oldest first; those that were answered are left behind until they are the oldest, or too
    /// many.
    order: VecDeque<[u8; 8]>,
}

impl Probes {
    /// Remembers a question, and forgets the oldest if there are too many.
    pub(super) fn ask(&mut self, nonce: [u8; 8], route: Route) {
        while self.asked.len() >= MAX_PROBES
            && let Some(oldest) = self.order.pop_front()
        {
            self.asked.remove(&oldest);
        }
        if self.order.len() >= 2 * MAX_PROBES {
            self.order.retain(|nonce| self.asked.contains_key(nonce));
        }
        self.order.push_back(nonce);
        self.asked.insert(nonce, route);
    }

    /// Returns whether the host at the end of a route was asked so. The question is answered by that.
    pub(super) fn answer(&mut self, nonce: &[u8; 8], from: Route) -> bool {
        let was_asked = self.asked.get(nonce) == Some(&from);
        if was_asked {
            self.asked.remove(nonce);
        }
        was_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn nonce(n: u32) -> [u8; 8] {
        u64::from(n).to_be_bytes()
    }

    fn address(n: u32) -> Route {
        SocketAddr::from(([10, 0, 0, 1], (n % 60_000) as u16 + 1)).into()
    }

    #[test]
    fn the_oldest_question_is_forgotten_and_no_other() {
        let mut probes = Probes::default();
        let most = MAX_PROBES as u32;
        (0..most + 10).for_each(|n| probes.ask(nonce(n), address(n)));
        for n in 0..most + 10 {
            assert!(!probes.answer(&nonce(n), address(n + 1)), "another address");
            assert_eq!(probes.answer(&nonce(n), address(n)), n >= 10, "{n}");
            assert!(!probes.answer(&nonce(n), address(n)), "answered once");
        }
    }

    #[test]
    fn questions_that_are_answered_take_no_memory() {
        let mut probes = Probes::default();
        for n in 0..100_000 {
            probes.ask(nonce(n), address(n));
            assert!(probes.answer(&nonce(n), address(n)));
        }
        assert!(probes.order.len() <= 2 * MAX_PROBES);
    }
}
