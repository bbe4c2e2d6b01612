//! The way between a server and a client: its link, and the address of the server's that it uses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sss_proto::{Datagram, Link, Route, TunnelId};

/// The way between a server and a client. What the server sends must leave from the address that the client has sent
/// to: from another one, no NAT lets it in, and the client does not know it (NEG-41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The link to the client.
    pub link: Link,
    /// The server's address, if its socket has told it.
    pub local: Option<IpAddr>,
}

impl Path {
    /// A packet for the client.
    pub(crate) fn datagram(self, bytes: Vec<u8>) -> Datagram {
        Datagram {
            route: Route::over(self.link),
            local: self.local,
            bytes,
        }
    }

    /// The name of the client's end, by which tokens and answers mean it.
    pub(crate) fn end(&self) -> SocketAddr {
        end_of(self.link)
    }

    /// The client's address for others, who send to it from elsewhere: none at the end of a tunnel (RCH-23).
    pub(crate) fn reachable(&self) -> SocketAddr {
        self.link.address().unwrap_or(NOWHERE)
    }
}

impl From<SocketAddr> for Path {
    /// Leaves the server's address to the system.
    fn from(remote: SocketAddr) -> Self {
        Self {
            link: Link::Udp(remote),
            local: None,
        }
    }
}

/// No address (RCH-23).
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// The address by which the end of a link is named: for a tunnel, one of the prefix that is kept for nobody (RFC 6666),
/// with the tunnel's number (RCH-23).
pub(crate) fn end_of(link: Link) -> SocketAddr {
    match link {
        Link::Udp(address) | Link::Socket(_, address) | Link::Turn(_, address) => address,
        Link::Tunnel(TunnelId(tunnel)) => {
            let [high, low] = [tunnel >> 16, tunnel & 0xffff].map(|half| u16::try_from(half).unwrap_or_default());
            SocketAddr::from((Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, high, low), 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-23
    #[test]
    fn ends_of_tunnels_have_names_that_are_no_addresses_of_anybody() {
        let tunnel = |id| Path {
            link: Link::Tunnel(TunnelId(id)),
            local: None,
        };
        assert_eq!(tunnel(7).end().to_string(), "[100::7]:0");
        assert_eq!(tunnel(0x1234_5678).end().to_string(), "[100::1234:5678]:0");
        let here = SocketAddr::from(([192, 0, 2, 1], 7));
        for (path, reachable) in [(tunnel(7), NOWHERE), (here.into(), here)] {
            assert_eq!(path.reachable(), reachable);
            assert_eq!(sss_proto::is_usable(&path.end().into()), reachable == here);
        }
    }
}
