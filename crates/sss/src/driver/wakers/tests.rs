//! Tests of who waits for what, without a driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::Bytes;
use sss_proto::{DatagramOptions, Instant, Route};

use super::*;
use crate::identity::Identity;

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell::default());
    (Arc::clone(&bell), Waker::from(bell))
}

/// Streams, each of a peer of its own that is never reached, a listener, and a datagram of the first stream.
fn names(peers: usize) -> (Vec<StreamId>, ListenerId, DatagramId) {
    let mut core = sss_proto::Host::new(sss_proto::Config::default(), Identity::generate().key(), [7; 32]);
    let nowhere = [Route::udp("127.0.0.1:9".parse().unwrap())];
    let eid = Identity::generate;
    let streams = (0..peers).map(|_| {
        core.connect(Instant::default(), eid().eid(), ("a", "1"), &nowhere)
            .unwrap()
    });
    let streams: Vec<StreamId> = streams.collect();
    let listener = core.listen("a", "1").unwrap();
    let mut options = DatagramOptions::default();
    (options.tracked, options.reliable) = (true, true);
    let datagram = core
        .stream(streams[0])
        .send_datagram(Instant::default(), &Bytes::from_static(b"a"), &options);
    (streams, listener, datagram.unwrap().unwrap())
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn keys(stream: StreamId, listener: ListenerId) -> Vec<Key> {
    let peer = stream.peer();
    let mut keys = vec![
        Key::Released(stream),
        Key::Acceptable(listener),
        Key::Connected(peer),
        Key::Closed(peer),
        Key::Probe(address(1)),
        Key::Stopped,
    ];
    keys.extend(Interest::ALL.map(|interest| Key::Stream(stream, interest)));
    keys
}

#[test]
fn no_list_is_kept_for_those_who_have_left() {
    let (streams, listener, _) = names(1);
    let mut waiters = Waiters::default();
    for key in keys(streams[0], listener) {
        let tickets = [0; 3].map(|_| waiters.add(key, Waiter::Task(Waker::noop().clone())));
        assert_eq!(waiters.count(), 3);
        for ticket in tickets {
            assert!(waiters.leave(ticket).is_some());
            assert!(waiters.leave(ticket).is_none());
        }
    }
    for side in [Side::Read, Side::Write] {
        waiters.wait(streams[0], side, Waker::noop());
        assert!(waiters.unwait(streams[0], side).is_some());
    }
    let lists = &waiters.lists;
    assert!(lists.listeners.is_empty() && lists.released.is_empty() && lists.probes.is_empty());
    assert!(lists.trees.values().all(|tree| tree.is_empty()));
    assert_eq!(waiters.count(), 0);
}

#[test]
fn one_who_waits_for_one_thing_takes_no_table() {
    let (streams, ..) = names(1);
    let mut waiters = Waiters::default();
    let room = |waiters: &Waiters| waiters.lists.trees[&streams[0].peer()].streams.others.capacity();
    let add = |waiters: &mut Waiters, interest| {
        let key = Key::Stream(streams[0], interest);
        waiters.add(key, Waiter::Task(Waker::noop().clone()))
    };
    for _ in 0..3 {
        let ticket = add(&mut waiters, Interest::Accept);
        assert_eq!((waiters.count(), room(&waiters)), (1, 0));
        assert!(waiters.leave(ticket).is_some());
    }
    // Others for something else, of which the first is gone before the second.
    let [first, second] = [Interest::Accept, Interest::Drained].map(|interest| add(&mut waiters, interest));
    assert!(room(&waiters) > 0);
    assert!(waiters.leave(first).is_some());
    let third = add(&mut waiters, Interest::Drained);
    let fourth = add(&mut waiters, Interest::Accept);
    for ticket in [second, third, fourth] {
        assert!(waiters.leave(ticket).is_some());
    }
    assert_eq!(waiters.count(), 0);
    assert!(waiters.lists.trees.values().all(|tree| tree.is_empty()));
}

#[test]
fn memory_of_many_is_given_back() {
    let (streams, ..) = names(1);
    let peer = streams[0].peer();
    let mut core = sss_proto::Host::new(sss_proto::Config::default(), Identity::generate().key(), [7; 32]);
    let nowhere = [Route::udp("127.0.0.1:9".parse().unwrap())];
    let top = core
        .connect(Instant::default(), Identity::generate().eid(), ("a", "1"), &nowhere)
        .unwrap();
    let many: Vec<StreamId> = (0..3 * KEPT_STREAMS)
        .map(|_| core.stream(top).open_substream().unwrap())
        .collect();
    assert_eq!(
        many[0].peer(),
        peer,
        "the first peer of a host has the same name in each"
    );
    let mut waiters = Waiters::default();
    let room = |waiters: &Waiters| {
        let tree = &waiters.lists.trees[&peer];
        (tree.sides.capacity(), tree.streams.others.capacity())
    };
    let key = |stream: &StreamId| Key::Stream(*stream, Interest::Accept);
    let fill = |waiters: &mut Waiters| -> Vec<Ticket> {
        many.iter().for_each(|s| waiters.wait(*s, Side::Read, Waker::noop()));
        let add = |s| waiters.add(key(s), Waiter::Task(Waker::noop().clone()));
        many.iter().map(add).collect()
    };
    // They leave, what they wait for happens, or the streams end.
    for ticket in fill(&mut waiters) {
        waiters.leave(ticket);
    }
    many.iter().for_each(|s| drop(waiters.unwait(*s, Side::Read)));
    assert_eq!(room(&waiters), (0, 0));
    fill(&mut waiters);
    let mut notices = Notices::default();
    for stream in &many {
        for interest in [Interest::Accept, Interest::Read] {
            waiters.on_event(Event::Ready(*stream, interest), &mut notices);
        }
    }
    assert_eq!(room(&waiters), (0, 0));
    fill(&mut waiters);
    many.iter().for_each(|s| waiters.wake_waiting_for(*s, &mut notices));
    assert_eq!(room(&waiters), (0, 0));
    assert_eq!(notices.wakers.len(), 4 * many.len());
}

#[test]
fn peers_for_whom_nobody_waits_are_forgotten_and_not_looked_for_each_time() {
    let (streams, ..) = names(10 * KEPT_TREES);
    let mut waiters = Waiters::default();
    for stream in &streams {
        waiters.wait(*stream, Side::Read, Waker::noop());
        waiters.unwait(*stream, Side::Read);
    }
    assert!(waiters.lists.trees.len() <= KEPT_TREES);
    for stream in &streams {
        waiters.wait(*stream, Side::Read, Waker::noop());
    }
    assert_eq!(waiters.count(), streams.len());
    let lists = &waiters.lists;
    assert!(
        lists.sweep_at > lists.trees.len(),
        "of {} all are kept",
        lists.trees.len()
    );
}

#[test]
fn whoever_waits_for_anything_of_a_peer_is_not_forgotten_when_others_come() {
    let (streams, ..) = names(6 * KEPT_TREES);
    let (waited, others) = streams.split_at(KEPT_TREES);
    let mut waiters = Waiters::default();
    let (mut closed, mut links) = (Vec::new(), Vec::new());
    for (kind, stream) in (0..4).cycle().zip(waited) {
        let (peer, task) = (stream.peer(), Waiter::Task(Waker::noop().clone()));
        match kind {
            0 => {
                waiters.add(Key::Connected(peer), task);
            }
            1 => {
                waiters.add(Key::Stream(*stream, Interest::Accept), task);
            }
            2 => {
                let (to, told) = oneshot::channel();
                waiters.add(Key::Closed(peer), Waiter::Closed(to));
                closed.push(told);
            }
            _ => links.push((peer, waiters.watch_link(peer, LinkStatus::Up))),
        }
    }
    for stream in others {
        waiters.wait(*stream, Side::Read, Waker::noop());
        waiters.unwait(*stream, Side::Read);
    }
    assert!(waiters.lists.trees.len() < others.len(), "some were forgotten");
    for (peer, _) in &links {
        assert!(waiters.unwatch_link(*peer).is_none(), "somebody follows it");
    }
    let (mut notices, eid) = (Notices::default(), Identity::generate().eid());
    for stream in waited {
        waiters.on_event(Event::Disconnected(stream.peer(), eid, REASON), &mut notices);
    }
    assert_eq!(notices.wakers.len(), waited.len() / 2);
    notices.deliver();
    assert!(closed.into_iter().all(|mut told| told.try_recv() == Ok(REASON)));
    let is_down = |link: &watch::Receiver<LinkStatus>| matches!(*link.borrow(), LinkStatus::Down(_));
    assert!(links.iter().all(|(_, link)| is_down(link)));
    assert_eq!(waiters.count(), 0);
}

#[test]
fn the_latest_waker_counts() {
    let (streams, listener, _) = names(1);
    let mut waiters = Waiters::default();
    let mut notices = Notices::default();
    let ((first, one), (second, two)) = (bell(), bell());
    let mut ticket = Ticket::default();
    for waker in [&one, &two] {
        waiters.enter(&mut ticket, Key::Acceptable(listener), waker);
        waiters.wait_acceptable(listener, waker);
        waiters.wait(streams[0], Side::Write, waker);
    }
    assert_eq!(waiters.count(), 3);
    assert_eq!(waiters.take_replaced().len(), 3);
    // The task that polls a listener stays when another one leaves.
    let left = waiters.leave(ticket);
    assert!(matches!(left, Some(Waiter::Task(waker)) if waker.will_wake(&two)));
    waiters.on_event(Event::Acceptable(listener), &mut notices);
    waiters.on_event(Event::Ready(streams[0], Interest::Write), &mut notices);
    notices.deliver();
    assert_eq!((first.rung(), second.rung()), (0, 2));
    assert_eq!(waiters.count(), 0);
}

/// End of a peer.
const REASON: CloseReason = CloseReason::PeerRestarted;

/// Everybody who can wait: those who are woken by `waker`, and those who are told.
struct Everybody {
    closed: oneshot::Receiver<CloseReason>,
    found: oneshot::Receiver<Eid>,
    over: oneshot::Receiver<()>,
    receipt: oneshot::Receiver<DatagramFate>,
    link: watch::Receiver<LinkStatus>,
}

/// Number of tasks that wait in each place: those of [`keys`], and two sides and a listener.
const TASKS: usize = 4 + Interest::ALL.len() + 3;

impl Everybody {
    fn enter(waiters: &mut Waiters, names: &(Vec<StreamId>, ListenerId, DatagramId), waker: &Waker) -> Self {
        let (stream, listener, datagram) = (names.0[0], names.1, names.2);
        let peer = stream.peer();
        for key in keys(stream, listener) {
            // Of these two, tasks are told.
            if !matches!(key, Key::Closed(_) | Key::Probe(_)) {
                waiters.add(key, Waiter::Task(waker.clone()));
            }
        }
        waiters.wait(stream, Side::Read, waker);
        waiters.wait(stream, Side::Write, waker);
        waiters.wait_acceptable(listener, waker);
        let ((to_closed, closed), (to_found, found), (to_over, over)) =
            (oneshot::channel(), oneshot::channel(), oneshot::channel());
        waiters.add(Key::Closed(peer), Waiter::Closed(to_closed));
        waiters.add(Key::Probe(address(1)), Waiter::Found(to_found));
        waiters.add(Key::Stopped, Waiter::Over(to_over));
        Self {
            closed,
            found,
            over,
            receipt: waiters.settled(peer, datagram),
            link: waiters.watch_link(peer, LinkStatus::Up),
        }
    }
}

#[test]
fn nobody_waits_for_a_driver_that_has_stopped() {
    let names = names(1);
    let mut waiters = Waiters::default();
    let (bell, waker) = bell();
    let mut all = Everybody::enter(&mut waiters, &names, &waker);
    let mut notices = Notices::default();
    waiters.wake_all(&mut notices);
    assert!(notices.deliver());
    assert_eq!(bell.rung(), TASKS);
    assert_eq!(waiters.count(), 0);
    assert!(all.closed.try_recv().is_err() && all.found.try_recv().is_err() && all.receipt.try_recv().is_err());
    assert!(all.over.try_recv().is_ok());
    assert!(all.link.has_changed().is_err(), "nothing more comes");
}

#[test]
fn the_end_of_a_peer_is_told_with_its_reason() {
    let names = names(2);
    let streams = &names.0;
    let mut waiters = Waiters::default();
    let (bell, waker) = bell();
    let mut all = Everybody::enter(&mut waiters, &names, &waker);
    waiters.wait(streams[1], Side::Read, &waker);
    let mut notices = Notices::default();
    let peer = streams[0].peer();
    waiters.on_event(
        Event::Disconnected(peer, Identity::generate().eid(), REASON),
        &mut notices,
    );
    notices.deliver();
    // Two sides, all that streams are waited for, and the channel.
    assert_eq!(bell.rung(), Interest::ALL.len() + 3);
    assert_eq!(all.closed.try_recv(), Ok(REASON));
    assert_eq!(*all.link.borrow_and_update(), LinkStatus::Down(REASON));
    assert!(all.link.has_changed().is_err(), "nothing more comes");
    assert!(waiters.unwait(streams[1], Side::Read).is_some(), "of another peer");
}

#[test]
fn all_who_wait_for_a_stream_are_woken_when_it_is_let_go() {
    let names = names(1);
    let streams = &names.0;
    for is_let_go in [false, true] {
        let mut waiters = Waiters::default();
        let (bell, waker) = bell();
        let _all = Everybody::enter(&mut waiters, &names, &waker);
        let mut notices = Notices::default();
        if is_let_go {
            waiters.forget(streams[0], &mut notices);
        } else {
            waiters.wake_waiting_for(streams[0], &mut notices);
        }
        notices.deliver();
        assert_eq!(bell.rung(), Interest::ALL.len() + 2 + usize::from(is_let_go));
    }
}

#[test]
fn a_peer_that_is_reached_again_wakes_those_who_wait_for_a_channel() {
    let (streams, ..) = names(1);
    let peer = streams[0].peer();
    let mut waiters = Waiters::default();
    let mut notices = Notices::default();
    for event in [
        Event::Link(peer, LinkStatus::Up),
        Event::Connected(peer, Identity::generate().eid()),
    ] {
        let (bell, waker) = bell();
        waiters.add(Key::Connected(peer), Waiter::Task(waker));
        waiters.on_event(Event::Link(peer, LinkStatus::Stalled), &mut notices);
        notices.deliver();
        assert_eq!(bell.rung(), 0);
        waiters.on_event(event, &mut notices);
        notices.deliver();
        assert_eq!(bell.rung(), 1);
    }
}

/// Streams of some peers, some of each.
fn streams_of_peers() -> Vec<StreamId> {
    let mut core = sss_proto::Host::new(sss_proto::Config::default(), Identity::generate().key(), [7; 32]);
    let nowhere = [Route::udp("127.0.0.1:9".parse().unwrap())];
    let mut streams = Vec::new();
    for _ in 0..3 {
        let eid = Identity::generate().eid();
        let top = core.connect(Instant::default(), eid, ("a", "1"), &nowhere).unwrap();
        streams.push(top);
        streams.extend([0; 2].map(|_| core.stream(top).open_substream().unwrap()));
    }
    streams
}

/// One who waits, as a plain list knows him.
struct Waits {
    key: Key,
    ticket: Ticket,
    waker: Waker,
}

/// All who wait, in the order in which they came.
#[derive(Default)]
struct Model(Vec<Waits>);

impl Model {
    /// Those who wait for one of these, one after the other.
    fn take(&mut self, keys: &[Key]) -> Vec<Waker> {
        let mut taken = Vec::new();
        for key in keys {
            taken.extend(
                self.0
                    .extract_if(.., |waits| waits.key == *key)
                    .map(|waits| waits.waker),
            );
        }
        taken
    }
}

/// Takes everybody out who is to be woken, and compares them with those of the model.
#[track_caller]
fn compare(notices: &mut Notices, expected: &[Waker]) {
    assert_eq!(notices.wakers.len(), expected.len());
    let woken = notices.wakers.drain(..);
    assert!(woken.zip(expected).all(|(woken, expected)| woken.will_wake(expected)));
}

#[test]
fn those_who_wait_are_the_same_as_in_a_plain_list() {
    let streams = streams_of_peers();
    let (_, listener, _) = names(1);
    let everything: Vec<Key> = streams.iter().flat_map(|stream| keys(*stream, listener)).collect();
    for seed in 0..40 {
        let mut draws = 2 * seed + 1_u64;
        let mut draw = |below: usize| {
            draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (draws >> 33) as usize % below
        };
        // Many wait for little, or few for much.
        let kinds = [1, 3, everything.len()][draw(3)];
        let wanted: Vec<Key> = (0..kinds).map(|_| everything[draw(everything.len())]).collect();
        let (mut waiters, mut notices, mut model) = (Waiters::default(), Notices::default(), Model::default());
        let mut gone = vec![Ticket::default()];
        for _ in 0..600 {
            let (key, stream) = (wanted[draw(kinds)], streams[draw(streams.len())]);
            let of_stream = || Interest::ALL.map(|interest| Key::Stream(stream, interest));
            match draw(20) {
                0..11 => {
                    let waker = bell().1;
                    let mut ticket = gone[draw(gone.len())];
                    waiters.enter(&mut ticket, key, &waker);
                    model.0.push(Waits { key, ticket, waker });
                }
                11 => assert!(waiters.leave(gone[draw(gone.len())]).is_none()),
                12..16 if !model.0.is_empty() => {
                    let waits = model.0.remove(draw(model.0.len()));
                    let left = waiters.leave(waits.ticket);
                    assert!(matches!(left, Some(Waiter::Task(waker)) if waker.will_wake(&waits.waker)));
                    gone.push(waits.ticket);
                }
                16 => {
                    let interest = Interest::ALL[draw(Interest::ALL.len())];
                    if !matches!(interest, Interest::Read | Interest::Write) {
                        waiters.on_event(Event::Ready(stream, interest), &mut notices);
                        compare(&mut notices, &model.take(&[Key::Stream(stream, interest)]));
                    }
                }
                17 => {
                    waiters.forget(stream, &mut notices);
                    let released = [Key::Released(stream)];
                    let expected: Vec<Key> = released.into_iter().chain(of_stream()).collect();
                    compare(&mut notices, &model.take(&expected));
                }
                18 => {
                    waiters.wake_acceptors(listener, &mut notices);
                    compare(&mut notices, &model.take(&[Key::Acceptable(listener)]));
                }
                19 if draw(4) == 0 => {
                    let (peer, eid) = (stream.peer(), Identity::generate().eid());
                    waiters.on_event(Event::Disconnected(peer, eid, REASON), &mut notices);
                    let is_of_peer = |waits: &mut Waits| match waits.key {
                        Key::Stream(stream, _) => stream.peer() == peer,
                        Key::Connected(of) => of == peer,
                        // Those who wait for the end are told of it, and no task is among them.
                        _ => false,
                    };
                    let closed = model.take(&[Key::Closed(peer)]);
                    let expected: Vec<Waits> = model.0.extract_if(.., is_of_peer).collect();
                    assert_eq!(notices.wakers.len(), expected.len());
                    for waker in notices.wakers.drain(..) {
                        assert!(expected.iter().any(|waits| waits.waker.will_wake(&waker)));
                    }
                    drop(closed);
                }
                _ => {}
            }
            assert_eq!(waiters.count(), model.0.len(), "seed {seed}");
            assert!(
                model
                    .0
                    .iter()
                    .all(|waits| waiters.slots.key(waits.ticket) == Some(waits.key))
            );
        }
        for waits in model.0.drain(..) {
            assert!(waiters.leave(waits.ticket).is_some());
        }
        let lists = &waiters.lists;
        assert!(lists.released.is_empty() && lists.probes.is_empty() && lists.listeners.is_empty());
        assert!(lists.trees.values().all(|tree| tree.is_empty()) && lists.stopped.is_empty());
    }
}
