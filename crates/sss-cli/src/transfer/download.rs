//! From the server to this side: a listing, and while it comes in, its files, small ones together.

mod gathering;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sss_files::{Attributes, Cursor, Entry, Kind, Options, Order, Refusal, RelPath, Request, Status, Stop, answer};

use self::gathering::Group;
use super::directories::make_directory;
use super::exchange::{Exchange, SEGMENT, TransferError};
use super::filter::Sieve;
use super::io_pool;
use super::pool::TransferPool;
use super::rate::Limiter;
use super::receive::{Basis, Destination, Place, Received, make_link};
use super::send::changed;
use super::session::Session;
use super::tally::{Attempt, Tally};
use super::tries::{PAUSE, Tries, until_there_is_room};
use super::unfinished::{Directory, Finished, Unfinished};
use crate::transfer::safe_path::Root;

/// Entries looked at together.
const BATCH: usize = 256;

/// Transfers under way that keep the link and the disk busy.
const BUSY_POOL: usize = 4;

/// The entries of a tree on the server, as they come in.
pub(crate) struct Listing {
    /// `None`: nothing more comes in.
    exchange: Option<Exchange>,
    /// Entries that came in before.
    ready: Vec<Entry>,
    sieve: Sieve,
    order: Order,
}

impl Listing {
    /// Of entries that are known.
    pub(crate) fn of(entries: Vec<Entry>) -> Self {
        Self {
            exchange: None,
            ready: entries,
            sieve: Sieve::default(),
            order: Order::default(),
        }
    }

    /// Asks for what is at `path` and, down to `depth`, below it.
    ///
    /// # Errors
    /// If there is nothing, or the peer does not say.
    pub(crate) async fn ask(session: &Session, path: RelPath, depth: u8) -> Result<Self, TransferError> {
        Self::ask_for_some(session, path, depth, Sieve::default()).await
    }

