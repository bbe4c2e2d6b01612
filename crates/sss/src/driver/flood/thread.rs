//! The thread that greets: reads the second socket, has the greeter look at each datagram, and sends its answers.
//!
//! It reads all that is there in batches, answers each batch, and rests for a moment before it looks again, so that it
//! is woken for many datagrams at once. It never waits for the driver.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sss_proto::{Greeted, Greeter, Instant};
use tokio::sync::mpsc;

use super::steering::Second;
use super::{Passed, Tally};
use crate::driver::addresses;
use crate::driver::clock::Clock;
use crate::driver::receive::{BUFFER, Staged};
use crate::driver::socket;
use crate::driver::stats::SocketStats;

/// Greetings that are not admitted, in a second: below that, a second is calm.
const CALM: u64 = 1000;
/// So many calm seconds in a row, and the flood is over.
const CALM_SECONDS: u32 = 3;
/// Rest between two looks at the socket while datagrams come.
const REST: Duration = Duration::from_millis(1);
/// Time that it waits for datagrams before it looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(10);
/// Calls that receive, between two rests.
const MAX_CALLS: usize = 32;
/// Time between two reports of what was done.
const REPORT: Duration = Duration::from_millis(100);

/// The thread's belongings.
pub(super) struct Thread {
    second: Second,
    greeter: Greeter,
    to_driver: mpsc::Sender<Passed>,
    diverted: std::sync::mpsc::Receiver<Staged>,
    stop: Arc<AtomicBool>,
    arena: Vec<Vec<u8>>,
    meta: [RecvMeta; BATCH_SIZE],
    answers: Vec<Answer>,
    stats: SocketStats,
    calm: Calm,
}

/// An answer that waits to be sent.
struct Answer {
    to: SocketAddr,
    from: Option<IpAddr>,
    bytes: Vec<u8>,
}

/// Remains of a thread that has ended.
pub(super) struct Ended {
    pub(super) greeter: Greeter,
    /// Done since the last report.
    pub(super) stats: SocketStats,
}

/// Counts greetings that are not admitted.
#[derive(Default)]
struct Calm {
    /// Beginning of the present second.
    since: Instant,
    denied: u64,
    seconds: u32,
}

impl Calm {
    /// Returns whether the flood is over.
    fn is_over(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            let is_calm = std::mem::take(&mut self.denied) < CALM;
            self.seconds = if is_calm { self.seconds + 1 } else { 0 };
            self.since = now;
        }
        self.seconds >= CALM_SECONDS
    }
}

