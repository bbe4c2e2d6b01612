//! Making a lab.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::lines::Ports;
use super::{Builder, Lab, Layout, Place};
use crate::claim::{self, Claim};
use crate::emulator::network::{Forwarding, Network};
use crate::emulator::{Emulator, Urgency};
use crate::error::Error;
use crate::namespace::Namespace;
use crate::node::{Node, Role};
use crate::plan::{self, Plan, Public, SITES};
use crate::rules;
use crate::shape::Link;
use crate::site::{Ipv6, Kind, Site};
use crate::system;

/// Packets that wait in a device before the emulator has seen them: enough for a burst of a sender.
const DEVICE_QUEUE: u32 = 4000;

/// Longest wait for a port of a router.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

impl Builder {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            tag: None,
            layout,
            link: Link::default(),
            mtu: 1500,
            urgency: Urgency::Usual,
        }
    }

    /// Makes the lab.
    ///
    /// # Errors
    ///
    /// [`Error::is_missing`] tells that this machine cannot have one; [`Error::TagTaken`] that one with this tag is up.
    pub fn build(self) -> Result<Lab, Error> {
        system::check()?;
        self.check()?;
        claim::sweep()?;
        let claim = Claim::new(self.tag.as_deref())?;
        let lab = match self.layout {
            Layout::Wire => wire(claim, self.link, self.mtu),
            Layout::Public { sites, servers, public } => {
                Draft::new(claim, Plan { public }, self.mtu).build(sites, servers, self.link)
            }
        }?;
        lab.emulator.set_urgency(self.urgency)?;
        Ok(lab)
    }

    fn check(&self) -> Result<(), Error> {
        if self.mtu < 1280 {
            return Err(Error::Description("no link is for less than 1280 bytes (mtu)".into()));
        }
        let Layout::Public { sites, servers, .. } = &self.layout else {
            return Ok(());
        };
        if sites.is_empty() || sites.len() > SITES || !(1..=3).contains(servers) {
            return Err(Error::Description(format!(
                "a lab has 1 to {SITES} sites and 1 to 3 servers"
            )));
        }
        for (number, (name, site)) in sites.iter().enumerate() {
            let is_name = (1..=8).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase());
            let is_new = sites[..number].iter().all(|(other, _)| other != name);
            if !is_name || !is_new || name == "server" {
                return Err(Error::Description(format!(
                    "{name:?} names no site: small letters, each name once"
                )));
            }
            site.check()?;
        }
        Ok(())
    }
}

/// Two hosts and a link.
fn wire(claim: Claim, link: Link, mtu: u16) -> Result<Lab, Error> {
    let plan = Plan {
        public: Public::Benchmark,
    };
    let prefix = claim.prefix();
    let namespaces = Namespace::create(["a", "b"].iter().map(|name| format!("{prefix}{name}")).collect())?;
    let (four, six) = (plan.server(0), plan.server_six(0));
    let mut nodes = Vec::new();
    let mut devices = Vec::new();
    for (number, namespace) in namespaces.into_iter().enumerate() {
        devices.push(namespace.tun("e0")?);
        let (four, six) = (four[number], six[number]);
        namespace.ip(&format!(
            "addr add {four}/24 dev e0\naddr add {six}/64 dev e0\nlink set e0 mtu {mtu} txqueuelen {DEVICE_QUEUE} up\n"
        ))?;
        nodes.push(Node {
            name: ["a", "b"][number].to_owned(),
            role: Role::Host,
            namespace,
            site: None,
            addresses: vec![four.into(), six.into()],
        });
    }
    let mut network = Network::new(2, Forwarding::Wire, link.seed);
    Ports::apply_wire(&link, &mut network);
    Ok(Lab {
        emulator: Emulator::start(devices, network)?,
        claim,
        link,
        mtu,
        plan,
        nodes,
        sites: Vec::new(),
        servers: 0,
        plugged: 0,
    })
}

