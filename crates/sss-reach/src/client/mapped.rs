//! Ports that routers let in for this host: named to a server, and proven by an echo (RCH-25, RCH-26).

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::Instant;
use sss_wire::reach::bodies::MappedPort;

/// Pauses before another echo is asked for; they count once the server has answered. Then the port is given up.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Time after which a port is proven anew, or tried again.
const PERIOD: Duration = Duration::from_secs(300);
/// Addresses that are kept, at most: one of each family, and one to spare.
const MAX: usize = 3;

/// Knowledge of one server about a mapped port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// An echo is asked for.
    Asked,
    /// An echo has come through: others are told of it.
    Proven,
    /// Nothing that the server has sent to it has come through.
    Dead,
}

/// The mapped port that one server is told of.
#[derive(Default)]
pub(super) struct Mapped {
    /// Outer addresses that routers have named.
    named: Vec<SocketAddr>,
    /// The one of them that has the address that the server sees.
    here: Option<(SocketAddr, State)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// An echo is asked for, from this time on.
    Asking(Asking),
    /// The echo has come, with this token. The first LEASE that brings it back has this number.
    Echoed(Vec<u8>, Option<u64>),
    /// The server has it. It is proven again at this time.
    Proven(Instant),
    /// It is tried again at this time.
    Dead(Instant),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Asking {
    at: Instant,
    /// The number of the latest LEASE that has asked, if it was not answered.
    asked: Option<u64>,
    /// LEASEs that were answered, while no echo came.
    missed: usize,
    /// Set if it was proven before: the server goes on telling others.
    is_renewed: bool,
}

impl Asking {
    fn new(at: Instant) -> Self {
        Self {
            at,
            asked: None,
            missed: 0,
            is_renewed: false,
        }
    }
}

impl Mapped {
    /// Routers let these in. Returns whether that is news for the server that sees this host at `observed`.
    pub(super) fn set(&mut self, now: Instant, named: &[SocketAddr], observed: SocketAddr) -> bool {
        self.named = named.iter().take(MAX).copied().collect();
        let before = self.here.as_ref().map(|(address, _)| *address);
        let here = self.of(observed);
        if before != here {
            self.begin(now, observed);
        }
        before != here
    }

    /// The server sees this host elsewhere now, or was restarted: nothing is proven.
    pub(super) fn begin(&mut self, now: Instant, observed: SocketAddr) {
        let state = |address: SocketAddr| match address == observed {
            // It is where this host is seen anyhow.
            true => State::Proven(now + PERIOD),
            false => State::Asking(Asking::new(now)),
        };
        self.here = self.of(observed).map(|address| (address, state(address)));
    }

    fn of(&self, observed: SocketAddr) -> Option<SocketAddr> {
        let has_its_ip = |named: &&SocketAddr| named.ip() == observed.ip() && named.port() != 0;
        self.named.iter().find(has_its_ip).copied()
    }

    /// The address, and the knowledge of it.
    pub(super) fn report(&self) -> Option<(SocketAddr, Proof)> {
        self.here.as_ref().map(|(address, state)| {
            let proof = match state {
                State::Proven(_) => Proof::Proven,
                State::Asking(asking) if asking.is_renewed => Proof::Proven,
                State::Asking(_) | State::Echoed(..) => Proof::Asked,
                State::Dead(_) => Proof::Dead,
            };
            (*address, proof)
        })
    }

