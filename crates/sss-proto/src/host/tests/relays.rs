//! Packets that a relay forwards (CHN-17), with a relay between the hosts that knows two handles.

use bytes::Bytes;
use sss_wire::reach::{RELAY, RELAY_HEADER, relay_handle, relay_header};

use super::*;
use crate::channel::MtuState;
use crate::config::PostQuantum;
use crate::ids::ListenerId;
use crate::route::{RelayHandle, RouteClass};

/// Handles by which the first host knows the second, and the other way round.
const HANDLES: [u32; 2] = [7, 0xfedc_ba98];
const COOKIE_K: u8 = 0x85;
/// Largest datagram that the relay and the way to it carry.
const MTU: usize = 1400;

fn relay() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 443))
}

/// Two hosts that reach each other through the relay alone.
struct Relayed {
    net: Net,
    max_segments: usize,
    /// Datagrams that the relay has forwarded, the longest of them, and the largest batch.
    forwarded: usize,
    longest: usize,
    largest_batch: usize,
    /// The lengths of INITIATE and ACCEPT.
    negotiated: Vec<usize>,
}

impl Relayed {
    fn new(max_segments: usize) -> Self {
        let mut net = Net::new(2);
        for (n, handle) in HANDLES.into_iter().enumerate() {
            let now = net.now;
            assert!(net.host(n).add_relay(now, Link::Udp(relay()), RelayHandle(handle)));
        }
        Self {
            net,
            max_segments,
            forwarded: 0,
            longest: 0,
            largest_batch: 0,
            negotiated: Vec::new(),
        }
    }

    fn route(&self) -> Route {
        Route::through(Link::Udp(relay()), RelayHandle(HANDLES[0]))
    }

    fn connect(&mut self) -> StreamId {
        let (eid, now, route) = (self.net.eid(1), self.net.now, self.route());
        self.net.host(0).connect(now, eid, SERVICE, &[route]).unwrap()
    }

    /// Sends what a host has to say through the relay, batches as batches. Returns whether there was something.
    fn pump(&mut self, n: usize) -> bool {
        let mut buf = TransmitBuf::new(self.max_segments);
        let mut any = false;
        loop {
            match self.net.nodes[n].host.poll(self.net.now, &mut buf) {
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.link, Link::Udp(relay()), "nothing goes elsewhere");
                    any = true;
                    self.forward(n, buf.filled(), transmit.segment);
                }
                Output::Event(event) => self.net.nodes[n].events.push(event),
                Output::Wake(_) => return any,
            }
        }
    }

    fn forward(&mut self, from: usize, filled: &[u8], segment: usize) {
        let mut batch = BytesMut::new();
        for datagram in filled.chunks(segment) {
            assert_eq!(
                relay_handle(datagram),
                Ok(HANDLES[from]),
                "each datagram has its header"
            );
            assert_ne!(datagram.get(RELAY_HEADER), Some(&RELAY));
            if datagram.len() > MTU {
                return;
            }
            // INITIATE and ACCEPT go wherever any packet goes.
            if matches!(datagram.get(RELAY_HEADER), Some(0x86 | 0x87)) {
                self.negotiated.push(datagram.len());
            }
            self.forwarded += 1;
            self.longest = self.longest.max(datagram.len());
            batch.extend_from_slice(&relay_header(HANDLES[1 - from]));
            batch.extend_from_slice(&datagram[RELAY_HEADER..]);
        }
        self.largest_batch = self.largest_batch.max(filled.len().div_ceil(segment));
        self.hand_in(1 - from, batch, segment);
    }

    fn hand_in(&mut self, to: usize, mut data: BytesMut, stride: usize) {
        let mut lent: Option<Bytes> = None;
        let batch = Batch {
            data: &mut data,
            lent: &mut lent,
            stride,
            link: Link::Udp(relay()),
            local: None,
            ecn: Ecn::NotEct,
        };
        let now = self.net.now;
        self.net.host(to).handle(now, Input::Datagrams(batch));
    }

    fn run(&mut self, time: Duration) {
        let end = self.net.now + time;
        while self.net.now < end {
            while self.pump(0) | self.pump(1) {}
            self.net.now = self.net.now + Duration::from_millis(10);
            for n in 0..2 {
                let now = self.net.now;
                self.net.host(n).handle(now, Input::Tick);
            }
        }
    }
}

