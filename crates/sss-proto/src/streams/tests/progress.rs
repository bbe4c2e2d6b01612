//! Progress of what was written.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::error::WriteError;
use crate::interest::Interest;

impl Streams {
    /// Checks that what is counted as unsent is what the streams hold.
    pub(super) fn check_unsent(&self, what: &str) {
        let nodes = (0..self.life.tree.table.slots()).filter_map(|index| self.life.tree.table.get(index));
        let sum: u64 = nodes.map(|node| node.send.unsent() + node.bytes_in_line()).sum();
        assert_eq!(self.unsent(), sum, "{what}");
    }

    /// Both answers.
    fn progress(&mut self, key: StreamKey) -> [Poll<Result<(), WriteError>>; 2] {
        [self.poll_sent(key), self.poll_acknowledged(key)]
    }
}

/// Both events.
fn both(key: StreamKey) -> [StreamEvent; 2] {
    [
        StreamEvent::Ready(key, Interest::Sent),
        StreamEvent::Ready(key, Interest::Acknowledged),
    ]
}

#[test]
fn sent_and_acknowledged_are_told_once_and_in_time() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    assert_eq!(
        pair.a.progress(a),
        [Poll::Ready(Ok(())), Poll::Ready(Ok(()))],
        "nothing was written"
    );
    pair.a.write_all(a, &[1; 3 * ROOM]);
    assert_eq!(pair.a.progress(a), [Poll::Pending, Poll::Pending]);
    let mut packets = Vec::new();
    while pair.a.info(a).unwrap().unsent > 0 {
        assert_eq!(pair.a.events(), []);
        packets.push(pair.a.packet(ROOM).unwrap());
    }
    assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Sent)]);
    assert_eq!(pair.a.progress(a), [Poll::Ready(Ok(())), Poll::Pending]);
    let lost = packets.remove(0);
    for packet in &packets {
        pair.b.take(packet).unwrap();
        pair.a.acked(packet);
    }
    let info = pair.a.info(a).unwrap();
    assert_eq!(
        (info.delivered, info.in_flight, info.unacked),
        (Some(0), info.sent, info.sent)
    );
    pair.a.lost(&lost);
    assert_eq!(pair.a.poll_sent(a), Poll::Ready(Ok(())), "all was sent at least once");
    assert_eq!(pair.a.events(), []);
    pair.run();
    assert_eq!(pair.a.events(), [StreamEvent::Ready(a, Interest::Acknowledged)]);
    assert_eq!(pair.a.progress(a), [Poll::Ready(Ok(())), Poll::Ready(Ok(()))]);
    let info = pair.a.info(a).unwrap();
    assert_eq!((info.delivered, info.in_flight), (Some(3 * ROOM as u64), 0));
    assert_eq!(pair.b.read_all(b).0, [1; 3 * ROOM]);
}

#[test]
fn the_answers_of_ends_are_typed() {
    let stopped = WriteError::Stopped {
        code: Code::app(9),
        reason: "enough".to_owned(),
    };
    type End = fn(&mut Pair, (StreamKey, StreamKey));
    let ends: [(End, WriteError); 4] = [
        (|pair, (_, b)| pair.b.stop(b, Code::app(9), "enough"), stopped.clone()),
        (|pair, (_, b)| pair.b.reset_tree(b, Code::app(9), "enough"), stopped),
        (
            |pair, (a, _)| pair.a.reset(a, Code::app(9), "enough"),
            WriteError::Closed,
        ),
        (
            |pair, _| pair.a.fail_all(&CloseReason::PeerRestarted),
            WriteError::Lost(CloseReason::PeerRestarted),
        ),
    ];
    for (end, error) in ends {
        let mut pair = Pair::new();
        let both_ends = pair.stream();
        let a = both_ends.0;
        // So much that credit does not suffice.
        pair.a.write_all(a, &[0; 500_000]);
        pair.run();
        assert_eq!(pair.a.progress(a), [Poll::Pending, Poll::Pending]);
        assert!(pair.a.unsent() > 0);
        end(&mut pair, both_ends);
        pair.run();
        let told = pair.a.events();
        for event in both(a) {
            assert_eq!(told.iter().filter(|e| **e == event).count(), 1, "{told:?}");
        }
        assert_eq!(pair.a.progress(a), [error.clone(), error].map(|e| Poll::Ready(Err(e))));
        assert_eq!(pair.a.info(a).unwrap().delivered, None);
        assert_eq!(pair.a.unsent(), 0);
        pair.a.release(a);
        assert_eq!(
            pair.a.progress(a),
            [WriteError::Closed, WriteError::Closed].map(|e| Poll::Ready(Err(e)))
        );
    }
}

