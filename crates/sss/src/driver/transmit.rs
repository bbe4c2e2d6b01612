//! From the core to the socket.
//!
//! Under the lock the core fills the buffer with datagrams for one segmented send; outside of it they are sent. Single
//! datagrams are put aside first ([`batch`]), for one call that sends to several peers. What the socket does not take
//! yet stays until it does. Errors of sending are losses like any other, and only counted: the core's loss detection,
//! and its search for the path MTU, deal with them.

mod batch;

use std::io;
use std::task::{Context, Poll};

use sss_proto::{Link, Transmit, TransmitBuf};

use super::SocketStats;
use super::further::Further;
use super::socket::Socket;
use batch::Batch;

/// The buffer, and what of it waits to be sent.
pub(crate) struct Transmitter {
    buf: TransmitBuf,
    /// Single datagrams that were made before what is in the buffer.
    batch: Batch,
    waiting: Option<Waiting>,
}

/// Datagrams that wait for the socket.
struct Waiting {
    transmit: Transmit,
    /// Bytes already sent, when they are sent one by one.
    sent: usize,
}

/// Outcome of a sending call.
enum Sent {
    Done,
    /// The system cannot segment: the datagrams are to be sent one by one.
    Unsegmented,
    Blocked,
}

impl Transmitter {
    pub(crate) fn new(socket: &Socket) -> Self {
        Self {
            buf: TransmitBuf::new(socket.max_segments()),
            batch: Batch::default(),
            waiting: None,
        }
    }

    /// The abilities of the socket have changed.
    pub(crate) fn adapt(&mut self, socket: &Socket) {
        self.buf.set_max_segments(socket.max_segments());
    }

    /// The buffer to fill. Only while nothing waits.
    pub(crate) fn buf(&mut self) -> &mut TransmitBuf {
        debug_assert!(self.waiting.is_none(), "the buffer is in use");
        &mut self.buf
    }

    /// Takes over what the core put into the buffer.
    pub(crate) fn accept(&mut self, transmit: Transmit) {
        if !self.batch.take(&transmit, self.buf.filled()) {
            self.waiting = Some(Waiting { transmit, sent: 0 });
        }
    }

