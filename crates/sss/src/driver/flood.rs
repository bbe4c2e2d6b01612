//! A second socket and a thread for HELLO and HELLO_K, for as long as a host is flooded with them.
//!
//! The driver is one thread: reading greetings, and telling most of them to prove their address, takes time that its
//! peers have a use for. So, above a rate:
//!
//! 1. a second socket is bound to the same address and port, and the kernel puts greetings into it ([`steering`]);
//! 2. the core lends its greeter to a thread, which reads the second socket, and answers ([`thread`]);
//! 3. what the greeter admits, and what is no greeting, comes back to the driver over a queue of bounded length;
//! 4. when few have come for some seconds, the thread ends, the second socket is closed, and the greeter given back.
//!
//! Where the second socket cannot be had (no descriptor left, an old kernel, a sandbox, another user by now), the
//! driver goes on alone.

mod steering;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use sss_proto::{GreeterStats, Instant};
use tokio::sync::mpsc;

use super::SocketStats;
use super::receive::{Receiver, Staged};
use super::socket::Socket;
use crate::shared::Shared;
use steering::Second;
use thread::{Ended, Thread};

/// Greetings that are not admitted, in a second: from so many on, it is a flood.
const FLOOD: u64 = 4000;
/// They are counted for so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Time before the second socket is tried for again if it could not be had.
const PAUSE: Duration = Duration::from_secs(60);
/// Messages of the thread that wait for the driver, at most. What is beyond is dropped.
const MAX_PASSED: usize = 512;
/// Messages that the driver takes in one round.
const MAX_TAKEN: usize = 64;
/// Batches that the first socket had read before the greeter was lent, at most; and those that come there later.
const MAX_DIVERTED: usize = 2048;

/// Message of the thread to the driver.
enum Passed {
    /// A greeting to work for.
    Admitted(Staged),
    /// A datagram that is no greeting: it came before the kernel was told where to put it.
    Other(Staged),
    /// Done since it last said so.
    Tally(Tally),
}

/// Counters of the thread.
#[derive(Default)]
struct Tally {
    greeter: GreeterStats,
    socket: SocketStats,
}

/// Parts of the driver that a flood is about.
pub(super) struct Around<'a> {
    pub(super) socket: &'a Socket,
    pub(super) receiver: &'a mut Receiver,
    pub(super) shared: &'a Shared,
    pub(super) stats: &'a mut SocketStats,
}

/// Watches for floods, and holds what is there while one lasts.
pub(super) struct Flood {
    watch: Watch,
    /// A second socket may be bound.
    may_share: bool,
    /// No second socket before.
    not_before: Instant,
    running: Option<Running>,
}

/// Counts greetings that were not admitted.
#[derive(Default)]
struct Watch {
    since: Instant,
    denied: u64,
}

/// The thread, as the driver sees it. Dropping it ends the thread and closes its socket.
struct Running {
    passed: mpsc::Receiver<Passed>,
    stop: Arc<AtomicBool>,
    /// There until it is joined.
    thread: Option<JoinHandle<Option<Ended>>>,
}

impl Watch {
    /// Returns whether there were too many since this last answered, given how many there have been in all.
    fn is_flood(&mut self, denied: u64, now: Instant) -> bool {
        let passed = now.since(self.since);
        if passed < WINDOW {
            return false;
        }
        let more = denied.saturating_sub(self.denied);
        *self = Self { since: now, denied };
        u128::from(more) * 1_000_000_000 > u128::from(FLOOD) * passed.as_nanos()
    }
}

impl Flood {
    /// None yet. There never will be if the port may not be shared, as where shards share it.
    pub(super) fn new(may_share: bool) -> Self {
        Self {
            may_share,
            watch: Watch::default(),
            not_before: Instant::default(),
            running: None,
        }
    }

