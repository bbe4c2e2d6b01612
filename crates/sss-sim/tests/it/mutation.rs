//! Every bit flip and every truncation of each packet of the negotiation is dropped, and changes nothing: the true
//! packet works afterwards.
//!
//! The host under test gets all mutations of a packet one after the other, then the true packet, all at one moment:
//! what any of them left behind would show in the next. Where a field is outside of what the protocol can authenticate
//! (NEG-5, and all of RETRY, VERSION and PROBE), the test says what is allowed instead of silence.

use sss_proto::{Config, Event};
use sss_sim::world::Recorder;
use sss_sim::{Captured, HostIndex, LinkConfig, World};
use sss_wire::long;

use crate::support::{
    A, ACCEPT, B, COOKIE, COOKIE_K, HELLO, HELLO_K, INITIATE, PROBE, PROBE_REPLY, RETRY, SERVICE, VERSION, connected,
    duo_with, ms, secs, state,
};

/// A host that does not answer RETRY however many HELLOs come, and says who it is.
fn patient() -> Config {
    Config::default().with(|c| {
        c.hello_threshold = u32::MAX;
        c.answer_probes = true;
    })
}

struct Bench {
    world: World,
    recorder: Recorder,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut world = duo_with(seed, &LinkConfig::with_delay(ms(10)), patient(), patient());
        for host in [A, B] {
            world.call(host, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        }
        world.capture();
        Self {
            world,
            recorder: Recorder::default(),
        }
    }

    /// A connects to B, but the first packet of type `kind` is taken out of the network, and returned.
    fn up_to(seed: u64, kind: u8) -> (Self, Captured) {
        let mut bench = Self::new(seed);
        bench.world.hold(move |c| c.kind() == kind);
        let stream = bench.world.connect(A, B, SERVICE);
        bench.world.write(A, stream, b"early data").unwrap();
        bench.world.run_for(ms(45), &mut bench.recorder);
        let held = bench.world.unhold().into_iter().next().expect("the packet was sent");
        bench.world.captured();
        (bench, held)
    }

    /// Gives a datagram to a host; what the host sends at once.
    fn give(&mut self, to: HostIndex, from: std::net::SocketAddr, bytes: &[u8]) -> Vec<Captured> {
        self.world.inject(to, from, bytes);
        self.world.run_for(ms(0), &mut self.recorder);
        assert_eq!(self.world.fault(), None);
        let host = self.world.address(to);
        self.world.captured().into_iter().filter(|c| c.from == host).collect()
    }

    /// Demands that `bytes` change nothing.
    fn demand_silence(&mut self, to: HostIndex, held: &Captured, bytes: &[u8], what: &str) {
        let before = (state(&self.world, to), self.recorder.events.len());
        let sent = self.give(to, held.from, bytes);
        assert_eq!(sent, [], "{what} is answered");
        assert_eq!(
            (state(&self.world, to), self.recorder.events.len()),
            before,
            "{what} changes something"
        );
    }

    /// All truncations, and all flips of single bits outside of `open`.
    fn demand_silence_for_all(&mut self, to: HostIndex, held: &Captured, open: std::ops::Range<usize>) {
        let name = format!("{:02x}", held.kind());
        for len in 1..held.bytes.len() {
            self.demand_silence(to, held, &held.bytes[..len], &format!("{name} cut to {len}"));
        }
        for bit in 0..held.bytes.len() * 8 {
            if !open.contains(&(bit / 8)) {
                self.demand_silence(
                    to,
                    held,
                    &flip(&held.bytes, bit),
                    &format!("{name} with bit {bit} flipped"),
                );
            }
        }
        let mut longer = held.bytes.clone();
        longer.push(0);
        self.demand_silence(to, held, &longer, &format!("{name} with a byte more"));
    }

