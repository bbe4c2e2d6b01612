//! Connections that a server has, and which of them gives way when there is no room for another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sss_proto::Network;
use tokio::sync::oneshot;

use super::TlsLimits;

/// Connections of all networks.
///
/// Where all seats are taken, networks share them: the one that has most gives one to a newcomer whose network has
/// fewer by two at least, so that none is taken in turn for ever. What that costs grows with the seats of one network,
/// which are few, and with the logarithm of the networks.
pub(super) struct Guests {
    networks: HashMap<Network, Group>,
    /// Networks that have seats, by how many.
    by_size: BTreeSet<(usize, Network)>,
    /// Seats that are taken.
    open: u32,
    /// Connections of this second.
    recent: u32,
    /// The beginning of the present second.
    second: Instant,
    next: u64,
}

/// Connections of one network.
#[derive(Default)]
struct Group {
    seats: BTreeMap<u64, Sitter>,
    /// Those of this second.
    recent: u32,
}

/// Whoever has a seat.
struct Sitter {
    pulse: Arc<Pulse>,
    /// Tells it to give way when it is dropped.
    _stay: oneshot::Sender<()>,
}

/// A seat, seen by whoever has it.
pub(super) struct Seat {
    network: Network,
    number: u64,
    /// To be kept up to date: of a network, whoever is silent the longest gives way first.
    pub(super) pulse: Arc<Pulse>,
    /// Ends when it has to give way, and is no seat any more.
    pub(super) gives_way: oneshot::Receiver<()>,
}

