//! Further sockets of a host, beside its own: many for a few seconds, where ports are guessed (RCH-30), of which the
//! one that is the way to a peer stays; and the other port of a registration server (RCH-28).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use sss_proto::{Link, SocketId};
use sss_reach::SocketOrder;
use sss_wire::reach::{Kind, LEASE_SIZE};

use super::socket::{self, Bound, Socket};
use crate::shared::Shared;

/// Bytes of socket buffer asked for: of most sockets little is asked.
const BUFFERS: usize = 1 << 20;
/// Sockets that are given back where the system has no more descriptors: others need some, too.
const RESERVE: usize = 32;

/// The further sockets that are open.
#[derive(Default)]
pub(crate) struct Further {
    latest: u32,
    /// Set once it was said that the system lets too few be opened.
    is_lack_told: bool,
    open: Vec<(SocketId, Takes, Socket)>,
}

/// Datagrams that a further socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// All.
    All,
    /// Questions of those who have a lease (RCH-28).
    Leases,
}

impl Takes {
    /// Returns whether a batch is taken.
    pub(super) fn allows(self, data: &[u8], stride: usize) -> bool {
        match self {
            Self::All => true,
            Self::Leases => {
                let lease =
                    |datagram: &[u8]| datagram.len() == LEASE_SIZE && datagram.first() == Some(&(Kind::Lease as u8));
                data.chunks(stride.max(1)).all(lease)
            }
        }
    }
}

/// Binds the other port of a server: the one behind its own, or any that is free.
pub(crate) fn bind_other(own: SocketAddr) -> Option<Bound> {
    let ports = own.port().checked_add(1).into_iter().chain([0]);
    let mut bound = ports.map(|port| socket::bind(SocketAddr::new(own.ip(), port), BUFFERS));
    bound.find_map(Result::ok)
}

impl Further {
    /// Takes datagrams at a socket that was bound before.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn add(&mut self, bound: Bound, takes: Takes) -> io::Result<SocketId> {
        let socket = Socket::new(bound)?;
        // A name is not used again as long as anybody may mean its former owner.
        self.latest = self.latest.wrapping_add(1);
        let id = SocketId(self.latest);
        self.open.push((id, takes, socket));
        Ok(id)
    }

    /// Does what is ordered, and tells of it.
    pub(crate) fn obey(&mut self, orders: Vec<SocketOrder>, shared: &Shared) {
        for order in orders {
            match order {
                SocketOrder::Open(count) => {
                    let opened = self.open(count, shared.local_addr());
                    shared.drive(|inner, now| inner.rendezvous.on_sockets_opened(now, &mut inner.core, &opened));
                }
                SocketOrder::Close(sockets) => self.open.retain(|(id, ..)| !sockets.contains(id)),
            }
        }
    }

    /// Opens as many as can be, for IPv4, at the address that the host's own socket is bound to.
    fn open(&mut self, count: usize, own: SocketAddr) -> Vec<SocketId> {
        let ip = match own.ip().to_canonical() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let mut opened = Vec::new();
        while opened.len() < count {
            let bound = socket::bind((ip, 0).into(), BUFFERS).ok();
            let Some(Ok(id)) = bound.map(|bound| self.add(bound, Takes::All)) else {
                let kept = opened.len().saturating_sub(RESERVE);
                let given_back = opened.split_off(kept);
                self.open.retain(|(id, ..)| !given_back.contains(id));
                self.tell_of_lack(kept, count);
                break;
            };
            opened.push(id);
        }
        opened
    }

    /// Says, once, that ports are guessed with too few sockets, or not at all.
    fn tell_of_lack(&mut self, sockets: usize, wanted: usize) {
        if !std::mem::replace(&mut self.is_lack_told, true) {
            tracing::warn!(
                sockets,
                wanted,
                "this process may open too few sockets (ulimit -n) to get past a NAT: peers may be left to a relay"
            );
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketId, Takes, &mut Socket)> {
        self.open.iter_mut().map(|(id, takes, socket)| (*id, *takes, socket))
    }

    /// The socket by which a link goes, if it is one of these.
    pub(super) fn of(&mut self, link: Link) -> Option<&mut Socket> {
        let Link::Socket(id, _) = link else {
            return None;
        };
        let mut all = self.open.iter_mut();
        all.find(|(of, ..)| *of == id).map(|(.., socket)| socket)
    }

    /// Ready when one of them is; else the task of `cx` is woken when one is.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for (.., socket) in &self.open {
            if socket.poll_readable(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-28
    #[test]
    fn the_other_port_of_a_server_takes_questions_alone() {
        let lease = [Kind::Lease as u8; LEASE_SIZE];
        assert!(Takes::Leases.allows(&lease, LEASE_SIZE));
        assert!(Takes::Leases.allows(&lease.repeat(3), LEASE_SIZE));
        assert!(!Takes::Leases.allows(&[Kind::Lease as u8; 159], 159));
        assert!(!Takes::Leases.allows(&[0x80; LEASE_SIZE], LEASE_SIZE));
        assert!(Takes::All.allows(&[0x80; 7], 7));
    }

    // spec: RCH-30
    #[tokio::test]
    async fn sockets_are_opened_named_and_closed() {
        let mut further = Further::default();
        let own = SocketAddr::from(([127, 0, 0, 1], 7));
        let opened = further.open(9, own);
        assert_eq!((opened.len(), further.open.len()), (9, 9));
        let link = |id| Link::Socket(id, own);
        assert!(opened.iter().all(|id| further.of(link(*id)).is_some()));
        assert!(further.of(Link::Udp(own)).is_none());
        let again = further.open(1, own);
        assert!(!opened.contains(&again[0]), "names are not used again");
    }
}