/// A lab that is being made. Dropped half-way, its claim removes what there is.
struct Draft {
    claim: Claim,
    plan: Plan,
    mtu: u16,
    nodes: Vec<Node>,
    sites: Vec<Place>,
}

impl Draft {
    fn new(claim: Claim, plan: Plan, mtu: u16) -> Self {
        Self {
            claim,
            plan,
            mtu,
            nodes: Vec::new(),
            sites: Vec::new(),
        }
    }

    fn build(mut self, sites: Vec<(String, Site)>, servers: usize, link: Link) -> Result<Lab, Error> {
        self.name_nodes(sites, servers)?;
        let mut devices = Vec::new();
        for site in 0..self.sites.len() {
            devices.push(self.set_up_outside(site)?);
            self.set_up_router(site)?;
        }
        let servers_begin = self.nodes.len() - servers;
        for number in 0..servers {
            devices.push(self.set_up_server(servers_begin + number, number)?);
        }
        let ports = Ports {
            sites: self.sites.len(),
            servers,
        };
        let mut network = Network::new(ports.all(), Forwarding::Router(Vec::new()), link.seed);
        ports.apply(&link, &mut network);
        let mut lab = Lab {
            emulator: Emulator::start(devices, network)?,
            claim: self.claim,
            link,
            mtu: self.mtu,
            plan: self.plan,
            nodes: self.nodes,
            sites: self.sites,
            servers,
            plugged: 0,
        };
        lab.publish_routes()?;
        for host in 0..lab.nodes.len() {
            if lab.nodes[host].role == Role::Host {
                lab.plug_in(host)?;
                lab.address(host)?;
            }
        }
        for site in 0..lab.sites.len() {
            lab.load_rules(site)?;
        }
        Ok(lab)
    }

    /// Makes the namespaces of all nodes.
    fn name_nodes(&mut self, sites: Vec<(String, Site)>, servers: usize) -> Result<(), Error> {
        let mut names: Vec<(String, Role, Option<usize>)> = Vec::new();
        for (number, (name, site)) in sites.into_iter().enumerate() {
            for host in 1..=site.hosts {
                let host = if host == 1 {
                    name.clone()
                } else {
                    format!("{name}{host}")
                };
                names.push((host, Role::Host, Some(number)));
            }
            let router = names.len();
            names.push((format!("router-{name}"), Role::Router, Some(number)));
            let provider = site.cgn.map(|_| names.len());
            if provider.is_some() {
                names.push((format!("cgn-{name}"), Role::Provider, Some(number)));
            }
            self.sites.push(Place {
                name,
                site,
                router,
                provider,
                renumbered: 0,
            });
        }
        for number in 1..=servers {
            let name = if number == 1 {
                "server".to_owned()
            } else {
                format!("server{number}")
            };
            names.push((name, Role::Server, None));
        }
        let prefix = self.claim.prefix();
        let namespaces = Namespace::create(names.iter().map(|(name, ..)| format!("{prefix}{name}")).collect())?;
        let nodes = names.into_iter().zip(namespaces);
        self.nodes.extend(nodes.map(|((name, role, site), namespace)| Node {
            name,
            role,
            namespace,
            site,
            addresses: Vec::new(),
        }));
        Ok(())
    }