    /// As [`Self::ask`], but for what does not pass: the server does not look at what is below that.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn ask_for_some(
        session: &Session,
        path: RelPath,
        depth: u8,
        sieve: Sieve,
    ) -> Result<Self, TransferError> {
        let without = sieve.patterns();
        let request = Request::List { path, depth, without };
        let asking = until_there_is_room(|| async {
            let mut exchange = Exchange::ask(session, &request).await?;
            exchange.message(answer).await??;
            Ok(exchange)
        });
        let exchange = asking.await?;
        Ok(Self {
            exchange: Some(exchange),
            sieve,
            ..Self::of(Vec::new())
        })
    }

    /// The first entry: the path itself.
    ///
    /// # Errors
    /// If there is none, which a server must not do.
    pub(crate) async fn first(&mut self) -> Result<Entry, TransferError> {
        let first = match &mut self.exchange {
            Some(exchange) => exchange.message(Entry::decode).await?,
            None if self.ready.is_empty() => return Err(TransferError::Protocol("a listing of nothing".to_owned())),
            None => return Ok(self.ready.remove(0)),
        };
        self.check(&first)?;
        Ok(first)
    }

    /// At least one entry, and none at the end.
    ///
    /// # Errors
    /// If the channel ends, or the listing before its end.
    pub(crate) async fn batch(&mut self) -> Result<Vec<Entry>, TransferError> {
        loop {
            let mut entries = match &mut self.exchange {
                Some(exchange) => exchange.messages(BATCH, Entry::decode).await?,
                None => std::mem::take(&mut self.ready),
            };
            let is_end = entries.is_empty();
            if self.exchange.is_some() {
                entries.iter().try_for_each(|entry| self.check(entry))?;
            }
            entries.retain(|entry| self.sieve.keeps(entry));
            if is_end || !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    fn check(&mut self, entry: &Entry) -> Result<(), TransferError> {
        let out_of_order = |_| TransferError::Protocol(format!("its list is out of order at {}", entry.path));
        self.order.check(entry).map_err(out_of_order)
    }
}

/// Refusal of what is no file, directory or link.
pub(crate) fn nothing_to_transfer() -> Refusal {
    let text = "it is a device, a socket or a FIFO, which are never transferred";
    Refusal::new(Status::WrongKind, text)
}

/// A transfer to this side.
pub(crate) struct Download {
    pub(crate) session: Arc<Session>,
    /// Path that was asked for, as the server names it.
    pub(crate) remote: RelPath,
    /// Directory below which it goes.
    pub(crate) root: Arc<Root>,
    pub(crate) local: RelPath,
    pub(crate) options: Options,
    pub(crate) tally: Arc<Tally>,
    pub(crate) limit: Option<Arc<Limiter>>,
}

/// Answer of the disk to a batch of entries.
struct Plan {
    files: Vec<Planned>,
    unfinished: Unfinished,
}

/// A file to be transferred.
struct Planned {
    /// Below what was asked for.
    path: RelPath,
    to: Destination,
    place: Place,
    /// The directory it is in waits for it.
    directory: Option<Arc<Directory>>,
}

impl Download {
    /// Transfers what is listed, `first` first.
    ///
    /// # Errors
    /// If there is no sense in going on. What fails by itself is counted in the tally.
    pub(crate) async fn run(self, first: Entry, mut listing: Listing) -> Result<(), TransferError> {
        if let Kind::Other(_) = first.kind {
            return Err(nothing_to_transfer().into());
        }
        let this = Arc::new(self);
        let _claim = this.claim().await;
        let mut pool = TransferPool::new(this.limit.as_ref().map(|limit| limit.rate()));
        let (mut unfinished, finished) = Unfinished::new();
        // Dropped before all that holds directories: what is given up is not finished.
        let going_on = unfinished.going_on();
        let finisher = tokio::spawn(this.clone().finish(finished));
        let (mut entries, mut group) = (vec![first], Group::default());
        while !entries.is_empty() {
            let planner = this.clone();
            let plan = io_pool::run(move || planner.plan(entries, unfinished)).await?;
            unfinished = plan.unfinished;
            for planned in plan.files {
                let size = planned.to.attributes.size;
                if !Group::is_for(&planned) {
                    pool.start(size, this.clone().fetch(planned)).await?;
                } else if let Some(full) = group.push(planned) {
                    pool.start(full.bytes(), this.clone().gather(full)).await?;
                }
            }
            // While enough is under way, a group waits until it is full.
            if !group.is_empty() && pool.len() < BUSY_POOL {
                let group = std::mem::take(&mut group);
                pool.start(group.bytes(), this.clone().gather(group)).await?;
            }
            entries = listing.batch().await?;
        }
        if !group.is_empty() {
            pool.start(group.bytes(), this.clone().gather(group)).await?;
        }
        this.tally.all_found.store(true, Ordering::Relaxed);
        pool.finish().await?;
        this.tally.tell_of_links();
        going_on.complete();
        drop(unfinished);
        match finisher.await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => Ok(()),
        }
    }

    /// Gives directories their modes and times as they are left behind.
    async fn finish(self: Arc<Self>, mut finished: Finished) {
        while let Some(batch) = finished.next().await {
            let this = self.clone();
            io_pool::run(move || {
                for left in batch {
                    if let Err((path, refusal)) = left.finish(&this.root, this.options) {
                        this.tally.fail(path, refusal);
                    }
                }
            })
            .await;
        }
    }

    /// Makes what needs no content, and finds out which files are missing.
    ///
    /// # Errors
    /// If the disk takes no more.
    fn plan(&self, entries: Vec<Entry>, mut unfinished: Unfinished) -> Result<Plan, TransferError> {
        let mut files = Vec::new();
        for entry in entries {
            let to = self.local.join(&entry.path);
            unfinished.leave(&to);
            match self.plan_one(entry, to.clone(), &mut unfinished) {
                Ok(planned) => files.extend(planned),
                Err(refusal) => match TransferError::local(refusal) {
                    TransferError::Refused(refusal) => self.tally.fail(to, refusal),
                    error => return Err(error),
                },
            }
        }
        Ok(Plan { files, unfinished })
    }

    fn plan_one(&self, entry: Entry, to: RelPath, unfinished: &mut Unfinished) -> Result<Option<Planned>, Refusal> {
        match entry.kind {
            Kind::Directory(attributes) => {
                let made = make_directory(&self.root, &to, self.options)?;
                unfinished.enter(to, made, attributes);
                self.tally.directories.add(1);
            }
            Kind::Link(attributes, target) => {
                make_link(&self.root, &to, (&target, attributes.mtime), self.options)?;
                self.tally.links.add(1);
            }
            Kind::File(attributes) => {
                self.tally.found(&attributes);
                let directory = unfinished.innermost();
                let is_new = directory.as_ref().is_some_and(|directory| directory.is_new());
                let to = self.destination(to, attributes, is_new);
                let place = if is_new { Place::Free } else { to.find()? };
                match place {
                    Place::Identical { .. } => self.tally.kept(attributes.size),
                    place => {
                        let path = entry.path;
                        return Ok(Some(Planned {
                            path,
                            to,
                            place,
                            directory,
                        }));
                    }
                }
            }
            Kind::Other(_) => self.tally.skipped.add(1),
            Kind::Unreadable(refusal) if refusal.status == Status::Unfinished => {
                self.tally.note(format!("{to}: {refusal}"));
            }
            // Not an error: what the server has no room for is no want of this host.
            Kind::Unreadable(refusal) => self.tally.fail(to, refusal),
        }
        Ok(None)
    }

    fn destination(&self, path: RelPath, attributes: Attributes, in_new_directory: bool) -> Destination {
        Destination {
            root: self.root.clone(),
            path,
            attributes,
            options: self.options,
            in_new_directory,
        }
    }

    /// Waits while another process transfers a tree to the same place: it would only do everything twice. Files alone
    /// meet at their temporary files. Where directories cannot be locked there is nothing to wait for.
    async fn claim(&self) -> Option<OwnedFd> {
        if !self.local.is_root() {
            return None;
        }
        let mut is_told = false;
        loop {
            let root = self.root.clone();
            match io_pool::run(move || root.lock()).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.ok(),
            }
            if !is_told {
                let text = "another sss writes to the same place: waiting until it has ended";
                self.tally.note(text.to_owned());
                is_told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Transfers one file: again if it changed meanwhile, or if somebody else writes or has written it here.
    async fn fetch(self: Arc<Self>, planned: Planned) -> Result<(), TransferError> {
        let Planned {
            path,
            to,
            place,
            directory,
        } = planned;
        let done = self.fetch_file(&path, to, place).await;
        if let (Err(_), Some(directory)) = (&done, directory) {
            directory.give_up();
        }
        done
    }

    async fn fetch_file(&self, path: &RelPath, mut to: Destination, mut place: Place) -> Result<(), TransferError> {
        let remote = self.remote.join(path);
        let mut tries = Tries::default();
        let refusal = loop {
            let attempt = self.tally.attempt();
            let refusal = match self.fetch_once(&remote, to.clone(), (&place, &attempt)).await {
                Err(TransferError::Refused(refusal)) => refusal,
                other => return other.map_err(|error| error.about(&to.path)),
            };
            // What did not come to be a file here counts as nothing: no more is told of than was verified.
            attempt.take_back();
            if !tries.again(refusal.status).await {
                break refusal;
            }
            self.tally
                .note_all(tries.tell_once(&refusal).map(|text| format!("{}: {text}", to.path)));
            if refusal.status == Status::Changed {
                to.attributes = self.listed_again(&remote, to.attributes).await?;
            }
            let look = to.clone();
            place = match io_pool::run(move || look.find()).await {
                Ok(Place::Identical { .. }) => {
                    self.tally.kept(to.attributes.size);
                    return Ok(());
                }
                Ok(place) => place,
                Err(refusal) => break refusal,
            };
        };
        self.tally.fail(to.path, refusal);
        Ok(())
    }

    /// Attributes of a file that is not as it was listed.
    async fn listed_again(&self, remote: &RelPath, listed: Attributes) -> Result<Attributes, TransferError> {
        let again = async {
            let mut listing = Listing::ask(&self.session, remote.clone(), 0).await?;
            listing.first().await
        };
        match again.await {
            Ok(Entry {
                kind: Kind::File(attributes),
                ..
            }) => {
                let more = attributes.size.saturating_sub(listed.size);
                self.tally.bytes_found.add(more);
                Ok(attributes)
            }
            // What it is now comes out when it is asked for.
            Ok(_) | Err(TransferError::Refused(_)) => Ok(listed),
            Err(error) => Err(error),
        }
    }

    async fn fetch_once(
        &self,
        remote: &RelPath,
        mut to: Destination,
        (place, attempt): (&Place, &Attempt<'_>),
    ) -> Result<(), TransferError> {
        let basis = basis(&to, place).await?;
        let have = basis.prefix();
        let path = remote.clone();
        let exchange = Exchange::ask(&self.session, &Request::Fetch { path, have }).await?;
        let mut exchange = exchange.limited(self.limit.as_ref());
        exchange.grant(have.map_or(0, |have| have.len));
        let (attributes, start) = exchange.message(content_head).await??;
        if start > attributes.size {
            return Err(TransferError::Protocol("it starts behind the end of a file".to_owned()));
        }
        // Never more than was listed: the user, and the disk, were told of that.
        if attributes.size > to.attributes.size {
            exchange.stop(Status::Changed);
            return Err(changed().into());
        }
        to.attributes = attributes;
        attempt.kept(start);
        let moved = |bytes| attempt.moved(bytes);
        match to.receive(&mut exchange, (basis, start), moved).await? {
            Received::Written => {
                self.tally.files_moved.add(1);
            }
            Received::Identical => attempt.kept_all(attributes.size),
        }
        exchange.end().await
    }
}

/// Finds what there is to begin with; for small files that is known without asking the disk.
pub(crate) async fn basis(to: &Destination, place: &Place) -> Result<Basis, TransferError> {
    if *place == Place::Free && to.attributes.size <= SEGMENT as u64 {
        return Ok(Basis::Nothing);
    }
    let (to, place) = (to.clone(), place.clone());
    io_pool::run(move || to.basis(&place))
        .await
        .map_err(TransferError::local)
}

pub(super) fn content_head(from: &mut Cursor<'_>) -> Result<Result<(Attributes, u64), Refusal>, Stop> {
    match answer(from)? {
        Ok(()) => Ok(Ok((Attributes::decode(from)?, from.varint()?))),
        Err(refusal) => Ok(Err(refusal)),
    }
}
