//! The UDP socket: segmentation and receive offload, ECN and batches through `quinn-udp`; and [calls](several) that
//! send to several destinations.

#[cfg_attr(not(target_os = "linux"), path = "socket/several_elsewhere.rs")]
mod several;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdUdpSocket};
#[cfg(unix)]
use std::os::fd::AsFd as AsSocket;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
#[cfg(windows)]
use std::os::windows::io::AsSocket;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use sss_proto::{Ecn, Link, PathHint, Transmit};
use sss_wire::constants::BASE_DATAGRAM;

use super::addresses;
use super::path_errors;
use super::readiness::ReadySocket;
use crate::error::BuildError;
use crate::nat64::Translation;
pub(super) use several::MAX_DATAGRAMS;
use several::Several;

/// A bound socket that no runtime knows yet.
pub(crate) struct Bound {
    io: StdUdpSocket,
    local_addr: SocketAddr,
    /// The size that was asked for.
    buffers: usize,
    /// Others share the port.
    is_shared: bool,
}

impl Bound {
    /// The same, with a port that others share.
    #[cfg(target_os = "linux")]
    pub(super) fn shared(self) -> Self {
        Self {
            is_shared: true,
            ..self
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    #[cfg(target_os = "linux")]
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// A socket for `address` that is not bound to it yet: for IPv4 too if it is the unspecified IPv6 address.
pub(super) fn unbound(address: SocketAddr, buffers: usize) -> io::Result<RawSocket> {
    let raw = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        raw.set_only_v6(false)?;
    }
    // Best effort: the system's limits may be lower, and the protocol works with any size.
    if let Err(error) = raw.set_recv_buffer_size(buffers).and(raw.set_send_buffer_size(buffers)) {
        tracing::debug!(%error, buffers, "socket buffers not enlarged");
    }
    raw.set_nonblocking(true)?;
    Ok(raw)
}

/// Binds `address`, for IPv4 too if it is the unspecified IPv6 address.
pub(crate) fn bind(address: SocketAddr, buffers: usize) -> Result<Bound, BuildError> {
    let raw = unbound(address, buffers).map_err(BuildError::Socket)?;
    finish(raw, address, buffers)
}

/// Binds an address that another socket of this process has, and shares (`SO_REUSEPORT`).
#[cfg(target_os = "linux")]
pub(super) fn join(address: SocketAddr, buffers: usize) -> Result<Bound, BuildError> {
    let raw = unbound(address, buffers).map_err(BuildError::Socket)?;
    rustix::net::sockopt::set_socket_reuseport(&raw, true).map_err(|error| BuildError::Socket(error.into()))?;
    finish(raw, address, buffers)
}

fn finish(raw: RawSocket, address: SocketAddr, buffers: usize) -> Result<Bound, BuildError> {
    raw.bind(&address.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BuildError::PortInUse { address },
        _ => BuildError::Bind { address, source },
    })?;
    let io = StdUdpSocket::from(raw);
    let local_addr = io.local_addr().map_err(BuildError::Socket)?;
    Ok(Bound {
        io,
        local_addr,
        buffers,
        is_shared: false,
    })
}

/// Asks the system for segmentation, receive offload and marks of congestion.
///
/// `quinn-udp` 0.6.3 asks for times of arrival too, which nobody reads here. They are not wanted: with them there is no
/// room left for the marks among what is told of datagrams that come together.
pub(super) fn offload(io: &impl AsSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(io))?;
    #[cfg(target_os = "linux")]
    nix::sys::socket::setsockopt(io, nix::sys::socket::sockopt::ReceiveTimestampns, &false)?;
    Ok(state)
}

/// The socket at work.
pub(crate) struct Socket {
    io: ReadySocket,
    state: UdpSocketState,
    local_addr: SocketAddr,
    buffers: usize,
    is_shared: bool,
    /// The time of the latest sign of a move, and whether nobody has taken note of it.
    sign: Option<(Instant, bool)>,
    /// Hints of the system about the ways to addresses, of which nobody has taken note of.
    hints: Vec<(SocketAddr, PathHint)>,
    translation: Translation,
    several: Several,
}

/// Least time between two signs of a move.
const SIGN_INTERVAL: Duration = Duration::from_secs(1);

/// Hints kept until they are taken, at most.
const MAX_HINTS: usize = 64;

impl Socket {
    /// Hands the socket to the present runtime.
    pub(crate) fn new(bound: Bound) -> io::Result<Self> {
        let state = offload(&bound.io)?;
        #[cfg(unix)]
        if let Err(error) = state.enable_transport_errors(UdpSockRef::from(&bound.io)) {
            tracing::debug!(%error, "the system does not tell what becomes of datagrams");
        }
        Ok(Self {
            local_addr: bound.local_addr,
            buffers: bound.buffers,
            is_shared: bound.is_shared,
            sign: None,
            hints: Vec::new(),
            translation: Translation::default(),
            several: Several::default(),
            io: ReadySocket::new(bound.io)?,
            state,
        })
    }

    /// Knowledge of a translator to IPv4.
    pub(super) fn translation(&self) -> &Translation {
        &self.translation
    }

