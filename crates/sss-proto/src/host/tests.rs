//! Hosts joined by a wire without delay, some of which break the rules of migration.

mod batches;
mod crossing;
mod explore;
mod floods;
mod fuzzing;
mod key_log;
mod lan;
mod namesakes;
mod padding;
mod post_quantum;
mod relay_only;
mod relays;
mod rest;
mod resuming;
mod shards;
mod side_by_side;
mod strangers;
mod threats;
mod turns;
mod vectors;
mod waits;

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use sss_crypto::StaticKey;
use sss_wire::Eid;
use sss_wire::services::ServiceList;

use super::Host;
use crate::config::Config;
use crate::error::{CloseReason, DropReason, ReadError};
use crate::ids::{PeerId, StreamId};
use crate::io::{Batch, Ecn, Event, Input, LinkStatus, Output, TransmitBuf};
use crate::negotiation::shard_of;
use crate::refusal::Refusal;
use crate::route::{Link, Route};
use crate::streams::ReadOutcome;
use crate::time::Instant;

const SERVICE: (&str, &str) = ("test", "1");
const HELLO: u8 = 0x80;
const INITIATE: u8 = 0x86;
const COOKIE: u8 = 0x84;
const ACCEPT: u8 = 0x87;

/// Returns how much was taken of what was to be written.
fn written(written: Poll<Result<usize, crate::error::WriteError>>) -> usize {
    match written {
        Poll::Ready(written) => written.unwrap(),
        Poll::Pending => 0,
    }
}

/// A datagram: from, to, bytes.
type Packet = (SocketAddr, SocketAddr, Vec<u8>);

struct Node {
    host: Host,
    address: SocketAddr,
    events: Vec<Event>,
}

struct Net {
    nodes: Vec<Node>,
    now: Instant,
    /// Everything that was sent.
    sent: Vec<Packet>,
}

impl Net {
    fn new(count: u8) -> Self {
        Self::with((0..count).map(|_| Config::default()))
    }

    /// Hosts with these settings.
    fn with(configs: impl IntoIterator<Item = Config>) -> Self {
        let node = |(n, config): (u8, Config)| {
            let mut host = Host::new(config, StaticKey::from_bytes([n + 1; 32]), [n; 32]);
            host.listen(SERVICE.0, SERVICE.1).unwrap();
            Node {
                host,
                address: SocketAddr::from(([10, 0, 0, n + 1], 4000)),
                events: Vec::new(),
            }
        };
        Self {
            nodes: (0..).zip(configs).map(node).collect(),
            now: Instant::from_nanos(1_000_000_000),
            sent: Vec::new(),
        }
    }

    fn host(&mut self, n: usize) -> &mut Host {
        &mut self.nodes[n].host
    }

    fn eid(&self, n: usize) -> Eid {
        self.nodes[n].host.eid()
    }

    fn connect(&mut self, from: usize, to: usize) -> StreamId {
        let (eid, address, now) = (self.eid(to), self.nodes[to].address, self.now);
        self.host(from).connect(now, eid, SERVICE, &[address.into()]).unwrap()
    }

    fn poll(&mut self, n: usize) -> Vec<Packet> {
        let mut buf = TransmitBuf::new(1);
        let mut packets = Vec::new();
        let node = &mut self.nodes[n];
        loop {
            match node.host.poll(self.now, &mut buf) {
                Output::Transmit(t) => packets.push((node.address, t.link.address().unwrap(), buf.filled().to_vec())),
                Output::Event(event) => node.events.push(event),
                Output::Wake(_) => return packets,
            }
        }
    }

    fn deliver(&mut self, packet: &Packet) {
        // Several with one address are shards, the first of them number 0.
        let first = self.nodes.iter().position(|n| n.address == packet.1);
        let count = self.nodes.iter().filter(|n| n.address == packet.1).count();
        let shard = shard_of(&packet.2, count as u8, 0).filter(|_| count > 1);
        let Some(node) = first.and_then(|first| self.nodes.get_mut(first + usize::from(shard.unwrap_or(0)))) else {
            return;
        };
        let mut data = BytesMut::from(&packet.2[..]);
        let batch = Batch {
            stride: data.len(),
            data: &mut data,
            lent: &mut None,
            link: Link::Udp(packet.0),
            local: None,
            ecn: Ecn::NotEct,
        };
        node.host.handle(self.now, Input::Datagrams(batch));
    }

