//! Routes: what a datagram is sent over, and through, to reach another host.
//!
//! A [`Link`] is what the driver sends over: a UDP socket and an address, an address that a TURN server lends and
//! another, or a stream tunnel to a server. A [`Route`] is the way to another host: the link, and, where a relay
//! forwards what is sent over it, the handle by which the relay knows that host (CHN-17).

use std::fmt;
use std::net::SocketAddr;

use sss_wire::reach::{RELAY_HEADER, relay_header};

/// Another UDP socket of this host, beside its own: a name that the driver gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// A stream tunnel to a server, which carries datagrams where UDP is blocked: a name that the driver gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(pub u32);

/// Allocation at a TURN server (RFC 8656): its relayed address is as one more UDP socket of this host. A name that the
/// driver gives, another one for each allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnId(pub u32);

/// Handle by which a relay knows another host: what is sent with it is forwarded to that host, and what comes with it
/// is from there. It means something at one relay, and to one client of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayHandle(pub u32);

/// Means of sending one datagram, as a driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// From the host's own socket to an address.
    Udp(SocketAddr),
    /// From another socket of the host to an address.
    Socket(SocketId, SocketAddr),
    /// From the relayed address of an allocation to an address.
    Turn(TurnId, SocketAddr),
    /// Through a tunnel.
    Tunnel(TunnelId),
}

/// Way to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The link of the first step: to the other host itself, or to the relay.
    pub link: Link,
    /// Set if a relay is at the end of the link: the other host's handle there.
    pub handle: Option<RelayHandle>,
}

/// Class of a route: the best first. A tree has channels of each class side by side (MIG-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteClass {
    /// Datagrams go to the other host itself.
    Direct,
    /// A relay forwards them, and they reach it over UDP.
    Relay,
    /// They go through a TURN server, from the address that it lends this host.
    Turn,
    /// They go through a tunnel, to a relay or to the server at its end.
    Tunnel,
}

impl Link {
    /// The UDP address that datagrams are sent to, if they are not sent through a tunnel.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(address) | Self::Socket(_, address) | Self::Turn(_, address) => Some(*address),
            Self::Tunnel(_) => None,
        }
    }

    /// The same means of sending, to another address: from the same socket or allocation. `None` for a tunnel, through
    /// which nothing goes to an address of a host's choice.
    pub fn towards(&self, address: SocketAddr) -> Option<Self> {
        match self {
            Self::Udp(_) => Some(Self::Udp(address)),
            Self::Socket(socket, _) => Some(Self::Socket(*socket, address)),
            Self::Turn(allocation, _) => Some(Self::Turn(*allocation, address)),
            Self::Tunnel(_) => None,
        }
    }
}

impl Route {
    /// The direct way from the host's own socket to an address.
    pub const fn udp(address: SocketAddr) -> Self {
        Self::over(Link::Udp(address))
    }

    /// The way to whoever is at the end of a link.
    pub const fn over(link: Link) -> Self {
        Self { link, handle: None }
    }

    /// The way through the relay at the end of a link.
    pub const fn through(link: Link, handle: RelayHandle) -> Self {
        let handle = Some(handle);
        Self { link, handle }
    }

    /// Returns how good a way it is.
    pub fn class(&self) -> RouteClass {
        match (self.link, self.handle) {
            (Link::Tunnel(_), _) => RouteClass::Tunnel,
            (Link::Turn(..), _) => RouteClass::Turn,
            (_, Some(_)) => RouteClass::Relay,
            (_, None) => RouteClass::Direct,
        }
    }

    /// Bytes before each packet that is sent by it: what a relay forwards it by (CHN-17).
    pub(crate) fn prefix(&self) -> Option<[u8; RELAY_HEADER]> {
        self.handle.map(|RelayHandle(handle)| relay_header(handle))
    }

    /// Returns how many bytes are before each packet.
    pub(crate) fn overhead(&self) -> usize {
        self.handle.map_or(0, |_| RELAY_HEADER)
    }

