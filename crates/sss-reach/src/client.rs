//! A host that registers, is found, and finds others: its registrations, the calls it makes, and those it hears of.

mod callee;
mod calls;
mod conversation;
mod elsewhere;
mod finding;
mod homes;
mod introduced;
mod lease;
mod mapped;
mod outside;
mod own;
mod punch;
mod referral;
mod registration;
mod report;
mod spray;
mod spraying;
mod tunnel;
pub(crate) mod turn;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{AddressScope, Datagram, Host, Instant, Link, RelayHandle, Route, RouteClass, StreamId, TunnelId};
use sss_wire::Eid;
use sss_wire::reach::bodies::{Notify, Status, Way};
use sss_wire::reach::records::{Register, Visibility};
use sss_wire::reach::{Kind, Leg, Packet, Punch, Sealed};

pub use homes::LeaseAt;
pub(crate) use homes::Servers;
pub use mapped::Proof;
pub use own::{LocalAddress, RelayUse};
pub use referral::{Referral, StaleReferral};
pub use registration::ServerAddress;
pub use report::{Over, Registration, RegistrationError, RegistrationState, TunnelEnd};
pub(crate) use spray::Spray;
pub use spray::{SocketOrder, SprayOutcome, SprayReport, SprayRole, Spraying};
pub use tunnel::TunnelOrder;
pub use turn::{Allocated, TurnOrder};

use crate::Dropped;
use crate::path::{NOWHERE, Path};
use callee::Callee;
use calls::Calls;
use finding::Found;
use introduced::Introduced;
use own::Own;
use punch::Punched;
use registration::{Progress, Registration as Tried, turned};
use turn::Turn;

/// A tunnel that was opened: its name, and the server's end.
pub(crate) type Opened = (TunnelId, SocketAddr);

/// Introductions in a second that are acted upon (RCH-14).
const MAX_INTRODUCTIONS: u8 = 20;

/// A host towards its servers.
pub(crate) struct Client {
    own: Own,
    registrations: Vec<Tried>,
    calls: Calls,
    introduced: Introduced<Callee>,
    /// Introductions in the present second.
    heard: (u64, u8),
    found: Found,
    /// The time when handles were last looked through.
    swept: Instant,
    rng: Generator,
    outbox: VecDeque<Datagram>,
    carriers: Carriers,
    spray: Spray,
    /// The time until which it is tried to give the leases up, of a host that goes.
    leaving: Option<Instant>,
}

/// Carriers beside UDP from the host's own sockets.
struct Carriers {
    /// Orders about tunnels.
    tunnels: VecDeque<TunnelOrder>,
    turn: Turn,
}

impl Client {
    /// A client that registers with these servers. `register` says who it wants to be found by; its instance is drawn
    /// here.
    pub(crate) fn new(
        now: Instant,
        servers: Servers,
        (register, relay): (Register, RelayUse),
        spray: Spray,
        mut rng: Generator,
    ) -> Self {
        let mut instance = [0; 8];
        rng.fill(&mut instance);
        let has_turn = servers.has_turn;
        Self {
            own: Own::new(
                Register {
                    instance,
                    is_veiled: relay == RelayUse::Always,
                    follows: true,
                    ..register
                },
                relay,
                servers.homes.clone(),
            ),
            registrations: servers.registrations(now),
            calls: Calls::default(),
            introduced: Introduced::default(),
            heard: (0, 0),
            found: Found::default(),
            swept: now,
            rng,
            outbox: VecDeque::new(),
            carriers: Carriers {
                tunnels: VecDeque::new(),
                turn: Turn::new(has_turn),
            },
            spray,
            leaving: None,
        }
    }

    /// This host goes: gives the leases up (RCH-20). Returns whether that is over; it is to be called again when
    /// something has come, and when a timer has.
    pub(crate) fn leave(&mut self, now: Instant) -> bool {
        if self.leaving.is_none() {
            self.leaving = Some(now + LEAVING);
            self.calls = Calls::default();
            for registration in &mut self.registrations {
                registration.leave(now);
            }
            self.lease(now);
            // Nobody looks for one that hides: it says that it goes, and does not wait.
            if self.own.register.visibility == Visibility::Hidden {
                self.registrations.iter_mut().for_each(Tried::end);
            }
        }
        !self.registrations.iter().any(Tried::is_leased)
    }