    /// Runs until `time` later, in steps of 10 ms. Packets for which `pass` says no are lost.
    fn run(&mut self, time: Duration, mut pass: impl FnMut(&Packet) -> bool) {
        let end = self.now + time;
        while self.now < end {
            loop {
                let mut packets: Vec<Packet> = (0..self.nodes.len()).flat_map(|n| self.poll(n)).collect();
                self.sent.extend_from_slice(&packets);
                packets.retain(&mut pass);
                if packets.is_empty() {
                    break;
                }
                for packet in &packets {
                    self.deliver(packet);
                }
            }
            self.now = self.now + Duration::from_millis(10);
        }
    }

    fn peer(&mut self, n: usize, of: usize) -> PeerId {
        let eid = self.eid(of);
        let peers = self.host(n).peers();
        peers.iter().find(|(_, e)| *e == eid).expect("a peer").0
    }

    /// The first host makes one more channel to the second.
    fn renew(&mut self) {
        let id = self.peer(0, 1);
        let host = self.host(0);
        host.peers.get_mut(id).unwrap().renew();
        host.peers.settle(&mut host.local, id.index);
    }

    fn ends(&self, n: usize) -> Vec<CloseReason> {
        let reason = |e: &Event| match e {
            Event::Disconnected(_, _, reason) => Some(reason.clone()),
            _ => None,
        };
        self.nodes[n].events.iter().filter_map(reason).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

// spec: MIG-2, MIG-4
#[test]
fn threat_33_a_tree_of_another_peer_cannot_be_asked_for() {
    let mut net = Net::new(3);
    let honest = net.connect(0, 1);
    net.run(SECOND, |_| true);
    let (index, tree) = {
        let id = net.peer(1, 0);
        let peer = net.host(1).peers.get_mut(id).unwrap();
        (id.index, peer.tree_id().unwrap())
    };
    // Host 2 somehow knows the name of the tree of 0 and 1.
    net.connect(2, 1);
    let thief = net.peer(2, 1);
    net.host(2).peers.get_mut(thief).unwrap().set_tree_id(tree);
    net.run(SECOND, |_| true);
    assert_eq!(net.ends(2), [CloseReason::PeerRestarted], "the tree is not known to it");
    assert_eq!(net.host(1).peers.demux.tree(&tree), Some(index));
    assert_eq!((net.ends(0), net.ends(1).len()), (vec![], 1));
    written(net.host(0).stream(honest).poll_write(b"still here"));
    net.run(SECOND, |_| true);
    let listener = crate::ids::ListenerId(0);
    let (stream, _) = net.host(1).accept(listener).unwrap();
    let now = net.now;
    let read = net.host(1).stream(stream).poll_read(now, 100);
    assert_eq!(
        read,
        Poll::Ready(Ok(ReadOutcome::Chunk(bytes::Bytes::from_static(b"still here"))))
    );
}

// spec: MIG-3
#[test]
fn early_frames_about_streams_on_a_channel_that_asks_for_a_tree_are_a_violation() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    net.run(SECOND, |_| true);
    // Now 0 asks for the tree again, and, against the rules, treats the attempt as the first of a tree: with early
    // data.
    let now = net.now;
    net.host(0).network_changed(now, |_, _| true);
    let id = stream.peer();
    net.host(0).peers.get_mut(id).unwrap().pretend_first_attempt();
    let mut accepts = 0;
    let held = |p: &Packet| p.2[0] == ACCEPT;
    net.run(SECOND / 10, |p| {
        accepts += usize::from(held(p));
        !held(p)
    });
    assert!(accepts > 0);
    written(net.host(0).stream(stream).poll_write(&[1; 3000]));
    net.run(SECOND / 10, |p| !held(p));
    assert!(
        matches!(net.ends(1)[..], [CloseReason::Violation(error)] if error.code == sss_wire::Code::STREAM_STATE),
        "{:?}",
        net.ends(1)
    );
}

// spec: MIG-9
#[test]
fn threat_33_an_initiate_older_than_the_newest_channel_is_dropped() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    let is_initiate = |p: &Packet| p.2[0] == INITIATE;
    // An attempt whose INITIATE is held back; then another one that succeeds.
    let now = net.now;
    net.host(0).network_changed(now, |_, _| true);
    net.sent.clear();
    net.run(SECOND / 20, |p| !is_initiate(p));
    let late = net.sent.iter().find(|p| is_initiate(p)).unwrap().clone();
    net.run(8 * SECOND, |p| !is_initiate(p) || p.2 != late.2);
    let made = net.host(1).stats().channels_made;
    assert_eq!(made, 2, "the next attempt has succeeded");
    let before = net.host(1).stats().dropped(DropReason::StaleCookie);
    net.deliver(&late);
    net.run(SECOND, |_| true);
    assert_eq!(net.host(1).stats().channels_made, made);
    assert_eq!(net.host(1).stats().dropped(DropReason::StaleCookie), before + 1);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// spec: MIG-8
#[test]
fn a_tree_keeps_at_most_four_open_channels() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    for _ in 0..40 {
        let now = net.now;
        net.host(0).network_changed(now, |_, _| true);
        net.run(SECOND / 20, |_| true);
        for n in 0..2 {
            let id = net.peer(n, 1 - n);
            let open = net.host(n).peers.get_mut(id).unwrap().open_channels();
            assert!((1..=4).contains(&open), "{open}");
        }
    }
    assert!(net.host(0).stats().channels_made > 5);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// spec: MIG-7, MIG-8
#[test]
fn a_replaced_channel_that_carries_again_stays() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    net.renew();
    net.run(SECOND / 50, |_| true);
    for n in 0..2 {
        let (now, id) = (net.now, net.peer(n, 1 - n));
        let peer = net.host(n).peers.get_mut(id).unwrap();
        assert_eq!(peer.open_channels(), 2);
        peer.lose_carrier(now);
    }
    net.run(30 * SECOND, |_| true);
    let id = net.peer(0, 1);
    assert_eq!(net.host(0).stats().channels_made, 2, "none was needed");
    assert_eq!(net.host(0).peers.get_mut(id).unwrap().open_channels(), 1);
    assert_eq!(net.host(0).link_status(id), Some(LinkStatus::Up));
    written(net.host(0).stream(stream).poll_write(b"y"));
    net.run(SECOND, |_| true);
    assert_eq!(net.host(0).stream(stream).poll_flushed(2), Poll::Ready(Ok(())));
    // Its loss is noticed like that of any other.
    net.run(4 * SECOND, |_| false);
    written(net.host(0).stream(stream).poll_write(b"z"));
    net.run(500 * SECOND, |_| false);
    assert!(matches!(net.ends(0)[..], [CloseReason::Idle(_)]), "{:?}", net.ends(0));
}

