//! Search for the path MTU (RFC 8899; CHN-8), and recovery from black holes (CHN-9). Sizes are bytes of UDP payload.
//!
//! The limit is tried first, once: where it works (loopback), the search is over after a round trip. Else the sizes
//! that links commonly carry are tried from below. Below the size of Ethernet the search then goes on by bisection,
//! since tunnels take off any number of bytes.

use std::fmt;
use std::time::Duration;

use sss_wire::constants::BASE_DATAGRAM;

use crate::time::{Instant, Span};

/// UDP payloads of common links: tunnels over Ethernet, Ethernet over IPv6 and IPv4, WLAN, POS, jumbo frames over IPv6
/// and IPv4, loopback interfaces.
const STEPS: [u16; 12] = [
    1372, 1392, 1412, 1452, 1472, 2272, 4442, 8952, 8972, 16_356, 32_740, 65_487,
];
/// Between sizes up to this one the search goes on by bisection.
const BISECT_BELOW: u16 = 1472;
/// The search ends when it knows the size to within so many bytes.
const TOLERANCE: u16 = 16;
/// Lost probes of one size that prove that the path does not carry it.
const MAX_LOST: u8 = 3;
/// The time when a finished search begins again.
const RESTART: Duration = Duration::from_secs(600);
/// The same after a black hole, which may be gone soon; doubled each time that it is not, up to [`RESTART`].
const RESTART_AFTER_HOLE: Duration = Duration::from_secs(30);
/// Large packets lost in a row that prove a black hole.
const BLACK_HOLE: u8 = 3;
/// Deliveries that are remembered: few sizes are in flight at a time.
const MAX_DELIVERIES: usize = 4;

/// Reasons why datagrams have the size they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MtuState {
    /// Nothing was tried yet: the size that every path carries.
    #[default]
    Base,
    /// Larger sizes are being tried.
    Searching,
    /// It is the largest size that both hosts allow.
    Limit,
    /// Larger probes were lost.
    Path,
    /// Large packets vanished; the search began again from the base.
    BlackHole,
}

impl fmt::Display for MtuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "what every path carries",
            Self::Searching => "larger ones are being tried",
            Self::Limit => "the most that both hosts allow",
            Self::Path => "the path carries no larger ones",
            Self::BlackHole => "larger ones vanished",
        })
    }
}

/// The search for the largest datagram that the path carries.
#[derive(Debug)]
pub(super) struct MtuSearch {
    current: u16,
    /// Largest size that both hosts allow.
    limit: u16,
    /// Smallest size taken to be too large for the path.
    too_large: Option<u16>,
    /// True if the limit itself was tried.
    tried_limit: bool,
    /// Lost probes of the present candidate.
    lost: u8,
    /// Pause after a search.
    restart: Span,
    state: MtuState,
    phase: SearchPhase,
    losses: LargeLosses,
    delivered: Deliveries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchPhase {
    /// The peer is not known to hear us yet.
    Waiting,
    /// A probe is to be sent.
    Ready,
    /// A probe of this size is out.
    Probing(u16),
    /// The search is over until then.
    Done(Instant),
}

/// Losses of large packets in a row.
#[derive(Debug, Default)]
struct LargeLosses {
    count: u8,
    /// The smallest of them.
    smallest: u16,
}

/// Large packets that were delivered: each is later than all that are larger, and smaller than all that are earlier.
#[derive(Debug, Default)]
struct Deliveries(Vec<(u64, u16)>);

impl Deliveries {
    fn add(&mut self, seq: u64, size: u16) {
        if self.0.iter().any(|d| d.0 >= seq && d.1 >= size) {
            return;
        }
        self.0.retain(|d| d.0 > seq || d.1 > size);
        if self.0.len() >= MAX_DELIVERIES {
            self.0.remove(0);
        }
        // Most channels are idle after one.
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        let at = self.0.iter().position(|d| d.0 > seq).unwrap_or(self.0.len());
        self.0.insert(at, (seq, size));
    }