/// The time of the latest packets of a tunnel: none while TLS is being agreed on.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// Notes that packets have come.
    pub(super) fn beat(&self, now: Instant) {
        *self.lock() = Some(now);
    }

    fn latest(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            networks: HashMap::new(),
            by_size: BTreeSet::new(),
            open: 0,
            recent: 0,
            second: now,
            next: 0,
        }
    }

    /// Gives one more of a network a seat, if there is one.
    pub(super) fn admit(&mut self, now: Instant, network: Network, limits: &TlsLimits) -> Option<Seat> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.recent = 0;
            self.networks.retain(|_, group| !group.seats.is_empty());
            self.networks.values_mut().for_each(|group| group.recent = 0);
        }
        let there = self.networks.get(&network);
        let (has, recent) = there.map_or((0, 0), |group| (group.seats.len(), group.recent));
        // Few networks are not to use up what all may have: half of it is for those that have had none.
        let is_first = recent == 0;
        let is_soon = self.recent < limits.a_second / 2 && recent < limits.each_network_a_second;
        let may_begin = self.recent < limits.a_second && (is_first || is_soon);
        if !may_begin || has >= limits.each_network as usize {
            return None;
        }
        if self.open >= limits.tunnels && !self.make_room(has) {
            return None;
        }
        Some(self.seat(network))
    }

    /// Takes a seat from the network that has most, for one that has so many. False if that would not be fairer.
    fn make_room(&mut self, has: usize) -> bool {
        let Some(&(most, network)) = self.by_size.last().filter(|(most, _)| *most >= has + 2) else {
            return false;
        };
        let Some(group) = self.networks.get(&network) else {
            return false;
        };
        // Without TLS first, and of these the oldest; then the one that is silent the longest.
        let silent = group
            .seats
            .iter()
            .min_by_key(|(n, sitter)| (sitter.pulse.latest(), **n));
        let silent = silent.map(|(n, _)| *n);
        debug_assert_eq!(group.seats.len(), most, "{network:?}");
        silent.is_some_and(|number| self.remove(network, number))
    }

    fn seat(&mut self, network: Network) -> Seat {
        let (stay, gives_way) = oneshot::channel();
        let (pulse, number) = (Arc::default(), self.next);
        let sitter = Sitter {
            pulse: Arc::clone(&pulse),
            _stay: stay,
        };
        let group = self.networks.entry(network).or_default();
        self.by_size.remove(&(group.seats.len(), network));
        group.seats.insert(number, sitter);
        group.recent += 1;
        self.by_size.insert((group.seats.len(), network));
        self.next += 1;
        self.open += 1;
        self.recent += 1;
        Seat {
            network,
            number,
            pulse,
            gives_way,
        }
    }

    /// Takes a seat back, unless that was done.
    pub(super) fn leave(&mut self, seat: &Seat) {
        self.remove(seat.network, seat.number);
    }

    fn remove(&mut self, network: Network, number: u64) -> bool {
        let Some(group) = self.networks.get_mut(&network) else {
            return false;
        };
        let before = group.seats.len();
        if group.seats.remove(&number).is_none() {
            return false;
        }
        self.by_size.remove(&(before, network));
        if before > 1 {
            self.by_size.insert((before - 1, network));
        }
        self.open -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of so many tunnels, of all and of each network, that bind nothing else.
    fn limits(tunnels: u32, each_network: u32) -> TlsLimits {
        TlsLimits {
            tunnels,
            each_network,
            a_second: 1000,
            each_network_a_second: 1000,
            ..TlsLimits::default()
        }
    }

    /// A seat that was not taken away.
    fn stays(seat: &mut Seat) -> bool {
        seat.gives_way.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    // spec: RCH-22
    #[test]
    fn threat_40_a_network_that_connects_without_end_leaves_room_for_others() {
        let limits = TlsLimits {
            a_second: 30,
            each_network_a_second: 10,
            ..limits(40, 20)
        };
        let begun = Instant::now();
        let mut guests = Guests::new(begun);
        let mut there = Vec::new();
        let mut admitted = |ms, network, ends: bool| {
            let mut connect = || {
                let seat = guests.admit(begun + Duration::from_millis(ms), Network::V4(network), &limits);
                let is_in = seat.is_some();
                match seat {
                    Some(seat) if ends => guests.leave(&seat),
                    seat => there.extend(seat),
                }
                is_in
            };
            (0..100).filter(|_| connect()).count()
        };
        // Those that end at once are counted all the same: TLS has been spent on them.
        assert_eq!(
            [(0, 1), (999, 1), (999, 2)].map(|(ms, n)| admitted(ms, n, true)),
            [10, 0, 5]
        );
        // Half of all is for networks that have had none.
        let others: Vec<_> = (2..40).map(|n| admitted(999, n, true)).collect();
        assert_eq!(others.iter().sum::<usize>(), 15, "of all");
        assert!(others[0] == 0 && others.iter().all(|n| *n <= 1), "{others:?}");
        // Those that stay fill it up.
        assert_eq!([1000, 2000, 3000].map(|ms| admitted(ms, 1, false)), [10, 10, 0]);
        assert_eq!([4000, 5000, 6000].map(|ms| admitted(ms, 2, false)), [10, 10, 0]);
        // Others get their share of it, and no more.
        assert_eq!([9000, 10_000].map(|ms| admitted(ms, 3, false)), [10, 3]);
        let open = there.iter_mut().filter_map(|seat| stays(seat).then_some(seat.network));
        let mut of_each = BTreeMap::new();
        open.for_each(|network| *of_each.entry(network).or_insert(0) += 1);
        let of_each: Vec<_> = of_each.into_values().collect();
        assert_eq!(of_each, [14, 13, 13], "of all");
        there.iter().for_each(|seat| guests.leave(seat));
        assert_eq!((guests.open, guests.by_size.len()), (0, 0));
    }

    // spec: RCH-22
    #[test]
    fn threat_40_when_all_tunnels_are_taken_the_network_with_most_gives_way_to_newcomers() {
        let (limits, now) = (limits(12, 4), Instant::now());
        let mut guests = Guests::new(now);
        let mut connect = |network| guests.admit(now, Network::V4(network), &limits);
        // Three networks take everything, each as much as it may.
        let mut taken: Vec<Seat> = (0..12).filter_map(|n| connect(n / 4)).collect();
        assert_eq!(taken.len(), 12);
        assert!([0, 1, 2].iter().all(|n| connect(*n).is_none()), "they get no more");
        let mut others: Vec<Seat> = (10..16).filter_map(&mut connect).collect();
        assert_eq!(others.len(), 6, "there is room for others");
        assert!(others.iter_mut().all(stays));
        let staying = |of: &mut [Seat]| of.iter_mut().map(stays).filter(|stays| *stays).count();
        let left = |taken: &mut [Seat]| taken.chunks_mut(4).map(staying).collect::<Vec<_>>();
        assert_eq!(left(&mut taken), [2, 2, 2]);
        // Whoever had to go comes back only for somebody who has more.
        assert!(connect(0).is_none() && connect(10).is_none());
        // At the end each has one, and nobody's is taken for a newcomer.
        let mut more: Vec<Seat> = (20..30).filter_map(&mut connect).collect();
        assert_eq!(more.len(), 3);
        assert!(others.iter_mut().chain(&mut more).all(stays));
        assert_eq!(left(&mut taken), [1, 1, 1]);
    }

    // spec: RCH-22
    #[test]
    fn threat_40_those_without_tls_give_way_first_then_whoever_is_silent_the_longest() {
        let (limits, begun) = (limits(5, 5), Instant::now());
        let mut guests = Guests::new(begun);
        let mut connect = |network| guests.admit(begun, Network::V4(network), &limits);
        let mut taken: Vec<Seat> = (0..5).filter_map(|_| connect(1)).collect();
        for (n, ms) in [(0, 300), (1, 100), (3, 200)] {
            taken[n].pulse.beat(begun + Duration::from_millis(ms));
        }
        let mut others = Vec::new();
        let mut order = Vec::new();
        for network in 2..6 {
            others.extend(connect(network));
            let gone = taken.iter_mut().map(stays).collect::<Vec<_>>();
            order.extend((0..5).filter(|n| !gone[*n] && !order.contains(n)).collect::<Vec<_>>());
        }
        assert_eq!((others.len(), order), (4, vec![2, 4, 1, 3]));
    }
}