// spec: MIG-11
#[test]
fn a_responder_that_was_never_confirmed_attempts_nothing() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    // What 0 sends on the channel is lost, so that 1 cannot know that ACCEPT has arrived.
    let from = net.nodes[0].address;
    net.run(30 * SECOND, |p| p.0 != from || p.2[0] >= 0x80);
    let other = net.nodes[1].address;
    assert!(net.sent.iter().all(|p| p.0 != other || p.2[0] != HELLO));
    net.run(20 * SECOND, |_| true);
    assert_eq!((net.ends(0), net.ends(1)), (vec![], vec![]));
}

// spec: SVC-1, SVC-2
#[test]
fn a_host_answers_for_its_services_by_itself() {
    let mut net = Net::new(2);
    let asked = ask(&mut net, "services/1");
    net.run(SECOND, |_| true);
    assert_eq!(answer(&mut net, asked), Ok(vec!["test".to_owned()]));
    let other = ask(&mut net, "services/2");
    net.run(SECOND, |_| true);
    assert_eq!(answer(&mut net, other), Err(ReadError::Refused(Refusal::Protocol)));
    net.host(0).stream(asked).release();
    net.host(0).stream(other).release();
    net.run(SECOND, |_| true);
    let peer = net.peer(1, 0);
    assert_eq!(net.host(1).stream_count(peer), 0);
}

