//! From the socket to the core.
//!
//! 1. one call fills several buffers, each with one datagram or one GRO batch;
//! 2. a batch that fills a good part of its buffer is taken with the buffer; a small one is moved to a slab that it
//!    shares with others, so that a slice of it keeps no large buffer alive for little;
//! 3. under the lock, the core takes the batches, decrypts them in place, and dispatches their frames: the readers of
//!    streams get slices of them; what is too much for one round waits for the next;
//! 4. what strangers ask for comes after all else that has arrived, for a bounded time; what is left waits for the next
//!    round (NEG-39). What is in one batch makes no difference to that: its sender chooses it.
//!
//! Buffers and slabs are used again once nobody holds a slice of them.

mod memory;
mod staged;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
#[cfg(feature = "stun")]
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, RecvMeta};
use sss_proto::{Greeter, Input, Instant, SocketId};

pub(super) use memory::BUFFER;
use memory::Memory;
pub(super) use staged::Staged;
use staged::{Class, Origin};

use super::SocketStats;
use super::further::{Further, Takes};
use super::rounds::Rounds;
use super::shards::{Handed, MAX_TAKEN, Member};
use super::socket::Socket;
use crate::shared::Shared;
#[cfg(feature = "stun")]
use crate::stun::desk::Questions;

/// Batches of so many bytes keep their buffer.
const MIN_KEPT: usize = BUFFER / 4;
/// Receiving calls before what arrived is answered.
const MAX_CALLS: usize = 8;
/// Rounds for which the negotiation waits at most, while all of them have enough to do without it.
const MAX_FULL_ROUNDS: u8 = 16;
/// Batches of the negotiation between two releases of the lock.
const NEGOTIATION_STEP: usize = 8;
/// Batches that wait, at most, of the negotiation and of all else. What is beyond is dropped, as the system drops what
/// is too much.
const MAX_WAITING: usize = 1024;
/// INITIATEs in a round that keep their place before the packets of the channel that they begin.
const MAX_INITIATES: usize = 16;

/// Number of buffers that a call is offered at least.
const MIN_WIDTH: usize = 2;

thread_local! {
    /// Buffers that were offered and not filled. All hosts that run on a thread have them in turn.
    static OFFERED: Cell<Vec<BytesMut>> = const { Cell::new(Vec::new()) };
}

/// Reads the socket and feeds the core.
pub(crate) struct Receiver {
    /// Those of [`OFFERED`], while this runs.
    offered: Vec<BytesMut>,
    memory: Memory,
    meta: [RecvMeta; BATCH_SIZE],
    /// Number of buffers offered to the next call: as many as the last ones could use.
    width: usize,
    rounds: Rounds,
    /// Rounds in a row that had enough to do without the negotiation.
    full_rounds: u8,
    /// INITIATEs that kept their place in this round.
    initiates: usize,
    staged: VecDeque<Staged>,
    /// Batches of strangers who ask for something, for when the others are done.
    negotiation: VecDeque<Staged>,
    /// Way to somebody else who takes greetings.
    divert: Option<SyncSender<Staged>>,
    /// Questions to STUN servers, of a host that has some.
    #[cfg(feature = "stun")]
    questions: Option<Arc<Questions>>,
    /// Place among several shards.
    member: Option<Member>,
}

/// Time that answers of a negotiation have taken, without what came between them: what only seems to be an answer ends
/// no round of others.
#[derive(Default)]
struct Answering(Duration);