    /// The true packet arrives: the channel comes up on both sides, once.
    fn demand_success(&mut self, to: HostIndex, held: &Captured) {
        self.world.inject(to, held.from, &held.bytes);
        self.world.run_for(secs(30), &mut self.recorder);
        for host in [A, B] {
            assert_eq!(connected(&self.recorder, host), 1);
            assert_eq!(self.world.host(host).stats().channels_made, 1);
        }
    }
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

// spec: NEG-2, NEG-9, OVR-2
#[test]
fn threat_15_16_hello() {
    let (mut bench, held) = Bench::up_to(41, HELLO);
    assert_eq!(held.bytes.len(), 1232);
    // 1..5 is the version, 13..29 the token; neither is in the transcript.
    bench.demand_silence_for_all(B, &held, 1..29);
    for bit in 5 * 8..13 * 8 {
        bench.demand_silence(B, &held, &flip(&held.bytes, bit), "HELLO with another attempt");
    }
    let before = state(&bench.world, B);
    for bit in 8..5 * 8 {
        let answer = bench.give(B, held.from, &flip(&held.bytes, bit));
        assert_eq!(answer.iter().map(Captured::kind).collect::<Vec<_>>(), [VERSION]);
    }
    for bit in 13 * 8..29 * 8 {
        let answer = bench.give(B, held.from, &flip(&held.bytes, bit));
        assert_eq!(answer.iter().map(Captured::kind).collect::<Vec<_>>(), [COOKIE]);
    }
    assert_eq!(state(&bench.world, B), before);
    bench.demand_success(B, &held);
}

// spec: NEG-6
#[test]
fn threat_15_16_cookie() {
    let (mut bench, held) = Bench::up_to(42, COOKIE);
    bench.demand_silence_for_all(A, &held, 0..0);
    bench.demand_success(A, &held);
}

// spec: NEG-2
#[test]
fn threat_15_16_hello_k() {
    let (mut bench, held) = Bench::up_to(52, HELLO_K);
    // The version and the type of KEM. Nothing authenticates the rest: whoever changes it gets a COOKIE_K for himself,
    // and the host keeps nothing of it.
    bench.demand_silence_for_all(B, &held, 5..held.bytes.len());
    for bit in 45 * 8..46 * 8 {
        bench.demand_silence(B, &held, &flip(&held.bytes, bit), "HELLO_K of another KEM");
    }
    let before = state(&bench.world, B);
    for bit in (5 * 8..45 * 8).chain((46 * 8..held.bytes.len() * 8).step_by(61)) {
        let answer = bench.give(B, held.from, &flip(&held.bytes, bit));
        assert!(
            answer
                .iter()
                .all(|c| c.kind() == COOKIE_K && c.bytes.len() < held.bytes.len())
        );
        assert!(answer.len() <= 1);
    }
    assert_eq!(state(&bench.world, B), before);
    bench.demand_success(B, &held);
}

// spec: NEG-32, NEG-33
#[test]
fn threat_15_16_cookie_k() {
    let (mut bench, held) = Bench::up_to(53, COOKIE_K);
    bench.demand_silence_for_all(A, &held, 0..0);
    bench.demand_success(A, &held);
}

// spec: NEG-9, NEG-10
#[test]
fn threat_15_16_initiate() {
    let (mut bench, held) = Bench::up_to(43, INITIATE);
    bench.demand_silence_for_all(B, &held, 0..0);
    bench.demand_success(B, &held);
}

// spec: NEG-9
#[test]
fn threat_06_initiate_from_another_address_or_port() {
    let (mut bench, held) = Bench::up_to(44, INITIATE);
    for other in ["10.0.0.1:4001", "10.0.0.3:4000"] {
        let moved = Captured {
            from: other.parse().unwrap(),
            ..held.clone()
        };
        bench.demand_silence(B, &moved, &held.bytes, "INITIATE from elsewhere");
    }
    bench.demand_success(B, &held);
}

// spec: NEG-17
#[test]
fn threat_15_16_accept() {
    let (mut bench, held) = Bench::up_to(45, ACCEPT);
    bench.demand_silence_for_all(A, &held, 0..0);
    bench.demand_success(A, &held);
}

/// A RETRY as B would send it for A's attempt.
fn retry_for(hello: &Captured) -> Captured {
    let attempt = hello.bytes[5..13].try_into().unwrap();
    Captured {
        from: hello.to,
        to: hello.from,
        bytes: long::retry(1, &attempt, &[7; 16]),
        ..hello.clone()
    }
}

// spec: NEG-12
#[test]
fn threat_15_16_retry() {
    let (mut bench, hello) = Bench::up_to(46, HELLO);
    let held = retry_for(&hello);
    // 1..5 is the version, which says nothing more here; 13..29 the token, which only its maker can check.
    bench.demand_silence_for_all(A, &held, 1..29);
    for bit in 5 * 8..13 * 8 {
        bench.demand_silence(A, &held, &flip(&held.bytes, bit), "RETRY for another attempt");
    }
    // A wrong token is put into HELLO, at most three times; whatever it is, the true HELLO works.
    let mut answers = 0;
    for bit in 13 * 8..29 * 8 {
        let bytes = flip(&held.bytes, bit);
        let sent = bench.give(A, held.from, &bytes);
        assert!(
            sent.iter()
                .all(|c| c.kind() == HELLO && c.bytes[13..29] == bytes[13..29])
        );
        assert!(
            sent.iter()
                .all(|c| c.bytes[..13] == hello.bytes[..13] && c.bytes[29..] == hello.bytes[29..])
        );
        answers += sent.len();
    }
    assert_eq!(answers, 3);
    bench.demand_success(B, &hello);
}

// spec: NEG-13
#[test]
fn threat_15_16_version() {
    let (mut bench, hello) = Bench::up_to(47, HELLO);
    let mut other = hello.bytes.clone();
    other[1..5].copy_from_slice(&9u32.to_be_bytes());
    let held = bench.give(B, hello.from, &other).remove(0);
    assert_eq!(held.kind(), VERSION);
    for len in 1..held.bytes.len() {
        bench.demand_silence(A, &held, &held.bytes[..len], "VERSION cut");
    }
    for bit in 0..held.bytes.len() * 8 {
        bench.demand_silence(A, &held, &flip(&held.bytes, bit), "VERSION with a bit flipped");
    }
    // However often it was told that B speaks other versions: the true answer wins.
    bench.demand_silence(A, &held, &held.bytes, "VERSION that names the version in use");
    bench.demand_success(B, &hello);
}

// spec: NEG-13
#[test]
fn forged_version_alone_ends_the_attempt_after_three_seconds() {
    let (mut bench, hello) = Bench::up_to(48, HELLO);
    bench.world.hold(|c| c.kind() == HELLO);
    let attempt = hello.bytes[5..13].try_into().unwrap();
    let forged = long::version(&attempt, &[9, 8]);
    let start = bench.world.elapsed();
    assert_eq!(bench.give(A, hello.to, &forged), []);
    let mut ended = None;
    while ended.is_none() && bench.world.step(start + secs(60), &mut bench.recorder) {
        ended = bench.recorder.events.iter().find_map(|(_, event)| match event {
            Event::Disconnected(_, _, reason) => Some(reason.to_string()),
            _ => None,
        });
    }
    let took = bench.world.elapsed();
    assert!((ms(2900)..ms(3500)).contains(&took), "{took:?}");
    let text = ended.expect("the attempt fails");
    assert!(text.contains('9') && text.contains("version"), "{text}");
}

fn probe_of(bench: &mut Bench) -> Captured {
    bench.world.hold(|c| matches!(c.kind(), PROBE | PROBE_REPLY));
    let address = bench.world.address(B);
    bench.world.call(A, |h, _| h.probe(address.into()));
    bench.world.run_for(ms(20), &mut bench.recorder);
    bench.world.captured();
    bench.world.unhold().remove(0)
}

// spec: NEG-14, NEG-3
#[test]
fn threat_15_16_probe() {
    let mut bench = Bench::new(49);
    let held = probe_of(&mut bench);
    assert_eq!(held.bytes.len(), 64);
    // Nothing but the type says what a good PROBE is; the nonce comes back, the rest is padding.
    bench.demand_silence_for_all(B, &held, 1..64);
    let before = state(&bench.world, B);
    for bit in 8..64 * 8 {
        let bytes = flip(&held.bytes, bit);
        let sent = bench.give(B, held.from, &bytes);
        assert!(
            sent.iter()
                .all(|c| c.kind() == PROBE_REPLY && c.bytes.len() == 46 && c.bytes[5..13] == bytes[5..13])
        );
        assert!(sent.len() <= 1);
    }
    assert_eq!(state(&bench.world, B), before);
    assert!(
        !bench
            .recorder
            .events
            .iter()
            .any(|(_, e)| matches!(e, Event::ProbeReply(..)))
    );
    bench.world.inject(B, held.from, &held.bytes);
    bench.world.run_for(ms(50), &mut bench.recorder);
    let (eid, address) = (bench.world.eid(B), bench.world.address(B));
    assert_eq!(bench.recorder.events, [(A, Event::ProbeReply(address.into(), eid))]);
}

// spec: NEG-14
#[test]
fn threat_15_16_probe_reply() {
    let mut bench = Bench::new(50);
    let probe = probe_of(&mut bench);
    let held = bench.give(B, probe.from, &probe.bytes).remove(0);
    assert_eq!(held.kind(), PROBE_REPLY);
    // It is on its way now; the flips come first. 1..5 is the version, 14..46 the key, which nothing authenticates.
    bench.demand_silence_for_all(A, &held, 1..46);
    for bit in 5 * 8..14 * 8 {
        bench.demand_silence(
            A,
            &held,
            &flip(&held.bytes, bit),
            "PROBE_REPLY with another nonce or type of EID",
        );
    }
    let elsewhere = Captured {
        from: "10.0.0.9:4000".parse().unwrap(),
        ..held.clone()
    };
    bench.demand_silence(A, &elsewhere, &held.bytes, "PROBE_REPLY from elsewhere");
    bench.world.run_for(ms(50), &mut bench.recorder);
    let (eid, address) = (bench.world.eid(B), bench.world.address(B));
    assert_eq!(bench.recorder.events, [(A, Event::ProbeReply(address.into(), eid))]);
    bench.demand_silence(A, &held, &held.bytes, "a second PROBE_REPLY");
}

// spec: NEG-2
#[test]
fn retries_are_never_sent_for_what_is_no_hello() {
    let (mut bench, held) = Bench::up_to(51, HELLO);
    for kind in [RETRY, VERSION, COOKIE, ACCEPT, PROBE_REPLY, 0x81, 0x85, 0x8a, 0xff] {
        let mut bytes = held.bytes.clone();
        bytes[0] = kind;
        bench.demand_silence(B, &held, &bytes, "a packet of another type");
    }
}
