//! Routes that a host may use which keeps to its local network (RCH-37), or to relays (RCH-40).

use std::borrow::Cow;

use super::LocalHost;
use crate::error::{DropReason, NegotiationError};
use crate::network::stays_in_lan;
use crate::route::{Route, RouteClass};

impl LocalHost {
    /// Checks that what comes over a link, from there or from behind a relay, comes from where this host hears at all.
    ///
    /// # Errors
    /// If it comes from outside of the local network, to which this host keeps.
    pub(crate) fn hears_link(&self, route: &Route) -> Result<(), DropReason> {
        match self.is_outside(route) {
            true => Err(DropReason::OutsideLan),
            false => Ok(()),
        }
    }

    /// Checks that this host takes packets from its peers by a route.
    ///
    /// # Errors
    /// If it is a direct one, and this host is reached by relays alone.
    pub(crate) fn hears_peers(&self, route: &Route) -> Result<(), DropReason> {
        match self.is_too_direct(route) {
            true => Err(DropReason::NotRelayed),
            false => Ok(()),
        }
    }

    /// Returns whether packets may go out to peers by a route.
    pub(crate) fn may_use(&self, route: &Route) -> bool {
        !self.is_outside(route) && !self.is_too_direct(route)
    }

    /// RCH-37
    #[inline]
    fn is_outside(&self, route: &Route) -> bool {
        self.config.lan_only && !stays_in_lan(route)
    }

    /// RCH-40
    #[inline]
    fn is_too_direct(&self, route: &Route) -> bool {
        let is_server = || {
            let address = route.canonical().address();
            address.is_some_and(|address| self.servers.contains(&address))
        };
        self.config.relay_only && route.class() == RouteClass::Direct && !is_server()
    }

    /// Lets packets go to servers at the ends of these routes, and come from there.
    pub(crate) fn add_servers(&mut self, routes: &[Route]) {
        for address in routes.iter().filter_map(|route| route.canonical().direct_address()) {
            if !self.servers.contains(&address) {
                self.servers.push(address);
            }
        }
    }

    /// Those of the routes that this host may use.
    ///
    /// # Errors
    /// If there are some, it may use none of them, and nobody looks for others.
    pub(crate) fn permitted<'a>(&self, routes: &'a [Route]) -> Result<Cow<'a, [Route]>, NegotiationError> {
        if routes.iter().all(|route| self.may_use(route)) {
            return Ok(routes.into());
        }
        let permitted: Vec<Route> = routes.iter().copied().filter(|route| self.may_use(route)).collect();
        match routes.first() {
            Some(other) if permitted.is_empty() && !self.config.seeks => {
                let address = other.to_string();
                Err(match self.is_outside(other) {
                    true => NegotiationError::OutsideLan { address },
                    false => NegotiationError::NotRelayed { address },
                })
            }
            _ => Ok(permitted.into()),
        }
    }
}
