//! PUNCHes of one attempt: from one port to many, or from many to one (RCH-30).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Instant, Link, SocketId};
use sss_wire::reach::{self, spray::Steps};
use zeroize::Zeroizing;

use crate::client::punch::Punched;
use crate::keys;

/// PUNCHes that a host sends in one attempt, at most (RCH-31).
pub(super) const MAX_PUNCHES: usize = 1024;
/// Sockets, at most.
pub(super) const MAX_SOCKETS: usize = 256;
/// Ports that are tried first where they step evenly (RCH-32).
const PREDICTED: u16 = 16;
/// The lowest port that NATs give.
const FIRST_PORT: u16 = 1024;
/// PUNCHes at a time, and the time until the next ones: 1,000 in a second.
const BURST: (usize, Duration) = (8, Duration::from_millis(8));
/// The times at which PUNCH goes from all sockets: when the other has sent nearly all of its own, so that routers which
/// remember whoever comes too early do not hear of this host before, and again for those that are lost.
const ROUNDS: [Duration; 4] = [
    Duration::from_millis(900),
    Duration::from_millis(1250),
    Duration::from_millis(1650),
    Duration::from_millis(2150),
];
/// The first sockets go at once where their ports are foretold, and once more; they miss the first rounds.
const FORETOLD: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(400)];
/// Answers to PUNCHes, at most.
const MAX_ANSWERS: u8 = 16;

/// One host's part in an attempt.
pub(super) struct Attempt {
    name: [u8; 8],
    key: Zeroizing<[u8; 32]>,
    nonce: [u8; 16],
    target: SocketAddr,
    /// The links by which PUNCH goes, in order.
    plan: Plan,
    /// No PUNCH before.
    next: Instant,
    sent: usize,
    answers: u8,
    is_heard: bool,
}

enum Plan {
    /// From this host's port to these of the other's address.
    Ports(Vec<u16>),
    /// From these sockets to the other's port; each at its time.
    Sockets(Vec<(Instant, SocketId)>),
}

impl Attempt {
    fn new(now: Instant, (key, target): (&[u8; 32], SocketAddr), plan: Plan, rng: &mut Generator) -> Self {
        let mut nonce = [0; 16];
        rng.fill(&mut nonce);
        Self {
            name: keys::punch_name(key),
            key: Zeroizing::new(*key),
            nonce,
            target,
            plan,
            next: now,
            sent: 0,
            answers: 0,
            is_heard: false,
        }
    }

    /// To ports of the other's address: those that are foretold, then others at random, none twice.
    pub(super) fn to_ports(
        now: Instant,
        at: (&[u8; 32], SocketAddr),
        steps: Option<Steps>,
        rng: &mut Generator,
    ) -> Self {
        let mut seen = HashSet::new();
        let foretold = steps.into_iter().flat_map(|steps| {
            (0..PREDICTED).map(move |n| steps.next.wrapping_add_signed(steps.step.wrapping_mul(n as i16)))
        });
        let mut ports: Vec<u16> = foretold.filter(|port| *port != 0 && seen.insert(*port)).collect();
        while ports.len() < MAX_PUNCHES {
            let mut bytes = [0; 2];
            rng.fill(&mut bytes);
            let port = u16::from_be_bytes(bytes);
            if port >= FIRST_PORT && seen.insert(port) {
                ports.push(port);
            }
        }
        Self::new(now, at, Plan::Ports(ports), rng)
    }

    /// From sockets to the other's port. The first of them go at once if their ports are foretold.
    pub(super) fn from_sockets(
        now: Instant,
        at: (&[u8; 32], SocketAddr),
        (sockets, is_foretold): (&[SocketId], bool),
        rng: &mut Generator,
    ) -> Self {
        let first = if is_foretold { usize::from(PREDICTED) } else { 0 };
        let early = sockets.iter().take(first);
        let mut turns: Vec<(Instant, SocketId)> = FORETOLD
            .iter()
            .flat_map(|after| early.clone().map(|socket| (now + *after, *socket)))
            .collect();
        for (round, after) in ROUNDS.iter().enumerate() {
            let skipped = if round < FORETOLD.len() { first } else { 0 };
            turns.extend(sockets.iter().skip(skipped).map(|socket| (now + *after, *socket)));
        }
        turns.truncate(MAX_PUNCHES);
        Self::new(now, at, Plan::Sockets(turns), rng)
    }

