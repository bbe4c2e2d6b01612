//! The tunnel to one server, for where UDP gets no answer (RCH-24): when it is wanted, and what became of it.

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Host, Instant, Link, TunnelId};
use sss_wire::Eid;

use super::Client;
use super::report::TunnelEnd;

/// Time without an answer by UDP after which a tunnel is opened: of a server that was not heard, and of one that was.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(1));
/// Pause before another tunnel is opened when one was closed soon, or could not be opened; it doubles, and is a quarter
/// less or more: hosts that have lost the same server come back one after another.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Part of the time without any that a pause is at most where nobody takes a connection: what is waited for in vain
/// once the server is back stays small beside how long it was away. It need not be shorter than the second.
const SHARE: u32 = 64;
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// A tunnel that was open for so long is followed by another at once. One that was not, but was of use, by another
/// after the first pause: a server that is started again and again is not left alone for longer and longer.
const LASTING: Duration = Duration::from_secs(10);
/// Times after which UDP is tried again, while a tunnel is used; then always after the last.
const TESTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(25), Duration::from_secs(60)];

/// Order to whoever moves datagrams, about the tunnel to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelOrder {
    /// To open it: [`on_tunnel_opened`](crate::Rendezvous::on_tunnel_opened) or
    /// [`on_tunnel_closed`](crate::Rendezvous::on_tunnel_closed) is to follow.
    Open {
        /// The server.
        server: Eid,
        /// Its place, as it was given in [`ServerAddress::tls`](crate::ServerAddress::tls).
        place: String,
    },
    /// To close it, or not to open it any more. Nothing follows.
    Close {
        /// The server.
        server: Eid,
    },
}

/// The tunnel to a server.
pub(super) struct Tunnel {
    /// `None`: the server has none.
    place: Option<String>,
    state: State,
    /// The reason why the latest is not there.
    failure: Option<TunnelEnd>,
    udp: Udp,
    pause: Duration,
    /// The time of the first failure since one was of use, or UDP was.
    failing_since: Option<Instant>,
    tests: usize,
    test_at: Instant,
    /// None is opened before: a TURN server is asked first (RCH-48).
    held: Instant,
}

enum State {
    /// It may be opened from then on.
    Closed(Instant),
    Opening,
    Open(Opened),
}

/// A tunnel that is open.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    pub(super) id: TunnelId,
    /// The server's end.
    pub(super) at: SocketAddr,
    since: Instant,
    /// The server has answered by it.
    is_of_use: bool,
}

/// Knowledge about UDP on the way to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Udp {
    /// In the network where this host is now, nothing was heard by it yet.
    Untried,
    /// It works.
    Trusted,
    /// It got no answer where the tunnel did.
    Silent,
}

/// State of the server as far as the tunnel goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It was asked at that time, and has not answered yet.
    Asked(Instant),
    /// It was heard by UDP before, and was sent something at that time that it has not answered.
    Missed(Instant),
    /// It is heard by UDP.
    ByUdp,
    /// It is heard by the tunnel.
    ByTunnel,
    /// It is not spoken to.
    Unasked,
}

impl Tunnel {
    pub(super) fn new(now: Instant, place: Option<String>) -> Self {
        Self {
            place,
            state: State::Closed(now),
            failure: None,
            udp: Udp::Untried,
            pause: FIRST_PAUSE,
            failing_since: None,
            tests: 0,
            test_at: now,
            held: now,
        }
    }