    /// Returns whether a later packet of at least that size was delivered.
    fn disprove(&self, seq: u64, size: u16) -> bool {
        self.0.iter().any(|d| d.0 > seq && d.1 >= size)
    }
}

impl MtuSearch {
    /// A search up to `limit`, which has not begun.
    pub(super) fn new(limit: u16) -> Self {
        Self {
            current: BASE_DATAGRAM,
            limit: limit.max(BASE_DATAGRAM),
            too_large: None,
            tried_limit: false,
            lost: 0,
            restart: RESTART.into(),
            state: MtuState::Base,
            phase: SearchPhase::Waiting,
            losses: LargeLosses::default(),
            delivered: Deliveries::default(),
        }
    }

    /// The size of full datagrams.
    pub(super) fn current(&self) -> u16 {
        self.current
    }

    pub(super) fn state(&self) -> MtuState {
        self.state
    }

    pub(super) fn limit(&self) -> u16 {
        self.limit
    }

    /// Lowers or raises the largest size to try.
    pub(super) fn set_limit(&mut self, limit: u16) {
        self.limit = limit.max(BASE_DATAGRAM);
        self.current = self.current.min(self.limit);
    }

    /// Begins the search: the peer is known to hear us.
    pub(super) fn start(&mut self, now: Instant) {
        if self.phase == SearchPhase::Waiting {
            self.go_on(now);
        }
    }

    /// The size of a probe to be sent now, if one is.
    pub(super) fn wanted_probe(&self) -> Option<u16> {
        if self.phase == SearchPhase::Ready {
            self.candidate()
        } else {
            None
        }
    }

