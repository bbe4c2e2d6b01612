//! Streams on which two hosts agree, and what they have agreed on.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use sss_crypto::Generator;
use sss_proto::{Host, Instant, ReadOutcome, Route, SocketId, StreamId};
use sss_wire::Eid;
use sss_wire::reach::spray::{MAX_RECORD, Mapping, Record, Steps};

use super::attempt::Attempt;
use super::report::{SprayOutcome, SprayReport, SprayRole};
use super::{AGAIN, LIFE, LOOK, MEASURED, Role, TALK, YIELDS};

/// Streams on which nothing was said yet, at a time.
const MAX_VISITS: usize = 16;

/// Subject of an agreement.
#[derive(Clone, Copy)]
pub(super) struct Deal {
    /// The other's validated address.
    pub(super) target: SocketAddr,
    /// The key of PUNCH.
    pub(super) key: [u8; 32],
    pub(super) own: Mapping,
    pub(super) theirs: Mapping,
}

/// A pair of hosts that agree, or have agreed.
pub(super) struct Talk {
    pub(super) stream: StreamId,
    pub(super) eid: Eid,
    pub(super) is_asker: bool,
    pub(super) deal: Deal,
    /// This host's part, once it is agreed on.
    pub(super) role: Option<Role>,
    began: Instant,
    /// The time of the next look at whether the way that is open is used.
    look_at: Instant,
    /// The latest way that was found open, and when HELLO goes there again.
    open: Option<(Route, Instant)>,
    record: Vec<u8>,
    state: State,
}

enum State {
    /// ASK is sent.
    Asking,
    /// The other opens its sockets.
    Awaiting,
    /// This host does.
    Opening,
    /// It has; the first ports that they get outside are asked for, until then.
    Measuring(Vec<SocketId>, [Option<u16>; MEASURED], Instant),
    /// PUNCH is sent, since then; by so many sockets, of which these are this host's.
    Punching(Box<Attempt>, Instant, (usize, Vec<SocketId>)),
}

impl Talk {
    /// This host has asked.
    pub(super) fn asking(now: Instant, (stream, eid): (StreamId, Eid), deal: Deal) -> Self {
        Self {
            stream,
            eid,
            is_asker: true,
            deal,
            role: None,
            began: now,
            look_at: now,
            open: None,
            record: Vec::new(),
            state: State::Asking,
        }
    }

    /// The other has asked.
    pub(super) fn asked(now: Instant, of: (StreamId, Eid), deal: Deal) -> Self {
        Self {
            is_asker: false,
            ..Self::asking(now, of, deal)
        }
    }

