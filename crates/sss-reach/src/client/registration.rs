//! This host's registration with one server: the stream, and the lease that stays of it.

mod standing;
mod tunnelled;
pub(super) mod turned;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{
    Absence, CloseReason, ConnectError, Host, Instant, Link, OpenError, ReadError, Route, SocketId, StreamId,
    WriteError,
};
use sss_wire::reach::Sealed;
use sss_wire::reach::bodies::{Found, Presence, Status};
use sss_wire::reach::records::{Call, Registered, Visibility};
use sss_wire::services::SERVICE;
use sss_wire::{Eid, reach};

use super::Own;
use super::conversation::Conversation;
use super::lease::{Lease, Wish};
use super::outside::Outside;
use super::report::{self, Over, RegistrationError, RegistrationState};
use super::tunnel::Tunnel;
use crate::Dropped;
use crate::path::NOWHERE;
use standing::Standing;
use turned::Turned;

/// The first pause before registration is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A server that this host is to register with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Its name.
    pub eid: Eid,
    /// Addresses at which it may be.
    pub addresses: Vec<SocketAddr>,
    /// Place where it takes tunnels of TLS, for where UDP gets no answer: an address or a name, and a port. It is
    /// given back in [`TunnelOrder::Open`](crate::TunnelOrder::Open).
    pub tls: Option<String>,
}

/// A registration with one server, as far as it has come.
pub(super) struct Registration {
    server: ServerAddress,
    state: State,
    /// The stream on which it is asked for, and CONNECTs behind that.
    conversation: Option<Conversation>,
    /// Answers to those.
    found: VecDeque<Found>,
    /// Set if the server understands no request behind REGISTER.
    only_registers: bool,
    /// The lease, and the link at whose end its server is. It is used while this host registers anew.
    leased: Option<(Box<Lease>, Link)>,
    tunnel: Tunnel,
    turned: Turned,
    /// The view of the server's other port.
    outside: Outside,
    pause: Duration,
    /// The reason why the latest try has failed.
    failure: Option<RegistrationError>,
    standing: Standing,
}

type Seen = (Option<Duration>, Option<IpAddr>);

enum State {
    /// It is not needed (RCH-43).
    Idle,
    /// It is tried (again) at this time.
    Pausing(Instant),
    /// REGISTER was sent at this time.
    Asking(Instant),
    /// Nothing is to be asked: there is a lease.
    Settled,
    /// This host goes, and has no lease any more.
    Over,
}

/// Outcome of what came on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing has changed.
    None,
    /// There is a lease now.
    Leased,
    /// The server has refused, or is not to be reached.
    Failed,
}

impl Registration {
    pub(super) fn new(now: Instant, server: ServerAddress) -> Self {
        Self {
            tunnel: Tunnel::new(now, server.tls.clone()),
            server,
            state: State::Pausing(now),
            conversation: None,
            found: VecDeque::new(),
            only_registers: false,
            leased: None,
            turned: Turned::default(),
            outside: Outside::default(),
            pause: FIRST_PAUSE,
            failure: None,
            standing: Standing::home(now),
        }
    }

    pub(super) fn eid(&self) -> &Eid {
        &self.server.eid
    }

    /// The lease, and where its server is.
    pub(super) fn lease(&mut self) -> Option<(&mut Lease, Link)> {
        self.leased.as_mut().map(|(lease, at)| (&mut **lease, *at))
    }

    /// Returns whether there is a lease, and its server may be heard over that link: while a tunnel is used, by UDP
    /// too.
    pub(super) fn is_at(&self, link: Link) -> bool {
        match (&self.leased, link) {
            (Some((_, at)), _) if *at == link => true,
            (Some((_, Link::Tunnel(_))), Link::Udp(address)) => self.server.addresses.contains(&address),
            (Some((_, Link::Turn(..))), Link::Udp(address)) => {
                turned::may_hear_udp(self) && self.server.addresses.contains(&address)
            }
            _ => false,
        }
    }

    /// The server's address at the end of a link.
    pub(super) fn ip_at(&self, link: Link) -> Option<IpAddr> {
        let address = link.address().or(self.tunnel.open().map(|opened| opened.at));
        address.map(|address| address.ip())
    }

    /// Returns whether there is a lease.
    pub(super) fn is_leased(&self) -> bool {
        self.leased.is_some()
    }

    /// Returns why there is none, if that is known.
    pub(super) fn failure(&self) -> Option<Absence> {
        let failure = self.failure.as_ref().filter(|_| !self.is_leased());
        failure.map(RegistrationError::absence)
    }

