//! Announcements of a host on one link: what it says of itself, and when (RCH-33).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Asked, Presence, TTL};

/// Pauses before a host announces itself without being asked: RFC 6762, section 8.3.
const UNASKED: [Duration; 2] = [Duration::ZERO, Duration::from_secs(1)];
/// The least time between two announcements to all (RFC 6762, section 6).
const PAUSE: Duration = Duration::from_secs(1);
/// Answers to single hosts in such a time, and that wait, at most.
const MAX_SINGLE: usize = 32;
/// Time after an announcement to all for which single hosts may be answered alone: RFC 6762, section 5.4.
const FRESH: Duration = Duration::from_secs(TTL as u64 / 4);

/// Receivers of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    /// The one that has asked.
    One(SocketAddr),
}

/// Announcements of a host on one link.
#[derive(Debug)]
pub(super) struct Responder {
    pub(super) presence: Presence,
    began: Instant,
    /// Number of announcements of [`UNASKED`] that were made.
    unasked: usize,
    /// The latest to all.
    latest: Option<Instant>,
    /// The time when the next to all is due, since somebody has asked.
    due: Option<Instant>,
    single: Vec<(SocketAddr, Instant)>,
    /// The second that is counted, and answers to single hosts in it.
    counted: (Instant, usize),
}

impl Responder {
    pub(super) fn new(now: Instant, presence: Presence) -> Self {
        Self {
            presence,
            began: now,
            unasked: 0,
            latest: None,
            due: None,
            single: Vec::new(),
            counted: (now, 0),
        }
    }

    /// Somebody on the link has asked. Others answer too, so that this host waits for `jitter` before it does; but not
    /// if it is asked for by its name.
    pub(super) fn on_question(&mut self, now: Instant, (from, asked): (SocketAddr, &Asked), jitter: Duration) {
        let is_named = asked.names.contains(&self.presence.nonce);
        let is_asked = asked.all && !asked.known.contains(&self.presence.nonce);
        if !is_named && !is_asked {
            return;
        }
        let at = if is_named { now } else { now + jitter };
        let is_fresh = self.latest.is_some_and(|latest| now < latest + FRESH);
        // One that is not answered alone hears the next answer to all.
        if asked.unicast && is_fresh && self.answer_one(now, from, at) {
            return;
        }
        let at = self.latest.map_or(at, |latest| at.max(latest + PAUSE));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Returns whether that host gets an answer of its own.
    fn answer_one(&mut self, now: Instant, to: SocketAddr, at: Instant) -> bool {
        if now >= self.counted.0 + PAUSE {
            self.counted = (now, 0);
        }
        if self.single.iter().any(|(other, _)| *other == to) {
            return true;
        }
        let has_room = self.counted.1 < MAX_SINGLE && self.single.len() < MAX_SINGLE;
        if has_room {
            self.counted.1 += 1;
            self.single.push((to, at));
        }
        has_room
    }

    fn unasked_at(&self) -> Option<Instant> {
        UNASKED.get(self.unasked).map(|after| self.began + *after)
    }

    /// Those to whom the host is to say that it is there now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Audience> {
        if let Some(at) = self.single.iter().position(|(_, at)| *at <= now) {
            return Some(Audience::One(self.single.swap_remove(at).0));
        }
        let is_unasked = self.unasked_at().is_some_and(|at| at <= now);
        if !is_unasked && self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.unasked += usize::from(is_unasked);
        (self.latest, self.due) = (Some(now), None);
        Some(Audience::All)
    }

    /// The time when [`Self::poll`] may have something.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let single = self.single.iter().map(|(_, at)| *at);
        single.chain(self.due).chain(self.unasked_at()).min()
    }
}

#[cfg(test)]
mod tests {
    use sss_reach::mdns::{LEN, Nonce, Tag};

    use super::*;

    fn nonce() -> Nonce {
        Nonce([7; LEN])
    }

    fn responder(now: Instant) -> Responder {
        Responder::new(
            now,
            Presence {
                nonce: nonce(),
                tag: Tag([9; LEN]),
                port: 7757,
            },
        )
    }

    fn from(n: u8) -> SocketAddr {
        ([192, 168, 7, n], 5353).into()
    }

    fn all() -> Asked {
        Asked {
            all: true,
            ..Asked::default()
        }
    }

    /// All that is said until some time, with the time in milliseconds.
    fn said(responder: &mut Responder, begin: Instant, until: u64) -> Vec<(u64, Audience)> {
        let mut said = Vec::new();
        for ms in 0..=until {
            while let Some(audience) = responder.poll(begin + Duration::from_millis(ms)) {
                said.push((ms, audience));
            }
        }
        said
    }