    /// Returns whether both lead through relays, and these are two.
    pub(crate) fn is_by_other_relay(&self, other: &Self) -> bool {
        self.handle.is_some() && other.handle.is_some() && self.link.canonical() != other.link.canonical()
    }

    /// The UDP address behind it, if there is one: that of the other host, or that of a registration server's relay.
    pub fn address(&self) -> Option<SocketAddr> {
        self.link.address()
    }

    /// The other host's own address, if datagrams go straight to it.
    pub fn direct_address(&self) -> Option<SocketAddr> {
        self.peer_address().filter(|_| self.class() == RouteClass::Direct)
    }

    /// The other host's own address, if datagrams go there from this host, or from an address that it is lent.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.address().filter(|_| self.handle.is_none())
    }
}

impl Link {
    /// The same link, with IPv4 addresses written as such (RFC 4291, section 2.5.5.2).
    pub(crate) fn canonical(self) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        match self {
            Self::Udp(address) => Self::Udp(canonical(address)),
            Self::Socket(socket, address) => Self::Socket(socket, canonical(address)),
            Self::Turn(allocation, address) => Self::Turn(allocation, canonical(address)),
            tunnel @ Self::Tunnel(_) => tunnel,
        }
    }
}

impl Route {
    /// The same route, with IPv4 addresses written as such.
    pub(crate) fn canonical(self) -> Self {
        Self {
            link: self.link.canonical(),
            ..self
        }
    }
}

impl From<SocketAddr> for Route {
    fn from(address: SocketAddr) -> Self {
        Self::udp(address)
    }
}

impl RouteClass {
    /// All classes, the best first.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Relay, Self::Turn, Self::Tunnel];

    /// The word for it: `direct`, `relay`, `turn` or `tunnel`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Turn => "turn",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for RouteClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => address.fmt(f),
            Self::Socket(socket, address) => write!(f, "{address} from socket {}", socket.0),
            Self::Turn(allocation, address) => write!(f, "{address} by TURN, allocation {}", allocation.0),
            Self::Tunnel(tunnel) => write!(f, "tunnel {}", tunnel.0),
        }
    }
}

/// As the address alone where datagrams go straight there.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.handle {
            None => self.link.fmt(f),
            Some(handle) => write!(f, "relay at {}, handle {:08x}", self.link, handle.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 4433))
    }

    #[test]
    fn classes_are_ordered_and_every_route_has_one() {
        let (udp, socket) = (Link::Udp(address()), Link::Socket(SocketId(2), address()));
        let (tunnel, handle) = (Link::Tunnel(TunnelId(3)), RelayHandle(7));
        let turn = Link::Turn(TurnId(4), address());
        let table = [
            (Route::udp(address()), RouteClass::Direct, "192.0.2.1:4433"),
            (Route::over(socket), RouteClass::Direct, "192.0.2.1:4433 from socket 2"),
            (
                Route::through(udp, handle),
                RouteClass::Relay,
                "relay at 192.0.2.1:4433, handle 00000007",
            ),
            (
                Route::over(turn),
                RouteClass::Turn,
                "192.0.2.1:4433 by TURN, allocation 4",
            ),
            (
                Route::through(turn, handle),
                RouteClass::Turn,
                "relay at 192.0.2.1:4433 by TURN, allocation 4, handle 00000007",
            ),
            (Route::over(tunnel), RouteClass::Tunnel, "tunnel 3"),
            (
                Route::through(tunnel, handle),
                RouteClass::Tunnel,
                "relay at tunnel 3, handle 00000007",
            ),
        ];
        for (route, class, text) in table {
            assert_eq!((route.class(), route.to_string().as_str()), (class, text));
            assert_eq!(route.address().is_some(), class != RouteClass::Tunnel);
            assert_eq!(route.direct_address().is_some(), class == RouteClass::Direct);
            let goes_there = class != RouteClass::Tunnel && route.handle.is_none();
            assert_eq!(route.peer_address().is_some(), goes_there);
        }
        assert!(RouteClass::ALL.is_sorted());
    }
}