    /// Returns whether the thread has said something that nobody has heard.
    pub(super) fn has_waiting(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.passed.is_empty())
    }

    /// Looks at how many greetings were denied in all by now, and begins if it is a flood.
    pub(super) fn watch(&mut self, denied: u64, now: Instant, around: &mut Around<'_>) {
        let may_begin = self.may_share && self.running.is_none();
        if !may_begin || !self.watch.is_flood(denied, now) || now < self.not_before {
            return;
        }
        match Running::start(around) {
            Ok(running) => {
                tracing::info!("flooded with greetings: they go to a socket and a thread of their own");
                around.stats.greeters += 1;
                self.running = Some(running);
            }
            Err(error) => {
                tracing::warn!(%error, "flooded with greetings, and there is no socket for them");
                self.not_before = now + PAUSE;
            }
        }
    }

    /// Takes what the thread has for the driver. The task of `cx` is woken when there is more.
    pub(super) fn take(&mut self, cx: &mut Context<'_>, around: &mut Around<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        for _ in 0..MAX_TAKEN {
            match running.passed.poll_recv(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(passed)) => around.take(passed),
                Poll::Ready(None) => return self.end(around),
            }
        }
    }

    /// Ends the thread, if there is one, and has all as it was before.
    pub(super) fn end(&mut self, around: &mut Around<'_>) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let ended = match running.join() {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => None,
        };
        while let Ok(passed) = running.passed.try_recv() {
            around.take(passed);
        }
        self.watch = around.shared.drive(|inner, now| {
            if let Some(ended) = ended {
                around.stats.add(&ended.stats);
                inner.core.give_back(ended.greeter);
            }
            // What the thread has counted is no new flood.
            Watch {
                since: now,
                denied: inner.core.greetings_denied(),
            }
        });
        around.receiver.divert(None);
        if let Err(error) = steering::leave(around.socket.fd()) {
            tracing::debug!(%error, "the socket may still be shared");
        }
        tracing::info!("no longer flooded with greetings");
    }
}

impl Around<'_> {
    fn take(&mut self, passed: Passed) {
        match passed {
            Passed::Admitted(greeting) => self.receiver.admit(greeting, self.stats),
            Passed::Other(staged) => self.receiver.put(staged, self.stats),
            Passed::Tally(tally) => self.count(&tally),
        }
    }

    fn count(&mut self, tally: &Tally) {
        self.stats.add(&tally.socket);
        self.shared.drive(|inner, _| inner.core.note_greeted(&tally.greeter));
    }
}

