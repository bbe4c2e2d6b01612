//! Random applications: they open, accept, write, read, finish, reset, stop and let go, and tell the model all of it.
//!
//! While a scenario is *active* each host's application acts at random moments. Then it *drains*: everything open is
//! finished, and from there on applications act on events alone, so an event that does not come shows as a stream that
//! never completes.

mod choose;
mod deaf;
mod messages;
mod progress;
mod pump;
mod records;
mod trees;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_proto::{CloseReason, Event, Interest, ListenerId, NegotiationError, StreamId};

use crate::model::{Check, EndId, Model, Opening};
use crate::scenario::{Plan, Profile};
use crate::world::{Apps, HostIndex, World};
use deaf::{DEAF_SERVICE, Deafness, Openers};
use messages::Mail;
use records::Writer;
use trees::Trees;

/// A service and a protocol.
type Name = (&'static str, &'static str);

/// Services that every host has.
pub(crate) const SERVICES: [Name; 2] = [("files", "sync/1"), ("chat", "chat/2")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Acting at random.
    Active,
    /// Some take nothing in any more. All others bring what they can to its end, by events alone.
    PartlyDeaf,
    /// Everything is brought to its end, by events alone.
    Draining,
    /// Everything has been let go of.
    Released,
}

/// Way in which an application reads a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Everything, as soon as it comes, in pieces of at most this size.
    Eager(usize),
    /// At most this much at a time, when it feels like it.
    Slow(usize),
}

/// An end of a stream, as its application sees it.
#[derive(Debug)]
struct End {
    host: HostIndex,
    peer: HostIndex,
    stream: StreamId,
    /// Bytes and marks to write in all.
    goal: u64,
    writer: Writer,
    wants_finish: bool,
    send: Send,
    is_reading: bool,
    reader: Reader,
    takes_children: bool,
    depth: u8,
    is_released: bool,
}

/// The sending side of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Send {
    Open,
    /// Finished, and not yet known to have arrived.
    Finished,
    /// Arrived, or ended otherwise.
    Done,
}

impl End {
    fn is_complete(&self) -> bool {
        self.is_released || (self.send == Send::Done && !self.is_reading)
    }
}

/// With this probability one of the latest ends, which are likely to be alive; if it is held by `host`.
fn recent(ends: &[End], host: HostIndex, probability: f64, rng: &mut StdRng) -> Option<EndId> {
    const LATEST: usize = 24;
    if ends.is_empty() || !rng.random_bool(probability) {
        return None;
    }
    let index = ends.len() - rng.random_range(1..=ends.len().min(LATEST));
    let end = &ends[index];
    (end.host == host && !end.is_released).then_some(EndId(index))
}

/// Count of what was done, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Streams opened.
    pub opened: u64,
    /// Streams accepted.
    pub accepted: u64,
    /// Streams reset.
    pub resets: u64,
    /// Streams reset with all below them.
    pub tree_resets: u64,
    /// Answers to the question whether a stream was read.
    pub answers: u64,
    /// Streams of which this side was told that no more children come.
    pub childless: u64,
    /// Streams stopped.
    pub stops: u64,
    /// Ends let go of while they were in use.
    pub drops: u64,
    /// Channels closed by an application.
    pub closes: u64,
    /// Address changes.
    pub rebinds: u64,
}

/// All applications of a world.
pub(crate) struct Actors {
    pub(crate) model: Model,
    pub(crate) plan: Plan,
    pub(crate) phase: Phase,
    pub(crate) tally: Tally,
    failure: Option<String>,
    rng: StdRng,
    pub(crate) aside: Aside,
    ends: Vec<End>,
    by_stream: BTreeMap<(HostIndex, StreamId), EndId>,
    budget: u64,
    incomplete: usize,
}

/// Decisions that are taken on by randomness of its own, so that a seed does otherwise what it does without.
pub(crate) struct Aside {
    levels: StdRng,
    mail: Mail,
    trees: Trees,
    pub(crate) deafness: Deafness,
}

impl Actors {
    pub(crate) fn new(plan: Plan, rng: StdRng) -> Self {
        let seed = plan.budget ^ plan.active.as_micros() as u64;
        let aside = Aside {
            levels: StdRng::seed_from_u64(seed),
            mail: Mail::new(StdRng::seed_from_u64(!seed)),
            trees: Trees::new(StdRng::seed_from_u64(seed.rotate_left(32))),
            deafness: Deafness::new(StdRng::seed_from_u64(seed.rotate_left(16))),
        };
        Self {
            model: Model::default(),
            budget: plan.budget,
            plan,
            phase: Phase::Active,
            tally: Tally::default(),
            failure: None,
            rng,
            aside,
            ends: Vec::new(),
            by_stream: BTreeMap::new(),
            incomplete: 0,
        }
    }

