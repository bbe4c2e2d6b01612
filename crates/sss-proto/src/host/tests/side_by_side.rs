//! Channels side by side (MIG-25 to MIG-29, MIG-31): two hosts that reach each other directly and through two relays,
//! each of which may fail.

use sss_wire::reach::{RELAY_HEADER, relay_header};

use super::*;
use crate::config::Congestion;
use crate::ids::ListenerId;
use crate::route::{RelayHandle, RouteClass};

const HANDLES: [u32; 2] = [7, 9];
const MS: Duration = Duration::from_millis(1);
/// One-way delays.
const DIRECT: Duration = Duration::from_millis(10);
const BY_RELAY: Duration = Duration::from_millis(25);

/// A relay: the first, or the other one.
fn relay(n: u8) -> Link {
    Link::Udp(SocketAddr::from(([192, 0, 2, 9 + n], 443)))
}

fn by_relay() -> Route {
    Route::through(relay(0), RelayHandle(HANDLES[0]))
}

fn by_other() -> Route {
    Route::through(relay(1), RelayHandle(HANDLES[0]))
}

/// Datagram under way: when it arrives, at whom, over which link, and its bytes.
type UnderWay = (Instant, usize, Link, Vec<u8>);

/// Two hosts, and a conversation: the first writes numbered bytes, and the second reads them.
struct Pair {
    net: Net,
    under_way: Vec<UnderWay>,
    is_direct_up: bool,
    is_relay_up: bool,
    is_other_up: bool,
    /// The first host's packets get nowhere through the relay.
    is_first_cut: bool,
    /// The way through it, in one direction.
    by_relay: Duration,
    /// One datagram in so many is lost, at random; 0: none.
    loss: u32,
    rng: rand::rngs::StdRng,
    stream: StreamId,
    accepted: Option<StreamId>,
    /// Bytes that are written in a millisecond.
    pace: usize,
    written: usize,
    read: usize,
    /// The longest time without anything read.
    silence: Duration,
    last_read: Instant,
    /// Datagrams that were sent directly, and through each relay.
    sent: [usize; 3],
    /// HELLOs of them.
    hellos: [usize; 3],
    /// The longest that was sent through the relay.
    longest_relayed: usize,
}

/// The seed that `SSS_SEED` asks for, or so many as `SSS_SEEDS` does, or `count`.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    match number("SSS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SSS_SEEDS").unwrap_or(count),
    }
}

/// The byte at a position of the stream.
fn byte(n: usize) -> u8 {
    (n % 251) as u8
}

impl Pair {
    /// Begins through the relay, with the direct address known to the first if `knows_direct`.
    fn new(seed: u64, renew: Duration, knows_direct: bool) -> Self {
        let mut pair = Self::begun(seed, renew, by_relay());
        pair.run(SECOND);
        assert_eq!(pair.classes(), [RouteClass::Relay; 2]);
        if knows_direct {
            let (eid, now, address) = (pair.net.eid(1), pair.net.now, pair.net.nodes[1].address);
            pair.net.host(0).add_hints(now, &eid, &[address.into()]);
        }
        pair
    }

    /// The first host knows one route to the other.
    fn begun(seed: u64, renew: Duration, route: Route) -> Self {
        Self::configured(seed, route, |config| config.renew = renew)
    }

    fn configured(seed: u64, route: Route, change: impl Fn(&mut Config)) -> Self {
        let config = || Config::default().with(&change);
        let mut net = Net::with([config(), config()]);
        for (n, handle) in HANDLES.into_iter().enumerate() {
            let now = net.now;
            for link in [relay(0), relay(1)] {
                assert!(net.host(n).add_relay(now, link, RelayHandle(handle)));
            }
        }
        let (eid, now) = (net.eid(1), net.now);
        let stream = net.host(0).connect(now, eid, SERVICE, &[route]).unwrap();
        Self {
            // A little at a time: as much as both paths carry easily.
            pace: 100,
            last_read: net.now,
            net,
            under_way: Vec::new(),
            is_direct_up: true,
            is_relay_up: true,
            is_other_up: true,
            is_first_cut: false,
            by_relay: BY_RELAY,
            loss: 0,
            rng: rand::SeedableRng::seed_from_u64(seed),
            stream,
            accepted: None,
            written: 0,
            read: 0,
            silence: Duration::ZERO,
            sent: [0; 3],
            hellos: [0; 3],
            longest_relayed: 0,
        }
    }

