//! Peers of which no address is known, and hosts that help to find them: what whoever does that tells the core, and is
//! told (docs/spec/reach.md).

use std::net::SocketAddr;

use sss_wire::{Eid, long};

use super::Host;
use crate::error::{Absence, DropReason, ListenError};
use crate::ids::ListenerId;
use crate::io::Datagram;
use crate::peer::Context;
use crate::route::{Route, RouteClass};
use crate::time::Instant;

/// Greeting that travels by way of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// A short HELLO.
    pub hello: Vec<u8>,
    /// The encapsulation key of HELLO_K, if it is offered.
    pub key: Option<Box<[u8; long::KEM_KEY]>>,
}

/// The time when the tree was begun on which a host opens new streams to an EID. `None` if there is none with it.
///
/// Of several shards that share trees with one EID, the latest has its present one: others may be of a process of that
/// host that is gone (NEG-20).
pub fn begun_with(host: &Host, eid: &Eid) -> Option<Instant> {
    host.peers.begun_with(eid)
}

impl Host {
    /// Greeting that is to travel to the host `eid` by way of a server (RCH-11). `None` if no attempt to reach it is
    /// under way, or it was answered. Answers by routes of better classes than `best` are not taken. `candidates` are
    /// addresses at which this host may be reached within its own network (RCH-42); those of the first call count.
    pub fn introduce(
        &mut self,
        now: Instant,
        eid: &Eid,
        best: RouteClass,
        candidates: &[SocketAddr],
    ) -> Option<Introduced> {
        let index = self.peers.by_eid(eid)?;
        let peer = self.peers.at(index)?;
        let mut context = Context::new(now, &mut self.local);
        let greeting = peer.transport_mut().introduce(&mut context, (best, candidates));
        let introduced = greeting.map(|(hello, key)| Introduced {
            hello: hello.to_vec(),
            key: key.map(|key| Box::new(*key)),
        });
        self.peers.settle(&mut self.local, index);
        introduced
    }

    /// COOKIE, for a short HELLO that has come by way of a server under this name, and the initiator's candidates
    /// (RCH-42). INITIATE of it is taken if it comes by one of these routes (RCH-16, RCH-18).
    ///
    /// # Errors
    /// Why there is none.
    pub fn answer_introduced(
        &mut self,
        now: Instant,
        name: [u8; 8],
        hello: &[u8],
        routes: &[Route],
    ) -> Result<(Vec<u8>, Vec<SocketAddr>), DropReason> {
        let mut own = self.local.for_responder();
        self.admission
            .responder
            .introduced(now, name, (hello, routes), &mut own)
    }

    /// COOKIE_K, for the other half of a greeting that was answered with COOKIE.
    ///
    /// # Errors
    /// Why there is none.
    pub fn answer_introduced_leg(
        &mut self,
        now: Instant,
        name: &[u8; 8],
        key: &[u8; long::KEM_KEY],
    ) -> Result<Vec<u8>, DropReason> {
        let mut own = self.local.for_responder();
        self.admission.responder.introduced_leg(now, name, key, &mut own)
    }

    /// Whoever was introduced under this name reads what is sent by a route: INITIATE of it may come by that one too.
    pub fn allow_introduced(&mut self, name: &[u8; 8], route: Route) {
        self.admission.responder.introductions_mut().allow(name, route);
    }

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

    /// This host is seen at another address than before, as a server says; its own addresses are the same, so a router
    /// on the way has got another one. A peer that has not acknowledged for a probe timeout what it was sent is reached
    /// on a new channel, as [`Self::network_changed`] has it: it sends to where this host is no more. Whoever answers
    /// is not concerned, or the server is wrong.
    pub fn outer_address_changed(&mut self, now: Instant, mut has_moved: impl FnMut(&Route) -> bool) {
        let indices: Vec<u32> = self.peers.iter().map(|peer| peer.id().index).collect();
        for index in indices {
            let peer = self.peers.at(index).map(|peer| peer.transport_mut());
            if let Some(transport) = peer.filter(|transport| transport.is_in_doubt(now)) {
                transport.on_network_change(|route, _| has_moved(route));
                self.peers.settle(&mut self.local, index);
            }
        }
        self.local
            .history
            .saved_paths
            .on_network_change(|route, _| has_moved(route));
        self.run_timers(now);
    }

    /// No address of the host `eid` is to be had: an attempt to reach it that has none fails; at once, unless it is
    /// looked for on the local network ([`Config::lan_search`](crate::Config::lan_search)), or the absence is one that
    /// may yet end ([`Absence::NoWay`], [`Absence::OnlyRelayed`], [`Absence::NotYet`]).
    pub fn unfound(&mut self, now: Instant, eid: &Eid, absence: Absence) {
        if let Some(index) = self.peers.by_eid(eid) {
            if let Some(peer) = self.peers.at(index) {
                peer.transport_mut().on_unfound(now, absence);
            }
            self.peers.settle(&mut self.local, index);
            self.run_timers(now);
        }
    }

    /// The next packet of a lease or an introduction that has come. There are none unless
    /// [`Config::seeks`](crate::Config::seeks) is set.
    pub fn poll_aside(&mut self) -> Option<Datagram> {
        self.aside.pop()
    }

    /// Sends a packet of a lease or an introduction, soon. Dropped if too many wait.
    pub fn send_aside(&mut self, packet: Datagram) {
        let Datagram { route, local, bytes } = packet;
        self.outbox.reply((route, local), bytes);
    }

    /// Takes the streams of a protocol that hosts speak with each other, and not their applications: to register with
    /// this one (RCH-1), or to agree on how to reach each other (RCH-29).
    ///
    /// # Errors
    /// If that was called before.
    pub fn offer_own(&mut self, protocol: &str) -> Result<ListenerId, ListenError> {
        self.peers.services.offer_own(protocol)
    }
}