    /// The address that it is bound to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The size of its buffers that was asked for.
    #[cfg(target_os = "linux")]
    pub(super) fn buffers(&self) -> usize {
        self.buffers
    }

    #[cfg(target_os = "linux")]
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.io.fd()
    }

    /// If this machine has lost the address that the socket is bound to, binds the unspecified address of its family,
    /// on the same port if that is free. Says whether it did. The present runtime takes over the new socket. A port
    /// that is shared is kept.
    pub(crate) fn rebind_if_stranded(&mut self) -> Result<bool, BuildError> {
        if self.is_shared || !addresses::has_vanished(self.local_addr) {
            return Ok(false);
        }
        let lost = self.local_addr;
        // The old socket has the port until another one takes its place.
        self.rebind(0)?;
        if let Err(error) = self.rebind(lost.port()) {
            tracing::debug!(%error, "not on the same port");
        }
        tracing::info!("the address of the socket is lost: rebound");
        tracing::debug!(%lost, now = %self.local_addr, "rebound");
        Ok(true)
    }

    /// Binds the unspecified address of the family, on another port; 0 takes any free one. The present runtime takes
    /// over the new socket.
    pub(crate) fn rebind(&mut self, port: u16) -> Result<(), BuildError> {
        let any: IpAddr = match self.local_addr.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let bound = bind(SocketAddr::new(any, port), self.buffers)?;
        let translation = self.translation.clone();
        *self = Self {
            translation,
            ..Self::new(bound).map_err(BuildError::Socket)?
        };
        Ok(())
    }

    /// Datagrams that one send may carry.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments().max(1)
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_readable(cx)
    }

    pub(crate) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_writable(cx)
    }

    /// Receives into `bufs`, and says how many were filled.
    pub(crate) fn receive(&mut self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let result = self.receive_once(bufs, meta);
        match &result {
            Err(error) if self.take_path_errors(error) => self.receive_once(bufs, meta),
            _ => result,
        }
    }

    fn receive_once(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let received = self
            .io
            .try_read(bufs.len(), |socket| self.state.recv(socket, bufs, meta))?;
        if self.translation.is_known() {
            for one in meta.iter_mut().take(received) {
                one.addr = self.translation.inward(one.addr);
            }
        }
        Ok(received)
    }

    /// Takes what the system has said of the ways to addresses since the last time. It may be forged.
    pub(crate) fn take_hints(&mut self) -> Vec<(SocketAddr, PathHint)> {
        std::mem::take(&mut self.hints)
    }

    /// Takes from the system what has become of datagrams sent before: a call fails with it, whatever the call was to
    /// do. False if there is nothing, so that the error is the call's own.
    fn take_path_errors(&mut self, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::WouldBlock {
            return false;
        }
        let (hints, translation) = (&mut self.hints, &self.translation);
        path_errors::take(&self.io, error, |remote, hint| {
            if hints.len() < MAX_HINTS {
                hints.push((addresses::canonical(translation.inward(remote)), hint));
            }
        })
    }

    /// Takes note of an error of sending itself.
    fn note_own_error(&mut self, transmit: &Transmit, error: &io::Error) {
        // A socket of IPv4 sends nothing by IPv6.
        let is_foreign = |remote: SocketAddr| remote.is_ipv6() && self.local_addr.is_ipv4();
        let hint = match error.kind() {
            _ if transmit.link.address().is_some_and(is_foreign) => PathHint::NoRoute,
            io::ErrorKind::ConnectionRefused => PathHint::Unreachable,
            // The last: from the address that the socket is bound to.
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::InvalidInput => {
                PathHint::NoRoute
            }
            io::ErrorKind::PermissionDenied => PathHint::Forbidden,
            // What is longer is a probe for the path MTU.
            _ if quinn_udp::is_msg_size_err(error) && transmit.segment <= usize::from(BASE_DATAGRAM) => {
                PathHint::TooLarge
            }
            _ => return,
        };
        if let Link::Udp(remote) = transmit.link {
            // By IPv6 there may be a way to IPv4 addresses.
            let may_be_ipv6_alone = hint == PathHint::NoRoute && self.local_addr.is_ipv6() && remote.is_ipv4();
            if may_be_ipv6_alone && let [None, Some(_)] = addresses::preferred_sources() {
                self.translation.ask(remote.ip());
            }
            if self.hints.len() < MAX_HINTS {
                self.hints.push((remote, hint));
            }
        }
    }

    /// Sends datagrams of `transmit.segment` bytes each, but for the last, in one call.
    ///
    /// Never from another source than `transmit` asks for: an observer of both addresses would know the channel again.
    /// It fails if this machine has lost that address, and there is a sign of a move if it has another one to go to
    /// (MIG-13).
    pub(crate) fn send(&mut self, contents: &[u8], transmit: &Transmit) -> io::Result<()> {
        let mut result = self.send_once(contents, transmit);
        if let Err(error) = &result
            && self.take_path_errors(error)
        {
            // The error was of a datagram sent before, to whomever: this one was not sent.
            result = self.send_once(contents, transmit);
        }
        self.several.note_alone(result.is_ok());
        if let Err(error) = &result {
            self.note_own_error(transmit, error);
            if self.has_lost_source(transmit, error) {
                self.note_lost_source(transmit);
                self.renew_offload()?;
            }
        }
        result
    }

    /// Returns whether the error is that the source is no address of this machine any more. Systems do not agree on the
    /// error.
    fn has_lost_source(&self, transmit: &Transmit, error: &io::Error) -> bool {
        let is_ordinary = error.kind() == io::ErrorKind::WouldBlock || quinn_udp::is_msg_size_err(error);
        let source = transmit.local.unwrap_or(self.local_addr.ip());
        !is_ordinary && addresses::has_vanished(SocketAddr::new(source, 0))
    }

    fn note_lost_source(&mut self, transmit: &Transmit) {
        let (now, bound) = (Instant::now(), self.local_addr);
        let is_soon = self.sign.is_some_and(|(at, _)| now < at + SIGN_INTERVAL);
        let is_elsewhere = match (transmit.link, transmit.local) {
            (Link::Udp(remote), Some(_)) => addresses::has_moved(remote, transmit.local, bound),
            _ => true,
        };
        if !is_soon && is_elsewhere {
            tracing::debug!(source = ?transmit.local, "the source address is lost");
            self.sign = Some((now, true));
        }
    }

    /// Takes note of a sign of a move: datagrams could not be sent, because this machine has lost their source and has
    /// another one.
    pub(crate) fn take_sign(&mut self) -> bool {
        self.sign.as_mut().is_some_and(|(_, is_new)| std::mem::take(is_new))
    }

    /// The network of this machine has changed: another interface has other abilities.
    pub(crate) fn on_network_change(&mut self) -> io::Result<()> {
        self.translation.forget();
        self.renew_offload()
    }

    /// An error on the way out makes `quinn-udp` send without segmentation and ECN from then on; this begins anew.
    fn renew_offload(&mut self) -> io::Result<()> {
        self.state = offload(self.io.io())?;
        self.several = Several::default();
        Ok(())
    }

    fn send_once(&mut self, contents: &[u8], transmit: &Transmit) -> io::Result<()> {
        let Some(remote) = transmit.link.address() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let is_ipv6 = self.local_addr.is_ipv6();
        let out = quinn_udp::Transmit {
            destination: to_wire(self.translation.outward(remote), is_ipv6),
            ecn: ecn_to_wire(transmit.ecn),
            contents,
            segment_size: (contents.len() > transmit.segment).then_some(transmit.segment),
            src_ip: transmit.local.map(|ip| to_wire(SocketAddr::new(ip, 0), is_ipv6).ip()),
        };
        self.io.try_write(|socket| self.state.try_send(socket.into(), &out))
    }
}