    /// Number of PUNCHes that were sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Returns whether the other was heard.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// The link by which the next PUNCH goes, and when.
    fn turn(&self) -> Option<(Instant, Link)> {
        if self.is_heard {
            return None;
        }
        match &self.plan {
            Plan::Ports(ports) => {
                let to = SocketAddr::new(self.target.ip(), *ports.get(self.sent)?);
                Some((self.next, Link::Udp(to)))
            }
            Plan::Sockets(turns) => {
                let (at, socket) = turns.get(self.sent)?;
                Some((self.next.max(*at), Link::Socket(*socket, self.target)))
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.turn().map(|(at, _)| at)
    }

    /// PUNCHes that are due: never more in a second than is agreed on, also when it is late.
    pub(super) fn on_timer(&mut self, now: Instant) -> Vec<(Link, Vec<u8>)> {
        let mut packets = Vec::new();
        while packets.len() < BURST.0
            && let Some((_, link)) = self.turn().filter(|(at, _)| *at <= now)
        {
            self.sent = self.sent.saturating_add(1);
            packets.push((link, keys::punch(false, &self.name, &self.nonce, &self.key)));
        }
        if !packets.is_empty() {
            self.next = now + BURST.1;
        }
        packets
    }

    /// Takes a PUNCH or its answer in, from the other's address. `None` if it is none of this attempt.
    pub(super) fn on_punch(&mut self, from: SocketAddr, punch: &reach::Punch<'_>) -> Option<Punched> {
        if from.ip() != self.target.ip() || !keys::is_genuine_punch(punch, &self.key) {
            return None;
        }
        let is_own = *punch.nonce == self.nonce;
        match punch.is_answer {
            true if is_own => {
                self.is_heard = true;
                Some(Punched::Open(from))
            }
            true => None,
            false if is_own || self.answers >= MAX_ANSWERS => Some(Punched::Known),
            false => {
                self.is_heard = true;
                self.answers = self.answers.saturating_add(1);
                let answer = keys::punch(true, &self.name, punch.nonce, &self.key);
                Some(Punched::Answer(answer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    const TARGET: ([u8; 4], u16) = ([198, 51, 100, 7], 7000);

    /// Sends all, each at its time, and returns when and where.
    fn sent(attempt: &mut Attempt) -> Vec<(u64, Link)> {
        let mut all = Vec::new();
        while let Some(due) = attempt.next_timer() {
            let packets = attempt.on_timer(due);
            assert!(packets.iter().all(|(_, packet)| packet.len() == reach::PUNCH_SIZE));
            all.extend(packets.into_iter().map(|(link, _)| (due.as_nanos() / 1_000_000, link)));
        }
        all
    }

    // spec: RCH-30, RCH-31
    #[test]
    fn no_more_than_1024_go_to_one_address_and_no_more_than_1000_in_a_second() {
        let (mut rng, key) = (Generator::new(&[1; 32]), [7; 32]);
        let target = SocketAddr::from(TARGET);
        let sockets: Vec<SocketId> = (0..256).map(SocketId).collect();
        let to_ports = Attempt::to_ports(at(0), (&key, target), None, &mut rng);
        let from_sockets = Attempt::from_sockets(at(0), (&key, target), (&sockets, false), &mut rng);
        let foretold = Attempt::from_sockets(at(0), (&key, target), (&sockets, true), &mut rng);
        for (mut attempt, distinct) in [(to_ports, 1024), (from_sockets, 256), (foretold, 256)] {
            let all = sent(&mut attempt);
            assert_eq!(all.len(), MAX_PUNCHES);
            let links: HashSet<Link> = all.iter().map(|(_, link)| *link).collect();
            assert_eq!(links.len(), distinct);
            for (n, (ms, link)) in all.iter().enumerate() {
                assert_eq!(link.address().unwrap().ip(), target.ip());
                let in_a_second = all[n..].iter().take_while(|(later, _)| later - ms < 1000).count();
                assert!(in_a_second <= 1000, "{in_a_second}");
            }
        }
    }

    // spec: RCH-32
    #[test]
    fn ports_that_step_evenly_are_tried_first() {
        let target = SocketAddr::from(TARGET);
        for (next, step, expected) in [(40_000, 2, [40_000, 40_002, 40_004]), (1, -1, [1, 65_535, 65_534])] {
            let mut rng = Generator::new(&[1; 32]);
            let steps = Some(Steps { next, step });
            let mut attempt = Attempt::to_ports(at(0), (&[7; 32], target), steps, &mut rng);
            let all = sent(&mut attempt);
            let ports: Vec<u16> = all.iter().map(|(_, link)| link.address().unwrap().port()).collect();
            assert_eq!(&ports[..3], &expected[..]);
            assert!(all[14].0 < 20 && all.len() == MAX_PUNCHES);
        }
        let sockets: Vec<SocketId> = (0..256).map(SocketId).collect();
        let mut rng = Generator::new(&[1; 32]);
        let mut attempt = Attempt::from_sockets(at(0), (&[7; 32], target), (&sockets, true), &mut rng);
        let early = sent(&mut attempt).into_iter().filter(|(ms, _)| *ms < 850).count();
        assert_eq!(early, 2 * usize::from(PREDICTED));
    }

    // spec: RCH-30
    #[test]
    fn what_is_not_of_the_others_address_is_not_answered_and_no_more_is_sent_once_it_is_heard() {
        let mut rng = Generator::new(&[1; 32]);
        let (key, target) = ([7; 32], SocketAddr::from(TARGET));
        let mut attempt = Attempt::to_ports(at(0), (&key, target), None, &mut rng);
        let packet = |key: &[u8; 32], is_answer| keys::punch(is_answer, &keys::punch_name(key), &[3; 16], key);
        let mut take = |from: SocketAddr, packet: &[u8]| match reach::Packet::parse(packet).unwrap() {
            reach::Packet::Punch(punch) => attempt.on_punch(from, &punch),
            _ => panic!("a PUNCH"),
        };
        let from = SocketAddr::new(target.ip(), 5);
        let elsewhere = SocketAddr::from(([198, 51, 100, 8], 5));
        assert_eq!(take(elsewhere, &packet(&key, false)), None);
        assert_eq!(take(from, &packet(&[8; 32], false)), None);
        assert_eq!(
            take(from, &packet(&key, true)),
            None,
            "it answers nothing of this host's"
        );
        for n in 0..40 {
            let is_answered = matches!(take(from, &packet(&key, false)), Some(Punched::Answer(_)));
            assert_eq!(is_answered, n < MAX_ANSWERS);
        }
        assert_eq!(attempt.next_timer(), None);
    }
}
