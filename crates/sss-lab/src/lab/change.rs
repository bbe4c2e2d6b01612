//! Changes of a lab that is in use.

use std::net::IpAddr;

use super::Lab;
use crate::error::Error;
use crate::node::Role;
use crate::site::{Firewall, Kind};

impl Lab {
    /// Starts the routers of a site again: they forget all mappings and connections, and keep their addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is no such site.
    pub fn reboot(&mut self, site: &str) -> Result<(), Error> {
        let site = self.site_index(site)?;
        self.load_rules(site)?;
        let place = &self.sites[site];
        for router in [Some(place.router), place.provider].into_iter().flatten() {
            self.nodes[router].namespace.forget_connections()?;
        }
        Ok(())
    }

    /// Gives a site another IPv4 address outside. Connections of the old one are gone. Returns the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is no such site; [`Error::Impossible`] if it has no IPv4.
    pub fn renumber(&mut self, site: &str) -> Result<IpAddr, Error> {
        let site = self.site_index(site)?;
        if self.sites[site].site.kind == Kind::NoIpv4 {
            return Err(Error::Impossible(
                "a site without IPv4 has no IPv4 address to change".into(),
            ));
        }
        let old = self.plan.outer(site, self.sites[site].renumbered);
        self.sites[site].renumbered += 1;
        let new = self.plan.outer(site, self.sites[site].renumbered);
        let outermost = self.sites[site].outermost();
        // The old one goes last: the route would go with the last address of the device.
        let lines = format!("addr add {new}/32 dev wan\naddr del {old}/32 dev wan\n");
        self.nodes[outermost].namespace.ip(&lines)?;
        for address in &mut self.nodes[outermost].addresses {
            if *address == IpAddr::from(old) {
                *address = new.into();
            }
        }
        self.load_rules(site)?;
        self.nodes[outermost].namespace.forget_connections()?;
        self.publish_routes()?;
        Ok(new.into())
    }

    /// Moves a host to the LAN of another site, or out of its own and back in: its interface goes, and comes with the
    /// addresses of the new LAN, once that LAN works. That is at once, or, if another host has moved within a second,
    /// up to a second later.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is no such host or site.
    pub fn move_host(&mut self, host: &str, site: &str) -> Result<(), Error> {
        let site = self.site_index(site)?;
        let is_it = |node: &crate::node::Node| node.name == host && node.role == Role::Host;
        let found = self.nodes.iter().position(is_it);
        let host = found.ok_or_else(|| Error::Unknown(format!("host {host} in this lab")))?;
        self.nodes[host].namespace.ip("link del e0\n")?;
        self.nodes[host].addresses.clear();
        self.nodes[host].site = Some(site);
        self.plug_in(host)?;
        self.await_port(site)?;
        self.address(host)
    }

    /// Changes the firewall of a site.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] if there is no such site.
    pub fn set_firewall(&mut self, site: &str, firewall: Firewall) -> Result<(), Error> {
        let site = self.site_index(site)?;
        self.sites[site].site.firewall = firewall;
        let router = &self.nodes[self.sites[site].router].namespace;
        router.nft(&crate::rules::firewall(firewall))
    }
}