    /// Time of the LEASE that this needs, if it needs one.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        match &self.here.as_ref()?.1 {
            State::Asking(asking) => Some(asking.at),
            State::Echoed(_, None) => Some(Instant::default()),
            State::Echoed(_, Some(_)) => None,
            State::Proven(at) | State::Dead(at) => Some(*at),
        }
    }

    /// Contents of the LEASE of this number, which is sent now.
    pub(super) fn state_in(&mut self, now: Instant, number: u64) -> MappedPort {
        let Some((address, state)) = &mut self.here else {
            return MappedPort::default();
        };
        let asking = match state {
            State::Proven(at) if *at <= now => Some(Asking {
                is_renewed: true,
                ..Asking::new(now)
            }),
            State::Dead(at) if *at <= now => Some(Asking::new(now)),
            State::Asking(asking) if asking.at <= now && asking.missed >= PAUSES.len() => {
                *state = State::Dead(now + PERIOD);
                None
            }
            _ => None,
        };
        if let Some(asking) = asking {
            *state = State::Asking(asking);
        }
        let mut wants_echo = false;
        match state {
            State::Asking(asking) if asking.at <= now => {
                let pause = PAUSES.get(asking.missed).copied().unwrap_or(PERIOD);
                asking.at = now + pause;
                asking.asked = Some(number);
                wants_echo = true;
            }
            State::Echoed(_, first @ None) => *first = Some(number),
            State::Dead(_) => return MappedPort::default(),
            _ => {}
        }
        MappedPort {
            port: address.port(),
            wants_echo,
        }
    }

    /// The token that the next LEASE brings back.
    pub(super) fn token(&self) -> Option<&[u8]> {
        match &self.here.as_ref()?.1 {
            State::Echoed(token, _) => Some(token),
            _ => None,
        }
    }

    /// The LEASE of this number was answered.
    pub(super) fn on_answered(&mut self, now: Instant, number: u64) {
        let Some((_, state)) = &mut self.here else {
            return;
        };
        match state {
            State::Asking(asking) if asking.asked.is_some_and(|asked| asked <= number) => {
                asking.asked = None;
                asking.missed = asking.missed.saturating_add(1);
            }
            State::Echoed(_, Some(first)) if *first <= number => *state = State::Proven(now + PERIOD),
            _ => {}
        }
    }

    /// Returns whether an echo is waited for.
    pub(super) fn is_asking(&self) -> bool {
        matches!(&self.here, Some((_, State::Asking(_))))
    }

    /// An echo has come, that was sent to this address. Returns whether it is one that was asked for.
    pub(super) fn on_echo(&mut self, sent_to: SocketAddr, token: Vec<u8>) -> bool {
        match &mut self.here {
            Some((address, state @ State::Asking(_))) if *address == sent_to => {
                *state = State::Echoed(token, None);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn address(n: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], port))
    }

    const ASKED: MappedPort = MappedPort {
        port: 50_000,
        wants_echo: true,
    };
    const NAMED: MappedPort = MappedPort {
        port: 50_000,
        wants_echo: false,
    };
    const NONE: MappedPort = MappedPort {
        port: 0,
        wants_echo: false,
    };

    // spec: RCH-25
    #[test]
    fn only_a_port_of_the_address_that_the_server_sees_is_named() {
        let mut mapped = Mapped::default();
        assert!(!mapped.set(at(0), &[address(2, 50_000)], address(1, 7)));
        assert_eq!((mapped.state_in(at(0), 1), mapped.report()), (NONE, None));
        assert!(mapped.set(at(1), &[address(2, 50_000), address(1, 50_000)], address(1, 7)));
        assert_eq!(mapped.state_in(at(1), 2), ASKED);
        // The server sees this host at the mapped port itself.
        mapped.begin(at(2), address(1, 50_000));
        assert_eq!(mapped.state_in(at(2), 3), NAMED);
        assert_eq!(mapped.report(), Some((address(1, 50_000), Proof::Proven)));
        mapped.begin(at(3), address(3, 7));
        assert_eq!(mapped.state_in(at(3), 4), NONE);
    }

    // spec: RCH-26
    #[test]
    fn a_port_is_proven_by_an_echo_and_again_after_a_while() {
        let mut mapped = Mapped::default();
        mapped.set(at(0), &[address(1, 50_000)], address(1, 7));
        assert_eq!(mapped.state_in(at(0), 1), ASKED);
        mapped.on_answered(at(0), 1);
        assert!(!mapped.on_echo(address(1, 50_001), vec![1]), "another port");
        assert!(mapped.on_echo(address(1, 50_000), vec![2]));
        assert_eq!(mapped.next_timer(), Some(Instant::default()), "at once");
        assert_eq!(
            (mapped.token().map(<[u8]>::to_vec), mapped.state_in(at(0), 2)),
            (Some(vec![2]), NAMED)
        );
        assert_eq!(mapped.report(), Some((address(1, 50_000), Proof::Asked)));
        // LEASE was lost: the next one brings it back, too.
        assert_eq!(
            (mapped.token().map(<[u8]>::to_vec), mapped.state_in(at(1), 3)),
            (Some(vec![2]), NAMED)
        );
        mapped.on_answered(at(1), 1);
        assert_eq!(mapped.report(), Some((address(1, 50_000), Proof::Asked)));
        mapped.on_answered(at(1), 3);
        assert_eq!(mapped.report(), Some((address(1, 50_000), Proof::Proven)));
        assert_eq!(
            (mapped.token().map(<[u8]>::to_vec), mapped.state_in(at(20), 4)),
            (None, NAMED)
        );
        assert_eq!(mapped.next_timer(), Some(at(301)));
        assert_eq!(mapped.state_in(at(301), 5), ASKED);
        assert_eq!(
            mapped.report(),
            Some((address(1, 50_000), Proof::Proven)),
            "until it is not"
        );
    }

    // spec: RCH-26
    #[test]
    fn a_port_without_an_echo_is_given_up_and_tried_again_later() {
        let mut mapped = Mapped::default();
        mapped.set(at(0), &[address(1, 50_000)], address(1, 7));
        // A server that does not answer says nothing about the port.
        for n in 0..20 {
            assert_eq!(mapped.state_in(at(n), n), ASKED);
        }
        let mut now = at(20);
        for n in 20..23 {
            assert_eq!(mapped.state_in(now, n), ASKED);
            mapped.on_answered(now, n);
            now = mapped.next_timer().unwrap();
        }
        assert_eq!((now, mapped.state_in(now, 23)), (at(27), NONE));
        assert_eq!(mapped.report(), Some((address(1, 50_000), Proof::Dead)));
        assert_eq!(mapped.state_in(at(326), 24), NONE);
        assert_eq!(mapped.state_in(at(327), 25), ASKED);
        // Another port is tried at once.
        assert!(mapped.set(at(328), &[address(1, 50_001)], address(1, 7)));
        assert_eq!(mapped.report(), Some((address(1, 50_001), Proof::Asked)));
        assert!(mapped.set(at(329), &[], address(1, 7)));
        assert_eq!((mapped.report(), mapped.next_timer()), (None, None));
    }
}
