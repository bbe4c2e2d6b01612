//! From this side to the server: one STORE per file while the tree is walked, then MAKE for directories and links.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sss::SendHalf;
use sss_files::{
    Attributes, Cursor, Entry, Kind, NotMade, Options, Prefix, Refusal, RelPath, Request, Status, Stop, answer,
};

use super::download::nothing_to_transfer;
use super::exchange::{Exchange, Incoming, TransferError};
use super::io_pool;
use super::pool::TransferPool;
use super::rate::Limiter;
use super::send::{Source, unreadable};
use super::session::Session;
use super::tally::{Attempt, Tally};
use super::tries::{Tries, until_there_is_room};
use crate::transfer::safe_path::Root;

/// Entries walked over together.
const BATCH: usize = 256;

/// A transfer from this side.
pub(crate) struct Upload {
    pub(crate) session: Arc<Session>,
    pub(crate) from: Origin,
    /// Path at this side.
    pub(crate) local: RelPath,
    /// As what, on the server.
    pub(crate) remote: RelPath,
    pub(crate) options: Options,
    pub(crate) tally: Arc<Tally>,
    pub(crate) limit: Option<Arc<Limiter>>,
}

/// Place where what is sent comes from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Everything is below a directory.
    Directory(Arc<Root>),
    /// It is one open file, which may have no name, with these attributes. It is read by one transfer at a time.
    File(Arc<File>, Attributes),
}

impl Origin {
    fn open(&self, path: &RelPath) -> Result<Source, Refusal> {
        match self {
            Self::Directory(root) => Source::open(root, path),
            Self::File(file, attributes) => Ok(Source::of(file.try_clone()?, *attributes)?),
        }
    }
}

/// Answer of the server to STORE.
enum Answer {
    Send(Option<Prefix>),
    Identical,
}

impl Upload {
    /// Transfers everything.
    ///
    /// # Errors
    /// If there is no sense in going on. What fails by itself is counted in the tally.
    pub(crate) async fn run(self, mut walk: impl Iterator<Item = Entry> + Send + 'static) -> Result<(), TransferError> {
        let this = Arc::new(self);
        this.make_above().await?;
        let mut pool = TransferPool::new(this.limit.as_ref().map(|limit| limit.rate()));
        let mut to_make = Vec::new();
        loop {
            let batch;
            (batch, walk) = io_pool::run(move || (walk.by_ref().take(BATCH).collect::<Vec<_>>(), walk)).await;
            if batch.is_empty() {
                break;
            }
            for entry in batch {
                match entry.kind {
                    Kind::File(attributes) => {
                        this.tally.found(&attributes);
                        pool.start(attributes.size, this.clone().store(entry.path)).await?;
                    }
                    Kind::Directory(_) | Kind::Link(..) => to_make.push(entry),
                    Kind::Other(_) if entry.path.is_root() => return Err(nothing_to_transfer().into()),
                    Kind::Other(_) => this.tally.skipped.add(1),
                    Kind::Unreadable(refusal) if refusal.status == Status::Unfinished => {
                        this.tally.note(format!("{}: {refusal}", this.local.join(&entry.path)));
                    }
                    // It is this process that has too many open.
                    Kind::Unreadable(refusal) if refusal.is_shortage() => return Err(TransferError::local(refusal)),
                    Kind::Unreadable(refusal) => this.tally.fail(this.local.join(&entry.path), refusal),
                }
            }
        }
        this.tally.all_found.store(true, Ordering::Relaxed);
        pool.finish().await?;
        this.tally.tell_of_links();
        this.make(&to_make).await
    }

    /// Transfers one file; once more if it changed meanwhile, or if the server still holds it for a transfer of ours
    /// that was interrupted.
    async fn store(self: Arc<Self>, path: RelPath) -> Result<(), TransferError> {
        let mut tries = Tries::default();
        let result = loop {
            let attempt = self.tally.attempt();
            let refusal = match self.store_once(&path, &attempt).await {
                Err(TransferError::Refused(refusal)) => refusal,
                other => break other,
            };
            // What did not come to be a file there counts as nothing: no more is told of than was verified.
            attempt.take_back();
            if !tries.again(refusal.status).await {
                break Err(refusal.into());
            }
            let told = tries.tell_once(&refusal);
            self.tally
                .note_all(told.map(|text| format!("{}: {text}", self.local.join(&path))));
        };
        match result {
            // Nothing that is sent will be taken.
            Err(TransferError::Refused(refusal)) if refusal.status == Status::NoSpace => {
                let refusal = Refusal::new(refusal.status, format!("on the server: {}", refusal.text));
                Err(TransferError::Disk(refusal).about(&self.remote.join(&path)))
            }
            Err(TransferError::Refused(refusal)) if hopeless(refusal.status) => Err(TransferError::Disk(refusal)),
            Err(TransferError::Refused(refusal)) => {
                self.tally.fail(self.local.join(&path), refusal);
                Ok(())
            }
            other => other,
        }
    }

