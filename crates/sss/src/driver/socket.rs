//! The UDP socket: segmentation and receive offload, ECN and batches through `quinn-udp`.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV6, UdpSocket as StdUdpSocket};
use std::task::{Context, Poll};

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use sss_proto::{Ecn, Transmit};
use tokio::io::Interest;

use crate::error::BuildError;

/// A bound socket that no runtime knows yet.
pub(crate) struct Bound {
    io: StdUdpSocket,
    local_addr: SocketAddr,
}

impl Bound {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// Binds `address`, for IPv4 too if it is the unspecified IPv6 address.
pub(crate) fn bind(address: SocketAddr, buffers: usize) -> Result<Bound, BuildError> {
    let raw =
        RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(BuildError::Socket)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        raw.set_only_v6(false).map_err(BuildError::Socket)?;
    }
    // Best effort: the system's limits may be lower, and the protocol works with any size.
    if let Err(error) = raw.set_recv_buffer_size(buffers).and(raw.set_send_buffer_size(buffers)) {
        tracing::debug!(%error, buffers, "socket buffers not enlarged");
    }
    raw.set_nonblocking(true).map_err(BuildError::Socket)?;
    raw.bind(&address.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BuildError::PortInUse { address },
        _ => BuildError::Bind { address, source },
    })?;
    let io = StdUdpSocket::from(raw);
    let local_addr = io.local_addr().map_err(BuildError::Socket)?;
    Ok(Bound { io, local_addr })
}

/// The socket at work.
pub(crate) struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    is_ipv6: bool,
}

impl Socket {
    /// Hands the socket to the present runtime.
    pub(crate) fn new(bound: Bound) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&bound.io))?;
        Ok(Self {
            is_ipv6: bound.local_addr.is_ipv6(),
            io: tokio::net::UdpSocket::from_std(bound.io)?,
            state,
        })
    }

    /// Datagrams that one send may carry.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().max(1)
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_recv_ready(cx)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(cx)
    }

    /// Receives into `bufs`, and says how many were filled.
    pub(crate) fn receive(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        self.io.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.io), bufs, meta)
        })
    }

    /// Sends datagrams of `transmit.segment` bytes each, but for the last, in one call.
    pub(crate) fn send(&self, contents: &[u8], transmit: &Transmit) -> io::Result<()> {
        let out = quinn_udp::Transmit {
            destination: self.to_wire(transmit.remote),
            ecn: ecn_to_wire(transmit.ecn),
            contents,
            segment_size: (contents.len() > transmit.segment).then_some(transmit.segment),
            src_ip: transmit.local.map(|ip| self.to_wire(SocketAddr::new(ip, 0)).ip()),
        };
        self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.io), &out)
        })
    }

    /// On a dual-stack socket an IPv4 address is written as an IPv6 one.
    fn to_wire(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            other => other,
        }
    }
}

/// The address as the core knows it: IPv4 as IPv4, whatever the socket, and without a flow label.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        v4 => v4,
    }
}

fn ecn_to_wire(ecn: Ecn) -> Option<EcnCodepoint> {
    match ecn {
        Ecn::NotEct => None,
        Ecn::Ect0 => Some(EcnCodepoint::Ect0),
        Ecn::Ect1 => Some(EcnCodepoint::Ect1),
        Ecn::Ce => Some(EcnCodepoint::Ce),
    }
}

pub(crate) fn ecn_from_wire(ecn: Option<EcnCodepoint>) -> Ecn {
    match ecn {
        None => Ecn::NotEct,
        Some(EcnCodepoint::Ect0) => Ecn::Ect0,
        Some(EcnCodepoint::Ect1) => Ecn::Ect1,
        Some(EcnCodepoint::Ce) => Ecn::Ce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:99".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.7:99".parse().unwrap());
        let v6: SocketAddr = "[2001:db8::7]:99".parse().unwrap();
        assert_eq!(canonical(v6), v6);
    }
}
