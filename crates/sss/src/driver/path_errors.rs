//! Errors of datagrams after they were sent, as the system learns it from ICMP (ip(7), `IP_RECVERR`).
//!
//! The socket has a queue of such errors, and fails the next call on it with the latest one, whatever that call was to
//! do. Each entry of the queue names the address that the datagram was sent to. Anybody can forge them: they are hints
//! for people.

use std::io;
use std::net::SocketAddr;

use sss_proto::PathHint;

use super::readiness::ReadySocket;

/// Takes the errors that wait, of which a call has told the latest, and gives them to `note`. False if there are none.
#[cfg(target_os = "linux")]
pub(super) fn take(socket: &ReadySocket, told: &io::Error, note: impl FnMut(SocketAddr, PathHint)) -> bool {
    linux::take(socket, told, note)
}

/// Elsewhere a call fails with its own errors only.
#[cfg(not(target_os = "linux"))]
pub(super) fn take(_socket: &ReadySocket, _told: &io::Error, _note: impl FnMut(SocketAddr, PathHint)) -> bool {
    false
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSliceMut;

    use rustix::io::Errno;
    use rustix::net::sockopt::socket_error;
    use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

    use super::*;

    /// Entries taken at once, at most. The rest is left for the next time.
    const MAX_ERRORS: usize = 64;

    pub(super) fn take(socket: &ReadySocket, told: &io::Error, mut note: impl FnMut(SocketAddr, PathHint)) -> bool {
        let mut errno = Errno::from_io_error(told);
        let flags = RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT;
        for taken in 0..MAX_ERRORS {
            let mut datagram = [0];
            let mut parts = [IoSliceMut::new(&mut datagram)];
            let Ok(entry) = recvmsg(socket.fd(), &mut parts, &mut RecvAncillaryBuffer::default(), flags) else {
                return taken > 0;
            };
            let hint = match errno {
                Some(Errno::MSGSIZE) => PathHint::TooLarge,
                _ => PathHint::Unreachable,
            };
            if let Some(Ok(remote)) = entry.address.map(SocketAddr::try_from) {
                note(remote, hint);
            }
            // What the entry says that is first now; asking makes the next call not fail with it.
            errno = socket_error(socket.fd()).ok().and_then(Result::err);
        }
        true
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::IoSliceMut;
    use std::net::UdpSocket;

    use quinn_udp::RecvMeta;
    use sss_proto::{Ecn, Link, Transmit};

    use super::*;
    use crate::driver::socket::{self, Socket};

    fn to(remote: SocketAddr, segment: usize) -> Transmit {
        Transmit {
            link: Link::Udp(remote),
            local: None,
            ecn: Ecn::Ect0,
            segment,
        }
    }

    fn closed_port(like: SocketAddr) -> SocketAddr {
        UdpSocket::bind(SocketAddr::new(like.ip(), 0))
            .unwrap()
            .local_addr()
            .unwrap()
    }

    // spec: NEG-27
    #[tokio::test]
    async fn a_closed_port_is_told_and_the_next_datagram_to_another_arrives() {
        for bound in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(ours) = socket::bind(bound.parse().unwrap(), 1 << 16) else {
                eprintln!("SKIPPED: {bound} cannot be bound here");
                continue;
            };
            let mut ours = Socket::new(ours).unwrap();
            let loopback: SocketAddr = if bound == "[::1]:0" { "[::1]:0" } else { "127.0.0.1:0" }
                .parse()
                .unwrap();
            let theirs = UdpSocket::bind(loopback).unwrap();
            theirs
                .set_read_timeout(Some(std::time::Duration::from_secs(10)))
                .unwrap();
            let closed = closed_port(loopback);
            for round in 0..3_u8 {
                ours.send(&[1; 100], &to(closed, 100)).unwrap();
                // The answer of loopback is there already.
                ours.send(&[round; 50], &to(theirs.local_addr().unwrap(), 50)).unwrap();
                let mut buf = [0; 100];
                assert_eq!(
                    theirs.recv(&mut buf).unwrap(),
                    50,
                    "the datagram was sent, whatever was told of another"
                );
                assert_eq!(buf[0], round);
                assert_eq!(ours.take_hints(), [(closed, PathHint::Unreachable)], "{bound}");
            }
        }
    }

    #[tokio::test]
    async fn what_has_arrived_is_received_although_another_datagram_did_not_arrive() {
        let mut ours = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()).unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = closed_port(theirs.local_addr().unwrap());
        theirs.send_to(b"arrived", ours.local_addr()).unwrap();
        std::future::poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
        ours.send(&[1; 100], &to(closed, 100)).unwrap();
        let (mut buf, mut meta) = ([0; 2048], [RecvMeta::default()]);
        let received = ours.receive(&mut [IoSliceMut::new(&mut buf)], &mut meta).unwrap();
        assert_eq!((received, &buf[..meta[0].len]), (1, &b"arrived"[..]));
        assert_eq!(ours.take_hints(), [(closed, PathHint::Unreachable)]);
    }

    // spec: NEG-27
    #[tokio::test]
    async fn what_this_machine_does_not_send_is_not_said_to_be_answered() {
        let mut ours = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()).unwrap();
        for (remote, hint) in [
            ("192.0.2.1:1", PathHint::NoRoute),
            ("255.255.255.255:1", PathHint::Forbidden),
        ] {
            let remote = remote.parse().unwrap();
            ours.send(&[1; 100], &to(remote, 100)).unwrap_err();
            assert_eq!(ours.take_hints(), [(remote, hint)]);
        }
    }

    #[tokio::test]
    async fn errors_of_many_datagrams_are_bounded() {
        let mut ours = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()).unwrap();
        let closed = closed_port(ours.local_addr());
        for _ in 0..1000 {
            ours.send(&[1; 100], &to(closed, 100)).unwrap();
        }
        assert!(ours.take_hints().len() <= 64);
    }
}
