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
mod tests {
    use std::net::UdpSocket;

    use sss_wire::long::Kind;

    use super::super::socket;
    use super::*;

    // Threat 2.
    // spec: NEG-39
    #[tokio::test]
    async fn threat_02_packets_of_channels_are_taken_in_before_a_flood_that_came_first() {
        let mut ours = Socket::new(socket::bind("127.0.0.1:0".parse().unwrap(), 4 << 20).unwrap()).unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
        let (mut others, mut first) = (0, None);
        for _ in 0..110 {
            for kind in std::iter::repeat_n(0x80, 10).chain([0x40]) {
                theirs.send_to(&[kind; 100], ours.local_addr()).unwrap();
            }
            let mut arrived = 0;
            while arrived < 11 {
                std::future::poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
                let Ok(filled) = receiver.fill(&mut ours) else {
                    continue;
                };
                arrived += receiver
                    .meta
                    .iter()
                    .take(filled)
                    .map(|meta| meta.len / 100)
                    .sum::<usize>();
                receiver.stage(filled, None, &mut stats);
                // What the core is given at once, and before anything that waits.
                for staged in receiver.staged.drain(..) {
                    assert_eq!(staged.data[0], 0x40);
                    others += 1;
                }
            }
            first = first.or(receiver.negotiation.front().map(|staged| staged.data[0]));
        }
        assert_eq!((others, first), (110, Some(0x80)));
        assert!(receiver.has_waiting());
        let waiting: usize = receiver.negotiation.iter().map(|staged| staged.data.len() / 100).sum();
        assert_eq!(
            receiver.negotiation.len(),
            MAX_WAITING,
            "and no more, however long the flood lasts"
        );
        assert_eq!(waiting as u64 + stats.receive_dropped, 1100);
    }

    // spec: NEG-39
    #[tokio::test]
    async fn the_negotiation_waits_for_some_rounds_that_are_full_and_not_for_ever() {
        let mut receiver = Receiver::new();
        for _ in 0..2 * usize::from(MAX_FULL_ROUNDS) {
            assert!(receiver.yields_to(true));
            if receiver.full_rounds == MAX_FULL_ROUNDS {
                break;
            }
        }
        assert!(!receiver.yields_to(true), "its turn, after so many");
        assert!(receiver.yields_to(true));
        assert!(!receiver.yields_to(false), "its turn, when there is nothing else");
    }

    /// A batch of one datagram.
    fn alone(kind: u8) -> Staged {
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (50, 50);
        Staged::new(&meta, [kind; 50][..].into(), Origin::Slab)
    }

    #[test]
    fn answers_of_a_negotiation_that_take_long_end_a_round_and_nothing_else_does() {
        let core = sss_proto::Host::new(
            sss_proto::Config::default(),
            sss_crypto::StaticKey::from_bytes([1; 32]),
            [7; 32],
        );
        let shared = Shared::new(core, ([127, 0, 0, 1], 1).into());
        let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
        receiver.rounds = Rounds::new().with_slow_negotiation();
        let short = 0x40;
        for kind in [short, short, Kind::Initiate as u8, short, Kind::Accept as u8, short] {
            receiver.put(alone(kind), &mut stats);
        }
        let mut left = Vec::new();
        while !receiver.staged.is_empty() {
            let fed = receiver.feed(&shared, 1000);
            left.push((receiver.staged.len(), fed));
        }
        assert_eq!(left, [(3, 1000), (1, 1000), (0, 50)]);
        let kinds = [Kind::Initiate, Kind::Hello, Kind::Hello, Kind::Initiate, Kind::Hello];
        for kind in kinds {
            receiver.negotiation.push_back(alone(kind as u8));
        }
        let mut left = Vec::new();
        while !receiver.negotiation.is_empty() {
            receiver.negotiate(&shared);
            left.push(receiver.negotiation.len());
        }
        assert_eq!(left, [4, 1, 0]);
    }

