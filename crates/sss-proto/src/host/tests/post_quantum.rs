//! The post-quantum leg: who gets it, and that nobody on the way can take it away.

use sss_wire::ChannelId;
use sss_wire::long::{self, Initiate, Long};
use sss_wire::params::CookieParams;

use super::*;
use crate::config::PostQuantum::{self, Off, Preferred, Required};
use crate::error::NegotiationError;

const HELLO_K: u8 = 0x81;
const RETRY: u8 = 0x82;
const PROBE: u8 = 0x88;
const COOKIE_K: u8 = 0x85;

/// Two hosts; the first is to connect to the second.
fn pair(initiator: PostQuantum, responder: PostQuantum) -> Net {
    let config = |policy| Config::default().with(|config| config.post_quantum = policy);
    Net::with([config(initiator), config(responder)])
}

/// Returns whether the channel that a host has with the other has the leg; `None` if it has no channel.
fn legs(net: &mut Net, n: usize) -> Option<bool> {
    let eid = net.eid(1 - n);
    let id = net.host(n).peers().into_iter().find(|(_, e)| *e == eid)?.0;
    let info = net.host(n).channel_info(id)?;
    Some(info.post_quantum)
}

fn is_up(net: &Net) -> bool {
    net.nodes[0].events.iter().any(|e| matches!(e, Event::Connected(..)))
}

/// Outcome after a second: whether the channel has the leg, or why there is none.
fn outcome(initiator: PostQuantum, responder: PostQuantum) -> Result<bool, CloseReason> {
    let mut net = pair(initiator, responder);
    net.connect(0, 1);
    net.run(SECOND, |_| true);
    if let Some(reason) = net.ends(0).pop() {
        assert!(net.host(1).peers().is_empty(), "the responder keeps nothing");
        return Err(reason);
    }
    assert!(is_up(&net));
    let have = legs(&mut net, 0);
    assert_eq!(legs(&mut net, 1), have, "both say the same");
    Ok(have.expect("a channel"))
}

// spec: NEG-29
#[test]
fn pairs_of_policies_connect_as_in_the_table() {
    let off = Err(NegotiationError::PostQuantumOff.into());
    let missing = Err(NegotiationError::PostQuantumMissing.into());
    let table = [
        (Required, [Ok(true), Ok(true), missing]),
        (Preferred, [Ok(true), Ok(true), Ok(false)]),
        (Off, [off, Ok(false), Ok(false)]),
    ];
    for (initiator, row) in table {
        for (responder, expected) in PostQuantum::ALL.into_iter().zip(row) {
            assert_eq!(outcome(initiator, responder), expected, "{initiator}, {responder}");
        }
    }
}

fn kinds(net: &Net) -> Vec<u8> {
    net.sent.iter().map(|p| p.2[0]).filter(|kind| kind >> 7 != 0).collect()
}

// spec: NEG-30, NEG-31
#[test]
fn the_leg_takes_two_packets_and_no_round_trip() {
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    net.run(SECOND, |_| true);
    assert_eq!(kinds(&net), [HELLO, HELLO_K, COOKIE, COOKIE_K, INITIATE, ACCEPT]);
    let sizes: Vec<usize> = net.sent.iter().take(4).map(|p| p.2.len()).collect();
    assert_eq!(sizes[..2], [long::HELLO_SIZE, long::HELLO_K_SIZE]);
    // NEG-3
    assert!(sizes[2] < sizes[0] && sizes[3] < sizes[1], "{sizes:?}");
    for policy in [Off, Preferred] {
        let mut net = pair(policy, Off);
        net.connect(0, 1);
        net.run(SECOND, |_| true);
        let asked = kinds(&net).contains(&HELLO_K);
        assert_eq!((asked, kinds(&net).contains(&COOKIE_K)), (policy == Preferred, false));
    }
}

// spec: NEG-9, NEG-34
#[test]
fn initiate_holds_both_cookies_and_most_of_a_datagram_of_early_data() {
    let mut net = pair(Required, Required);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(&[7; 4096]));
    net.run(SECOND, |_| true);
    let packet = net.sent.iter().find(|p| p.2[0] == INITIATE).unwrap();
    let Ok(Long::Initiate(initiate)) = Long::parse(&packet.2) else {
        panic!("not INITIATE");
    };
    assert_eq!(packet.2.len(), long::BASE_DATAGRAM);
    assert!(!initiate.kem.is_empty());
    let frames = initiate.sealed_frames.len() - 16;
    assert!((900..1000).contains(&frames), "{frames} bytes of frames");
}

