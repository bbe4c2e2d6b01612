//! Choice among servers: those at which a host leases, and those that are asked for one (RCH-43).

use std::cmp::Reverse;

use sss_crypto::mac16;
use sss_proto::{Host, Instant};
use sss_wire::Eid;

use super::registration::Registration as Tried;
use super::{Client, Datagram, Route, ServerAddress};

/// Servers at which a host leases, of those that it knows.
const HOMES: usize = 2;
/// Key of the rendezvous hash.
const LABEL: &[u8] = b"sss rendezvous hash";

/// Servers at which a host leases at a time, of those that were named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseAt {
    /// The two that its EID chooses (RCH-43), and others in place of those that do not answer. A peer is asked for at
    /// those that its EID chooses first.
    #[default]
    Two,
    /// All.
    All,
}

/// The servers that were named, and the choice among them.
pub(crate) struct Servers {
    all: Vec<ServerAddress>,
    pub(super) homes: Homes,
    /// Set if the host has TURN servers, to reach them by.
    pub(crate) has_turn: bool,
}

impl Servers {
    /// The servers of a host.
    pub(crate) fn new(host: &Eid, servers: Vec<ServerAddress>, lease_at: LeaseAt) -> Self {
        Self {
            homes: Homes::new(host, &servers, lease_at),
            all: servers,
            has_turn: false,
        }
    }

    /// Their EIDs, the heaviest for the host first.
    #[cfg(test)]
    pub(crate) fn ranking(&self) -> &[Eid] {
        &self.homes.ranking
    }

    /// The registrations with them, as they begin.
    pub(super) fn registrations(self, now: Instant) -> Vec<Tried> {
        let Self { all, homes, .. } = self;
        let registration = |server: ServerAddress| match homes.is_first(&server.eid) {
            true => Tried::new(now, server),
            false => Tried::idle(now, server),
        };
        all.into_iter().map(registration).collect()
    }
}

/// The order in which servers count.
#[derive(Clone, Default)]
pub(crate) struct Homes {
    /// In the order in which they were named.
    named: Vec<Eid>,
    /// The heaviest for this host first.
    ranking: Vec<Eid>,
    /// Number of those at which it leases.
    count: usize,
}

impl Homes {
    /// The choice of a host among these.
    pub(crate) fn new(host: &Eid, servers: &[ServerAddress], lease_at: LeaseAt) -> Self {
        let named: Vec<Eid> = servers.iter().map(|server| server.eid).collect();
        Self {
            ranking: ranking(&named, host),
            named,
            count: match lease_at {
                LeaseAt::Two => HOMES,
                LeaseAt::All => usize::MAX,
            },
        }
    }

    /// Returns whether all servers are used, and nothing is chosen.
    fn is_all(&self) -> bool {
        self.named.len() <= self.count
    }

    /// Servers that are asked for a host: at once, and if that is in vain.
    pub(super) fn towards(&self, host: &Eid) -> (Vec<Eid>, Vec<Eid>) {
        if self.is_all() {
            return (self.named.clone(), Vec::new());
        }
        let mut first = ranking(&self.named, host);
        let others = first.split_off(self.count.min(first.len()));
        (first, others)
    }

    /// The server is one at which this host leases from the beginning.
    pub(super) fn is_first(&self, server: &Eid) -> bool {
        self.is_all() || self.ranking.iter().take(self.count).any(|first| first == server)
    }
}

/// Servers, the heaviest for a host first: highest random weight (Thaler and Ravishankar, 1998).
fn ranking(servers: &[Eid], host: &Eid) -> Vec<Eid> {
    let mut ranking = servers.to_vec();
    ranking.sort_by_cached_key(|server| Reverse((weight(server, host), *server)));
    ranking
}

/// Weight of a server for a host.
fn weight(server: &Eid, host: &Eid) -> u64 {
    let mac = mac16(LABEL, &[server.as_bytes(), host.as_bytes()]);
    u64::from_be_bytes(mac.first_chunk().copied().unwrap_or_default())
}