    #[test]
    fn a_round_ends_by_what_answers_take_and_not_by_what_comes_between_them() {
        let clock = Cell::new(0);
        let rounds = Rounds::new().on_one_thread(true);
        let mut answering = Answering::default();
        let mut takes = |is_costly, micros: u64| {
            let now = || Instant::from_nanos(clock.get() * 1000);
            answering.feed(&rounds, is_costly, now, || clock.set(clock.get() + micros))
        };
        // Much of others, and what only seems to be an answer.
        assert!(!takes(false, 10_000_000));
        for _ in 0..20 {
            assert!(!takes(true, 1) && !takes(false, 400));
        }
        assert!(takes(true, 40));
    }

    // Threat 2.
    // spec: NEG-39
    #[test]
    fn threat_02_what_is_in_one_batch_gains_nothing() {
        let core = sss_proto::Host::new(
            sss_proto::Config::default(),
            sss_crypto::StaticKey::from_bytes([1; 32]),
            [7; 32],
        );
        let shared = Shared::new(core, ([127, 0, 0, 1], 1).into());
        const SHORT: u8 = 0x40;
        let kinds = |staged: &VecDeque<Staged>| -> Vec<Vec<u8>> {
            let of = |staged: &Staged| staged.datagrams().map(|datagram| datagram[0]).collect();
            staged.iter().map(of).collect()
        };
        for origin in [Origin::Slab, Origin::Buffer] {
            let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
            receiver.rounds = Rounds::new().with_slow_negotiation();
            let [hello, initiate, accept] = [Kind::Hello, Kind::Initiate, Kind::Accept].map(|kind| kind as u8);
            let batch = |receiver: &mut Receiver, kinds: &[u8], stats: &mut SocketStats| {
                let bytes: Vec<u8> = kinds.iter().flat_map(|kind| [*kind; 50]).collect();
                let mut meta = RecvMeta::default();
                meta.stride = 50;
                receiver.sort(Staged::new(&meta, bytes[..].into(), origin), stats);
            };
            // Behind a packet that seems to be of a channel, and behind one that few are let pass of.
            batch(&mut receiver, &[SHORT, SHORT, hello, hello, SHORT], &mut stats);
            batch(&mut receiver, &[initiate, hello, accept, accept, SHORT], &mut stats);
            let expected: [&[u8]; 5] = [&[SHORT, SHORT], &[SHORT], &[initiate], &[accept, accept], &[SHORT]];
            assert_eq!(kinds(&receiver.staged), expected);
            let expected: [&[u8]; 2] = [&[hello, hello], &[hello]];
            assert_eq!(kinds(&receiver.negotiation), expected);
            // Time is looked at behind each that may take long.
            let mut left = Vec::new();
            while !receiver.staged.is_empty() {
                receiver.feed(&shared, 10_000);
                left.push(receiver.staged.len());
            }
            assert_eq!(left, [2, 2, 1, 0]);
            receiver.negotiation.clear();
            // And each counts.
            batch(&mut receiver, &[initiate; 60], &mut stats);
            let left: Vec<usize> = [&receiver.staged, &receiver.negotiation]
                .map(kinds)
                .iter()
                .flatten()
                .map(Vec::len)
                .collect();
            assert_eq!(left, [MAX_INITIATES - 1, 61 - MAX_INITIATES]);
            let mut rounds = 0;
            while !receiver.negotiation.is_empty() {
                receiver.negotiate(&shared);
                rounds += 1;
            }
            assert_eq!(rounds, 61 - MAX_INITIATES);
        }
    }

    // spec: NEG-39
    #[tokio::test]
    async fn what_begins_a_channel_is_taken_in_before_what_follows_on_it() {
        let (mut receiver, mut stats) = (Receiver::new(), SocketStats::default());
        let short = 0x40;
        for kind in [
            Kind::Hello as u8,
            Kind::Initiate as u8,
            short,
            Kind::Accept as u8,
            short,
        ] {
            receiver.put(alone(kind), &mut stats);
        }
        let kinds: Vec<u8> = receiver.staged.iter().map(|staged| staged.data[0]).collect();
        assert_eq!(kinds, [Kind::Initiate as u8, short, Kind::Accept as u8, short]);
        assert_eq!(receiver.negotiation.len(), 1);
        // Not many strangers at once.
        for _ in 0..100 {
            receiver.put(alone(Kind::Initiate as u8), &mut stats);
        }
        assert_eq!(receiver.staged.len(), 3 + MAX_INITIATES);
        // What others have read comes whatever waits.
        for _ in 0..2 * MAX_WAITING {
            receiver.put(alone(short), &mut stats);
        }
        assert_eq!(receiver.staged.len(), MAX_WAITING);
        assert!(stats.receive_dropped > 0);
    }

