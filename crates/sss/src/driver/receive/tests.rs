use std::net::UdpSocket;

use sss_wire::long::Kind;

use super::super::socket;
use super::*;

// Threat 2.
// spec: NEG-39
#[tokio::test]
async fn threat_02_packets_of_channels_are_taken_in_before_a_flood_that_came_first() {
    let mut ours = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 4 << 20).unwrap()).unwrap();
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
    let (mut others, mut first) = (0, None);
    for _ in 0..110 {
        for kind in std::iter::repeat_n(0x80, 10).chain([0x40]) {
            theirs.send_to(&[kind; 100], ours.local_addr()).unwrap();
        }
        let mut arrived = 0;
        while arrived < 11 {
            std::future::poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
            let Ok(filled) = receiver.fill(&mut ours) else {
                continue;
            };
            arrived += receiver
                .meta
                .iter()
                .take(filled)
                .map(|meta| meta.len / 100)
                .sum::<usize>();
            receiver.stage(filled, None, &mut stats);
            // What the core is given at once, and before anything that waits.
            for staged in receiver.staged.drain(..) {
                assert_eq!(staged.data[0], 0x40);
                others += 1;
            }
        }
        first = first.or(receiver.negotiation.front().map(|staged| staged.data[0]));
    }
    assert_eq!((others, first), (110, Some(0x80)));
    assert!(receiver.has_waiting());
    let waiting: usize = receiver.negotiation.iter().map(|staged| staged.data.len() / 100).sum();
    assert_eq!(
        receiver.negotiation.len(),
        MAX_WAITING,
        "and no more, however long the flood lasts"
    );
    assert_eq!(waiting as u64 + stats.receive_dropped, 1100);
}

// spec: NEG-39
#[tokio::test]
async fn the_negotiation_waits_for_some_rounds_that_are_full_and_not_for_ever() {
    let mut receiver = Receiver::new();
    for _ in 0..2 * usize::from(MAX_FULL_ROUNDS) {
        assert!(receiver.yields_to(true));
        if receiver.full_rounds == MAX_FULL_ROUNDS {
            break;
        }
    }
    assert!(!receiver.yields_to(true), "its turn, after so many");
    assert!(receiver.yields_to(true));
    assert!(!receiver.yields_to(false), "its turn, when there is nothing else");
}

/// A batch of one datagram.
fn alone(kind: u8) -> Staged {
    let mut meta = RecvMeta::default();
    (meta.len, meta.stride) = (50, 50);
    Staged::new(&meta, [kind; 50][..].into(), Origin::Slab)
}

#[test]
fn answers_of_a_negotiation_that_take_long_end_a_round_and_nothing_else_does() {
    let core = sss_proto::Host::new(
        sss_proto::Config::default(),
        sss_crypto::StaticKey::from_bytes([1; 32]),
        [7; 32],
    );
    let shared = Shared::new(core, ([127, 0, 0, 1], 1).into());
    let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
    receiver.rounds = Rounds::new().with_slow_negotiation();
    let short = 0x40;
    for kind in [short, short, Kind::Initiate as u8, short, Kind::Accept as u8, short] {
        receiver.put(alone(kind), &mut stats);
    }
    let mut left = Vec::new();
    while !receiver.staged.is_empty() {
        let fed = receiver.feed(&shared, 1000);
        left.push((receiver.staged.len(), fed));
    }
    assert_eq!(left, [(3, 1000), (1, 1000), (0, 50)]);
    let kinds = [Kind::Initiate, Kind::Hello, Kind::Hello, Kind::Initiate, Kind::Hello];
    for kind in kinds {
        receiver.negotiation.push_back(alone(kind as u8));
    }
    let mut left = Vec::new();
    while !receiver.negotiation.is_empty() {
        receiver.negotiate(&shared);
        left.push(receiver.negotiation.len());
    }
    assert_eq!(left, [4, 1, 0]);
}

