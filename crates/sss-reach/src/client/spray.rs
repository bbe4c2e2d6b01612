//! Guessing of ports, for a pair of hosts of which one is behind a NAT that gives another port for each destination
//! (RCH-28 to RCH-32).
//!
//! Two hosts that have proved themselves to each other, and whose packets a relay carries, agree on it over their own
//! channel. Then the one sends PUNCH to many ports of the other's address, and the other from many sockets to the one's
//! port; where the two meet, a way is open.

mod attempt;
mod bounds;
mod report;
mod talk;
mod watched;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Host, Instant, Link, ListenerId, PeerId, Route, RouteClass, SocketId, StreamId};
use sss_wire::reach::Punch;
use sss_wire::reach::spray::{self, Mapping, Record, Verdict};
use sss_wire::{Code, Eid};

use super::RelayUse;
use super::punch::Punched;
use attempt::MAX_SOCKETS;
use bounds::{Budget, Ways};
use talk::{Deal, Talk, Visits};
use watched::Watched;

pub use report::{SprayOutcome, SprayReport, SprayRole};

/// Time for which a relay has to carry, before it is tried to do without.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time after which a host that was busy is asked again: most are not for longer.
const BUSY_PAUSE: Duration = Duration::from_secs(2);
/// Time after which an attempt gives way to another: from its agreement until its sockets are open, and from its first
/// PUNCH until the other was heard (RCH-31).
const YIELDS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(4));
/// Time after which one that has not answered is, and after which it is looked whether the way that was found is lost.
const LATER: Duration = Duration::from_secs(60);
/// Time within which the two have to agree.
const TALK: Duration = Duration::from_secs(10);
/// Sockets of which it is asked which ports they get outside, and the time for that (RCH-32).
const MEASURED: usize = 3;
const MEASURING: Duration = Duration::from_millis(600);
/// Time from the first PUNCH until the attempt is over, and its sockets are closed.
const LIFE: Duration = Duration::from_secs(10);
/// Time after which HELLO goes by a way that is open once more, if no channel was made.
const AGAIN: Duration = Duration::from_millis(1500);
/// Time between two looks at whether the way that is open is used.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two looks at whether sockets that were kept are still used.
const SWEEP: Duration = Duration::from_secs(20);
/// Results that are remembered, and sockets that are kept, at most.
const MAX_REPORTS: usize = 64;
const MAX_KEPT: usize = 64;

/// Set if a host guesses ports, where a relay carries and one of the two NATs gives another port for each destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spraying {
    /// It does not, and refuses it to others.
    Off,
    /// It does, within the bounds of RCH-31: no more than 1,024 packets of 45 bytes to an address in an hour.
    #[default]
    On,
}

/// An order about further sockets, for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketOrder {
    /// As many are to be opened, or as many as can be: [`on_sockets_opened`](crate::Rendezvous::on_sockets_opened)
    /// tells which there are.
    Open(usize),
    /// These are to be closed.
    Close(Vec<SocketId>),
}

/// All that a host does of it. By default, nothing.
#[derive(Default)]
pub(crate) struct Spray {
    /// Takes the streams of those who ask. `None`: this host does nothing of it.
    listener: Option<ListenerId>,
    watched: Watched,
    ways: Ways,
    budget: Budget,
    visits: Visits,
    /// The one that is under way.
    talk: Option<Talk>,
    /// Sockets that are a way to a peer; set if the peer was spoken to by another way when that was last looked at.
    kept: Vec<(SocketId, PeerId, bool)>,
    swept: Instant,
    reports: VecDeque<(Eid, SprayReport)>,
    orders: VecDeque<SocketOrder>,
    outbox: Vec<(Route, Vec<u8>)>,
}

/// A peer that asks.
struct Asked {
    stream: StreamId,
    eid: Eid,
    theirs: Mapping,
    key: [u8; 32],
}

/// A host's own part in one that is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Its NAT gives one port: it sends to many.
    Easy,
    /// Its NAT gives another port each time: it sends from many.
    Hard,
}

impl Role {
    /// The part of the one that asks, and of the other.
    fn of(asking: Mapping, asked: Mapping, key: &[u8; 32]) -> Option<(Self, Self)> {
        match (asking, asked) {
            (Mapping::Same, Mapping::Same) | (Mapping::Other, Mapping::Other) => None,
            (Mapping::Same, _) | (Mapping::Unknown, Mapping::Other) => Some((Self::Easy, Self::Hard)),
            (Mapping::Other, _) | (Mapping::Unknown, Mapping::Same) => Some((Self::Hard, Self::Easy)),
            // Nobody knows: one of the two ways is tried, another time perhaps the other.
            (Mapping::Unknown, Mapping::Unknown) if key.first().is_some_and(|byte| byte & 1 == 0) => {
                Some((Self::Easy, Self::Hard))
            }
            (Mapping::Unknown, Mapping::Unknown) => Some((Self::Hard, Self::Easy)),
        }
    }
}

