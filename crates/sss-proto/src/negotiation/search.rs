//! Search for an address of a peer, by others than the negotiation: servers, and whoever looks on the local network.

use std::time::Duration;

use crate::error::Absence;
use crate::route::{Route, RouteClass};
use crate::time::Instant;

/// Time for which nothing comes from an address before it is asked who is there (NEG-27): whoever watches the path
/// reads the answer.
const ASKING: Duration = Duration::from_secs(3);

/// Time that a peer has to answer by a relay, once its server has said that it does not answer (RCH-11).
const BY_RELAY: Duration = Duration::from_secs(2);

/// State of a search, as far as the attempt knows. Once a route is known, nothing depends on it but when it is asked
/// who is there.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The time until which somebody looks on the local network.
    until: Instant,
    /// The reason why no address is known, if somebody has looked for one.
    absence: Option<Absence>,
    /// The time when the attempt fails if there is no address.
    over_at: Option<Instant>,
    /// It is not asked before who is at the addresses.
    asks_at: Instant,
}

impl Search {
    /// A search that begins, for so long on the local network.
    pub(super) fn new(now: Instant, on_lan: Duration) -> Self {
        Self {
            until: now + on_lan,
            absence: None,
            over_at: None,
            asks_at: now + ASKING,
        }
    }

    /// More addresses are known: what was said before they were is no end of the attempt any more.
    pub(super) fn on_routes(&mut self, now: Instant) {
        self.asks_at = now + ASKING;
        self.over_at = None;
    }

    /// Returns whether all addresses have had the time to answer.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        now >= self.asks_at
    }

    /// No address is to be had: the attempt fails now, or when nobody looks for one any more; but only when its own
    /// time is over if the peer was found, or may come back to its server.
    /// A server's relay is no address of the peer: where nothing else is known, a peer that does not answer its server
    /// has a little longer to answer by that.
    pub(super) fn on_unfound(&mut self, now: Instant, absence: Absence, routes: &[Route]) {
        if !routes.is_empty() {
            if absence == Absence::Unreachable && is_relayed(routes) {
                self.absence = Some(absence);
                self.over_at.get_or_insert(now + BY_RELAY);
            }
            return;
        }
        self.absence = Some(absence);
        if !matches!(absence, Absence::NoWay | Absence::OnlyRelayed | Absence::NotYet(_)) {
            self.over_at = Some(self.until.max(now));
        }
    }

    /// The reason why no address is known.
    pub(super) fn absence(&self) -> Absence {
        self.absence.unwrap_or(Absence::Pending)
    }

    /// Returns whether the attempt has no address, or none but those by which it has tried for long enough.
    pub(super) fn is_in_vain(&self, now: Instant, routes: &[Route]) -> bool {
        routes.is_empty() || is_relayed(routes) && self.over_at.is_some_and(|at| now >= at)
    }

    /// The end of the attempt, which has this one by itself.
    pub(super) fn end(&self, deadline: Instant, routes: &[Route]) -> Instant {
        let over_at = self.over_at.filter(|_| is_relayed(routes));
        over_at.map_or(deadline, |at| at.min(deadline))
    }
}

/// Returns whether there is no route but by relays.
fn is_relayed(routes: &[Route]) -> bool {
    routes.iter().all(|route| route.class() == RouteClass::Relay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Link, RelayHandle};

    // spec: RCH-11
    #[test]
    fn a_relay_that_is_named_later_has_its_time() {
        let at = |seconds| Instant::default() + Duration::from_secs(seconds);
        let relay = Route::through(Link::Udp(([192, 0, 2, 9], 443).into()), RelayHandle(7));
        let mut search = Search::new(at(0), Duration::ZERO);
        search.on_unfound(at(1), Absence::NeverSeen, &[]);
        assert_eq!(search.end(at(60), &[]), at(1));
        search.on_routes(at(1));
        assert_eq!(search.end(at(60), &[relay]), at(60));
        search.on_unfound(at(7), Absence::Unreachable, &[relay]);
        assert_eq!(search.end(at(60), &[relay]), at(7) + BY_RELAY);
        assert!(search.is_in_vain(at(9), &[relay]) && !search.is_in_vain(at(8), &[relay]));
    }
}