    /// Begins through the relay, and goes on directly.
    fn upgraded(seed: u64) -> Self {
        let mut pair = Self::new(seed, Duration::ZERO, true);
        pair.run(SECOND);
        assert_eq!(pair.classes(), [RouteClass::Direct; 2], "seed {seed}");
        assert_eq!(pair.open(), [2, 2], "the relay's channel stands by, seed {seed}");
        pair
    }

    fn classes(&mut self) -> [RouteClass; 2] {
        [0, 1].map(|n| {
            let peer = self.net.peer(n, 1 - n);
            self.net.host(n).channel_info(peer).unwrap().route.class()
        })
    }

    fn open(&mut self) -> [usize; 2] {
        [0, 1].map(|n| {
            let peer = self.net.peer(n, 1 - n);
            self.net.host(n).peers.get_mut(peer).unwrap().open_channels()
        })
    }

    fn send(&mut self, n: usize) {
        let mut buf = TransmitBuf::new(8);
        loop {
            let transmit = match self.net.nodes[n].host.poll(self.net.now, &mut buf) {
                Output::Transmit(transmit) => transmit,
                Output::Event(event) => {
                    self.net.nodes[n].events.push(event);
                    continue;
                }
                Output::Wake(_) => return,
            };
            let way = [relay(0), relay(1)].iter().position(|link| transmit.link == *link);
            let (is_relayed, way) = (way.is_some(), way.map_or(0, |n| n + 1));
            let is_up = [self.is_direct_up, self.is_relay_up, self.is_other_up][way];
            let is_up = is_up && !(self.is_first_cut && (n, way) == (0, 1));
            for datagram in buf.filled().chunks(transmit.segment) {
                self.sent[way] += 1;
                if is_relayed {
                    self.longest_relayed = self.longest_relayed.max(datagram.len());
                }
                let packet = datagram.get(if is_relayed { RELAY_HEADER } else { 0 });
                self.hellos[way] += usize::from(packet == Some(&(sss_wire::long::Kind::Hello as u8)));
                let is_lost = self.loss > 0 && rand::RngExt::random_range(&mut self.rng, 0..self.loss) == 0;
                if !is_up || is_lost {
                    continue;
                }
                let (delay, link, bytes) = if is_relayed {
                    let packet = &datagram[RELAY_HEADER..];
                    let bytes = [&relay_header(HANDLES[1 - n])[..], packet].concat();
                    (self.by_relay, transmit.link, bytes)
                } else {
                    (DIRECT, Link::Udp(self.net.nodes[n].address), datagram.to_vec())
                };
                self.under_way.push((self.net.now + delay, 1 - n, link, bytes));
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.net.now;
        let (due, later) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|u| u.0 <= now);
        self.under_way = later;
        let due: Vec<UnderWay> = due;
        for (_, to, link, bytes) in due {
            let mut data = BytesMut::from(&bytes[..]);
            let batch = Batch {
                stride: data.len(),
                data: &mut data,
                lent: &mut None,
                link,
                local: None,
                ecn: Ecn::NotEct,
            };
            self.net.host(to).handle(now, Input::Datagrams(batch));
        }
    }

    /// The conversation goes on for so long, in steps of a millisecond.
    fn run(&mut self, time: Duration) {
        let end = self.net.now + time;
        while self.net.now < end {
            let now = self.net.now;
            let next: Vec<u8> = (self.written..self.written + self.pace).map(byte).collect();
            if let Poll::Ready(Ok(n)) = self.net.host(0).stream(self.stream).poll_write(&next) {
                self.written += n;
            }
            if self.accepted.is_none() {
                self.accepted = self.net.host(1).accept(ListenerId(0)).map(|(stream, _)| stream);
            }
            if let Some(stream) = self.accepted {
                while let Poll::Ready(outcome) = self.net.host(1).stream(stream).poll_read(now, 4096) {
                    let Ok(ReadOutcome::Chunk(bytes)) = outcome else {
                        panic!("the stream has ended: {outcome:?}");
                    };
                    let expected: Vec<u8> = (self.read..self.read + bytes.len()).map(byte).collect();
                    assert_eq!(*bytes, expected[..], "nothing is lost, doubled or out of order");
                    self.read += bytes.len();
                    self.silence = self.silence.max(now.since(self.last_read));
                    self.last_read = now;
                }
            }
            self.send(0);
            self.send(1);
            self.net.now = now + MS;
            self.deliver();
            for n in 0..2 {
                let now = self.net.now;
                self.net.host(n).handle(now, Input::Tick);
            }
        }
    }

    /// Runs on, and returns the longest time without anything read meanwhile.
    fn silence_of(&mut self, time: Duration) -> Duration {
        self.silence = Duration::ZERO;
        self.run(time);
        self.silence.max(self.net.now.since(self.last_read))
    }
}

// spec: MIG-25, MIG-28
#[test]
fn a_better_route_is_used_as_soon_as_it_is_known_and_the_relay_stands_by() {
    let mut pair = Pair::upgraded(1);
    let before = pair.sent[1];
    let silence = pair.silence_of(20 * SECOND);
    assert!(silence < 100 * MS, "{silence:?}");
    assert!(
        pair.sent[1] - before < 20,
        "{} through the relay",
        pair.sent[1] - before
    );
    // It is asked for signs of life, and outlives the idle timeout.
    let before = pair.sent[1];
    pair.run(120 * SECOND);
    let asked = pair.sent[1] - before;
    assert!((6..30).contains(&asked), "{asked} through the relay");
    assert_eq!((pair.open(), pair.classes()), ([2, 2], [RouteClass::Direct; 2]));
}

// spec: MIG-26
#[test]
fn the_relay_takes_over_when_the_direct_path_dies_and_gives_back_when_it_lives() {
    for seed in 0..4 {
        let mut pair = Pair::upgraded(seed);
        pair.is_direct_up = false;
        let silence = pair.silence_of(5 * SECOND);
        assert!(silence < 400 * MS, "{silence:?}, seed {seed}");
        assert_eq!(pair.classes(), [RouteClass::Relay; 2], "seed {seed}");
        pair.is_direct_up = true;
        let silence = pair.silence_of(10 * SECOND);
        assert!(silence < 200 * MS, "{silence:?}, seed {seed}");
        assert_eq!(pair.classes(), [RouteClass::Direct; 2], "seed {seed}");
    }
}

// spec: CHN-12, MIG-20
#[test]
fn the_end_does_not_wait_for_a_channel_that_is_slower_than_the_carrier() {
    let mut pair = Pair::upgraded(0);
    // Signs of life by the relay have waited for long on their way.
    pair.by_relay = SECOND * 3 / 4;
    pair.run(40 * SECOND);
    assert_eq!((pair.classes(), pair.open()), ([RouteClass::Direct; 2], [2, 2]));
    let now = pair.net.now;
    pair.net.host(0).shutdown(now);
    // Nobody reads any more.
    pair.accepted = None;
    pair.run(SECOND / 2);
    assert!(pair.net.host(0).is_idle());
}

// spec: MIG-26, MIG-28
#[test]
fn after_a_long_time_on_the_relay_a_new_direct_channel_is_made() {
    let mut pair = Pair::upgraded(1);
    pair.is_direct_up = false;
    pair.run(100 * SECOND);
    assert_eq!(
        (pair.open(), pair.classes()),
        ([1, 1], [RouteClass::Relay; 2]),
        "the direct one is gone"
    );
    pair.is_direct_up = true;
    pair.run(70 * SECOND);
    assert_eq!((pair.open(), pair.classes()), ([2, 2], [RouteClass::Direct; 2]));
}

// spec: CHN-8, MIG-29
#[test]
fn a_channel_through_a_known_relay_comes_to_stand_by_for_a_direct_one() {
    let direct = Net::new(2).nodes[1].address;
    let mut pair = Pair::begun(3, Duration::ZERO, direct.into());
    let eid = pair.net.eid(1);
    pair.net.host(0).note_relay(&eid, by_relay());
    pair.run(1900 * MS);
    assert_eq!(
        (pair.open(), pair.sent[1]),
        ([1, 1], 0),
        "a short conversation needs none"
    );
    pair.run(SECOND);
    assert_eq!((pair.open(), pair.classes()), ([2, 2], [RouteClass::Direct; 2]));
    assert!(pair.sent[1] < 20, "{}", pair.sent[1]);
    let hello = RELAY_HEADER + usize::from(sss_wire::constants::BASE_DATAGRAM);
    assert_eq!(pair.longest_relayed, hello, "it does not look for the size of its path");
    pair.is_direct_up = false;
    let silence = pair.silence_of(5 * SECOND);
    assert!(silence < 400 * MS, "{silence:?}");
    assert!(pair.longest_relayed > hello, "the carrier does");
    // Where it does not come to be, that is tried now and then.
    let mut pair = Pair::begun(3, Duration::ZERO, direct.into());
    pair.net.host(0).note_relay(&eid, by_relay());
    pair.is_relay_up = false;
    pair.run(60 * SECOND);
    assert!((4..30).contains(&pair.sent[1]), "{}", pair.sent[1]);
    pair.is_relay_up = true;
    pair.run(60 * SECOND);
    assert_eq!(pair.open(), [2, 2]);
}

/// A direct channel of which the responder alone knows a relay: it makes none to stand by. Then the direct way fails.
fn left_with_the_relay(seed: u64) -> Pair {
    let direct = Net::new(2).nodes[1].address;
    let mut pair = Pair::begun(seed, Duration::ZERO, direct.into());
    pair.run(SECOND);
    let eid = pair.net.eid(0);
    let route = Route::through(relay(0), RelayHandle(HANDLES[1]));
    pair.net.host(1).note_relay(&eid, route);
    pair.run(4 * SECOND);
    assert_eq!((pair.open(), pair.sent[1]), ([1, 1], 0));
    pair.is_direct_up = false;
    pair
}

// spec: MIG-29
#[test]
fn a_known_relay_is_tried_in_trouble_and_after_a_move() {
    let mut pair = left_with_the_relay(5);
    // Who sends nothing but acknowledgements notices by its own signs of life.
    pair.run(60 * SECOND);
    assert_eq!(pair.classes(), [RouteClass::Relay; 2], "in trouble");

    // The first attempt of the initiator to have one to stand by comes to nothing; the next is far away.
    let direct = Net::new(2).nodes[1].address;
    let mut pair = Pair::begun(6, Duration::ZERO, direct.into());
    let eid = pair.net.eid(1);
    pair.net.host(0).note_relay(&eid, by_relay());
    pair.is_relay_up = false;
    pair.run(4 * SECOND);
    assert_eq!(pair.open(), [1, 1]);
    (pair.is_direct_up, pair.is_relay_up) = (false, true);
    let now = pair.net.now;
    // It speaks with the relay from another address, which is what it was.
    pair.net.host(0).network_changed(now, |route, _| route.handle.is_none());
    pair.silence = Duration::ZERO;
    pair.run(SECOND);
    assert_eq!(pair.classes()[0], RouteClass::Relay, "who moved");
    assert!(pair.silence < SECOND / 5, "{:?}", pair.silence);
    // Who sends nothing but acknowledgements notices when it has credit to give.
    pair.run(2 * SECOND);
    assert_eq!(pair.classes(), [RouteClass::Relay; 2], "after a move");
}

// spec: MIG-11
#[test]
fn an_attempt_that_is_needed_does_not_wait_for_one_to_stand_by() {
    let direct = Net::new(2).nodes[1].address;
    let mut pair = Pair::begun(6, Duration::ZERO, direct.into());
    let eid = pair.net.eid(1);
    pair.net.host(0).note_relay(&eid, by_relay());
    pair.is_relay_up = false;
    let begun = pair.hellos[1];
    while pair.hellos[1] == begun {
        pair.run(10 * MS);
    }
    // It goes on for seconds, and the direct way is lost meanwhile.
    pair.is_direct_up = false;
    let before = pair.hellos;
    pair.run(2 * SECOND);
    assert!(
        pair.hellos[0] > before[0],
        "the direct way is tried, too: {:?}",
        pair.hellos
    );
}

// spec: RCH-19
#[test]
fn a_handle_is_left_behind_with_the_address_that_it_is_of() {
    let direct = Net::new(2).nodes[1].address;
    for stands_by in [false, true] {
        let mut pair = Pair::begun(6, Duration::ZERO, direct.into());
        let eid = pair.net.eid(1);
        pair.net.host(0).note_relay(&eid, by_relay());
        pair.is_relay_up = stands_by;
        pair.run(4 * SECOND);
        assert_eq!(pair.open(), [1 + usize::from(stands_by); 2]);
        (pair.is_direct_up, pair.is_relay_up) = (false, false);
        let now = pair.net.now;
        pair.net.host(0).network_changed(now, |_, _| true);
        let before = pair.sent;
        for _ in 0..100 {
            pair.send(0);
            pair.net.now = pair.net.now + Duration::from_millis(10);
            let now = pair.net.now;
            pair.net.host(0).run_timers(now);
        }
        assert!(pair.sent[0] > before[0], "it looks for the peer");
        assert_eq!(pair.sent[1], before[1], "an observer would know it by the handle");
    }
}

// spec: RCH-19, MIG-13
#[test]
fn an_attempt_under_way_leaves_its_handles_behind_as_well() {
    let mut pair = Pair::begun(6, Duration::ZERO, by_relay());
    (pair.is_direct_up, pair.is_relay_up) = (false, false);
    let (eid, now, direct) = (pair.net.eid(1), pair.net.now, pair.net.nodes[1].address);
    pair.net.host(0).add_hints(now, &eid, &[direct.into()]);
    pair.run(SECOND);
    assert!(pair.hellos[0] > 0 && pair.hellos[1] > 0, "{:?}", pair.hellos);
    let now = pair.net.now;
    pair.net.host(0).network_changed(now, |_, _| true);
    let before = (pair.hellos[0], pair.sent[1]);
    pair.run(10 * SECOND);
    assert!(pair.hellos[0] > before.0, "it looks for the peer");
    assert_eq!(pair.sent[1], before.1, "an observer would know it by the handle");
    // Another handle is another route.
    let now = pair.net.now;
    pair.net.host(0).add_hints(now, &eid, &[by_relay()]);
    pair.run(SECOND);
    assert!(pair.sent[1] > before.1);
}

// spec: RCH-16, MIG-29
#[test]
fn no_relay_is_used_before_there_is_a_channel() {
    let direct = Net::new(2).nodes[1].address;
    let mut pair = Pair::begun(8, Duration::ZERO, direct.into());
    pair.is_direct_up = false;
    let eid = pair.net.eid(1);
    pair.net.host(0).note_relay(&eid, by_relay());
    pair.run(4 * SECOND);
    assert!(pair.sent[0] > 2, "HELLO is repeated");
    assert_eq!(
        pair.sent[1], 0,
        "what reaches a peer first goes there with the introduction"
    );
    pair.is_direct_up = true;
    pair.run(10 * SECOND);
    assert_eq!((pair.open(), pair.classes()), ([2, 2], [RouteClass::Direct; 2]));
}

// spec: CHN-17, RCH-19
#[test]
fn a_relay_that_was_silent_for_long_is_tried_no_more() {
    let mut pair = left_with_the_relay(7);
    let now = pair.net.now;
    pair.net.host(1).remove_silent_relays(now, 5 * SECOND);
    pair.run(80 * SECOND);
    assert_eq!(pair.sent[1], 0);
}

// spec: MIG-28
#[test]
fn a_direct_way_that_was_heard_before_the_channel_was_made_is_tried_at_once() {
    let mut pair = Pair::begun(4, Duration::ZERO, by_relay());
    pair.is_direct_up = false;
    pair.run(50 * MS);
    let (eid, now, address) = (pair.net.eid(1), pair.net.now, pair.net.nodes[1].address);
    pair.net.host(0).note_open(now, &eid, address.into());
    pair.run(MS);
    pair.is_direct_up = true;
    pair.run(SECOND);
    assert_eq!((pair.open(), pair.classes()), ([2, 2], [RouteClass::Direct; 2]));
}

// spec: MIG-25, MIG-26
#[test]
fn a_relay_that_dies_while_it_stands_by_is_not_missed() {
    let mut pair = Pair::upgraded(1);
    pair.is_relay_up = false;
    let silence = pair.silence_of(120 * SECOND);
    assert!(silence < 100 * MS, "{silence:?}");
    assert_eq!((pair.open(), pair.classes()), ([1, 1], [RouteClass::Direct; 2]));
}

// spec: MIG-25, MIG-27
#[test]
fn each_class_renews_its_channel_by_itself() {
    let mut pair = Pair::new(1, 20 * SECOND, true);
    pair.run(100 * SECOND);
    assert_eq!(pair.classes(), [RouteClass::Direct; 2]);
    // Of each class one, and perhaps one that it replaces.
    assert!(pair.open().iter().all(|n| (2..=4).contains(n)), "{:?}", pair.open());
    let peer = pair.net.peer(0, 1);
    let made = pair.net.host(0).peer_stats(peer).unwrap().channels_made;
    assert!((8..20).contains(&made), "{made} channels");
}

// spec: MIG-5, MIG-7, MIG-26
#[test]
fn nothing_is_lost_whatever_fails_and_comes_back() {
    for seed in seeds(3) {
        let mut pair = Pair::new(seed, Duration::ZERO, true);
        pair.loss = 30;
        for _ in 0..8 {
            let random = |pair: &mut Pair, n: u32| rand::RngExt::random_range(&mut pair.rng, 0..n);
            match random(&mut pair, 4) {
                0 => pair.is_direct_up = false,
                1 => pair.is_relay_up = false,
                2 => (pair.is_direct_up, pair.is_relay_up) = (false, false),
                _ => (pair.is_direct_up, pair.is_relay_up) = (true, true),
            }
            let time = random(&mut pair, 3000);
            pair.run(time * MS);
            (pair.is_direct_up, pair.is_relay_up) = (true, true);
            let time = random(&mut pair, 3000);
            pair.run(time * MS);
        }
        (pair.loss, pair.is_direct_up, pair.is_relay_up) = (0, true, true);
        let before = pair.read;
        pair.run(15 * SECOND);
        assert!(
            pair.read > before + 100_000,
            "seed {seed}: {} bytes",
            pair.read - before
        );
        assert!(pair.read + 10_000 > pair.written, "seed {seed}");
        assert_eq!(
            (pair.net.ends(0).len() + pair.net.ends(1).len(), pair.classes()),
            (0, [RouteClass::Direct; 2]),
            "seed {seed}"
        );
    }
}

// spec: MIG-7
#[test]
fn what_a_channel_has_under_way_that_dies_after_it_carried_is_sent_again_soon() {
    for seed in seeds(8) {
        let mut pair = Pair::new(seed, Duration::ZERO, true);
        // The relay is gone just before the direct channel, which is being made, takes over.
        pair.run((10 + seed as u32 * 5) * MS);
        pair.is_relay_up = false;
        pair.silence = Duration::ZERO;
        pair.run(3 * SECOND);
        assert_eq!(pair.classes(), [RouteClass::Direct; 2]);
        assert!(
            pair.read + 10_000 > pair.written,
            "seed {seed}: {} of {}",
            pair.read,
            pair.written
        );
        assert!(pair.silence < SECOND, "seed {seed}: {:?}", pair.silence);
    }
}

/// Begins through one relay, and knows another one.
fn by_two_relays(seed: u64, renew: Duration) -> Pair {
    two_relays(Pair::begun(seed, renew, by_relay()))
}

fn two_relays(mut pair: Pair) -> Pair {
    pair.is_direct_up = false;
    let eid = pair.net.eid(1);
    pair.net.host(0).note_relay(&eid, by_relay());
    pair.net.host(0).note_relay(&eid, by_other());
    pair
}

/// By which relay each of the two sends.
fn links(pair: &mut Pair) -> [Link; 2] {
    [0, 1].map(|n| {
        let peer = pair.net.peer(n, 1 - n);
        pair.net.host(n).channel_info(peer).unwrap().route.link
    })
}

/// Times that the streams of each moved.
fn migrations(pair: &mut Pair) -> [u64; 2] {
    [0, 1].map(|n| {
        let peer = pair.net.peer(n, 1 - n);
        pair.net.host(n).peer_stats(peer).unwrap().migrations
    })
}

// spec: MIG-31
#[test]
fn another_relay_stands_by_and_takes_over_when_the_one_that_carries_is_gone() {
    for seed in seeds(8) {
        let mut pair = by_two_relays(seed, Duration::ZERO);
        pair.run(1900 * MS);
        assert_eq!(
            (pair.open(), pair.sent[2]),
            ([1, 1], 0),
            "a short conversation needs none"
        );
        let silence = pair.silence_of((1000 + seed as u32 * 7) * MS);
        assert!(silence < 60 * MS, "{silence:?}");
        assert_eq!((pair.open(), links(&mut pair)), ([2, 2], [relay(0); 2]), "seed {seed}");
        assert!((2..20).contains(&pair.sent[2]), "{}", pair.sent[2]);
        pair.is_relay_up = false;
        // A probe timeout and a packet's way; two of them, and an attempt, without the other relay.
        let silence = pair.silence_of(5 * SECOND);
        assert!(silence < 200 * MS, "{silence:?}, seed {seed}");
        assert_eq!(links(&mut pair), [relay(1); 2], "seed {seed}");
        // The first is back, and now stands by itself.
        pair.is_relay_up = true;
        pair.run(60 * SECOND);
        assert_eq!((pair.open(), links(&mut pair)), ([2, 2], [relay(1); 2]), "seed {seed}");
        assert_eq!(migrations(&mut pair), [1, 1], "seed {seed}");
        pair.is_other_up = false;
        let silence = pair.silence_of(5 * SECOND);
        assert!(silence < 200 * MS, "{silence:?}, seed {seed}");
        assert_eq!(links(&mut pair), [relay(0); 2], "seed {seed}");
    }
}

// spec: MIG-31, REC-10
#[test]
fn signs_of_life_tell_bbr_nothing_of_the_path_that_stands_by() {
    let change = |config: &mut Config| config.congestion = Congestion::Bbr;
    let mut pair = two_relays(Pair::configured(1, by_relay(), change));
    pair.pace = 300;
    pair.run(4 * SECOND);
    let id = pair.net.peer(0, 1);
    let asked = pair.sent[2];
    // So many that a pipe would be full.
    for _ in 0..12 {
        let host = pair.net.host(0);
        host.peers.get_mut(id).unwrap().ask_all();
        host.peers.settle(&mut host.local, id.index);
        pair.run(SECOND / 4);
    }
    assert!(pair.sent[2] >= asked + 12 * 2, "{} packets", pair.sent[2] - asked);
    assert_eq!((pair.open(), links(&mut pair)), ([2, 2], [relay(0); 2]));
    pair.is_relay_up = false;
    while links(&mut pair)[0] == relay(0) {
        pair.run(MS);
    }
    let info = pair.net.host(0).channel_info(id).unwrap();
    assert!(info.slow_start && info.rate > 250_000, "{info:?}");
    pair.run(SECOND);
    assert_eq!(links(&mut pair), [relay(1); 2]);
    assert!(pair.read + 30_000 > pair.written, "{} of {}", pair.read, pair.written);
}

// spec: MIG-31
#[test]
fn half_of_the_window_goes_along_to_another_relay() {
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        let change = |config: &mut Config| config.congestion = congestion;
        let mut pair = two_relays(Pair::configured(1, by_relay(), change));
        pair.pace = 1000;
        pair.run(4 * SECOND);
        let id = pair.net.peer(0, 1);
        pair.is_relay_up = false;
        let mut outstanding = 0;
        for _ in 0..200 {
            let info = pair.net.host(0).channel_info(id).unwrap();
            if info.route.link == relay(1) {
                break;
            }
            outstanding = info.in_flight.min(info.window);
            pair.run(MS);
        }
        assert!(outstanding > 50_000, "{outstanding} bytes");
        let info = pair.net.host(0).channel_info(id).unwrap();
        assert_eq!(info.route.link, relay(1), "{congestion:?}");
        assert!(info.window >= outstanding / 2 - 2000, "{congestion:?}: {}", info.window);
        assert!(info.window < outstanding, "{congestion:?}: {}", info.window);
    }
}

