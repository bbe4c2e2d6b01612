//! Standing of a server with this host: whether it leases there, as what, and for how long (RCH-43).

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Host, Instant};
use sss_wire::reach::records::{Register, Visibility};

use super::{FIRST_PAUSE, Registration, State};
use crate::client::PATIENCE;
use crate::client::own::Own;
use crate::client::tunnel::TunnelOrder;
use crate::path::Path;

/// Time for which a lease is kept that is not needed any more, and after something has come through the relay.
const LINGER: Duration = Duration::from_secs(60);

/// Standing of a server with this host.
pub(super) struct Standing {
    /// This host is to be found there, as it wants to be; else it asks there, and hides.
    is_home: bool,
    /// The latest REGISTER has said so.
    said_home: bool,
    /// The time when it was needed first.
    since: Instant,
    /// The time from which it is not needed any more. `None`: it is.
    until: Option<Instant>,
    /// The time when something has come through its relay.
    relayed: Option<Instant>,
    /// It counts as silent.
    is_silent: bool,
    /// Number of the latest packet of a lease there.
    pub(super) counter: u64,
    /// Nobody but another server has named it (RCH-44).
    is_named: bool,
}

impl Standing {
    /// One that is needed for as long as the host is there.
    pub(super) fn home(now: Instant) -> Self {
        Self {
            is_home: true,
            said_home: true,
            since: now,
            until: None,
            relayed: None,
            is_silent: false,
            counter: 0,
            is_named: false,
        }
    }
}

impl Registration {
    /// A server that is not needed yet.
    pub(in crate::client) fn idle(now: Instant, server: super::ServerAddress) -> Self {
        let mut idle = Self::new(now, server);
        idle.state = State::Idle;
        idle.standing.is_home = false;
        idle.standing.until = Some(now);
        idle
    }

    /// A server that another one has named: it is forgotten when it is not needed any more.
    pub(in crate::client) fn named(now: Instant, server: super::ServerAddress) -> Self {
        let mut named = Self::idle(now, server);
        named.standing.is_named = true;
        named
    }

    /// Returns whether nobody but another server has named it.
    pub(in crate::client) fn is_named(&self) -> bool {
        self.standing.is_named
    }

    /// Returns whether it is one that was named, and is not needed any more.
    pub(in crate::client) fn is_forgotten(&self) -> bool {
        self.standing.is_named && matches!(self.state, State::Idle)
    }

    /// Another server says where this one is: as long as it does not answer, that is where it is tried.
    pub(in crate::client) fn be_at(&mut self, now: Instant, address: SocketAddr) {
        if self.standing.is_named && self.leased.is_none() && !self.server.addresses.contains(&address) {
            self.server.addresses = vec![address];
            self.retry(now);
        }
    }

    /// This host leases there, and is to be found there.
    pub(in crate::client) fn be_home(&mut self, now: Instant) {
        self.standing.until = None;
        if !std::mem::replace(&mut self.standing.is_home, true) {
            self.standing.since = now;
            self.renew(now);
        }
        self.wake(now);
    }

    /// This host asks there for somebody, and leases for that, hidden, if it does not lease anyhow.
    pub(in crate::client) fn visit(&mut self, now: Instant) {
        if let Some(until) = &mut self.standing.until {
            *until = now + LINGER;
        }
        self.wake(now);
    }

    fn wake(&mut self, now: Instant) {
        if matches!(self.state, State::Idle) {
            self.standing.since = now;
            self.failure = None;
            self.pause = FIRST_PAUSE;
            self.state = State::Pausing(now);
        }
    }

    /// There are others in its place: it is kept for a while.
    pub(in crate::client) fn be_surplus(&mut self, now: Instant) {
        self.standing.until.get_or_insert(now + LINGER);
    }

    /// Something has come through its relay.
    pub(in crate::client) fn on_relayed(&mut self, now: Instant) {
        self.standing.relayed = Some(now);
        if let Some((lease, _)) = &mut self.leased {
            lease.on_relayed(now);
        }
    }

    /// Returns when it is let go, if nothing more happens.
    pub(in crate::client) fn released_at(&self) -> Option<Instant> {
        let until = self.standing.until.filter(|_| !matches!(self.state, State::Idle))?;
        let used = self.standing.relayed.map_or(until, |relayed| relayed + LINGER);
        Some(until.max(used))
    }