    /// The next datagram to be sent.
    pub(crate) fn poll_transmit(&mut self) -> Option<Datagram> {
        self.outbox.pop_front()
    }

    /// Returns whether a stream is one of a registration.
    pub(crate) fn has(&self, stream: StreamId) -> bool {
        self.spray.has(stream) || self.registrations.iter().any(|registration| registration.is_on(stream))
    }

    /// Addresses of this host as its servers see them.
    pub(crate) fn observed(&mut self) -> Vec<(Eid, SocketAddr)> {
        let observed = self.registrations.iter().filter_map(|registration| {
            let state = registration.report().state;
            match state {
                RegistrationState::Registered { observed, .. } => Some((*registration.eid(), observed?)),
                _ => None,
            }
        });
        observed.collect()
    }

    /// The state of each registration, in the order in which they were wanted.
    pub(crate) fn report(&self) -> Vec<Registration> {
        let named = |tried: &&Tried| !tried.is_named();
        self.registrations.iter().filter(named).map(Tried::report).collect()
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let registrations = self.registrations.iter().filter_map(Tried::next_timer);
        registrations
            .chain(self.leaving.filter(|_| self.registrations.iter().any(Tried::is_leased)))
            .chain(self.homes_timer())
            .chain(self.calls.next_timer())
            .chain(self.introduced.next_timer())
            .chain(self.introduced.iter().filter_map(Callee::next_timer))
            .chain(self.next_sweep())
            .chain(self.spray.next_timer())
            .chain(turn::next_timer(self))
            .min()
    }

    /// Returns when handles by which nothing has come are forgotten (RCH-17).
    fn next_sweep(&self) -> Option<Instant> {
        (self.own.relay != RelayUse::Never).then(|| self.swept + HANDLE_SILENCE)
    }

    /// The route through the relay at the end of a link, if it gives a handle and that is wanted: from now on, packets
    /// are taken by it.
    fn relayed(&self, now: Instant, host: &mut Host, (link, handle): (Link, u32)) -> Option<Route> {
        let handle = RelayHandle(handle);
        let is_wanted = handle.0 != 0 && self.own.relay != RelayUse::Never;
        (is_wanted && host.add_relay(now, link, handle)).then(|| Route::through(link, handle))
    }

    /// Does what is due.
    pub(crate) fn on_timer(&mut self, now: Instant, host: &mut Host) {
        if self.next_sweep().is_some_and(|at| at <= now) {
            self.swept = now;
            host.remove_silent_relays(now, HANDLE_SILENCE);
        }
        self.tend_homes(now, host);
        for registration in &mut self.registrations {
            registration.begin_if_due(now, host, &self.own);
            self.carriers
                .tunnels
                .extend(registration.tend_tunnel(now, host, &mut self.rng));
        }
        turn::tend(self, now, host);
        self.lease(now);
        self.introduced.expire(now);
        for callee in self.introduced.iter_mut() {
            let packets = callee.on_timer(now).into_iter();
            self.outbox
                .extend(packets.map(|(route, packet)| Datagram::new(route, packet)));
        }
        self.call(now, host);
        self.spray_on(now, host);
    }

    /// Sends the LEASEs that are due.
    fn lease(&mut self, now: Instant) {
        if self.leaving.is_some_and(|end| end <= now) {
            self.registrations.iter_mut().for_each(Tried::end);
        }
        for registration in &mut self.registrations {
            let test = registration.test_udp(now, &mut self.rng).into_iter();
            self.outbox
                .extend(test.map(|(link, packet)| Datagram::new(Route::over(link), packet)));
            let question = registration.ask_outside(now, &mut self.rng).into_iter();
            self.outbox
                .extend(question.map(|(link, packet)| Datagram::new(Route::over(link), packet)));
            let Some((lease, at)) = registration.lease() else {
                continue;
            };
            let local = lease.local();
            match lease.on_timer(now, &mut self.rng) {
                Ok(Some(packet)) => self.outbox.push_back(Path { link: at, local }.datagram(packet)),
                Ok(None) => {}
                Err(lease::NoToken) if self.leaving.is_some() => registration.end(),
                Err(lease::NoToken) => registration.begin_anew(now),
            }
        }
    }

    /// Something has come through the relay at the end of a link.
    pub(crate) fn on_relayed(&mut self, now: Instant, link: Link) {
        if let Ok(registration) = self.registration(link) {
            registration.on_relayed(now);
        }
    }

