//! State of registrations, for applications.

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{Absence, CloseReason, Refusal};
use sss_wire::Eid;
use thiserror::Error;

use super::mapped::Proof;

/// A registration with one server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The server.
    pub server: Eid,
    /// Addresses at which it may be; none as long as its name is not found.
    pub addresses: Vec<SocketAddr>,
    /// Its state.
    pub state: RegistrationState,
    /// Reason why there is no tunnel to it, although one was wanted, as far as is known (RCH-24).
    pub no_tunnel: Option<TunnelEnd>,
}

/// Reason why a tunnel could not be opened, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TunnelEnd {
    /// Nobody takes connections there.
    #[error("it takes no connection there")]
    Refused,
    /// The connection was closed at once: a server does so that has as many as it takes, of all or of one network.
    #[error("it closed the connection at once, as one does that has as many as it takes")]
    TurnedAway,
    /// There was no answer.
    #[error("a connection there gets no answer")]
    Silent,
    /// Another reason, in words.
    #[error("no connection can be made there: {0}")]
    Other(String),
    /// It was of use, and is over.
    #[error("the connection has ended")]
    Over,
}

/// Carrier of packets between a host and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Over {
    /// UDP.
    Udp,
    /// A tunnel of TLS: UDP gets no answer (RCH-24).
    Tls,
    /// A TURN server: packets leave from the address that it lends (RCH-48).
    Turn,
}

/// State of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationState {
    /// It is not needed: the host leases at others, which its EID chooses (RCH-43).
    Idle,
    /// The name of the server is being looked up.
    Resolving,
    /// The server is asked for the first time, or again after it was registered.
    Asking,
    /// The host is registered.
    #[non_exhaustive]
    Registered {
        /// Address of the server.
        at: SocketAddr,
        /// Carrier of packets to the server.
        over: Over,
        /// UDP address of this host, as the server sees it: by TURN, the relayed one. `None` over TLS: it has sent
        /// nothing by UDP that was seen.
        observed: Option<SocketAddr>,
        /// Round-trip time to the server, smoothed.
        rtt: Option<Duration>,
        /// Address that a router lets in for this host, if it is a port of `observed`, and what this server knows of
        /// it (RCH-25).
        mapped: Option<(SocketAddr, Proof)>,
        /// UDP address of this host, as another port of the server sees it, if it has one and has answered (RCH-28).
        seen_elsewhere: Option<SocketAddr>,
    },
    /// The latest try has failed; others follow, after pauses of 1 s to 60 s.
    Failed(RegistrationError),
    /// The host has gone.
    Over,
}

/// Reason why a host is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The server is not reached.
    #[error(transparent)]
    Lost(CloseReason),
    /// The host there is no registration server.
    #[error("the host there is no registration server: {0}")]
    Refused(Refusal),
    /// Its answer cannot be understood.
    #[error("the server's answer cannot be understood")]
    Malformed,
    /// It does not serve this host.
    #[error("the server does not serve this host")]
    NotAllowed,
    /// It is full, or has too many hosts of this network.
    #[error("the server is full, or has too many hosts of this network")]
    TooMany,
    /// Other programs with this identity have taken its place.
    #[error("other programs with this identity have taken the place at the server")]
    Superseded,
}

impl RegistrationError {
    /// The reason that callers get.
    pub(super) fn absence(&self) -> Absence {
        match self {
            Self::NotAllowed => Absence::NotAllowed,
            Self::TooMany | Self::Superseded => Absence::TooMany,
            Self::Lost(_) | Self::Refused(_) | Self::Malformed => Absence::NoServer,
        }
    }
}
