//! Tests of a driver that is run step by step.

use std::task::Waker;
use std::time::Duration;

use sss_wire::Eid;

use super::*;
use crate::host::Host;
use crate::identity::Identity;

/// A host whose driver has nothing to do, and that driver.
async fn idle() -> (Host, Driver) {
    idle_in(false).await
}

/// As [`idle`]; as if in a copy of the process that the host was made in.
async fn idle_in(is_copy: bool) -> (Host, Driver) {
    let bound = socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap();
    let core = sss_proto::Host::new(sss_proto::Config::default(), Identity::generate().key(), [7; 32]);
    let mut shared = Shared::new(core, bound.local_addr());
    shared.pretend_to_be_a_copy(is_copy);
    let shared = Arc::new(shared);
    let host = Host::new(Arc::clone(&shared));
    let tunnels = Tasks::start(None, &shared).unwrap();
    let intake = Intake::new(&shared, Further::default(), tunnels, None);
    let driver = Driver::new(
        shared,
        (Socket::new(bound).unwrap(), intake),
        None,
        Notifications::default(),
    );
    (host, driver)
}

/// Runs the steps of one turn after what is rare was looked for, until the driver yields or waits. True if it waits.
fn sleeps(driver: &mut Driver, cx: &mut Context<'_>) -> bool {
    for _ in 0..MAX_ROUNDS {
        let next = match driver.step {
            Step::Receive => driver.receive(cx),
            Step::Settle(before) => driver.settle(before),
            Step::Transmit => driver.transmit(cx),
        };
        match next {
            Next::Step(step) => driver.step = step,
            Next::Yield(step) => {
                driver.step = step;
                return false;
            }
            Next::Wait => return true,
            Next::Stop => panic!("it stopped"),
        }
    }
    panic!("it does not come to rest");
}

/// While the driver is at work, nobody wakes it: what comes up then must not wait for the next packet.
#[tokio::test]
async fn what_comes_up_while_the_driver_is_at_work_is_seen_to_before_it_sleeps() {
    let cx = &mut Context::from_waker(Waker::noop());
    let (host, mut driver) = idle().await;
    driver.attend(cx);
    assert!(sleeps(&mut driver, cx), "nothing is to be done");

    driver.attend(cx);
    driver.shared.drive(|_, _| ());
    host.network_changed();
    assert!(!sleeps(&mut driver, cx), "the network has changed");
    driver.attend(cx);
    assert_eq!(driver.stats.network_changes, 1);
    assert!(sleeps(&mut driver, cx));

    driver.attend(cx);
    driver.shared.drive(|_, _| ());
    drop(host);
    assert!(!sleeps(&mut driver, cx), "nobody holds the host");
    driver.attend(cx);
    assert!(driver.closing.is_some());
    tokio::time::timeout(Duration::from_secs(60), driver).await.unwrap();
}

/// Whoever was woken has its turn before the driver sleeps, and what it says until then need not wake the driver.
#[tokio::test]
async fn who_is_woken_has_a_turn_before_the_driver_sleeps() {
    let cx = &mut Context::from_waker(Waker::noop());
    let (host, mut driver) = idle().await;
    let stopped = host.stopped();
    let notifications = &mut driver.notifications;
    driver.shared.drive(|inner, _| notifications.wake_all(inner));
    assert!(!driver.notifications.is_quiet());
    driver.step = Step::Transmit;
    assert!(!sleeps(&mut driver, cx), "somebody is woken");
    stopped.await;
    assert!(sleeps(&mut driver, cx));
}

/// Threat 37: a copy of the process has the same keys, and would seal other packets with the same numbers.
#[tokio::test]
async fn threat_37_in_a_copy_of_the_process_nothing_is_sent_and_all_ends() {
    let cx = &mut Context::from_waker(Waker::noop());
    for is_copy in [false, true] {
        let (host, mut driver) = idle_in(is_copy).await;
        let asked = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        asked.set_nonblocking(true).unwrap();
        let eid = Identity::generate().eid();
        let connecting = host
            .connect(eid, "service", "protocol")
            .hint(asked.local_addr().unwrap());
        let mut connecting = Box::pin(connecting.into_future());
        assert!(connecting.as_mut().poll(cx).is_pending());
        assert!(Pin::new(&mut driver).poll(cx).is_pending());
        assert_eq!(asked.recv(&mut [0; 2000]).is_ok(), !is_copy);
        assert_eq!(connecting.as_mut().poll(cx).is_ready(), is_copy);
        assert_eq!(host.is_closed(), is_copy);
    }
}