    /// None is opened before.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held = until;
    }

    /// The tunnel, if it is open.
    pub(super) fn open(&self) -> Option<Opened> {
        match self.state {
            State::Open(opened) => Some(opened),
            State::Closed(_) | State::Opening => None,
        }
    }

    /// Returns when it is to be opened or closed, or UDP to be tried again.
    pub(super) fn next_timer(&self, hearing: Hearing) -> Option<Instant> {
        match (&self.state, hearing) {
            (State::Closed(from), _) => self.wanted_at(hearing).map(|at| at.max(*from).max(self.held)),
            (State::Opening | State::Open(_), Hearing::ByUdp) => Some(Instant::default()),
            (State::Open(_), Hearing::ByTunnel) => Some(self.test_at),
            (State::Opening | State::Open(_), _) => None,
        }
    }

    /// Returns when it is wanted.
    fn wanted_at(&self, hearing: Hearing) -> Option<Instant> {
        self.place.as_ref()?;
        self.misses_udp_at(hearing)
    }

    /// Returns when it is time to do without UDP.
    pub(super) fn misses_udp_at(&self, hearing: Hearing) -> Option<Instant> {
        let (since, patience) = match hearing {
            Hearing::Asked(since) => (since, PATIENCE.0),
            Hearing::Missed(since) => (since, PATIENCE.1),
            Hearing::ByUdp | Hearing::ByTunnel | Hearing::Unasked => return None,
        };
        Some(match self.udp {
            Udp::Untried => since + PATIENCE.0,
            Udp::Trusted => since + patience,
            Udp::Silent => since,
        })
    }

    /// Returns when UDP is to be tried again, of a server that is heard by an allocation.
    pub(super) fn test_at(&self) -> Instant {
        self.test_at
    }

    /// Does what is due: says what is to be done with it.
    pub(super) fn on_timer(&mut self, now: Instant, server: Eid, hearing: Hearing) -> Option<TunnelOrder> {
        if self.next_timer(hearing)? > now {
            return None;
        }
        match (&self.state, hearing) {
            (State::Closed(_), _) => {
                self.state = State::Opening;
                let place = self.place.clone()?;
                Some(TunnelOrder::Open { server, place })
            }
            (_, Hearing::ByUdp) => Some(self.close(now, server)),
            _ => None,
        }
    }

    /// Returns whether UDP is to be tried again now, and how many times it was before.
    pub(super) fn take_test(&mut self, now: Instant) -> Option<usize> {
        if now < self.test_at {
            return None;
        }
        let before = self.tests;
        self.tests = self.tests.saturating_add(1);
        self.test_at = now + after(self.tests);
        Some(before)
    }

    /// It is open. `None` if it is not wanted any more.
    pub(super) fn on_opened(&mut self, now: Instant, id: TunnelId, at: SocketAddr) -> Option<Link> {
        if !matches!(self.state, State::Opening) {
            return None;
        }
        self.state = State::Open(Opened {
            id,
            at,
            since: now,
            is_of_use: false,
        });
        Some(Link::Tunnel(id))
    }

    /// Returns why there is none, if one was tried.
    pub(super) fn failure(&self) -> Option<&TunnelEnd> {
        self.failure.as_ref().filter(|_| self.open().is_none())
    }

    /// The server is heard by it, and was not by UDP.
    pub(super) fn on_used(&mut self, now: Instant) {
        self.udp = Udp::Silent;
        self.tests = 0;
        self.test_at = now + after(0);
    }

    /// The server has answered over a link.
    pub(super) fn on_heard(&mut self, link: Link) {
        match (link, &mut self.state) {
            (Link::Udp(_), _) => {
                self.failure = None;
                self.udp = Udp::Trusted;
                self.pause = FIRST_PAUSE;
                self.failing_since = None;
            }
            (Link::Tunnel(_), State::Open(opened)) => opened.is_of_use = true,
            (Link::Tunnel(_) | Link::Socket(..) | Link::Turn(..), _) => {}
        }
    }

    /// This host has come into another network.
    pub(super) fn on_network_change(&mut self, now: Instant) {
        self.udp = Udp::Untried;
        self.tests = 0;
        self.test_at = now;
        if let State::Closed(from) = &mut self.state {
            *from = now;
        }
    }

    /// It was closed, or could not be opened. Returns the link that is gone, if it was open.
    pub(super) fn on_closed(&mut self, now: Instant, why: TunnelEnd, rng: &mut Generator) -> Option<Link> {
        let opened = self.open();
        let has_lasted = opened.is_some_and(|opened| now.since(opened.since) >= LASTING);
        if has_lasted {
            self.state = State::Closed(now);
            self.pause = FIRST_PAUSE;
            self.failing_since = None;
        } else {
            if opened.is_some_and(|opened| opened.is_of_use) {
                self.pause = FIRST_PAUSE;
                self.failing_since = None;
            }
            let mut random = [0; 1];
            rng.fill(&mut random);
            let [random] = random;
            self.state = State::Closed(now + self.pause * 3 / 4 + self.pause * u32::from(random) / 512);
            self.pause = (self.pause * 2).min(self.longest_pause(now, &why));
        }
        self.failure = Some(if has_lasted { TunnelEnd::Over } else { why });
        opened.map(|opened| Link::Tunnel(opened.id))
    }

    /// The longest pause after the next failure. A server that is there and has no room is asked less and less.
    fn longest_pause(&mut self, now: Instant, why: &TunnelEnd) -> Duration {
        let since = *self.failing_since.get_or_insert(now);
        match why {
            TunnelEnd::Refused | TunnelEnd::Silent => (now.since(since) / SHARE).clamp(SHORT_PAUSE, LONGEST_PAUSE),
            TunnelEnd::TurnedAway | TunnelEnd::Other(_) | TunnelEnd::Over => LONGEST_PAUSE,
        }
    }

    /// Closes it.
    pub(super) fn close(&mut self, now: Instant, server: Eid) -> TunnelOrder {
        self.state = State::Closed(now);
        TunnelOrder::Close { server }
    }
}

