//! A registration server: which hosts are there, who is looking for whom, and packets between those who cannot reach
//! each other (docs/spec/reach.md).
//!
//! [`Registrar::request`] answers records of the stream on which hosts register; [`Registrar::packet`] takes the
//! packets of leases and introductions; [`Registrar::relay`] says where a packet with a handle goes.
//! [`Registrar::poll_transmit`] gives what is to be sent.

mod crowds;
mod directory;
mod gone;
mod introducing;
mod introductions;
mod leases;
mod mapped;
mod observer;
mod quotas;
mod rate;
mod recovery;
mod referring;
mod relay;
mod tokens;

use std::collections::VecDeque;
use std::fmt;

use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::reach::bodies::{LeaseOk, Notice, Status, Unfound};
use sss_wire::reach::records::{MAX_TOKENS, Register, Registered, Request, outcome, way};
use sss_wire::reach::{self, Kind, Packet, Sealed};
use sss_wire::{Eid, Malformed};
use zeroize::Zeroizing;

pub use directory::{DirectoryAnswer, DirectoryOrder, DirectoryStats, LIFE, MAX_LISTED, is_listed_under};
pub use quotas::Quotas;
pub use rate::Rate;
pub use relay::{RelayLimits, Run, Unrelayed};

use crate::Dropped;
use crate::keys::LeaseKey;
use crate::path::Path;
use directory::Directory;
use introductions::{Due, Introductions};
use leases::{Deed, Instance, Leases, Message, Taken};
use referring::Wait;
use relay::Relay;
use tokens::{Bearer, Tokens};

/// Datagrams that wait to be sent, at most: what is beyond is dropped, as by a network.
const MAX_WAITING: usize = 4096;

/// Decision of a server's owner on who may register.
pub type Allow = Box<dyn Fn(&Eid) -> bool + Send>;

/// Behaviour of a registration server.
#[derive(Default)]
pub struct ServerConfig {
    /// Limits.
    pub quotas: Quotas,
    /// Limits of its relay; none if it does not relay.
    pub relay: Option<RelayLimits>,
    /// Hosts that may register; all, if nothing is said.
    pub allow: Option<Allow>,
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("quotas", &self.quotas)
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}

/// Numbers of things that a server has done, and what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Leases now.
    pub leases: u64,
    /// Introductions now.
    pub introductions: u64,
    /// Handles of the relay now.
    pub handles: u64,
    /// LEASEs that were taken.
    pub renewed: u64,
    /// Introductions begun.
    pub introduced: u64,
    /// NOTIFYs sent.
    pub notified: u64,
    /// Packets relayed.
    pub relayed_packets: u64,
    /// Their bytes, headers of the relay included.
    pub relayed_bytes: u64,
    /// Packets that were dropped: malformed, not genuine, of an earlier run, or repeated.
    pub dropped: u64,
    /// Packets that the relay did not pass on.
    pub unrelayed: u64,
    /// Requests and calls that were refused.
    pub refused: u64,
    /// The port beside its own where it says how NATs behave (RCH-28); 0 if there is none.
    pub other_port: u16,
    /// The directory that it shares with others, if there is one (RCH-44).
    pub directory: DirectoryStats,
}

