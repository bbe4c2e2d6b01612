use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ids::StreamKey;

const DATA: Flags = Flags(1 | 2);
const QUIET: Flags = Flags(0);
const AGE: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn token(n: u32) -> Token {
    Token::Stop(StreamKey {
        index: n,
        generation: 0,
    })
}

/// A ring of `n` packets of 1000 bytes, one sent each millisecond, with a token named by its number.
fn ring(n: u32) -> SentRing {
    let mut ring = SentRing::default();
    for i in 0..n {
        ring.push(at(u64::from(i)), 1000, DATA, &[token(i)]);
    }
    ring
}

fn ack(ring: &mut SentRing, ranges: &[RangeInclusive<u64>]) -> (Vec<Fate>, Vec<u64>) {
    let mut fates = Vec::new();
    let mut seen = Vec::new();
    let mut sink = Sink::new(&mut fates);
    let largest = *ranges[0].end();
    for range in ranges {
        ring.check(range).unwrap();
        ring.ack(range, &mut sink, |p| seen.push(p.seq));
    }
    ring.acked_through(largest);
    (fates, seen)
}

/// Returns what is lost when packets sent at `sent_before` or earlier are too old.
fn lose(ring: &mut SentRing, threshold: u64, sent_before: Option<Instant>) -> (Vec<u64>, Option<Instant>) {
    let rule = LossRule {
        largest_acked: ring.largest_acked().unwrap(),
        threshold,
        now: sent_before.unwrap_or_default() + AGE,
        age: if sent_before.is_some() { AGE } else { AGE * 2 },
    };
    let mut fates = Vec::new();
    let mut seen = Vec::new();
    let left = ring.detect_lost(rule, &mut Sink::new(&mut fates), |p, _| seen.push(p.seq));
    assert!(fates.iter().all(|f| !f.acked));
    (seen, left)
}

fn acked(n: u32) -> Fate {
    Fate {
        token: token(n),
        acked: true,
    }
}

#[test]
fn records_are_small() {
    assert!(size_of::<Record>() <= 24);
    assert!(size_of::<Token>() <= 32);
}

#[test]
fn ranges_settle_each_packet_once() {
    let mut ring = ring(10);
    assert_eq!(ring.in_flight(), 10_000);
    let (fates, seen) = ack(&mut ring, &[7..=8, 2..=4]);
    assert_eq!(seen, [7, 8, 2, 3, 4]);
    assert_eq!(fates, [7, 8, 2, 3, 4].map(acked));
    let (fates, seen) = ack(&mut ring, &[6..=9, 0..=4]);
    assert_eq!(seen, [6, 9, 0, 1]);
    assert_eq!(fates, [6, 9, 0, 1].map(acked));
    assert_eq!((ring.in_flight(), ring.base), (1000, 5));
    let (_, seen) = ack(&mut ring, &[0..=9]);
    assert_eq!(seen, [5]);
    assert_eq!((ring.in_flight(), ring.records.len(), ring.tokens.len()), (0, 0, 0));
    assert!(!ring.has_eliciting());
    assert_eq!(ack(&mut ring, &[0..=9]).1, [0_u64; 0]);
}

// spec: REC-2
#[test]
fn three_numbers_older_is_lost() {
    let mut ring = ring(10);
    ack(&mut ring, &[4..=4]);
    let (lost, left) = lose(&mut ring, 3, None);
    assert_eq!(lost, [0, 1], "distances 4 and 3; 2 is at distance 2");
    assert_eq!(left, Some(at(2)));
    assert_eq!(ring.in_flight(), 7000);
    // Lost packets are settled: their tokens never come again.
    assert_eq!(ack(&mut ring, &[0..=4]).1, [2, 3]);
}

// spec: REC-2
#[test]
fn older_than_the_time_threshold_is_lost() {
    let mut ring = ring(10);
    ack(&mut ring, &[5..=5]);
    let (lost, left) = lose(&mut ring, 100, Some(at(3)));
    assert_eq!((lost, left), (vec![0, 1, 2, 3], Some(at(4))));
    let (lost, left) = lose(&mut ring, 100, Some(at(100)));
    assert_eq!(
        (lost, left),
        (vec![4], None),
        "nothing above the largest acknowledged is lost"
    );
}

// spec: REC-2, CHN-6
#[test]
fn skipped_numbers_do_not_count_as_distance() {
    let mut ring = ring(2);
    ring.skip();
    ring.skip();
    ring.push(at(5), 1000, DATA, &[]);
    ring.push(at(6), 1000, DATA, &[]);
    assert_eq!(ring.next(), 6);
    ack(&mut ring, &[4..=4]);
    let (lost, _) = lose(&mut ring, 3, None);
    assert!(lost.is_empty(), "packet 0 is at distance 2 without the skipped numbers");
    ack(&mut ring, &[5..=5]);
    assert_eq!(lose(&mut ring, 3, None).0, [0]);
}