    /// More addresses of a server.
    pub(crate) fn add_addresses(&mut self, now: Instant, server: &Eid, addresses: &[SocketAddr]) {
        let known = self.registrations.iter_mut().find(|known| known.eid() == server);
        if let Some(known) = known {
            known.add_addresses(now, addresses);
        }
    }

    /// Addresses of this host on the networks that it is in.
    pub(crate) fn set_local(&mut self, local: Vec<LocalAddress>) {
        self.own.set_local(local);
    }

    /// Routers let these addresses in for this host: each server is told of the one that it can prove.
    pub(crate) fn set_mapped(&mut self, now: Instant, named: &[SocketAddr]) {
        // Nobody is told of a port, either.
        let named = if self.own.register.is_veiled { &[] } else { named };
        self.own.mapped = named.to_vec();
        self.name_mapped(now);
    }

    fn name_mapped(&mut self, now: Instant) {
        for registration in &mut self.registrations {
            if let Some((lease, _)) = registration.lease() {
                lease.set_mapped(now, &self.own.mapped);
            }
        }
    }

    /// The network of this machine has changed.
    pub(crate) fn on_network_change(&mut self, now: Instant, host: &mut Host) {
        for registration in &mut self.registrations {
            registration.on_network_change(now);
        }
        self.spray.on_network_change(now, host);
    }

    /// Something has come on the stream of a registration.
    pub(crate) fn read(&mut self, now: Instant, host: &mut Host, stream: StreamId) {
        if self.spray.has(stream) {
            return self.read_spray(now, host, stream);
        }
        let mut all = self.registrations.iter_mut();
        let Some(registration) = all.find(|registration| registration.is_on(stream)) else {
            return;
        };
        let server = *registration.eid();
        let progress = registration.read(now, host, &self.own);
        if progress == Progress::Leased {
            self.calls.on_reached(now, &server);
        }
        if progress != Progress::None {
            self.name_mapped(now);
        }
        self.take_answers(now, host);
        self.on_timer(now, host);
    }

