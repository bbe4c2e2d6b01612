//! What a host keeps of strangers: nothing. One test alone, because it counts the bytes of the whole process.

use std::net::SocketAddr;

use bytes::BytesMut;
use peak_alloc::PeakAlloc;
use sss_crypto::StaticKey;
use sss_proto::{Batch, Config, Ecn, Host, Input, Instant, Link, Output, TransmitBuf};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const HELLO: u8 = 0x80;
const RETRY: u8 = 0x82;
const COOKIE: u8 = 0x84;
const COOKIE_K: u8 = 0x85;

/// Everything that a host sends now.
fn poll(host: &mut Host, now: Instant, buf: &mut TransmitBuf, mut sent: impl FnMut(&[u8])) {
    loop {
        match host.poll(now, buf) {
            Output::Transmit(_) => sent(buf.filled()),
            Output::Event(event) => panic!("{event:?}"),
            Output::Wake(_) => return,
        }
    }
}

/// A HELLO and a HELLO_K as a host sends them that has not been heard of.
fn greeting(n: u64, to: &Host) -> Vec<Vec<u8>> {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    let mut host = Host::new(Config::default(), StaticKey::from_bytes(seed), seed);
    let (now, address) = (Instant::from_nanos(0), SocketAddr::from(([192, 0, 2, 1], 7)));
    host.connect(now, to.eid(), ("test", "1"), &[address.into()]).unwrap();
    let mut packets = Vec::new();
    poll(&mut host, now, &mut TransmitBuf::new(1), |bytes| {
        packets.push(bytes.to_vec())
    });
    packets
}

// Threat 3: a host is asked for channels by strangers without end, who never go on; with true HELLOs, which cost
// arithmetic, and, once it is under load, with any.
// spec: NEG-9, NEG-31
#[test]
fn threat_03_no_byte_is_kept_for_hello() {
    let config = Config::default().with(|config| config.hello_threshold = 200);
    let mut host = Host::new(config, StaticKey::from_bytes([1; 32]), [1; 32]);
    host.listen("test", "1").unwrap();
    let greetings: Vec<_> = (0..40).map(|n| greeting(n, &host)).collect();
    let mut buf = TransmitBuf::new(1);
    let mut data = BytesMut::with_capacity(2048);
    let mut kinds = [0_u32; 256];
    let mut ask = |host: &mut Host, second: u64, round: u64| {
        let now = Instant::from_nanos(second * 1_000_000_000 + round * 10_000_000);
        for (n, packet) in (0..).zip(greetings.iter().flatten()) {
            data.clear();
            data.extend_from_slice(packet);
            let [.., a, b, c, d] = (second << 16 | round << 8 | n).to_be_bytes();
            let batch = Batch {
                stride: data.len(),
                data: &mut data,
                lent: &mut None,
                link: Link::Udp(SocketAddr::from(([10, a, b, c], u16::from(d) + 1))),
                local: None,
                ecn: Ecn::NotEct,
            };
            host.handle(now, Input::Datagrams(batch));
            poll(host, now, &mut buf, |bytes| kinds[usize::from(bytes[0])] += 1);
        }
    };
    // For as long as it takes that all keys are replaced, with a flood now and then. The first period of cookies makes
    // room for what every host has, a previous key among it.
    let mut before = 0;
    for second in 0..150 {
        if second == 70 {
            before = MEMORY.current_usage();
        }
        let rounds = if second % 10 == 9 { 40 } else { 3 };
        (0..rounds).for_each(|round| ask(&mut host, second, round));
    }
    let after = MEMORY.current_usage();
    assert!(after <= before + 64, "{} bytes", after - before);
    for (kind, least) in [(COOKIE, 5000), (COOKIE_K, 5000), (RETRY, 10_000)] {
        assert!(
            kinds[usize::from(kind)] > least,
            "{kind:#x}: {}",
            kinds[usize::from(kind)]
        );
    }
    assert_eq!(kinds[usize::from(HELLO)], 0);
    assert_eq!(host.peers(), []);
}