#[test]
fn what_was_finished_stays_sent_and_acknowledged() {
    let mut pair = Pair::new();
    let (a, _) = pair.stream();
    pair.a.write_record(a, b"all").unwrap();
    pair.a.finish(a).unwrap();
    assert_eq!(pair.a.progress(a), [Poll::Pending, Poll::Pending]);
    pair.run();
    assert_eq!(pair.a.events(), both(a));
    pair.a.fail_all(&CloseReason::PeerRestarted);
    assert_eq!(pair.a.progress(a), [Poll::Ready(Ok(())), Poll::Ready(Ok(()))]);
    assert_eq!(pair.a.info(a).unwrap().delivered, Some(4), "the mark counts");
}

/// Streams of one host, and for which of them it waits for what.
struct World {
    pair: Pair,
    keys: Vec<StreamKey>,
    theirs: Vec<StreamKey>,
    written: Vec<u64>,
    waits: [Vec<bool>; 2],
}

impl World {
    fn new() -> Self {
        let mut pair = Pair::with_root(1 << 17);
        let (keys, theirs): (Vec<_>, Vec<_>) = (0..4).map(|_| pair.stream()).unzip();
        Self {
            pair,
            written: vec![0; keys.len()],
            waits: [vec![false; keys.len()], vec![false; keys.len()]],
            keys,
            theirs,
        }
    }

    /// A packet arrives, is acknowledged, and everything that can be is read.
    fn deliver(&mut self, packet: &Packet) {
        self.pair.b.take(packet).unwrap();
        self.pair.a.acked(packet);
        for key in &self.theirs {
            let (_, then) = self.pair.b.read_all(*key);
            assert_eq!(then, Poll::Pending);
        }
        if let Some(packet) = self.pair.b.packet(ROOM) {
            self.pair.a.take(&packet).unwrap();
            self.pair.b.acked(&packet);
        }
    }

    /// Returns whether a stream has come as far as each wait asks.
    fn has_come(&self, nth: usize) -> [bool; 2] {
        let info = self.pair.a.info(self.keys[nth]).unwrap();
        assert_eq!(info.unsent + info.in_flight, info.unacked);
        assert_eq!(info.delivered.unwrap() + info.unacked, self.written[nth]);
        [info.unsent == 0, info.unacked == 0]
    }

    fn write(&mut self, rng: &mut StdRng) {
        let nth = rng.random_range(0..self.keys.len());
        let n = rng.random_range(1..=3000);
        self.written[nth] += self.pair.a.write(self.keys[nth], &vec![0; n]).unwrap() as u64;
    }

    fn ask(&mut self, rng: &mut StdRng, seed: u64) {
        let nth = rng.random_range(0..self.keys.len());
        let answers = self
            .pair
            .a
            .progress(self.keys[nth])
            .map(|answer| answer.map(Result::unwrap).is_ready());
        assert_eq!(answers, self.has_come(nth), "seed {seed}");
        for (wait, answer) in self.waits.iter_mut().zip(answers) {
            wait[nth] |= !answer;
        }
    }

    /// Whoever waits was told if it has come so far, and nobody else.
    fn check(&mut self, seed: u64) {
        let told = self.pair.a.events();
        self.pair.a.check_unsent(&format!("seed {seed}"));
        for nth in 0..self.keys.len() {
            let has_come = self.has_come(nth);
            for (wait, event) in both(self.keys[nth]).into_iter().enumerate() {
                let is_due = self.waits[wait][nth] && has_come[wait];
                let times = told.iter().filter(|e| **e == event).count();
                assert_eq!(times, usize::from(is_due), "seed {seed}: {event:?} of {told:?}");
                self.waits[wait][nth] &= !is_due;
            }
        }
    }
}

#[test]
fn events_come_exactly_when_they_are_true() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        let mut wire = Vec::new();
        let mut told = 0;
        for _ in 0..3000 {
            match rng.random_range(0..8) {
                0 => world.write(&mut rng),
                1 => world.ask(&mut rng, seed),
                2..5 => wire.extend(world.pair.a.packet(ROOM)),
                _ if wire.is_empty() => {}
                _ => {
                    let packet = wire.swap_remove(rng.random_range(0..wire.len()));
                    if rng.random_ratio(1, 5) {
                        world.pair.a.lost(&packet);
                    } else {
                        world.deliver(&packet);
                    }
                }
            }
            let waited = world.waits.iter().flatten().filter(|w| **w).count();
            world.check(seed);
            told += waited - world.waits.iter().flatten().filter(|w| **w).count();
        }
        assert!(told > 10, "seed {seed}: {told}");
    }
}