/// A registration server, without IO.
pub struct Registrar {
    config: ServerConfig,
    tokens: Tokens,
    /// The present run.
    boot: [u8; 8],
    leases: Leases,
    introductions: Introductions,
    relay: Option<Relay>,
    rng: Generator,
    outbox: VecDeque<(Path, Vec<u8>)>,
    stats: ServerStats,
    /// Another port, at which it says how it sees a host (RCH-28); 0 if there is none.
    other_port: u16,
    /// The directory that it shares with other servers.
    directory: Option<Directory>,
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Registrar {
    /// A server that starts now. `secret` is to outlive its restarts, `seed` is to be another at each.
    pub fn new(now: Instant, config: ServerConfig, secret: &[u8; 32], seed: &[u8; 32]) -> Self {
        let mut rng = Generator::new(seed);
        let mut boot = [0; 8];
        rng.fill(&mut boot);
        Self {
            tokens: Tokens::new(now, secret, &boot),
            boot,
            leases: Leases::new(config.quotas),
            introductions: Introductions::default(),
            relay: config.relay.map(Relay::new),
            config,
            rng,
            outbox: VecDeque::new(),
            stats: ServerStats::default(),
            other_port: 0,
            directory: None,
        }
    }

    /// Says that the server has run before, with the same secret: hosts that it does not know may lease again in the
    /// next half of a lease, and whoever asks for one of them is told so (RCH-1).
    pub fn on_restart(&mut self, now: Instant) {
        self.leases.on_restart(now);
    }

    /// Counters.
    pub fn stats(&self) -> ServerStats {
        ServerStats {
            leases: self.leases.len() as u64,
            introductions: self.introductions.len() as u64,
            handles: self.relay.as_ref().map_or(0, Relay::len) as u64,
            other_port: self.other_port,
            directory: self
                .directory
                .as_ref()
                .map_or(DirectoryStats::default(), |all| all.stats),
            ..self.stats
        }
    }

    /// The next datagram to be sent, and where to.
    pub fn poll_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// Returns when [`Self::on_timer`] is to be called next.
    pub fn next_timer(&self) -> Option<Instant> {
        let directory = self.directory.as_ref().and_then(Directory::next_timer);
        let timers = [self.leases.next_timer(), self.introductions.next_timer(), directory];
        timers.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Instant) {
        self.leases.on_timer(now);
        if let Some(directory) = &mut self.directory {
            directory.on_timer(now);
            self.answer_callers(now);
        }
        if let Some(relay) = &mut self.relay {
            relay.sweep(now);
        }
        while let Some((name, due)) = self.introductions.next_due(now) {
            match due {
                Due::Notify => self.notify(now, &name),
                Due::GiveUp => {
                    if let Some(introduction) = self.introductions.get(&name) {
                        self.leases.note_silent(&introduction.callee);
                    }
                    self.tell(now, &name, Status::Unreachable);
                }
            }
        }
    }

    fn send(&mut self, to: Path, packet: Vec<u8>) {
        if self.outbox.len() < MAX_WAITING {
            self.outbox.push_back((to, packet));
        } else {
            self.stats.dropped = self.stats.dropped.saturating_add(1);
        }
    }
}

/// Requests on a stream.
impl Registrar {
    /// Answers a record of a host whose channel has this path: its address is validated.
    ///
    /// # Errors
    /// If it is none: the stream is to be ended (RCH-1).
    pub fn request(
        &mut self,
        now: Instant,
        (eid, path): (&Eid, impl Into<Path>),
        record: &[u8],
    ) -> Result<Vec<u8>, Malformed> {
        let answer = self.ask(now, (eid, path.into()), record, false)?;
        Ok(answer.unwrap_or_else(|| outcome(&Unfound::because(Status::NeverSeen))))
    }

    /// As [`Self::request`], and `None` as long as the directory has not answered: then the same is to be asked again
    /// when [`Self::take_news`] says so, with `is_counted`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        (eid, path): (&Eid, Path),
        record: &[u8],
        is_counted: bool,
    ) -> Result<Option<Vec<u8>>, Malformed> {
        let request = Request::decode(record)?;
        Ok(self.answer(now, (eid, path), request, is_counted).ok())
    }

    /// Returns whether the directory has answered something since this was asked.
    pub(crate) fn take_news(&mut self) -> bool {
        self.directory.as_mut().is_some_and(Directory::take_news)
    }