impl Client {
    /// Leases at the heaviest servers that answer, and lets those go that are not needed any more.
    pub(super) fn tend_homes(&mut self, now: Instant, host: &mut Host) {
        if self.leaving.is_some() {
            return;
        }
        if !self.own.homes.is_all() {
            let mut well = 0_usize;
            for server in &self.own.homes.ranking {
                let Some(registration) = self.registrations.iter_mut().find(|tried| tried.eid() == server) else {
                    continue;
                };
                if well >= self.own.homes.count {
                    registration.be_surplus(now);
                    continue;
                }
                registration.be_home(now);
                well = well.saturating_add(usize::from(!registration.is_silent(now)));
            }
        }
        for registration in &mut self.registrations {
            if registration.released_at().is_some_and(|at| at <= now) {
                let (farewell, order) = registration.rest(now, host, &mut self.rng);
                let farewell = farewell.map(|(to, packet)| Datagram::new(Route::over(to.link), packet));
                self.outbox.extend(farewell);
                self.carriers.tunnels.extend(order);
            }
        }
        self.registrations.retain(|tried| !tried.is_forgotten());
    }

    /// Returns when another server takes the place of one, or one is let go.
    pub(super) fn homes_timer(&self) -> Option<Instant> {
        if self.leaving.is_some() {
            return None;
        }
        let released = self.registrations.iter().filter_map(Tried::released_at);
        let homes = self.registrations.iter().filter(|_| !self.own.homes.is_all());
        released.chain(homes.filter_map(Tried::falls_silent_at)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    fn servers(numbers: impl IntoIterator<Item = u8>) -> Vec<ServerAddress> {
        let server = |n| ServerAddress {
            eid: eid(n),
            addresses: Vec::new(),
            tls: None,
        };
        numbers.into_iter().map(server).collect()
    }

    // spec: RCH-43
    #[test]
    fn the_weights_are_those_of_the_specification() {
        let [a, b] = [1, 2].map(|n| weight(&eid(n), &eid(9)));
        assert_eq!((a, b), (0xc782_12f9_749f_5a4c, 0xaeac_a231_54dd_d6b6));
    }

    // spec: RCH-43
    #[test]
    fn whoever_knows_the_same_servers_chooses_the_same_two_in_whatever_order_they_were_named() {
        let one = Homes::new(&eid(100), &servers(1..=7), LeaseAt::Two);
        let other = Homes::new(&eid(101), &servers((1..=7).rev()), LeaseAt::Two);
        let (first, others) = other.towards(&eid(100));
        assert_eq!(first, one.ranking[..2]);
        assert_eq!(others, one.ranking[2..]);
        assert_eq!(one.ranking.iter().filter(|server| one.is_first(server)).count(), 2);
        // One more server takes its share, and nobody else's.
        let (mut moved, hosts) = (0, 200);
        for host in 0..hosts {
            let before = ranking(&one.named, &eid(host))[..2].to_vec();
            let more = Homes::new(&eid(host), &servers(1..=8), LeaseAt::Two);
            let after = more.ranking[..2].to_vec();
            let gone = before.iter().filter(|server| !after.contains(server)).count();
            assert_eq!(gone, usize::from(after.contains(&eid(8))), "{host}");
            moved += gone;
        }
        assert!((25..=75).contains(&moved), "{moved}: about 2 in 8");
    }

    // spec: RCH-43
    #[test]
    fn of_two_and_where_all_are_wanted_nothing_is_chosen() {
        let two = Homes::new(&eid(100), &servers([2, 1]), LeaseAt::Two);
        assert_eq!(two.towards(&eid(100)), (vec![eid(2), eid(1)], Vec::new()));
        let all = Homes::new(&eid(100), &servers(1..=5), LeaseAt::All);
        assert_eq!(all.towards(&eid(100)).0.len(), 5);
        assert!((1..=5).all(|n| all.is_first(&eid(n))));
    }
}