impl Spray {
    /// Does nothing if it is off, or packets are to go by relays alone.
    pub(crate) fn new(now: Instant, host: &mut Host, (spraying, relay): (Spraying, RelayUse)) -> Self {
        let is_on = spraying == Spraying::On && relay == RelayUse::Allowed;
        // Nobody else offers what the host itself does.
        let listener = is_on.then(|| host.offer_own(spray::PROTOCOL).ok()).flatten();
        // Nobody is there yet: whoever comes first is told of.
        if let Some(listener) = listener {
            let none = host.accept(listener);
            debug_assert!(none.is_none());
        }
        Self {
            listener,
            swept: now,
            ..Self::default()
        }
    }

    /// A server has named the handle and the validated address of one host.
    pub(super) fn on_way(&mut self, relay: Route, address: SocketAddr) {
        self.ways.put(relay, address);
    }

    /// All ways lead to an address, as if servers had said so.
    #[cfg(test)]
    pub(super) fn be_lied_to(&mut self, address: SocketAddr) {
        self.ways.be_lied_to(address);
    }

    /// There is a channel to a peer, or there is one again.
    pub(super) fn watch(&mut self, now: Instant, peer: PeerId) {
        if self.listener.is_some() {
            self.watched.add(now + PATIENCE, peer);
        }
    }

    pub(super) fn is_listener(&self, listener: ListenerId) -> bool {
        self.listener == Some(listener)
    }

    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.stream == stream) || self.visits.has(stream)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let talk = self.talk.as_ref().and_then(Talk::next_timer);
        let sweep = (!self.kept.is_empty()).then(|| self.swept + SWEEP);
        let visits = self.visits.next_timer();
        let watched = self.watched.next_timer().into_iter();
        watched.chain(talk).chain(sweep).chain(visits).min()
    }

    pub(super) fn poll_order(&mut self) -> Option<SocketOrder> {
        self.orders.pop_front()
    }

    /// Packets to be sent now.
    pub(super) fn take_packets(&mut self) -> Vec<(Route, Vec<u8>)> {
        std::mem::take(&mut self.outbox)
    }

    /// The latest result with a peer.
    pub(super) fn report(&self, eid: &Eid) -> Option<SprayReport> {
        let own = self
            .talk
            .as_ref()
            .filter(|talk| talk.eid == *eid && talk.role.is_some());
        let latest = self.reports.iter().rev().find(|(peer, _)| peer == eid);
        own.map(Talk::report).or(latest.map(|(_, report)| report.clone()))
    }

    /// Does what is due. `mapping` is what is known of this host's NAT.
    pub(super) fn on_timer(&mut self, now: Instant, host: &mut Host, mapping: Mapping, rng: &mut Generator) {
        self.visits.expire(now, host);
        self.get_ready(now, host, rng);
        self.go_on(now, host);
        while let Some(peer) = self.watched.take_due(now) {
            self.look(now, host, peer, (mapping, &mut *rng));
        }
        if self.swept + SWEEP <= now && !self.kept.is_empty() {
            self.sweep(now, host);
        }
    }

    /// Asks a peer for it, if a relay carries to it.
    fn look(&mut self, now: Instant, host: &mut Host, peer: PeerId, (mapping, rng): (Mapping, &mut Generator)) {
        let Some((eid, route)) = host.peer_eid(peer).zip(host.channel_info(peer).map(|info| info.route)) else {
            return;
        };
        let was_found =
            |(of, report): &(Eid, SprayReport)| *of == eid && matches!(report.outcome, SprayOutcome::Direct(_));
        if route.class() == RouteClass::Direct && self.reports.iter().any(was_found) {
            // A relay may carry again one day, and nothing else tells of it.
            return self.watched.add(now + LATER, peer);
        }
        // One of the two asks: both know which.
        if route.class() != RouteClass::Relay || host.eid() > eid {
            return;
        }
        let Some(target) = self.ways.get(&route).filter(|target| is_guessable(*target)) else {
            return;
        };
        if self.is_busy(now, host) {
            return self.watched.add(now + BUSY_PAUSE, peer);
        }
        if !self.budget.has(now, target.ip()) {
            return self.watched.add(now + bounds::PAUSE, peer);
        }
        let mut key = [0; 32];
        rng.fill(&mut key);
        let names = (sss_wire::services::SERVICE, spray::PROTOCOL);
        let Ok(stream) = host.connect(now, eid, names, &[]) else {
            return;
        };
        let deal = Deal {
            target,
            key,
            own: mapping,
            theirs: Mapping::Unknown,
        };
        let talk = Talk::asking(now, (stream, eid), deal);
        let record = Record::Ask(mapping, key).encode();
        if host.stream(stream).write_record(&record).is_err() {
            return host.stream(stream).release();
        }
        self.talk = Some(talk);
        self.read(now, host, stream, (mapping, rng));
    }

    /// Closes the sockets by which nothing has gone for a while.
    fn sweep(&mut self, now: Instant, host: &Host) {
        self.swept = now;
        let mut unused = Vec::new();
        self.kept.retain_mut(|(socket, peer, was_unused)| {
            let is_unused = carrying(host, *peer) != Some(*socket);
            let is_over = std::mem::replace(was_unused, is_unused) && is_unused;
            unused.extend(is_over.then_some(*socket));
            !is_over
        });
        if !unused.is_empty() {
            self.orders.push_back(SocketOrder::Close(unused));
        }
    }
}