    /// Starts the applications: services on all hosts, and the first timers.
    pub(crate) fn start(&mut self, world: &mut World) {
        for host in world.hosts() {
            for name in SERVICES {
                if let Some(listener) = self.listen(world, host, name) {
                    self.accept_all(world, host, listener);
                }
            }
            if let Some(listener) = self.listen(world, host, DEAF_SERVICE) {
                self.aside.deafness.add_service(host, listener);
                // There is nothing yet; an event tells when there is.
                world.call(host, |h, _| h.accept(listener));
            }
            let delay = self.pause();
            world.set_timer(host, delay, 0);
        }
    }

    fn listen(&mut self, world: &mut World, host: HostIndex, (service, protocol): Name) -> Option<ListenerId> {
        let listener = world.call(host, |h, _| h.listen(service, protocol));
        if let Err(error) = &listener {
            self.fail(format!("h{} cannot listen: {error}", host.0));
        }
        listener.ok()
    }

    /// Returns what went wrong, if anything did.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Stops acting at random: everything is finished, and all but some ends take in what comes. Those who do not are
    /// flooded; then new streams are opened beside.
    pub(crate) fn drain_partly(&mut self, world: &mut World) {
        self.phase = Phase::PartlyDeaf;
        let has_flood = self.aside.deafness.begin(self.ends.len());
        self.finish_all(world);
        let mut openers = Openers { actors: self, world };
        if has_flood {
            openers.flood();
        }
        openers.try_others();
    }

    /// Finishes everything, reads everything.
    pub(crate) fn drain(&mut self, world: &mut World) {
        self.phase = Phase::Draining;
        for (host, listener) in self.aside.deafness.end() {
            self.accept_all(world, host, listener);
        }
        self.finish_all(world);
        self.recount();
    }

    fn finish_all(&mut self, world: &mut World) {
        for index in 0..self.ends.len() {
            let end = &mut self.ends[index];
            end.wants_finish = true;
            end.takes_children = true;
            end.reader = Reader::Eager(64 << 10);
            self.pump(world, EndId(index));
        }
    }

    /// Returns whether every end is complete, and every flow accounted for.
    pub(crate) fn is_complete(&mut self) -> bool {
        if self.incomplete > 0 {
            self.recount();
        }
        self.incomplete == 0 && self.model.untold() == 0 && self.model.unaccounted().0 == 0
    }

    fn recount(&mut self) {
        let ends = self.ends.iter().enumerate();
        let is_open = |(index, e): &(usize, &End)| !e.is_complete() || self.is_waiting(EndId(*index));
        self.incomplete = ends.filter(is_open).count();
    }

    /// Returns whether the end waits for an answer: whether its flow was read, or that no more children come.
    fn is_waiting(&self, id: EndId) -> bool {
        let trees = &self.aside.trees;
        trees.is_asking(id) || (!trees.is_childless(id) && self.model.must_see_no_more(id))
    }

    /// Lets go of everything.
    pub(crate) fn release_all(&mut self, world: &mut World) {
        self.phase = Phase::Released;
        for index in 0..self.ends.len() {
            self.release(world, EndId(index));
        }
    }

