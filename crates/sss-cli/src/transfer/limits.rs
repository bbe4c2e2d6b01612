//! The server's limits: who may have how many requests at hand, descriptors open and bytes read ahead, each peer and
//! all together.
//!
//! 1. A request is *at hand* from its acceptance until its answer has arrived. It holds nothing else while it waits.
//! 2. While it moves it holds a descriptor, and room for the bytes that were read and have not arrived. Those whose
//!    pieces leave slowly have room of their own, which they share: however many they are, who reads quickly finds
//!    room.
//! 3. [`Limits::look`] is the clock. Whoever has not moved for [`PATIENCE`] is called to *pause*: it gives back
//!    descriptor and buffers and keeps its stream and its position. While anybody waits, [`BRIEF`] is enough; and at
//!    once whoever has more is called while others wait who have less, the network and the peer that have most first,
//!    and of theirs what moved least.
//! 4. However slowly it moves, what somebody holds is for a [`TURN`] while others wait who have nothing: then those
//!    are called too who have no more than others.
//! 5. If that is not enough for somebody who has nothing, or not half of its part, because what is under way to a peer
//!    that is gone cannot be taken back, the requests of those who have most are given up, those first that moved
//!    least; those of peers that cannot be reached before all others, however little they have. For whoever has nothing
//!    at all so are those that move, after [`PATIENCE`], where pausing is of no use:
//!    requests at hand, and directories that are made.
//!
//! Whoever is served next, and who has most, is decided by [`Shares`]. A request that waits keeps its stream, and costs
//! a few KiB: there may be many, so that those of slow peers need not be given up.

pub(crate) mod descriptors;
pub(crate) mod guests;
mod room;
pub(crate) mod shares;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sss::Eid;
use sss_files::Refusal;
use tokio::sync::{Notify, oneshot};

use self::descriptors::descriptors;
pub(crate) use self::descriptors::{descriptors_left, too_many_open};
use self::guests::Guests;
pub(crate) use self::room::{Heir, Room};
use self::shares::{Cost, Holding, Owner, Share, Shares};
use super::io_pool;

/// Time after which a request that does not move gives back what it holds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The same time while anybody waits for it.
const BRIEF: Duration = Duration::from_secs(1);
/// Time for which somebody has what others, who have less, wait for.
const TURN: Duration = Duration::from_secs(1);
/// Between two looks of the clock.
const LOOK: Duration = Duration::from_millis(250);

/// Requests at hand: of all peers, and of one (FIL-1).
const REQUESTS: u64 = 12_288;
const REQUESTS_OF_ONE: u64 = 512;
/// Sessions: of all peers, and of one.
const SESSIONS: u64 = 4096;
const SESSIONS_OF_ONE: u64 = 64;
/// Listings and makings under way: of all peers, and of one. Each may hold the names of a large directory.
const WALKS: u64 = 64;
const WALKS_OF_ONE: u64 = 8;
/// Requests MAKE under way: of all peers, and of one.
const MAKINGS: u64 = 256;
const MAKINGS_OF_ONE: u64 = 16;
/// Bytes that were read and have not arrived: of all peers, and of one; and the same of requests whose pieces leave
/// slowly.
const BYTES: u64 = 30 << 20;
const BYTES_OF_ONE: u64 = 15 << 20;
const SLOW_BYTES: u64 = 10 << 20;
const SLOW_BYTES_OF_ONE: u64 = 5 << 20;
/// Time after which the request of a peer that cannot be reached is given up for the sake of others, if it stands.
const GONE: Duration = Duration::from_secs(3);
/// Number of times that files are opened while the system has no descriptor left, and the time between them.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Wish to a request, for the sake of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// To give back descriptor and buffers, and to wait until it can move.
    Pause,
    /// To end.
    GiveUp,
}