impl Answering {
    /// Gives something to the core, which may compute an answer if it `is_costly`. Returns whether the round is over
    /// then.
    fn feed(&mut self, rounds: &Rounds, is_costly: bool, now: impl Fn() -> Instant, feed: impl FnOnce()) -> bool {
        if !is_costly {
            feed();
            return false;
        }
        let begun = now();
        feed();
        self.0 += now().since(begun);
        rounds.is_over(self.0, true)
    }
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            offered: Vec::new(),
            memory: Memory::default(),
            meta: [RecvMeta::default(); BATCH_SIZE],
            width: MIN_WIDTH,
            rounds: Rounds::new(),
            full_rounds: 0,
            initiates: 0,
            staged: VecDeque::new(),
            negotiation: VecDeque::new(),
            divert: None,
            #[cfg(feature = "stun")]
            questions: None,
            member: None,
        }
    }

    /// The same, of one of several shards.
    pub(crate) fn with_place(self, member: Option<Member>) -> Self {
        Self { member, ..self }
    }

    /// One for a host, whose questions to STUN servers are answered by what comes.
    pub(crate) fn of(shared: &Shared) -> Self {
        #[cfg(feature = "stun")]
        return Self {
            questions: shared.stun().map(|stun| Arc::clone(stun.questions())),
            ..Self::new()
        };
        #[cfg(not(feature = "stun"))]
        {
            let _ = shared;
            Self::new()
        }
    }

    /// Returns whether a batch is taken for answers of STUN servers (RCH-53). What is none is left to the core, which
    /// counts it.
    fn is_answer(&self, staged: &Staged) -> bool {
        #[cfg(feature = "stun")]
        if let Some(questions) = &self.questions
            && staged.data.first().copied().is_some_and(Questions::may_take)
            && staged.socket.is_none()
        {
            let datagrams = staged.data.chunks(staged.stride);
            // All of them are looked at.
            let taken = datagrams.filter(|datagram| questions.take(staged.remote, datagram));
            return taken.count() > 0;
        }
        let _ = staged;
        false
    }

    /// Gives greetings to somebody else from now on, those that wait too; or no longer.
    #[cfg(target_os = "linux")]
    pub(super) fn divert(&mut self, to: Option<SyncSender<Staged>>) {
        self.divert = to;
        for staged in std::mem::take(&mut self.negotiation) {
            self.negotiation.extend(self.diverted(staged));
        }
    }

    /// Takes a greeting that was admitted.
    #[cfg(target_os = "linux")]
    pub(super) fn admit(&mut self, mut greeting: Staged, stats: &mut SocketStats) {
        greeting.origin = Origin::Greeter;
        self.put(greeting, stats);
    }

    /// Takes what other shards have handed over. The task of `cx` is woken when there is more.
    fn take_handed(&mut self, cx: &mut Context<'_>, shared: &Shared, stats: &mut SocketStats) {
        for _ in 0..MAX_TAKEN {
            let handed = self.member.as_mut().map(|member| member.poll_handed(cx));
            let Some(Poll::Ready(Some(handed))) = handed else {
                return;
            };
            match handed {
                Handed::Datagram(datagram) => self.put(datagram, stats),
                Handed::Stray(packet) => shared.drive(|inner, now| inner.handle(now, Input::Stray(&packet))),
            }
        }
    }

    /// Has other shards look at what this one does not know.
    pub(super) fn spread(&self, strays: &[Vec<u8>]) {
        let member = self.member.iter();
        member.for_each(|member| strays.iter().for_each(|stray| member.spread(stray)));
    }

    /// Puts a batch where it waits for the core, except for datagrams that are for other shards.
    fn sort(&mut self, staged: Staged, stats: &mut SocketStats) {
        let is_foreign = |member: &Member| staged.datagrams().any(|datagram| member.other(datagram).is_some());
        if !self.member.as_ref().is_some_and(is_foreign) {
            return self.put_runs(staged, stats);
        }
        for datagram in staged.datagrams() {
            let part = staged.part(datagram);
            let other = self
                .member
                .as_ref()
                .and_then(|member| Some((member, member.other(datagram)?)));
            let Some((member, index)) = other else {
                self.put(part, stats);
                continue;
            };
            match member.hand_over(index, part) {
                true => stats.handed_over += 1,
                false => stats.receive_dropped += 1,
            }
        }
    }

    /// Puts the datagrams of a batch where they wait for the core: together, as far as they are of one class, and no
    /// more INITIATEs than may keep their place. Whoever sends them chooses what is in one batch.
    fn put_runs(&mut self, mut staged: Staged, stats: &mut SocketStats) {
        while let Some(rest) = staged.split_run(self.initiates_left()) {
            self.put(std::mem::replace(&mut staged, rest), stats);
        }
        self.put(staged, stats);
    }

    /// INITIATEs that may keep their place yet in this round.
    fn initiates_left(&self) -> usize {
        MAX_INITIATES.saturating_sub(self.initiates)
    }

    /// Puts a batch of datagrams of one class where it waits for the core.
    pub(super) fn put(&mut self, staged: Staged, stats: &mut SocketStats) {
        if self.is_answer(&staged) {
            return;
        }
        let (queue, staged) = match self.keeps_its_place(&staged) {
            true => (&mut self.staged, staged),
            false => match self.diverted(staged) {
                Some(staged) => (&mut self.negotiation, staged),
                None => return,
            },
        };
        match queue.len() < MAX_WAITING {
            true => queue.push_back(staged),
            false => stats.receive_dropped += 1,
        }
    }

    /// Returns whether the core takes a batch in the order in which it came. Packets of a channel often follow INITIATE
    /// and ACCEPT at once, and are of no use before them.
    fn keeps_its_place(&mut self, staged: &Staged) -> bool {
        match staged.class() {
            Class::Request => false,
            Class::Initiate => {
                let is_one_of_few = self.initiates_left() > 0;
                self.initiates += if is_one_of_few { staged.datagrams().count() } else { 0 };
                is_one_of_few
            }
            Class::Answer | Class::Other => true,
        }
    }

    /// Returns the batch, unless somebody else has taken it.
    fn diverted(&self, staged: Staged) -> Option<Staged> {
        let is_greeting = staged.data.first().is_some_and(|first| Greeter::is_greeting(*first));
        match &self.divert {
            Some(divert) if is_greeting && !staged.is_admitted() && staged.socket.is_none() => {
                match divert.try_send(staged) {
                    Ok(()) => None,
                    Err(TrySendError::Full(staged) | TrySendError::Disconnected(staged)) => Some(staged),
                }
            }
            _ => Some(staged),
        }
    }

    /// Returns whether batches wait for the next round.
    pub(crate) fn has_waiting(&self) -> bool {
        let is_handed = self.member.as_ref().is_some_and(Member::has_waiting);
        is_handed || !self.negotiation.is_empty() || !self.staged.is_empty()
    }

    /// Receives what has arrived, up to a bound, and gives it to the core. When more may be there, the
    /// socket is still ready; else the task of `cx` is woken when there is.
    pub(crate) fn run(
        &mut self,
        cx: &mut Context<'_>,
        (socket, further): (&mut Socket, &mut Further),
        shared: &Shared,
        stats: &mut SocketStats,
    ) {
        self.take_handed(cx, shared, stats);
        self.offered = OFFERED.take();
        let is_full = self.read(cx, socket, shared, stats);
        self.read_further(cx, further, shared, stats);
        OFFERED.set(std::mem::take(&mut self.offered));
        self.initiates = 0;
        if !self.yields_to(is_full) {
            self.negotiate(shared);
        }
    }

    /// Returns whether the negotiation waits for the next round, because this one `is_full`.
    fn yields_to(&mut self, is_full: bool) -> bool {
        let yields = is_full && self.full_rounds < MAX_FULL_ROUNDS;
        self.full_rounds = if yields { self.full_rounds + 1 } else { 0 };
        yields
    }

    /// Steps 1 to 3, for all that has arrived, up to a bound. Returns whether more may be there.
    fn read(&mut self, cx: &mut Context<'_>, socket: &mut Socket, shared: &Shared, stats: &mut SocketStats) -> bool {
        let mut left = self.rounds.limit();
        for _ in 0..MAX_CALLS {
            left = left.saturating_sub(self.feed(shared, left));
            if left == 0 || !self.staged.is_empty() {
                return true;
            }
            if !matches!(socket.poll_readable(cx), Poll::Ready(Ok(()))) {
                return false;
            }
            match self.fill(socket) {
                Ok(filled) => {
                    stats.receive_calls += 1;
                    self.stage(filled, None, stats);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    stats.receive_errors += 1;
                    tracing::debug!(%error, "receiving failed");
                }
            }
        }
        self.feed(shared, left);
        true
    }

    /// The same for the further sockets.
    fn read_further(&mut self, cx: &mut Context<'_>, further: &mut Further, shared: &Shared, stats: &mut SocketStats) {
        for (id, takes, socket) in further.iter_mut() {
            for _ in 0..MAX_CALLS {
                if !matches!(socket.poll_readable(cx), Poll::Ready(Ok(()))) {
                    break;
                }
                match self.fill(socket) {
                    Ok(filled) => {
                        stats.receive_calls += 1;
                        self.stage(filled, Some((id, takes)), stats);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => {
                        stats.receive_errors += 1;
                        tracing::debug!(%error, "receiving failed");
                    }
                }
            }
            if !self.staged.is_empty() {
                let limit = self.rounds.limit();
                self.feed(shared, limit);
            }
        }
    }

    /// Returns whether what was given to the core since the last [`Self::count`] may be a single request or answer.
    pub(crate) fn is_for_one(&self) -> bool {
        self.rounds.is_for_one()
    }

    /// Those who are woken run on this thread, if that is set.
    pub(crate) fn set_one_thread(&mut self, is_so: bool) {
        self.rounds = Rounds::new().on_one_thread(is_so);
    }

    /// Takes note of all calls that the application has made until `now`.
    pub(crate) fn count(&mut self, now: Instant, calls: u64) {
        self.rounds.count(now, calls);
    }

    /// Number of tasks to wake in this round, of so many that are to be woken.
    pub(crate) fn woken(&mut self, waiting: usize) -> usize {
        self.rounds.woken(waiting)
    }

    /// Step 1.
    fn fill(&mut self, socket: &mut Socket) -> io::Result<usize> {
        while self.offered.len() < self.width {
            self.offered.push(BytesMut::zeroed(BUFFER));
        }
        let mut buffers = self.offered.iter_mut().take(self.width);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().map_or(&mut [], |b| &mut b[..])));
        let offered = slices.get_mut(..self.width).unwrap_or_default();
        let filled = socket.receive(offered, &mut self.meta)?;
        if filled >= self.width {
            self.width = (self.width * 2).min(BATCH_SIZE);
        } else if filled * 4 <= self.width {
            self.width = (self.width / 2).max(MIN_WIDTH);
        }
        Ok(filled)
    }

    /// Step 2.
    fn stage(&mut self, filled: usize, further: Option<(SocketId, Takes)>, stats: &mut SocketStats) {
        for (at, meta) in self.meta.into_iter().enumerate().take(filled) {
            let Some(buffer) = self.offered.get_mut(at) else {
                continue;
            };
            let len = meta.len.min(buffer.len());
            let taken = buffer.get(..len).unwrap_or_default();
            if len == 0 || further.is_some_and(|(_, takes)| !takes.allows(taken, meta.stride)) {
                continue;
            }
            let (data, origin) = if len >= MIN_KEPT {
                let mut data = std::mem::replace(buffer, self.memory.buffers.take());
                data.truncate(len);
                (data, Origin::Buffer)
            } else {
                (self.memory.slabs.copy(&buffer[..len]), Origin::Slab)
            };
            let socket = further.map(|(id, _)| id);
            let staged = Staged::new(&meta, data, origin);
            self.sort(Staged { socket, ..staged }, stats);
        }
    }

    /// Step 3, up to about so many bytes. Returns how many it were; all of them, if the time of the round is over.
    fn feed(&mut self, shared: &Shared, limit: usize) -> usize {
        if self.staged.is_empty() {
            return 0;
        }
        let (mut fed, mut is_over, mut answering) = (0, false, Answering::default());
        shared.drive(|inner, now| {
            while fed < limit
                && let Some(mut batch) = self.staged.pop_front()
            {
                let is_costly = batch.class().is_costly();
                let rest = match is_costly {
                    // Time is looked at behind each.
                    true => batch.split_at(batch.stride),
                    false => batch.split_off(limit - fed),
                };
                if let Some(rest) = rest {
                    self.staged.push_front(rest);
                }
                fed += batch.data.len();
                let (clock, buffers) = (shared.clock(), &mut self.memory.buffers);
                let feed = || batch.feed(inner, now, buffers);
                is_over = answering.feed(&self.rounds, is_costly, || clock.now(), feed);
                if is_over {
                    return;
                }
            }
        });
        self.rounds.feed(fed);
        if is_over { limit } else { fed }
    }

    /// Step 4. Others get the lock between its parts.
    fn negotiate(&mut self, shared: &Shared) {
        let begun = shared.clock().now();
        let (mut is_over, mut answering) = (false, Answering::default());
        while !is_over && !self.negotiation.is_empty() {
            shared.drive(|inner, now| {
                for _ in 0..NEGOTIATION_STEP {
                    let Some(mut batch) = self.negotiation.pop_front() else {
                        return;
                    };
                    if let Some(rest) = batch.split_at(batch.stride) {
                        self.negotiation.push_front(rest);
                    }
                    let is_costly = batch.class().is_costly();
                    let (clock, buffers) = (shared.clock(), &mut self.memory.buffers);
                    let feed = || batch.feed(inner, now, buffers);
                    is_over = answering.feed(&self.rounds, is_costly, || clock.now(), feed)
                        || self.rounds.is_over(clock.now().since(begun), false);
                    if is_over {
                        return;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
impl Receiver {
    /// Takes it to be far better that few are woken in pairs, for some seconds.
    pub(super) fn prefer_pairs(&mut self) {
        self.rounds.prefer_pairs();
    }
}

#[cfg(test)]
mod tests;
