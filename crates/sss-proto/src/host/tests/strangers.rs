//! Packets that strangers have recorded, turned around or made up, by the numbers of the table in docs/security.md.

use sss_crypto::noise;
use sss_wire::long;
use sss_wire::params::HelloParams;

use super::*;
use crate::PathHint;
use crate::config::PostQuantum;

const HELLO_K: u8 = 0x81;

/// A host with the identity of the nth, and randomness of its own.
fn restarted(n: u8, seed: u8) -> Host {
    let mut host = Host::new(Config::default(), StaticKey::from_bytes([n + 1; 32]), [seed; 32]);
    host.listen(SERVICE.0, SERVICE.1).unwrap();
    host
}

/// The first packet of a type that was sent.
fn sent(net: &Net, kind: u8) -> Packet {
    net.sent.iter().find(|p| p.2[0] == kind).expect("it was sent").clone()
}

/// Two hosts with a stream, on which the first has written.
fn connected() -> (Net, StreamId) {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    (net, stream)
}

/// Delivers one more byte of the first host.
fn demand_delivery(net: &mut Net, stream: StreamId, written_before: u64) {
    written(net.host(0).stream(stream).poll_write(b"y"));
    net.run(5 * SECOND, |_| true);
    let flushed = net.host(0).stream(stream).poll_flushed(written_before + 1);
    assert_eq!(flushed, Poll::Ready(Ok(())));
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// Threat 1: a HELLO that is true, and too short to be worth an answer.
// spec: NEG-2, NEG-3
#[test]
fn threat_01_a_true_hello_that_is_short_gets_no_answer() {
    for (padding, is_answered) in [(0, false), (100, false), (long::HELLO_PAYLOAD, true)] {
        let mut net = Net::new(2);
        let params = HelloParams {
            versions: vec![1],
            suites: vec![sss_wire::Suite::ChaCha20Poly1305],
            kems: vec![sss_wire::Kem::MlKem768],
            candidates: Vec::new(),
        };
        let mut payload = params.to_vec();
        payload.resize(padding.max(payload.len()), 0);
        let prologue = [b"SSS negotiation ", &1_u32.to_be_bytes()[..], &[7; 8]].concat();
        let (key, mut message) = (StaticKey::from_bytes([2; 32]).public(), Vec::new());
        noise::Initiator::start(&prologue, &key, [9; 32], &payload, &mut message).unwrap();
        let hello = [&[HELLO, 0, 0, 0, 1][..], &[7; 8], &[0; 16], &message].concat();
        net.deliver(&(net.nodes[0].address, net.nodes[1].address, hello));
        assert_eq!(net.poll(1).len(), usize::from(is_answered), "{padding} bytes");
    }
}

// Threat 4: an INITIATE is recorded, and sent to the host when it has been restarted, and knows of no channel.
// spec: NEG-9, NEG-11
#[test]
fn threat_04_a_recorded_initiate_means_nothing_to_a_restarted_host() {
    let (mut net, _) = connected();
    let initiate = sent(&net, INITIATE);
    net.nodes[1].host = restarted(1, 77);
    net.deliver(&initiate);
    assert_eq!(net.poll(1), []);
    let stats = net.host(1).stats();
    assert_eq!((stats.channels_made, stats.dropped(DropReason::StaleCookie)), (0, 1));
}

// Threat 5: an INITIATE is accepted twice, by a host that has forgotten that it was accepted.
// spec: PRT-1
#[test]
fn threat_05_an_initiate_that_is_accepted_twice_gives_other_keys() {
    let (mut net, _) = connected();
    let (initiate, first) = (sent(&net, INITIATE), sent(&net, ACCEPT));
    let (now, id) = (net.now, net.peer(1, 0));
    net.host(1).disconnect(now, id, sss_wire::Code::NONE, "");
    net.run(5 * SECOND, |_| true);
    net.host(1).admission.responder.forget_spent();
    net.sent.clear();
    net.deliver(&initiate);
    assert_eq!(net.host(1).stats().channels_made, 2, "this is what the set is for");
    let second = net.poll(1).into_iter().find(|p| p.2[0] == ACCEPT).expect("ACCEPT");
    let parts = |packet: &Packet| (packet.2[13..45].to_vec(), packet.2[45..61].to_vec());
    let ((nonce, sealed), (other_nonce, other_sealed)) = (parts(&first), parts(&second));
    assert_ne!(nonce, other_nonce);
    assert_ne!(sealed, other_sealed, "the same SETTINGS under other keys");
}

// Threat 11: all packets come back to those who sent them.
// spec: PRT-2, NEG-19
#[test]
fn threat_11_whatever_comes_back_to_its_sender_changes_nothing() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    let count = written(net.host(0).stream(stream).poll_write(&[7; 1500]));
    for _ in 0..300 {
        let packets: Vec<Packet> = (0..2).flat_map(|n| net.poll(n)).collect();
        for packet in &packets {
            let ids = [0, 1].map(|n| {
                let id = net.host(n).peers().first().map(|(id, _)| *id);
                id.and_then(|id| net.host(n).peers.get_mut(id)?.channel_ids().first().cloned())
            });
            // As it is, and with the id on which its sender receives.
            let mut renamed = packet.2.clone();
            let own = usize::from(packet.0 == net.nodes[1].address);
            if let (Some(id), true) = (&ids[own], packet.2[0] < 0x80) {
                renamed[1..=id.len()].copy_from_slice(id);
            }
            for bytes in [packet.2.clone(), renamed] {
                let node = &net.nodes[own].host;
                let before = (node.stats().channels_made, node.peers().len());
                let sender = &net.nodes[own].host;
                let received = sender.peers().first().and_then(|(id, _)| sender.peer_stats(*id));
                net.deliver(&(packet.1, packet.0, bytes));
                let node = &net.nodes[own].host;
                // HELLO for the peer does not open here, PROBE and the like were not sent.
                assert_eq!((node.stats().channels_made, node.peers().len()), before);
                let now = node.peers().first().and_then(|(id, _)| node.peer_stats(*id));
                assert_eq!(
                    received.map(|stats| stats.packets_received),
                    now.map(|stats| stats.packets_received)
                );
            }
            net.deliver(packet);
        }
        net.now = net.now + Duration::from_millis(10);
    }
    demand_delivery(&mut net, stream, count as u64);
    assert_eq!(
        (net.host(0).stats().channels_made, net.host(1).stats().channels_made),
        (1, 1)
    );
}