/// Everything that requests share. One for each directory that is served.
pub(crate) struct Limits {
    pub(crate) sessions: Arc<Guests>,
    requests: Shares,
    descriptors: Shares,
    bytes: Shares,
    slow_bytes: Shares,
    pub(crate) walks: Shares,
    makings: Shares,
    /// Turns of threads that hash what peers say they have.
    pub(crate) hashing: Shares,
    at_hand: Mutex<AtHand>,
}

#[derive(Default)]
struct AtHand {
    next: u64,
    requests: BTreeMap<u64, Arc<Entry>>,
}

/// Kind of things that requests hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Requests,
    Descriptors,
    /// Bytes read ahead.
    Bytes,
    /// Bytes read ahead for requests whose pieces leave slowly.
    SlowBytes,
    Walks,
    Makings,
}

/// Knowledge of the clock about a request.
struct Entry {
    owner: Owner,
    is_paused: AtomicBool,
    /// Set if its last piece has left slowly.
    is_slow: AtomicBool,
    is_gone: OnceLock<IsGone>,
    clock: Mutex<Clock>,
    called: Notify,
}

/// Function that tells whether the peer of a session cannot be reached.
pub(crate) type IsGone = Arc<dyn Fn() -> bool + Send + Sync>;

struct Clock {
    moved: Instant,
    call: Option<Call>,
    /// Whoever gets the next room that is free.
    heir: Option<oneshot::Sender<Room>>,
    request: Held,
    descriptors: Held,
    bytes: Held,
    slow_bytes: Held,
    walks: Held,
    makings: Held,
}

/// Number of things of one kind that a request holds, and since when it holds any.
#[derive(Clone, Copy)]
struct Held {
    count: u64,
    since: Instant,
}

/// The claim of a request that is at hand to what is shared. It is given back when this is dropped.
pub(crate) struct Claim {
    limits: Arc<Limits>,
    entry: Arc<Entry>,
    id: u64,
    _share: Share,
}

/// Things of one kind that a request holds, such as the right to have a file open.
pub(crate) struct Part {
    entry: Arc<Entry>,
    kind: Kind,
    count: u64,
    share: Share,
}

impl Limits {
    /// Limits that fit to what the system allows this process, after asking for as much as it may have.
    pub(crate) fn new(threads: usize) -> Self {
        let descriptors = descriptors();
        Self {
            sessions: Arc::new(Guests::new(SESSIONS, SESSIONS_OF_ONE)),
            requests: Shares::new(REQUESTS, REQUESTS_OF_ONE),
            descriptors: Shares::new(descriptors, descriptors),
            bytes: Shares::new(BYTES, BYTES_OF_ONE),
            slow_bytes: Shares::new(SLOW_BYTES, SLOW_BYTES_OF_ONE),
            walks: Shares::new(WALKS, WALKS_OF_ONE),
            makings: Shares::new(MAKINGS, MAKINGS_OF_ONE),
            hashing: Shares::new(threads.saturating_sub(1).max(1) as u64, 1),
            at_hand: Mutex::default(),
        }
    }

    /// Takes a request to hand, when there is room for it.
    ///
    /// Cancel safe.
    pub(crate) async fn claim(self: &Arc<Self>, owner: Owner) -> Claim {
        let share = self.requests.get(owner, 1).await;
        let entry = Arc::new(Entry::new(owner));
        let mut at_hand = self.at_hand();
        let id = at_hand.next;
        at_hand.next = id.saturating_add(1);
        at_hand.requests.insert(id, entry.clone());
        drop(at_hand);
        Claim {
            limits: self.clone(),
            entry,
            id,
            _share: share,
        }
    }