    /// The ends that are not complete, for the report of a failure.
    pub(crate) fn describe_incomplete(&self, world: &World) -> String {
        let is_open = |(index, e): &(usize, &End)| !e.is_complete() || self.is_waiting(EndId(*index));
        let ends = self.ends.iter().enumerate().filter(is_open);
        let mut lines: Vec<String> = ends
            .map(|(index, end)| {
                let info = world.host(end.host).stream_info(end.stream);
                let (flow, written) = self.model.output(EndId(index));
                format!("  end {index}, writes {written} of flow {flow:x}: {end:?}\n    {info:?}")
            })
            .collect();
        let count = lines.len();
        lines.truncate(8);
        format!("{count} ends incomplete:\n{}", lines.join("\n"))
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn check(&mut self, check: Check) {
        if let Err(what) = check {
            self.fail(what);
        }
    }

    /// A time until an application acts again: exponentially distributed.
    fn pause(&mut self) -> Duration {
        let x: f64 = self.rng.random_range(f64::EPSILON..1.0);
        self.plan.pause.mul_f64(-x.ln())
    }

    fn add(
        &mut self,
        host: HostIndex,
        peer: HostIndex,
        stream: StreamId,
        parent: Option<EndId>,
        opening: Opening,
    ) -> EndId {
        let depth = parent.map_or(1, |p| self.ends[p.0].depth.saturating_add(1));
        let id = self.model.open(host, peer, parent, opening);
        let reader = match self.rng.random_range(0..4) {
            0 => Reader::Slow(self.rng.random_range(1..20_000)),
            1 => Reader::Eager(self.rng.random_range(1..3000)),
            _ => Reader::Eager(1 << 20),
        };
        let draining = self.phase != Phase::Active;
        let goal = match self.phase {
            Phase::PartlyDeaf => self.aside.deafness.goal(opening),
            _ => 0,
        };
        self.ends.push(End {
            host,
            peer,
            stream,
            goal,
            writer: if self.rng.random_bool(0.3) {
                Writer::Records
            } else {
                Writer::Plain
            },
            wants_finish: draining,
            send: Send::Open,
            is_reading: true,
            reader: if draining { Reader::Eager(64 << 10) } else { reader },
            takes_children: draining || self.rng.random_bool(0.8),
            depth,
            is_released: false,
        });
        self.incomplete += 1;
        if self.by_stream.insert((host, stream), id).is_some() {
            self.fail(format!("h{} was given {stream:?} twice", host.0));
        }
        id
    }

    fn accept_all(&mut self, world: &mut World, host: HostIndex, listener: ListenerId) {
        while let Some((stream, eid)) = world.call(host, |h, _| h.accept(listener)) {
            let Some(peer) = world.host_of(&eid) else {
                return self.fail(format!("h{} accepts from an unknown host", host.0));
            };
            self.tally.accepted += 1;
            let id = self.add(host, peer, stream, None, Opening::Accepted);
            world.note(format_args!("h{} accept -> {id:?} {stream:?}", host.0));
            self.greet(world, id);
        }
    }

    /// Lets an application act on an end that it has just got.
    fn greet(&mut self, world: &mut World, id: EndId) {
        if self.phase == Phase::Active && self.rng.random_bool(0.7) {
            self.want(id);
        }
        self.pump(world, id);
    }

    fn on_disconnected(&mut self, host: HostIndex, peer: HostIndex, reason: &CloseReason) {
        // A channel that nobody uses may end by silence.
        let uses = |e: &End| (e.host, e.peer) == (host, peer) && !e.is_released;
        let idle = matches!(reason, CloseReason::Idle(_)) && !self.ends.iter().any(uses);
        if idle {
            return;
        }
        // Bursts of loss may swallow every packet of a negotiation.
        if self.plan.profile == Profile::Harsh
            && let CloseReason::Negotiation(NegotiationError::NoAnswer { .. } | NegotiationError::NotAccepted { .. }) =
                reason
        {
            self.model.closed(host, peer);
        }
        if let CloseReason::Negotiation(NegotiationError::OwnEid | NegotiationError::BadEid) = reason {
            return self.fail(format!("h{} cannot reach h{}: {reason}", host.0, peer.0));
        }
        let check = self.model.saw_loss(host, peer, reason);
        self.check(check);
    }
}

impl Apps for Actors {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Connected(..)
            | Event::Link(..)
            | Event::Quiet(_)
            | Event::ProbeReply(..)
            | Event::Secret(_)
            | Event::Stray(_) => {}
            Event::DatagramSettled(peer, datagram, fate) => self.on_fate(host, peer, datagram, fate),
            Event::Disconnected(_, eid, reason) => match world.host_of(&eid) {
                Some(peer) => self.on_disconnected(host, peer, &reason),
                None => self.fail(format!("h{} was disconnected from an unknown host", host.0)),
            },
            Event::Acceptable(listener) if self.aside.deafness.refuses(host, listener) => {}
            Event::Acceptable(listener) => self.accept_all(world, host, listener),
            Event::Ready(stream, Interest::Read)
            | Event::Ready(stream, Interest::Write)
            | Event::Ready(stream, Interest::Accept)
            | Event::Ready(stream, Interest::Drained)
            | Event::Ready(stream, Interest::Sent)
            | Event::Ready(stream, Interest::Acknowledged)
            | Event::Ready(stream, Interest::Consumed)
            | Event::Ready(stream, Interest::RecvDatagram)
            | Event::Ready(stream, Interest::SendDatagram) => match self.by_stream.get(&(host, stream)).copied() {
                Some(id) => self.pump_on_event(world, id, &event),
                None => self.fail(format!("h{} is told {event:?} of a stream it does not know", host.0)),
            },
            other => self.fail(format!("h{} is told what the model does not know: {other:?}", host.0)),
        }
    }

    fn on_timer(&mut self, world: &mut World, host: HostIndex, _: u64) {
        if self.phase == Phase::Active {
            self.act(world, host);
            let delay = self.pause();
            world.set_timer(host, delay, 0);
        }
    }
}
