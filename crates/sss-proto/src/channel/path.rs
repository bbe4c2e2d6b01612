//! The route of a channel, and the validation of a changed one (CHN-11). What the protocol calls an address is a route
//! here.

use std::net::IpAddr;
use std::time::Duration;

use crate::network::{AddressScope, Network, is_usable};
use crate::route::Route;
use crate::time::Instant;

/// Bytes that may be sent to an address not yet validated, for each byte that came from it.
const AMPLIFICATION: u64 = 3;
/// Challenges sent before a new address is given up.
const MAX_CHALLENGES: u8 = 3;

/// A way to the peer, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) route: Route,
    /// The address of this host, if it is known and matters.
    pub(crate) local: Option<IpAddr>,
}

/// The address in use, and the one that may replace it.
#[derive(Debug)]
pub(super) struct Paths {
    current: Path,
    /// Network of the peer on it.
    network: Network,
    candidate: Option<Box<Candidate>>,
    response: Option<Box<Response>>,
    allow_private: bool,
    /// This host is elsewhere: the path is not what its addresses say.
    is_unsettled: bool,
}

/// An address that the peer seems to have moved to.
#[derive(Debug)]
struct Candidate {
    path: Path,
    challenge: [u8; 8],
    received: u64,
    sent: u64,
    challenges: u8,
    last_challenge: Instant,
    /// The time when the next challenge is due; after the last one, when to give up.
    due: Instant,
}

/// A PATH_RESPONSE that is owed.
#[derive(Clone, Copy, Debug)]
struct Response {
    data: [u8; 8],
    /// Source of the challenge, once that is known.
    to: Option<Route>,
}

/// A frame that travels alone, to an address that is not the channel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offpath {
    Challenge([u8; 8], Path),
    Response([u8; 8], Path),
}

impl Paths {
    /// The address that the negotiation proved. `allow_private` if it may change from a global to a private one.
    pub(super) fn new(current: Path, allow_private: bool) -> Self {
        Self {
            current,
            network: Network::from(&current.route),
            candidate: None,
            response: None,
            allow_private,
            is_unsettled: false,
        }
    }

    /// The path that is in use, if its ends are where they were.
    pub(super) fn settled(&self) -> Option<Path> {
        (!self.is_unsettled).then_some(self.current)
    }

    pub(super) fn current(&self) -> &Path {
        &self.current
    }

    pub(super) fn network(&self) -> Network {
        self.network
    }

    /// Returns how many bytes are before each packet.
    pub(super) fn overhead(&self) -> usize {
        self.current.route.overhead()
    }

    /// The negotiation has proved another one.
    pub(super) fn settle_on(&mut self, path: Path) {
        let allow_private = self.allow_private;
        *self = Self::new(path, allow_private);
    }

    /// The address of this host is another one, which is not known.
    pub(super) fn forget_local(&mut self) {
        self.current.local = None;
        self.is_unsettled = true;
        if let Some(candidate) = &mut self.candidate {
            candidate.path.local = None;
        }
    }

    /// A packet was opened that is newer than all before. `challenge` is used if it starts a validation.
    pub(super) fn on_newest(&mut self, now: Instant, from: &Route, bytes: u64, challenge: impl FnOnce() -> [u8; 8]) {
        if *from == self.current.route {
            self.candidate = None;
            return;
        }
        match &mut self.candidate {
            Some(candidate) if candidate.path.route == *from => candidate.received += bytes,
            _ if may_move(&self.current.route, from, self.allow_private) => {
                self.candidate = Some(Box::new(Candidate {
                    path: Path {
                        route: *from,
                        local: self.current.local,
                    },
                    challenge: challenge(),
                    received: bytes,
                    sent: 0,
                    challenges: 0,
                    last_challenge: now,
                    due: now,
                }));
            }
            _ => {}
        }
    }