    /// Lets it go: says so if there is a lease, and does not wait. Returns the packet that says so, and its way.
    pub(in crate::client) fn rest(
        &mut self,
        now: Instant,
        host: &mut Host,
        rng: &mut Generator,
    ) -> (Option<(Path, Vec<u8>)>, Option<TunnelOrder>) {
        self.note_counter();
        let leased = self.leased.take();
        let farewell = leased.and_then(|(mut lease, link)| {
            lease.leave(now);
            let packet = lease.on_timer(now, rng).ok().flatten()?;
            self.standing.counter = lease.counter();
            Some((Path { link, local: None }, packet))
        });
        self.end_conversation(host);
        self.found.clear();
        self.state = State::Idle;
        self.standing.is_home = false;
        self.standing.is_silent = false;
        let is_open = self.tunnel.open().is_some();
        let order = is_open.then(|| self.tunnel.close(now, self.server.eid));
        (farewell, order)
    }

    /// REGISTER, as it is said there.
    pub(super) fn statement(&mut self, own: &Own) -> Register {
        self.standing.said_home = self.standing.is_home;
        match self.standing.is_home {
            true => own.register.clone(),
            false => Register {
                instance: own.register.instance,
                is_veiled: own.register.is_veiled,
                follows: own.register.follows,
                ..Register::default()
            },
        }
    }

    /// By whom the host is found there, as the latest REGISTER has said.
    pub(super) fn said(&self, own: &Own) -> Visibility {
        match self.standing.said_home {
            true => own.register.visibility,
            false => Visibility::Hidden,
        }
    }

    /// The state when REGISTERED has come: there may be more to say since.
    pub(super) fn settled(&self, now: Instant) -> State {
        match self.standing.said_home == self.standing.is_home {
            true => State::Settled,
            false => State::Pausing(now),
        }
    }

    /// Another lease begins behind all numbers of the one before.
    pub(super) fn note_counter(&mut self) {
        let counter = self.leased.as_ref().map_or(0, |(lease, _)| lease.counter());
        self.standing.counter = self.standing.counter.max(counter);
    }

    /// Returns when it counts as silent, if it goes on so.
    fn silent_at(&self) -> Option<Instant> {
        match (&self.leased, &self.state) {
            (Some((lease, _)), _) => lease.silent_since().map(|since| since + PATIENCE),
            (None, State::Idle | State::Over) => None,
            (None, _) if self.failure.is_some() => Some(self.standing.since),
            (None, _) => Some(self.standing.since + PATIENCE),
        }
    }

    /// Returns whether it has not answered for so long, or not taken this host, that another takes its place.
    pub(in crate::client) fn is_silent(&mut self, now: Instant) -> bool {
        self.standing.is_silent = self.silent_at().is_some_and(|at| at <= now);
        self.standing.is_silent
    }

    /// Returns when it will count as silent, if it is needed and does not do so already.
    pub(in crate::client) fn falls_silent_at(&self) -> Option<Instant> {
        let is_counted = self.standing.until.is_some() || self.standing.is_silent;
        self.silent_at().filter(|_| !is_counted)
    }
}

#[cfg(test)]
mod tests {
    use sss_wire::Eid;

    use super::*;

    // spec: RCH-43
    #[test]
    fn a_server_is_let_go_a_minute_after_it_was_of_use() {
        let at = |s: u64| Instant::from_nanos(1_000_000_000_000) + Duration::from_secs(s);
        let server = crate::ServerAddress {
            eid: Eid::from_public_key(&[1; 32]),
            addresses: Vec::new(),
            tls: None,
        };
        let mut registration = Registration::idle(at(0), server);
        assert_eq!(registration.released_at(), None, "it is not used");
        registration.visit(at(0));
        assert_eq!(registration.released_at(), Some(at(60)));
        registration.visit(at(10));
        assert_eq!(registration.released_at(), Some(at(70)));
        registration.on_relayed(at(50));
        assert_eq!(registration.released_at(), Some(at(110)));
        registration.be_home(at(55));
        assert_eq!(registration.released_at(), None, "it is needed");
        registration.be_surplus(at(100));
        assert_eq!(registration.released_at(), Some(at(160)));
    }
}