// Threat 12: somebody passes on what a host says to him, so that it speaks to another one than it believes.
// spec: NEG-4, NEG-10
#[test]
fn threat_12_whoever_passes_packets_on_speaks_in_nobodys_name() {
    let mut net = Net::new(3);
    // 0 wants to speak to 2, which passes everything on to 1, and back.
    net.connect(0, 2);
    let (victim, other) = (net.nodes[0].address, net.nodes[1].address);
    for _ in 0..100 {
        for packet in net.poll(0) {
            net.deliver(&(net.nodes[2].address, other, packet.2));
        }
        for packet in net.poll(1) {
            net.deliver(&(net.nodes[2].address, victim, packet.2));
        }
        net.now = net.now + Duration::from_millis(50);
    }
    assert_eq!(net.host(1).stats().channels_made, 0, "HELLO is for the key of another");
    assert!(net.host(1).stats().dropped(DropReason::Unauthentic) > 0);
    // 0 wants to speak to 1, by way of 2: each of them knows who the other is.
    let mut net = Net::new(3);
    let (eid, now, way) = (net.eid(1), net.now, net.nodes[2].address);
    net.host(0).connect(now, eid, SERVICE, &[way.into()]).unwrap();
    for _ in 0..100 {
        for packet in net.poll(0) {
            net.deliver(&(way, other, packet.2));
        }
        for packet in net.poll(1) {
            net.deliver(&(way, victim, packet.2));
        }
        net.now = net.now + Duration::from_millis(50);
    }
    let (a, b) = (net.peer(0, 1), net.peer(1, 0));
    assert_eq!(net.host(0).is_connected(a), Some(true));
    assert_eq!(net.host(1).is_connected(b), Some(true));
}