// spec: CHN-17
#[test]
fn a_channel_works_through_a_relay_in_whole_batches() {
    let mut relayed = Relayed::new(16);
    let stream = relayed.connect();
    let data = vec![9; 400_000];
    let mut sent = written(relayed.net.host(0).stream(stream).poll_write(&data[..5000]));
    relayed.run(SECOND);
    assert_eq!(relayed.negotiated[0], usize::from(sss_wire::constants::BASE_DATAGRAM));
    assert!(relayed.negotiated.iter().all(|len| *len <= relayed.negotiated[0]));
    let mut received = 0;
    let mut accepted = None;
    for _ in 0..2000 {
        sent += written(relayed.net.host(0).stream(stream).poll_write(&data[sent..]));
        relayed.run(Duration::from_millis(10));
        let now = relayed.net.now;
        let host = relayed.net.host(1);
        if accepted.is_none() {
            accepted = host.accept(ListenerId(0)).map(|(stream, _)| stream);
        }
        let Some(stream) = accepted else { continue };
        while let Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) = host.stream(stream).poll_read(now, 1 << 16) {
            received += bytes.len();
        }
        if received == data.len() {
            break;
        }
    }
    assert_eq!(received, data.len());
    assert!(relayed.largest_batch > 4, "{}", relayed.largest_batch);
    for (n, handle) in HANDLES.into_iter().enumerate() {
        let peer = relayed.net.peer(n, 1 - n);
        let info = relayed.net.host(n).channel_info(peer).unwrap();
        let expected = Route::through(Link::Udp(relay()), RelayHandle(handle));
        assert_eq!((info.route, info.route.class()), (expected, RouteClass::Relay));
    }
    // The search is for whole datagrams: what the relay carries, header and all.
    let peer = relayed.net.peer(0, 1);
    let info = relayed.net.host(0).channel_info(peer).unwrap();
    assert!(
        usize::from(info.mtu) <= MTU && usize::from(info.mtu) > MTU - 16,
        "{}",
        info.mtu
    );
    assert_eq!(
        (info.mtu_state, usize::from(info.mtu)),
        (MtuState::Path, relayed.longest)
    );
}

// spec: CHN-17
#[test]
fn what_comes_by_an_unknown_handle_is_dropped_and_counted() {
    let mut relayed = Relayed::new(1);
    relayed.connect();
    relayed.run(SECOND);
    let dropped = |relayed: &mut Relayed| relayed.net.host(1).stats().dropped(DropReason::UnknownHandle);
    assert_eq!(dropped(&mut relayed), 0);
    let received = |relayed: &mut Relayed| {
        let peer = relayed.net.peer(1, 0);
        relayed.net.host(1).channel_info(peer).unwrap().packets_received
    };
    let before = received(&mut relayed);
    for handle in [HANDLES[0], HANDLES[1] + 1] {
        let datagram = [&relay_header(handle)[..], &[0x40; 60]].concat();
        relayed.hand_in(1, BytesMut::from(&datagram[..]), datagram.len());
    }
    assert_eq!(dropped(&mut relayed), 2);
    // Nothing is relayed twice, and nothing is in it.
    for packet in [&relay_header(HANDLES[1])[..], &[]] {
        let datagram = [&relay_header(HANDLES[1])[..], packet].concat();
        relayed.hand_in(1, BytesMut::from(&datagram[..]), datagram.len());
    }
    assert_eq!((dropped(&mut relayed), received(&mut relayed)), (2, before));
    // A route that is gone is not answered any more, and not tried.
    let now = relayed.net.now;
    relayed.net.host(1).remove_silent_relays(now, Duration::ZERO);
    let (now, peer) = (relayed.net.now, relayed.net.peer(0, 1));
    relayed.net.host(0).disconnect(now, peer, sss_wire::Code::NONE, "");
    relayed.run(Duration::from_millis(50));
    assert!(dropped(&mut relayed) > 2);
    assert_eq!(received(&mut relayed), before);
}

/// Hands a datagram of the second host to the first, by that route.
fn answer_by(net: &mut Net, route: Route, bytes: &[u8]) {
    let header = route.handle.map(|RelayHandle(handle)| relay_header(handle));
    let mut data = BytesMut::from(&header.iter().flatten().chain(bytes).copied().collect::<Vec<u8>>()[..]);
    let batch = Batch {
        stride: data.len(),
        data: &mut data,
        lent: &mut None,
        link: route.link,
        local: None,
        ecn: Ecn::NotEct,
    };
    let now = net.now;
    net.host(0).handle(now, Input::Datagrams(batch));
}

// spec: RCH-16, MIG-24
#[test]
fn initiate_goes_by_the_better_of_two_routes_by_which_cookie_came() {
    let direct = Route::udp(Net::new(2).nodes[1].address);
    let by_relay = Route::through(Link::Udp(relay()), RelayHandle(HANDLES[0]));
    for (routes, expected) in [
        ([by_relay, direct], direct),
        ([direct, by_relay], direct),
        ([by_relay, by_relay], by_relay),
    ] {
        let config = || Config::default().with(|config| config.post_quantum = PostQuantum::Required);
        let mut net = Net::with([config(), config()]);
        let now = net.now;
        assert!(net.host(0).add_relay(now, Link::Udp(relay()), RelayHandle(HANDLES[0])));
        net.connect(0, 1);
        let greetings = net.poll(0);
        greetings.iter().for_each(|packet| net.deliver(packet));
        let answers = net.poll(1);
        let of_kind = |kind| &answers.iter().find(|packet| packet.2[0] == kind).expect("an answer").2;
        routes
            .into_iter()
            .for_each(|route| answer_by(&mut net, route, of_kind(COOKIE)));
        assert!(
            net.poll(0).iter().all(|packet| packet.2[0] != INITIATE),
            "COOKIE_K is missing"
        );
        answer_by(&mut net, routes[1], of_kind(COOKIE_K));
        let sent = net.poll(0);
        let is_initiate = |packet: &&Packet| packet.2[0] == INITIATE || packet.2.get(RELAY_HEADER) == Some(&INITIATE);
        let ways: Vec<_> = sent.iter().filter(is_initiate).map(|packet| packet.1).collect();
        assert_eq!(ways, [expected.address().unwrap()], "{routes:?}");
    }
}
