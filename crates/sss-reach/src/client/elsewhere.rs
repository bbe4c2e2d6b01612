//! Peers that are not heard any more, and a host that is not where it was: a router has got another address, say.

use std::net::SocketAddr;

use sss_proto::{AddressScope, Host, Instant, Link, Route};

use super::Client;

impl Client {
    /// A peer is not heard any more, or does not answer at all. Perhaps this host is not where it was: its servers are
    /// told where it is now, so that the peer finds it there, and their relays do (RCH-8).
    pub(crate) fn confirm(&mut self, now: Instant, is_stalled: bool) {
        for registration in &mut self.registrations {
            if let Some((lease, _)) = registration.lease() {
                lease.confirm(now, is_stalled);
            }
        }
    }
}

/// A server at the end of that link sees this host at another address than before: peers beyond the same routers that
/// do not answer are reached anew (MIG-13).
pub(super) fn tell(now: Instant, host: &mut Host, server: Link) {
    if let Link::Udp(server) = server {
        host.outer_address_changed(now, |route| is_beside(route, server));
    }
}

/// Returns whether a route leads out of the local network as the one to the server does.
fn is_beside(route: &Route, server: SocketAddr) -> bool {
    let Link::Udp(address) = route.link else {
        return false;
    };
    let scope = |address: SocketAddr| AddressScope::from(address.ip());
    address.is_ipv4() == server.is_ipv4() && scope(address) >= scope(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: MIG-13
    #[test]
    fn what_stays_in_the_local_network_is_not_elsewhere() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let is_beside = |route: &str, server: &str| is_beside(&Route::udp(at(route)), at(server));
        assert!(is_beside("198.51.100.1:1", "192.0.2.1:2"));
        assert!(is_beside("10.0.0.1:1", "10.9.0.1:2"));
        assert!(!is_beside("10.0.0.1:1", "192.0.2.1:2"));
        assert!(!is_beside("[2001:db8::1]:1", "192.0.2.1:2"));
    }
}