// Threat 23: whoever has a channel lets a host send to its own network.
// spec: MIG-22, CHN-11
#[test]
fn threat_23_nobody_aims_a_host_at_its_own_network() {
    let cases = [
        ("192.168.7.7:53", false, false),
        ("192.168.7.7:53", true, true),
        ("[fd00::7]:53", false, false),
        ("127.0.0.1:53", true, false),
        ("[fe80::7]:53", true, false),
        ("203.0.113.66:53", false, true),
    ];
    for (victim, is_allowed, is_sent) in cases {
        let config = Config::default().with(|config| config.allow_private_moves = is_allowed);
        let mut net = Net::with([config.clone(), config]);
        net.nodes[0].address = "198.51.100.1:4000".parse().unwrap();
        let stream = net.connect(0, 1);
        net.run(SECOND, |_| true);
        written(net.host(0).stream(stream).poll_write(b"x"));
        let packet = net.poll(0).pop().expect("a packet");
        let victim: SocketAddr = victim.parse().unwrap();
        net.deliver(&(victim, packet.1, packet.2));
        let mut to_victim = 0;
        net.run(SECOND, |p| {
            to_victim += usize::from(p.1 == victim);
            true
        });
        assert_eq!(to_victim > 0, is_sent, "{victim}, {is_allowed}");
        demand_delivery(&mut net, stream, 1);
    }
}

// Threat 24: whoever cannot open packets makes up CLOSE, resets, and ICMP messages.
// spec: PRT-13, NEG-27, CHN-12
#[test]
fn threat_24_whoever_cannot_open_packets_ends_nothing() {
    let (mut net, stream) = connected();
    for n in 0..2 {
        let (from, to) = (net.nodes[1 - n].address, net.nodes[n].address);
        let id = net.peer(n, 1 - n);
        let channel = net.host(n).peers.get_mut(id).unwrap().channel_ids().remove(0);
        let token = net
            .host(n)
            .local
            .reset_token(sss_wire::ChannelId::new(&channel).unwrap());
        for len in 1..100_u8 {
            // CLOSE in the clear, behind a header that is right but for the keys; and resets: tokens that are guessed,
            // that of the channel as this host would announce it, and zeros.
            let mut close = vec![0x40];
            close.extend_from_slice(&channel);
            close.extend_from_slice(&[0, sss_wire::frame::Close::TYPE, 0]);
            close.resize(usize::from(len), 0);
            let mut packets = vec![close, vec![0x40; usize::from(len)]];
            for token in [[len; 16], token, [0; 16]] {
                packets.push([&vec![0x41; usize::from(len)][..], &token].concat());
            }
            packets.push([&[0x87, 0, 0, 0, 1][..], &[len; 100]].concat());
            for bytes in packets {
                net.deliver(&(from, to, bytes));
            }
        }
        let now = net.now;
        let hints = [PathHint::Unreachable, PathHint::TooLarge];
        for hint in hints {
            net.host(n).note_path(now, from.into(), hint);
        }
        assert_eq!(net.host(n).is_connected(id), Some(true));
    }
    net.sent.clear();
    demand_delivery(&mut net, stream, 1);
    assert!(!net.sent.iter().any(|p| p.2[0] == HELLO), "nor is another channel made");
}

// Threat 25: two hosts that have lost their state answer each other's resets.
// spec: PRT-12
#[test]
fn threat_25_two_hosts_that_know_nothing_fall_silent() {
    let mut net = Net::new(2);
    let (from, to) = (net.nodes[0].address, net.nodes[1].address);
    net.deliver(&(from, to, vec![0x55; 1232]));
    net.run(5 * SECOND, |_| true);
    let sizes: Vec<usize> = net.sent.iter().map(|p| p.2.len()).collect();
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
    assert_eq!(sizes, [48, 47, 46, 45, 44, 43, 42, 41, 40]);
}

