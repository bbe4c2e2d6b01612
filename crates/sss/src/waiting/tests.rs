#[cfg(target_os = "linux")]
mod forked;
mod storm;

use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::*;
use crate::host::Host;
use crate::server::Server;
use crate::server_set::ServerSet;
use crate::stream::Stream;

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A kind of wait, and its name.
type Kind = (&'static str, fn(&mut Stream) -> Boxed<'_>);

struct World {
    client: Host,
    host: Host,
    server: Server,
    ours: Stream,
    /// Nobody reads it.
    theirs: Stream,
}

async fn world() -> World {
    let build = || Host::builder().bind("127.0.0.1:0").build();
    let (client, host) = (build().await.unwrap(), build().await.unwrap());
    let server = host.listen("test", "1").unwrap();
    let connect = client.connect(host.eid(), "test", "1").hint(host.local_addr());
    let ours = connect.await.unwrap();
    let (theirs, _) = server.accept().await.unwrap();
    World {
        client,
        host,
        server,
        ours,
        theirs,
    }
}

/// Counts how many wait for something of a host.
fn count(host: &Host) -> usize {
    host.shared().tend(|inner| inner.waiters.count())
}

/// Waits until nobody does any more.
async fn settled(host: &Host) {
    while count(host) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn poll_once(wait: &mut Boxed<'_>, waker: &Waker) {
    let polled = wait.as_mut().poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending(), "it waits");
}

fn boxed<'a, R>(wait: impl Future<Output = R> + 'a) -> Boxed<'a> {
    Box::pin(async move { drop(wait.await) })
}

/// Fills the stream, whatever is sent of it, until it takes no more.
async fn fill(stream: &mut Stream) {
    let full = Duration::from_millis(300);
    while tokio::time::timeout(full, stream.write_all(&[0; 65_536])).await.is_ok() {}
}

/// Waits of all kinds for `ours`, on which nothing arrives and nothing more can be written.
const ON_STREAM: [Kind; 19] = [
    ("read", |s| boxed(async { s.read(&mut [0; 9]).await })),
    ("read_chunk", |s| boxed(s.read_chunk(9))),
    ("read_chunks", |s| {
        boxed(async { s.read_chunks(9, &mut Vec::new()).await })
    }),
    ("read_exact", |s| boxed(async { s.read_exact(&mut [0; 9]).await })),
    ("read_to_end", |s| boxed(s.read_to_end(9))),
    ("read_record", |s| boxed(s.read_record())),
    ("write", |s| boxed(s.write(b"more"))),
    ("write_all", |s| boxed(s.write_all(b"more"))),
    ("write_chunk", |s| {
        boxed(s.write_chunk(bytes::Bytes::from_static(b"more")))
    }),
    ("write_record", |s| boxed(s.write_record(b"more"))),
    ("write_record_bytes", |s| {
        boxed(s.write_record_bytes(bytes::Bytes::from_static(b"more")))
    }),
    ("end_record", |s| boxed(s.end_record())),
    ("sent", |s| boxed(s.sent())),
    ("acknowledged", |s| boxed(s.acknowledged())),
    ("drained", |s| boxed(s.drained())),
    ("consumed", |s| boxed(s.consumed())),
    ("accept_substream", |s| boxed(s.accept_substream())),
    ("recv_datagram", |s| boxed(s.recv_datagram())),
    ("peer closed", |s| {
        let peer = s.peer();
        boxed(async move { peer.closed().await })
    }),
];

/// Waits of all other kinds.
fn others<'a>(world: &'a World, silent: &'a UdpSocket) -> Vec<(&'static str, Boxed<'a>)> {
    let nobody = crate::Identity::generate().eid();
    let address = silent.local_addr().unwrap();
    let connect = || world.client.connect(nobody, "test", "1").hint(address);
    vec![
        ("accept", boxed(world.server.accept())),
        ("accept_incoming", boxed(world.server.accept_incoming())),
        ("probe", boxed(world.client.probe(address, Duration::from_secs(60)))),
        ("connect", boxed(connect().into_future())),
        (
            "connect in time",
            boxed(connect().timeout(Duration::from_secs(60)).into_future()),
        ),
        (
            "services_of",
            boxed(world.client.services_of(nobody).hint(address).into_future()),
        ),
        ("stopped", boxed(world.host.stopped())),
    ]
}

use std::future::IntoFuture as _;

