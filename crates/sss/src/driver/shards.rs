//! Several drivers behind one port: each has a socket of its own, and channels of its own.
//!
//! Sockets that share a port by `SO_REUSEPORT` are a group, and a program says to which of them a datagram goes
//! ([`steering`](crate::driver::steering)): the one whose mark it bears (NEG-42). Where the kernel has put one into
//! another's socket all the same, its driver hands it over, over a queue of bounded length.

use std::sync::Arc;
use std::task::{Context, Poll};

use sss_proto::shard_of;
use tokio::sync::mpsc;

use super::receive::Staged;

/// Datagrams that wait for a driver to which others hand them over, at most. What is beyond is dropped.
const MAX_HANDED: usize = 1024;
/// Of these, a driver takes so many in a round.
pub(super) const MAX_TAKEN: usize = 128;

/// One shard's place in its group.
pub(crate) struct Member {
    index: u8,
    group: Arc<Group>,
    handed: mpsc::Receiver<Handed>,
}

/// Something that one shard hands over to another.
pub(super) enum Handed {
    /// A datagram that is for it.
    Datagram(Staged),
    /// A packet that nobody knows, and that may be a stateless reset: all shards look at it.
    Stray(Vec<u8>),
}

/// All shards of a host.
struct Group {
    count: u8,
    channel_id_len: usize,
    inboxes: Vec<mpsc::Sender<Handed>>,
}

impl Member {
    /// The members of a group of so many, whose channel ids have that length.
    pub(crate) fn group(count: u8, channel_id_len: usize) -> Vec<Self> {
        let (inboxes, handed): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(MAX_HANDED)).unzip();
        let group = Arc::new(Group {
            count,
            channel_id_len,
            inboxes,
        });
        let members = handed.into_iter().zip(0..).map(|(handed, index)| Self {
            index,
            group: Arc::clone(&group),
            handed,
        });
        members.collect()
    }

    /// Number of the shard that a datagram is for, if it is for another one. What negotiates with one that is gone is
    /// for the shard to which it has come: all of an attempt comes to the same.
    pub(super) fn other(&self, datagram: &[u8]) -> Option<u8> {
        let index = shard_of(datagram, self.group.count, self.group.channel_id_len)?;
        let is_long = datagram.first().is_some_and(|first| first & 0x80 != 0);
        (index != self.index && !(is_long && self.is_gone(index))).then_some(index)
    }

    /// Hands a datagram over to another shard. False if that takes no more, or is gone.
    pub(super) fn hand_over(&self, index: u8, datagram: Staged) -> bool {
        let inbox = self.group.inboxes.get(usize::from(index));
        inbox.is_some_and(|inbox| inbox.try_send(Handed::Datagram(datagram)).is_ok())
    }

    /// Returns whether a shard takes nothing any more: it was closed, or its runtime has ended.
    fn is_gone(&self, index: u8) -> bool {
        let inbox = self.group.inboxes.get(usize::from(index));
        inbox.is_none_or(mpsc::Sender::is_closed)
    }

    /// Hands a packet that nobody knows over to all other shards. Those that take no more do not hear of it.
    pub(super) fn spread(&self, stray: &[u8]) {
        for (inbox, index) in self.group.inboxes.iter().zip(0..) {
            if index != self.index {
                let _ = inbox.try_send(Handed::Stray(stray.to_vec()));
            }
        }
    }

    /// The next of those that others have handed over. The task of `cx` is woken when there is one.
    pub(super) fn poll_handed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Handed>> {
        self.handed.poll_recv(cx)
    }

    /// Returns whether others have handed something over that was not taken.
    pub(super) fn has_waiting(&self) -> bool {
        !self.handed.is_empty()
    }
}

#[cfg(target_os = "linux")]
pub(crate) use group::bind;

#[cfg(target_os = "linux")]
mod group {
    //! The sockets.

    use std::net::SocketAddr;
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::libc::{self, sock_filter};
    use rustix::net::sockopt::set_socket_reuseport;
    use sss_proto::shard_mark_at;
    use sss_wire::long::Kind;

    use crate::driver::socket::{self, Bound};
    use crate::driver::steering::{ANSWER, BYTE, attach, instruction, jump};
    use crate::error::BuildError;