    async fn store_once(&self, path: &RelPath, attempt: &Attempt<'_>) -> Result<(), TransferError> {
        let (from, local) = (self.from.clone(), self.local.join(path));
        let source = io_pool::run(move || from.open(&local)).await;
        let source = source.map_err(TransferError::local)?;
        let attributes = source.attributes();
        let request = Request::Store {
            path: self.remote.join(path),
            options: self.options,
            attributes,
        };
        let exchange = Exchange::begin(&self.session, &request).await?;
        let mut exchange = exchange.limited(self.limit.as_ref());
        // It may have to hash what it has.
        exchange.grant(attributes.size);
        let have = match exchange.message(store_answer).await?? {
            Answer::Send(have) => have,
            Answer::Identical => {
                exchange.finish()?;
                self.tally.kept(attributes.size);
                return exchange.end().await;
            }
        };
        let segment = io_pool::run(move || source.first_segment(have)).await;
        let segment = segment.map_err(|error| {
            let refusal = unreadable(error);
            exchange.reset(&refusal);
            refusal
        })?;
        attempt.kept(segment.start());
        let sent = segment.send(&mut exchange, |bytes| attempt.moved(bytes)).await;
        if let Err(
            error @ (TransferError::Lost(_)
            | TransferError::Protocol(_)
            | TransferError::Silent(_)
            | TransferError::Unheard(_)
            | TransferError::Unsent(_)
            | TransferError::Cut(_)),
        ) = sent
        {
            return Err(error);
        }
        // If it was stopped, the server has said why.
        match exchange.message(result).await?? {
            Status::Identical => attempt.kept_all(attributes.size),
            _ => {
                sent?;
                self.tally.files_moved.add(1);
            }
        }
        exchange.end().await
    }

    /// Makes the directories above a tree: they are no part of it, and are as the server makes directories.
    async fn make_above(&self) -> Result<(), TransferError> {
        let above = self.remote.split().map_or(&b""[..], |(above, _)| above);
        let Some(path) = RelPath::parse(above).ok().filter(|path| !path.is_root()) else {
            return Ok(());
        };
        if !self.options.contains(Options::TREE) {
            return Ok(());
        }
        let options = self.options.difference(Options::TREE);
        let request = Request::Make { path, options };
        let directory = Entry {
            path: RelPath::default(),
            kind: Kind::Directory(Attributes::default()),
        };
        let making = until_there_is_room(|| async {
            let mut exchange = Exchange::begin(&self.session, &request).await?;
            let mut out = Vec::new();
            directory.encode(&mut out);
            exchange.send(out).await?;
            exchange.finish()?;
            exchange.message(answer).await??;
            // What cannot be made is told by everything that should go into it.
            exchange.messages(1, NotMade::decode).await.map(drop)
        });
        making.await
    }

    async fn hear_failures(&self, incoming: &mut Incoming, entries: usize) -> Result<(), TransferError> {
        incoming.message(answer).await??;
        let mut told = 0_usize;
        loop {
            let failed = incoming.messages(BATCH, NotMade::decode).await?;
            if failed.is_empty() {
                return Ok(());
            }
            told = told.saturating_add(failed.len());
            if told > entries {
                let what = "it says of more that was not made than was sent";
                return Err(TransferError::Protocol(what.to_owned()));
            }
            for NotMade { path, refusal } in failed {
                self.tally.fail(self.local.join(&path), refusal);
            }
        }
    }

    /// Makes directories and links; again if the server has too much to do before it has told of any.
    async fn make(&self, entries: &[Entry]) -> Result<(), TransferError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tries = Tries::default();
        let failed = self.tally.failed();
        loop {
            match self.make_once(entries).await {
                Err(TransferError::Refused(refusal))
                    if refusal.status == Status::Busy
                        && self.tally.failed() == failed
                        && tries.again(refusal.status).await => {}
                done => return done,
            }
        }
    }

    async fn make_once(&self, entries: &[Entry]) -> Result<(), TransferError> {
        let request = Request::Make {
            path: self.remote.clone(),
            options: self.options,
        };
        let mut exchange = Exchange::begin(&self.session, &request).await?;
        let (sending, incoming) = exchange.directions();
        // The server tells what failed while entries still come, and does not go on if nobody reads it.
        let sending = send_entries(sending, entries);
        let mut hearing = std::pin::pin!(self.hear_failures(incoming, entries.len()));
        tokio::select! {
            told = &mut hearing => told?,
            // If it was stopped, the server has said why.
            sent = sending => hearing.await.and(sent)?,
        }
        let directories = entries.iter().filter(|e| matches!(e.kind, Kind::Directory(_))).count();
        self.tally.directories.add(directories as u64);
        self.tally.links.add(entries.len().saturating_sub(directories) as u64);
        Ok(())
    }
}

async fn send_entries(to: &mut SendHalf, entries: &[Entry]) -> Result<(), TransferError> {
    for batch in entries.chunks(BATCH) {
        let mut out = Vec::new();
        batch.iter().for_each(|entry| entry.encode(&mut out));
        to.write_chunk(out.into()).await?;
    }
    Ok(to.finish()?)
}

/// Returns whether a refusal of one file holds for all.
fn hopeless(status: Status) -> bool {
    matches!(status, Status::ReadOnly | Status::BadRequest)
}

fn store_answer(from: &mut Cursor<'_>) -> Result<Result<Answer, Refusal>, Stop> {
    match from.status()? {
        Status::Ok => Ok(Ok(Answer::Send(Prefix::decode(from)?))),
        other => {
            let refusal = from.text(other)?;
            Ok(if other == Status::Identical {
                Ok(Answer::Identical)
            } else {
                Err(refusal)
            })
        }
    }
}

fn result(from: &mut Cursor<'_>) -> Result<Result<Status, Refusal>, Stop> {
    let status = from.status()?;
    let refusal = from.text(status)?;
    let done = matches!(status, Status::Ok | Status::Identical);
    Ok(if done { Ok(status) } else { Err(refusal) })
}