#[tokio::test]
async fn who_gives_up_waiting_is_gone() {
    const TIMES: usize = 50;
    let mut world = world().await;
    fill(&mut world.ours).await;
    for (name, wait) in ON_STREAM {
        settled(&world.client).await;
        for _ in 0..TIMES {
            let mut wait = wait(&mut world.ours);
            poll_once(&mut wait, Waker::noop());
            poll_once(&mut wait, Waker::noop());
            assert_eq!(count(&world.client), 1, "{name}");
        }
        assert_eq!(count(&world.client), 0, "{name}");
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let kinds = others(&world, &silent).len();
    for _ in 0..TIMES {
        for at in 0..kinds {
            let (name, mut wait) = others(&world, &silent).swap_remove(at);
            poll_once(&mut wait, Waker::noop());
            assert!(count(&world.client) + count(&world.host) > 0, "{name}");
            drop(wait);
            assert_eq!(count(&world.client) + count(&world.host), 0, "{name}");
        }
    }
    drop(world.theirs);
}

#[tokio::test]
async fn whoever_has_what_it_waited_for_has_no_place_any_more() {
    let world = world().await;
    let cx = &Context::from_waker(Waker::noop());
    let shared = world.client.shared();
    let mut place = Place::new(shared);
    assert!(place.poll(cx, Key::Stopped, |_, _| Poll::<()>::Pending).is_pending());
    assert_eq!(count(&world.client), 1);
    assert!(place.poll(cx, Key::Stopped, |_, _| Poll::Ready(())).is_ready());
    assert_eq!(count(&world.client), 0);
    drop(place);
}

#[tokio::test]
async fn many_who_wait_for_the_same_leave_in_any_order() {
    let world = world().await;
    let set = ServerSet::from([
        world.host.listen("a", "1").unwrap(),
        world.host.listen("b", "1").unwrap(),
    ]);
    let mut waits: Vec<Boxed<'_>> = (0..300)
        .map(|n| match n % 3 {
            0 => boxed(world.theirs.accept_substream()),
            1 => boxed(world.theirs.recv_datagram()),
            _ => boxed(set.accept()),
        })
        .collect();
    for wait in &mut waits {
        poll_once(wait, Waker::noop());
    }
    assert_eq!(count(&world.host), 400, "a set waits at each of its servers");
    while !waits.is_empty() {
        drop(waits.swap_remove(waits.len() * 7 / 11));
    }
    assert_eq!(count(&world.host), 0);
}

#[tokio::test]
async fn what_is_watched_and_receipts_are_gone_with_those_who_hold_them() {
    let world = world().await;
    let links: Vec<_> = (0..10).map(|_| world.ours.peer().link()).collect();
    let copy = links[3].clone();
    assert_eq!(count(&world.client), 1);
    drop(links);
    assert_eq!(count(&world.client), 1, "a copy is left");
    drop(copy);
    assert_eq!(count(&world.client), 0);

    // None can arrive, and none is given up soon.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = crate::Identity::generate().eid();
    let attempt = world
        .client
        .connect(nobody, "test", "1")
        .hint(silent.local_addr().unwrap());
    let stream = attempt.open().unwrap();
    let mut receipts = Vec::new();
    for _ in 0..10 {
        receipts.push(stream.send_datagram(vec![1; 9]).reliable().tracked().await.unwrap());
    }
    assert_eq!(count(&world.client), 10);
    drop(receipts);
    assert_eq!(count(&world.client), 0);
}

#[tokio::test]
async fn room_for_datagrams_is_waited_for_in_a_place() {
    let world = world().await;
    let link = world.ours.peer().link();
    let mut waits = Vec::new();
    loop {
        let mut send: Boxed<'_> = boxed(world.ours.send_datagram(vec![7; 60_000]).reliable());
        match send.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => {}
            Poll::Pending => waits.push(send),
        }
        if waits.len() == 100 {
            break;
        }
    }
    assert_eq!(count(&world.client), 101);
    drop((waits, link));
    assert_eq!(count(&world.client), 0);
}

/// A waker as the last to hold a task would be: it owns what the task owns, and ends it when it is dropped.
struct Owner {
    host: Host,
    stream: Mutex<Option<Stream>>,
}

impl Owner {
    fn waker(host: &Host, stream: Stream) -> Waker {
        Waker::from(Arc::new(Self {
            host: host.clone(),
            stream: Mutex::new(Some(stream)),
        }))
    }
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        let _ = self.host.stats();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.host.stats();
        drop(self.stream.lock().unwrap().take());
    }
}

/// Runs a test on a thread of its own: a deadlock fails it.
fn on_a_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    };
    let thread = std::thread::spawn(run);
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Ok(()) => thread.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{:?}", thread.join()),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("deadlock: a waker was called or dropped under the lock"),
    }
}

