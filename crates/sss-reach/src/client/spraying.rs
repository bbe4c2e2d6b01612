//! Guessing of ports, as far as it has to do with servers: what they see of this host, and which addresses they name.

use std::net::SocketAddr;

use sss_proto::{Datagram, Host, Instant, Link, ListenerId, PeerId, Route, SocketId, StreamId};
use sss_wire::Eid;
use sss_wire::reach::Sealed;
use sss_wire::reach::spray::Mapping;

use super::registration::Registration as Tried;
use super::spray::{SocketOrder, SprayReport};
use super::{Client, NOWHERE};
use crate::Dropped;

impl Client {
    /// The kind of this host's NAT, as far as servers show it: of IPv4, since nothing is guessed in IPv6.
    fn mapping(&self) -> Mapping {
        let seen = self.registrations.iter().filter_map(Tried::seen);
        let mut ports = seen.flat_map(|(one, other)| std::iter::once(one).chain(other));
        let mut ports = ports.by_ref().filter(|seen| seen.ip().to_canonical().is_ipv4());
        match (ports.next(), ports.next()) {
            (Some(first), Some(second)) if first == second && ports.all(|other| other == first) => Mapping::Same,
            (Some(_), Some(_)) => Mapping::Other,
            _ => Mapping::Unknown,
        }
    }

    /// Goes on with guessing.
    pub(super) fn spray_on(&mut self, now: Instant, host: &mut Host) {
        let mapping = self.mapping();
        self.spray.on_timer(now, host, mapping, &mut self.rng);
        self.send_sprayed();
    }

    pub(super) fn send_sprayed(&mut self) {
        let packets = self.spray.take_packets().into_iter();
        self.outbox
            .extend(packets.map(|(route, packet)| Datagram::new(route, packet)));
    }

    /// A server has named a handle and an address of one host.
    pub(super) fn note_way(&mut self, relay: Option<Route>, address: SocketAddr) {
        if let Some(relay) = relay.filter(|_| address != NOWHERE) {
            self.spray.on_way(relay, address);
        }
    }

    /// Takes in an answer of a server's other port. `None` if it does not come from one.
    pub(super) fn on_outside(&mut self, from: Link, sealed: &Sealed<'_>) -> Option<Result<(), Dropped>> {
        let mut registrations = self.registrations.iter_mut();
        let seen = registrations.find_map(|registration| registration.on_outside(from, sealed))?;
        Some(seen.map(|address| {
            if let Link::Socket(socket, _) = from {
                self.spray.on_measured(socket, address.port());
            }
        }))
    }

    /// There is a channel to a peer, or there is one again.
    pub(crate) fn watch(&mut self, now: Instant, peer: PeerId) {
        self.spray.watch(now, peer);
    }

    /// Takes the streams of those who ask, if they come to this listener.
    pub(crate) fn admit(&mut self, now: Instant, host: &mut Host, listener: ListenerId) -> bool {
        let is_own = self.spray.is_listener(listener);
        if is_own {
            let mapping = self.mapping();
            self.spray.admit(now, host, mapping, &mut self.rng);
            self.spray_on(now, host);
        }
        is_own
    }

    pub(super) fn read_spray(&mut self, now: Instant, host: &mut Host, stream: StreamId) {
        let mapping = self.mapping();
        self.spray.read(now, host, stream, (mapping, &mut self.rng));
        self.spray_on(now, host);
    }

    /// The next order about sockets.
    pub(crate) fn poll_socket_order(&mut self) -> Option<SocketOrder> {
        self.spray.poll_order()
    }

    /// The sockets that were ordered are open.
    pub(crate) fn on_sockets_opened(&mut self, now: Instant, host: &mut Host, sockets: &[SocketId]) {
        let measured = self.spray.on_sockets_opened(now, sockets);
        for socket in measured {
            let mut servers = self.registrations.iter_mut();
            let question = servers.find_map(|server| server.ask_from(now, *socket, &mut self.rng));
            self.outbox
                .extend(question.map(|(link, packet)| Datagram::new(Route::over(link), packet)));
        }
        self.spray_on(now, host);
    }

    /// All hosts are at an address, as if servers had said so.
    #[cfg(test)]
    pub(crate) fn be_lied_to(&mut self, address: SocketAddr) {
        self.spray.be_lied_to(address);
    }

    /// The result of guessing ports with a peer.
    pub(crate) fn spray_report(&self, eid: &Eid) -> Option<SprayReport> {
        self.spray.report(eid)
    }
}
