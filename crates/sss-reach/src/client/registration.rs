//! This host's registration with one server: the stream, and the lease that stays of it.

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{
    Absence, ConnectError, Host, Instant, Link, OpenError, ReadError, ReadOutcome, Route, StreamId, TunnelId,
    WriteError,
};
use sss_wire::reach::bodies::{Presence, Status};
use sss_wire::reach::records::{MAX_RECORD, Register, Registered, Request, Visibility};
use sss_wire::services::SERVICE;
use sss_wire::{Eid, reach};

use super::lease::Lease;
use super::report::{self, Over, RegistrationError, RegistrationState};
use super::tunnel::{Hearing, Tunnel, TunnelOrder};
use crate::path::NOWHERE;

/// The first pause before registration is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// LEASEs in a row through a tunnel that may be left without an answer, before it counts as dead.
const MAX_UNANSWERED: usize = 2;

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
    tunnel: Tunnel,
    pause: Duration,
    /// The reason why the latest try has failed.
    failure: Option<RegistrationError>,
}

enum State {
    /// It is tried (again) at this time.
    Pausing(Instant),
    /// REGISTER is sent.
    Asking(Asking),
    /// There is a lease, and the server is at the end of this link.
    Leased(Box<Lease>, Link),
    /// This host goes, and has no lease any more.
    Over,
}

