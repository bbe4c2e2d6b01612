//! Batches on their way to the core, and what is in them.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use quinn_udp::RecvMeta;
use sss_proto::{Batch, Ecn, Input, Instant, Link, SocketId};
use sss_wire::long::Kind;

use super::memory::Buffers;
use crate::driver::{addresses, socket};
use crate::shared::Inner;

/// A batch on its way to the core.
pub(in crate::driver) struct Staged {
    pub(super) data: BytesMut,
    pub(super) origin: Origin,
    pub(super) stride: usize,
    pub(super) remote: SocketAddr,
    /// The further socket that it has come to, if it was not the host's own.
    pub(super) socket: Option<SocketId>,
    pub(super) local: Option<IpAddr>,
    pub(super) ecn: Ecn,
}

/// Class of a datagram, by when the core takes it in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A question of a stranger, but for INITIATE: after all else.
    Request,
    /// A few as they come, the others with the requests. Each may take much cryptography.
    Initiate,
    /// An answer of a negotiation: as it comes. Each may take much cryptography.
    Answer,
    /// As it comes.
    Other,
}

impl Class {
    pub(super) fn of(datagram: &[u8]) -> Self {
        match datagram.first().map(|first| Kind::try_from(*first)) {
            Some(Ok(Kind::Hello | Kind::HelloK | Kind::Probe)) => Self::Request,
            Some(Ok(Kind::Initiate)) => Self::Initiate,
            Some(Ok(Kind::Cookie | Kind::CookieK | Kind::Accept)) => Self::Answer,
            _ => Self::Other,
        }
    }

    pub(super) fn is_costly(self) -> bool {
        matches!(self, Self::Initiate | Self::Answer)
    }
}

/// Source of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The socket: `data` is a whole buffer.
    Buffer,
    /// The socket: `data` is a part of a slab, or has memory of its own.
    Slab,
    /// A greeter, who has admitted it.
    #[cfg(target_os = "linux")]
    Greeter,
}

impl Staged {
    pub(super) fn new(meta: &RecvMeta, data: BytesMut, origin: Origin) -> Self {
        Self {
            data,
            origin,
            stride: meta.stride.max(1),
            remote: addresses::canonical(meta.addr),
            socket: None,
            local: meta.dst_ip.map(|ip| ip.to_canonical()),
            ecn: socket::ecn_from_wire(meta.ecn),
        }
    }

    /// One datagram that somebody else has read.
    #[cfg(target_os = "linux")]
    pub(in crate::driver) fn datagram(meta: &RecvMeta, datagram: &[u8]) -> Self {
        Self::new(meta, datagram.into(), Origin::Slab)
    }

    /// One of the datagrams of a batch, for somebody else than who has read it.
    pub(in crate::driver) fn part(&self, datagram: &[u8]) -> Self {
        Self {
            data: datagram.into(),
            origin: Origin::Slab,
            stride: datagram.len().max(1),
            ..*self
        }
    }

    /// The address that it came from.
    #[cfg(target_os = "linux")]
    pub(in crate::driver) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The local address that it came to, if the socket tells.
    #[cfg(target_os = "linux")]
    pub(in crate::driver) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    pub(in crate::driver) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.data.chunks(self.stride)
    }

    /// Takes off what is beyond so many bytes, in whole datagrams. A batch that has a buffer of its own stays whole.
    pub(super) fn split_off(&mut self, at: usize) -> Option<Self> {
        let at = at.div_ceil(self.stride) * self.stride;
        (self.origin == Origin::Slab).then(|| self.split_at(at)).flatten()
    }

    /// Takes off what is behind the first datagrams that are of one class; of INITIATEs, what is behind so many, unless
    /// that is none.
    pub(super) fn split_run(&mut self, initiates: usize) -> Option<Self> {
        let class = self.class();
        let most = match class {
            Class::Initiate if initiates > 0 => initiates,
            _ => usize::MAX,
        };
        let alike = self.datagrams().take_while(|datagram| Class::of(datagram) == class);
        self.split_at(alike.take(most).count() * self.stride)
    }

    /// Takes off what is behind the first `at` bytes. Its buffer, if it has one of its own, is not used again.
    pub(super) fn split_at(&mut self, at: usize) -> Option<Self> {
        if at >= self.data.len() {
            return None;
        }
        self.origin = Origin::Slab;
        let data = self.data.split_off(at);
        Some(Self { data, ..*self })
    }

    /// The class of its datagrams, once it holds a run of them.
    pub(super) fn class(&self) -> Class {
        Class::of(&self.data)
    }

    /// Returns whether a greeter has admitted it.
    pub(super) fn is_admitted(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.origin == Origin::Greeter;
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Gives the batch to the host.
    pub(super) fn feed(mut self, inner: &mut Inner, now: Instant, buffers: &mut Buffers) {
        if self.is_admitted() {
            let (remote, local, packet) = (self.remote, self.local, &self.data[..]);
            return inner.handle(now, Input::Admitted { remote, local, packet });
        }
        let mut lent = None;
        let input = Input::Datagrams(Batch {
            data: &mut self.data,
            lent: &mut lent,
            stride: self.stride,
            link: match self.socket {
                None => Link::Udp(self.remote),
                Some(socket) => Link::Socket(socket, self.remote),
            },
            local: self.local,
            ecn: self.ecn,
        });
        inner.handle(now, input);
        if self.origin == Origin::Buffer {
            buffers.give_back(self.data, lent);
        }
    }
}
