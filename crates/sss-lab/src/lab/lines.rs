//! The lab's links on the ports of the network. Sites come first, then servers; the ends of a wire are its ports.

use super::Lab;
use crate::emulator::network::Network;
use crate::error::Error;
use crate::prefix::Prefix;
use crate::shape::{Link, Shape};

/// The ports of a network by their parts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) sites: usize,
    pub(super) servers: usize,
}

impl Ports {
    pub(super) fn all(self) -> usize {
        self.sites + self.servers
    }

    /// Sets all lines and ways of a network as a link says.
    ///
    /// Rates and queues are of the lines between a site and the network, everything else of the ways across it.
    /// Servers have lines without a limit.
    pub(super) fn apply(self, link: &Link, network: &mut Network) {
        for site in 0..self.sites {
            let (up, down) = sides(link, site == 0);
            network.set_up(site, up);
            network.set_down(site, down);
            for other in (0..self.sites).filter(|other| *other != site) {
                let way = if site < other { &link.ab } else { &link.ba };
                network.set_way(site, other, way.clone());
            }
            for server in self.sites..self.all() {
                let delay = link.server_delay(site == 0);
                network.set_way(site, server, Shape { delay, ..up.clone() });
                network.set_way(server, site, Shape { delay, ..down.clone() });
            }
        }
    }

    /// Sets a wire: one line each way.
    pub(super) fn apply_wire(link: &Link, network: &mut Network) {
        for (from, shape) in [(0, &link.ab), (1, &link.ba)] {
            network.set_up(from, shape);
            network.set_way(from, 1 - from, shape.clone());
        }
    }
}

/// The shape of what a site sends, and that of what it receives.
fn sides(link: &Link, is_first: bool) -> (&Shape, &Shape) {
    if is_first {
        (&link.ab, &link.ba)
    } else {
        (&link.ba, &link.ab)
    }
}

impl Lab {
    /// Changes the links while packets are on their way: settings as of [`Link::set`]. Packets that are on their way
    /// arrive as they would have.
    ///
    /// # Errors
    ///
    /// [`Error::Description`] if a setting means nothing; nothing is changed then.
    pub fn set_link<S: AsRef<str>>(&mut self, settings: impl IntoIterator<Item = S>) -> Result<(), Error> {
        let mut link = self.link.clone();
        for setting in settings {
            link.set(setting.as_ref())?;
        }
        let (ports, new) = (self.ports(), link.clone());
        self.emulator.with(move |network| match ports {
            Ports { sites: 0, .. } => Ports::apply_wire(&new, network),
            ports => ports.apply(&new, network),
        })?;
        self.link = link;
        Ok(())
    }

    fn ports(&self) -> Ports {
        Ports {
            sites: self.sites.len(),
            servers: self.servers,
        }
    }

    /// Networks, each with the port at which it is.
    pub(super) fn routes(&self) -> Vec<(Prefix, usize)> {
        let mut routes = Vec::new();
        for (port, place) in self.sites.iter().enumerate() {
            routes.push((Prefix::of(self.plan.outer(port, place.renumbered)), port));
            routes.push((self.plan.public_lan(port), port));
            routes.push((self.plan.network_six(port), port));
        }
        for server in 0..self.servers {
            let port = self.sites.len() + server;
            routes.extend(self.plan.server(server).map(|address| (Prefix::of(address), port)));
            routes.extend(self.plan.server_six(server).map(|address| (Prefix::of(address), port)));
        }
        routes
    }
}
