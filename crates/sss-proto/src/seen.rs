//! Memory of what was seen of addresses at which a peer was looked for: hints for people, which never end anything
//! (NEG-27).

use std::collections::VecDeque;
use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_wire::Eid;

use crate::route::Route;
use crate::time::Instant;

/// Addresses remembered, at most; the oldest go first.
const MAX_ENTRIES: usize = 1024;

/// Hint of the operating system about the way to an address. Anybody can forge the packets that it follows from: it is
/// told in errors, and changes nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathHint {
    /// ICMP says that the port is closed, or that the host or its network cannot be reached.
    Unreachable,
    /// A datagram of 1,232 bytes is too large for the way there (`EMSGSIZE`, or ICMP says so).
    TooLarge,
    /// This machine has no route to the address (`ENETUNREACH` and `EHOSTUNREACH` of sending itself), or
    /// none from the address that its socket is bound to (`EINVAL`).
    NoRoute,
    /// This machine does not let datagrams out to the address, as a firewall of its own does (`EPERM`, `EACCES`).
    Forbidden,
}

/// Answer that came from an address at which a peer was looked for. Unauthenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Seen {
    /// No answer at all.
    #[default]
    Nothing,
    /// ICMP says that the port is closed, or that the host or its network cannot be reached.
    Unreachable,
    /// This machine has no route there.
    NoRoute,
    /// This machine does not let datagrams out to there.
    Forbidden,
    /// The way there takes no datagrams of 1,232 bytes.
    TooLarge,
    /// An answer that nobody who has the peer's key can have made.
    Unopened,
    /// A host with another key.
    OtherHost(Eid),
    /// The peer's host answers small datagrams, and not those of 1,232 bytes.
    SmallOnly,
    /// A host that is under load: it asked for proof of our address first (NEG-12).
    Busy,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no answer at all"),
            Self::Unreachable => f.write_str("an ICMP message says: unreachable"),
            Self::NoRoute => f.write_str("this machine has no route there"),
            Self::Forbidden => f.write_str("this machine's firewall lets nothing out to there"),
            Self::TooLarge => f.write_str("the way there takes no datagrams of 1232 bytes"),
            Self::Unopened => f.write_str("no one with this key answered"),
            Self::OtherHost(eid) => write!(f, "no one with this key answered: a host there says it is {eid}"),
            Self::SmallOnly => f.write_str("the host answers small datagrams, but not those of 1232 bytes"),
            Self::Busy => f.write_str("a host that is under load, and has no time for us"),
        }
    }
}

/// A route by which a peer was looked for, and what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tried {
    /// The route.
    pub route: Route,
    /// Answer seen from it meanwhile.
    pub seen: Seen,
}

impl Tried {
    /// A route of which that was seen.
    pub fn new(route: Route, seen: Seen) -> Self {
        Self { route, seen }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.route, self.seen)
    }
}

/// Question that helps after no answer, or nothing where what was seen says enough: a host under load is running, and
/// no question about it leads on from a machine that sent nothing.
pub(crate) fn question(tried: &[Tried]) -> &'static str {
    let all = |seen: Seen| !tried.is_empty() && tried.iter().all(|tried| tried.seen == seen);
    if tried.iter().any(|tried| tried.seen == Seen::Busy) || all(Seen::Forbidden) {
        return "";
    }
    if all(Seen::NoRoute) {
        return ": is this machine connected to a network?";
    }
    ": is the host running, and are its address and EID right? A host does not answer who asks for another EID"
}

/// A list of addresses, for an error's text.
pub(crate) fn list(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "the addresses known".to_owned();
    }
    let each: Vec<String> = tried.iter().map(ToString::to_string).collect();
    each.join(", ")
}

/// A number of attempts, for an error's text.
pub(crate) fn attempts(number: u32) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} attempt{ending}")
}