/// A server that is asked.
struct Asking {
    stream: StreamId,
    /// The answer, as far as it has come.
    record: Vec<u8>,
    began: Instant,
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
            pause: FIRST_PAUSE,
            failure: None,
        }
    }

    pub(super) fn eid(&self) -> &Eid {
        &self.server.eid
    }

    /// The lease, and where its server is.
    pub(super) fn lease(&mut self) -> Option<(&mut Lease, Link)> {
        match &mut self.state {
            State::Leased(lease, at) => Some((lease, *at)),
            _ => None,
        }
    }

    /// Returns whether there is a lease, and its server may be heard over that link: while a tunnel is used, by UDP
    /// too.
    pub(super) fn is_at(&self, link: Link) -> bool {
        match (&self.state, link) {
            (State::Leased(_, at), _) if *at == link => true,
            (State::Leased(_, Link::Tunnel(_)), Link::Udp(address)) => self.server.addresses.contains(&address),
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
        matches!(self.state, State::Leased(..))
    }

    /// Returns why there is none, if that is known.
    pub(super) fn failure(&self) -> Option<Absence> {
        let failure = self.failure.as_ref().filter(|_| !self.is_leased());
        failure.map(RegistrationError::absence)
    }

    /// Returns how it stands.
    pub(super) fn report(&self) -> report::Registration {
        let state = match (&self.state, &self.failure) {
            (State::Leased(lease, link), _) => {
                let at = link.address().or(self.tunnel.open().map(|opened| opened.at));
                let over = match link {
                    Link::Tunnel(_) => Over::Tls,
                    Link::Udp(_) | Link::Socket(..) => Over::Udp,
                };
                RegistrationState::Registered {
                    at: at.unwrap_or(NOWHERE),
                    over,
                    // What was seen through a tunnel has no port (RCH-23), also when the next answer is awaited by UDP.
                    observed: Some(lease.observed()).filter(|at| over == Over::Udp && at.port() != 0),
                    rtt: lease.rtt(),
                    mapped: lease.mapped(),
                }
            }
            (State::Over, _) => RegistrationState::Over,
            (_, Some(failure)) => RegistrationState::Failed(failure.clone()),
            _ if self.server.addresses.is_empty() => RegistrationState::Resolving,
            _ => RegistrationState::Asking,
        };
        report::Registration {
            server: self.server.eid,
            addresses: self.server.addresses.clone(),
            state,
        }
    }

    pub(super) fn is_on(&self, stream: StreamId) -> bool {
        matches!(&self.state, State::Asking(asking) if asking.stream == stream)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Pausing(at) => Some(*at).filter(|_| !self.server.addresses.is_empty()),
            State::Asking(_) | State::Over => None,
            State::Leased(lease, _) => Some(lease.next_timer()),
        };
        own.into_iter().chain(self.tunnel.next_timer(self.hearing())).min()
    }

    /// Registers anew, soon: the server has lost what it knew, or there is no token left.
    pub(super) fn renew(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        self.state = State::Pausing(now);
    }

    /// This host goes: the server is told so if there is a lease, and nothing else is tried any more.
    pub(super) fn leave(&mut self, now: Instant) {
        match &mut self.state {
            State::Leased(lease, _) => lease.leave(now),
            _ => self.end(),
        }
    }

    /// This host has gone.
    pub(super) fn end(&mut self) {
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
    pub(super) fn begin_if_due(&mut self, now: Instant, host: &mut Host, register: &Register) {
        let State::Pausing(at) = self.state else {
            return;
        };
        // Its name may not have been found yet.
        if now < at || self.server.addresses.is_empty() {
            return;
        }
        let names = (SERVICE, reach::PROTOCOL);
        let tunnel = self.tunnel.open().map(|opened| Route::over(Link::Tunnel(opened.id)));
        let addresses = self.server.addresses.iter().copied();
        let routes: Vec<Route> = addresses.map(Route::udp).chain(tunnel).collect();
        let stream = host.connect(now, self.server.eid, names, &routes);
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return self.fail(now, why_unopened(error)),
        };
        let record = Request::Register(register.clone()).encode();
        let written = host.stream(stream).write_record(&record);
        if let Err(error) = written.and_then(|()| host.stream(stream).finish()) {
            host.stream(stream).release();
            return self.fail(now, why_unwritten(error));
        }
        self.state = State::Asking(Asking {
            stream,
            record: Vec::new(),
            began: now,
        });
        self.read(now, host, register.visibility);
    }

    /// Reads on: something has come on the stream.
    pub(super) fn read(&mut self, now: Instant, host: &mut Host, visibility: Visibility) -> Progress {
        let State::Asking(Asking { stream, record, .. }) = &mut self.state else {
            return Progress::None;
        };
        let stream = *stream;
        let outcome = loop {
            match host.stream(stream).poll_read(now, MAX_RECORD) {
                Poll::Pending => return Progress::None,
                Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) if record.len() + bytes.len() <= MAX_RECORD => {
                    record.extend_from_slice(&bytes);
                }
                Poll::Ready(Ok(ReadOutcome::Mark)) => break Ok(std::mem::take(record)),
                Poll::Ready(Ok(_)) => break Err(RegistrationError::Malformed),
                Poll::Ready(Err(error)) => break Err(why_unread(error)),
            }
        };
        let info = host.channel_info(stream.peer());
        let rtt = info.as_ref().and_then(|info| info.min_rtt);
        let link = info.and_then(|info| info.route.handle.is_none().then_some(info.route.link));
        host.stream(stream).release();
        let outcome = outcome.and_then(|record| match Registered::decode(&record) {
            Ok(Ok(registered)) => link.map(|at| (registered, at)).ok_or(RegistrationError::Malformed),
            Ok(Err(unfound)) => Err(why_not(unfound.status)),
            Err(_) => Err(RegistrationError::Malformed),
        });
        match outcome {
            Ok((registered, at)) => {
                let presence = match visibility {
                    Visibility::Hidden => Presence::Hidden,
                    Visibility::Known | Visibility::Listed => Presence::Found,
                };
                self.state = State::Leased(Box::new(Lease::new(now, registered, (presence, rtt))), at);
                match at {
                    Link::Tunnel(_) => self.tunnel.on_used(now),
                    Link::Udp(_) | Link::Socket(..) => self.tunnel.on_heard_by_udp(),
                }
                self.pause = FIRST_PAUSE;
                self.failure = None;
                Progress::Leased
            }
            Err(error) => {
                self.fail(now, error);
                Progress::Failed
            }
        }
    }

    /// This host has come into another network.
    pub(super) fn on_network_change(&mut self, now: Instant) {
        self.tunnel.on_network_change(now);
        match &mut self.state {
            // It may be that nothing has changed for the tunnel, and UDP is tried at once.
            State::Leased(lease, Link::Tunnel(_)) => lease.lease_now(now),
            State::Leased(lease, _) => lease.on_moved(now),
            _ => self.retry(now),
        }
    }

    /// A try that pauses goes on now.
    pub(super) fn retry(&mut self, now: Instant) {
        if let State::Pausing(at) = &mut self.state {
            *at = now.min(*at);
        }
    }

    /// Tries again after a pause.
    pub(super) fn fail(&mut self, now: Instant, failure: RegistrationError) {
        self.failure = Some(failure);
        self.state = State::Pausing(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// The tunnel.
impl Registration {
    fn hearing(&self) -> Hearing {
        match &self.state {
            State::Asking(asking) => Hearing::Asked(asking.began),
            State::Leased(_, Link::Tunnel(_)) => Hearing::ByTunnel,
            State::Leased(lease, _) => lease.silent_since().map_or(Hearing::ByUdp, Hearing::Missed),
            State::Pausing(_) | State::Over => Hearing::Unasked,
        }
    }

    /// Sees to the tunnel, if that is due: says what is to be done with it.
    pub(super) fn tend_tunnel(&mut self, now: Instant, host: &mut Host) -> Option<TunnelOrder> {
        let is_dead = match &self.state {
            State::Leased(lease, Link::Tunnel(_)) => lease.unanswered() > MAX_UNANSWERED,
            _ => false,
        };
        if is_dead {
            self.on_tunnel_closed(now, host);
            return Some(TunnelOrder::Close {
                server: self.server.eid,
            });
        }
        self.tunnel.on_timer(now, self.server.eid, self.hearing())
    }

    /// LEASE by UDP, while a tunnel is used, if it is time to try that again; and where it goes.
    pub(super) fn test_udp(&mut self, now: Instant, rng: &mut Generator) -> Option<(Link, Vec<u8>)> {
        let State::Leased(lease, Link::Tunnel(_)) = &mut self.state else {
            return None;
        };
        let tries = self.tunnel.take_test(now)?;
        let addresses = &self.server.addresses;
        let address = addresses.get(tries.checked_rem(addresses.len())?)?;
        Some((Link::Udp(*address), lease.elsewhere(now, rng)?))
    }

    /// The tunnel is open.
    pub(super) fn on_tunnel_opened(&mut self, now: Instant, host: &mut Host, (id, at): (TunnelId, SocketAddr)) {
        let Some(link) = self.tunnel.on_opened(now, id, at) else {
            return;
        };
        match &mut self.state {
            State::Asking(_) => host.add_hints(now, &self.server.eid, &[Route::over(link)]),
            State::Leased(lease, before @ Link::Udp(_)) if lease.silent_since().is_some() => {
                let relay = std::mem::replace(before, link);
                lease.on_moved(now);
                self.tunnel.on_used(now);
                // The handles there are of the lease's former address (RCH-17).
                host.network_changed(now, |route, _| route.link == relay && route.handle.is_some());
            }
            State::Pausing(_) => self.retry(now),
            State::Leased(..) | State::Over => {}
        }
    }

    /// The tunnel is closed, or could not be opened: what went through it goes by UDP, until there is another.
    pub(super) fn on_tunnel_closed(&mut self, now: Instant, host: &mut Host) {
        let Some(gone) = self.tunnel.on_closed(now) else {
            return;
        };
        if let State::Leased(lease, at) = &mut self.state
            && *at == gone
        {
            match self.server.addresses.first() {
                Some(address) => {
                    *at = Link::Udp(*address);
                    lease.on_moved(now);
                }
                None => self.state = State::Pausing(now),
            }
        }
        host.network_changed(now, |route, _| route.link == gone);
    }

    /// An answer to LEASE has come over a link: if it is another one than before, the server is spoken to by it now.
    pub(super) fn on_answered(&mut self, now: Instant, host: &mut Host, link: Link) {
        let State::Leased(_, at) = &mut self.state else {
            return;
        };
        let before = std::mem::replace(at, link);
        if matches!(link, Link::Udp(_)) {
            self.tunnel.on_heard_by_udp();
        }
        if before != link {
            host.network_changed(now, |route, _| route.link == before);
        }
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

fn why_unwritten(error: WriteError) -> RegistrationError {
    match error {
        WriteError::Refused(refusal) => RegistrationError::Refused(refusal),
        WriteError::Lost(reason) => RegistrationError::Lost(reason),
        _ => RegistrationError::Malformed,
    }
}

fn why_unread(error: ReadError) -> RegistrationError {
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
        let lease = Lease::new(now, registered, (Presence::Found, None));
        Self {
            state: State::Leased(Box::new(lease), at),
            ..Self::new(now, server)
        }
    }
}
