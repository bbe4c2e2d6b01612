//! Sizes of packets, as whoever watches sees them (CHN-16).

use std::collections::BTreeSet;

use sss_wire::Code;

use super::*;
use crate::DatagramOptions;
use crate::padding::Padding;

/// Lengths of what is written at a time.
const LENGTHS: [usize; 12] = [1, 2, 17, 31, 64, 100, 333, 500, 777, 1000, 3000, 20_000];

/// Everything that the second of two hosts has sent and the first has, by host, while they said all kinds of things:
/// the first has this padding, and the stream that one.
fn sizes(host: Padding, stream: Padding) -> [Vec<usize>; 2] {
    let config = |padding| Config::default().with(|config| config.padding = padding);
    let mut net = Net::with([config(host), config(host)]);
    let ids: Vec<StreamId> = LENGTHS.iter().map(|_| net.connect(0, 1)).collect();
    for (id, len) in ids.iter().zip(LENGTHS) {
        net.host(0).stream(*id).set_padding(stream);
        written(net.host(0).stream(*id).poll_write(&vec![7; len]));
        net.run(SECOND / 20, |_| true);
    }
    let listener = crate::ids::ListenerId(0);
    while let Some((id, _)) = net.host(1).accept(listener) {
        let now = net.now;
        while let Poll::Ready(Ok(ReadOutcome::Chunk(chunk))) = net.host(1).stream(id).poll_read(now, 100_000) {
            net.host(1).stream(id).set_padding(stream);
            written(net.host(1).stream(id).poll_write(&chunk));
            net.run(SECOND / 20, |_| true);
        }
    }
    for (id, len) in ids.iter().zip(LENGTHS) {
        net.host(0).stream(*id).reset(Code::app(1), &"why".repeat(len.min(60)));
        net.run(SECOND / 20, |_| true);
    }
    let now = net.now;
    net.host(0).shutdown(now);
    net.run(SECOND, |_| true);
    assert_eq!(net.ends(1).len(), 1, "CLOSE has arrived");
    let is_padded = |p: &&Packet| [INITIATE, ACCEPT].contains(&p.2[0]) || p.2[0] >> 6 == 1;
    let of = |n: usize| {
        let sent = net.sent.iter().filter(is_padded);
        let sent = sent.filter(|p| p.0 == net.nodes[n].address);
        sent.map(|p| p.2.len()).collect()
    };
    [of(0), of(1)]
}

fn kinds(sizes: &[usize]) -> BTreeSet<usize> {
    sizes.iter().copied().collect()
}

// spec: CHN-16
#[test]
fn threat_38_packets_of_constant_size_tell_nothing_by_it() {
    for sent in sizes(Padding::Constant, Padding::None) {
        assert!(sent.len() > 20);
        assert_eq!(kinds(&sent), BTreeSet::from([1232]));
    }
}

// spec: CHN-16
#[test]
fn threat_38_buckets_leave_a_few_sizes() {
    let plain = sizes(Padding::None, Padding::None);
    for (n, sent) in sizes(Padding::Buckets, Padding::None).iter().enumerate() {
        // Larger ones are those that the path was found to carry.
        let small: Vec<usize> = sent.iter().copied().filter(|size| *size <= 1024).collect();
        assert!(small.len() > 10, "{sent:?}");
        assert!(kinds(&small).is_subset(&BTreeSet::from([64, 128, 256, 512, 1024])));
        assert!(kinds(&plain[n]).len() > kinds(sent).len() + 5, "{:?}", kinds(sent));
    }
}

// spec: CHN-16
#[test]
fn threat_38_a_stream_is_padded_where_the_rest_is_not() {
    let [_, sent] = sizes(Padding::None, Padding::Constant);
    let data = sent.iter().filter(|size| **size >= 1232).count();
    assert!(
        data >= LENGTHS.len(),
        "each answer has the size of the largest: {sent:?}"
    );
    // Acknowledgements are as they were.
    assert!(sent.iter().any(|size| *size < 64));
}

// spec: CHN-16
#[test]
fn threat_38_datagrams_are_padded_as_the_stream_they_are_sent_on() {
    let mut net = Net::with([Config::default(), Config::default()]);
    let id = net.connect(0, 1);
    written(net.host(0).stream(id).poll_write(b"hello"));
    net.run(SECOND, |_| true);
    net.host(0).stream(id).set_padding(Padding::Constant);
    for reliable in [false, true] {
        let options = DatagramOptions::default().with(|options| options.reliable = reliable);
        for len in LENGTHS.into_iter().filter(|len| *len <= 1000) {
            let (now, before) = (net.now, net.sent.len());
            net.host(0)
                .stream(id)
                .send_datagram(now, &vec![7; len].into(), &options)
                .unwrap();
            net.run(SECOND / 20, |_| true);
            let from = net.nodes[0].address;
            let sent = net.sent[before..].iter().filter(|p| p.0 == from);
            let sizes: Vec<usize> = sent.map(|p| p.2.len()).collect();
            assert!(sizes.contains(&1232), "{len} bytes in packets of {sizes:?}");
            assert!(!sizes.iter().any(|size| (64..1232).contains(size)), "{sizes:?}");
        }
    }
}