/// The latest that was seen of each route. Bounded, and the same for all attempts: an ICMP packet costs no walk over
/// them.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    latest: HashMap<Route, (Instant, Seen), RandomState>,
    order: VecDeque<(Instant, Route)>,
}

impl Sightings {
    /// Notes what was seen.
    pub(crate) fn note(&mut self, now: Instant, route: Route, seen: Seen) {
        let route = route.canonical();
        let is_new = self.latest.insert(route, (now, seen)).is_none();
        if !is_new {
            return;
        }
        self.order.push_back((now, route));
        if self.order.len() > MAX_ENTRIES
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
    }

    /// Returns whether the host at the end of a route was seen to be under load since then.
    pub(crate) fn is_busy(&self, route: Route, since: Instant) -> bool {
        let latest = self.latest.get(&route.canonical());
        latest.is_some_and(|(at, seen)| *at >= since && *seen == Seen::Busy)
    }

    /// Returns what was seen of routes since then, by somebody who looks for `eid`.
    pub(crate) fn of(&self, routes: &[Route], since: Instant, eid: &Eid) -> Vec<Tried> {
        let tried = routes.iter().map(|route| {
            let latest = self.latest.get(&route.canonical()).filter(|(at, _)| *at >= since);
            let seen = match latest.map(|(_, seen)| *seen).unwrap_or_default() {
                Seen::OtherHost(other) if other == *eid => Seen::SmallOnly,
                seen => seen,
            };
            Tried { route: *route, seen }
        });
        tried.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn address(port: u16) -> Route {
        SocketAddr::from(([192, 0, 2, 1], port)).into()
    }

    // spec: NEG-27
    #[test]
    fn what_was_seen_since_the_attempt_began_is_told_of_each_address() {
        let (wanted, other) = (Eid::from_public_key(&[1; 32]), Eid::from_public_key(&[2; 32]));
        let mut sightings = Sightings::default();
        sightings.note(at(1), address(1), Seen::Unreachable);
        sightings.note(
            at(5),
            "[::ffff:192.0.2.1]:2".parse::<SocketAddr>().unwrap().into(),
            Seen::Unreachable,
        );
        sightings.note(at(5), address(3), Seen::OtherHost(other));
        sightings.note(at(5), address(4), Seen::OtherHost(wanted));
        let tried = sightings.of(&[1, 2, 3, 4, 5].map(address), at(5), &wanted);
        let seen: Vec<_> = tried.iter().map(|t| t.seen).collect();
        let expected = [
            Seen::Nothing,
            Seen::Unreachable,
            Seen::OtherHost(other),
            Seen::SmallOnly,
            Seen::Nothing,
        ];
        assert_eq!(seen, expected);
        assert!(list(&tried).contains("192.0.2.1:2 (an ICMP message says: unreachable), 192.0.2.1:3 (no one with"));
    }

    #[test]
    fn the_question_after_no_answer_fits_what_was_seen() {
        let asked = |seen: &[Seen]| {
            let tried: Vec<_> = seen.iter().map(|seen| Tried::new(address(1), *seen)).collect();
            question(&tried)
        };
        let usual = asked(&[]);
        assert!(usual.contains("is the host running"), "{usual}");
        for seen in [Seen::Nothing, Seen::Unreachable, Seen::Unopened] {
            assert_eq!(asked(&[seen, Seen::NoRoute, Seen::Forbidden]), usual);
        }
        assert!(asked(&[Seen::NoRoute, Seen::NoRoute]).contains("connected to a network"));
        assert_eq!(asked(&[Seen::Forbidden]), "");
        assert_eq!(asked(&[Seen::NoRoute, Seen::Busy]), "");
    }

    #[test]
    fn memory_is_bounded() {
        let mut sightings = Sightings::default();
        for port in 1..60_000 {
            sightings.note(at(1), address(port), Seen::Unreachable);
        }
        assert_eq!(
            (sightings.latest.len(), sightings.order.len()),
            (MAX_ENTRIES, MAX_ENTRIES)
        );
    }
}