// Threat 38: whoever counts bytes tells hosts by their first packets.
// spec: NEG-2, NEG-30
#[test]
fn threat_38_hello_has_the_same_size_whatever_is_in_it() {
    let change = |n: u8, config: &mut Config| match n {
        0 => {}
        1 => config.suites.truncate(1),
        2 => config.agent = "x".repeat(64),
        3 => config.instance = "x".repeat(64),
        4 => config.post_quantum = PostQuantum::Preferred,
        _ => config.channel_id_len = 20,
    };
    for n in 0..6 {
        let config = Config::default().with(|config| change(n, config));
        let mut net = Net::with([config, Config::default()]);
        let stream = net.connect(0, 1);
        written(net.host(0).stream(stream).poll_write(&vec![1; usize::from(n) * 300]));
        let sizes: Vec<(u8, usize)> = net.poll(0).iter().map(|p| (p.2[0], p.2.len())).collect();
        assert_eq!(sizes, [(HELLO, 1232), (HELLO_K, 1232)]);
    }
}

/// Frames as they may stand in a packet, and what becomes of them when bytes are changed, cut and put together.
fn nonsense(rng: &mut impl rand::Rng, known: &[Vec<u8>]) -> Vec<u8> {
    use rand::RngExt;
    let mut bytes = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        let mut piece = match known.get(rng.random_range(0..known.len() + 1)) {
            Some(frame) => frame.clone(),
            None => (0..rng.random_range(1..40)).map(|_| rng.random()).collect(),
        };
        if rng.random_range(0..3) == 0 {
            piece.truncate(rng.random_range(0..piece.len()) + 1);
        }
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..piece.len());
            piece[at] = if rng.random() {
                rng.random()
            } else {
                piece[at] ^ 1 << rng.random_range(0..8)
            };
        }
        bytes.extend(piece);
    }
    bytes
}

// Threat 39: a peer sends what no host would say, well sealed.
// spec: OVR-2
#[test]
fn threat_39_authentic_nonsense_ends_its_own_tree_at_most() {
    use rand::SeedableRng;
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/frames");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let known: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let known: Vec<Vec<u8>> = known.into_iter().filter(|frame| !frame.is_empty()).collect();
    assert!(known.len() > 10);
    let (mut ended, mut survived) = (0, 0);
    for seed in 0..300_u64 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut net = Net::new(3);
        let honest = net.connect(2, 1);
        let stream = net.connect(0, 1);
        written(net.host(0).stream(stream).poll_write(b"x"));
        net.run(SECOND / 10, |_| true);
        let (now, id) = (net.now, net.peer(0, 1));
        let (from, to) = (net.nodes[0].address, net.nodes[1].address);
        for _ in 0..20 {
            let frames = nonsense(&mut rng, &known);
            let packet = net.host(0).peers.get_mut(id).unwrap().seal(now, &frames);
            net.deliver(&(from, to, packet));
            net.poll(1);
        }
        let is_over = !net.ends(1).is_empty();
        (ended, survived) = (ended + u32::from(is_over), survived + u32::from(!is_over));
        written(net.host(2).stream(honest).poll_write(b"still here"));
        net.run(SECOND / 10, |_| true);
        assert_eq!(
            net.host(2).stream(honest).poll_flushed(10),
            Poll::Ready(Ok(())),
            "seed {seed}"
        );
    }
    assert!(ended > 100, "{ended} ended, {survived} not");
}

// spec: NEG-15
#[test]
fn where_no_round_trip_was_measured_initiate_goes_again_after_twice_the_time_since_the_first_hello() {
    // Cookies come after so long: bounds of the pause, in milliseconds, a quarter more or less.
    for (cookies, least, most) in [(600, 890, 1510), (850, 1270, 2130), (2000, 1490, 2510)] {
        let mut net = Net::new(2);
        net.connect(0, 1);
        let begun = net.now;
        let mut initiates = Vec::new();
        while initiates.len() < 2 && net.now < begun + 10 * SECOND {
            let is_late = net.now >= begun + Duration::from_millis(cookies);
            let sent = net.sent.len();
            net.run(Duration::from_millis(10), |p| is_late && p.2[0] != INITIATE);
            let new = net.sent[sent..].iter().filter(|p| p.2[0] == INITIATE);
            initiates.extend(new.map(|_| net.now.since(begun).as_millis()));
        }
        let pause = initiates[1] - initiates[0];
        assert!((least..=most).contains(&pause), "{cookies}: {initiates:?}");
    }
}
