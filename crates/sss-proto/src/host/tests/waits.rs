//! Reasons to wait that a channel, or the lack of one, gives streams.

use super::*;
use crate::streams::Waits;

fn waits(net: &mut Net, n: usize, stream: StreamId) -> Option<Waits> {
    let info = net.host(n).stream_info(stream).expect("a stream");
    let tree = net.host(n).tree(stream.peer());
    let node = tree.iter().find(|node| node.id == stream).expect("it is in the tree");
    assert_eq!(node.info, info);
    info.waits
}

#[test]
fn while_a_peer_is_being_reached_and_when_it_is_gone_the_link_is_named() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    assert_eq!(waits(&mut net, 0, stream), Some(Waits::Connecting));
    net.run(SECOND / 2, |_| false);
    assert_eq!(waits(&mut net, 0, stream), Some(Waits::Connecting));
    net.run(3 * SECOND, |_| true);
    assert_eq!(waits(&mut net, 0, stream), Some(Waits::Application));

    written(net.host(0).stream(stream).poll_write(b"unheard"));
    net.poll(0);
    let mut seen = Vec::new();
    for _ in 0..2000 {
        let found = waits(&mut net, 0, stream).expect("it is not delivered");
        if seen.last() != Some(&found) {
            seen.push(found);
        }
        if matches!(seen.last(), Some(Waits::Down(_))) {
            break;
        }
        net.run(SECOND / 10, |_| false);
    }
    assert!(
        matches!(seen[..], [Waits::Acknowledgement, Waits::Stalled, Waits::Down(_)]),
        "{seen:?}"
    );
    net.run(30 * SECOND, |_| true);
    assert_eq!(waits(&mut net, 0, stream), Some(Waits::Application), "it is back");
    let (now, peer) = (net.now, stream.peer());
    net.host(0).disconnect(now, peer, sss_wire::Code::app(1), "enough");
    let info = net.host(0).stream_info(stream);
    assert_eq!(info.and_then(|i| i.waits), None, "it has ended");
}

#[test]
fn the_window_and_the_pacer_of_the_channel_are_named() {
    const DELAY: Duration = Duration::from_millis(50);
    let mut net = Net::new(2);
    let ours = net.connect(0, 1);
    let mut theirs = None;
    let data = vec![1; 100_000];
    let mut flying: Vec<(Instant, Packet)> = Vec::new();
    let (mut windows, mut paces) = (0, 0);
    for _ in 0..3000 {
        let now = net.now;
        while written(net.host(0).stream(ours).poll_write(&data)) > 0 {}
        for n in 0..2 {
            let packets = net.poll(n);
            flying.extend(packets.into_iter().map(|p| (now + DELAY, p)));
        }
        match waits(&mut net, 0, ours).unwrap() {
            Waits::Congestion => windows += 1,
            Waits::Pacer => paces += 1,
            Waits::Stalled | Waits::Down(_) => panic!("the link is up"),
            _ => {}
        }
        let (due, later) = flying.into_iter().partition(|(at, _)| *at <= now);
        flying = later;
        let due: Vec<(Instant, Packet)> = due;
        due.iter().for_each(|(_, packet)| net.deliver(packet));
        if theirs.is_none() {
            theirs = net.host(1).accept(crate::ids::ListenerId(0)).map(|(stream, _)| stream);
        }
        if let Some(theirs) = theirs {
            while let Poll::Ready(Ok(ReadOutcome::Chunk(_))) = net.host(1).stream(theirs).poll_read(now, usize::MAX) {}
        }
        net.now = now + Duration::from_millis(1);
    }
    assert!(windows > 0 && paces > 0, "{windows} {paces}");
}