    /// PATH_CHALLENGE came in a packet whose address [`Self::on_packet`] tells.
    pub(super) fn on_challenge(&mut self, data: [u8; 8]) {
        self.response = Some(Box::new(Response { data, to: None }));
    }

    /// The packet whose frames were just taken in came from there.
    pub(super) fn on_packet(&mut self, from: &Route) {
        if let Some(response) = &mut self.response {
            response.to.get_or_insert(*from);
        }
    }

    /// PATH_RESPONSE came. If it answers the challenge, the new address is in use from now on; returns the round trip
    /// if it is unambiguous.
    pub(super) fn on_response(&mut self, now: Instant, data: [u8; 8]) -> Option<Option<Duration>> {
        let candidate = self.candidate.take_if(|c| c.challenges > 0 && c.challenge == data)?;
        self.current = candidate.path;
        self.network = Network::from(&self.current.route);
        Some((candidate.challenges == 1).then(|| now.since(candidate.last_challenge)))
    }

    /// A response that goes to the address in use, in an ordinary packet.
    pub(super) fn take_response(&mut self) -> Option<[u8; 8]> {
        let current = &self.current.route;
        let response = self
            .response
            .take_if(|r| r.to.as_ref().is_none_or(|to| to == current))?;
        Some(response.data)
    }

    /// Returns whether another address is looked at, or an answer is owed to one.
    pub(super) fn is_moving(&self) -> bool {
        self.candidate.is_some() || self.response.is_some()
    }

    /// Returns whether [`Self::take_response`] would give one.
    pub(super) fn has_response(&self) -> bool {
        let current = &self.current.route;
        let response = self.response.as_ref();
        response.is_some_and(|r| r.to.as_ref().is_none_or(|to| to == current))
    }

    /// Takes what is to be sent alone to another address, in a datagram of `size` bytes. `interval` is the time until
    /// the next challenge.
    pub(super) fn take_offpath(&mut self, now: Instant, size: u64, interval: Duration) -> Option<Offpath> {
        let is_elsewhere = !self.has_response();
        if let Some(response) = self.response.take_if(|_| is_elsewhere) {
            let candidate = self.candidate.as_mut().filter(|c| Some(c.path.route) == response.to);
            if let Some(candidate) = candidate.filter(|c| c.may_send(size)) {
                candidate.sent += size;
                return Some(Offpath::Response(response.data, candidate.path));
            }
        }
        let candidate = self.candidate.as_mut()?;
        if now < candidate.due {
            return None;
        }
        if candidate.challenges == MAX_CHALLENGES {
            self.candidate = None;
            return None;
        }
        candidate.due = now + interval;
        if !candidate.may_send(size) {
            return None;
        }
        candidate.challenges += 1;
        candidate.last_challenge = now;
        candidate.sent += size;
        Some(Offpath::Challenge(candidate.challenge, candidate.path))
    }

    /// Returns when a challenge is due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.candidate.as_ref().map(|c| c.due)
    }
}

impl Candidate {
    fn may_send(&self, size: u64) -> bool {
        self.sent + size <= AMPLIFICATION * self.received
    }
}