    /// Returns how it stands.
    pub(super) fn report(&self) -> report::Registration {
        let state = match (&self.leased, &self.state, &self.failure) {
            (Some((lease, link)), ..) => {
                let at = link.address().or(self.tunnel.open().map(|opened| opened.at));
                let over = match link {
                    Link::Tunnel(_) => Over::Tls,
                    // Until it was heard there, what it has seen is where this host was before.
                    Link::Turn(id, _) if turned::is_heard_by(self, *id) => Over::Turn,
                    Link::Turn(..) | Link::Udp(_) | Link::Socket(..) => Over::Udp,
                };
                RegistrationState::Registered {
                    at: at.unwrap_or(NOWHERE),
                    over,
                    // What was seen through a tunnel has no port (RCH-23), also when the next answer is awaited by UDP.
                    observed: Some(lease.observed()).filter(|at| over != Over::Tls && at.port() != 0),
                    rtt: lease.rtt(),
                    mapped: lease.mapped(),
                    seen_elsewhere: self.outside.seen().filter(|_| over == Over::Udp),
                }
            }
            (_, State::Over, _) => RegistrationState::Over,
            (_, State::Idle, _) => RegistrationState::Idle,
            (.., Some(failure)) => RegistrationState::Failed(failure.clone()),
            _ if !self.has_way() => RegistrationState::Resolving,
            _ => RegistrationState::Asking,
        };
        report::Registration {
            server: self.server.eid,
            addresses: self.server.addresses.clone(),
            state,
            no_tunnel: self.tunnel.failure().cloned(),
        }
    }

    /// Returns whether there is an address to ask at, or a tunnel.
    fn has_way(&self) -> bool {
        !self.server.addresses.is_empty() || self.tunnel.open().is_some()
    }