    fn answer(
        &mut self,
        now: Instant,
        (eid, path): (&Eid, Path),
        request: Request,
        is_counted: bool,
    ) -> Result<Vec<u8>, Wait> {
        let answer = match request {
            _ if self.config.allow.as_ref().is_some_and(|allow| !allow(eid)) => Err(Status::NotAllowed),
            Request::Register(register) => self.register(now, (eid, path), &register),
            Request::Lookup(_) | Request::Search(_) if self.leases.living(now, eid).next().is_none() => {
                Err(Status::NoLease)
            }
            Request::Lookup(of) if is_counted || self.leases.may(now, eid, Deed::Lookup) => {
                let unfound = match self.leases.find(now, &of, None) {
                    Ok(_) => Unfound::because(Status::Ok),
                    Err(unfound) => {
                        let caller = self.leases.following(now, eid);
                        self.refer(now, &caller, &of, unfound, true)?
                    }
                };
                Ok(outcome(&unfound))
            }
            Request::Search(search) if is_counted || self.leases.may(now, eid, Deed::Lookup) => {
                Ok(self.search(now, &search)?.encode())
            }
            Request::Lookup(_) | Request::Search(_) => Err(Status::TooMany),
            Request::Connect(call) => {
                let outcome = self.on_call(now, (eid, path), &call);
                let outcome = match outcome {
                    Ok(way) => Ok(way),
                    Err(unfound) => {
                        let name = call.instance;
                        Err(self.refer(now, &Instance { eid: *eid, name }, &call.eid, unfound, is_counted)?)
                    }
                };
                self.stats.refused = self.stats.refused.saturating_add(u64::from(outcome.is_err()));
                Ok(way(&outcome))
            }
        };
        Ok(answer.unwrap_or_else(|status| {
            self.stats.refused = self.stats.refused.saturating_add(1);
            outcome(&Unfound::because(status))
        }))
    }

    fn register(&mut self, now: Instant, (eid, path): (&Eid, Path), register: &Register) -> Result<Vec<u8>, Status> {
        let bearer = Bearer {
            eid: *eid,
            instance: register.instance,
            address: path.end(),
        };
        self.leases.register(now, (&bearer, path), register)?;
        self.publish(now, eid, true);
        let tokens = (0..MAX_TOKENS)
            .map(|_| self.tokens.issue(now, &bearer, &mut self.rng))
            .collect();
        let registered = Registered {
            boot: self.boot,
            ttl: self.ttl(),
            address: path.end(),
            tokens,
            key: *self.tokens.lease_key(&bearer.instance()).reveal(),
            other_port: self.other_port,
        };
        Ok(registered.encode())
    }

    fn ttl(&self) -> u16 {
        u16::try_from(self.config.quotas.ttl.as_secs()).unwrap_or(u16::MAX)
    }
}

/// A packet under a lease key, opened.
struct Opened {
    bearer: Bearer,
    /// The time when its token was made.
    made: Instant,
    key: LeaseKey,
    plaintext: Zeroizing<Vec<u8>>,
}