// spec: MIG-26, MIG-31
#[test]
fn a_relay_by_which_something_comes_is_not_left_for_another() {
    let mut pair = by_two_relays(1, Duration::ZERO);
    pair.run(3 * SECOND);
    let asked = pair.sent[2];
    // Nothing is acknowledged for so long, and the peer says a word now and then.
    pair.is_first_cut = true;
    for _ in 0..6 {
        let stream = pair.accepted.unwrap();
        let written = pair.net.host(1).stream(stream).poll_write(b"x");
        assert!(matches!(written, Poll::Ready(Ok(1))), "{written:?}");
        pair.run(35 * MS);
    }
    assert!(pair.sent[2] > asked, "it is overdue");
    pair.is_first_cut = false;
    pair.run(SECOND);
    assert_eq!((links(&mut pair), migrations(&mut pair)), ([relay(0); 2], [0, 0]));
}

// spec: MIG-8, MIG-31
#[test]
fn whoever_has_all_channels_stand_by_has_no_more_of_them() {
    let mut pair = by_two_relays(1, Duration::ZERO);
    pair.run(SECOND);
    let mut most = 0;
    for _ in 0..16 {
        pair.net.renew();
        let (now, id) = (pair.net.now, pair.net.peer(0, 1));
        pair.net.host(0).handle(now, Input::Tick);
        pair.net.host(0).peers.get_mut(id).unwrap().pretend_standby(relay(0));
        for _ in 0..150 {
            pair.run(MS);
            pair.net.host(0).peers.get_mut(id).unwrap().keep_all_channels();
            most = most.max(pair.open()[1]);
        }
    }
    assert_eq!(most, sss_wire::constants::MAX_CHANNELS);
    let id = pair.net.peer(0, 1);
    let made = pair.net.host(0).peer_stats(id).unwrap().channels_made;
    assert!(made > 10, "{made} channels");
    assert_eq!((links(&mut pair), migrations(&mut pair)), ([relay(0); 2], [0, 0]));
}

