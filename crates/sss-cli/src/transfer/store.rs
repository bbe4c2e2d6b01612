//! STORE: a file on its way into the server, within the server's limits.
//!
//! 1. What is there already is hashed, or copied, in slices, a slice for each peer in turn.
//! 2. Room for a piece is taken when the first of it has come. It is written while the next one comes.
//! 3. While nothing comes nothing is held: what has come is written, the file closed, and it keeps its temporary name.
//!    When more comes it is opened again, and must be as it was left.
//! 4. What nobody will go on with is not left behind: the rest of a small file goes with its request, which ends when
//!    its peer is gone, and nothing is written of a file that another transfer has brought in the meantime.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sss_files::{Cursor, Prefix, Refusal, Status, Stop, Verdict};

use super::exchange::{Content, Exchange, SEGMENT, SMALL, TransferError, ended_in_a_file, ended_in_a_message};
use super::fetch::SLICE;
use super::io_pool::{self, Job};
use super::limits::{Claim, PATIENCE, Part, Room};
use super::part_file::Kept;
use super::quota::{Quota, Writing};
use super::receive::{Destination, Place, Unhashed, brought, corrupt, exists, shorter};
use super::temporary::{Resting, Temporary};

/// Descriptors of a file that comes in, and of its directory.
const DESCRIPTORS: u64 = 2;

/// Time after which it is looked for the first time what has become of a file that stands, and of its peer.
const MOMENT: Duration = Duration::from_secs(1);

/// A file that a peer sends.
pub(crate) struct Store<'c> {
    pub(crate) to: Destination,
    pub(crate) quota: Arc<Quota>,
    pub(crate) claim: &'c Claim,
}

/// Content on its way, and what it holds.
struct Arrival<'s> {
    store: &'s Store<'s>,
    file: FileState,
    reserved: Option<Writing>,
    /// Content that has come and is not written, and its room.
    piece: Content,
    room: Option<Room>,
}

/// The temporary file.
enum FileState {
    /// `None`: there is none yet.
    Closed(Option<Box<Resting>>),
    /// Open, when what was begun with it is done.
    Busy(Job<Result<Open, Refusal>>),
}

struct Open {
    part: Box<Temporary>,
    descriptor: Part,
}

impl Store<'_> {
    /// Answers, until the file has its name.
    ///
    /// # Errors
    /// If it cannot be taken, or what came is not to be used; if the peer breaks the protocol, or is lost. What was
    /// received of a large file is kept.
    pub(crate) async fn answer(&self, exchange: &mut Exchange) -> Result<(), TransferError> {
        let answered = self.take(exchange).await;
        if matches!(&answered, Err(TransferError::Refused(refusal)) if refusal.status == Status::Busy) {
            self.claim.limits().pause_standing(self.claim.eid(), Instant::now());
        }
        answered
    }

    async fn take(&self, exchange: &mut Exchange) -> Result<(), TransferError> {
        let to = self.to.clone();
        let place = self.briefly(move || to.find()).await?;
        if let Place::Identical { .. } = place {
            finally(exchange, Status::Identical).await?;
            return exchange.end().await;
        }
        let mut arrival = Arrival::new(self).await?;
        let basis = self.basis(&place).await?;
        let mut answer = vec![Status::Ok as u8];
        Prefix::encode(basis.prefix().as_ref(), &mut answer);
        exchange.send(answer).await?;
        let start = arrival.message(exchange, sss_files::start).await?;
        let status = match self.begin(basis, start).await? {
            Begun::Compared(ours) => {
                let theirs = arrival.message(exchange, Verdict::decode).await?.0?;
                if theirs != ours {
                    return Err(corrupt().into());
                }
                let to = self.to.clone();
                self.briefly(move || to.carry_over()).await?;
                Status::Identical
            }
            Begun::Part(part) => {
                arrival.begin(part);
                arrival.content(exchange, start).await?;
                let hash = arrival.message(exchange, Verdict::decode).await?.0?;
                arrival.complete(hash).await?;
                Status::Ok
            }
        };
        arrival.rest().await?;
        exchange.end().await?;
        finally(exchange, status).await
    }

    /// Does something that opens files and closes them.
    async fn briefly<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        let _descriptors = self.claim.descriptor(DESCRIPTORS).await;
        self.claim.resumed();
        self.claim.opening(work).await
    }

    /// Finds what there is to begin with.
    async fn basis(&self, place: &Place) -> Result<Unhashed, Refusal> {
        if *place == Place::Free && self.to.attributes.size <= SEGMENT as u64 {
            return Ok(Unhashed::Nothing);
        }
        let (to, place) = (self.to.clone(), place.clone());
        let mut basis = self.briefly(move || to.unhashed(&place)).await?;
        while basis.left() > 0 {
            let to = self.to.clone();
            basis = self.in_turn(move || to.hash_on(basis.clone(), SLICE)).await?;
        }
        Ok(basis)
    }

    /// Does something that takes long, when it is the turn of this peer.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        let _turn = self.claim.limits().hashing.get(self.claim.owner(), 1).await;
        self.claim.opening(work).await
    }

    /// Decides what content is written behind, if it starts at `start` (FIL-8).
    async fn begin(&self, basis: Unhashed, start: u64) -> Result<Begun, TransferError> {
        let size = self.to.attributes.size;
        if start > size {
            let what = "it starts behind the end of the file";
            return Err(TransferError::Protocol(what.to_owned()));
        }
        let prefix = basis.prefix().filter(|prefix| prefix.len == start);
        match (basis, prefix) {
            (Unhashed::Existing(_), Some(prefix)) if start == size => Ok(Begun::Compared(prefix.hash)),
            (Unhashed::Existing(_), Some(prefix)) if self.to.replaces() => self.copy(prefix).await,
            (Unhashed::Existing(_), Some(_)) => Err(shorter().into()),
            (Unhashed::Existing(_), None) if start == 0 && !self.to.replaces() => Err(exists().into()),
            (Unhashed::Partial(kept), Some(_)) => Ok(Begun::Part(Some(kept))),
            _ if start == 0 => Ok(Begun::Part(None)),
            _ => Err(TransferError::Protocol("it starts where nobody asked it to".to_owned())),
        }
    }

    /// Begins with a copy of the file there.
    async fn copy(&self, prefix: Prefix) -> Result<Begun, TransferError> {
        let mut copied: Option<Kept> = None;
        while copied
            .as_ref()
            .and_then(Kept::prefix)
            .is_none_or(|copied| copied.len < prefix.len)
        {
            let (to, before) = (self.to.clone(), copied);
            copied = self.in_turn(move || to.copy_on(before.clone(), &prefix, SLICE)).await?;
        }
        Ok(Begun::Part(copied))
    }
}

