//! Whole channels: protection, recovery, address, MTU, and their ends, by traces between two ends.

mod ends;
mod protection;
mod recovery;
mod rest;
mod succession;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_crypto::Suite;

use super::testing::{End, addr, at, at_us, config, established, pair, settle, token_number};
use super::{Channel, ChannelConfig, TimerEvent};
use crate::time::Instant;

#[test]
fn an_idle_channel_is_small() {
    // Beside this: the congestion controller; and, in use, what the cryptographic library needs for four keys.
    assert!(size_of::<Channel>() <= 1440, "{}", size_of::<Channel>());
}

/// A link that loses, delays and reorders at random.
struct Link {
    rng: StdRng,
    loss: f64,
    /// Packets on their way: when they arrive, whether they go to the responder, and their bytes.
    wire: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    count: u64,
}

impl Link {
    fn send(&mut self, now: Instant, to_responder: bool, packet: Vec<u8>) {
        self.count += 1;
        if self.rng.random_bool(self.loss) {
            return;
        }
        let mut delay = 5000;
        if self.rng.random_bool(0.01) {
            delay += self.rng.random_range(0..2000);
        }
        self.wire
            .insert((now + Duration::from_micros(delay), self.count), (to_responder, packet));
    }
}

/// Fates of the tokens of one end.
#[derive(Default)]
struct Ledger {
    acked: HashSet<u64>,
    lost: HashSet<u64>,
}

impl Ledger {
    fn take(&mut self, end: &mut End) {
        for fate in end.fates.drain(..) {
            let number = token_number(&fate.token);
            if fate.acked {
                assert!(self.acked.insert(number), "token {number} acknowledged twice");
            } else {
                assert!(
                    !self.acked.contains(&number),
                    "token {number} lost after it was acknowledged"
                );
                assert!(self.lost.insert(number), "token {number} lost twice");
            }
        }
    }
}

/// Sends `packets` full packets each way over a lossy link, then waits until everything is settled. Returns the ends.
fn exchange(seed: u64, packets: u64, loss: f64, config: ChannelConfig) -> (End, End) {
    println!("seed {seed}");
    let start = at(1000);
    let (mut a, mut b) = established(start, Duration::from_millis(10), config, Suite::Aes256Gcm);
    let mut link = Link {
        rng: StdRng::seed_from_u64(seed),
        loss,
        wire: BTreeMap::new(),
        count: 0,
    };
    let mut ledgers = (Ledger::default(), Ledger::default());
    let mut received = [HashSet::new(), HashSet::new()];
    let mut now = start;
    loop {
        for (is_initiator, end) in [(true, &mut a), (false, &mut b)] {
            assert_eq!(end.tick(now), TimerEvent::None);
            while let Some((packet, _)) = end.alone(now) {
                link.send(now, is_initiator, packet);
            }
            while end.tokens_used() < packets
                && let Some(packet) = end.full_if_allowed(now)
            {
                link.send(now, is_initiator, packet);
            }
            while let Some(packet) = end.control(now) {
                link.send(now, is_initiator, packet);
            }
        }
        ledgers.0.take(&mut a);
        ledgers.1.take(&mut b);
        let settled = |ledger: &Ledger| ledger.acked.union(&ledger.lost).count() as u64 == packets;
        if settled(&ledgers.0) && settled(&ledgers.1) {
            break;
        }
        let arrival = link.wire.keys().next().map(|k| k.0);
        let timer = a.channel.next_timer().into_iter().chain(b.channel.next_timer()).min();
        now = arrival
            .into_iter()
            .chain(timer)
            .min()
            .expect("something happens")
            .max(now);
        while let Some(entry) = link.wire.first_entry()
            && entry.key().0 <= now
        {
            let (to_responder, packet) = entry.remove();
            let (end, from, seen) = if to_responder {
                (&mut b, a.address, &mut received[0])
            } else {
                (&mut a, b.address, &mut received[1])
            };
            let taken = end.take(now, &packet, from).unwrap();
            assert!(
                seen.insert(taken.opened.seq),
                "number {} opened twice",
                taken.opened.seq
            );
        }
    }
    for ledger in [&ledgers.0, &ledgers.1] {
        // What was neither lost nor only late must have been acknowledged.
        assert!(ledger.acked.len() as f64 > packets as f64 * (1.0 - 2.0 * loss - 0.05));
    }
    (a, b)
}

// spec: PRT-4, REC-2, REC-3, REC-5
#[test]
fn every_token_has_one_fate_over_a_lossy_link() {
    let config = ChannelConfig {
        max_datagram: 1472,
        ..config()
    };
    let (a, b) = exchange(1, 50_000, 0.02, config);
    for end in [&a, &b] {
        let info = end.channel.info();
        assert_eq!(info.mtu, 1472, "the probes got through");
        assert!(info.packets_lost > 500 && info.packets_lost < 2500, "{info:?}");
        assert!(info.min_rtt.unwrap() >= Duration::from_millis(10));
        assert!(info.rtt < Duration::from_millis(40), "{info:?}");
    }
}

#[test]
fn a_channel_tells_what_it_delivers_and_loses() {
    let (a, b) = exchange(2, 20_000, 0.05, config());
    for end in [&a, &b] {
        let info = end.channel.info();
        assert!(info.bandwidth > 0 && info.bandwidth <= info.peak_bandwidth, "{info:?}");
        let lost = info.bytes_sent - info.bytes_delivered;
        assert!(lost > info.bytes_sent / 40 && lost < info.bytes_sent / 5, "{info:?}");
        assert!((5_000..200_000).contains(&info.recent_loss_ppm), "{info:?}");
        assert_eq!(info.in_flight == 0, info.in_flight_packets == 0, "{info:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = |seed| {
        let (a, b) = exchange(seed, 2000, 0.05, config());
        (a.channel.info(), b.channel.info())
    };
    assert_eq!(run(3), run(3));
}

#[test]
fn packets_that_are_only_late_do_not_shrink_the_window() {
    let (a, _) = exchange(5, 5000, 0.0, config());
    let info = a.channel.info();
    assert!(info.window > 200_000, "{info:?}");
    assert_eq!(info.packets_lost, info.false_losses);
}