// spec: MIG-31
#[test]
fn loss_moves_no_stream_from_one_relay_to_another() {
    for seed in seeds(4) {
        let mut pair = by_two_relays(seed, Duration::ZERO);
        pair.run(3 * SECOND);
        pair.loss = 50;
        pair.run(60 * SECOND);
        assert_eq!((pair.open(), migrations(&mut pair)), ([2, 2], [0, 0]), "seed {seed}");
    }
}

// spec: MIG-27, MIG-31
#[test]
fn another_relay_costs_no_more_than_any_that_stands_by() {
    let mut pair = by_two_relays(1, 50 * SECOND);
    pair.run(3 * SECOND);
    let before = pair.sent[2];
    pair.run(40 * SECOND);
    assert!((1..8).contains(&(pair.sent[2] - before)), "{}", pair.sent[2] - before);
    // It is renewed with the carrier: that one is another, and it is made again.
    pair.run(172 * SECOND);
    assert_eq!(pair.open(), [2, 2]);
    let peer = pair.net.peer(0, 1);
    let made = pair.net.host(0).peer_stats(peer).unwrap().channels_made;
    assert!((8..=10).contains(&made), "{made} channels");
    // Beside a direct channel, one of the two is enough.
    let mut pair = by_two_relays(1, Duration::ZERO);
    pair.run(4 * SECOND);
    let (eid, now, address) = (pair.net.eid(1), pair.net.now, pair.net.nodes[1].address);
    pair.is_direct_up = true;
    pair.net.host(0).add_hints(now, &eid, &[address.into()]);
    pair.run(SECOND);
    assert_eq!((pair.open(), pair.classes()), ([3, 3], [RouteClass::Direct; 2]));
    pair.run(100 * SECOND);
    assert_eq!((pair.open(), pair.classes()), ([2, 2], [RouteClass::Direct; 2]));
}