/// The further socket by which a peer is spoken to.
fn carrying(host: &Host, peer: PeerId) -> Option<SocketId> {
    match host.channel_info(peer)?.route.link {
        Link::Socket(socket, _) => Some(socket),
        _ => None,
    }
}

/// Returns whether there are ports to guess at an address.
fn is_guessable(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv4()
}

/// Agreeing.
impl Spray {
    /// Takes the streams of those who ask.
    pub(super) fn admit(&mut self, now: Instant, host: &mut Host, mapping: Mapping, rng: &mut Generator) {
        let Some(listener) = self.listener else {
            return;
        };
        while let Some((stream, eid)) = host.accept(listener) {
            if self.visits.add(now, stream, eid) {
                self.read(now, host, stream, (mapping, rng));
            } else {
                end(host, stream);
            }
        }
    }

    /// Reads what has come on a stream.
    pub(super) fn read(
        &mut self,
        now: Instant,
        host: &mut Host,
        stream: StreamId,
        (mapping, rng): (Mapping, &mut Generator),
    ) {
        match self.visits.read(now, host, stream) {
            Some(Ok((eid, Record::Ask(theirs, key)))) => {
                let of = Asked {
                    stream,
                    eid,
                    theirs,
                    key,
                };
                self.on_ask(now, host, of, mapping);
            }
            Some(_) => end(host, stream),
            None => {}
        }
        // One record after the other, until there is none: only then is this host told of more.
        while let Some(talk) = self.talk.as_mut().filter(|talk| talk.stream == stream)
            && let Some(said) = talk.read(now, host)
        {
            if said.is_err() && talk.is_punching() {
                // The other has said all that it has to say.
                return;
            }
            self.on_record(now, host, said, rng);
        }
    }

    /// The other has said more on the stream of the one that is under way.
    fn on_record(&mut self, now: Instant, host: &mut Host, said: Result<Record, ()>, rng: &mut Generator) {
        let Some(talk) = self.talk.as_mut() else {
            return;
        };
        match said {
            Ok(Record::Answer(verdict, theirs)) if talk.is_asking() => self.on_answer(now, host, verdict, theirs),
            Ok(Record::Ready(sockets, steps)) if talk.is_awaiting() => match sockets {
                0 => self.finish(now, host, SprayOutcome::NoSockets),
                _ => talk.begin_to_ports(now, (usize::from(sockets), steps), rng),
            },
            // A host that knows nothing of it, or has it switched off, refuses the stream.
            Err(()) if talk.is_asking() => self.finish(now, host, SprayOutcome::Refused(Verdict::Off)),
            _ => self.finish(now, host, SprayOutcome::Silent),
        }
    }