#[test]
fn a_round_ends_by_what_answers_take_and_not_by_what_comes_between_them() {
    let clock = Cell::new(0);
    let rounds = Rounds::new().on_one_thread(true);
    let mut answering = Answering::default();
    let mut takes = |is_costly, micros: u64| {
        let now = || Instant::from_nanos(clock.get() * 1000);
        answering.feed(&rounds, is_costly, now, || clock.set(clock.get() + micros))
    };
    // Much of others, and what only seems to be an answer.
    assert!(!takes(false, 10_000_000));
    for _ in 0..20 {
        assert!(!takes(true, 1) && !takes(false, 400));
    }
    assert!(takes(true, 40));
}

// Threat 2.
// spec: NEG-39
#[test]
fn threat_02_what_is_in_one_batch_gains_nothing() {
    let core = sss_proto::Host::new(
        sss_proto::Config::default(),
        sss_crypto::StaticKey::from_bytes([1; 32]),
        [7; 32],
    );
    let shared = Shared::new(core, ([127, 0, 0, 1], 1).into());
    const SHORT: u8 = 0x40;
    let kinds = |staged: &VecDeque<Staged>| -> Vec<Vec<u8>> {
        let of = |staged: &Staged| staged.datagrams().map(|datagram| datagram[0]).collect();
        staged.iter().map(of).collect()
    };
    for origin in [Origin::Slab, Origin::Buffer] {
        let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
        receiver.rounds = Rounds::new().with_slow_negotiation();
        let [hello, initiate, accept] = [Kind::Hello, Kind::Initiate, Kind::Accept].map(|kind| kind as u8);
        let batch = |receiver: &mut Receiver, kinds: &[u8], stats: &mut SocketStats| {
            let bytes: Vec<u8> = kinds.iter().flat_map(|kind| [*kind; 50]).collect();
            let mut meta = RecvMeta::default();
            meta.stride = 50;
            receiver.sort(Staged::new(&meta, bytes[..].into(), origin), stats);
        };
        // Behind a packet that seems to be of a channel, and behind one that few are let pass of.
        batch(&mut receiver, &[SHORT, SHORT, hello, hello, SHORT], &mut stats);
        batch(&mut receiver, &[initiate, hello, accept, accept, SHORT], &mut stats);
        let expected: [&[u8]; 5] = [&[SHORT, SHORT], &[SHORT], &[initiate], &[accept, accept], &[SHORT]];
        assert_eq!(kinds(&receiver.staged), expected);
        let expected: [&[u8]; 2] = [&[hello, hello], &[hello]];
        assert_eq!(kinds(&receiver.negotiation), expected);
        // Time is looked at behind each that may take long.
        let mut left = Vec::new();
        while !receiver.staged.is_empty() {
            receiver.feed(&shared, 10_000);
            left.push(receiver.staged.len());
        }
        assert_eq!(left, [2, 2, 1, 0]);
        receiver.negotiation.clear();
        // And each counts.
        batch(&mut receiver, &[initiate; 60], &mut stats);
        let left: Vec<usize> = [&receiver.staged, &receiver.negotiation]
            .map(kinds)
            .iter()
            .flatten()
            .map(Vec::len)
            .collect();
        assert_eq!(left, [MAX_INITIATES - 1, 61 - MAX_INITIATES]);
        let mut rounds = 0;
        while !receiver.negotiation.is_empty() {
            receiver.negotiate(&shared);
            rounds += 1;
        }
        assert_eq!(rounds, 61 - MAX_INITIATES);
    }
}

// spec: NEG-39
#[tokio::test]
async fn what_begins_a_channel_is_taken_in_before_what_follows_on_it() {
    let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
    let short = 0x40;
    for kind in [
        Kind::Hello as u8,
        Kind::Initiate as u8,
        short,
        Kind::Accept as u8,
        short,
    ] {
        receiver.put(alone(kind), &mut stats);
    }
    let kinds: Vec<u8> = receiver.staged.iter().map(|staged| staged.data[0]).collect();
    assert_eq!(kinds, [Kind::Initiate as u8, short, Kind::Accept as u8, short]);
    assert_eq!(receiver.negotiation.len(), 1);
    // Not many strangers at once.
    for _ in 0..100 {
        receiver.put(alone(Kind::Initiate as u8), &mut stats);
    }
    assert_eq!(receiver.staged.len(), 3 + MAX_INITIATES);
    // What others have read comes whatever waits.
    for _ in 0..2 * MAX_WAITING {
        receiver.put(alone(short), &mut stats);
    }
    assert_eq!(receiver.staged.len(), MAX_WAITING);
    assert!(stats.receive_dropped > 0);
}