impl Thread {
    pub(super) fn new(
        second: Second,
        greeter: Greeter,
        (to_driver, diverted): (mpsc::Sender<Passed>, std::sync::mpsc::Receiver<Staged>),
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            second,
            greeter,
            to_driver,
            diverted,
            stop,
            arena: (0..BATCH_SIZE).map(|_| vec![0; BUFFER]).collect(),
            meta: [RecvMeta::default(); BATCH_SIZE],
            answers: Vec::new(),
            stats: SocketStats::default(),
            calm: Calm::default(),
        }
    }

    /// Greets until the flood is over, or the driver wants an end.
    pub(super) fn run(mut self, clock: Clock) -> Ended {
        let mut reported = clock.now();
        self.calm.since = reported;
        while !self.stop.load(Ordering::Relaxed) {
            let now = clock.now();
            if self.calm.is_over(now) {
                break;
            }
            let has_read = self.read(now, MAX_CALLS);
            if now.since(reported) >= REPORT {
                reported = now;
                self.report();
            }
            match has_read {
                true => std::thread::sleep(REST),
                false => self.wait(),
            }
        }
        self.finish(clock.now())
    }

    /// Has the kernel put greetings into the first socket again, and greets those that are here.
    fn finish(mut self, now: Instant) -> Ended {
        if let Err(error) = self.second.unsteer() {
            tracing::debug!(%error, "the kernel does not forget the second socket before it is closed");
        }
        // What came before that is bounded by the socket's buffer.
        while self.read(now, 1) {}
        Ended {
            greeter: self.greeter,
            stats: self.stats,
        }
    }

    /// Waits until there is something to read, or for a moment.
    fn wait(&self) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(WAIT.subsec_nanos()),
        };
        if poll(&mut [PollFd::new(&self.second.io, PollFlags::IN)], Some(&timeout)).is_err() {
            std::thread::sleep(REST);
        }
    }

    /// Greets what has arrived, up to a bound. False if there was nothing.
    fn read(&mut self, now: Instant, calls: usize) -> bool {
        let mut has_read = false;
        while let Ok(batch) = self.diverted.try_recv() {
            self.greet_diverted(now, &batch);
            has_read = true;
        }
        for _ in 0..calls {
            let filled = match self.receive() {
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.stats.receive_errors += 1;
                    break;
                }
            };
            self.stats.receive_calls += 1;
            has_read = true;
            let arena = std::mem::take(&mut self.arena);
            for (buffer, meta) in arena.iter().zip(self.meta).take(filled) {
                let data = buffer.get(..meta.len).unwrap_or_default();
                for datagram in data.chunks(meta.stride.max(1)) {
                    self.greet(now, &meta, datagram);
                }
            }
            self.arena = arena;
            self.send();
            if filled < BATCH_SIZE {
                break;
            }
        }
        has_read
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut buffers = self.arena.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().map_or(&mut [], |b| &mut b[..])));
        let socket = UdpSockRef::from(&self.second.io);
        self.second.state.recv(socket, &mut slices, &mut self.meta)
    }

    fn greet(&mut self, now: Instant, meta: &RecvMeta, datagram: &[u8]) {
        let staged = || Staged::datagram(meta, datagram);
        match datagram.first() {
            Some(first) if Greeter::is_greeting(*first) => {
                let way = (addresses::canonical(meta.addr), meta.dst_ip);
                self.greet_one(now, way, datagram, staged);
            }
            _ => self.pass(Passed::Other(staged())),
        }
    }

    fn greet_diverted(&mut self, now: Instant, batch: &Staged) {
        for datagram in batch.datagrams() {
            let way = (batch.remote(), batch.local());
            self.greet_one(now, way, datagram, || batch.part(datagram));
        }
        if self.answers.len() >= BATCH_SIZE {
            self.send();
        }
    }

    /// Greets who has sent a datagram to a local address; `staged` is what the driver gets of it.
    fn greet_one(
        &mut self,
        now: Instant,
        (remote, local): (SocketAddr, Option<IpAddr>),
        datagram: &[u8],
        staged: impl FnOnce() -> Staged,
    ) {
        let header = datagram.try_into().ok().filter(|_| self.second.cuts);
        let greeted = match header {
            Some(header) => self.greeter.greet_header(now, remote, header),
            None => self.greeter.greet(now, remote, datagram),
        };
        match greeted {
            Greeted::Admitted => return self.pass(Passed::Admitted(staged())),
            Greeted::Answer(bytes) => self.answers.push(Answer {
                to: remote,
                from: local,
                bytes,
            }),
            Greeted::Dropped => {}
        }
        self.calm.denied += 1;
    }

    fn pass(&mut self, passed: Passed) {
        if self.to_driver.try_send(passed).is_err() {
            self.stats.receive_dropped += 1;
        }
    }

    fn report(&mut self) {
        // As long as the driver has no time for it, it grows.
        if let Ok(permit) = self.to_driver.try_reserve() {
            permit.send(Passed::Tally(Tally {
                greeter: self.greeter.take_stats(),
                socket: std::mem::take(&mut self.stats),
            }));
        }
    }

    /// Sends all answers, but for those that the socket has no room for, each from the address that was asked (NEG-41).
    fn send(&mut self) {
        for answer in self.answers.drain(..) {
            self.stats.send_calls += 1;
            let to_wire = |address| socket::to_wire(address, self.second.is_ipv6);
            let transmit = quinn_udp::Transmit {
                destination: to_wire(answer.to),
                ecn: None,
                contents: &answer.bytes,
                segment_size: None,
                src_ip: answer.from.map(|ip| to_wire(SocketAddr::new(ip, 0)).ip()),
            };
            match self.second.state.try_send(UdpSockRef::from(&self.second.io), &transmit) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stats.send_blocked += 1;
                    break;
                }
                Err(_) => self.stats.send_errors += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use quinn_udp::UdpSocketState;
    use sss_crypto::StaticKey;
    use sss_proto::Config;

    use super::*;

    /// A thread that is not run, the driver's end of its queue, and a socket whose datagrams it reads.
    fn thread(room: usize) -> (Thread, mpsc::Receiver<Passed>, UdpSocket) {
        let io = UdpSocket::bind("127.0.0.1:0").unwrap();
        io.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(io.local_addr().unwrap()).unwrap();
        let second = Second {
            state: UdpSocketState::new(UdpSockRef::from(&io)).unwrap(),
            io,
            is_ipv6: false,
            cuts: false,
        };
        let mut core = sss_proto::Host::new(Config::default(), StaticKey::from_bytes([7; 32]), [7; 32]);
        let greeter = core.lend_greeter().unwrap();
        let (to_driver, passed) = mpsc::channel(room);
        let (_, diverted) = std::sync::mpsc::sync_channel(1);
        let thread = Thread::new(second, greeter, (to_driver, diverted), Arc::default());
        (thread, passed, sender)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    // Threat 2.
    #[test]
    fn threat_02_what_the_driver_has_no_time_for_is_dropped_and_counted() {
        let (mut thread, mut passed, sender) = thread(2);
        for _ in 0..5 {
            sender.send(&[0x40; 100]).unwrap();
        }
        while thread.read(at(0), 1) {}
        assert_eq!((passed.len(), thread.stats.receive_dropped), (2, 3));
        assert!(matches!(passed.try_recv(), Ok(Passed::Other(_))));
    }

    // Threat 2.
    #[test]
    fn threat_02_who_has_come_when_the_thread_ends_is_greeted() {
        let (thread, passed, sender) = thread(9);
        let hello = sss_wire::long::hello(1, &[3; 8], &[0; 16], &[9; sss_wire::long::HELLO_SIZE - 29]);
        for _ in 0..3 {
            sender.send(&hello).unwrap();
        }
        let ended = thread.finish(at(0));
        assert_eq!(passed.len(), 3, "admitted: there is no load");
        assert!(ended.stats.receive_calls > 0);
    }

    // Threat 2.
    #[test]
    fn threat_02_a_flood_is_over_after_three_calm_seconds_in_a_row() {
        let mut calm = Calm::default();
        let mut second = |n: u64, denied| {
            calm.denied = denied;
            calm.is_over(at(1000 * n))
        };
        assert!(!second(1, CALM - 1) && !second(2, CALM - 1));
        assert!(!second(3, CALM), "it is none");
        assert!(!second(4, CALM - 1) && !second(5, 0));
        assert!(second(6, CALM - 1));
    }
}