/// Returns whether a channel at `from` may move to `to`: never to a route of another class (MIG-24), nor to an address
/// of narrower reach, but to a private one if that is allowed (MIG-22).
fn may_move(from: &Route, to: &Route, allow_private: bool) -> bool {
    let of_same_class = from.class() == to.class() && from.overhead() == to.overhead();
    let (Some(old), Some(new)) = (from.peer_address(), to.peer_address()) else {
        // Where the relays are is not for the peer to say: only those are known that this host was told of.
        return of_same_class && is_usable(to);
    };
    let reach = AddressScope::from(new.ip());
    is_usable(to) && (reach >= AddressScope::from(old.ip()) || allow_private && reach == AddressScope::Private)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Link, RelayHandle, TunnelId};

    const PTO: Duration = Duration::from_millis(100);
    const DATA: [u8; 8] = *b"12345678";

    fn addr(s: &str) -> Route {
        Route::udp(s.parse().unwrap())
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn to(route: Route) -> Path {
        Path { route, local: None }
    }

    fn paths() -> Paths {
        Paths::new(to(addr("198.51.100.1:1000")), false)
    }

    // spec: CHN-11
    #[test]
    fn threat_22_a_new_address_is_challenged_and_used_only_after_its_answer() {
        let mut paths = paths();
        let old = *paths.current();
        let new = addr("203.0.113.5:2000");
        paths.on_newest(at(0), &new, 100, || DATA);
        assert_eq!(
            paths.take_offpath(at(0), 40, PTO),
            Some(Offpath::Challenge(DATA, to(new)))
        );
        assert_eq!(*paths.current(), old);
        assert_eq!(paths.on_response(at(10), *b"otherone"), None);
        assert_eq!(paths.on_response(at(30), DATA), Some(Some(Duration::from_millis(30))));
        assert_eq!(paths.current().route, new);
        assert_eq!(paths.on_response(at(31), DATA), None);
    }

    #[test]
    fn a_challenge_is_answered_where_its_packet_came_from_whatever_comes_after_it() {
        let mut paths = paths();
        paths.on_challenge(DATA);
        let current = paths.current().route;
        paths.on_packet(&current);
        paths.on_packet(&addr("192.0.2.66:53"));
        assert_eq!((paths.has_response(), paths.take_response()), (true, Some(DATA)));
    }

    // spec: CHN-11
    #[test]
    fn threat_22_at_most_three_times_what_came_is_sent() {
        let mut paths = paths();
        let new = addr("203.0.113.5:2000");
        let challenge = Some(Offpath::Challenge(DATA, to(new)));
        paths.on_newest(at(0), &new, 25, || DATA);
        assert_eq!(paths.take_offpath(at(0), 40, PTO), challenge);
        assert_eq!(
            paths.take_offpath(at(100), 40, PTO),
            None,
            "80 bytes would be more than 75"
        );
        paths.on_newest(at(150), &new, 25, || DATA);
        assert_eq!(paths.take_offpath(at(200), 40, PTO), challenge);
    }

    // spec: CHN-11
    #[test]
    fn a_silent_address_is_given_up_after_three_challenges() {
        let mut paths = paths();
        let new = addr("203.0.113.5:2000");
        paths.on_newest(at(0), &new, 1000, || DATA);
        for n in 0..3 {
            assert_eq!(paths.next_timer(), Some(at(n * 100)));
            let sent = paths.take_offpath(at(n * 100), 40, PTO);
            assert_eq!(sent, Some(Offpath::Challenge(DATA, to(new))));
            assert_eq!(paths.take_offpath(at(n * 100), 40, PTO), None);
        }
        assert_eq!(paths.take_offpath(at(300), 40, PTO), None);
        assert_eq!(paths.next_timer(), None);
        assert_eq!(paths.on_response(at(301), DATA), None);
    }

    // spec: MIG-22
    #[test]
    fn threat_23_a_channel_never_moves_to_many_to_nobody_or_inwards() {
        let never = "224.0.0.1:9 255.255.255.255:9 240.1.2.3:9 0.0.0.0:9 0.1.2.3:9 [ff02::1]:9 [::]:9 203.0.113.5:0 \
                     [::ffff:224.0.0.1]:9";
        for bad in never.split(' ') {
            for from in ["127.0.0.1:9", "10.0.0.1:9", "198.51.100.1:9"] {
                assert!(!may_move(&addr(from), &addr(bad), true), "{from} to {bad}");
            }
        }
        // From the narrowest to the widest: outwards always, inwards never.
        let reaches = [
            ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"],
            ["169.254.3.4:9", "[fe80::1]:9", "[::ffff:169.254.3.4]:9"],
            ["192.168.1.2:9", "[fd00::1]:9", "[::ffff:10.1.2.3]:9"],
            ["203.0.113.5:9", "[2001:db8::1]:9", "[::ffff:198.51.100.2]:9"],
        ];
        for (n, from) in reaches.iter().enumerate() {
            for (m, to) in reaches.iter().enumerate() {
                for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
                    assert_eq!(may_move(&addr(from), &addr(to), false), n <= m, "{from} to {to}");
                    let is_home = (n, m) == (3, 2);
                    assert_eq!(
                        may_move(&addr(from), &addr(to), true),
                        n <= m || is_home,
                        "{from} to {to}"
                    );
                }
            }
        }
    }

    // spec: MIG-24
    #[test]
    fn a_channel_moves_only_to_routes_of_its_own_class() {
        let (relay, tunnel) = (
            Link::Udp("198.51.100.9:443".parse().unwrap()),
            Link::Tunnel(TunnelId(1)),
        );
        let of_class = [
            [addr("203.0.113.5:9"), addr("203.0.113.6:9")],
            [
                Route::through(relay, RelayHandle(1)),
                Route::through(relay, RelayHandle(2)),
            ],
            [
                Route::through(tunnel, RelayHandle(1)),
                Route::through(tunnel, RelayHandle(2)),
            ],
        ];
        for (n, [from, _]) in of_class.iter().enumerate() {
            for (m, [_, to]) in of_class.iter().enumerate() {
                assert_eq!(may_move(from, to, true), n == m, "{from} to {to}");
            }
        }
    }

    #[test]
    fn the_old_address_coming_back_ends_the_validation() {
        let mut paths = paths();
        let new = addr("203.0.113.5:2000");
        paths.on_newest(at(0), &new, 1000, || DATA);
        assert_eq!(
            paths.take_offpath(at(0), 40, PTO),
            Some(Offpath::Challenge(DATA, to(new)))
        );
        paths.on_newest(at(1), &paths.current().route.clone(), 1000, || DATA);
        assert_eq!(paths.on_response(at(30), DATA), None);
    }

    // spec: CHN-15
    #[test]
    fn threat_22_a_challenge_from_elsewhere_is_not_answered_and_only_the_latest_is() {
        let mut paths = paths();
        let new = addr("203.0.113.5:2000");
        paths.on_newest(at(0), &new, 1000, || *b"87654321");
        let challenge = Offpath::Challenge(*b"87654321", to(new));
        assert_eq!(paths.take_offpath(at(0), 40, PTO), Some(challenge));
        // From neither the address in use nor the one that is validated.
        paths.on_challenge(DATA);
        paths.on_packet(&addr("192.0.2.66:53"));
        assert_eq!((paths.has_response(), paths.take_response()), (false, None));
        assert_eq!(paths.take_offpath(at(1), 40, PTO), None);
        // To the new address no more than three times what came from there.
        paths.on_challenge(DATA);
        paths.on_packet(&new);
        assert_eq!(paths.take_offpath(at(1), 4000, PTO), None);
        for data in [*b"earlier.", DATA] {
            paths.on_challenge(data);
            paths.on_packet(&paths.current().route.clone());
        }
        assert_eq!((paths.take_response(), paths.take_response()), (Some(DATA), None));
    }

    // spec: CHN-15
    #[test]
    fn challenges_are_answered_where_they_came_from() {
        let mut paths = paths();
        paths.on_challenge(DATA);
        paths.on_packet(&paths.current().route.clone());
        assert!(paths.has_response());
        assert_eq!(paths.take_response(), Some(DATA));
        assert_eq!(paths.take_response(), None);
        let new = addr("203.0.113.5:2000");
        paths.on_challenge(DATA);
        paths.on_packet(&new);
        paths.on_newest(at(0), &new, 100, || *b"87654321");
        assert!(!paths.has_response());
        assert_eq!(
            paths.take_offpath(at(0), 40, PTO),
            Some(Offpath::Response(DATA, to(new)))
        );
    }
}