/// On a socket of IPv6, which may be a dual-stack one, an IPv4 address is written as an IPv6 one.
pub(super) fn to_wire(address: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if is_ipv6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        other => other,
    }
}

#[cfg(all(test, target_os = "linux"))]
impl Bound {
    pub(super) fn io(&self) -> &StdUdpSocket {
        &self.io
    }
}

#[cfg(all(test, target_os = "linux"))]
impl Socket {
    /// Names another address as its own.
    pub(super) fn pretend_to_be_at(&mut self, address: SocketAddr) {
        self.local_addr = address;
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_port_that_others_share_is_kept_when_the_address_is_lost() {
        for is_shared in [true, false] {
            let bound = bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap();
            let at = bound.local_addr();
            let bound = if is_shared { bound.shared() } else { bound };
            let mut socket = Socket::new(bound).unwrap();
            socket.pretend_to_be_at(SocketAddr::from(([192, 0, 2, 1], at.port())));
            assert_eq!(socket.rebind_if_stranded().unwrap(), !is_shared);
        }
    }

    // spec: CHN-7
    #[tokio::test]
    async fn datagrams_that_come_together_come_with_their_marks() {
        for (from, to) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
            ("127.0.0.1:0", "[::]:0"),
        ] {
            let bound =
                [from, to].map(|address| bind(address.parse().unwrap(), 1 << 18).map(|b| Socket::new(b).unwrap()));
            let [Ok(mut ours), Ok(mut theirs)] = bound else {
                eprintln!("SKIPPED: {from} or {to} cannot be bound here");
                continue;
            };
            let mut remote = theirs.local_addr();
            if remote.ip().is_unspecified() {
                remote.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            let transmit = Transmit {
                link: Link::Udp(remote),
                local: None,
                ecn: Ecn::Ect0,
                segment: 1000,
            };
            ours.send(&[7; 10_000], &transmit).unwrap();
            std::future::poll_fn(|cx| theirs.poll_readable(cx)).await.unwrap();
            let (mut buf, mut meta) = (vec![0; 1 << 16], [RecvMeta::default()]);
            theirs.receive(&mut [IoSliceMut::new(&mut buf)], &mut meta).unwrap();
            let [meta] = meta;
            assert_eq!(
                (meta.len, meta.stride, meta.ecn),
                (10_000, 1000, Some(EcnCodepoint::Ect0)),
                "{from} {to}"
            );
        }
    }
}