    /// Takes a packet in.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn packet(&mut self, now: Instant, host: &mut Host, path: Path, packet: &[u8]) -> Result<(), Dropped> {
        match Packet::parse(packet)? {
            Packet::Sealed(sealed) => match sealed.kind {
                Kind::LeaseOk => self.on_lease_ok(now, host, path, &sealed),
                Kind::Found => self.on_found(now, host, path, &sealed),
                Kind::Notify => self.on_notify(now, host, path, &sealed),
                _ => Err(Dropped::Unwelcome),
            },
            Packet::Leg(leg) => self.on_leg(now, host, path, &leg),
            Packet::Punch(punch) => self.on_punch(now, host, path, &punch),
        }?;
        self.on_timer(now, host);
        Ok(())
    }

    /// The registration whose server is at the end of a link.
    fn registration(&mut self, link: Link) -> Result<&mut Tried, Dropped> {
        let mut all = self.registrations.iter_mut();
        all.find(|registration| registration.is_at(link))
            .ok_or(Dropped::Unknown)
    }

    fn on_lease_ok(&mut self, now: Instant, host: &mut Host, from: Path, sealed: &Sealed<'_>) -> Result<(), Dropped> {
        let is_leaving = self.leaving.is_some();
        let mut all = self.registrations.iter_mut();
        let Some(registration) = all.find(|registration| registration.is_at(from.link)) else {
            return self
                .on_outside(from.link, sealed)
                .unwrap_or_else(|| self.on_echo(sealed));
        };
        let server = *registration.eid();
        let (lease, at) = registration.lease().ok_or(Dropped::Unknown)?;
        let was_silent = lease.unanswered() > 1 || at != from.link;
        let news = lease.on_lease_ok(now, sealed)?;
        if news.is_echo {
            return Ok(());
        }
        lease.note_local(from.local);
        if news.is_elsewhere {
            registration.on_elsewhere(now);
        }
        if news.has_moved {
            elsewhere::tell(now, host, from.link);
        }
        registration.on_answered(now, host, from.link);
        if news.is_restarted {
            // Nothing that is sent by the handles of its relay arrives (RCH-17).
            host.network_changed(now, |route, _| route.link == from.link && route.handle.is_some());
        }
        // With the token that has come, CONNECT goes at once behind LEASE.
        match was_silent || news.is_restarted || news.is_elsewhere {
            true => self.calls.on_lease_renewed(now, &server),
            false => self.calls.on_heard(&server),
        }
        if news.is_elsewhere && matches!(from.link, Link::Turn(..)) {
            self.calls.ask_anew(now, &server);
        }
        let why = match news.is_superseded {
            true => RegistrationError::Superseded,
            false => RegistrationError::TooMany,
        };
        if news.is_over && is_leaving {
            registration.end();
        } else if news.is_over {
            registration.fail(now, why);
        } else if news.is_forgotten && !is_leaving {
            registration.renew(now);
        }
        Ok(())
    }

    /// A packet that comes from no server may be an echo that a router has let in (RCH-26).
    fn on_echo(&mut self, sealed: &Sealed<'_>) -> Result<(), Dropped> {
        let mut leases = self.registrations.iter_mut().filter_map(Tried::lease);
        match leases.any(|(lease, _)| lease.on_echo(sealed).is_ok()) {
            true => Ok(()),
            false => Err(Dropped::Unknown),
        }
    }

    /// A caller wants to reach this host (RCH-12, RCH-13).
    fn on_notify(&mut self, now: Instant, host: &mut Host, from: Path, sealed: &Sealed<'_>) -> Result<(), Dropped> {
        let (may_hear, use_of_relay) = (self.may_hear(now), self.own.relay);
        let registration = self.registration(from.link)?;
        let ip = registration.ip_at(from.link);
        let (lease, _) = registration.lease().ok_or(Dropped::Unknown)?;
        let plaintext = lease.open(sealed)?;
        let mut notify = Notify::decode(&plaintext)?;
        if !lease.is_present(&notify.boot) {
            return Err(Dropped::Unwelcome);
        }
        notify.way = admissible(ip, notify.way).ok_or(Dropped::Unwelcome)?;
        let name = notify.introduction;
        let is_direct = use_of_relay.best() == RouteClass::Direct && notify.way.address != NOWHERE;
        let is_relayed = use_of_relay != RelayUse::Never && notify.way.handle != 0;
        let is_useless = !is_direct && !is_relayed;
        // Where the server relays nothing, and does not tell where the caller is, it is not this host that refuses.
        let is_none = notify.way.address == NOWHERE && notify.way.handle == 0 && use_of_relay != RelayUse::Always;
        let status = if is_useless && !is_none {
            Status::Refused
        } else {
            Status::Ok
        };
        if let Some(known) = self.introduced.get_mut(&name) {
            known.repeat(now);
            return self.answer(from.link, name, status);
        }
        if is_useless {
            self.answer(from.link, name, status)?;
            return Err(Dropped::Unwelcome);
        }
        let by_relay = self.relayed(now, host, (from.link, notify.way.handle));
        self.note_way(by_relay, notify.way.address);
        let towards = |address| Route::over(turned::link_beside(from.link, address));
        let mapped = notify.way.mapped_address().filter(|_| is_direct).map(towards);
        // What is sent to a mapped port is let in, whoever has sent it.
        let direct = is_direct.then(|| mapped.unwrap_or(towards(notify.way.address)));
        let callee = Callee::new(now, &notify.way, (direct, by_relay), &mut self.rng);
        let seen = is_direct.then(|| towards(notify.way.address));
        let routes: Vec<Route> = seen.into_iter().chain(mapped).chain(by_relay).collect();
        // Without an answer, the server tells of it again.
        if !may_hear || !self.introduced.insert(now, name, notify.way.address.ip(), callee) {
            return Err(Dropped::Overload);
        }
        self.answer(from.link, name, status)?;
        self.heard.1 = self.heard.1.saturating_add(1);
        // Without an answer there are addresses, and PUNCH.
        let answer = host.answer_introduced(now, name, notify.hello, &routes);
        let candidates = answer.as_ref().map_or(&[][..], |(_, candidates)| candidates);
        let near = if is_direct {
            self.near(from.link, &notify.way, candidates)
        } else {
            Vec::new()
        };
        near.iter().for_each(|route| host.allow_introduced(&name, *route));
        if let (Ok((cookie, _)), Some(callee)) = (answer, self.introduced.get_mut(&name)) {
            callee.set_near(near);
            callee.put_answer(cookie);
        }
        Ok(())
    }

    /// Those of a caller's candidates that are in this host's own network, if both are behind the same address as the
    /// server at the end of a link sees them (RCH-42).
    fn near(&mut self, link: Link, way: &Way, candidates: &[SocketAddr]) -> Vec<Route> {
        let registration = self.registration(link).ok();
        let seen = registration.and_then(Tried::lease).map(|(lease, _)| lease.observed());
        let is_same = seen.is_some_and(|own| own.ip() == way.address.ip());
        let near = candidates
            .iter()
            .copied()
            .filter(|candidate| is_same && self.own.is_near(*candidate));
        near.map(Route::udp).collect()
    }

    /// The next LEASE to the server at the end of a link names an introduction.
    fn answer(&mut self, link: Link, introduction: [u8; 8], status: Status) -> Result<(), Dropped> {
        let (lease, _) = self.registration(link)?.lease().ok_or(Dropped::Unknown)?;
        lease.answer(introduction, status);
        Ok(())
    }

    /// The other half of a caller's greeting.
    fn on_leg(&mut self, now: Instant, host: &mut Host, from: Path, leg: &Leg<'_>) -> Result<(), Dropped> {
        let (lease, _) = self.registration(from.link)?.lease().ok_or(Dropped::Unknown)?;
        if !lease.is_genuine(leg) {
            return Err(Dropped::Unauthentic);
        }
        let callee = self.introduced.get_mut(leg.introduction).ok_or(Dropped::Unknown)?;
        callee.repeat(now);
        if callee.answers() == 1 {
            let cookie_k = host.answer_introduced_leg(now, leg.introduction, leg.key);
            callee.put_answer(cookie_k.map_err(|_| Dropped::Unwelcome)?);
        }
        Ok(())
    }

    /// Returns whether one more introduction is acted upon in this second.
    fn may_hear(&mut self, now: Instant) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.heard.0 != second {
            self.heard = (second, 0);
        }
        self.heard.1 < MAX_INTRODUCTIONS
    }

    fn on_punch(&mut self, now: Instant, host: &mut Host, path: Path, punch: &Punch<'_>) -> Result<(), Dropped> {
        if let Some(()) = self.spray.on_punch(now, host, path.link, punch) {
            self.send_sprayed();
            return Ok(());
        }
        let (Link::Udp(from) | Link::Turn(_, from)) = path.link else {
            return Err(Dropped::Unwelcome);
        };
        let towards = |address| Route::over(turned::link_beside(path.link, address));
        for (name, callee) in self.introduced.named_mut() {
            match callee.on_punch(from, punch) {
                Some(Punched::Answer(packet)) => self.outbox.push_back(path.datagram(packet)),
                // It reads what is sent there: INITIATE may come from there.
                Some(Punched::Open(at)) => host.allow_introduced(name, towards(at)),
                Some(Punched::Known) => {}
                None => continue,
            }
            return Ok(());
        }
        let (eid, punched) = self.calls.on_punch(from, punch).ok_or(Dropped::Unknown)?;
        match punched {
            Punched::Answer(packet) => {
                self.outbox.push_back(path.datagram(packet));
                host.note_open(now, &eid, towards(from));
            }
            Punched::Open(at) => host.note_open(now, &eid, towards(at)),
            Punched::Known => {}
        }
        Ok(())
    }
}

/// Returns whether an address is nearer than the server that has told it (RCH-14).
fn is_nearer(server: Option<IpAddr>, address: SocketAddr) -> bool {
    server.is_none_or(|server| AddressScope::from(address.ip()) < AddressScope::from(server))
}

/// Way that the server at an address has told a host, as the host may use it (RCH-14): an address nearer than the
/// server itself is none. `None` if the way names one where nothing can be sent to one host.
fn admissible(server: Option<IpAddr>, way: Way) -> Option<Way> {
    if way.address == NOWHERE {
        return Some(way);
    }
    sss_proto::is_usable(&way.address.into()).then(|| match is_nearer(server, way.address) {
        true => Way {
            address: NOWHERE,
            mapped: 0,
            ..way
        },
        false => way,
    })
}

/// Time after which a handle by which nothing has come is forgotten (RCH-17).
const HANDLE_SILENCE: Duration = Duration::from_secs(60);

/// Time within which a host that goes gives its leases up, or leaves them to their end.
const LEAVING: Duration = Duration::from_millis(500);
/// The time after which a question to a server that is not answered counts as failed.
const PATIENCE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests;
