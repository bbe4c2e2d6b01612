//! Hosts that keep to their local network: which routes they may use (RCH-37).

use std::borrow::Cow;

use super::LocalHost;
use crate::error::NegotiationError;
use crate::network::stays_in_lan;
use crate::route::Route;

impl LocalHost {
    /// Returns whether packets may go out, and come in, by a route.
    #[inline]
    pub(crate) fn may_use(&self, route: &Route) -> bool {
        !self.config.lan_only || stays_in_lan(route)
    }

    /// Those of the routes that this host may use.
    ///
    /// # Errors
    /// If there are some, it may use none of them, and nobody looks for others.
    pub(crate) fn within_lan<'a>(&self, routes: &'a [Route]) -> Result<Cow<'a, [Route]>, NegotiationError> {
        if routes.iter().all(|route| self.may_use(route)) {
            return Ok(routes.into());
        }
        let within: Vec<Route> = routes.iter().copied().filter(stays_in_lan).collect();
        match routes.first() {
            Some(outside) if within.is_empty() && !self.config.seeks => Err(NegotiationError::OutsideLan {
                address: outside.to_string(),
            }),
            _ => Ok(within.into()),
        }
    }
}