    #[test]
    fn a_round_takes_whole_datagrams_and_leaves_the_rest_in_order() {
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (250, 100);
        let bytes: Vec<u8> = (0..250).collect();
        let mut batch = Staged::new(&meta, bytes[..].into(), Origin::Slab);
        let rest = batch.split_off(101).unwrap();
        assert_eq!((&batch.data[..], &rest.data[..]), (&bytes[..200], &bytes[200..]));
        assert_eq!((batch.stride, rest.stride), (100, 100));
        assert!(batch.split_off(101).is_none(), "the second datagram has begun");
        assert!(
            Staged::new(&meta, bytes[..].into(), Origin::Buffer)
                .split_off(100)
                .is_none()
        );
    }

    // Threat 48.
    // spec: NEG-42
    #[tokio::test]
    async fn threat_48_what_another_shard_does_not_take_is_dropped_and_counted() {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut members = Member::group(3, 4).into_iter();
        let mut with_place = || Receiver::new().with_place(members.next());
        let (mut first, mut second, third) = (with_place(), with_place(), with_place());
        drop(third);
        let short = |mark: u8| [0x40, 1, 2, 3, 4, mark, 5, 6];
        let batch = |marks: &[u8]| {
            let datagrams: Vec<u8> = marks.iter().copied().flat_map(short).collect();
            let mut meta = RecvMeta::default();
            meta.stride = 8;
            Staged::new(&meta, datagrams[..].into(), Origin::Slab)
        };
        let mut stats = SocketStats::default();
        // All of it is its own: it stays one batch.
        first.sort(batch(&[0, 3, 6]), &mut stats);
        assert_eq!((first.staged.len(), stats.handed_over), (1, 0));
        first.sort(batch(&[9, 1, 12, 2, 4]), &mut stats);
        assert_eq!(
            (first.staged.len(), stats.handed_over, stats.receive_dropped),
            (3, 2, 1)
        );
        // What asks for one that is gone is answered.
        let hello = [0x80, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0];
        let meta = RecvMeta::default();
        first.sort(
            Staged {
                stride: 13,
                ..Staged::new(&meta, hello[..].into(), Origin::Slab)
            },
            &mut stats,
        );
        assert_eq!((first.negotiation.len(), stats.receive_dropped), (1, 1));
        let core = sss_proto::Host::new(
            sss_proto::Config::default(),
            sss_crypto::StaticKey::from_bytes([1; 32]),
            [7; 32],
        );
        let shared = Shared::new(core, ([127, 0, 0, 1], 1).into());
        assert!(second.has_waiting());
        second.take_handed(cx, &shared, &mut stats);
        let taken: Vec<u8> = second.staged.drain(..).map(|staged| staged.data[5]).collect();
        assert_eq!((taken, second.has_waiting()), (vec![1, 4], false));
        // One that takes nothing for a while.
        let mut stats = SocketStats::default();
        (0..3000).for_each(|_| first.sort(batch(&[1]), &mut stats));
        assert_eq!((stats.handed_over, stats.receive_dropped), (1024, 1976));
        let mut rounds = 0;
        while second.has_waiting() {
            // The runtime lets a task take so much at a time.
            tokio::task::yield_now().await;
            second.take_handed(cx, &shared, &mut stats);
            assert!(second.staged.drain(..).count() <= MAX_TAKEN);
            rounds += 1;
        }
        assert!(rounds >= 8, "others have their turn");
    }
}