// spec: SVC-6
#[test]
fn a_host_keeps_at_most_sixteen_answers_for_a_peer() {
    let mut net = Net::new(2);
    net.connect(0, 1);
    net.run(SECOND, |_| true);
    let peer = net.peer(1, 0);
    let held = net.host(1).stream_count(peer);
    let asked: Vec<_> = (0..20).map(|_| ask(&mut net, "services/1")).collect();
    // Nothing that host 1 sends arrives: it has to keep what it said.
    let deaf = net.nodes[0].address;
    net.run(SECOND / 2, |p| p.1 != deaf);
    net.run(10 * SECOND, |_| true);
    let answers: Vec<_> = asked.iter().map(|s| answer(&mut net, *s)).collect();
    let refused = |a: &&Result<_, _>| **a == Err(ReadError::Refused(Refusal::Backlog));
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 16, "{answers:?}");
    assert_eq!(answers.iter().filter(refused).count(), 4);
    for stream in asked {
        net.host(0).stream(stream).release();
    }
    net.run(SECOND, |_| true);
    assert_eq!(net.host(1).stream_count(peer), held);
    let again = ask(&mut net, "services/1");
    net.run(SECOND, |_| true);
    assert!(answer(&mut net, again).is_ok());
}

#[test]
fn totals_of_a_peer_outlive_its_channels() {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(&[1; 1000]));
    let id = stream.peer();
    assert_eq!(net.host(0).peer_stats(id).unwrap().unsent, 1000);
    net.run(SECOND, |_| true);
    let mut before = net.host(0).peer_stats(id).unwrap();
    let info = net.host(0).channel_info(id).unwrap();
    assert_eq!(
        (before.channels_made, before.migrations, before.outages, before.unsent),
        (1, 0, 0, 0)
    );
    assert_eq!(
        (before.packets_sent, before.bytes_sent, before.packets_received),
        (info.packets_sent, info.bytes_sent, info.packets_received)
    );
    // More than are remembered.
    for moves in 1..=20 {
        let now = net.now;
        net.host(0).network_changed(now, |_, _| true);
        net.run(SECOND / 2, |_| true);
        let stats = net.host(0).peer_stats(id).unwrap();
        assert_eq!((stats.channels_made, stats.migrations), (1 + moves, moves));
        assert!(stats.packets_sent > before.packets_sent && stats.bytes_received > before.bytes_received);
        before = stats;
    }
    written(net.host(0).stream(stream).poll_write(b"unheard"));
    net.run(5 * SECOND, |_| false);
    let stats = net.host(0).peer_stats(id).unwrap();
    assert_eq!(stats.outages, 1);
    net.run(20 * SECOND, |_| true);
    assert_eq!(net.host(0).peer_stats(id).unwrap().outages, 1);
    assert_eq!(net.host(0).stream(stream).poll_flushed(1007), Poll::Ready(Ok(())));
    // Either the old channel found them lost, or another one took over.
    let stats = net.host(0).peer_stats(id).unwrap();
    assert!(stats.packets_lost > 0 || stats.migrations > 20, "{stats:?}");
}

#[test]
fn streams_to_services_are_counted() {
    let mut net = Net::new(2);
    net.connect(0, 1);
    net.connect(0, 1);
    ask(&mut net, "services/1");
    ask(&mut net, "services/2");
    net.run(SECOND, |_| true);
    let listener = crate::ids::ListenerId(0);
    assert!(net.host(1).accept(listener).is_some());
    let stats = net.host(1).stats();
    assert_eq!((stats.streams_accepted, stats.streams_refused), (1, 1));
    net.host(1).unlisten(listener);
    let stats = net.host(1).stats();
    assert_eq!((stats.streams_accepted, stats.streams_refused), (1, 2));
}

fn ask(net: &mut Net, protocol: &str) -> StreamId {
    let (eid, address, now) = (net.eid(1), net.nodes[1].address, net.now);
    net.host(0)
        .connect(now, eid, ("sss", protocol), &[address.into()])
        .unwrap()
}