    /// Returns whether the core may fill the buffer again before anything is sent.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_none() && self.batch.has_room()
    }

    /// Sends what waits. `Pending`: the socket takes no more, and the task of `cx` is woken when it does.
    pub(crate) fn flush(
        &mut self,
        cx: &mut Context<'_>,
        (own, further): (&mut Socket, &mut Further),
        stats: &mut SocketStats,
    ) -> Poll<()> {
        while let Sent::Blocked = self.batch.send(own, stats) {
            stats.send_blocked += 1;
            if own.poll_writable(cx).is_pending() {
                return Poll::Pending;
            }
        }
        while let Some(waiting) = &mut self.waiting {
            let contents = self.buf.filled();
            let socket = match waiting.transmit.link {
                Link::Socket(..) => further.of(waiting.transmit.link),
                _ => Some(&mut *own),
            };
            // It was closed since: nobody hears what would go by it.
            let Some(socket) = socket else {
                stats.send_errors += 1;
                self.waiting = None;
                continue;
            };
            match waiting.send(contents, socket, stats) {
                Sent::Done => self.waiting = None,
                Sent::Unsegmented => self.buf.set_max_segments(1),
                Sent::Blocked => {
                    stats.send_blocked += 1;
                    if socket.poll_writable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(())
    }
}

impl Waiting {
    fn send(&mut self, contents: &[u8], socket: &mut Socket, stats: &mut SocketStats) -> Sent {
        if self.sent == 0 && contents.len() > self.transmit.segment && socket.max_segments() > 1 {
            return match try_send(contents, &self.transmit, socket, stats) {
                // Segmentation was found not to work, and switched off.
                Sent::Done if socket.max_segments() == 1 => Sent::Unsegmented,
                other => other,
            };
        }
        while let Some(rest) = contents.get(self.sent..).filter(|r| !r.is_empty()) {
            let len = self.transmit.segment.clamp(1, rest.len());
            let datagram = rest.get(..len).unwrap_or(rest);
            if let Sent::Blocked = try_send(datagram, &self.transmit, socket, stats) {
                return Sent::Blocked;
            }
            self.sent += len;
        }
        Sent::Done
    }
}

fn try_send(contents: &[u8], transmit: &Transmit, socket: &mut Socket, stats: &mut SocketStats) -> Sent {
    stats.send_calls += 1;
    match socket.send(contents, transmit) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
        Err(error) if quinn_udp::is_msg_size_err(&error) => stats.send_too_large += 1,
        Err(error) => {
            stats.send_errors += 1;
            stats.send_denied += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
            tracing::debug!(%error, link = %transmit.link, "sending failed");
        }
    }
    Sent::Done
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::driver::socket;

    async fn pair() -> (Socket, UdpSocket, Transmit) {
        let mut ours = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap()).unwrap();
        // The runtime has to have seen that the socket is writable.
        std::future::poll_fn(|cx| ours.poll_writable(cx)).await.unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        let transmit = Transmit {
            link: Link::Udp(theirs.local_addr().unwrap()),
            local: None,
            ecn: sss_proto::Ecn::Ect0,
            segment: 100,
        };
        (ours, theirs, transmit)
    }

    fn lengths(socket: &UdpSocket, n: usize) -> Vec<usize> {
        let mut buf = [0; 2000];
        (0..n).map(|_| socket.recv(&mut buf).unwrap()).collect()
    }

    #[tokio::test]
    async fn sends_datagrams_of_the_segment_size_with_and_without_offload() {
        let (mut ours, theirs, transmit) = pair().await;
        let contents = [5; 250];
        let mut stats = SocketStats::default();
        let mut waiting = Waiting { transmit, sent: 0 };
        assert!(matches!(waiting.send(&contents, &mut ours, &mut stats), Sent::Done));
        assert_eq!(lengths(&theirs, 3), [100, 100, 50]);

        let mut one_by_one = Waiting { transmit, sent: 100 };
        assert!(matches!(one_by_one.send(&contents, &mut ours, &mut stats), Sent::Done));
        assert_eq!(lengths(&theirs, 2), [100, 50]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn single_datagrams_wait_for_others_and_leave_before_what_was_made_later() {
        let (mut ours, theirs, transmit) = pair().await;
        let mut transmitter = Transmitter::new(&ours);
        for contents in [&[1; 100][..], &[2; 60], &[3; 250]] {
            assert!(transmitter.has_room());
            transmitter.buf().clear();
            assert!(transmitter.buf().append(contents));
            transmitter.accept(transmit);
        }
        assert!(!transmitter.has_room(), "the buffer is in use");
        let (mut further, mut stats) = (Further::default(), SocketStats::default());
        let sent = std::future::poll_fn(|cx| transmitter.flush(cx, (&mut ours, &mut further), &mut stats));
        sent.await;
        assert_eq!(lengths(&theirs, 5), [100, 60, 100, 100, 50]);
        assert_eq!(stats.send_calls, 2);
        assert!(transmitter.has_room());
    }

    #[tokio::test]
    async fn a_send_that_cannot_succeed_is_counted_and_given_up() {
        let (mut ours, _theirs, mut transmit) = pair().await;
        transmit.link = Link::Udp("[2001:db8::1]:9".parse().unwrap());
        let mut stats = SocketStats::default();
        let mut waiting = Waiting { transmit, sent: 0 };
        assert!(matches!(waiting.send(&[1; 50], &mut ours, &mut stats), Sent::Done));
        assert_eq!((stats.send_errors, stats.send_denied), (1, 0));
        let hints = ours.take_hints();
        assert_eq!(
            hints,
            [("[2001:db8::1]:9".parse().unwrap(), sss_proto::PathHint::NoRoute)]
        );
        // Nobody may send to all hosts unasked.
        transmit.link = Link::Udp("255.255.255.255:9".parse().unwrap());
        let mut denied = Waiting { transmit, sent: 0 };
        assert!(matches!(denied.send(&[1; 50], &mut ours, &mut stats), Sent::Done));
        assert_eq!((stats.send_errors, stats.send_denied), (2, 1));
    }
}
