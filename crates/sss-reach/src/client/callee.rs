//! A caller that this host has heard of: what is sent to it, and by which way (RCH-13 to RCH-16).

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Instant, Link, Route};
use sss_wire::reach::Punch;
use sss_wire::reach::bodies::Way;

use super::punch::{Punched, Punching};

/// Times that COOKIE and COOKIE_K are sent through the relay, at most: once, and when the caller repeats what it asks.
const MAX_RELAYED: u8 = 4;

/// The least time between two of these.
const RELAY_PAUSE: Duration = Duration::from_millis(250);

/// An introduction that this host has heard of.
pub(super) struct Callee {
    /// `None`: nothing is sent directly.
    direct: Option<Direct>,
    relay: Option<Relayed>,
    /// Ways within the network that both are in, and the number of answers that were sent there (RCH-42).
    near: (Vec<Route>, usize),
    /// COOKIE, and COOKIE_K, as far as they were made.
    answers: Vec<Vec<u8>>,
}

/// The way to the address of the caller that its server has seen.
struct Direct {
    punching: Punching,
    route: Route,
    /// The time from which something may go there.
    begins: Instant,
    /// The number of answers that were sent there.
    sent: usize,
}

/// The way through the relay.
struct Relayed {
    route: Route,
    /// The number of answers that were sent there this time.
    sent: usize,
    times: u8,
    latest: Instant,
}

impl Callee {
    /// A caller that is reached by these routes: directly, and through the relay.
    pub(super) fn new(
        now: Instant,
        way: &Way,
        (direct, relay): (Option<Route>, Option<Route>),
        rng: &mut Generator,
    ) -> Self {
        Self {
            direct: direct.map(|route| Direct {
                punching: Punching::new(now, way, rng),
                route,
                begins: now + Duration::from_micros(u64::from(way.hold)),
                sent: 0,
            }),
            relay: relay.map(|route| Relayed {
                route,
                sent: 0,
                times: 1,
                latest: now,
            }),
            near: (Vec::new(), 0),
            answers: Vec::new(),
        }
    }

    /// The caller may be there too, in the same network.
    pub(super) fn set_near(&mut self, routes: Vec<Route>) {
        self.near.0 = routes;
    }

    /// Returns how many answers there are.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    /// An answer was made.
    pub(super) fn put_answer(&mut self, answer: Vec<u8>) {
        self.answers.push(answer);
    }

    /// Something of the caller's has come again: what was answered may be lost, unless the server has repeated it
    /// because it had no answer yet.
    pub(super) fn repeat(&mut self, now: Instant) {
        let complete = self.answers.len();
        let may_repeat = |relay: &&mut Relayed| {
            relay.sent == complete && relay.times < MAX_RELAYED && now.since(relay.latest) >= RELAY_PAUSE
        };
        if let Some(relay) = self.relay.as_mut().filter(may_repeat) {
            relay.sent = 0;
            relay.times = relay.times.saturating_add(1);
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let answers = self.answers.len();
        let direct = self.direct.iter().flat_map(|direct| {
            let waits = direct.sent < answers;
            let begins = Some(direct.begins).filter(|_| waits);
            direct.punching.next_timer().into_iter().chain(begins)
        });
        let relay = self.relay.iter().filter(|relay| relay.sent < answers).count();
        let near = self.near.0.iter().filter(|_| self.near.1 < answers).count();
        let at_once = (relay + near > 0).then_some(Instant::default());
        direct.chain(at_once).min()
    }

    /// Packets that are due: through the relay, and within the network, at once (RCH-16, RCH-42).
    pub(super) fn on_timer(&mut self, now: Instant) -> Vec<(Route, Vec<u8>)> {
        let mut packets = Vec::new();
        if let Some(relay) = &mut self.relay {
            let unsent = self.answers.get(relay.sent..).unwrap_or_default();
            if !unsent.is_empty() {
                relay.latest = now;
            }
            packets.extend(unsent.iter().map(|answer| (relay.route, answer.clone())));
            relay.sent = self.answers.len();
        }
        let (near, sent) = &mut self.near;
        for answer in self.answers.get(*sent..).unwrap_or_default() {
            packets.extend(near.iter().map(|route| (*route, answer.clone())));
        }
        *sent = self.answers.len();
        let Some(direct) = &mut self.direct else {
            return packets;
        };
        let punches = direct.punching.on_timer(now).into_iter();
        let link = direct.route.link;
        let way = |to| Route::over(link.towards(to).unwrap_or(Link::Udp(to)));
        packets.extend(punches.map(|(to, packet)| (way(to), packet)));
        if direct.begins <= now {
            let unsent = self.answers.get(direct.sent..).unwrap_or_default();
            packets.extend(unsent.iter().map(|answer| (direct.route, answer.clone())));
            direct.sent = self.answers.len();
        }
        packets
    }

    /// Takes a PUNCH or its answer in. `None` if it is not genuine.
    pub(super) fn on_punch(&mut self, from: SocketAddr, punch: &Punch<'_>) -> Option<Punched> {
        self.direct.as_mut()?.punching.on_punch(from, punch)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sss_proto::RelayHandle;

    use super::*;

    // spec: RCH-16
    #[test]
    fn answers_go_over_the_relay_once_and_three_times_more_if_the_caller_asks() {
        let address = SocketAddr::from(([192, 0, 2, 7], 7));
        let relay = Route::through(Link::Udp(address), RelayHandle(7));
        let way = Way {
            address,
            mapped: 0,
            handle: 7,
            punch_key: [1; 32],
            hold: 100_000,
        };
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let routes = (Some(Route::udp(address)), Some(relay));
        let mut callee = Callee::new(at(0), &way, routes, &mut Generator::new(&[1; 32]));
        callee.put_answer(vec![0x84]);
        let [(route, first)] = &callee.on_timer(at(0))[..] else {
            panic!("COOKIE at once");
        };
        assert_eq!((*route, &first[..]), (relay, &[0x84][..]));
        callee.put_answer(vec![0x85]);
        let mut relayed = 1;
        for n in 0..100 {
            callee.repeat(at(n * 100));
            let packets = callee.on_timer(at(n * 100));
            relayed += packets.iter().filter(|(route, _)| *route == relay).count();
        }
        assert_eq!(relayed, 2 * usize::from(MAX_RELAYED));
    }
}
