//! Turns to send: a peer has one when there may be something for it, since a host may have very many.

use super::*;

/// The next datagram of a host, after its events.
fn datagram(net: &mut Net, n: usize) -> Packet {
    let (now, mut buf) = (net.now, TransmitBuf::new(1));
    let node = &mut net.nodes[n];
    loop {
        match node.host.poll(now, &mut buf) {
            Output::Transmit(t) => return (node.address, t.link.address().unwrap(), buf.filled().to_vec()),
            Output::Event(_) => {}
            Output::Wake(at) => panic!("nothing is to be sent before {at:?}"),
        }
    }
}

#[test]
fn a_peer_has_no_turn_after_packets_that_leave_nothing_to_send() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"first"));
    net.run(3 * SECOND, |_| true);
    assert!(!net.host(0).is_ready() && !net.host(1).is_ready());
    written(net.host(0).stream(stream).poll_write(b"second"));
    assert!(net.host(0).is_ready());
    let data = datagram(&mut net, 0);
    assert!(!net.host(0).is_ready(), "all was sent");
    net.deliver(&data);
    assert!(!net.host(1).is_ready(), "the acknowledgement has time");
    assert!(net.poll(1).is_empty());
    net.now = net.now + Duration::from_millis(30);
    let acknowledgement = datagram(&mut net, 1);
    net.deliver(&acknowledgement);
    assert!(!net.host(0).is_ready(), "an acknowledgement needs no answer");
    assert!(net.poll(0).is_empty() && net.poll(1).is_empty());
}