    pub(super) fn is_on(&self, stream: StreamId) -> bool {
        self.conversation.as_ref().is_some_and(|asked| asked.is_on(stream))
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Pausing(at) => Some(*at).filter(|_| self.has_way()),
            State::Idle | State::Asking(_) | State::Settled | State::Over => None,
        };
        let lease = self.leased.as_ref().map(|(lease, _)| lease.next_timer());
        own.into_iter()
            .chain(lease)
            .chain(self.tunnel.next_timer(self.hearing()))
            .chain((turned::is_turned(self) && turned::may_hear_udp(self)).then(|| self.tunnel.test_at()))
            .chain(self.outside.next_timer().filter(|_| self.leased_at().is_some()))
            .min()
    }

    /// Registers anew, soon: the server has lost what it knew. The lease is used meanwhile (RCH-9).
    pub(super) fn renew(&mut self, now: Instant) {
        if matches!(self.state, State::Settled) {
            self.pause = FIRST_PAUSE;
            self.state = State::Pausing(now);
        }
    }

    /// Registers anew, soon: the lease is of no use without a token.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.leased = None;
        self.state = State::Settled;
        self.renew(now);
    }

    /// This host goes: the server is told so if there is a lease, and nothing else is tried any more.
    pub(super) fn leave(&mut self, now: Instant) {
        match &mut self.leased {
            Some((lease, _)) => {
                lease.leave(now);
                self.state = State::Settled;
            }
            None => self.end(),
        }
    }

    /// This host has gone.
    pub(super) fn end(&mut self) {
        self.leased = None;
        self.state = State::Over;
    }

    /// More addresses of the server.
    pub(super) fn add_addresses(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for address in addresses {
            if !self.server.addresses.contains(address) {
                self.server.addresses.push(*address);
            }
        }
        self.retry(now);
    }

    /// Asks the server, if it is time.
    pub(super) fn begin_if_due(&mut self, now: Instant, host: &mut Host, own: &Own) {
        if matches!(self.state, State::Settled) && self.conversation.as_ref().is_some_and(|asked| asked.is_over(now)) {
            self.end_conversation(host);
        }
        let State::Pausing(at) = self.state else {
            return;
        };
        // Its name may not have been found yet.
        if now < at || !self.has_way() {
            return;
        }
        self.end_conversation(host);
        let names = (SERVICE, reach::PROTOCOL);
        let tunnel = self.tunnel.open().map(|opened| Route::over(Link::Tunnel(opened.id)));
        let addresses = self.server.addresses.iter().copied();
        let turn = turned::turn_link(self).map(Route::over);
        let routes: Vec<Route> = addresses.map(Route::udp).chain(turn).chain(tunnel).collect();
        let stream = host.connect(now, self.server.eid, names, &routes);
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return self.fail(now, why_unopened(error)),
        };
        let statement = self.statement(own);
        match Conversation::begin(host, stream, &statement) {
            Ok(conversation) => self.conversation = Some(conversation),
            Err(error) => return self.fail(now, error),
        }
        self.state = State::Asking(now);
        self.read(now, host, own);
    }

    /// Reads on: something has come on the stream.
    pub(super) fn read(&mut self, now: Instant, host: &mut Host, own: &Own) -> Progress {
        let (State::Asking(_), Some(conversation)) = (&self.state, &mut self.conversation) else {
            self.read_found(now, host);
            return Progress::None;
        };
        let Poll::Ready(outcome) = conversation.poll(now, host) else {
            return Progress::None;
        };
        let link = conversation.link(host);
        let seen = (conversation.rtt(host), conversation.local(host));
        let is_unheard = outcome == Err(RegistrationError::Malformed) && conversation.has_calls();
        let outcome = outcome.and_then(|record| match Registered::decode(&record) {
            Ok(Ok(registered)) => link.map(|at| (registered, at)).ok_or(RegistrationError::Malformed),
            Ok(Err(unfound)) => Err(why_not(unfound.status)),
            Err(_) => Err(RegistrationError::Malformed),
        });
        match outcome {
            Ok((registered, at)) => {
                self.on_registered(now, (registered, at, seen), own);
                self.read_found(now, host);
                Progress::Leased
            }
            Err(error) => {
                self.end_conversation(host);
                // A server that knows no other request than REGISTER ends the stream (RCH-41).
                self.only_registers |= is_unheard;
                self.fail(now, error);
                if is_unheard {
                    self.retry(now);
                }
                Progress::Failed
            }
        }
    }

    /// REGISTERED has come over a link, with this round trip.
    fn on_registered(&mut self, now: Instant, (registered, at, (rtt, local)): (Registered, Link, Seen), own: &Own) {
        self.outside.set(now, registered.other_port);
        let presence = match self.said(own) {
            Visibility::Hidden => Presence::Hidden,
            Visibility::Known | Visibility::Listed => Presence::Found,
        };
        let wish = Wish {
            presence,
            is_veiled: own.register.is_veiled,
        };
        let lease = Lease::new(now, registered, (wish, rtt)).used_from(local);
        // LEASEs of the one before may still arrive.
        self.note_counter();
        self.leased = Some((Box::new(lease.after(self.standing.counter)), at));
        self.state = self.settled(now);
        match at {
            Link::Tunnel(_) => self.tunnel.on_used(now),
            Link::Turn(..) => turned::on_registered_by_turn(self, now),
            Link::Udp(_) | Link::Socket(..) => {}
        }
        self.tunnel.on_heard(at);
        turned::note_heard(self, at);
        self.pause = FIRST_PAUSE;
        self.failure = None;
    }

    /// Reads the answers to CONNECTs, and ends the stream when all have come.
    fn read_found(&mut self, now: Instant, host: &mut Host) {
        while let Some(conversation) = self.conversation.as_mut().filter(|asked| asked.has_calls()) {
            match conversation.poll_found(now, host) {
                Poll::Pending => return,
                Poll::Ready(Ok(found)) => self.found.push_back(found),
                // What was asked is asked again by packets.
                Poll::Ready(Err(_)) => break,
            }
        }
        self.end_conversation(host);
    }

    fn end_conversation(&mut self, host: &mut Host) {
        if let Some(conversation) = self.conversation.take() {
            conversation.end(host);
        }
    }

    /// Returns whether it has just become known how far the server is that is asked: CONNECT may follow REGISTER.
    pub(super) fn is_greeted(&mut self, host: &Host) -> bool {
        self.may_follow().is_some_and(|asked| asked.note_greeted(host))
    }

    /// The stream on which CONNECT may follow REGISTER: there is no lease yet.
    fn may_follow(&mut self) -> Option<&mut Conversation> {
        let asks = matches!(self.state, State::Asking(_)) && self.leased.is_none();
        self.conversation.as_mut().filter(|_| asks && !self.only_registers)
    }

    /// Asks for an introduction behind REGISTER, if that is not answered yet (RCH-41). Returns whether it was.
    pub(super) fn connect(&mut self, now: Instant, host: &mut Host, call: impl FnOnce() -> Call) -> bool {
        self.may_follow().is_some_and(|asked| asked.connect(now, host, call))
    }

    /// The next answer to a CONNECT that has come on the stream, and the link by which the server is reached.
    pub(super) fn take_found(&mut self) -> Option<(Found, Link)> {
        let found = self.found.pop_front()?;
        self.leased.as_ref().map(|(_, at)| (found, *at))
    }

    /// This host has come into another network.
    pub(super) fn on_network_change(&mut self, now: Instant) {
        self.tunnel.on_network_change(now);
        self.outside.ask(now);
        turned::forget_nat(self);
        match &mut self.leased {
            // It may be that nothing has changed for the tunnel, and UDP is tried at once.
            Some((lease, Link::Tunnel(_))) => lease.lease_now(now),
            Some((_, Link::Turn(..))) => turned::leave_turn(self, now),
            Some((lease, _)) => lease.on_moved(now),
            None => {}
        }
        self.retry(now);
    }

    /// A try that pauses goes on now.
    pub(super) fn retry(&mut self, now: Instant) {
        if let State::Pausing(at) = &mut self.state {
            *at = now.min(*at);
        }
    }

    /// Tries again after a pause; at once if the server was restarted, and has just told so.
    pub(super) fn fail(&mut self, now: Instant, failure: RegistrationError) {
        let is_news = failure == RegistrationError::Lost(CloseReason::PeerRestarted) && self.pause == FIRST_PAUSE;
        if matches!(failure, RegistrationError::Lost(_)) {
            turned::on_unanswered(self, now);
        } else {
            self.leased = None;
        }
        self.failure = Some(failure);
        self.state = State::Pausing(if is_news { now } else { now + self.pause });
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// The server's other port (RCH-28).
impl Registration {
    /// The server's address, if it is reached by UDP.
    fn leased_at(&self) -> Option<SocketAddr> {
        match self.leased {
            Some((_, Link::Udp(at))) => Some(at),
            _ => None,
        }
    }

    /// The question to the other port, if it is due, and where it goes.
    pub(super) fn ask_outside(&mut self, now: Instant, rng: &mut Generator) -> Option<(Link, Vec<u8>)> {
        let to = self.outside.at(self.leased_at()?)?;
        if !self.outside.take_due(now) {
            return None;
        }
        let (lease, _) = self.leased.as_mut()?;
        Some((Link::Udp(to), lease.elsewhere(now, rng)?))
    }

    /// The address of this host has changed.
    pub(super) fn on_elsewhere(&mut self, now: Instant) {
        self.outside.ask(now);
    }

    /// A question to the other port from a further socket, and where it goes.
    pub(super) fn ask_from(&mut self, now: Instant, socket: SocketId, rng: &mut Generator) -> Option<(Link, Vec<u8>)> {
        let to = self.outside.at(self.leased_at()?)?;
        let (lease, _) = self.leased.as_mut()?;
        Some((Link::Socket(socket, to), lease.elsewhere(now, rng)?))
    }

    /// Takes in an answer of the other port, which sees this host at that address. `None` if it does not come from
    /// there.
    pub(super) fn on_outside(&mut self, from: Link, sealed: &Sealed<'_>) -> Option<Result<SocketAddr, Dropped>> {
        let other = self.outside.at(self.leased_at()?)?;
        if from.address() != Some(other) {
            return None;
        }
        let (lease, _) = self.leased.as_mut()?;
        let seen = lease.on_seen_elsewhere(sealed);
        if let (Ok((address, relays_nothing)), Link::Udp(_)) = (&seen, from) {
            self.outside.on_seen(*address);
            turned::note_relays(self, *relays_nothing);
        }
        Some(seen.map(|(address, _)| address))
    }

    /// This host's addresses, as the server's two ports see them.
    pub(super) fn seen(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        self.leased_at()?;
        let (lease, _) = self.leased.as_ref()?;
        Some((lease.observed(), self.outside.seen()))
    }
}

fn why_unopened(error: ConnectError) -> RegistrationError {
    match error {
        ConnectError::Negotiation(error) => RegistrationError::Lost(error.into()),
        ConnectError::Open(OpenError::Lost(reason)) => RegistrationError::Lost(reason),
        ConnectError::Open(OpenError::Refused(refusal)) => RegistrationError::Refused(refusal),
        ConnectError::Open(_) => RegistrationError::Malformed,
    }
}

pub(super) fn why_unwritten(error: WriteError) -> RegistrationError {
    match error {
        WriteError::Refused(refusal) => RegistrationError::Refused(refusal),
        WriteError::Lost(reason) => RegistrationError::Lost(reason),
        _ => RegistrationError::Malformed,
    }
}

pub(super) fn why_unread(error: ReadError) -> RegistrationError {
    match error {
        ReadError::Refused(refusal) => RegistrationError::Refused(refusal),
        ReadError::Lost(reason) => RegistrationError::Lost(reason),
        _ => RegistrationError::Malformed,
    }
}

fn why_not(status: Status) -> RegistrationError {
    match status {
        Status::NotAllowed => RegistrationError::NotAllowed,
        Status::TooMany => RegistrationError::TooMany,
        _ => RegistrationError::Malformed,
    }
}

#[cfg(test)]
impl Registration {
    /// A registration that has come to a lease.
    pub(super) fn leased(now: Instant, server: ServerAddress, registered: Registered) -> Self {
        let at = Link::Udp(server.addresses[0]);
        let wish = Wish {
            presence: Presence::Found,
            is_veiled: false,
        };
        let lease = Lease::new(now, registered, (wish, None));
        Self {
            state: State::Settled,
            leased: Some((Box::new(lease), at)),
            ..Self::new(now, server)
        }
    }
}