/// The names of the services in an answer.
fn answer(net: &mut Net, stream: StreamId) -> Result<Vec<String>, ReadError> {
    let now = net.now;
    match net.host(0).stream(stream).poll_read(now, 1 << 16)? {
        Poll::Ready(ReadOutcome::Chunk(bytes)) => {
            let list = ServiceList::decode(&bytes).expect("a whole list");
            Ok(list.services.into_iter().map(|s| s.name).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// A pair with two open channels, of which nothing is said any more.
fn two_channels() -> (Net, Vec<Vec<u8>>) {
    let mut net = Net::new(2);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    net.renew();
    net.run(SECOND / 50, |_| true);
    let id = net.peer(1, 0);
    let peer = net.host(1).peers.get_mut(id).unwrap();
    assert_eq!(peer.open_channels(), 2);
    let ids = peer.channel_ids();
    (net, ids)
}

// spec: NEG-23
#[test]
fn a_host_that_shuts_down_begins_nothing_more_and_refuses_with_its_reason() {
    let mut net = Net::new(2);
    let now = net.now;
    net.host(1).shutdown(now);
    let eid = net.eid(0);
    let begun = net.host(1).connect(now, eid, ("test", "1"), &[]);
    let Err(crate::ConnectError::Open(crate::OpenError::Lost(CloseReason::Local { code, .. }))) = begun else {
        panic!("{begun:?}");
    };
    assert_eq!(code, sss_wire::Code::SHUTDOWN);
    net.connect(0, 1);
    net.run(SECOND, |_| true);
    let [CloseReason::Peer { code, .. }] = &net.ends(0)[..] else {
        panic!("{:?}", net.ends(0));
    };
    assert_eq!(*code, sss_wire::Code::SHUTDOWN);
    assert!(net.host(1).is_idle());
}

// spec: MIG-8, MIG-20
#[test]
fn close_on_any_channel_of_a_tree_says_why_the_tree_ended() {
    for heard in 0..2 {
        let (mut net, ids) = two_channels();
        let (now, id) = (net.now, net.peer(0, 1));
        let is_on = |p: &Packet, id: &[u8]| p.2.get(1..=id.len()) == Some(id);
        net.sent.clear();
        net.host(0).disconnect(now, id, sss_wire::Code::app(403), "not you");
        let to_b = net.nodes[1].address;
        // Only the CLOSE of one of the channels arrives.
        net.run(SECOND / 50, |p| p.1 != to_b || is_on(p, &ids[heard]));
        for id in &ids {
            assert!(net.sent.iter().any(|p| is_on(p, id)), "CLOSE on each channel");
        }
        let [CloseReason::Peer { code, reason }] = &net.ends(1)[..] else {
            panic!("{:?}", net.ends(1));
        };
        assert_eq!(
            (*code, &reason[..]),
            (sss_wire::Code::app(403), "not you"),
            "channel {heard}"
        );
        let id = net.peer(1, 0);
        assert_eq!(net.host(1).peers.get_mut(id).map_or(0, |p| p.open_channels()), 0);
        // What the other channel says afterwards changes nothing, on either side.
        net.run(SECOND, |_| true);
        assert_eq!((net.ends(0).len(), net.ends(1).len()), (1, 1));
    }
}

#[test]
fn the_deadline_of_a_datagram_is_a_moment_to_be_called_at() {
    for many in [false, true] {
        let mut net = Net::new(2);
        let stream = net.connect(0, 1);
        net.poll(0);
        // Nobody answers yet; HELLO is not repeated so soon. Half of the initial round-trip time before its deadline
        // (REC-1) it is too late.
        let (now, time) = (net.now, Duration::from_millis(170));
        let options = crate::DatagramOptions::default().with(|o| (o.deadline, o.tracked) = (Some(time), true));
        let data = bytes::Bytes::from_static(b"soon");
        let sent = match many {
            true => {
                let mut all = vec![data].into_iter();
                let sent = net.host(0).stream(stream).send_datagrams(now, &mut all, &options);
                sent.map(|()| all.len() == 0)
            }
            false => net
                .host(0)
                .stream(stream)
                .send_datagram(now, &data, &options)
                .map(|id| id.is_some()),
        };
        assert_eq!(sent, Ok(true));
        let mut buf = TransmitBuf::new(1);
        let at = loop {
            if let Output::Wake(at) = net.host(0).poll(now, &mut buf) {
                break at;
            }
        };
        let soon = now + Duration::from_millis(4);
        assert!(at.is_some_and(|at| at <= soon), "{at:?}");
        net.now = soon;
        net.poll(0);
        let is_fate = |event: &&Event| matches!(event, Event::DatagramSettled(.., crate::DatagramFate::Expired));
        assert_eq!(net.nodes[0].events.iter().filter(is_fate).count(), 1);
    }
}