    /// Looks again and again, as long as there are limits.
    pub(crate) async fn watch(self: Arc<Self>) {
        let limits = Arc::downgrade(&self);
        drop(self);
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(limits) = limits.upgrade() else { return };
            limits.look(Instant::now());
        }
    }

    /// Calls those who have to give something back.
    fn look(&self, now: Instant) {
        let mut entries: Vec<Arc<Entry>> = self.at_hand().requests.values().cloned().collect();
        entries.sort_by_cached_key(|entry| entry.clock().moved);
        for entry in entries.iter().filter(|entry| entry.holds() && entry.is_idle(now)) {
            entry.call(Call::Pause);
        }
        for kind in [
            Kind::Descriptors,
            Kind::Bytes,
            Kind::SlowBytes,
            Kind::Walks,
            Kind::Makings,
            Kind::Requests,
        ] {
            let shares = self.shares(kind);
            let waiting = shares.waiting();
            if waiting == 0 {
                continue;
            }
            let holders = entries.iter().filter_map(|entry| {
                let (call, holding) = entry.holding(kind, now)?;
                Some(((entry, call), holding))
            });
            let (holders, holdings): (Vec<_>, Vec<_>) = holders.unzip();
            let standing = holders.iter().take_while(|(entry, _)| entry.stands(now));
            let standing = standing.filter(|(_, call)| *call == Call::Pause);
            standing.take(waiting).for_each(|(entry, call)| entry.call(*call));
            // Of a process that was killed, and whose peer has come again.
            let holding = entries.iter().filter(|entry| entry.clock().held(kind).count > 0);
            let stranded = holding.filter(|entry| entry.is_stranded(now) && shares.is_waiting(entry.owner));
            stranded.for_each(|entry| entry.call(Call::GiveUp));
            for at in shares.who_gives_way(&holdings) {
                holders.get(at).inspect(|(entry, call)| entry.call(*call));
            }
        }
    }

    fn shares(&self, kind: Kind) -> &Shares {
        match kind {
            Kind::Requests => &self.requests,
            Kind::Descriptors => &self.descriptors,
            Kind::Bytes => &self.bytes,
            Kind::SlowBytes => &self.slow_bytes,
            Kind::Walks => &self.walks,
            Kind::Makings => &self.makings,
        }
    }

    /// The system has no descriptor left, although there should have been one: whoever moved least gives up its own.
    fn out_of_descriptors(&self) {
        let at_hand = self.at_hand();
        let holders = at_hand
            .requests
            .values()
            .filter(|entry| entry.clock().descriptors.count > 0);
        if let Some(entry) = holders.min_by_key(|entry| entry.clock().moved) {
            entry.call(Call::Pause);
        }
    }

    /// A peer has come again, or found a file held by another request: perhaps a process of its own that was killed, of
    /// which nothing more comes. Its requests that stand are called to give back what they hold.
    pub(crate) fn pause_standing(&self, eid: Eid, now: Instant) {
        let at_hand = self.at_hand();
        let own = at_hand.requests.values().filter(|entry| entry.owner.eid() == eid);
        let standing = own.filter(|entry| entry.holds() && entry.stands(now));
        standing.for_each(|entry| entry.call(Call::Pause));
    }

    fn at_hand(&self) -> MutexGuard<'_, AtHand> {
        self.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(owner: Owner) -> Self {
        let since = Instant::now();
        let none = Held { count: 0, since };
        Self {
            owner,
            is_paused: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            is_gone: OnceLock::new(),
            clock: Mutex::new(Clock {
                moved: since,
                call: None,
                heir: None,
                request: Held { count: 1, since },
                descriptors: none,
                bytes: none,
                slow_bytes: none,
                walks: none,
                makings: none,
            }),
            called: Notify::new(),
        }
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self) -> bool {
        let clock = self.clock();
        let has_some = [clock.descriptors, clock.bytes, clock.slow_bytes, clock.walks]
            .iter()
            .any(|held| held.count > 0);
        has_some && !self.is_paused.load(Ordering::Relaxed)
    }

    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.clock().moved) >= PATIENCE
    }

    fn stands(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.clock().moved) >= BRIEF
    }

    /// Returns whether it stands because its peer cannot be reached, and has for a while.
    fn is_stranded(&self, now: Instant) -> bool {
        let since = self.clock().moved;
        now.saturating_duration_since(since) >= GONE && self.is_gone.get().is_some_and(|is_gone| is_gone())
    }

    /// The things of a kind that it could give back, and the call for that. Nothing if it is called already.
    fn holding(&self, kind: Kind, now: Instant) -> Option<(Call, Holding)> {
        let is_paused = self.is_paused.load(Ordering::Relaxed);
        let is_stranded = self.is_stranded(now);
        let mut clock = self.clock();
        let Held { count, since } = *clock.held(kind);
        let time = now.saturating_duration_since(since);
        let is_idle = is_stranded || now.saturating_duration_since(clock.moved) >= PATIENCE;
        let ghost = if is_stranded { Cost::Gone } else { Cost::Ghost };
        let (call, cost, is_over) = match kind {
            Kind::Bytes | Kind::SlowBytes if is_paused && is_idle => (Call::GiveUp, ghost, false),
            Kind::Bytes | Kind::SlowBytes if is_paused => return None,
            Kind::Descriptors | Kind::Bytes | Kind::SlowBytes | Kind::Walks => (Call::Pause, Cost::Delay, time >= TURN),
            Kind::Makings => (Call::GiveUp, Cost::Work, time >= PATIENCE),
            Kind::Requests if is_idle => (Call::GiveUp, ghost, false),
            Kind::Requests => (Call::GiveUp, Cost::Work, false),
        };
        let has_had_its_time = is_idle || cost != Cost::Work || time >= PATIENCE;
        if count == 0 || clock.call == Some(call) || !has_had_its_time {
            return None;
        }
        let holding = Holding {
            owner: self.owner,
            count,
            is_over,
            cost,
        };
        Some((call, holding))
    }

    fn gives_back(&self, kind: Kind, count: u64) {
        let mut clock = self.clock();
        let held = clock.held(kind);
        held.count = held.count.saturating_sub(count);
    }

    fn call(&self, call: Call) {
        let mut clock = self.clock();
        if clock.call == Some(Call::GiveUp) {
            return;
        }
        clock.call = Some(call);
        drop(clock);
        self.called.notify_waiters();
    }
}