#[tokio::test]
async fn only_a_host_of_one_shard_may_get_a_second_socket() {
    let (_host, driver) = idle().await;
    assert!(driver.intake.flood.may_share());
    for member in Member::group(2, 4) {
        let tunnels = Tasks::start(None, &driver.shared).unwrap();
        let intake = Intake::new(&driver.shared, Further::default(), tunnels, Some(member));
        assert!(!intake.flood.may_share());
    }
}

/// A host whose driver wakes few tasks in pairs, and runs.
async fn in_pairs() -> Host {
    let (host, mut driver) = idle().await;
    driver.intake.receiver.prefer_pairs();
    tokio::spawn(driver);
    host
}

/// One request on a stream of its own, and its answer.
async fn ask(client: &Host, server: Eid, number: u32) {
    let mut stream = client.connect(server, "service", "protocol").open().unwrap();
    stream.write_all(&number.to_le_bytes()).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(&stream.read_to_end(100).await.unwrap()[..], &number.to_le_bytes()[..]);
}

/// Tasks that are woken in pairs all get their answers, also when others beside them are gone before their turn.
async fn requests_in_flight(count: u32, cancelled: u32) {
    let (client, server) = (in_pairs().await, in_pairs().await);
    let listener = server.listen("service", "protocol").unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(said) = stream.read_to_end(100).await {
                    let _ = stream.write_chunk(said).await;
                    let _ = stream.finish();
                }
            });
        }
    });
    let eid = server.eid();
    let connecting = client.connect(eid, "service", "protocol");
    let _first = connecting.hint(server.local_addr()).await.unwrap();
    let asking: Vec<_> = (0..count)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    ask(&client, eid, task * 1000 + round).await;
                }
            })
        })
        .collect();
    for round in 0..50 {
        let others = (0..cancelled).map(|task| {
            let client = client.clone();
            tokio::spawn(async move { ask(&client, eid, task).await })
        });
        let others: Vec<_> = others.collect();
        for _ in 0..round % 8 {
            tokio::task::yield_now().await;
        }
        others.into_iter().for_each(|task| task.abort());
    }
    for task in asking {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn tasks_that_are_woken_in_pairs_get_all_they_wait_for() {
    for (count, cancelled) in [(8, 0), (3, 0), (3, 9), (12, 4), (1, 11)] {
        let all = requests_in_flight(count, cancelled);
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
    }
}

/// The core itself may be in no state to be ended: then nothing of it is used any more.
#[tokio::test]
async fn streams_of_a_core_that_is_given_up_end_too() {
    let (host, driver) = idle().await;
    let connect = host.connect(Identity::generate().eid(), "test", "1");
    let mut stream = connect.hint("127.0.0.1:9").open().unwrap();
    driver.shared.drive(|inner, _| inner.give_up());
    drop(driver);
    let lost = stream.read_chunk(1).await;
    assert_eq!(
        lost,
        Err(sss_proto::ReadError::Lost(sss_proto::CloseReason::HostFailed))
    );
    assert_eq!(stream.peer().closed().await, sss_proto::CloseReason::HostFailed);
    assert!(host.has_failed());
}

/// Counts, or panics.
struct Called(std::sync::atomic::AtomicUsize, bool);

impl std::task::Wake for Called {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(!self.1, "a waker that panics");
    }
}

/// A waker is an application's: one that panics ends the host, and all the others are woken all the same.
#[tokio::test]
async fn a_waker_that_panics_does_not_keep_the_others_from_being_woken() {
    let (host, mut driver) = idle().await;
    let called = |panics| Arc::new(Called(std::sync::atomic::AtomicUsize::new(0), panics));
    let (bad, good, later) = (called(true), called(false), called(false));
    let server = host.listen("test", "1").unwrap();
    let accepting = Waker::from(Arc::clone(&later));
    assert!(server.poll_accept(&mut Context::from_waker(&accepting)).is_pending());
    let notices = &mut driver.notifications;
    notices.wake_later(Waker::from(Arc::clone(&bad)));
    notices.wake_later(Waker::from(Arc::clone(&good)));
    let cx = &mut Context::from_waker(Waker::noop());
    driver.step = Step::Receive;
    assert!(Pin::new(&mut driver).poll(cx).is_ready() || Pin::new(&mut driver).poll(cx).is_ready());
    drop(driver);
    let count = |called: &Called| called.0.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!([count(&bad), count(&good), count(&later)], [1, 1, 1]);
    assert!(host.has_failed());
}
