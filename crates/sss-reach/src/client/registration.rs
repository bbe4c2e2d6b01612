//! This host's registration with one server: the stream, and the lease that stays of it.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Absence, ConnectError, Host, Instant, OpenError, ReadError, ReadOutcome, Route, StreamId, WriteError};
use sss_wire::reach::bodies::{Presence, Status};
use sss_wire::reach::records::{MAX_RECORD, Register, Registered, Request, Visibility};
use sss_wire::services::SERVICE;
use sss_wire::{Eid, reach};

use super::lease::Lease;
use super::report::{self, RegistrationError, RegistrationState};

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
}

/// A registration with one server, as far as it has come.
pub(super) struct Registration {
    server: ServerAddress,
    state: State,
    pause: Duration,
    /// The reason why the latest try has failed.
    failure: Option<RegistrationError>,
}

enum State {
    /// It is tried (again) at this time.
    Pausing(Instant),
    /// REGISTER is sent on this stream.
    Asking(StreamId, Vec<u8>),
    /// There is a lease, and the server was at this address.
    Leased(Box<Lease>, SocketAddr),
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
    pub(super) fn lease(&mut self) -> Option<(&mut Lease, SocketAddr)> {
        match &mut self.state {
            State::Leased(lease, at) => Some((lease, *at)),
            _ => None,
        }
    }

    /// Returns whether there is a lease, and its server is at an address.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        matches!(&self.state, State::Leased(_, at) if *at == address)
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
            (State::Leased(lease, at), _) => RegistrationState::Registered {
                at: *at,
                observed: lease.observed(),
                rtt: lease.rtt(),
            },
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
        matches!(self.state, State::Asking(of, _) if of == stream)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        match &self.state {
            State::Pausing(at) => Some(*at).filter(|_| !self.server.addresses.is_empty()),
            State::Asking(..) | State::Over => None,
            State::Leased(lease, _) => Some(lease.next_timer()),
        }
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
        let routes: Vec<Route> = self.server.addresses.iter().copied().map(Route::udp).collect();
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
        self.state = State::Asking(stream, Vec::new());
        self.read(now, host, register.visibility);
    }

    /// Reads on: something has come on the stream.
    pub(super) fn read(&mut self, now: Instant, host: &mut Host, visibility: Visibility) -> Progress {
        let State::Asking(stream, record) = &mut self.state else {
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
        let path = info.and_then(|info| info.route.direct_address());
        host.stream(stream).release();
        let outcome = outcome.and_then(|record| match Registered::decode(&record) {
            Ok(Ok(registered)) => path.map(|at| (registered, at)).ok_or(RegistrationError::Malformed),
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
        let at = server.addresses[0];
        let lease = Lease::new(now, registered, (Presence::Found, None));
        Self {
            state: State::Leased(Box::new(lease), at),
            ..Self::new(now, server)
        }
    }
}