impl Clock {
    fn held(&mut self, kind: Kind) -> &mut Held {
        match kind {
            Kind::Requests => &mut self.request,
            Kind::Descriptors => &mut self.descriptors,
            Kind::Bytes => &mut self.bytes,
            Kind::SlowBytes => &mut self.slow_bytes,
            Kind::Walks => &mut self.walks,
            Kind::Makings => &mut self.makings,
        }
    }

    fn take_pause(&mut self) {
        if self.call == Some(Call::Pause) {
            self.call = None;
        }
    }
}

impl Claim {
    /// The peer's.
    pub(crate) fn eid(&self) -> Eid {
        self.entry.owner.eid()
    }

    /// The owner of all that the request holds.
    pub(crate) fn owner(&self) -> Owner {
        self.entry.owner
    }

    /// Has its peer looked after: whether it cannot be reached.
    pub(crate) fn of_peer(self, is_gone: IsGone) -> Self {
        // It is said once.
        let _ = self.entry.is_gone.set(is_gone);
        self
    }

    /// All limits.
    pub(crate) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Notes that the request has moved.
    pub(crate) fn moved(&self) {
        self.entry.clock().moved = Instant::now();
    }

    /// Notes whether its last piece has left slowly: from then on its bytes have room among those of others like it.
    pub(crate) fn note_slow(&self, is_slow: bool) {
        self.entry.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// Waits until the request is to pause.
    ///
    /// Cancel safe: what was called is not lost.
    pub(crate) async fn called_to_pause(&self) {
        self.called(Call::Pause).await;
    }

    /// Waits until the request is to end, for the sake of others.
    ///
    /// Cancel safe: what was called is not lost.
    pub(crate) async fn given_up(&self) {
        self.called(Call::GiveUp).await;
    }

    async fn called(&self, call: Call) {
        loop {
            let called = self.entry.called.notified();
            if self.entry.clock().call == Some(call) {
                return;
            }
            called.await;
        }
    }

    /// The request holds nothing more that can be given back.
    pub(crate) fn paused(&self) {
        self.entry.is_paused.store(true, Ordering::Relaxed);
        self.entry.clock().take_pause();
    }

    /// Returns whether the request has stood for long, because its peer cannot be reached.
    pub(crate) fn is_stranded(&self, now: Instant) -> bool {
        self.entry.is_idle(now) && self.entry.is_stranded(now)
    }

    /// The request goes on.
    pub(crate) fn resumed(&self) {
        self.entry.is_paused.store(false, Ordering::Relaxed);
        let mut clock = self.entry.clock();
        clock.moved = Instant::now();
        clock.take_pause();
    }

    /// Waits for the right to have a file open, or a few for one purpose.
    ///
    /// Cancel safe.
    pub(crate) async fn descriptor(&self, count: u64) -> Part {
        self.get(Kind::Descriptors, count).await
    }

    /// Waits for the right to list something.
    ///
    /// Cancel safe.
    pub(crate) async fn walk(&self) -> Part {
        self.get(Kind::Walks, 1).await
    }

    /// Waits for the right to have directories and links made.
    ///
    /// Cancel safe.
    pub(crate) async fn making(&self) -> Part {
        self.get(Kind::Makings, 1).await
    }

    async fn get(&self, kind: Kind, count: u64) -> Part {
        let share = self.limits.shares(kind).get(self.owner(), count).await;
        self.part(kind, count, share)
    }

    fn part(&self, kind: Kind, count: u64, share: Share) -> Part {
        let mut clock = self.entry.clock();
        let held = clock.held(kind);
        if held.count == 0 {
            held.since = Instant::now();
        }
        held.count = held.count.saturating_add(count);
        drop(clock);
        Part {
            entry: self.entry.clone(),
            kind,
            count,
            share,
        }
    }

    /// Opens files in the pool; waits for others if the system has no descriptor left.
    ///
    /// # Errors
    /// Those of `open`; BUSY if there is no descriptor for long.
    pub(crate) async fn opening<T: Send + 'static>(
        &self,
        open: impl Fn() -> Result<T, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        for _ in 0..TRIES {
            match io_pool::run(open.clone()).await {
                Err(refusal) if refusal.is_shortage() => {
                    self.limits.out_of_descriptors();
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
        io_pool::run(open).await
    }

    /// Waits for room for bytes.
    ///
    /// Cancel safe.
    pub(crate) async fn room(&self, bytes: usize) -> Room {
        Room(self.get(self.room_kind(), bytes as u64).await)
    }

    /// Returns whether there is little room for bytes, so that it is to be asked for no more than is needed.
    pub(crate) fn is_room_scarce(&self) -> bool {
        self.limits.shares(self.room_kind()).is_scarce()
    }

    fn room_kind(&self) -> Kind {
        match self.entry.is_slow.load(Ordering::Relaxed) {
            true => Kind::SlowBytes,
            false => Kind::Bytes,
        }
    }

    /// Room for bytes, if it is there.
    pub(crate) fn try_room(&self, bytes: usize) -> Option<Room> {
        let kind = self.room_kind();
        let share = self.limits.shares(kind).try_get(self.owner(), bytes as u64)?;
        Some(Room(self.part(kind, bytes as u64, share)))
    }

    /// Has the next room of this request that is free go to whoever has this, until another one asks for the same.
    pub(crate) fn heir(&self) -> Heir {
        let (sender, heir) = oneshot::channel();
        self.entry.clock().heir = Some(sender);
        heir
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.limits.at_hand().requests.remove(&self.id);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.entry.gives_back(self.kind, self.count);
    }
}

#[cfg(test)]
mod tests;