// spec: MIG-11, MIG-31
#[test]
fn another_relay_that_is_known_is_tried_as_soon_as_the_carrier_is_stalled() {
    for seed in seeds(4) {
        let mut pair = by_two_relays(seed, Duration::ZERO);
        pair.run((1000 + seed as u32 * 7) * MS);
        assert_eq!(pair.open(), [1, 1]);
        pair.is_relay_up = false;
        let silence = pair.silence_of(3 * SECOND);
        assert!(silence < 650 * MS, "{silence:?}, seed {seed}");
        assert_eq!(links(&mut pair), [relay(1); 2], "seed {seed}");
        assert_eq!(pair.hellos[0], 0, "the direct way is not known");
    }
}

// spec: MIG-5, MIG-7, MIG-31
#[test]
fn nothing_is_lost_whichever_of_two_relays_fails_and_comes_back() {
    for seed in seeds(4) {
        let mut pair = by_two_relays(seed, 20 * SECOND);
        pair.run(SECOND);
        pair.loss = 30;
        for _ in 0..12 {
            let random = |pair: &mut Pair, n: u32| rand::RngExt::random_range(&mut pair.rng, 0..n);
            match random(&mut pair, 4) {
                0 => pair.is_relay_up = false,
                1 => pair.is_other_up = false,
                2 => (pair.is_relay_up, pair.is_other_up) = (false, false),
                _ => {}
            }
            let time = random(&mut pair, 3000);
            pair.run(time * MS);
            (pair.is_relay_up, pair.is_other_up) = (true, true);
            let time = random(&mut pair, 3000);
            pair.run(time * MS);
        }
        pair.loss = 0;
        let before = pair.read;
        pair.run(15 * SECOND);
        assert!(
            pair.read > before + 100_000,
            "seed {seed}: {} bytes",
            pair.read - before
        );
        assert!(pair.read + 10_000 > pair.written, "seed {seed}");
        assert_eq!(pair.net.ends(0).len() + pair.net.ends(1).len(), 0, "seed {seed}");
        assert!(pair.open().iter().all(|n| (1..=4).contains(n)), "{:?}", pair.open());
    }
}
