//! A lab: namespaces, and the links between them.
//!
//! ```text
//!  host a --- router-a --- (cgn-a) ---+                      +--- router-b --- host b
//!  host a2 --/   LAN                  |   public network,    |
//!                                     +---- the emulator ----+
//!                                     |   of links           |
//!                           server ---+                      +--- router-c --- host c
//! ```
//!
//! The public network is one router in this process: a thread that carries packets between TUN devices, each pair of
//! which has its own delay and losses.

mod build;
mod change;
mod lines;

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::claim::Claim;
use crate::emulator::network::Counters;
use crate::emulator::{Emulator, Urgency};
use crate::error::Error;
use crate::node::{Node, Role};
use crate::plan::{Plan, Public};
use crate::shape::Link;
use crate::site::Site;

/// A lab that is to be made.
#[derive(Debug, Clone)]
pub struct Builder {
    tag: Option<String>,
    layout: Layout,
    link: Link,
    mtu: u16,
    urgency: Urgency,
}

/// The ways in which namespaces are connected.
#[derive(Debug, Clone)]
enum Layout {
    /// Two hosts at one link.
    Wire,
    /// Sites and servers at a public network.
    Public {
        sites: Vec<(String, Site)>,
        servers: usize,
        public: Public,
    },
}

/// A lab that is up. Dropping it removes its namespaces and ends every process in them.
///
/// A process that is killed leaves its namespaces behind; the next lab that anyone makes removes them ([`sweep`]).
///
/// [`sweep`]: crate::sweep
#[derive(Debug)]
pub struct Lab {
    // The order in which they are dropped: devices, then namespaces.
    emulator: Emulator,
    claim: Claim,
    link: Link,
    mtu: u16,
    plan: Plan,
    nodes: Vec<Node>,
    sites: Vec<Place>,
    servers: usize,
    /// Devices that were ever plugged into a LAN: each has a name of its own.
    plugged: usize,
}

/// A site that is up.
#[derive(Debug)]
struct Place {
    name: String,
    site: Site,
    /// The nodes of its router and of the provider's NAT before it.
    router: usize,
    provider: Option<usize>,
    renumbered: u32,
}

impl Builder {
    /// Adds a site; its first host is called as the site is, the others `a2`, `a3` and so on.
    pub fn site(mut self, name: &str, site: impl Into<Site>) -> Self {
        if let Layout::Public { sites, .. } = &mut self.layout {
            sites.push((name.to_owned(), site.into()));
        }
        self
    }

    /// Says how many servers there are; one unless said. They are called `server`, `server2` and so on.
    pub fn servers(mut self, number: usize) -> Self {
        if let Layout::Public { servers, .. } = &mut self.layout {
            *servers = number;
        }
        self
    }

    /// Says what addresses the public network has.
    pub fn public(mut self, addresses: Public) -> Self {
        if let Layout::Public { public, .. } = &mut self.layout {
            *public = addresses;
        }
        self
    }

    /// Says what the links do. The default is: nothing.
    pub fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Says what the namespaces are named after; a random tag unless said.
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// Says how long IP packets may be outside, 1280 to 65535 bytes; 1500 unless said.
    pub fn mtu(mut self, bytes: u16) -> Self {
        self.mtu = bytes;
        self
    }

    /// Lets links come before everything else that runs on the machine (by `chrt` of util-linux): of use when no core
    /// is free. A link without a rate may take a core for itself then.
    pub fn realtime(mut self) -> Self {
        self.urgency = Urgency::Realtime;
        self
    }
}

impl Lab {
    /// A lab with sites at a public network.
    pub fn builder() -> Builder {
        let sites = Layout::Public {
            sites: Vec::new(),
            servers: 1,
            public: Public::default(),
        };
        Builder::new(sites)
    }

    /// A lab of two hosts, `a` and `b`, and one link between them.
    pub fn wire() -> Builder {
        Builder::new(Layout::Wire)
    }

    /// The part of the names that is the lab's own.
    pub fn tag(&self) -> &str {
        self.claim.tag()
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Host)
    }

    /// A node by its name: `a`, `a2`, `router-a`, `cgn-a`, `server`.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is none.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| Error::Unknown(format!("{name} in this lab")))
    }

    /// The first address under which a node is seen from outside; that of the node itself, if there is no router.
    pub fn outside(&self, node: &Node) -> Option<IpAddr> {
        let site = node.site.and_then(|site| self.sites.get(site));
        let outermost = match site {
            Some(place) if place.site.kind.translates() => &self.nodes[place.outermost()],
            _ => node,
        };
        outermost.addresses.first().copied()
    }

    /// The links as they are now.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Packets that the links have carried, and those that they have not.
    ///
    /// # Errors
    ///
    /// [`Error::Impossible`] if the emulator has ended.
    pub fn counters(&self) -> Result<Counters, Error> {
        self.emulator.with(|network| network.counters)
    }

    /// Names and addresses, for programs.
    pub fn json(&self) -> Value {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                let site = node.site.and_then(|site| self.sites.get(site));
                json!({
                    "name": node.name,
                    "role": node.role.name(),
                    "namespace": node.namespace.name(),
                    "addresses": node.addresses,
                    "site": site.map(|place| &place.name),
                    "kind": site.map(|place| place.site.to_string()),
                    "outside": self.outside(node),
                })
            })
            .collect();
        json!({ "tag": self.tag(), "nodes": nodes })
    }

    /// Names and addresses, for people.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for node in &self.nodes {
            let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
            let site = node.site.and_then(|site| self.sites.get(site));
            let kind = site.map_or(String::new(), |place| place.site.to_string());
            let (name, namespace) = (&node.name, node.namespace.name());
            table += &format!("{name:<10} {namespace:<24} {:<42} {kind}\n", addresses.join(" "));
        }
        table
    }

    fn site_index(&self, name: &str) -> Result<usize, Error> {
        let found = self.sites.iter().position(|place| place.name == name);
        found.ok_or_else(|| Error::Unknown(format!("site {name} in this lab")))
    }
}

impl Place {
    /// The node that has the site's address outside.
    fn outermost(&self) -> usize {
        self.provider.unwrap_or(self.router)
    }
}
