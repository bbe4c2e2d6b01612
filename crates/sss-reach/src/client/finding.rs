//! Hosts that are looked for: what servers are asked, and what they answer (RCH-11, RCH-12).

use std::collections::VecDeque;

use sss_proto::{Absence, Host, Instant, Link, Route, RouteClass};
use sss_wire::Eid;
use sss_wire::reach::Sealed;
use sss_wire::reach::bodies;

use super::calls::{Answered, Missing};
use super::registration::{Registration as Tried, turned};
use super::{Client, Referral, admissible};
use crate::Dropped;
use crate::path::{NOWHERE, Path};

/// Peers that were found, or not.
#[derive(Default)]
pub(super) struct Found {
    /// Each with a server that has named a way to it: the latest last.
    by: VecDeque<(Eid, Eid)>,
    /// Those that were asked for where another server has said, and what came of it: the latest last.
    pub(super) referrals: VecDeque<Referral>,
}

/// Peers of which is remembered which servers have found them, each counted for each server.
const MAX_FOUND: usize = 1024;

impl Client {
    /// Servers that have named a way to a peer.
    pub(crate) fn found_by(&self, eid: &Eid) -> Vec<Eid> {
        let of_peer = self.found.by.iter().filter(|(peer, _)| peer == eid);
        of_peer.map(|(_, server)| *server).collect()
    }

    fn note_found(&mut self, eid: Eid, server: Eid) {
        self.found.by.retain(|found| *found != (eid, server));
        self.found.by.push_back((eid, server));
        while self.found.by.len() > MAX_FOUND {
            self.found.by.pop_front();
        }
    }

    /// A peer is looked for.
    pub(crate) fn seek(&mut self, now: Instant, host: &mut Host, eid: Eid) {
        if self.registrations.iter().any(|registration| *registration.eid() == eid) {
            return;
        }
        let greeting = host.introduce(now, &eid, self.own.relay.best(), &self.own.candidates);
        let servers = self.own.homes.towards(&eid);
        self.calls.begin(now, (eid, greeting), servers, &mut self.rng);
        self.call(now, host);
    }

    /// Goes on with the calls, and tells those that nothing comes of.
    pub(super) fn call(&mut self, now: Instant, host: &mut Host) {
        for eid in self.calls.unanswered() {
            if host
                .introduce(now, &eid, self.own.relay.best(), &self.own.candidates)
                .is_none()
            {
                self.calls.on_answered(&eid);
            }
        }
        self.calls.ask_early(now, host, &self.own, &mut self.registrations);
        let mut packets = VecDeque::new();
        self.calls
            .on_timer(now, &mut self.registrations, &mut self.rng, &mut packets);
        for (link, packet) in packets {
            let mut leases = self.registrations.iter_mut().filter_map(Tried::lease);
            let local = leases.find(|(_, at)| *at == link).and_then(|(lease, _)| lease.local());
            self.outbox.push_back(Path { link, local }.datagram(packet));
        }
        while let Some((referred, unfound)) = self.calls.take_stale() {
            self.note_stale(&referred, &unfound);
        }
        while let Some((eid, absence, times)) = self.calls.take_failed() {
            host.unfound(now, &eid, absence);
            // An attempt that goes on where the peer was, or may be, goes on asking.
            if times > 0
                && may_change(absence)
                && let Some(greeting) = host.introduce(now, &eid, self.own.relay.best(), &self.own.candidates)
            {
                let missing = Missing {
                    eid,
                    greeting: Some(greeting),
                    times,
                };
                let servers = self.own.homes.towards(&eid);
                self.calls.ask_again(now, missing, servers, &mut self.rng);
            }
        }
    }

    /// The server of a registration that is asked has answered the greeting, perhaps: CONNECT may follow REGISTER.
    pub(crate) fn on_greeted(&mut self, now: Instant, host: &mut Host) {
        let mut is_any = false;
        for registration in &mut self.registrations {
            if registration.is_greeted(host) {
                self.calls.on_reached(now, registration.eid());
                is_any = true;
            }
        }
        if is_any {
            self.call(now, host);
        }
    }

    /// FOUND: a server has answered CONNECT.
    pub(super) fn on_found(
        &mut self,
        now: Instant,
        host: &mut Host,
        from: Path,
        sealed: &Sealed<'_>,
    ) -> Result<(), Dropped> {
        let (lease, _) = self.registration(from.link)?.lease().ok_or(Dropped::Unknown)?;
        let found = bodies::Found::decode(&lease.open(sealed)?)?;
        self.take_found(now, host, from.link, &found)
    }

    /// Takes in what servers have answered on streams (RCH-41).
    pub(super) fn take_answers(&mut self, now: Instant, host: &mut Host) {
        while let Some((found, link)) = self.registrations.iter_mut().find_map(Tried::take_found) {
            // What is not to be acted upon is dropped, as a packet is.
            let _ = self.take_found(now, host, link, &found);
        }
    }

    /// The server at the end of a link has answered.
    fn take_found(&mut self, now: Instant, host: &mut Host, link: Link, found: &bodies::Found) -> Result<(), Dropped> {
        let registration = self.registration(link)?;
        let (server, ip) = (*registration.eid(), registration.ip_at(link));
        let outcome = match found.outcome {
            Ok(way) => Ok(admissible(ip, way).ok_or(Dropped::Unwelcome)?),
            Err(unfound) => Err(unfound),
        };
        let found = &bodies::Found { outcome, ..*found };
        let followed = self.follow(now, (server, link), found, host);
        let found = followed.as_ref().unwrap_or(found);
        let is_direct = self.own.relay.best() == RouteClass::Direct;
        match self.calls.on_found(now, found, is_direct, &mut self.rng) {
            Answered::Way(eid, way, is_greeted) => {
                self.note_found(eid, server);
                let by_relay = self.relayed(now, host, (link, way.handle));
                self.note_way(by_relay, way.address);
                match by_relay {
                    Some(route) => host.note_relay(&eid, route),
                    None if way.handle != 0 => host.unfound(now, &eid, Absence::OnlyRelayed),
                    None => host.unfound(now, &eid, Absence::NoWay),
                }
                // Else the answer comes by itself, and PUNCH says when the way is open.
                if !is_greeted && is_direct && way.address != NOWHERE {
                    let addresses = std::iter::once(way.address).chain(way.mapped_address());
                    let routes: Vec<Route> = addresses
                        .map(|address| Route::over(turned::link_beside(link, address)))
                        .collect();
                    host.add_hints(now, &eid, &routes);
                }
            }
            Answered::Unanswered(eid, way) => {
                // HELLO itself is repeated more often than the server may be asked, and needs nobody's notice.
                if let Some(route) = self.relayed(now, host, (link, way.handle)) {
                    host.add_hints(now, &eid, &[route]);
                }
            }
            Answered::NoLease(server) => {
                let mut all = self.registrations.iter_mut();
                let tried = all.find(|tried| *tried.eid() == server);
                if let Some((lease, _)) = tried.and_then(Tried::lease) {
                    lease.lease_now(now);
                }
            }
            Answered::Nothing => {}
        }
        Ok(())
    }
}

/// Returns whether a peer that is not found may be found a little later.
fn may_change(absence: Absence) -> bool {
    !matches!(
        absence,
        Absence::Refused | Absence::NotAllowed | Absence::NoWay | Absence::OnlyRelayed
    )
}