    /// The device to the public network of a site's outermost router, and the provider's network if there is one.
    fn set_up_outside(&mut self, site: usize) -> Result<OwnedFd, Error> {
        let place = &self.sites[site];
        let (four, six) = (place.site.kind != Kind::NoIpv4, place.site.ipv6 != Ipv6::None);
        let outermost = place.outermost();
        let namespace = &self.nodes[outermost].namespace;
        let device = namespace.tun("wan")?;
        let mtu = self.mtu;
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut lines = format!("link set wan mtu {mtu} txqueuelen {DEVICE_QUEUE} up\n");
        if four {
            addresses.push(self.plan.outer(site, 0).into());
        }
        if six {
            addresses.push(self.plan.outer_six(site).into());
        }
        lines += &outside_lines(&addresses);
        namespace.ip(&lines)?;
        if place.provider.is_some() {
            let inner = self.nodes[place.router].namespace.name();
            let ([cgn, router], [cgn_six, router_six]) = (self.plan.provider(site), self.plan.provider_six(site));
            let mut outer = format!(
                "link add lan type veth peer name wan netns {inner}\naddr add {cgn}/24 dev lan\n\
                 link set lan mtu {mtu} up\n"
            );
            let mut inner =
                format!("addr add {router}/24 dev wan\nlink set wan mtu {mtu} up\nroute add default via {cgn}\n");
            if six {
                let lan = self.plan.lan_six(site, 0);
                let _ = writeln!(outer, "addr add {cgn_six}/64 dev lan nodad");
                let _ = writeln!(outer, "route add {lan}/64 via {router_six}");
                let _ = writeln!(inner, "addr add {router_six}/64 dev wan nodad");
                let _ = writeln!(inner, "route add default via {cgn_six}");
            }
            namespace.ip(&outer)?;
            self.nodes[place.router].namespace.ip(&inner)?;
            namespace.settings(FORWARD)?;
            self.nodes[place.router].addresses = vec![router.into()];
        }
        self.nodes[outermost].addresses = addresses;
        Ok(device)
    }

    /// The LAN of a site, without hosts.
    fn set_up_router(&mut self, site: usize) -> Result<(), Error> {
        let place = &self.sites[site];
        let namespace = &self.nodes[place.router].namespace;
        let mtu = self.mtu;
        let mut lines =
            format!("link add lan mtu {mtu} type bridge forward_delay 0 mcast_snooping 0\nlink set lan mtu {mtu} up\n");
        if let Some((router, length)) = lan_address(self.plan, site, place.site.kind, 1) {
            let _ = writeln!(lines, "addr add {router}/{length} dev lan");
        }
        if place.site.ipv6 != Ipv6::None {
            let _ = writeln!(lines, "addr add {}/64 dev lan nodad", self.plan.lan_six(site, 1));
        }
        namespace.ip(&lines)?;
        namespace.settings(FORWARD)
    }

    /// A server with its addresses.
    fn set_up_server(&mut self, node: usize, number: usize) -> Result<OwnedFd, Error> {
        let node = &mut self.nodes[node];
        let device = node.namespace.tun("e0")?;
        node.addresses.extend(self.plan.server(number).map(IpAddr::from));
        node.addresses.extend(self.plan.server_six(number).map(IpAddr::from));
        let mtu = self.mtu;
        let lines = format!("link set e0 mtu {mtu} txqueuelen {DEVICE_QUEUE} up\n");
        let rest = outside_lines(&node.addresses).replace("dev wan", "dev e0");
        node.namespace.ip(&(lines + &rest))?;
        Ok(device)
    }
}

/// Settings of what is a router.
const FORWARD: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// Lines that give addresses to the device to the public network, and send everything through it.
fn outside_lines(addresses: &[IpAddr]) -> String {
    let mut lines = String::new();
    for address in addresses {
        let rest = if address.is_ipv4() {
            "/32 dev wan"
        } else {
            "/128 dev wan nodad"
        };
        let _ = writeln!(lines, "addr add {address}{rest}");
    }
    if addresses.iter().any(IpAddr::is_ipv4) {
        lines += "route add default dev wan\n";
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        lines += "route add ::/0 dev wan\n";
    }
    lines
}

/// IPv4 address in the LAN of a site, and the length of its prefix: 1 is the router, and then come the hosts.
pub(super) fn lan_address(plan: Plan, site: usize, kind: Kind, number: u32) -> Option<(Ipv4Addr, u8)> {
    let lan = match kind {
        Kind::NoIpv4 => return None,
        Kind::Open => plan.public_lan(site),
        _ => plan.private_lan(site),
    };
    Some((plan::nth(lan, number)?, lan.length))
}