impl Running {
    fn start(around: &mut Around<'_>) -> io::Result<Self> {
        let port = around.socket.local_addr().port();
        let clock = *around.shared.clock();
        // The thread first: what it is to work with cannot be lost if there can be none.
        let (hand, handed) = sync_channel::<Thread>(1);
        let thread = std::thread::Builder::new()
            .name(format!("sss-greet-{port}"))
            .spawn(move || Some(handed.recv().ok()?.run(clock)))?;
        let second = Second::open(around.socket)?;
        let greeter = around.shared.drive(|inner, _| inner.core.lend_greeter());
        let greeter = greeter.ok_or_else(|| io::Error::other("the greeter is away"))?;
        let (to_driver, passed) = mpsc::channel(MAX_PASSED);
        let (divert, diverted) = sync_channel(MAX_DIVERTED);
        let stop = Arc::new(AtomicBool::new(false));
        around.receiver.divert(Some(divert));
        let _ = hand.send(Thread::new(second, greeter, (to_driver, diverted), Arc::clone(&stop)));
        Ok(Self {
            passed,
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the thread and waits until it has. `None` if that was done before.
    fn join(&mut self) -> Option<std::thread::Result<Option<Ended>>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
impl Flood {
    pub(super) fn may_share(&self) -> bool {
        self.may_share
    }
}

#[cfg(test)]
mod tests {
    use quinn_udp::RecvMeta;
    use rustix::net::sockopt::{set_socket_reuseport, socket_reuseport};
    use sss_crypto::StaticKey;
    use sss_proto::Config;
    use sss_wire::long;

    use super::*;
    use crate::driver::socket;

    /// Parts of a driver whose host has no peers.
    struct Parts {
        socket: Socket,
        receiver: Receiver,
        shared: Shared,
        stats: SocketStats,
    }

    impl Parts {
        fn new() -> Self {
            let socket = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()).unwrap();
            let core = sss_proto::Host::new(Config::default(), StaticKey::from_bytes([7; 32]), [7; 32]);
            Self {
                shared: Shared::new(core, socket.local_addr()),
                socket,
                receiver: Receiver::new(),
                stats: SocketStats::default(),
            }
        }

        fn around(&mut self) -> Around<'_> {
            Around {
                socket: &self.socket,
                receiver: &mut self.receiver,
                shared: &self.shared,
                stats: &mut self.stats,
            }
        }
    }

    /// A thread that is over, and what it has left for the driver.
    fn flood_with(messages: usize) -> Flood {
        let (to_driver, passed) = mpsc::channel(messages.max(1));
        let meta = RecvMeta::default();
        for _ in 0..messages {
            let other = Passed::Other(Staged::datagram(&meta, &[0x86; 1232]));
            assert!(to_driver.try_send(other).is_ok());
        }
        let mut flood = Flood::new(true);
        flood.running = Some(Running {
            passed,
            stop: Arc::default(),
            thread: None,
        });
        flood
    }

    // Threat 2.
    #[tokio::test]
    async fn threat_02_the_driver_takes_so_much_of_the_thread_at_a_time_and_nothing_of_others_is_lost() {
        let mut parts = Parts::new();
        let mut flood = flood_with(MAX_TAKEN + 9);
        std::future::poll_fn(|cx| {
            flood.take(cx, &mut parts.around());
            Poll::Ready(())
        })
        .await;
        assert!(parts.receiver.has_waiting(), "INITIATE is no greeting");
        let left = |flood: &Flood| flood.running.as_ref().map(|running| running.passed.len());
        assert_eq!(left(&flood), Some(9));
        // What is left when the thread ends is taken then.
        let mut parts = Parts::new();
        let mut flood = flood_with(3);
        flood.end(&mut parts.around());
        assert!(parts.receiver.has_waiting() && left(&flood).is_none());
    }

    // Threat 2.
    #[tokio::test]
    async fn threat_02_a_second_socket_that_cannot_be_had_is_not_tried_for_without_rest() {
        let mut parts = Parts::new();
        parts.socket.pretend_to_be_at("192.0.2.1:9".parse().unwrap());
        let (mut flood, now) = (Flood::new(true), parts.shared.drive(|_, now| now));
        flood.watch(1_000_000, now + WINDOW, &mut parts.around());
        assert!(flood.running.is_none(), "that is no address of this machine");
        // From now on it could be had.
        parts.socket = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()).unwrap();
        let mut watch = |after: Duration, denied| {
            flood.watch(denied, now + after, &mut parts.around());
            flood.running.is_some()
        };
        assert!(!watch(PAUSE, 9_000_000));
        assert!(watch(PAUSE + WINDOW, 99_000_000));
    }

    #[tokio::test]
    async fn a_port_that_shards_share_gets_no_second_socket_whatever_comes() {
        let mut parts = Parts::new();
        let (mut flood, now) = (Flood::new(false), parts.shared.drive(|_, now| now));
        for n in 1..10 {
            let at = now + n * (WINDOW + PAUSE);
            flood.watch(u64::from(n) * 9_000_000, at, &mut parts.around());
            assert!(flood.running.is_none());
        }
        assert_eq!(parts.stats.greeters, 0);
    }

    // Threat 2.
    #[tokio::test]
    async fn threat_02_at_the_end_the_port_is_given_back_and_what_the_thread_has_denied_is_no_new_flood() {
        let mut parts = Parts::new();
        set_socket_reuseport(parts.socket.fd(), true).unwrap();
        let lent = parts.shared.drive(|inner, now| (inner.core.lend_greeter(), now));
        let (mut greeter, now) = (lent.0.unwrap(), lent.1);
        let hello = long::hello(1, &[3; 8], &[0; 16], &[9; long::HELLO_SIZE - 29]);
        for port in 1..10_000 {
            greeter.greet(now, ([127, 0, 0, 1], port).into(), &hello);
        }
        let mut flood = flood_with(0);
        let stats = SocketStats::default();
        let thread = std::thread::spawn(move || Some(Ended { greeter, stats }));
        flood.running.as_mut().unwrap().thread = Some(thread);
        flood.end(&mut parts.around());
        assert!(!socket_reuseport(parts.socket.fd()).unwrap());
        let (denied, now) = parts.shared.drive(|inner, now| (inner.core.greetings_denied(), now));
        assert!(denied > 5000, "{denied}");
        flood.watch(denied, now + WINDOW, &mut parts.around());
        assert!(flood.running.is_none());
    }

    // Threat 2.
    #[test]
    fn a_flood_is_many_denied_greetings_in_a_short_time() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut watch = Watch::default();
        assert!(!watch.is_flood(100_000, at(3_600_000)), "of an hour");
        assert!(!watch.is_flood(200_000, at(3_600_099)), "too early to say");
        assert!(watch.is_flood(200_000, at(3_600_100)));
        assert!(!watch.is_flood(200_400, at(3_600_200)));
        assert!(watch.is_flood(200_801, at(3_600_300)));
    }
}