// spec: NEG-9, NEG-31
#[test]
fn threat_03_a_responder_keeps_nothing_for_hello_k() {
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    let sent = net.poll(0);
    let hello_k = sent.iter().find(|p| p.2[0] == HELLO_K).unwrap();
    for n in 0..500_u64 {
        let mut packet = hello_k.clone();
        packet.2[5..13].copy_from_slice(&n.to_be_bytes());
        net.deliver(&packet);
        let replies = net.poll(1);
        assert_eq!(replies.len(), 1);
        assert!(replies[0].2[0] == COOKIE_K && replies[0].2.len() < packet.2.len());
    }
    assert!(net.host(1).peers().is_empty());
}

/// Runs while somebody on the way does something, and then without them. Returns what the hosts have in the end, and
/// makes sure that they never had a channel without the leg.
fn attacked(mut net: Net, time: Duration, mut attack: impl FnMut(&mut Packet) -> bool) -> Net {
    net.connect(0, 1);
    let end = net.now + time;
    let calm = end + Duration::from_secs(30);
    while net.now < calm {
        loop {
            let mut packets: Vec<Packet> = (0..2).flat_map(|n| net.poll(n)).collect();
            net.sent.extend_from_slice(&packets);
            if net.now < end {
                packets.retain_mut(&mut attack);
            }
            if packets.is_empty() {
                break;
            }
            packets.iter().for_each(|packet| net.deliver(packet));
            for n in 0..2 {
                assert_ne!(legs(&mut net, n), Some(false), "a channel without the leg");
            }
        }
        if is_up(&net) {
            break;
        }
        net.now = net.now + Duration::from_millis(100);
    }
    net
}

// spec: NEG-29, NEG-33
#[test]
fn threat_10_dropped_packets_delay_and_never_downgrade() {
    for kind in [HELLO, HELLO_K, COOKIE, COOKIE_K, INITIATE, ACCEPT] {
        let net = attacked(pair(Preferred, Preferred), 5 * SECOND, |packet| packet.2[0] != kind);
        assert!(is_up(&net), "{kind:#04x}");
    }
}

