//! Wishes of a host about its servers.

use std::net::SocketAddr;

use sss_proto::RouteClass;
use sss_wire::reach::records::Register;

/// Use that a host makes of the relays of its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayUse {
    /// None: a peer that is not reached directly is not reached.
    Never,
    /// Packets go through a relay until they go directly, and if that fails; a channel there stands by.
    #[default]
    Allowed,
    /// Those who are found by a server are reached through its relay, and no packet is sent to them directly. The
    /// server tells nobody this host's address.
    Always,
}

impl RelayUse {
    /// The best class of routes to those who are found.
    pub(super) fn best(self) -> RouteClass {
        match self {
            Self::Always => RouteClass::Relay,
            Self::Never | Self::Allowed => RouteClass::Direct,
        }
    }
}

/// Statements of this host to its servers, and its use of them.
pub(super) struct Own {
    pub(super) register: Register,
    /// Addresses that routers let in for it.
    pub(super) mapped: Vec<SocketAddr>,
    /// Use of their relays.
    pub(super) relay: RelayUse,
}