    pub(super) fn agree(&mut self, role: Role) {
        self.role = Some(role);
        self.state = match role {
            Role::Easy => State::Awaiting,
            Role::Hard => State::Opening,
        };
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking)
    }

    pub(super) fn is_awaiting(&self) -> bool {
        matches!(self.state, State::Awaiting)
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening)
    }

    pub(super) fn is_punching(&self) -> bool {
        matches!(self.state, State::Punching(..))
    }

    /// Returns whether it is to give way to another: the other host has not gone on with it, or is not heard.
    pub(super) fn yields(&self, now: Instant) -> bool {
        match &self.state {
            State::Asking | State::Awaiting => self.began + YIELDS.0 <= now,
            State::Punching(attempt, since, _) => !attempt.is_heard() && *since + YIELDS.1 <= now,
            State::Opening | State::Measuring(..) => false,
        }
    }

    /// The outcome if nothing has come of it.
    pub(super) fn failure(&self) -> SprayOutcome {
        match self.is_punching() {
            true => SprayOutcome::Missed,
            false => SprayOutcome::Silent,
        }
    }

    /// The other has opened so many sockets.
    pub(super) fn begin_to_ports(
        &mut self,
        now: Instant,
        (sockets, steps): (usize, Option<Steps>),
        rng: &mut Generator,
    ) {
        let attempt = Attempt::to_ports(now, (&self.deal.key, self.deal.target), steps, rng);
        self.state = State::Punching(Box::new(attempt), now, (sockets, Vec::new()));
    }

    /// This host has opened sockets, and asks for the ports that they get, until then.
    pub(super) fn begin_to_measure(&mut self, until: Instant, sockets: &[SocketId]) {
        self.state = State::Measuring(sockets.to_vec(), [None; MEASURED], until);
    }

    /// One of the sockets has that port outside.
    pub(super) fn on_measured(&mut self, socket: SocketId, port: u16) {
        if let State::Measuring(sockets, seen, _) = &mut self.state
            && let Some(at) = sockets.iter().position(|of| *of == socket)
            && let Some(slot) = seen.get_mut(at)
        {
            *slot = Some(port);
        }
    }

    /// The number of sockets, and the steps of their ports, once that is known or the time for it is over.
    pub(super) fn measured(&self, now: Instant) -> Option<(usize, Option<Steps>)> {
        let State::Measuring(sockets, seen, until) = &self.state else {
            return None;
        };
        match seen {
            [Some(one), Some(two), Some(three)] => Some((sockets.len(), Steps::of([*one, *two, *three]))),
            _ => (*until <= now).then_some((sockets.len(), None)),
        }
    }

    /// PUNCH goes from the sockets; set if their ports are foretold.
    pub(super) fn begin_from_sockets(&mut self, now: Instant, is_foretold: bool, rng: &mut Generator) {
        let sockets = self.take_sockets();
        let attempt = Attempt::from_sockets(now, (&self.deal.key, self.deal.target), (&sockets, is_foretold), rng);
        self.state = State::Punching(Box::new(attempt), now, (sockets.len(), sockets));
    }

    /// Takes its sockets away.
    pub(super) fn take_sockets(&mut self) -> Vec<SocketId> {
        match &mut self.state {
            State::Punching(.., (_, sockets)) | State::Measuring(sockets, ..) => std::mem::take(sockets),
            _ => Vec::new(),
        }
    }

    pub(super) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.state {
            State::Punching(attempt, ..) => Some(attempt),
            _ => None,
        }
    }

    /// Returns how long ago it began.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.since(self.began)
    }

    fn end(&self) -> Instant {
        match &self.state {
            State::Punching(_, since, _) => *since + LIFE,
            State::Asking | State::Awaiting | State::Opening | State::Measuring(..) => self.began + TALK,
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.end() <= now
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let attempt = match &self.state {
            State::Punching(attempt, ..) => attempt,
            State::Measuring(_, seen, _) if seen.iter().all(Option::is_some) => return Some(Instant::default()),
            State::Measuring(.., until) => return Some(*until),
            _ => return Some(self.end()),
        };
        let look = attempt.is_heard().then_some(self.look_at);
        attempt.next_timer().into_iter().chain(look).chain([self.end()]).min()
    }

    /// A way is open. Returns whether HELLO is to go there: the one that has asked begins.
    pub(super) fn on_open(&mut self, now: Instant, route: Route) -> bool {
        let is_new = self.open.is_none_or(|(known, _)| known != route);
        if is_new {
            self.open = Some((route, now + AGAIN));
        }
        is_new && self.is_asker
    }

    /// The way that is open, if HELLO is to go there once more.
    pub(super) fn open_again(&mut self, now: Instant) -> Option<Route> {
        let (route, at) = self.open.as_mut().filter(|(_, at)| *at <= now)?;
        *at = now + AGAIN;
        self.is_asker.then_some(*route)
    }

    /// PUNCHes that are due.
    pub(super) fn on_timer(&mut self, now: Instant) -> Vec<(Route, Vec<u8>)> {
        self.look_at = now + LOOK;
        let Some(attempt) = self.attempt_mut() else {
            return Vec::new();
        };
        let packets = attempt.on_timer(now).into_iter();
        packets.map(|(link, packet)| (Route::over(link), packet)).collect()
    }

    /// The next record, or that there is none any more.
    pub(super) fn read(&mut self, now: Instant, host: &mut Host) -> Option<Result<Record, ()>> {
        read(now, host, self.stream, &mut self.record)
    }

    /// Returns what is to be said of it.
    pub(super) fn report(&self) -> SprayReport {
        let (sockets, sent) = match &self.state {
            State::Punching(attempt, _, (sockets, _)) => (*sockets, attempt.sent()),
            _ => (0, 0),
        };
        SprayReport {
            role: self.role.map(|role| match role {
                Role::Easy => SprayRole::ToPorts,
                Role::Hard => SprayRole::FromSockets,
            }),
            own: self.deal.own,
            theirs: self.deal.theirs,
            sockets,
            sent,
            outcome: SprayOutcome::UnderWay,
        }
    }
}

/// Streams of those who have not said yet what they want.
#[derive(Default)]
pub(super) struct Visits(Vec<Visit>);

struct Visit {
    stream: StreamId,
    eid: Eid,
    record: Vec<u8>,
    until: Instant,
}

impl Visits {
    /// Adds one. False if there are too many.
    pub(super) fn add(&mut self, now: Instant, stream: StreamId, eid: Eid) -> bool {
        let has_room = self.0.len() < MAX_VISITS;
        if has_room {
            self.0.push(Visit {
                stream,
                eid,
                record: Vec::new(),
                until: now + TALK,
            });
        }
        has_room
    }

    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.0.iter().any(|visit| visit.stream == stream)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.0.iter().map(|visit| visit.until).min()
    }

    /// Gives those up that say nothing.
    pub(super) fn expire(&mut self, now: Instant, host: &mut Host) {
        for visit in self.0.extract_if(.., |visit| visit.until <= now) {
            super::end(host, visit.stream);
        }
    }

    /// Reads on. `None` if it is none of these, or has not said all; then it is one no more.
    pub(super) fn read(
        &mut self,
        now: Instant,
        host: &mut Host,
        stream: StreamId,
    ) -> Option<Result<(Eid, Record), ()>> {
        let at = self.0.iter().position(|visit| visit.stream == stream)?;
        let visit = self.0.get_mut(at)?;
        let said = read(now, host, stream, &mut visit.record)?;
        let Visit { eid, .. } = self.0.swap_remove(at);
        Some(said.map(|record| (eid, record)))
    }
}

/// Reads on in a record. `Err`: there is none any more, or none that makes sense.
fn read(now: Instant, host: &mut Host, stream: StreamId, record: &mut Vec<u8>) -> Option<Result<Record, ()>> {
    loop {
        let room = (MAX_RECORD + 1).saturating_sub(record.len());
        match host.stream(stream).poll_read(now, room) {
            Poll::Pending => return None,
            Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) if record.len() + bytes.len() <= MAX_RECORD => {
                record.extend_from_slice(&bytes);
            }
            Poll::Ready(Ok(ReadOutcome::Mark)) => {
                return Some(Record::decode(&std::mem::take(record)).map_err(|_| ()));
            }
            Poll::Ready(Ok(_) | Err(_)) => return Some(Err(())),
        }
    }
}
