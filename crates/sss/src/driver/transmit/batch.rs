//! Datagrams to several destinations, gathered for one system call.
//!
//! A host with many peers has one small datagram for each of them. They are copied out of the buffer that the core
//! fills, each no larger than a packet: what is segmented is one call already. They go in the order in which the core
//! made them.

use std::io;

use sss_proto::{Link, Transmit};

use super::{Sent, try_send};
use crate::driver::SocketStats;
use crate::driver::socket::{MAX_DATAGRAMS, Socket};

/// Largest datagram that is copied.
const MAX_COPIED: usize = 2048;

/// Datagrams for one call.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Instructions how to send each, and where it ends among the bytes.
    datagrams: Vec<(Transmit, usize)>,
    /// Number of those that were sent, or given up.
    done: usize,
}

impl Batch {
    /// Returns whether another datagram may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.datagrams.len() < MAX_DATAGRAMS
    }

    /// Takes a single datagram that goes by the host's own socket; false for anything else.
    pub(super) fn take(&mut self, transmit: &Transmit, contents: &[u8]) -> bool {
        let is_single = contents.len() <= transmit.segment.min(MAX_COPIED);
        if !self.has_room() || !is_single || !matches!(transmit.link, Link::Udp(_)) {
            return false;
        }
        self.bytes.extend_from_slice(contents);
        self.datagrams.push((*transmit, self.bytes.len()));
        true
    }

    /// The datagrams that are left.
    fn rest(&self) -> impl Iterator<Item = (Transmit, &[u8])> {
        let before = self.done.checked_sub(1).and_then(|last| self.datagrams.get(last));
        let mut begin = before.map_or(0, |(_, end)| *end);
        self.datagrams.iter().skip(self.done).map(move |(transmit, end)| {
            let contents = self.bytes.get(begin..*end).unwrap_or_default();
            begin = *end;
            (*transmit, contents)
        })
    }

    /// Sends what was taken. What cannot be sent is counted and given up; what the socket does not take yet stays.
    pub(super) fn send(&mut self, socket: &mut Socket, stats: &mut SocketStats) -> Sent {
        loop {
            let has_several = self.datagrams.len() > self.done + 1;
            let sent = if has_several {
                socket.send_several(self.rest())
            } else {
                Ok(0)
            };
            match sent {
                Ok(0) => {}
                Ok(sent) => {
                    stats.send_calls += 1;
                    self.done += sent;
                    continue;
                }
                Err(error) => {
                    stats.send_calls += 1;
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Sent::Blocked;
                    }
                }
            }
            // The call that sends it alone tells what is the matter with it, if something is.
            let Some((transmit, contents)) = self.rest().next() else {
                break;
            };
            if let Sent::Blocked = try_send(contents, &transmit, socket, stats) {
                return Sent::Blocked;
            }
            self.done += 1;
        }
        self.bytes.clear();
        self.datagrams.clear();
        self.done = 0;
        Sent::Done
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSliceMut;
    use std::net::{SocketAddr, UdpSocket};
    use std::task::{Context, Waker};
    use std::time::Duration;

    use quinn_udp::{EcnCodepoint, RecvMeta};
    use sss_proto::{Ecn, PathHint};

    use super::*;
    use crate::driver::socket;

    async fn bound(address: &str) -> Option<Socket> {
        let Ok(bound) = socket::bind(address.parse().unwrap(), 1 << 20) else {
            eprintln!("SKIPPED: {address} cannot be bound here");
            return None;
        };
        Some(Socket::new(bound).unwrap())
    }

    fn receiver(address: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let at = socket.local_addr().unwrap();
        (socket, at)
    }

    fn to(remote: SocketAddr) -> Transmit {
        Transmit {
            link: Link::Udp(remote),
            local: None,
            ecn: Ecn::Ect0,
            segment: 1200,
        }
    }

    /// The first bytes of the next `n` datagrams.
    fn firsts(socket: &UdpSocket, n: usize) -> Vec<u8> {
        let mut buf = [0; 2000];
        let first = |_| {
            socket.recv(&mut buf).unwrap();
            buf[0]
        };
        (0..n).map(first).collect()
    }

    #[tokio::test]
    async fn datagrams_to_several_peers_are_one_call_and_each_gets_its_own_in_order() {
        for (ours, theirs) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
            ("[::]:0", "127.0.0.1:0"),
        ] {
            let Some(mut ours) = bound(ours).await else { continue };
            let ((one, first), (other, second)) = (receiver(theirs), receiver(theirs));
            let (mut batch, mut stats) = (Batch::default(), SocketStats::default());
            for (n, remote) in [first, second, first, second, second].into_iter().enumerate() {
                let contents = vec![u8::try_from(n).unwrap(); 100 + n];
                assert!(batch.take(&to(remote), &contents));
            }
            assert!(matches!(batch.send(&mut ours, &mut stats), Sent::Done));
            assert_eq!(firsts(&one, 2), [0, 2]);
            assert_eq!(firsts(&other, 3), [1, 3, 4]);
            assert_eq!((stats.send_calls, stats.send_errors), (1, 0));
            assert!(
                batch.has_room() && batch.rest().next().is_none(),
                "nothing is sent twice"
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_counted_and_all_others_arrive() {
        let mut ours = bound("127.0.0.1:0").await.unwrap();
        let (theirs, remote) = receiver("127.0.0.1:0");
        // Nobody may send to all hosts unasked; and a socket of IPv4 sends nothing by IPv6.
        let [denied, foreign] = ["255.255.255.255:9", "[2001:db8::1]:9"].map(|at| at.parse::<SocketAddr>().unwrap());
        let (mut batch, mut stats) = (Batch::default(), SocketStats::default());
        let remotes = [
            denied, remote, remote, foreign, remote, denied, denied, remote, remote, foreign,
        ];
        for (n, remote) in remotes.into_iter().enumerate() {
            assert!(batch.take(&to(remote), &[u8::try_from(n).unwrap(); 50]));
        }
        assert!(matches!(batch.send(&mut ours, &mut stats), Sent::Done));
        assert_eq!(firsts(&theirs, 5), [1, 2, 4, 7, 8]);
        assert_eq!((stats.send_errors, stats.send_denied, stats.send_too_large), (5, 3, 0));
        let (forbidden, lost) = ((denied, PathHint::Forbidden), (foreign, PathHint::NoRoute));
        assert_eq!(ours.take_hints(), [forbidden, lost, forbidden, forbidden, lost]);
        // It was not the call that was refused.
        let mut again = Batch::default();
        let before = stats.send_calls;
        (0..2).for_each(|n| assert!(again.take(&to(remote), &[n; 50])));
        assert!(matches!(again.send(&mut ours, &mut stats), Sent::Done));
        assert_eq!((firsts(&theirs, 2), stats.send_calls), (vec![0, 1], before + 1));
    }

    // spec: NEG-27
    #[tokio::test]
    async fn a_closed_port_among_others_is_told_and_all_others_arrive() {
        let mut ours = bound("127.0.0.1:0").await.unwrap();
        let (theirs, remote) = receiver("127.0.0.1:0");
        let closed = receiver("127.0.0.1:0").1;
        for round in 0..20 {
            let (mut batch, mut stats) = (Batch::default(), SocketStats::default());
            for (n, remote) in [remote, closed, remote, remote, closed, remote].into_iter().enumerate() {
                assert!(batch.take(&to(remote), &[u8::try_from(n).unwrap(); 50]));
            }
            assert!(matches!(batch.send(&mut ours, &mut stats), Sent::Done));
            assert_eq!(firsts(&theirs, 4), [0, 2, 3, 5], "round {round}");
            assert_eq!(stats.send_errors, 0);
            // The errors of the last ones may be told later.
            let hints = ours.take_hints();
            assert!(
                hints.iter().all(|hint| *hint == (closed, PathHint::Unreachable)),
                "{hints:?}"
            );
            assert!(!hints.is_empty(), "round {round}");
        }
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_stays_until_it_does() {
        let mut ours = bound("127.0.0.1:0").await.unwrap();
        let (theirs, remote) = receiver("127.0.0.1:0");
        let (mut batch, mut stats) = (Batch::default(), SocketStats::default());
        (0..3).for_each(|n| assert!(batch.take(&to(remote), &[n; 50])));
        // Nobody has seen yet that there is room.
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(ours.poll_writable(cx).is_pending());
        assert!(matches!(batch.send(&mut ours, &mut stats), Sent::Blocked));
        poll_fn(|cx| ours.poll_writable(cx)).await.unwrap();
        assert!(matches!(batch.send(&mut ours, &mut stats), Sent::Done));
        assert_eq!(firsts(&theirs, 3), [0, 1, 2]);
        theirs.set_nonblocking(true).unwrap();
        assert!(theirs.recv(&mut [0]).is_err(), "nothing is sent twice");
    }

    // spec: CHN-7
    #[tokio::test]
    async fn each_datagram_has_its_mark_and_its_source() {
        for (from, to_address) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::]:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let (Some(mut ours), Some(mut theirs)) = (bound(from).await, bound(to_address).await) else {
                continue;
            };
            let source = Some(theirs.local_addr().ip());
            let marks = [Ecn::Ect0, Ecn::Ect0, Ecn::NotEct, Ecn::NotEct, Ecn::Ect1, Ecn::Ect0];
            let (mut batch, mut stats) = (Batch::default(), SocketStats::default());
            for (n, ecn) in marks.into_iter().enumerate() {
                let local = source.filter(|_| n % 2 == 0);
                let transmit = Transmit {
                    ecn,
                    local,
                    ..to(theirs.local_addr())
                };
                assert!(batch.take(&transmit, &vec![7; 100 + n]));
            }
            assert!(matches!(batch.send(&mut ours, &mut stats), Sent::Done));
            assert_eq!(stats.send_errors, 0, "{from}");
            for (n, ecn) in marks.into_iter().enumerate() {
                let (mut buf, mut meta) = (vec![0; 1 << 16], [RecvMeta::default()]);
                loop {
                    poll_fn(|cx| theirs.poll_readable(cx)).await.unwrap();
                    match theirs.receive(&mut [IoSliceMut::new(&mut buf)], &mut meta) {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                let expected = match ecn {
                    Ecn::Ect0 => Some(EcnCodepoint::Ect0),
                    Ecn::Ect1 => Some(EcnCodepoint::Ect1),
                    _ => None,
                };
                assert_eq!((meta[0].len, meta[0].ecn), (100 + n, expected), "{from} {n}");
                assert_eq!(Some(meta[0].addr.ip().to_canonical()), source);
            }
        }
    }

    #[tokio::test]
    async fn what_is_segmented_or_goes_by_another_link_is_not_taken() {
        let remote = "127.0.0.1:9".parse().unwrap();
        let mut batch = Batch::default();
        assert!(!batch.take(&to(remote), &[0; 1201]));
        let by_tunnel = Transmit {
            link: Link::Tunnel(sss_proto::TunnelId(0)),
            ..to(remote)
        };
        assert!(!batch.take(&by_tunnel, &[0; 100]));
        let large = Transmit {
            segment: 9000,
            ..to(remote)
        };
        assert!(!batch.take(&large, &[0; 9000]));
        (0..MAX_DATAGRAMS).for_each(|_| assert!(batch.take(&to(remote), &[0; 100])));
        assert!(!batch.has_room() && !batch.take(&to(remote), &[0; 100]));
    }
}
