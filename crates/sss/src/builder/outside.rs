//! Servers that tell a host where it is seen from outside, or lend it an address there.

use super::HostBuilder;
#[cfg(feature = "stun")]
use crate::hint::Hint;
#[cfg(feature = "turn")]
use crate::turn::TurnServer;

impl HostBuilder {
    /// Adds a STUN server (RFC 8489), at most four of them, which is asked from the host's own socket where it sees
    /// that, again every 20 to 25 s so that a NAT keeps it there, and at once when the network of this machine changes.
    /// Its place is an address, or a name with a port, such as `stun.example.org:3478`.
    /// [`Host::stun`](crate::Host::stun) tells what came of it, and [`Host::outside_addrs`](crate::Host::outside_addrs)
    /// what others may try: with a NAT that lets in everybody, or those whom this host has written to, no other server
    /// is needed. The task runs on the runtime on which the host is built.
    ///
    /// The server learns this host's address, and that something asks it. Nobody vouches for what it says: it is a hint
    /// for others, and nothing is sent there (RCH-54). Default: none, and nothing is sent.
    #[cfg(feature = "stun")]
    pub fn stun(mut self, server: impl Into<Hint>) -> Self {
        self.stun.push(server.into());
        self
    }

    /// Adds a TURN server (RFC 8656), of at most four. Where the registration servers of [`Self::rendezvous`] are not
    /// heard by UDP, or relay nothing and see a NAT that peers do not get through, the host asks the first of its TURN
    /// servers that answers for an address, and is reached there (RCH-48, RCH-49); else nothing is sent to them.
    /// [`Host::turn`](crate::Host::turn) tells what came of it; [`Host::close`](crate::Host::close) gives the address
    /// back. The task runs on the runtime on which the host is built.
    ///
    /// A TURN server sees who speaks with whom, and when, and nothing of what is said.
    #[cfg(feature = "turn")]
    pub fn turn(mut self, server: TurnServer) -> Self {
        self.wishes.turn.push(server);
        self
    }
}