// spec: CHN-6
#[test]
fn numbers_never_sent_are_told() {
    let mut ring = ring(5);
    ring.skip();
    ring.push(at(5), 1000, DATA, &[]);
    assert_eq!(ring.check(&(0..=4)), Ok(()));
    assert_eq!(ring.check(&(6..=6)), Ok(()));
    assert_eq!(ring.check(&(5..=6)), Err(NeverSent));
    assert_eq!(ring.check(&(6..=7)), Err(NeverSent));
    ack(&mut ring, &[6..=6, 0..=4]);
    assert_eq!(ring.check(&(0..=6)), Err(NeverSent), "even when the record is gone");
}

#[test]
fn a_skipped_number_at_the_front_does_not_confuse_the_count_of_holes() {
    let mut ring = ring(2);
    ring.skip();
    ack(&mut ring, &[0..=1]);
    ring.push(at(5), 1000, DATA, &[]);
    ring.push(at(6), 1000, DATA, &[]);
    assert_eq!(ring.holes(), 0);
    ack(&mut ring, &[4..=4]);
    assert_eq!(ring.holes(), 1);
    assert_eq!(ack(&mut ring, &[3..=4]).1, [3]);
    assert_eq!(ring.holes(), 0);
}

// spec: REC-4
#[test]
fn repeating_gives_tokens_out_once_and_they_may_still_be_acknowledged() {
    let mut ring = ring(5);
    let mut fates = Vec::new();
    ring.repeat_oldest(2, &mut Sink::new(&mut fates));
    let lost = |n| Fate {
        token: token(n),
        acked: false,
    };
    assert_eq!(fates, [lost(0), lost(1)]);
    assert_eq!(ring.in_flight(), 5000);
    fates.clear();
    ring.repeat_oldest(2, &mut Sink::new(&mut fates));
    assert_eq!(fates, [lost(2), lost(3)]);
    assert_eq!(ack(&mut ring, &[4..=4, 1..=1]).0, [acked(4), acked(1)]);
    fates.clear();
    let rule = LossRule {
        largest_acked: 4,
        threshold: 1,
        now: at(0),
        age: AGE,
    };
    let mut seen = 0;
    ring.detect_lost(rule, &mut Sink::new(&mut fates), |_, _| seen += 1);
    assert_eq!((seen, fates.len()), (3, 0), "lost, but told before");
}

#[test]
fn packets_that_need_no_acknowledgement_do_not_pile_up() {
    let mut ring = SentRing::default();
    for i in 0..10_000 {
        ring.push(at(i), 50, QUIET, &[Token::Ack { largest: i }]);
        assert!(ring.records.len() <= MAX_QUIET);
    }
    assert_eq!(ring.next(), 10_000);
    let mut fates = Vec::new();
    let mut sink = Sink::new(&mut fates);
    ring.ack(&(9990..=9990), &mut sink, |_| {});
    assert_eq!(sink.ack_acked, Some(9990));
    assert!(fates.is_empty());
}

#[test]
fn abandoning_gives_everything_out() {
    let mut ring = ring(5);
    ack(&mut ring, &[1..=1]);
    let mut fates = Vec::new();
    ring.abandon(&mut Sink::new(&mut fates));
    assert_eq!(fates.len(), 4);
    assert_eq!((ring.next(), ring.in_flight(), ring.has_eliciting()), (5, 0, false));
}

#[test]
fn an_idle_ring_gives_its_memory_back() {
    let mut ring = ring(10_000);
    ack(&mut ring, &[0..=9999]);
    assert!(ring.records.capacity() >= 10_000);
    ring.shrink();
    assert_eq!(ring.records.capacity() + ring.tokens.capacity(), 0);
}

// Threat 21: a peer acknowledges the same packets again and again, in ranges of all kinds, and one of them never.
// spec: CHN-5
#[test]
fn threat_21_saying_again_what_is_known_causes_no_work() {
    const PACKETS: u64 = 50_000;
    let mut ring = SentRing::default();
    for _ in 0..PACKETS {
        ring.push(
            Instant::default(),
            1200,
            Flags::ELICITING.with(Flags::COUNTED, true),
            &[],
        );
    }
    let mut fates = Vec::new();
    let mut told = 0;
    let mut ack = |ring: &mut SentRing, range: RangeInclusive<u64>| {
        let before = ring.steps;
        ring.check(&range).unwrap();
        ring.ack(&range, &mut Sink::new(&mut fates), |_| told += 1);
        ring.acked_through(*range.end());
        ring.steps - before
    };
    // A little more at a time, always from the beginning, and then the same.
    let mut rng = StdRng::seed_from_u64(21);
    let mut steps = 0;
    for high in (10..PACKETS).step_by(10) {
        steps += ack(&mut ring, 1..=high);
    }
    assert!(steps as u64 <= 2 * PACKETS, "{steps} steps");
    let whole = (0..10_000).map(|_| ack(&mut ring, 1..=PACKETS - 10)).sum::<usize>();
    assert!(whole <= 20_000, "{whole} steps for 10,000 acknowledgements");
    let parts = (0..10_000).map(|_| {
        let low = rng.random_range(1..PACKETS - 10);
        ack(&mut ring, low..=rng.random_range(low..PACKETS - 10))
    });
    let parts = parts.sum::<usize>();
    assert!(parts <= 100_000, "{parts} steps for 10,000 acknowledgements");
    assert_eq!(told, PACKETS - 10);
    assert_eq!((ring.outstanding, ring.in_flight), (10, 12_000));
}