// spec: NEG-33
#[test]
fn threat_10_without_cookie_k_there_is_no_channel_and_a_reason() {
    for kind in [HELLO_K, COOKIE_K] {
        for policy in [Required, Preferred] {
            let mut net = pair(policy, Preferred);
            net.connect(0, 1);
            net.run(61 * SECOND, |packet| packet.2[0] != kind);
            assert!(!kinds(&net).contains(&INITIATE));
            match &net.ends(0)[..] {
                [CloseReason::Negotiation(NegotiationError::PostQuantumUnanswered { address, .. })] => {
                    assert_eq!(*address, net.nodes[1].address.to_string());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

// spec: NEG-29, NEG-32, NEG-33
#[test]
fn threat_10_edited_packets_delay_and_never_downgrade() {
    // The size of each packet, as it is when nobody interferes.
    let mut plain = pair(Preferred, Preferred);
    plain.connect(0, 1);
    plain.run(SECOND, |_| true);
    for kind in [HELLO, HELLO_K, COOKIE, COOKIE_K, INITIATE, ACCEPT] {
        let len = plain.sent.iter().find(|p| p.2[0] == kind).unwrap().2.len();
        // Every byte of the fields at both ends, and some of what is sealed or random between.
        let bytes = (0..len).filter(|i| *i < 64 || len - i <= 64 || i % 61 == 0);
        for (n, at) in bytes.enumerate() {
            let net = attacked(pair(Preferred, Preferred), 3 * SECOND / 2, |packet| {
                if packet.2[0] == kind {
                    packet.2[at] ^= 1 << (n % 8);
                }
                true
            });
            assert!(is_up(&net), "{kind:#04x}, byte {at}");
        }
    }
}

/// Fakes of an answer to HELLO_K: a ciphertext for its key, whose secret the faker knows, and all else made up.
fn fakes(hello_k: &[u8], count: u8) -> Vec<Vec<u8>> {
    let Ok(Long::HelloK(hello_k)) = Long::parse(hello_k) else {
        panic!("not HELLO_K");
    };
    let fake = |n| {
        let (ciphertext, _) = sss_crypto::kem::encapsulate(hello_k.key, [n; 32]).unwrap();
        let mut packet = long::cookie_k_without_mac(hello_k.version, hello_k.attempt, &ciphertext, &[n; 61]);
        packet.extend_from_slice(&[n; 16]);
        packet
    };
    (0..count).map(fake).collect()
}

/// Connects while fakes arrive in front of each answer for which `before` says so. Returns after how many ms it was up.
fn with_fakes(count: u8, before: impl Fn(u8) -> bool) -> u64 {
    let mut net = pair(Preferred, Preferred);
    net.connect(0, 1);
    let (start, mut hello_k) = (net.now, Vec::new());
    while !is_up(&net) && net.now.since(start) < 5 * SECOND {
        loop {
            let packets: Vec<Packet> = (0..2).flat_map(|n| net.poll(n)).collect();
            if packets.is_empty() {
                break;
            }
            for packet in packets {
                let kind = packet.2[0];
                if kind == HELLO_K {
                    hello_k.clone_from(&packet.2);
                }
                if matches!(kind, COOKIE | COOKIE_K) && before(kind) {
                    let fakes = fakes(&hello_k, count).into_iter();
                    fakes.for_each(|fake| net.deliver(&(packet.0, packet.1, fake)));
                }
                net.deliver(&packet);
            }
        }
        net.now = net.now + Duration::from_millis(10);
    }
    assert_eq!((legs(&mut net, 0), legs(&mut net, 1)), (Some(true), Some(true)));
    u64::try_from(net.now.since(start).as_millis()).unwrap()
}

// spec: NEG-32, NEG-33
#[test]
fn threat_17_three_fakes_of_cookie_k_first_cost_nothing() {
    let undisturbed = with_fakes(0, |_| false);
    assert_eq!(with_fakes(3, |kind| kind == COOKIE), undisturbed);
    // Behind COOKIE each is found out at once, however many there are.
    assert_eq!(with_fakes(100, |kind| kind == COOKIE_K), undisturbed);
    assert_eq!(with_fakes(3, |_| true), undisturbed);
}

// spec: NEG-33
#[test]
fn threat_17_the_true_cookie_k_is_kept_among_fakes_until_cookie_comes() {
    // COOKIE_K overtakes COOKIE, and three fakes stand before it, or behind it.
    for fakes_first in [true, false] {
        let mut net = pair(Required, Required);
        net.connect(0, 1);
        let hellos = net.poll(0);
        hellos.iter().for_each(|packet| net.deliver(packet));
        let answers = net.poll(1);
        let [cookie, cookie_k] = &answers[..] else {
            panic!("{} answers", answers.len());
        };
        let fakes = fakes(&hellos[1].2, 3).into_iter();
        let fakes: Vec<Packet> = fakes.map(|fake| (cookie.0, cookie.1, fake)).collect();
        let order: Vec<&Packet> = match fakes_first {
            true => fakes.iter().chain([cookie_k, cookie]).collect(),
            false => [cookie_k].into_iter().chain(&fakes).chain([cookie]).collect(),
        };
        order.into_iter().for_each(|packet| net.deliver(packet));
        let initiate = net.poll(0);
        assert_eq!(initiate.iter().map(|p| p.2[0]).collect::<Vec<_>>(), [INITIATE]);
    }
}

// spec: NEG-33
#[test]
fn cookie_k_counts_for_the_cookie_of_its_host_only() {
    // The responder is restarted between the two: what it sends from then on belongs together.
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    net.run(SECOND / 10, |packet| packet.2[0] != COOKIE_K);
    let config = Config::default().with(|config| config.post_quantum = Required);
    net.nodes[1].host = Host::new(config, StaticKey::from_bytes([2; 32]), [77; 32]);
    net.host(1).listen(SERVICE.0, SERVICE.1).unwrap();
    net.run(2 * SECOND, |_| true);
    assert!(is_up(&net));
    assert_eq!(legs(&mut net, 0), Some(true));
}

// spec: NEG-32
#[test]
fn another_hello_of_the_same_attempt_learns_no_key_of_cookie_k() {
    // Somebody on the way, at the address of the initiator, asks with a HELLO of its own and the attempt of the other.
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    let hellos = net.poll(0);
    let attempt: [u8; 8] = hellos[0].2[5..13].try_into().unwrap();
    let params = |packet: &[u8], noise: &sss_crypto::noise::Initiator<sss_crypto::noise::SentHello>| {
        let Ok(Long::Cookie(cookie)) = Long::parse(packet) else {
            panic!("not COOKIE");
        };
        let (_, payload) = noise.read_cookie(cookie.e, cookie.sealed).unwrap();
        CookieParams::decode(&payload).unwrap()
    };
    let prologue = [b"SSS negotiation ", &1_u32.to_be_bytes()[..], &attempt].concat();
    let key = StaticKey::from_bytes([2; 32]).public();
    let mut payload = vec![1, 4, 0, 0, 0, 1, 2, 2, 2, 1, 4, 1, 1];
    payload.resize(long::HELLO_PAYLOAD, 0);
    let mut keys = Vec::new();
    for e in [8, 9, 8] {
        let mut message = Vec::new();
        let noise = sss_crypto::noise::Initiator::start(&prologue, &key, [e; 32], &payload, &mut message).unwrap();
        let hello = long::hello(1, &attempt, &[0; 16], &message);
        net.deliver(&(hellos[0].0, hellos[0].1, hello));
        let answer = net.poll(1).pop().unwrap();
        keys.push(params(&answer.2, &noise).kem.unwrap());
    }
    assert_ne!(keys[0], keys[1], "another HELLO");
    assert_eq!(keys[0], keys[2], "the same HELLO");
}

/// INITIATE of a host, and the responder to which it is to go, with nothing delivered since.
fn initiate_of(net: &mut Net) -> Packet {
    net.connect(0, 1);
    loop {
        let packets: Vec<Packet> = (0..2).flat_map(|n| net.poll(n)).collect();
        assert!(!packets.is_empty());
        if let Some(initiate) = packets.iter().find(|p| p.2[0] == INITIATE) {
            return initiate.clone();
        }
        packets.iter().for_each(|packet| net.deliver(packet));
    }
}

fn parsed(packet: &[u8]) -> Initiate<'_> {
    match Long::parse(packet) {
        Ok(Long::Initiate(initiate)) => initiate,
        other => panic!("{other:?}"),
    }
}

fn with_kem(packet: &[u8], kem: &[u8]) -> Vec<u8> {
    let p = parsed(packet);
    let noise = [p.sealed_static, p.sealed_frames].concat();
    long::initiate(p.version, p.attempt, p.cookie, kem, &noise)
}

// spec: NEG-10, NEG-34
#[test]
fn threat_10_an_initiate_without_its_cookie_of_the_leg_is_dropped() {
    let mut net = pair(Required, Required);
    let (from, to, good) = initiate_of(&mut net);
    let mut other = pair(Required, Required);
    other.nodes[0].host = Host::new(
        Config::default().with(|config| config.post_quantum = Required),
        StaticKey::from_bytes([1; 32]),
        [99; 32],
    );
    let foreign = initiate_of(&mut other).2;
    let cookie = parsed(&good).cookie;
    let bad: [(&[u8], DropReason); 4] = [
        (&[], DropReason::StaleCookie),
        (parsed(&foreign).kem, DropReason::StaleCookie),
        (cookie, DropReason::StaleCookie),
        (&parsed(&good).kem[1..], DropReason::StaleCookie),
    ];
    for (kem, reason) in bad {
        let before = net.host(1).stats().dropped(reason);
        net.deliver(&(from, to, with_kem(&good, kem)));
        assert_eq!(net.host(1).stats().dropped(reason), before + 1, "{} bytes", kem.len());
        assert!(net.host(1).peers().is_empty());
    }
    net.deliver(&(from, to, good));
    assert_eq!(legs(&mut net, 1), Some(true));

    // And one that was agreed upon without the leg has no such cookie.
    let mut net = pair(Off, Off);
    let (from, to, good) = initiate_of(&mut net);
    net.deliver(&(from, to, with_kem(&good, &[1; 61])));
    assert_eq!(net.host(1).stats().dropped(DropReason::Malformed), 1);
    net.deliver(&(from, to, good));
    assert_eq!(legs(&mut net, 1), Some(false));
}

// spec: NEG-31
#[test]
fn a_hello_k_with_a_bad_key_or_unasked_for_is_dropped() {
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    let hello_k = net.poll(0).pop().unwrap();
    let mut bad = hello_k.clone();
    bad.2[100..110].fill(0xff);
    net.deliver(&bad);
    assert_eq!(net.host(1).stats().dropped(DropReason::Malformed), 1);
    let mut foreign = hello_k.clone();
    foreign.2[4] = 9;
    net.deliver(&foreign);
    assert_eq!(net.host(1).stats().dropped(DropReason::Unwelcome), 1);
    assert!(net.poll(1).is_empty());
    net.deliver(&hello_k);
    assert_eq!(net.poll(1).len(), 1);

    let mut off = pair(Required, Off);
    off.connect(0, 1);
    let hello_k = off.poll(0).pop().unwrap();
    off.deliver(&hello_k);
    assert!(off.poll(1).is_empty(), "a host that has it off does not encapsulate");
}

// spec: NEG-12
#[test]
fn under_load_hello_k_needs_a_token_too() {
    let busy = Config::default().with(|config| {
        config.post_quantum = Required;
        config.hello_threshold = 0;
    });
    let mut net = Net::with([busy.clone(), busy]);
    net.connect(0, 1);
    net.run(SECOND / 2, |_| true);
    let expected = [
        HELLO, HELLO_K, RETRY, RETRY, HELLO, HELLO_K, COOKIE, COOKIE_K, INITIATE, ACCEPT,
    ];
    assert_eq!(kinds(&net), expected);
    assert_eq!(legs(&mut net, 0), Some(true));
    for kind in [HELLO, HELLO_K] {
        let both: Vec<&Packet> = net.sent.iter().filter(|p| p.2[0] == kind).collect();
        assert_eq!(both[0].2[13..29], [0; 16]);
        assert_ne!(both[1].2[13..29], [0; 16]);
        assert_eq!(
            (&both[0].2[..13], &both[0].2[29..]),
            (&both[1].2[..13], &both[1].2[29..])
        );
    }
}

// spec: NEG-12
#[test]
fn threat_02_a_flood_of_hello_k_is_not_encapsulated_for() {
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    let hello_k = net.poll(0).pop().unwrap();
    let mut answers = [0; 2];
    for n in 0..3000_u64 {
        let mut packet = hello_k.clone();
        packet.2[5..13].copy_from_slice(&n.to_be_bytes());
        net.deliver(&packet);
        for reply in net.poll(1) {
            answers[usize::from(reply.2[0] == RETRY)] += 1;
        }
    }
    assert_eq!(answers, [1000, 2000]);
}

/// COOKIE of a responder with the key of host 1 that answers what it likes.
fn cookie_with(hello: &[u8], kem: Option<[u8; 32]>) -> Vec<u8> {
    let Ok(Long::Hello(hello)) = Long::parse(hello) else {
        panic!("not HELLO");
    };
    let prologue = [b"SSS negotiation ", &hello.version.to_be_bytes()[..], hello.attempt].concat();
    let key = StaticKey::from_bytes([2; 32]);
    let (noise, _) = sss_crypto::noise::Responder::read_hello(&prologue, &key, hello.noise).unwrap();
    let params = CookieParams {
        versions: vec![1],
        suite: sss_wire::Suite::ChaCha20Poly1305,
        channel_id: ChannelId::new(&[1; 4]).unwrap(),
        kem,
        shard: None,
    };
    let mut message = Vec::new();
    let noise = noise.write_cookie([9; 32], &params.to_vec(), &mut message).unwrap();
    let mut packet = long::cookie_without_mac(hello.version, hello.attempt, &message, &[5; 170]);
    let mut mac_key = [0; 32];
    sss_crypto::schedule::label(noise.chaining_key(), "cookie mac", b"", &mut mac_key);
    let mac = sss_crypto::mac16(&mac_key, &[&packet]);
    packet.extend_from_slice(&mac);
    packet
}

// spec: NEG-29
#[test]
fn threat_10_a_cookie_that_chooses_what_was_not_offered_ends_the_attempt() {
    let cases = [
        (Required, None, Some(NegotiationError::PostQuantumMissing)),
        (Off, Some([3; 32]), Some(NegotiationError::PostQuantumOff)),
        (Preferred, None, None),
        (Preferred, Some([3; 32]), None),
    ];
    for (policy, kem, error) in cases {
        let mut net = pair(policy, Preferred);
        net.connect(0, 1);
        let hello = net.poll(0).into_iter().find(|p| p.2[0] == HELLO).unwrap();
        net.deliver(&(hello.1, hello.0, cookie_with(&hello.2, kem)));
        let sent = net.poll(0);
        assert_eq!(
            net.ends(0),
            error.map(CloseReason::from).into_iter().collect::<Vec<_>>()
        );
        // INITIATE follows at once only where there is to be no leg.
        let has_initiated = sent.iter().any(|p| p.2[0] == INITIATE);
        assert_eq!(has_initiated, (policy, kem) == (Preferred, None), "{policy}, {kem:?}");
    }
}

// Threat 10: a responder chooses a suite that this host does not want, or pretends to have none in common.
// spec: NEG-7
#[test]
fn threat_10_a_suite_that_was_not_offered_ends_the_attempt() {
    use sss_crypto::Suite;
    for (suites, is_over) in [(vec![Suite::Aes256Gcm], true), (vec![Suite::ChaCha20Poly1305], false)] {
        let config = |suites| {
            Config::default().with(|config| {
                config.post_quantum = Off;
                config.suites = suites;
            })
        };
        let mut net = Net::with([config(suites), Config::default()]);
        net.connect(0, 1);
        let hello = net.poll(0).remove(0);
        net.deliver(&(hello.1, hello.0, cookie_with(&hello.2, None)));
        let has_initiated = net.poll(0).iter().any(|p| p.2[0] == INITIATE);
        let ends = net.ends(0);
        assert_eq!((ends.len(), has_initiated), (usize::from(is_over), !is_over));
        assert!(
            ends.iter().all(|end| *end == NegotiationError::Suite.into()),
            "{ends:?}"
        );
    }
}

/// Kinds of what the initiator sends while these are lost, PROBE apart (NEG-27), with the times in ms.
fn sent_without(lost: u8, time: Duration) -> Vec<(u8, u128)> {
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    let (start, mut sent) = (net.now, Vec::new());
    let delay = Duration::from_millis(20);
    let mut wire: Vec<(Instant, Packet)> = Vec::new();
    while net.now.since(start) < time {
        for n in 0..2 {
            for packet in net.poll(n) {
                if n == 0 && packet.2[0] >> 7 != 0 && packet.2[0] != PROBE {
                    sent.push((packet.2[0], net.now.since(start).as_millis()));
                }
                if packet.2[0] != lost {
                    wire.push((net.now + delay, packet));
                }
            }
        }
        net.now = net.now + Duration::from_millis(1);
        let (due, rest) = wire.into_iter().partition(|(at, _)| *at <= net.now);
        wire = rest;
        let due: Vec<(Instant, Packet)> = due;
        due.iter().for_each(|(_, packet)| net.deliver(packet));
    }
    sent
}

// spec: NEG-33
#[test]
fn the_missing_half_of_the_answer_is_asked_for_soon_and_alone() {
    for (lost, again) in [(COOKIE_K, HELLO_K), (COOKIE, HELLO)] {
        let sent = sent_without(lost, 3 * SECOND);
        assert_eq!(sent[..2], [(HELLO, 0), (HELLO_K, 0)]);
        assert!(sent[2..].iter().all(|(kind, _)| *kind == again), "{sent:?}");
        // The round trip is 40 ms: after 50 ms more, then 160 (and a quarter more or less), doubled each time.
        let times: Vec<u128> = sent[2..].iter().map(|(_, at)| *at).collect();
        assert!((88..95).contains(&times[0]), "{times:?}");
        for (n, pair) in times.windows(2).enumerate() {
            let pause = (160 << n) as f64;
            let gap = (pair[1] - pair[0]) as f64 / pause;
            assert!((0.74..1.27).contains(&gap), "pause {n} is {gap} of {pause} ms");
        }
        assert!(times.len() >= 4, "{times:?}");
    }
}

// spec: NEG-33
#[test]
fn threat_17_a_fake_does_not_keep_hello_k_from_being_sent_again() {
    let mut net = pair(Required, Required);
    net.connect(0, 1);
    let hellos = net.poll(0);
    let (from, to) = (hellos[0].0, hellos[0].1);
    // HELLO_K is lost, and a fake stands for its answer, before COOKIE and behind it.
    let fake = fakes(&hellos[1].2, 1).remove(0);
    net.deliver(&(to, from, fake.clone()));
    net.deliver(&hellos[0]);
    for packet in net.poll(1) {
        net.deliver(&packet);
    }
    net.deliver(&(to, from, fake));
    net.run(2 * SECOND, |_| true);
    assert_eq!(legs(&mut net, 0), Some(true));
}
