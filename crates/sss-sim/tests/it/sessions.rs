//! Sessions that are as short as can be: connect, one request and its response, close, and again.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Config, Event, Interest, ListenerId, ReadOutcome, StreamId};
use sss_sim::{Apps, HostIndex, LinkConfig, World};
use sss_wire::Code;

use crate::support::{SERVICE, ms};

const SERVER: HostIndex = HostIndex(0);
const REQUEST: usize = 100;
/// However much is lost, a session does not take longer.
const LIMIT: Duration = Duration::from_secs(12);

/// What a client is about.
struct Session {
    top: StreamId,
    child: StreamId,
    read: usize,
    since: Duration,
}

/// A server, and clients that have one session after another.
struct Shop {
    listener: ListenerId,
    /// Sessions to be begun, in all.
    left: usize,
    sessions: BTreeMap<HostIndex, Session>,
    /// The server's top-level streams, and its requests: how much of each was read.
    tops: Vec<StreamId>,
    requests: BTreeMap<StreamId, usize>,
    completed: usize,
    slowest: Duration,
}

impl Shop {
    fn open(world: &mut World, clients: usize, sessions: usize) -> Self {
        let listener = world.call(SERVER, |h, _| h.listen(SERVICE.0, SERVICE.1)).unwrap();
        let mut shop = Self {
            listener,
            left: sessions,
            sessions: BTreeMap::new(),
            tops: Vec::new(),
            requests: BTreeMap::new(),
            completed: 0,
            slowest: Duration::ZERO,
        };
        assert!(world.call(SERVER, |h, _| h.accept(listener)).is_none());
        for client in 1..=clients {
            shop.begin(world, HostIndex(client));
        }
        shop
    }

    fn begin(&mut self, world: &mut World, client: HostIndex) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let top = world.connect(client, SERVER, SERVICE);
        let child = world.call(client, |h, _| h.stream(top).open_substream()).unwrap();
        let written = world.write(client, child, &[7; REQUEST]).unwrap();
        assert_eq!(written, REQUEST);
        world.call(client, |h, _| h.stream(child).finish()).unwrap();
        let since = world.elapsed();
        let session = Session {
            top,
            child,
            read: 0,
            since,
        };
        self.sessions.insert(client, session);
        self.read_response(world, client);
    }

    fn read_response(&mut self, world: &mut World, client: HostIndex) {
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        loop {
            let child = session.child;
            match world.call(client, |h, now| h.stream(child).poll_read(now, 4096)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(data))) => session.read += data.len(),
                Poll::Ready(Ok(ReadOutcome::End)) => break,
                Poll::Pending => return,
                other => panic!("{client:?} after {:?}: {other:?}", world.elapsed() - session.since),
            }
        }
        assert_eq!(session.read, REQUEST);
        self.slowest = self.slowest.max(world.elapsed() - session.since);
        self.completed += 1;
        let (top, child) = (session.top, session.child);
        world.call(client, |h, now| {
            h.stream(child).release();
            h.disconnect(now, top.peer(), Code::NONE, "");
            h.stream(top).release();
        });
        self.sessions.remove(&client);
        self.begin(world, client);
    }

    fn accept(&mut self, world: &mut World) {
        let listener = self.listener;
        while let Some((top, _)) = world.call(SERVER, |h, _| h.accept(listener)) {
            self.tops.push(top);
            self.accept_requests(world, top);
        }
    }

    fn accept_requests(&mut self, world: &mut World, top: StreamId) {
        loop {
            match world.call(SERVER, |h, _| h.stream(top).poll_accept_substream()) {
                Poll::Ready(Ok(Some(request))) => {
                    self.requests.insert(request, 0);
                    self.answer(world, request);
                }
                Poll::Pending => return,
                Poll::Ready(Ok(None) | Err(_)) => {
                    self.tops.retain(|t| *t != top);
                    return world.call(SERVER, |h, _| h.stream(top).release());
                }
            }
        }
    }

    fn answer(&mut self, world: &mut World, request: StreamId) {
        let Some(read) = self.requests.get_mut(&request) else {
            return;
        };
        loop {
            match world.call(SERVER, |h, now| h.stream(request).poll_read(now, 4096)) {
                Poll::Ready(Ok(ReadOutcome::Chunk(data))) => *read += data.len(),
                Poll::Ready(Ok(ReadOutcome::End)) => {
                    assert_eq!(*read, REQUEST);
                    let written = world.write(SERVER, request, &[8; REQUEST]);
                    assert!(written.is_ok_and(|n| n == REQUEST));
                    world.call(SERVER, |h, _| h.stream(request).finish()).unwrap();
                    break;
                }
                Poll::Pending => return,
                _ => break,
            }
        }
        self.requests.remove(&request);
        world.call(SERVER, |h, _| h.stream(request).release());
    }

    fn describe(&self, world: &World, client: HostIndex) -> String {
        let mut lines = Vec::new();
        for host in [client, SERVER] {
            let core = world.host(host);
            let (own, other) = (world.eid(client), world.eid(SERVER));
            for (peer, eid) in core.peers() {
                if eid == own || eid == other {
                    let link = core.link_status(peer);
                    lines.push(format!(
                        "{host:?} {link:?} {:?} {:#?}",
                        core.channel_info(peer),
                        core.tree(peer)
                    ));
                }
            }
        }
        lines.join("\n")
    }

    fn run(&mut self, world: &mut World) {
        while !self.sessions.is_empty() {
            assert!(world.step(world.elapsed() + LIMIT, self), "nothing happens any more");
            assert_eq!(world.fault(), None);
            let now = world.elapsed();
            if let Some((client, session)) = self.sessions.iter().find(|(_, s)| now - s.since > LIMIT) {
                let (client, since) = (*client, session.since);
                panic!(
                    "{client:?} waits since {since:?}, after {} sessions\n{:?}\n{}",
                    self.completed,
                    world.host(SERVER).stats(),
                    self.describe(world, client)
                );
            }
        }
    }
}

impl Apps for Shop {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(_) => self.accept(world),
            Event::Ready(top, Interest::Accept) => self.accept_requests(world, top),
            Event::Ready(request, Interest::Read) if host == SERVER => self.answer(world, request),
            Event::Ready(_, Interest::Read) => self.read_response(world, host),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

fn play(seed: u64, link: &LinkConfig, clients: usize, sessions: usize) -> Duration {
    let mut world = World::new(seed, false);
    for _ in 0..=clients {
        world.add_host(Config::default());
    }
    for client in 1..=clients {
        world.join(SERVER, HostIndex(client), link);
    }
    let mut shop = Shop::open(&mut world, clients, sessions);
    shop.run(&mut world);
    assert_eq!(shop.completed, sessions);
    shop.slowest
}

#[test]
fn thousands_of_short_sessions_on_bad_links_all_come_to_their_end() {
    for (seed, loss) in [(700, 0.0), (701, 0.01), (702, 0.05)] {
        let link = LinkConfig {
            loss,
            duplicate: loss,
            reorder: loss,
            jitter: Duration::from_micros(50),
            ..LinkConfig::with_delay(Duration::from_micros(100))
        };
        let slowest = play(seed, &link, 4, 1500);
        assert!(slowest < LIMIT, "{slowest:?}");
    }
    assert!(play(703, &LinkConfig::with_delay(ms(1)), 2, 100) < ms(20));
}