    /// Binds `count` sockets to one address, and has the kernel put datagrams into them by their marks.
    ///
    /// The first is bound alone, so that a port that somebody else has is an error, and not shared with them.
    pub(crate) fn bind(
        address: SocketAddr,
        buffers: usize,
        (count, channel_id_len): (u8, usize),
    ) -> Result<Vec<Bound>, BuildError> {
        let first = socket::bind(address, buffers)?;
        set_socket_reuseport(first.fd(), true).map_err(|error| BuildError::Socket(error.into()))?;
        let address = first.local_addr();
        let mut sockets = vec![first.shared()];
        for _ in 1..count {
            sockets.push(socket::join(address, buffers)?.shared());
        }
        let steered = sockets.first().map(|first| steer(first.fd(), count, channel_id_len));
        if let Some(Err(error)) = steered {
            tracing::warn!(%error, "the kernel does not put datagrams into the right socket: they are handed over");
        }
        Ok(sockets)
    }

    fn steer(group: BorrowedFd<'_>, count: u8, channel_id_len: usize) -> std::io::Result<()> {
        attach(group.as_fd(), &program(count, channel_id_len))
    }

    /// Answers the number of the socket, as [`sss_proto::shard_of`] does; the first one where it does not say.
    fn program(count: u8, channel_id_len: usize) -> Vec<sock_filter> {
        let mark = |first: u8| shard_mark_at(first, channel_id_len).unwrap_or_default() as u32;
        let is = |kind: Kind, further| {
            jump(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                (further, 0),
                u32::from(kind as u8),
            )
        };
        let has = |bit, further| jump(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, (further, 0), bit);
        let skip = |further| instruction(libc::BPF_JMP | libc::BPF_JA, further);
        vec![
            instruction(BYTE, 0),
            has(0x80, 4),
            has(0x40, 1),
            instruction(ANSWER, 0),
            instruction(BYTE, mark(0x40)),
            skip(7),
            is(Kind::Hello, 5),
            is(Kind::HelloK, 4),
            is(Kind::Initiate, 3),
            is(Kind::Probe, 2),
            // What answers an attempt of this host.
            instruction(BYTE, mark(Kind::Accept as u8)),
            skip(1),
            instruction(BYTE, mark(Kind::Hello as u8)),
            instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, u32::from(count)),
            instruction(libc::BPF_RET | libc::BPF_A, 0),
        ]
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

    use sss_wire::long;

    use super::*;
    use crate::driver::socket;
    use crate::error::BuildError;

    /// Datagrams of all kinds, with all bytes where a mark may be.
    fn datagrams() -> impl Iterator<Item = Vec<u8>> {
        let firsts = (0x7c..=0x8a).chain([0x00, 0x08, 0x20, 0x40, 0xff]);
        firsts.flat_map(|first| {
            (0..=u8::MAX).map(move |mark| {
                let mut datagram = vec![first ^ 0x5a; 40];
                datagram[0] = first;
                datagram[long::ATTEMPT_AT] = mark;
                datagram[long::PREFIX - 1] = mark.wrapping_mul(5).wrapping_add(1);
                datagram
            })
        })
    }

    // spec: NEG-42
    #[test]
    fn the_kernel_puts_each_datagram_where_it_is_for() {
        for (bound, from) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
        ] {
            for (count, len) in [(2, 4), (3, 5), (8, 20)] {
                let Ok(sockets) = bind(bound.parse().unwrap(), 1 << 20, (count, len)) else {
                    eprintln!("SKIPPED: {bound} cannot be bound here");
                    continue;
                };
                let ip: IpAddr = from.parse().unwrap();
                let to = SocketAddr::new(ip, sockets[0].local_addr().port());
                let sender = UdpSocket::bind((ip, 0)).unwrap();
                for datagram in datagrams() {
                    sender.send_to(&datagram, to).unwrap();
                    let owner = shard_of(&datagram, count, len);
                    let mut received = [0; 64];
                    let took = sockets
                        .iter()
                        .zip(0..)
                        .filter(|(socket, _)| socket.io().recv(&mut received).is_ok());
                    let took: Vec<u8> = took.map(|(_, index)| index).collect();
                    assert_eq!(took.len(), 1, "{bound} {datagram:?}");
                    if let Some(owner) = owner {
                        assert_eq!(took, [owner], "{bound} {count} {len} {datagram:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_else_gets_the_port_and_one_that_is_taken_is_not_shared() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets = bind(any, 1 << 16, (2, 5)).unwrap();
        let taken = sockets[0].local_addr();
        for attempt in [
            bind(taken, 1 << 16, (2, 5)).map(drop),
            socket::bind(taken, 1 << 16).map(drop),
        ] {
            assert!(matches!(attempt, Err(BuildError::PortInUse { .. })), "{attempt:?}");
        }
        drop(sockets);
        assert!(socket::bind(taken, 1 << 16).is_ok());
    }
}
