//! FETCH: a file on its way out of the server, within the server's limits.
//!
//! 1. What the client says it has is hashed in slices, a slice for each peer in turn, without holding a descriptor.
//! 2. The file is open only while it moves. Room for a piece comes first: whoever waits for it has no file open. The
//!    next piece is read while one leaves, if there is room for it, too; else it takes the room of the one before, as
//!    soon as that has arrived, for as long as this request is let.
//! 3. Pieces are short at first, and as long as [`SEGMENT`] when they leave quickly. While one leaves slowly the file
//!    is closed.
//! 4. A request that is called to pause takes back what has not left, closes the file, and keeps its [`Position`]. When
//!    the rest has left, it opens the file again and makes sure that it is the same. Nothing is finished before it has
//!    left, because then it could not be taken back any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sss_files::{Prefix, Refusal, RelPath};

use super::exchange::{Exchange, SEGMENT, TransferError};
use super::io_pool::{self, Job};
use super::leaving::left;
use super::limits::{Claim, Heir, Part, Room};
use super::send::{Position, Segment, Source, unreadable};
use crate::transfer::safe_path::Root;

/// First piece of a file.
pub(super) const FIRST: usize = 64 << 10;
/// Room for head and verdict.
const AROUND: usize = 256;
/// Bytes that leave a new stream for certain, whoever reads: they go out with its end.
pub(super) const CERTAIN: usize = 4 << 10;
/// Shortest piece, for those who read slowly.
const LEAST: usize = 16 << 10;
/// A piece that leaves within this time is followed by a longer one, another by a shorter one.
pub(super) const QUICK: Duration = Duration::from_millis(250);
/// Bytes that stay in the stream of a request that pauses. That they leave tells it to go on.
pub(super) const MORSEL: u64 = 1 << 10;
/// Bytes of what is there already that are hashed in one turn.
pub(crate) const SLICE: u64 = 4 << 20;

/// A file that a peer asked for.
pub(crate) struct Fetch<'c> {
    pub(crate) root: Arc<Root>,
    pub(crate) path: RelPath,
    pub(crate) claim: &'c Claim,
}

/// Place of a file in the answer.
struct Course {
    /// Position of the piece that is next, or is leaving.
    position: Position,
    /// Bytes that go before that piece: the head of the answer, before the first.
    head: Vec<u8>,
    /// Bytes of head and piece that are in the stream already.
    written: usize,
    /// Length of the next piece.
    length: usize,
}

/// End of a stretch for which the file was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    /// Everything was written, and the end.
    Whole,
    Paused,
}

/// A file that is open.
struct Open {
    source: Source,
    descriptor: Part,
}

/// A piece that is being read.
type Reading = Job<Result<(Segment, Room), Refusal>>;

/// State of the next piece while one leaves.
enum Ahead {
    Reading(Reading),
    /// It waits for the room of the one that leaves.
    Heir(Source, Heir),
    /// It has to wait for its turn.
    None,
}

