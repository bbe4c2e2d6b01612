//! State of a host's port mapping: what the task that keeps it tells.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

/// Protocol in which a router is asked to let a port in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MappingProtocol {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

impl MappingProtocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        }
    }
}

/// Reason why a router has mapped no port in one of the protocols.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MappingError {
    /// It does not answer, or does not speak the protocol.
    #[error("no answer")]
    Silent,
    /// It does not want to.
    #[error("refused: {0}")]
    Refused(String),
    /// Its answer cannot be understood, is too long, or does not come to an end.
    #[error("its answer is of no use: {0}")]
    Useless(String),
    /// It names another machine, which is not asked.
    #[error("it points to another machine, {0}")]
    Elsewhere(String),
}

/// Port that a router has promised to let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappedPort {
    /// Protocol in which it was asked.
    pub protocol: MappingProtocol,
    /// Address of this host in its network.
    pub inside: SocketAddr,
    /// Address of the router outside, as it says. Its servers tell whether others reach it:
    /// [`RegistrationState::Registered`](crate::RegistrationState::Registered).
    pub outside: SocketAddr,
    /// The outer port that it was asked for.
    pub asked: u16,
    /// Time for which it has promised that. `None`: until it is given back, since the router knows no end.
    pub lifetime: Option<Duration>,
}

/// Outcome of asking a router for a port, as of the latest time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappingReport {
    /// Set if no answer has come yet, and none was given up.
    pub is_asking: bool,
    /// The router that was asked: that of the way to everybody else. `None` if there is none.
    pub router: Option<IpAddr>,
    /// The port that it lets in.
    pub port: Option<MappedPort>,
    /// Failures in the protocols that came before, or in all.
    pub failures: Vec<(MappingProtocol, MappingError)>,
    /// Outcome of asking the router of IPv6. `None` if this machine has no global IPv6 address, or no router there.
    pub pinhole: Option<Pinhole>,
}

/// Outcome of asking a router, by PCP, to let the host's own IPv6 address and port in (RCH-56), as of the latest time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pinhole {
    /// The router that was asked; its address is often link-local.
    pub router: IpAddr,
    /// The port that it lets in; else why it does not. Its outer address is the host's own, unless the router
    /// translates IPv6, too.
    pub port: Result<MappedPort, MappingError>,
}

impl MappingReport {
    /// Outer addresses that routers let in.
    pub(super) fn outside(&self) -> Vec<SocketAddr> {
        let pinhole = self.pinhole.as_ref().and_then(|pinhole| pinhole.port.as_ref().ok());
        self.port.iter().chain(pinhole).map(|port| port.outside).collect()
    }

    /// Nothing has come of it yet.
    pub(crate) fn asking() -> Self {
        Self {
            is_asking: true,
            ..Self::default()
        }
    }
}
