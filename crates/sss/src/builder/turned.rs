//! TURN servers of the host that is to be built.

use super::HostBuilder;
use crate::turn::TurnServer;

impl HostBuilder {
    /// Adds a TURN server (RFC 8656), of at most four. Where the registration servers of [`Self::rendezvous`] are not
    /// heard by UDP, or relay nothing and see a NAT that peers do not get through, the host asks the first of its TURN
    /// servers that answers for an address, and is reached there (RCH-48, RCH-49); else nothing is sent to them.
    /// [`Host::turn`](crate::Host::turn) tells what came of it; [`Host::close`](crate::Host::close) gives the address
    /// back. The task runs on the runtime on which the host is built.
    ///
    /// A TURN server sees who speaks with whom, and when, and nothing of what is said.
    pub fn turn(mut self, server: TurnServer) -> Self {
        self.wishes.turn.push(server);
        self
    }
}