impl Lab {
    /// Tells the public network where everyone is.
    pub(super) fn publish_routes(&mut self) -> Result<(), Error> {
        let routes = self.routes();
        self.emulator
            .with(move |network| network.forwarding = Forwarding::Router(routes))
    }

    /// Loads the rules of a site's routers; they forget all mappings.
    pub(super) fn load_rules(&mut self, site: usize) -> Result<(), Error> {
        let place = &self.sites[site];
        let first = lan_address(self.plan, site, place.site.kind, 2).map(|(address, _)| address);
        let outer = self.nodes[place.outermost()].ipv4();
        if let (Some(provider), Some(kind)) = (place.provider, place.site.cgn) {
            self.nodes[provider].namespace.nft(&rules::router(kind, outer, None))?;
        }
        let router = &self.nodes[place.router];
        let wan = router.ipv4();
        let rules = [
            rules::router(place.site.kind, wan, first),
            rules::ipv6(place.site.ipv6),
            rules::firewall(place.site.firewall),
        ];
        router.namespace.nft(&rules.concat())
    }

    /// Connects a host to the LAN of the site that it is at: the link first.
    pub(super) fn plug_in(&mut self, host: usize) -> Result<(), Error> {
        let Some(site) = self.nodes[host].site else {
            return Ok(());
        };
        self.plugged += 1;
        let (mtu, port) = (self.mtu, self.plugged);
        let router = &self.nodes[self.sites[site].router].namespace;
        self.nodes[host].namespace.ip(&format!(
            "link add e0 mtu {mtu} type veth peer name port{port} mtu {mtu} netns {}\nlink set e0 up\n",
            router.name()
        ))?;
        router.ip(&format!("link set port{port} master lan up\n"))
    }

    /// Waits until the port that was plugged in last forwards, at a site. The kernel takes up to a second for it, if
    /// another one came up just before.
    pub(super) fn await_port(&self, site: usize) -> Result<(), Error> {
        let (router, end) = (
            &self.nodes[self.sites[site].router].namespace,
            Instant::now() + PORT_PATIENCE,
        );
        let port = format!("port{}", self.plugged);
        let show = ["-n", router.name(), "-d", "link", "show", &port];
        while !system::run("ip", &show, "")?.contains("state forwarding") && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Gives a host that is plugged in its addresses in the LAN.
    pub(super) fn address(&mut self, host: usize) -> Result<(), Error> {
        let Some(site) = self.nodes[host].site else {
            return Ok(());
        };
        let place = &self.sites[site];
        let number = self.free_number(site);
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut lines = String::new();
        if let Some((address, length)) = lan_address(self.plan, site, place.site.kind, number)
            && let Some((gateway, _)) = lan_address(self.plan, site, place.site.kind, 1)
        {
            let _ = writeln!(
                lines,
                "addr add {address}/{length} dev e0\nroute add default via {gateway}"
            );
            addresses.push(address.into());
        }
        if place.site.ipv6 != Ipv6::None {
            let (address, gateway) = (self.plan.lan_six(site, number), self.plan.lan_six(site, 1));
            let _ = writeln!(
                lines,
                "addr add {address}/64 dev e0 nodad\nroute add ::/0 via {gateway}"
            );
            addresses.push(address.into());
        }
        self.nodes[host].namespace.ip(&lines)?;
        self.nodes[host].addresses = addresses;
        Ok(())
    }

    /// The first number in a LAN that no host has.
    fn free_number(&self, site: usize) -> u32 {
        let kind = self.sites[site].site.kind;
        let is_taken = |number: &u32| {
            let four = lan_address(self.plan, site, kind, *number).map(|(address, _)| IpAddr::from(address));
            let six = IpAddr::from(self.plan.lan_six(site, *number));
            let mut all = self.nodes.iter().flat_map(|node| &node.addresses);
            all.any(|address| *address == six || Some(*address) == four)
        };
        (2..=250).find(|number| !is_taken(number)).unwrap_or(250)
    }
}