    /// A peer wants it.
    fn on_ask(
        &mut self,
        now: Instant,
        host: &mut Host,
        Asked {
            stream,
            eid,
            theirs,
            key,
        }: Asked,
        own: Mapping,
    ) {
        let route = host.channel_info(stream.peer()).map(|info| info.route);
        let target = route.and_then(|route| self.ways.get(&route));
        let role = Role::of(theirs, own, &key).map(|(_, role)| role);
        let agreed = match (target, role) {
            (None, _) => Err(Verdict::NoAddress),
            (Some(target), Some(role)) if is_guessable(target) => Ok((target, role)),
            (Some(_), _) => Err(Verdict::Useless),
        };
        let agreed = agreed.and_then(|(target, role)| match self.budget.has(now, target.ip()) {
            false => Err(Verdict::Spent),
            true if self.is_busy(now, host) => Err(Verdict::Busy),
            true => Ok((target, role)),
        });
        let verdict = agreed.err().unwrap_or(Verdict::Agreed);
        let answer = Record::Answer(verdict, own).encode();
        let is_written = host.stream(stream).write_record(&answer).is_ok();
        let Some((target, role)) = agreed.ok().filter(|_| is_written) else {
            let _ = host.stream(stream).finish();
            return host.stream(stream).release();
        };
        self.budget.spend(now, target.ip());
        let deal = Deal {
            target,
            key,
            own,
            theirs,
        };
        let mut talk = Talk::asked(now, (stream, eid), deal);
        talk.agree(role);
        self.talk = Some(talk);
        self.open_if_hard(role);
    }

    fn on_answer(&mut self, now: Instant, host: &mut Host, verdict: Verdict, theirs: Mapping) {
        let Some(talk) = &mut self.talk else {
            return;
        };
        talk.deal.theirs = theirs;
        let role = Role::of(talk.deal.own, theirs, &talk.deal.key).map(|(role, _)| role);
        match (verdict, role) {
            (Verdict::Agreed, Some(role)) => {
                self.budget.spend(now, talk.deal.target.ip());
                talk.agree(role);
                self.open_if_hard(role);
            }
            (Verdict::Agreed, None) => self.finish(now, host, SprayOutcome::Refused(Verdict::Useless)),
            (verdict, _) => self.finish(now, host, SprayOutcome::Refused(verdict)),
        }
    }

    /// Returns whether there is no room for another one. What has come to nothing so far gives way: nobody keeps the
    /// room by saying nothing.
    fn is_busy(&mut self, now: Instant, host: &mut Host) -> bool {
        if self.kept.len() >= MAX_KEPT {
            return true;
        }
        let Some(talk) = self.talk.as_ref().filter(|talk| talk.yields(now)) else {
            return self.talk.is_some();
        };
        let outcome = talk.failure();
        self.finish(now, host, outcome);
        false
    }

    fn open_if_hard(&mut self, role: Role) {
        if role == Role::Hard {
            self.orders.push_back(SocketOrder::Open(MAX_SOCKETS));
        }
    }

    /// The sockets that were ordered are open, as far as the system lets them be. Returns those of which it is to be
    /// asked which ports they get outside.
    pub(super) fn on_sockets_opened<'a>(&mut self, now: Instant, sockets: &'a [SocketId]) -> &'a [SocketId] {
        let talk = self.talk.as_mut().filter(|talk| talk.is_opening());
        let Some(talk) = talk else {
            // What they were for is over.
            self.orders.push_back(SocketOrder::Close(sockets.to_vec()));
            return &[];
        };
        let is_of_use = talk.deal.own == Mapping::Other;
        let measured = sockets.get(..MEASURED).filter(|_| is_of_use).unwrap_or_default();
        talk.begin_to_measure(
            now + if measured.is_empty() { Duration::ZERO } else { MEASURING },
            sockets,
        );
        measured
    }

    /// One of the sockets has that port outside.
    pub(super) fn on_measured(&mut self, socket: SocketId, port: u16) {
        if let Some(talk) = &mut self.talk {
            talk.on_measured(socket, port);
        }
    }

    /// Says that the sockets are open, once it is known which ports they get, or that it is not to be known.
    fn get_ready(&mut self, now: Instant, host: &mut Host, rng: &mut Generator) {
        let Some((talk, (count, steps))) = self.talk.as_mut().and_then(|talk| {
            let measured = talk.measured(now)?;
            Some((talk, measured))
        }) else {
            return;
        };
        let record = Record::Ready(u16::try_from(count).unwrap_or(u16::MAX), steps).encode();
        let is_written = host.stream(talk.stream).write_record(&record).is_ok();
        talk.begin_from_sockets(now, steps.is_some(), rng);
        if count == 0 {
            self.finish(now, host, SprayOutcome::NoSockets);
        } else if !is_written {
            self.finish(now, host, SprayOutcome::Silent);
        }
    }
}