impl Fetch<'_> {
    /// Answers, until everything is in the stream.
    ///
    /// # Errors
    /// If there is no such file, it changes, or the peer does not want it. What was begun is reset then.
    pub(crate) async fn answer(&self, have: Option<Prefix>, exchange: &mut Exchange) -> Result<(), TransferError> {
        let done = self.send(have, exchange).await;
        if let Err(TransferError::Refused(refusal)) = &done
            && exchange.has_said_something()
        {
            exchange.reset(refusal);
        }
        done
    }

    async fn send(&self, have: Option<Prefix>, exchange: &mut Exchange) -> Result<(), TransferError> {
        let mut course = match have {
            Some(have) => Some(Box::pin(self.begin(have)).await?),
            None => None,
        };
        loop {
            let first = if self.claim.is_room_scarce() { CERTAIN } else { FIRST };
            let wanted = course.as_ref().map_or(first.saturating_add(AROUND), Course::room);
            let room = self.claim.room(wanted).await;
            self.claim.resumed();
            let descriptor = tokio::select! {
                descriptor = self.claim.descriptor(1) => descriptor,
                () = self.claim.called_to_pause() => {
                    drop(room);
                    self.claim.paused();
                    continue;
                }
            };
            self.claim.resumed();
            let (source, mut begun) = match course.take() {
                Some(course) => (Box::pin(self.reopen(course.position.clone())).await?, course),
                None => {
                    let source = Box::pin(self.open()).await?;
                    let course = Course::new(source.position().clone(), first);
                    (source, course)
                }
            };
            let open = Open { source, descriptor };
            let stretch = Box::pin(self.stretch((open, room), &mut begun, exchange)).await?;
            if stretch == Stretch::Whole {
                return Ok(());
            }
            course = Some(begun);
            self.claim.paused();
            exchange.sent().await?;
        }
    }

    /// Finds where to start behind what the client has (FIL-7).
    async fn begin(&self, have: Prefix) -> Result<Course, TransferError> {
        let descriptor = self.claim.descriptor(1).await;
        self.claim.resumed();
        let mut position = self.open().await?.position().clone();
        drop(descriptor);
        if have.len > position.size() {
            return Ok(Course::new(position, FIRST));
        }
        while position.offset() < have.len {
            position = self.hash_on(position, have.len).await?;
        }
        if !position.is_behind(&have) {
            position.restart();
        }
        Ok(Course::new(position, FIRST))
    }

    /// Hashes a slice of a prefix, when it is the turn of this peer.
    async fn hash_on(&self, position: Position, end: u64) -> Result<Position, Refusal> {
        let before = position.offset();
        let turn = self.claim.limits().hashing.get(self.claim.owner(), 1).await;
        let (root, path) = (self.root.clone(), self.path.clone());
        let count = end.saturating_sub(before).min(SLICE);
        let hash = move || Source::reopen(&root, &path, position.clone())?.hashed(count);
        let position = self.claim.opening(hash).await?;
        drop(turn);
        Ok(position)
    }

    /// Sends piece after piece, until the end or until it has to pause.
    async fn stretch(
        &self,
        (open, room): (Open, Room),
        course: &mut Course,
        exchange: &mut Exchange,
    ) -> Result<Stretch, TransferError> {
        let Open { source, descriptor } = open;
        let mut descriptor = Some(descriptor);
        let mut reading = course.read(source, room);
        loop {
            let (segment, room) = reading.result().await?;
            let (bytes, source) = segment.into_parts();
            let length = bytes.len();
            let is_certain = source.is_none() && length <= CERTAIN && course.is_new();
            exchange.send(room.hold(course.rest(bytes))).await?;
            if is_certain {
                exchange.finish()?;
                return Ok(Stretch::Whole);
            }
            let behind = source.map(|source| (course.behind(source.position().clone()), source));
            let mut ahead = behind.map(|(behind, source)| (behind.ahead(source, self.claim), behind));
            let begun = Instant::now();
            let is_quick = tokio::time::timeout(QUICK, left(exchange, self.claim)).await;
            let has_left = match is_quick {
                Ok(left) => left?,
                Err(_) => {
                    drop(descriptor.take());
                    ahead = ahead.map(|(_, behind)| (Ahead::None, behind));
                    left(exchange, self.claim).await?
                }
            };
            self.claim.note_slow(begun.elapsed() > QUICK);
            if !has_left {
                let back = usize::try_from(exchange.take_back(MORSEL)).unwrap_or(length);
                course.written = length.saturating_sub(back);
                course.length = LEAST;
                return Ok(Stretch::Paused);
            }
            let Some((ahead, behind)) = ahead else {
                exchange.finish()?;
                return Ok(Stretch::Whole);
            };
            *course = behind.paced(begun.elapsed());
            reading = match ahead {
                Ahead::Reading(reading) => reading,
                Ahead::Heir(source, heir) => match self.inherit(heir, course).await {
                    Some(room) => course.read(source, room),
                    None => {
                        // Room for a longer one is waited for.
                        course.length = course.length.max(LEAST);
                        return Ok(Stretch::Paused);
                    }
                },
                Ahead::None => return Ok(Stretch::Paused),
            };
        }
    }

    /// Waits for the room of the piece that has left, and has the next one fit into it. `None`: it has to pause.
    async fn inherit(&self, heir: Heir, course: &mut Course) -> Option<Room> {
        let room = tokio::select! {
            room = heir => room.ok()?,
            () = self.claim.called_to_pause() => return None,
        };
        course.length = course.length.min(room.bytes().saturating_sub(AROUND));
        // What is left of another piece may be too little.
        (course.length >= LEAST || course.piece() < course.length).then_some(room)
    }

    async fn open(&self) -> Result<Source, Refusal> {
        let (root, path) = (self.root.clone(), self.path.clone());
        self.claim.opening(move || Source::open(&root, &path)).await
    }

    async fn reopen(&self, position: Position) -> Result<Source, Refusal> {
        let (root, path) = (self.root.clone(), self.path.clone());
        let reopen = move || Source::reopen(&root, &path, position.clone());
        self.claim.opening(reopen).await
    }
}

/// Length of the piece behind one of this length that took so long to leave.
pub(super) fn paced(length: usize, took: Duration) -> usize {
    let next = if took <= QUICK {
        length.saturating_mul(2)
    } else {
        length / 2
    };
    next.clamp(LEAST, SEGMENT)
}

impl Course {
    /// At its beginning, with a first piece of this length.
    fn new(position: Position, length: usize) -> Self {
        Self {
            head: position.head(),
            position,
            written: 0,
            length,
        }
    }

    /// The course behind a piece.
    fn behind(&self, position: Position) -> Self {
        Self {
            position,
            head: Vec::new(),
            written: 0,
            length: self.length,
        }
    }

    /// Returns whether nothing was sent yet.
    fn is_new(&self) -> bool {
        !self.head.is_empty() && self.written == 0
    }

    fn paced(mut self, took: Duration) -> Self {
        self.length = paced(self.length, took);
        self
    }

    /// Length of the piece: what is in the stream of it already, and more.
    fn piece(&self) -> usize {
        let left = usize::try_from(self.position.left()).unwrap_or(usize::MAX);
        self.written.saturating_add(self.length).min(left)
    }

    /// Room for it, with head and verdict.
    fn room(&self) -> usize {
        self.piece().saturating_add(AROUND)
    }

    /// The part of a piece that is not in the stream yet.
    fn rest(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        match bytes.get(self.written..) {
            Some(rest) if self.written > 0 => rest.to_vec(),
            Some(_) => bytes,
            None => {
                bytes.clear();
                bytes
            }
        }
    }

    /// Begins with the next piece if there is room for it.
    fn ahead(&self, source: Source, claim: &Claim) -> Ahead {
        match claim.try_room(self.room()) {
            Some(room) => Ahead::Reading(self.read(source, room)),
            None => Ahead::Heir(source, claim.heir()),
        }
    }

    fn read(&self, source: Source, room: Room) -> Reading {
        let (head, piece) = (self.head.clone(), self.piece());
        io_pool::start(move || {
            let mut bytes = head;
            let whole = piece.saturating_add(AROUND);
            bytes.reserve_exact(whole.saturating_sub(bytes.len()));
            let segment = source.fill(bytes, piece).map_err(unreadable)?;
            Ok((segment, room))
        })
    }
}
