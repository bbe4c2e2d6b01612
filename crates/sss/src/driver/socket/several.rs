//! Datagrams to several destinations in one system call (sendmmsg(2)).
//!
//! `nix` tells the system the same of all datagrams of a call but for destination and contents. So a call takes those
//! that have the mark of congestion and the source in common, which nearly all have. What is segmented has a call of
//! its own, through `quinn-udp`.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, sendmmsg};
use sss_proto::Transmit;

use super::{Socket, ecn_to_wire, to_wire};

/// Datagrams of one call, at most.
pub(crate) const MAX_DATAGRAMS: usize = 32;

/// Properties that the datagrams of one call have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alike {
    /// The ECN bits.
    ecn: u8,
    /// The source, as the socket's family has it.
    source: Option<IpAddr>,
    /// The destination is one of IPv4, also if it is written as one of IPv6.
    is_ipv4: bool,
}

/// Knowledge of calls that send to several destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Several {
    #[default]
    Possible,
    /// One has failed, maybe because of its first datagram.
    Suspected,
    /// This system refuses them.
    Refused,
}

impl Several {
    /// A datagram was sent alone, or was not: if a call that began with it has failed, one of the two was the reason.
    pub(super) fn note_alone(&mut self, was_sent: bool) {
        if *self == Self::Suspected {
            *self = if was_sent { Self::Refused } else { Self::Possible };
        }
    }
}

impl Socket {
    /// Sends the first of these datagrams, as many as are alike, in one call. Returns how many were sent: what becomes
    /// of the next one is told by the next call that begins with it. 0 if the first is to be sent alone.
    ///
    /// # Errors
    /// That of the call, if it has sent none. What is the matter with the first datagram is told when it is sent alone.
    pub(crate) fn send_several<'a>(
        &mut self,
        datagrams: impl Iterator<Item = (Transmit, &'a [u8])>,
    ) -> io::Result<usize> {
        if self.several == Several::Refused {
            return Ok(0);
        }
        let mut alike = None;
        let mut out = Vec::with_capacity(MAX_DATAGRAMS);
        for (transmit, contents) in datagrams.take(MAX_DATAGRAMS) {
            match self.wire(&transmit) {
                Some((address, with)) if *alike.get_or_insert(with) == with => out.push((address, contents)),
                _ => break,
            }
        }
        let Some(alike) = alike.filter(|_| out.len() > 1) else {
            return Ok(0);
        };
        let result = self.io.try_write(|socket| send(socket, alike, &out));
        match &result {
            Ok(sent) => {
                self.several = Several::Possible;
                if *sent < out.len() {
                    // The error of the next one is lost; it may have been that of a datagram sent before.
                    self.take_path_errors(&io::ErrorKind::ConnectionRefused.into());
                }
            }
            Err(error) if self.take_path_errors(error) => return Ok(0),
            Err(error) => {
                use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
                if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) {
                    self.several = Several::Suspected;
                }
            }
        }
        result
    }

    /// Destination of a datagram, and what else the system is told of it. `None` if it cannot go by this socket.
    fn wire(&self, transmit: &Transmit) -> Option<(SocketAddr, Alike)> {
        let is_ipv6 = self.local_addr.is_ipv6();
        let remote = self.translation.outward(transmit.link.address()?);
        let alike = Alike {
            ecn: ecn_to_wire(transmit.ecn).map_or(0, |ecn| ecn as u8),
            source: transmit.local.map(|ip| to_wire(SocketAddr::new(ip, 0), is_ipv6).ip()),
            is_ipv4: remote.is_ipv4(),
        };
        let address = to_wire(remote, is_ipv6);
        (address.is_ipv6() == is_ipv6).then_some((address, alike))
    }
}

/// Sends the first [`MAX_DATAGRAMS`] of them, in their order. Returns how many were sent: what came of the next one is
/// not told.
///
/// # Errors
/// That of the first, if not even that one was sent.
fn send(socket: &UdpSocket, alike: Alike, datagrams: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
    let with = |control: &[ControlMessage<'_>], space: Vec<u8>| match datagrams.first() {
        Some((SocketAddr::V4(_), _)) => send_with(socket, datagrams, control, space, |address| match address {
            SocketAddr::V4(v4) => Some(SockaddrIn::from(v4)),
            SocketAddr::V6(_) => None,
        }),
        _ => send_with(socket, datagrams, control, space, |address| match address {
            SocketAddr::V6(v6) => Some(SockaddrIn6::from(v6)),
            SocketAddr::V4(_) => None,
        }),
    };
    let (tos, class) = (alike.ecn, i32::from(alike.ecn));
    let mark = match alike.is_ipv4 {
        true => ControlMessage::Ipv4Tos(&tos),
        false => ControlMessage::Ipv6TClass(&class),
    };
    match alike.source {
        None => with(&[mark], cmsg_space!(i32)),
        Some(IpAddr::V4(source)) => {
            let info = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: in_addr { s_addr: 0 },
            };
            let control = [mark, ControlMessage::Ipv4PacketInfo(&info)];
            with(&control, cmsg_space!(i32, in_pktinfo))
        }
        Some(IpAddr::V6(source)) => {
            let info = in6_pktinfo {
                ipi6_addr: in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            let control = [mark, ControlMessage::Ipv6PacketInfo(&info)];
            with(&control, cmsg_space!(i32, in6_pktinfo))
        }
    }
}

/// `space` is exactly what the control messages take: the system takes what is left over for another one.
fn send_with<S: SockaddrLike + Copy>(
    socket: &UdpSocket,
    datagrams: &[(SocketAddr, &[u8])],
    control: &[ControlMessage<'_>],
    space: Vec<u8>,
    address: impl Fn(SocketAddr) -> Option<S>,
) -> io::Result<usize> {
    let count = datagrams.len().min(MAX_DATAGRAMS);
    let at = |index| datagrams.get(index).copied();
    let addresses: [Option<S>; MAX_DATAGRAMS] = std::array::from_fn(|index| address(at(index)?.0));
    let contents: [[IoSlice<'_>; 1]; MAX_DATAGRAMS] =
        std::array::from_fn(|index| [IoSlice::new(at(index).map_or(&[], |(_, contents)| contents))]);
    let mut headers = MultiHeaders::<S>::preallocate(count, Some(space));
    loop {
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            contents.iter().take(count),
            addresses,
            control,
            MsgFlags::empty(),
        );
        match sent {
            Ok(results) => return Ok(results.count()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_refused_only_if_its_first_datagram_could_be_sent_alone() {
        let mut several = Several::Possible;
        several.note_alone(true);
        assert_eq!(several, Several::Possible);
        several = Several::Suspected;
        several.note_alone(false);
        assert_eq!(several, Several::Possible);
        several = Several::Suspected;
        several.note_alone(true);
        assert_eq!(several, Several::Refused);
        several.note_alone(false);
        assert_eq!(several, Several::Refused);
    }
}
