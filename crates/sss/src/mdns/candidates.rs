//! Addresses where a host that is looked for may be: which of them are tried, and when (RCH-36).
//!
//! Whoever copies a tag may name as many as it likes, and none of them can be told from the true one before it is
//! tried. So nobody is tried for coming first alone: few of one IP address are, what comes beyond waits, and one is
//! drawn now and then, of the IP address of which the fewest were.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_crypto::Generator;
use tokio::time::Instant;

/// Addresses that are tried as they come, and of these those of one IP address.
pub(super) const AT_ONCE: usize = 8;
const OF_ONE: usize = 2;
/// Pause between two that have waited.
pub(super) const PACE: Duration = Duration::from_millis(500);
/// Addresses that wait, at most.
const MAX_WAITING: usize = 64;

/// Addresses of one host.
#[derive(Debug)]
pub(super) struct Candidates {
    tried: Vec<SocketAddr>,
    waiting: Vec<SocketAddr>,
    /// Number of those that were tried as they came.
    at_once: usize,
    /// The next that waits is tried at this time.
    next: Instant,
}

impl Candidates {
    /// None, at the begin of a search.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tried: Vec::new(),
            waiting: Vec::new(),
            at_once: 0,
            next: now + PACE,
        }
    }

    /// Returns whether an address is known already.
    pub(super) fn has(&self, at: &SocketAddr) -> bool {
        self.tried.contains(at) || self.waiting.contains(at)
    }

    /// One more. Returns whether it is to be tried now.
    pub(super) fn add(&mut self, at: SocketAddr, rng: &mut Generator) -> bool {
        if self.at_once < AT_ONCE && count(&self.tried, at.ip()) < OF_ONE {
            self.at_once += 1;
            self.tried.push(at);
            return true;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.make_room(rng);
        }
        self.waiting.push(at);
        false
    }

    /// Gives up one of the IP address of which the most wait.
    fn make_room(&mut self, rng: &mut Generator) {
        let waiting = &self.waiting;
        let most = waiting
            .iter()
            .map(|at| count(waiting, at.ip()))
            .max()
            .unwrap_or_default();
        let chosen = drawn(waiting, |at| count(waiting, at.ip()) == most, rng);
        if let Some(chosen) = chosen {
            self.waiting.swap_remove(chosen);
        }
    }

    /// The next that is to be tried, of those that have waited.
    pub(super) fn poll(&mut self, now: Instant, rng: &mut Generator) -> Option<SocketAddr> {
        if now < self.next {
            return None;
        }
        let tried = &self.tried;
        let least = self.waiting.iter().map(|at| count(tried, at.ip())).min()?;
        let chosen = drawn(&self.waiting, |at| count(tried, at.ip()) == least, rng)?;
        let chosen = self.waiting.swap_remove(chosen);
        self.tried.push(chosen);
        self.next = now + PACE;
        Some(chosen)
    }

    /// The time when [`Self::poll`] has one.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}

/// Number of those with an IP address.
fn count(all: &[SocketAddr], ip: IpAddr) -> usize {
    all.iter().filter(|at| at.ip() == ip).count()
}

/// The place of one of those that are fit, drawn at random.
fn drawn(all: &[SocketAddr], is_fit: impl Fn(&SocketAddr) -> bool, rng: &mut Generator) -> Option<usize> {
    let fit: Vec<usize> = (0..all.len()).filter(|at| all.get(*at).is_some_and(&is_fit)).collect();
    let mut bytes = [0; 8];
    rng.fill(&mut bytes);
    let number = usize::try_from(u64::from_be_bytes(bytes) >> 16).unwrap_or_default();
    fit.get(number.checked_rem(fit.len())?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8, port: u16) -> SocketAddr {
        ([192, 168, 7, host], port).into()
    }

    /// Those that are tried until a time after the begin of a search.
    fn tried(candidates: &mut Candidates, begin: Instant, until_ms: u64, rng: &mut Generator) -> Vec<SocketAddr> {
        let times = (0..=until_ms).map(|ms| begin + Duration::from_millis(ms));
        times.filter_map(|now| candidates.poll(now, rng)).collect()
    }

    // spec: RCH-36
    #[test]
    fn threat_43_who_names_many_ports_of_one_address_keeps_nobody_out() {
        let (begin, mut rng) = (Instant::now(), Generator::new(&[1; 32]));
        let mut candidates = Candidates::new(begin);
        let copies = (1..=1000).filter(|port| candidates.add(at(9, *port), &mut rng)).count();
        assert_eq!(copies, OF_ONE);
        assert!(candidates.add(at(2, 7757), &mut rng), "the true one is tried at once");
        assert!(candidates.waiting.len() <= MAX_WAITING);
        assert!(candidates.has(&at(2, 7757)));
    }

    // spec: RCH-36
    #[test]
    fn threat_43_the_true_port_of_an_address_that_others_forge_is_drawn_in_time() {
        let begin = Instant::now();
        for seed in 0..20 {
            let mut rng = Generator::new(&[seed; 32]);
            let mut candidates = Candidates::new(begin);
            for port in 1..=20 {
                candidates.add(at(2, port), &mut rng);
            }
            candidates.add(at(2, 7757), &mut rng);
            assert!(tried(&mut candidates, begin, 15_000, &mut rng).contains(&at(2, 7757)));
        }
    }

    // spec: RCH-36
    #[test]
    fn threat_43_of_many_addresses_each_has_its_turn_and_few_are_tried() {
        let (begin, mut rng) = (Instant::now(), Generator::new(&[1; 32]));
        let mut candidates = Candidates::new(begin);
        let at_once = (1..=30)
            .filter(|host| candidates.add(at(*host, 7757), &mut rng))
            .count();
        assert_eq!(at_once, AT_ONCE);
        // The first names ports without end: it waits behind the others.
        for port in 1..=1000 {
            candidates.add(at(1, port), &mut rng);
        }
        let drawn = tried(&mut candidates, begin, 11_000, &mut rng);
        assert_eq!(drawn.len(), 22, "two in a second");
        let others = drawn
            .iter()
            .filter(|at| at.ip() != IpAddr::from([192, 168, 7, 1]))
            .count();
        assert_eq!(others, 22);
    }

    #[test]
    fn one_that_waits_is_known_as_one_that_was_tried_is() {
        let (begin, mut rng) = (Instant::now(), Generator::new(&[1; 32]));
        let mut candidates = Candidates::new(begin);
        let now: Vec<bool> = (1..=3).map(|port| candidates.add(at(1, port), &mut rng)).collect();
        assert_eq!(now, [true, true, false]);
        let has = |port| candidates.has(&at(1, port));
        assert_eq!([has(1), has(2), has(3), has(4)], [true, true, true, false]);
    }

    #[test]
    fn nothing_is_drawn_where_nothing_waits() {
        let (begin, mut rng) = (Instant::now(), Generator::new(&[1; 32]));
        let mut candidates = Candidates::new(begin);
        assert!(candidates.add(at(1, 7757), &mut rng));
        assert_eq!(candidates.next_timer(), None);
        assert_eq!(tried(&mut candidates, begin, 2000, &mut rng), []);
        for port in 1..=3 {
            candidates.add(at(1, port), &mut rng);
        }
        let later = begin + Duration::from_secs(3);
        assert_eq!(candidates.next_timer(), Some(begin + PACE));
        assert!(candidates.poll(later, &mut rng).is_some());
        assert_eq!(candidates.poll(later, &mut rng), None, "one at a time");
        assert_eq!(candidates.next_timer(), Some(later + PACE));
    }
}