#[test]
fn wakers_that_own_streams_are_dropped_outside_of_the_lock() {
    on_a_thread(|| async {
        let mut world = world().await;
        fill(&mut world.ours).await;
        let child = |stream: &Stream| stream.open_substream().unwrap();
        for (_, wait) in ON_STREAM {
            let wakers = [0; 3].map(|_| Owner::waker(&world.client, child(&world.ours)));
            let mut wait = wait(&mut world.ours);
            for waker in wakers {
                // The place passes from one to the next, which drops the last that holds the one before.
                poll_once(&mut wait, &waker);
            }
        }
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let kinds = others(&world, &silent).len();
        for at in 0..kinds {
            let (_, mut wait) = others(&world, &silent).swap_remove(at);
            for _ in 0..3 {
                poll_once(&mut wait, &Owner::waker(&world.client, child(&world.ours)));
                poll_once(&mut wait, &Owner::waker(&world.host, child(&world.theirs)));
            }
        }
        for _ in 0..3 {
            let waker = Owner::waker(&world.host, child(&world.theirs));
            assert!(world.server.poll_accept(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(world.server);
    });
}

#[test]
fn wakers_that_own_streams_are_called_and_dropped_outside_of_the_lock_when_it_is_their_time() {
    on_a_thread(|| async {
        let World {
            client,
            host,
            server,
            ours,
            theirs,
        } = world().await;
        let own = |stream: &Stream| Owner::waker(&client, stream.open_substream().unwrap());
        // Those who poll, and drop the handle.
        let mut polled = ours.open_substream().unwrap();
        let waker = own(&ours);
        let mut cx = Context::from_waker(&waker);
        assert!(
            Pin::new(&mut polled)
                .poll_read(&mut cx, &mut ReadBuf::new(&mut [0; 9]))
                .is_pending()
        );
        fill(&mut polled).await;
        assert!(Pin::new(&mut polled).poll_write(&mut cx, b"more").is_pending());
        drop(waker);
        drop(polled);
        let mut link = ours.peer().link();
        // Those for whom the peer does something, and those who wait when it ends.
        let mut waits: Vec<Boxed<'_>> = vec![
            boxed(ours.accept_substream()),
            boxed(ours.recv_datagram()),
            boxed(ours.drained()),
            boxed(async { ours.peer().closed().await }),
        ];
        waits.push(boxed(link.changed()));
        for wait in &mut waits {
            poll_once(wait, &own(&ours));
        }
        drop(theirs.open_substream().unwrap());
        theirs.send_datagram(&b"datagram"[..]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop((theirs, server));
        host.close().await.ok();
        client.peers().iter().for_each(|peer| peer.close(0, ""));
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.close_within(Duration::ZERO).await.ok();
        drop(waits);
    });
}

#[tokio::test]
async fn the_end_of_a_peer_wakes_those_who_wait_for_its_streams_and_no_others() {
    let (one, two) = (world().await, world().await);
    let third = one
        .client
        .connect(two.host.eid(), "test", "1")
        .hint(two.host.local_addr());
    let other = third.await.unwrap();
    let stays = boxed(other.accept_substream());
    let mut ends = boxed(one.ours.accept_substream());
    let mut stays = stays;
    poll_once(&mut stays, Waker::noop());
    poll_once(&mut ends, Waker::noop());
    one.ours.peer().close(0, "");
    ends.await;
    assert_eq!(count(&one.client), 1);
    poll_once(&mut stays, Waker::noop());
    drop(stays);
    assert_eq!(count(&one.client), 0);
}

// spec: NEG-28
#[tokio::test]
async fn an_attempt_that_nobody_waits_for_ends() {
    let client = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let nobody = crate::Identity::generate().eid();
    let connect = || client.connect(nobody, "test", "1").hint(address);
    let peers = || client.shared().call(|inner, _| inner.core.peers().len());
    let gone = async || {
        while peers() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let none_left = async || tokio::time::timeout(Duration::from_secs(20), gone()).await.unwrap();

    let short = Duration::from_millis(20);
    connect().timeout(short).await.unwrap_err();
    none_left().await;
    tokio::time::timeout(short, connect().into_future()).await.unwrap_err();
    none_left().await;

    // Others wait for the same peer: with a stream that is held, with another attempt, with what is finished.
    let held = connect().open().unwrap();
    connect().timeout(short).await.unwrap_err();
    assert_eq!(peers(), 1, "a stream is held");
    drop(held);
    none_left().await;
    let mut other: Boxed<'_> = boxed(connect().into_future());
    poll_once(&mut other, Waker::noop());
    connect().timeout(short).await.unwrap_err();
    assert_eq!(peers(), 1, "another attempt waits");
    poll_once(&mut other, Waker::noop());
    drop(other);
    none_left().await;
    let mut finished = connect().open().unwrap();
    finished.write_all(b"to be delivered").await.unwrap();
    finished.finish().unwrap();
    drop(finished);
    tokio::time::sleep(short).await;
    assert_eq!(peers(), 1, "what was finished is to be delivered");
}

/// A peer may send any number of empty records: whoever reads bytes passes so many, then others have their turn.
#[test]
fn a_reader_that_gives_others_their_turn_is_woken_outside_of_the_lock() {
    on_a_thread(|| async {
        let mut world = world().await;
        for _ in 0..5000 {
            world.theirs.write_record(b"").await.unwrap();
        }
        world.theirs.write_all(b"end").await.unwrap();
        world.theirs.acknowledged().await.unwrap();
        for _ in 0..2 {
            let waker = Owner::waker(&world.client, world.ours.open_substream().unwrap());
            poll_once(&mut boxed(async { world.ours.read(&mut [0; 9]).await }), &waker);
            poll_once(&mut boxed(world.ours.read_chunk(9)), &waker);
        }
        let mut buf = [0; 3];
        world.ours.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"end");
    });
}
