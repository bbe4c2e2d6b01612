//! The way between a server and a client: its address, and the one of the server's that it uses.

use std::net::{IpAddr, SocketAddr};

use sss_proto::{Datagram, Route};

/// The way between a server and a client. What the server sends must leave from the address that the client has sent
/// to: from another one, no NAT lets it in, and the client does not know it (NEG-41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The client's address.
    pub remote: SocketAddr,
    /// The server's, if its socket has told it.
    pub local: Option<IpAddr>,
}

impl Path {
    /// A packet for the client.
    pub(crate) fn datagram(self, bytes: Vec<u8>) -> Datagram {
        Datagram {
            route: Route::udp(self.remote),
            local: self.local,
            bytes,
        }
    }
}

impl From<SocketAddr> for Path {
    /// Leaves the server's address to the system.
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}