/// Punching.
impl Spray {
    /// Goes on with the one that is under way.
    fn go_on(&mut self, now: Instant, host: &mut Host) {
        let Some(talk) = &mut self.talk else {
            return;
        };
        self.outbox.extend(talk.on_timer(now));
        if let Some(route) = talk.open_again(now) {
            host.note_open(now, &talk.eid, route);
        }
        let route = host.channel_info(talk.stream.peer()).map(|info| info.route);
        if route.is_none_or(|route| route.class() == RouteClass::Direct) {
            let after = talk.elapsed(now);
            let outcome = route.map_or(SprayOutcome::Silent, |_| SprayOutcome::Direct(after));
            self.finish(now, host, outcome);
        } else if talk.is_over(now) {
            let outcome = talk.failure();
            self.finish(now, host, outcome);
        }
    }

    /// Takes a PUNCH in. `None` if it is not of this.
    pub(super) fn on_punch(&mut self, now: Instant, host: &mut Host, link: Link, punch: &Punch<'_>) -> Option<()> {
        let talk = self.talk.as_mut()?;
        let punched = talk.attempt_mut()?.on_punch(link.address()?, punch)?;
        let route = Route::over(link);
        let is_open = punched != Punched::Known;
        if let Punched::Answer(packet) = punched {
            self.outbox.push((route, packet));
        }
        if is_open && talk.on_open(now, route) {
            host.note_open(now, &talk.eid, route);
        }
        Some(())
    }

    /// This host has come into another network: nothing comes of what is under way.
    pub(super) fn on_network_change(&mut self, now: Instant, host: &mut Host) {
        if self.talk.is_some() {
            self.finish(now, host, SprayOutcome::Moved);
        }
    }

    /// The one under way is over: all sockets are closed but those by which something goes.
    fn finish(&mut self, now: Instant, host: &mut Host, outcome: SprayOutcome) {
        let Some(mut talk) = self.talk.take() else {
            return;
        };
        let peer = talk.stream.peer();
        end(host, talk.stream);
        let route = host.channel_info(peer).map(|info| info.route);
        let direct = route.and_then(|route| route.direct_address());
        // A channel was made there: it is no third party that got all this.
        if direct.is_some_and(|address| address.ip() == talk.deal.target.ip()) {
            self.budget.give_back(talk.deal.target.ip());
        }
        let used = carrying(host, peer);
        let (kept, unused): (Vec<_>, Vec<_>) = talk.take_sockets().into_iter().partition(|one| Some(*one) == used);
        self.kept.extend(kept.into_iter().map(|socket| (socket, peer, false)));
        if !unused.is_empty() {
            self.orders.push_back(SocketOrder::Close(unused));
        }
        let pause = match outcome {
            SprayOutcome::Refused(Verdict::Busy) => BUSY_PAUSE,
            SprayOutcome::Direct(_) | SprayOutcome::Silent => LATER,
            _ => bounds::PAUSE,
        };
        if talk.is_asker {
            self.watched.put_off(now + pause, peer);
        }
        let report = SprayReport {
            outcome,
            ..talk.report()
        };
        self.reports.retain(|(eid, _)| *eid != talk.eid);
        self.reports.push_back((talk.eid, report));
        while self.reports.len() > MAX_REPORTS {
            self.reports.pop_front();
        }
    }
}

/// Gives a stream up.
fn end(host: &mut Host, stream: StreamId) {
    let mut stream = host.stream(stream);
    stream.stop(Code::NONE, "");
    if stream.finish().is_err() {
        stream.reset(Code::NONE, "");
    }
    stream.release();
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-29
    #[test]
    fn the_one_with_one_port_for_all_sends_to_the_ports_of_the_other() {
        let kinds = [Mapping::Unknown, Mapping::Same, Mapping::Other];
        for key in [[0; 32], [1; 32]] {
            for (asking, asked) in kinds.iter().flat_map(|one| kinds.map(|other| (*one, other))) {
                let roles = Role::of(asking, asked, &key);
                let is_useless = asking == asked && asking != Mapping::Unknown;
                assert_eq!(roles.is_none(), is_useless, "{asking:?} {asked:?}");
                let Some((one, other)) = roles else {
                    continue;
                };
                assert_ne!(one, other);
                for (mapping, role) in [(asking, one), (asked, other)] {
                    assert!(mapping != Mapping::Same || role == Role::Easy, "{asking:?} {asked:?}");
                    assert!(mapping != Mapping::Other || role == Role::Hard, "{asking:?} {asked:?}");
                }
            }
        }
    }
}
