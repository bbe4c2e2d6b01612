//! The tunnel of a registration (RCH-24).

use sss_crypto::Generator;
use sss_proto::{Host, Instant, Link, Route, TunnelId};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Registration, State, turned};
use crate::client::report::TunnelEnd;
use crate::client::tunnel::{Hearing, TunnelOrder};

/// Time that a server has to answer by an allocation, of which more is not known than that UDP was of no use before.
const BY_TURN: Duration = Duration::from_secs(2);

impl Registration {
    pub(in crate::client) fn hearing(&self) -> Hearing {
        match (&self.leased, &self.state) {
            (Some((_, Link::Tunnel(_))), _) => Hearing::ByTunnel,
            (Some((lease, Link::Turn(..))), _) => lease
                .silent_since()
                .map_or(Hearing::ByUdp, |since| Hearing::Missed(since + BY_TURN)),
            (Some((lease, _)), _) => lease.silent_since().map_or(Hearing::ByUdp, Hearing::Missed),
            (None, State::Asking(began)) => Hearing::Asked(*began),
            // Its name is not found, or it has no address but that of the tunnel.
            (None, State::Pausing(at)) if self.server.addresses.is_empty() => Hearing::Asked(*at),
            (None, State::Idle | State::Pausing(_) | State::Settled | State::Over) => Hearing::Unasked,
        }
    }

    /// Sees to the tunnel, if that is due: says what is to be done with it.
    pub(in crate::client) fn tend_tunnel(
        &mut self,
        now: Instant,
        host: &mut Host,
        rng: &mut Generator,
    ) -> Option<TunnelOrder> {
        let is_dead = match &self.leased {
            Some((lease, Link::Tunnel(_))) => lease.is_lost(now),
            _ => false,
        };
        if is_dead {
            self.on_tunnel_closed(now, host, TunnelEnd::Silent, rng);
            return Some(TunnelOrder::Close {
                server: self.server.eid,
            });
        }
        let before = self.tunnel.open();
        let order = self.tunnel.on_timer(now, self.server.eid, self.hearing());
        if let (Some(opened), None) = (before, self.tunnel.open()) {
            // It may have been REGISTERED that came by UDP: nobody has left the tunnel yet.
            host.network_changed(now, |route, _| route.link == Link::Tunnel(opened.id));
        }
        order
    }

    /// LEASE by UDP, while a tunnel is used, if it is time to try that again; and where it goes.
    pub(in crate::client) fn test_udp(&mut self, now: Instant, rng: &mut Generator) -> Option<(Link, Vec<u8>)> {
        if turned::is_turned(self) && !turned::may_hear_udp(self) {
            return None;
        }
        let Some((lease, Link::Tunnel(_) | Link::Turn(..))) = &mut self.leased else {
            return None;
        };
        let tries = self.tunnel.take_test(now)?;
        let addresses = &self.server.addresses;
        let address = addresses.get(tries.checked_rem(addresses.len())?)?;
        Some((Link::Udp(*address), lease.elsewhere(now, rng)?))
    }

    /// The tunnel is open.
    pub(in crate::client) fn on_tunnel_opened(
        &mut self,
        now: Instant,
        host: &mut Host,
        (id, at): (TunnelId, SocketAddr),
    ) {
        let Some(link) = self.tunnel.on_opened(now, id, at) else {
            return;
        };
        if let Some((lease, before @ (Link::Udp(_) | Link::Turn(..)))) = &mut self.leased
            && lease.silent_since().is_some()
        {
            let relay = std::mem::replace(before, link);
            lease.on_moved(now);
            self.tunnel.on_used(now);
            // The handles there are of the lease's former address (RCH-17).
            host.network_changed(now, |route, _| route.link == relay && route.handle.is_some());
        }
        match &self.state {
            State::Asking(_) => host.add_hints(now, &self.server.eid, &[Route::over(link)]),
            State::Pausing(_) => self.retry(now),
            State::Idle | State::Settled | State::Over => {}
        }
    }

    /// The tunnel is closed, or could not be opened: what went through it goes by UDP, until there is another.
    pub(in crate::client) fn on_tunnel_closed(
        &mut self,
        now: Instant,
        host: &mut Host,
        why: TunnelEnd,
        rng: &mut Generator,
    ) {
        let Some(gone) = self.tunnel.on_closed(now, why, rng) else {
            return;
        };
        if let Some((lease, at)) = self.leased.as_mut().filter(|(_, at)| *at == gone) {
            match self.server.addresses.first() {
                Some(address) => {
                    *at = Link::Udp(*address);
                    lease.on_moved(now);
                }
                None => self.begin_anew(now),
            }
        }
        host.network_changed(now, |route, _| route.link == gone);
    }

    /// An answer to LEASE has come over a link: if it is another one than before, the server is spoken to by it now.
    pub(in crate::client) fn on_answered(&mut self, now: Instant, host: &mut Host, link: Link) {
        let Some((_, at)) = &mut self.leased else {
            return;
        };
        let before = std::mem::replace(at, link);
        self.tunnel.on_heard(link);
        turned::note_heard(self, link);
        if before == link {
            return;
        }
        match before {
            // Peers were spoken to from there.
            Link::Turn(allocation, _) => {
                turned::leave_turn(self, now);
                self.outside.ask(now);
                host.network_changed(
                    now,
                    |route, _| matches!(route.link, Link::Turn(by, _) if by == allocation),
                );
            }
            _ => host.network_changed(now, |route, _| route.link == before),
        }
    }
}