/// Packets.
impl Registrar {
    /// Takes a packet of a lease or an introduction.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn packet(&mut self, now: Instant, from: impl Into<Path>, packet: &[u8]) -> Result<(), Dropped> {
        let taken = self.take(now, from.into(), packet);
        if taken.is_err() {
            self.stats.dropped = self.stats.dropped.saturating_add(1);
        }
        self.on_timer(now);
        taken
    }

    fn take(&mut self, now: Instant, from: Path, packet: &[u8]) -> Result<(), Dropped> {
        match Packet::parse(packet)? {
            Packet::Sealed(sealed) if observer::is_at(from) => self.on_question(now, from, &sealed),
            _ if observer::is_at(from) => Err(Dropped::Unwelcome),
            Packet::Sealed(sealed) if sealed.kind == Kind::Lease => self.on_lease(now, from, &sealed),
            Packet::Sealed(sealed) if sealed.kind == Kind::Connect => self.on_connect(now, from, &sealed),
            Packet::Leg(leg) => self.on_leg(now, from, &leg),
            Packet::Sealed(_) | Packet::Punch(_) => Err(Dropped::Unwelcome),
        }
    }

    fn open(&self, sealed: &Sealed<'_>) -> Result<Opened, Dropped> {
        let (bearer, made) = self.tokens.open(sealed.token).ok_or(Dropped::Unauthentic)?;
        let key = self.tokens.lease_key(&bearer.instance());
        let plaintext = key.open(sealed).ok_or(Dropped::Unauthentic)?;
        Ok(Opened {
            bearer,
            made,
            key,
            plaintext,
        })
    }

    /// LEASE (RCH-9).
    fn on_lease(&mut self, now: Instant, from: Path, sealed: &Sealed<'_>) -> Result<(), Dropped> {
        let Opened {
            bearer,
            made,
            key,
            plaintext,
        } = self.open(sealed)?;
        let lease = reach::bodies::Lease::decode(&plaintext)?;
        let mut notice = Notice::default();
        let mut ttl = self.ttl();
        let mut echo_to = None;
        if lease.boot == self.boot {
            let message = Message {
                from,
                made,
                counter: lease.counter,
                rtt: lease.rtt,
                presence: Some(lease.presence),
                is_veiled: Some(lease.is_veiled),
                mapped: Some(lease.mapped.port),
            };
            match self.leases.take(now, &bearer, message) {
                Taken::Old => return Err(Dropped::Old),
                Taken::Superseded => notice.is_superseded = true,
                Taken::NoRoom | Taken::Left => {
                    ttl = 0;
                    self.publish(now, &bearer.eid, false);
                }
                Taken::Elsewhere => {}
                Taken::Stale => notice.is_forgotten = true,
                Taken::Renewed { is_forgotten } => {
                    notice.is_forgotten = is_forgotten;
                    echo_to = mapped::echo_to(from, lease.mapped);
                    self.stats.renewed = self.stats.renewed.saturating_add(1);
                    self.publish(now, &bearer.eid, false);
                    if let Some((introduction, status)) = lease.answer {
                        self.on_answer(now, &bearer.instance(), &introduction, status);
                    }
                }
            }
        }
        let ok = LeaseOk {
            boot: self.boot,
            counter: lease.counter,
            address: from.end(),
            ttl,
            notice,
            token: Vec::new(),
        };
        self.send_lease_ok(now, from, (bearer, &key), ok.clone());
        if let Some(to) = echo_to.filter(|_| self.leases.may(now, &bearer.eid, Deed::Lookup)) {
            let notice = Notice::ECHO;
            self.send_lease_ok(now, to, (bearer, &key), LeaseOk { notice, ..ok });
        }
        Ok(())
    }

    /// LEASE_OK, which names where it goes, and has a token for that.
    fn send_lease_ok(&mut self, now: Instant, to: Path, (bearer, key): (Bearer, &LeaseKey), ok: LeaseOk) {
        let address = to.end();
        let token = self.tokens.issue(now, &Bearer { address, ..bearer }, &mut self.rng);
        let ok = LeaseOk { address, token, ..ok };
        let packet = key.lease_ok(&ok, &mut self.rng);
        self.send(to, packet);
    }

    /// Says where a run of packets goes that came over a link with a handle, and which handle they go on with: all
    /// of them, or none.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn relay(
        &mut self,
        now: Instant,
        (from, handle): (impl Into<Path>, u32),
        run: Run,
    ) -> Result<(Path, u32), Unrelayed> {
        let from = from.into().end();
        let relay = self.relay.as_mut().ok_or(Unrelayed::UnknownHandle);
        let forwarded = relay.and_then(|relay| relay.forward(now, &self.leases, (from, handle), run.bytes));
        let packets = run.packets as u64;
        if forwarded.is_ok() {
            self.stats.relayed_packets = self.stats.relayed_packets.saturating_add(packets);
            self.stats.relayed_bytes = self.stats.relayed_bytes.saturating_add(run.bytes as u64);
        } else {
            self.stats.unrelayed = self.stats.unrelayed.saturating_add(packets);
        }
        forwarded
    }

    /// Returns whether it relays packets.
    pub fn relays(&self) -> bool {
        self.relay.is_some()
    }
}

#[cfg(test)]
impl Registrar {
    /// Returns whether nobody is to be told where a host is, if it has a lease.
    pub(crate) fn is_veiled(&self, now: Instant, eid: &Eid) -> Option<bool> {
        self.leases.living(now, eid).next().map(|lease| lease.is_veiled)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