    /// Returns when the search begins again, if it is over.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        match self.phase {
            SearchPhase::Done(restart) if self.current < self.limit => Some(restart),
            _ => None,
        }
    }

    /// Begins a finished search again when its time has come.
    pub(super) fn on_timer(&mut self, now: Instant) {
        if self.next_timer().is_some_and(|at| now >= at) {
            self.restart = (2 * self.restart.get()).min(RESTART).into();
            self.begin_again(now);
        }
    }

    pub(super) fn on_probe_sent(&mut self, size: u16) {
        self.phase = SearchPhase::Probing(size);
    }

    /// A probe arrived. Returns whether datagrams become larger.
    pub(super) fn on_probe_acked(&mut self, now: Instant, seq: u64, size: u16) -> bool {
        self.on_acked(seq, size);
        let grew = size > self.current && size <= self.limit;
        if grew {
            self.current = size;
            self.lost = 0;
            if self.too_large.is_some_and(|bound| bound <= size) {
                self.too_large = None;
            }
        }
        if self.phase == SearchPhase::Probing(size) {
            self.go_on(now);
        }
        grew
    }

    pub(super) fn on_probe_lost(&mut self, now: Instant, size: u16) {
        if self.phase != SearchPhase::Probing(size) {
            return;
        }
        if !self.tried_limit && size == self.limit {
            self.tried_limit = true;
        } else {
            self.lost += 1;
            if self.lost >= MAX_LOST {
                self.too_large = Some(size);
                self.lost = 0;
            }
        }
        self.go_on(now);
    }

    /// Another packet was acknowledged.
    pub(super) fn on_acked(&mut self, seq: u64, size: u16) {
        if size <= BASE_DATAGRAM {
            return;
        }
        if self.losses.count > 0 && size >= self.losses.smallest {
            self.losses.count = 0;
        }
        self.delivered.add(seq, size);
    }

    /// Another packet was declared lost. Returns whether that proves a black hole, and datagrams become smaller.
    pub(super) fn on_lost(&mut self, now: Instant, seq: u64, size: u16) -> bool {
        // Where a later packet of at least that size got through, the loss has another cause.
        if size <= BASE_DATAGRAM || size > self.current || self.delivered.disprove(seq, size) {
            return false;
        }
        let losses = &mut self.losses;
        losses.smallest = if losses.count == 0 {
            size
        } else {
            losses.smallest.min(size)
        };
        losses.count += 1;
        if losses.count < BLACK_HOLE {
            return false;
        }
        *losses = LargeLosses::default();
        self.current = BASE_DATAGRAM;
        self.restart = RESTART_AFTER_HOLE.into();
        self.begin_again(now);
        self.state = MtuState::BlackHole;
        true
    }

    /// Begins a search like the one before, but that the limit, if it is more than what links carry, is not tried at
    /// once: it was.
    fn begin_again(&mut self, now: Instant) {
        self.too_large = None;
        self.lost = 0;
        self.go_on(now);
    }

    /// Chooses whether there is something more to try.
    fn go_on(&mut self, now: Instant) {
        (self.phase, self.state) = match self.candidate() {
            Some(_) => (SearchPhase::Ready, MtuState::Searching),
            None if self.current >= self.limit => (SearchPhase::Done(now + self.restart.get()), MtuState::Limit),
            None => (SearchPhase::Done(now + self.restart.get()), MtuState::Path),
        };
    }

    /// The next size to try.
    fn candidate(&self) -> Option<u16> {
        if self.current >= self.limit {
            return None;
        }
        if !self.tried_limit {
            return Some(self.limit);
        }
        let fits = |size: u16| size > self.current && size <= self.limit && self.too_large.is_none_or(|t| size < t);
        if let Some(step) = STEPS.into_iter().find(|s| fits(*s)) {
            return Some(step);
        }
        match self.too_large {
            None => Some(self.limit),
            Some(bound) if bound <= BISECT_BELOW && bound.saturating_sub(self.current) > TOLERANCE => {
                Some(self.current.midpoint(bound))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const NOW: Instant = Instant::from_nanos(0);

    /// Runs the search over a path that carries `path` bytes; returns the sizes that were lost.
    fn converge(search: &mut MtuSearch, path: u16) -> Vec<u16> {
        let mut lost = Vec::new();
        let mut seq = 0;
        while let Some(size) = search.wanted_probe() {
            assert!(size > search.current() && size <= search.limit);
            search.on_probe_sent(size);
            assert_eq!(search.wanted_probe(), None, "one probe at a time");
            seq += 1;
            if size <= path {
                assert!(search.on_probe_acked(NOW, seq, size));
            } else {
                search.on_probe_lost(NOW, size);
                lost.push(size);
            }
            assert!(seq < 200, "it ends");
        }
        lost
    }

    fn started(limit: u16) -> MtuSearch {
        let mut search = MtuSearch::new(limit);
        assert_eq!((search.current(), search.wanted_probe()), (BASE_DATAGRAM, None));
        search.start(NOW);
        search
    }

    // spec: CHN-8
    #[test]
    fn a_path_that_carries_the_limit_is_found_with_one_probe() {
        let mut search = started(65_507);
        assert_eq!(search.wanted_probe(), Some(65_507));
        assert!(converge(&mut search, 65_507).is_empty());
        assert_eq!((search.current(), search.state()), (65_507, MtuState::Limit));
        assert_eq!(search.next_timer(), None);
    }

    // spec: CHN-8
    #[test]
    fn converges_to_what_the_path_carries() {
        for path in (1232..=1480).chain([2272, 4000, 8952, 8972, 9000, 16_384, 65_487, 65_500]) {
            let mut search = started(65_507);
            let lost = converge(&mut search, path);
            let found = search.current();
            assert!(found <= path);
            if path <= 1472 {
                assert!(path - found < TOLERANCE, "path {path}, found {found}");
            } else {
                assert!(STEPS.contains(&found) || path == found, "path {path}, found {found}");
            }
            assert_eq!(search.state(), MtuState::Path);
            for size in &lost {
                assert!(lost.iter().filter(|s| *s == size).count() <= usize::from(MAX_LOST) + 1);
            }
        }
    }

    // spec: CHN-8
    #[test]
    fn begins_again_after_ten_minutes() {
        let mut search = started(9000);
        converge(&mut search, 1472);
        assert_eq!(search.current(), 1472);
        let due = search.next_timer().unwrap();
        assert_eq!(due.since(NOW), Duration::from_secs(600));
        search.on_timer(due - Duration::from_nanos(1));
        assert_eq!(search.wanted_probe(), None);
        search.on_timer(due);
        converge(&mut search, 9000);
        assert_eq!((search.current(), search.state()), (9000, MtuState::Limit));
    }

    #[test]
    fn the_peers_limit_is_obeyed() {
        let mut search = MtuSearch::new(65_507);
        search.set_limit(1400);
        search.start(NOW);
        converge(&mut search, 9000);
        assert_eq!(search.current(), 1400);
    }

    // spec: CHN-9
    #[test]
    fn three_large_losses_in_a_row_are_a_black_hole() {
        let mut search = started(8952);
        converge(&mut search, 8952);
        search.on_acked(10, 8952);
        assert!(!search.on_lost(NOW, 11, 8952));
        assert!(!search.on_lost(NOW, 12, 1232), "small ones do not count");
        assert!(!search.on_lost(NOW, 13, 8952));
        search.on_acked(14, 1232);
        assert!(search.on_lost(NOW, 15, 4000));
        assert_eq!((search.current(), search.state()), (BASE_DATAGRAM, MtuState::BlackHole));
        converge(&mut search, 1452);
        assert_eq!(search.current(), 1452);
    }

    // spec: CHN-9
    #[test]
    fn losses_among_deliveries_of_that_size_are_no_black_hole() {
        let mut search = started(1452);
        converge(&mut search, 1452);
        search.on_acked(100, 1452);
        for seq in 50..90 {
            assert!(
                !search.on_lost(NOW, seq, 1452),
                "later packets of that size were delivered"
            );
        }
        assert!(!search.on_lost(NOW, 101, 1452));
        assert!(!search.on_lost(NOW, 102, 1452));
        search.on_acked(103, 1452);
        assert!(!search.on_lost(NOW, 104, 1452));
        assert!(!search.on_lost(NOW, 105, 1452));
        assert_eq!(search.current(), 1452);
    }

    // spec: CHN-9
    #[test]
    fn a_probe_that_arrived_does_not_hide_later_deliveries_of_smaller_ones() {
        let mut search = started(1472);
        converge(&mut search, 1472);
        search.on_acked(100, 1472);
        // Before datagrams grew, these had been on their way.
        search.on_acked(200, 1452);
        for seq in 150..160 {
            assert!(!search.on_lost(NOW, seq, 1452), "{seq}");
        }
        for seq in [201, 202] {
            assert!(!search.on_lost(NOW, seq, 1452));
        }
        assert!(search.on_lost(NOW, 203, 1452));
    }

    // spec: CHN-9
    #[test]
    fn deliveries_disprove_the_loss_of_what_was_sent_before_them_and_is_no_larger() {
        let mut rng = StdRng::seed_from_u64(1);
        let sizes = [1300, 1400, 1452, 1472];
        let mut deliveries = Deliveries::default();
        let mut all = Vec::new();
        for seq in 0..1000 {
            let size = sizes[rng.random_range(0..4)];
            if rng.random_ratio(1, 3) {
                deliveries.add(seq, size);
                all.push((seq, size));
            }
            let asked = (
                seq.saturating_sub(rng.random_range(0..20)),
                sizes[rng.random_range(0..4)],
            );
            let expected = all.iter().any(|d| d.0 > asked.0 && d.1 >= asked.1);
            assert_eq!(
                deliveries.disprove(asked.0, asked.1),
                expected,
                "{asked:?} of {deliveries:?}"
            );
        }
        assert!(deliveries.0.len() <= MAX_DELIVERIES);
    }

    // spec: CHN-8, CHN-9
    #[test]
    fn after_a_black_hole_larger_ones_are_tried_again_soon_and_then_ever_more_rarely() {
        let mut search = started(65_507);
        converge(&mut search, 1472);
        for seq in 1000..1003 {
            search.on_lost(NOW, seq, 1472);
        }
        assert_eq!(search.state(), MtuState::BlackHole);
        for expected in [30, 60, 120, 240, 480, 600, 600] {
            let lost = converge(&mut search, 1300);
            assert!(!lost.contains(&65_507), "the limit was tried before");
            let due = search.next_timer().unwrap();
            assert_eq!(due.since(NOW), Duration::from_secs(expected));
            search.on_timer(due);
        }
        converge(&mut search, 1472);
        assert_eq!(search.current(), 1472);
    }
}
