//! Peers of which no address is known, and hosts that help to find them: what whoever does that tells the core, and is
//! told (docs/spec/reach.md).

use sss_wire::Eid;

use super::Host;
use crate::error::{Absence, ListenError};
use crate::ids::ListenerId;
use crate::route::Route;
use crate::time::Instant;

impl Host {
    /// The host `eid` hears this one by a route, as it seems: an attempt to reach it sends what it has sent once more,
    /// and that way too.
    pub fn note_open(&mut self, now: Instant, eid: &Eid, route: Route) {
        if let Some(index) = self.peers.by_eid(eid) {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().on_open(now, route);
            }
            self.peers.settle(&mut self.local, index);
            self.run_timers(now);
        }
    }

    /// No address of the host `eid` is to be had: an attempt to reach it that has none fails.
    pub fn unfound(&mut self, now: Instant, eid: &Eid, absence: Absence) {
        if let Some(index) = self.peers.by_eid(eid) {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().on_unfound(now, absence);
            }
            self.peers.settle(&mut self.local, index);
            self.run_timers(now);
        }
    }

    /// The next packet of a lease or an introduction that has come, and the route that it came by. There are none
    /// unless [`Config::seeks`] is set.
    pub fn poll_aside(&mut self) -> Option<(Route, Vec<u8>)> {
        self.aside.pop()
    }

    /// Sends a packet of a lease or an introduction, soon. Dropped if too many wait.
    pub fn send_aside(&mut self, route: Route, packet: Vec<u8>) {
        self.outbox.reply(route, packet);
    }

    /// Takes the streams on which hosts register with this one (RCH-1).
    ///
    /// # Errors
    /// If that was called before.
    pub fn offer_registration(&mut self) -> Result<ListenerId, ListenError> {
        self.peers.services.offer_own(sss_wire::reach::PROTOCOL)
    }
}