enum Begun {
    /// The file there is the same, if the verdict says so.
    Compared(blake3::Hash),
    Part(Option<Kept>),
}

impl<'s> Arrival<'s> {
    async fn new(store: &'s Store<'s>) -> Result<Self, Refusal> {
        let mut arrival = Self {
            store,
            file: FileState::Closed(None),
            reserved: None,
            piece: Content::default(),
            room: None,
        };
        arrival.reserve().await?;
        Ok(arrival)
    }

    /// Begins behind what there is.
    fn begin(&mut self, with: Option<Kept>) {
        let resting = |kept| Box::new(Resting::new(self.store.to.clone(), kept));
        self.file = FileState::Closed(with.map(resting));
    }

    async fn reserve(&mut self) -> Result<(), Refusal> {
        if self.reserved.is_none() {
            let to = self.store.to.clone();
            let quota = self.store.quota.clone();
            self.reserved = io_pool::run(move || quota.begin(&to.root, &to.path, to.attributes.size)).await?;
        }
        Ok(())
    }

    /// One message. Nothing is held while it does not come.
    async fn message<T>(
        &mut self,
        exchange: &mut Exchange,
        decode: fn(&mut Cursor<'_>) -> Result<T, Stop>,
    ) -> Result<T, TransferError> {
        loop {
            if let Some(message) = exchange.incoming().buffered(decode)? {
                return Ok(message);
            }
            if !self.more(exchange).await? {
                return Err(ended_in_a_message());
            }
        }
    }

    /// Takes in all content; the last piece is not written yet.
    async fn content(&mut self, exchange: &mut Exchange, start: u64) -> Result<(), TransferError> {
        let mut left = self.store.to.attributes.size.saturating_sub(start);
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(SEGMENT).min(SEGMENT);
            self.fill(exchange, count).await?;
            left = left.saturating_sub(count as u64);
            if left > 0 {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// Takes in a piece of content.
    async fn fill(&mut self, exchange: &mut Exchange, count: usize) -> Result<(), TransferError> {
        let mut missing = count;
        while missing > 0 {
            if !exchange.incoming().has_some() && !self.more(exchange).await? {
                return Err(ended_in_a_file());
            }
            if self.room.is_none() {
                self.make_room(missing).await?;
            }
            missing = missing.saturating_sub(self.piece.take(exchange.incoming(), missing));
            self.store.claim.moved();
        }
        Ok(())
    }

    /// Waits for room for content, without a descriptor if others need that.
    async fn make_room(&mut self, bytes: usize) -> Result<(), TransferError> {
        let claim = self.store.claim;
        while self.room.is_none() {
            tokio::select! {
                room = claim.room(bytes) => self.room = Some(room),
                () = claim.called_to_pause() => {
                    self.rest().await?;
                    claim.paused();
                }
            }
        }
        claim.resumed();
        Ok(())
    }

    /// Waits for more; when it does not come soon, or others need what is held, without holding anything. Returns false
    /// at the end.
    async fn more(&mut self, exchange: &mut Exchange) -> Result<bool, TransferError> {
        let claim = self.store.claim;
        // Without room, no more than its stream may hold anyway.
        let most = if self.room.is_some() { SEGMENT } else { SMALL };
        tokio::select! {
            more = exchange.incoming().more(most) => return more,
            () = claim.called_to_pause() => {}
            () = tokio::time::sleep(PATIENCE) => {}
        }
        self.rest().await?;
        claim.paused();
        let more = tokio::select! {
            more = exchange.incoming().more(SMALL) => more?,
            () = self.brought() => return Err(brought().into()),
            () = self.abandoned() => return Err(abandoned().into()),
        };
        claim.resumed();
        Ok(more)
    }

    /// Waits for another transfer to have brought the file, as it may while this one writes, or stands. It is looked
    /// for more and more rarely.
    async fn brought(&self) {
        let mut pause = MOMENT;
        while let FileState::Closed(Some(_)) = self.file {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
            let to = self.store.to.clone();
            if io_pool::run(move || to.is_brought()).await {
                return;
            }
        }
        std::future::pending().await
    }

    /// Waits for the peer to be gone for long, if nothing is lost by that: it would not go on with what is here.
    async fn abandoned(&self) {
        let is_kept = matches!(self.file, FileState::Closed(Some(_)));
        while is_kept && !self.store.to.is_continued() {
            tokio::time::sleep(MOMENT).await;
            if self.store.claim.is_stranded(Instant::now()) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Writes what has come, and gives everything back.
    async fn rest(&mut self) -> Result<(), TransferError> {
        if !self.piece.is_empty() {
            self.write().await?;
        }
        if !matches!(self.file, FileState::Closed(_)) {
            let Open { part, descriptor } = self.open().await?;
            self.file = FileState::Closed(io_pool::run(move || part.rest()).await?.map(Box::new));
            drop(descriptor);
        }
        self.room = None;
        if let Some(reserved) = self.reserved.take() {
            io_pool::run(move || drop(reserved)).await;
        }
        Ok(())
    }

    /// Begins to write the piece that has come.
    async fn write(&mut self) -> Result<(), TransferError> {
        let Open { mut part, descriptor } = self.open().await?;
        let (chunks, room) = self.take();
        self.file = FileState::Busy(io_pool::start(move || {
            part.write(&chunks)?;
            drop(room);
            Ok(Open { part, descriptor })
        }));
        Ok(())
    }

    fn take(&mut self) -> (Vec<Bytes>, Option<Room>) {
        (mem::take(&mut self.piece).into_chunks(), self.room.take())
    }

    /// The temporary file, when what was begun with it is done.
    async fn open(&mut self) -> Result<Open, TransferError> {
        let resting = match mem::replace(&mut self.file, FileState::Closed(None)) {
            FileState::Busy(job) => return Ok(job.result().await?),
            FileState::Closed(resting) => resting,
        };
        let kept = resting.as_ref().and_then(|resting| resting.kept());
        self.reserve().await?;
        let descriptor = self.store.claim.descriptor(DESCRIPTORS).await;
        self.store.claim.resumed();
        let to = self.store.to.clone();
        let open = move || Temporary::open(to.clone(), kept.clone());
        let part = Box::new(self.store.claim.opening(open).await?);
        resting.into_iter().for_each(|resting| resting.hand_over());
        Ok(Open { part, descriptor })
    }

    /// Writes the rest, and gives the file its name.
    async fn complete(&mut self, hash: blake3::Hash) -> Result<(), TransferError> {
        if let FileState::Closed(None) = self.file {
            // A small file is opened, written and closed at once.
            self.reserve().await?;
            let (to, (chunks, _room)) = (self.store.to.clone(), self.take());
            let complete = move || to.complete(None, &chunks, hash);
            return Ok(self.store.briefly(complete).await?);
        }
        let Open { part, descriptor } = self.open().await?;
        let (chunks, _room) = self.take();
        let done = io_pool::run(move || part.complete(&chunks, hash)).await;
        drop(descriptor);
        Ok(done?)
    }
}

fn abandoned() -> Refusal {
    Refusal::new(
        Status::Busy,
        "nothing was heard of this host for a while: this file is to be sent again",
    )
}

async fn finally(exchange: &mut Exchange, status: Status) -> Result<(), TransferError> {
    exchange.send(vec![status as u8, 0]).await?;
    exchange.finish()
}

#[cfg(test)]
mod tests;
