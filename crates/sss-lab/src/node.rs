//! Hosts, routers and servers of a lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use crate::error::Error;
use crate::namespace::Namespace;

/// The part that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A host, in the LAN of a site or at the end of a wire.
    Host,
    /// The router of a site.
    Router,
    /// A provider's NAT in front of a router.
    Provider,
    /// A server in the public network.
    Server,
}

impl Role {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Router => "router",
            Self::Provider => "provider",
            Self::Server => "server",
        }
    }
}

/// A namespace of a lab.
#[derive(Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) namespace: Namespace,
    /// The site that it is of, or is at now.
    pub(crate) site: Option<usize>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Node {
    /// The name in the lab: `a`, `router-a`, `server`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part that it has.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name of the namespace, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Its addresses: of a router, those outside; of a server, two of each family. IPv4 comes first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its first IPv4 address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// Its first IPv6 address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        })
    }

    /// A program that will run here. It ends when the lab does, if not before.
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    /// Does something in a thread that is here, and waits for it. Sockets that are made here stay here, in whichever
    /// thread they are used. A runtime that is to live here is built and run inside.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the namespace is gone.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        self.namespace.enter(work)
    }
}