/// Time until UDP is tried again after so many tries: beyond the list, the last of it.
fn after(tries: usize) -> Duration {
    TESTS.get(tries).or(TESTS.last()).copied().unwrap_or_default()
}

impl Client {
    /// The next order about a tunnel.
    pub(crate) fn poll_order(&mut self) -> Option<TunnelOrder> {
        self.carriers.tunnels.pop_front()
    }

    /// The tunnel to a server is open, at this end of the server's.
    pub(crate) fn on_tunnel_opened(&mut self, now: Instant, host: &mut Host, (server, opened): (&Eid, super::Opened)) {
        let known = self.registrations.iter_mut().find(|known| known.eid() == server);
        if let Some(known) = known {
            known.on_tunnel_opened(now, host, opened);
        }
        self.on_timer(now, host);
    }

    /// The tunnel to a server is closed, or could not be opened.
    pub(crate) fn on_tunnel_closed(&mut self, now: Instant, host: &mut Host, (server, why): (&Eid, TunnelEnd)) {
        let known = self.registrations.iter_mut().find(|known| known.eid() == server);
        if let Some(known) = known {
            known.on_tunnel_closed(now, host, why, &mut self.rng);
        }
        self.on_timer(now, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn tunnel() -> (Tunnel, Eid) {
        let place = Some("server.example:443".to_owned());
        (Tunnel::new(at(0), place), Eid::from_public_key(&[1; 32]))
    }

    // spec: RCH-24
    #[test]
    fn a_tunnel_is_opened_when_udp_gets_no_answer_and_closed_when_it_does() {
        let (mut tunnel, server) = tunnel();
        let asked = Hearing::Asked(at(1000));
        assert_eq!(tunnel.next_timer(asked), Some(at(1300)));
        assert_eq!(tunnel.next_timer(Hearing::Missed(at(1000))), Some(at(1300)));
        tunnel.on_heard(Link::Udp(([192, 0, 2, 1], 7757).into()));
        assert_eq!(tunnel.next_timer(Hearing::Missed(at(1000))), Some(at(2000)));
        assert_eq!(tunnel.next_timer(asked), Some(at(1300)));
        assert_eq!(tunnel.on_timer(at(1299), server, asked), None);
        let place = "server.example:443".to_owned();
        let open = Some(TunnelOrder::Open { server, place });
        assert_eq!(tunnel.on_timer(at(1300), server, asked), open);
        assert_eq!(tunnel.on_timer(at(9000), server, asked), None, "once");
        let link = tunnel.on_opened(at(1400), TunnelId(3), ([192, 0, 2, 1], 443).into());
        assert_eq!(link, Some(Link::Tunnel(TunnelId(3))));
        assert!(tunnel.open().is_some());
        let close = Some(TunnelOrder::Close { server });
        assert_eq!(tunnel.on_timer(at(1500), server, Hearing::ByUdp), close);
        assert!(tunnel.open().is_none());
        // A server without one has none.
        let mut none = Tunnel::new(at(0), None);
        assert_eq!(none.on_timer(at(9000), server, asked), None);
    }

    // spec: RCH-24
    #[test]
    fn udp_is_tried_again_after_5_and_30_seconds_then_each_minute() {
        let (mut tunnel, server) = tunnel();
        tunnel.on_timer(at(300), server, Hearing::Asked(at(0)));
        tunnel.on_opened(at(0), TunnelId(3), ([192, 0, 2, 1], 443).into());
        tunnel.on_used(at(0));
        let mut times = Vec::new();
        for _ in 0..4 {
            let now = tunnel.next_timer(Hearing::ByTunnel).unwrap();
            assert_eq!(tunnel.take_test(now), Some(times.len()));
            times.push(now);
        }
        assert_eq!(times, [5_000, 30_000, 90_000, 150_000].map(at));
    }

    // spec: RCH-24
    #[test]
    fn one_that_was_of_use_for_a_short_time_is_followed_by_another_after_the_first_pause_always() {
        let (mut tunnel, server) = tunnel();
        let mut rng = Generator::new(&[1; 32]);
        let mut pauses = |answers: bool| {
            let mut pauses = Vec::new();
            for seconds in 1..9 {
                let now = at(seconds * 100_000);
                tunnel.state = State::Closed(now);
                assert!(tunnel.on_timer(now, server, Hearing::Asked(at(0))).is_some());
                tunnel.on_opened(now, TunnelId(3), ([192, 0, 2, 1], 443).into());
                if answers {
                    tunnel.on_heard(Link::Tunnel(TunnelId(3)));
                }
                let end = now + LASTING / 2;
                tunnel.on_closed(end, TunnelEnd::Over, &mut rng);
                pauses.push(tunnel.next_timer(Hearing::Asked(at(0))).unwrap().since(end));
            }
            pauses
        };
        let first = FIRST_PAUSE * 3 / 4..=FIRST_PAUSE * 5 / 4;
        assert!(pauses(true).iter().all(|pause| first.contains(pause)));
        assert!(
            pauses(false)
                .last()
                .is_some_and(|pause| *pause > Duration::from_secs(30))
        );
    }

    // spec: RCH-24
    #[test]
    fn where_nobody_takes_connections_a_pause_is_a_second_or_a_64th_of_the_time_since_the_first() {
        let (mut tunnel, _) = tunnel();
        let mut rng = Generator::new(&[1; 32]);
        for why in [TunnelEnd::Refused, TunnelEnd::Silent] {
            let mut pauses = Vec::new();
            for (seconds, expected) in [(1000, 0.5), (1001, 1.0), (1002, 1.0), (1064, 1.0), (1065, 1.0)] {
                tunnel.on_closed(at(seconds * 1000), why.clone(), &mut rng);
                pauses.push((
                    tunnel.next_timer(Hearing::Asked(at(0))).unwrap(),
                    at(seconds * 1000),
                    expected,
                ));
            }
            // The first of these doubles what was before.
            for (seconds, expected) in [
                (1640, 1.0),
                (1640, 2.0),
                (1640, 4.0),
                (1640, 8.0),
                (1640, 10.0),
                (9000, 10.0),
            ] {
                tunnel.on_closed(at(seconds * 1000), why.clone(), &mut rng);
                pauses.push((
                    tunnel.next_timer(Hearing::Asked(at(0))).unwrap(),
                    at(seconds * 1000),
                    expected,
                ));
            }
            let is_near = |(due, from, expected): &(Instant, Instant, f64)| {
                (0.75..=1.25).contains(&(due.since(*from).as_secs_f64() / expected))
            };
            assert!(pauses.iter().all(is_near), "{pauses:?}");
            tunnel.on_heard(Link::Udp(([192, 0, 2, 1], 7757).into()));
        }
    }

    // spec: RCH-24
    #[test]
    fn one_that_lasted_is_followed_by_another_at_once_and_others_after_longer_and_longer_pauses() {
        let (mut tunnel, server) = tunnel();
        let asked = Hearing::Asked(at(0));
        let mut rng = Generator::new(&[1; 32]);
        // One that is turned away comes to somebody who has no room.
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(tunnel.on_closed(at(1_000), TunnelEnd::TurnedAway, &mut rng), None);
            pauses.push(tunnel.next_timer(asked).unwrap().since(at(1_000)).as_secs_f64());
        }
        let expected = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        let is_near = |(pause, expected): (&f64, &f64)| (0.75..=1.25).contains(&(pause / expected));
        assert!(pauses.iter().zip(&expected).all(is_near), "{pauses:?}");
        assert!(tunnel.on_timer(at(76_000), server, asked).is_some());
        let link = tunnel.on_opened(at(61_000), TunnelId(3), ([192, 0, 2, 1], 443).into());
        tunnel.on_used(at(61_000));
        assert!(link.is_some());
        assert_eq!(tunnel.on_closed(at(71_000), TunnelEnd::Refused, &mut rng), link);
        assert_eq!(tunnel.next_timer(Hearing::Missed(at(71_000))), Some(at(71_000)));
        tunnel.close(at(71_000), server);
        let late = tunnel.on_opened(at(71_000), TunnelId(4), ([192, 0, 2, 1], 443).into());
        assert_eq!(late, None, "it is not wanted any more");
    }
}