    // spec: RCH-33
    #[test]
    fn a_host_says_twice_that_it_is_there_and_then_only_when_asked() {
        let begin = Instant::now();
        let mut responder = responder(begin);
        assert_eq!(
            said(&mut responder, begin, 20_000),
            [(0, Audience::All), (1000, Audience::All)]
        );
        assert_eq!(responder.next_timer(), None);
        let asked = begin + Duration::from_secs(20);
        responder.on_question(asked, (from(2), &all()), Duration::from_millis(30));
        assert_eq!(responder.next_timer(), Some(asked + Duration::from_millis(30)));
        assert_eq!(responder.poll(asked), None);
        assert_eq!(responder.poll(asked + Duration::from_millis(30)), Some(Audience::All));
    }

    #[test]
    fn who_knows_the_host_or_asks_for_another_gets_no_answer() {
        let begin = Instant::now();
        let mut responder = responder(begin);
        said(&mut responder, begin, 20_000);
        let now = begin + Duration::from_secs(20);
        let known = Asked {
            known: vec![nonce()],
            ..all()
        };
        let other = Asked {
            names: vec![Nonce([8; LEN])],
            ..Asked::default()
        };
        for asked in [known, other, Asked::default()] {
            responder.on_question(now, (from(2), &asked), Duration::ZERO);
            assert_eq!(responder.next_timer(), None, "{asked:?}");
        }
        let named = Asked {
            names: vec![nonce()],
            ..Asked::default()
        };
        responder.on_question(now, (from(2), &named), Duration::from_millis(100));
        assert_eq!(responder.poll(now), Some(Audience::All), "nobody else answers");
    }

    // spec: RCH-35
    #[test]
    fn threat_43_floods_of_questions_make_a_host_send_little() {
        let begin = Instant::now();
        let mut responder = responder(begin);
        let (mut to_all, mut to_one) = (0, 0);
        for ms in 0..10_000 {
            let now = begin + Duration::from_millis(ms);
            for n in 0..20 {
                let asked = Asked {
                    unicast: n % 2 == 0,
                    ..all()
                };
                let n = u8::try_from(ms % 200).unwrap() + n;
                responder.on_question(now, (from(n), &asked), Duration::from_millis(20));
            }
            while let Some(audience) = responder.poll(now) {
                match audience {
                    Audience::All => to_all += 1,
                    Audience::One(_) => to_one += 1,
                }
            }
        }
        assert!((10..=11).contains(&to_all), "{to_all} to all in 10 s");
        let most = 11 * MAX_SINGLE;
        assert!((1..=most).contains(&to_one), "{to_one} to single hosts in 10 s");
        assert!(to_one > 5 * MAX_SINGLE, "each second some: {to_one}");
    }

    // spec: RCH-35
    #[test]
    fn threat_43_few_single_hosts_wait_for_an_answer_and_each_once() {
        let begin = Instant::now();
        let mut responder = responder(begin);
        said(&mut responder, begin, 1000);
        let asked = Asked { unicast: true, ..all() };
        let ask = |responder: &mut Responder, ms, hosts: std::ops::RangeInclusive<u8>| {
            let now = begin + Duration::from_millis(ms);
            for n in hosts {
                responder.on_question(now, (from(n), &asked), Duration::from_millis(100));
            }
            responder.single.len()
        };
        // Of one second few are answered; some of these wait when the next one begins.
        assert_eq!(ask(&mut responder, 1050, 200..=200), 1);
        assert_eq!(said(&mut responder, begin, 1200).len(), 1);
        assert_eq!(ask(&mut responder, 2000, 1..=20), 20);
        assert_eq!(ask(&mut responder, 2051, 1..=20), 20, "each waits once");
        assert_eq!(ask(&mut responder, 2052, 21..=100), MAX_SINGLE);
        let mut answered = Vec::new();
        for (_, audience) in said(&mut responder, begin, 2200) {
            if let Audience::One(to) = audience {
                assert!(!answered.contains(&to), "{to} twice");
                answered.push(to);
            }
        }
        assert_eq!(answered.len(), MAX_SINGLE);
    }

    #[test]
    fn who_asks_long_after_the_latest_announcement_is_answered_before_all() {
        let begin = Instant::now();
        let asked = Asked { unicast: true, ..all() };
        for (ms, is_alone) in [(30_999, true), (31_000, false)] {
            let mut responder = responder(begin);
            assert_eq!(said(&mut responder, begin, 1500).len(), 2);
            let now = begin + Duration::from_millis(ms);
            responder.on_question(now, (from(2), &asked), Duration::ZERO);
            let audience = if is_alone {
                Audience::One(from(2))
            } else {
                Audience::All
            };
            assert_eq!(responder.poll(now), Some(audience), "{ms}");
        }
    }

    #[test]
    fn who_asks_a_moment_later_is_answered_alone() {
        let begin = Instant::now();
        let mut responder = responder(begin);
        said(&mut responder, begin, 1500);
        let asked = Asked { unicast: true, ..all() };
        responder.on_question(
            begin + Duration::from_millis(1500),
            (from(2), &asked),
            Duration::from_millis(20),
        );
        let answers = said(&mut responder, begin, 5000);
        assert_eq!(answers, [(1520, Audience::One(from(2)))]);
    }
}
