//! The view that a server's other port has of this host: whether its NAT gives it another port for each destination
//! (RCH-28).

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::Instant;

/// Times after which the question is asked again, as long as it is not answered; then no more.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(8),
];

/// A question to a server's other port, and the answer.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// 0 if the server has no other port.
    port: u16,
    /// The question is to be asked at this time; it was asked so many times.
    due: Option<(Instant, usize)>,
    seen: Option<SocketAddr>,
}

impl Outside {
    /// The server has that port: it is asked now.
    pub(super) fn set(&mut self, now: Instant, port: u16) {
        self.port = port;
        self.ask(now);
    }

    /// This host's address is another one, or may be.
    pub(super) fn ask(&mut self, now: Instant) {
        self.seen = None;
        self.due = (self.port != 0).then_some((now, 0));
    }

    /// The other port of the server at an address.
    pub(super) fn at(&self, server: SocketAddr) -> Option<SocketAddr> {
        (self.port != 0).then(|| SocketAddr::new(server.ip(), self.port))
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }

    /// Returns whether the question is to be asked now, and counts it if so.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let Some((at, times)) = self.due.filter(|(at, _)| *at <= now) else {
            return false;
        };
        self.due = PAUSES
            .get(times)
            .map(|pause| (at.max(now) + *pause, times.saturating_add(1)));
        true
    }

    /// The answer has come.
    pub(super) fn on_seen(&mut self, address: SocketAddr) {
        self.seen = Some(address);
        self.due = None;
    }

    /// This host's address, as the other port sees it.
    pub(super) fn seen(&self) -> Option<SocketAddr> {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-28
    #[test]
    fn the_question_is_asked_four_times_and_again_after_a_move() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut outside = Outside::default();
        outside.set(at(0), 0);
        assert_eq!(
            (outside.next_timer(), outside.at(([192, 0, 2, 1], 7).into())),
            (None, None)
        );
        outside.set(at(0), 8);
        let mut times = Vec::new();
        while let Some(due) = outside.next_timer() {
            assert!(outside.take_due(due) && !outside.take_due(due));
            times.push(due);
        }
        assert_eq!(times, [0, 500, 2500, 10_500].map(at));
        outside.ask(at(20_000));
        assert!(outside.take_due(at(20_000)));
        let here = SocketAddr::from(([203, 0, 113, 7], 9));
        outside.on_seen(here);
        assert_eq!((outside.seen(), outside.next_timer()), (Some(here), None));
        outside.ask(at(30_000));
        assert_eq!(outside.seen(), None, "it was of another place");
    }
}