#[test]
fn a_round_takes_whole_datagrams_and_leaves_the_rest_in_order() {
    let mut meta = RecvMeta::default();
    (meta.len, meta.stride) = (250, 100);
    let bytes: Vec<u8> = (0..250).collect();
    let mut batch = Staged::new(&meta, bytes[..].into(), Origin::Slab);
    let rest = batch.split_off(101).unwrap();
    assert_eq!((&batch.data[..], &rest.data[..]), (&bytes[..200], &bytes[200..]));
    assert_eq!((batch.stride, rest.stride), (100, 100));
    assert!(batch.split_off(101).is_none(), "the second datagram has begun");
    assert!(
        Staged::new(&meta, bytes[..].into(), Origin::Buffer)
            .split_off(100)
            .is_none()
    );
}

// Threat 48.
// spec: NEG-42
#[tokio::test]
async fn threat_48_what_another_shard_does_not_take_is_dropped_and_counted() {
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    let mut members = Member::group(3, 4).into_iter();
    let mut with_place = || Receiver::new().with_place(members.next());
    let (mut first, mut second, third) = (with_place(), with_place(), with_place());
    drop(third);
    let short = |mark: u8| [0x40, 1, 2, 3, 4, mark, 5, 6];
    let batch = |marks: &[u8]| {
        let datagrams: Vec<u8> = marks.iter().copied().flat_map(short).collect();
        let mut meta = RecvMeta::default();
        meta.stride = 8;
        Staged::new(&meta, datagrams[..].into(), Origin::Slab)
    };
    let mut stats = SocketStats::default();
    // All of it is its own: it stays one batch.
    first.sort(batch(&[0, 3, 6]), &mut stats);
    assert_eq!((first.staged.len(), stats.handed_over), (1, 0));
    first.sort(batch(&[9, 1, 12, 2, 4]), &mut stats);
    assert_eq!(
        (first.staged.len(), stats.handed_over, stats.receive_dropped),
        (3, 2, 1)
    );
    // What asks for one that is gone is answered.
    let hello = [0x80, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0];
    let meta = RecvMeta::default();
    first.sort(
        Staged {
            stride: 13,
            ..Staged::new(&meta, hello[..].into(), Origin::Slab)
        },
        &mut stats,
    );
    assert_eq!((first.negotiation.len(), stats.receive_dropped), (1, 1));
    let core = sss_proto::Host::new(
        sss_proto::Config::default(),
        sss_crypto::StaticKey::from_bytes([1; 32]),
        [7; 32],
    );
    let shared = Shared::new(core, ([127, 0, 0, 1], 1).into());
    assert!(second.has_waiting());
    second.take_handed(cx, &shared, &mut stats);
    let taken: Vec<u8> = second.staged.drain(..).map(|staged| staged.data[5]).collect();
    assert_eq!((taken, second.has_waiting()), (vec![1, 4], false));
    // One that takes nothing for a while.
    let mut stats = SocketStats::default();
    (0..3000).for_each(|_| first.sort(batch(&[1]), &mut stats));
    assert_eq!((stats.handed_over, stats.receive_dropped), (1024, 1976));
    let mut rounds = 0;
    while second.has_waiting() {
        // The runtime lets a task take so much at a time.
        tokio::task::yield_now().await;
        second.take_handed(cx, &shared, &mut stats);
        assert!(second.staged.drain(..).count() <= MAX_TAKEN);
        rounds += 1;
    }
    assert!(rounds >= 8, "others have their turn");
}
