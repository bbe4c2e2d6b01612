//! Small files on their way to this side, many with one request: GATHER. They are written as they come, together with
//! those that came while the last ones were written.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sss_files::{Gathered, Names, Options, Refusal, Request, Status};

use super::super::exchange::{Exchange, SEGMENT, TransferError};
use super::super::io_pool::{self, Job};
use super::super::receive::Place;
use super::{Download, Planned};

/// Bytes of files that are asked for together, at most.
const BYTES: u64 = SEGMENT as u64;
/// Files that are written together if each is to be on the disk before the next.
const SYNCED_TOGETHER: usize = 4;

/// Files to be asked for together.
#[derive(Default)]
pub(super) struct Group {
    names: Names,
    files: VecDeque<Planned>,
    /// Those that were listed.
    bytes: u64,
}

/// Files of a group that have come, until they are written.
#[derive(Default)]
struct Arrivals {
    ready: Vec<Arrived>,
    /// Bytes of what is ready.
    bytes: u64,
    writing: Option<Job<Written>>,
    /// Files that are to be fetched by themselves: they are not as they were, there or here.
    odd: Vec<Planned>,
}

/// Files that were written, or why not.
type Written = Vec<(Planned, Result<(), Refusal>)>;

/// A file that is there completely.
struct Arrived {
    planned: Planned,
    chunks: Vec<Bytes>,
    hash: blake3::Hash,
}

impl Group {
    /// Returns whether a file is one to be fetched with others.
    pub(super) fn is_for(planned: &Planned) -> bool {
        planned.place == Place::Free && planned.to.attributes.size <= Names::LARGEST_FILE
    }

    /// Adds a file. What was there before, if there is no room for it.
    pub(super) fn push(&mut self, planned: Planned) -> Option<Self> {
        let size = planned.to.attributes.size;
        let is_full = self.bytes.saturating_add(size) > BYTES || !self.names.push(&planned.path);
        let full = (is_full && !self.is_empty()).then(|| std::mem::take(self));
        if full.is_some() {
            return self.push(planned).or(full);
        }
        self.bytes = self.bytes.saturating_add(size);
        self.files.push_back(planned);
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Download {
    /// Transfers a group of files.
    pub(super) async fn gather(self: Arc<Self>, mut group: Group) -> Result<(), TransferError> {
        if group.files.len() == 1
            && let Some(only) = group.files.pop_front()
        {
            return self.fetch(only).await;
        }
        // None is finished before it is known how this ended.
        let mut directories: Vec<_> = group.files.iter().filter_map(|file| file.directory.clone()).collect();
        directories.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let done = self.gather_all(group).await;
        if let (Err(_), Some(directory)) = (&done, directories.first()) {
            directory.give_up();
        }
        done
    }

    async fn gather_all(self: &Arc<Self>, mut group: Group) -> Result<(), TransferError> {
        let names = std::mem::take(&mut group.names);
        let mut arrivals = Arrivals::default();
        let received = self.receive_all(names, &mut group.files, &mut arrivals).await;
        // What has come is written, however it ended.
        self.write(&mut arrivals).await?;
        self.written(&mut arrivals).await?;
        match received {
            Err(TransferError::Refused(_)) | Ok(()) => {}
            other => return other,
        }
        for odd in arrivals.odd {
            self.look_and_fetch(odd).await?;
        }
        for left in group.files {
            self.clone().fetch(left).await?;
        }
        Ok(())
    }

    async fn receive_all(
        &self,
        names: Names,
        files: &mut VecDeque<Planned>,
        arrivals: &mut Arrivals,
    ) -> Result<(), TransferError> {
        let request = Request::Gather {
            path: self.remote.clone(),
            names,
        };
        let exchange = Exchange::ask(&self.session, &request).await?;
        let mut exchange = exchange.limited(self.limit.as_ref());
        while !files.is_empty() {
            let said = exchange.message(Gathered::decode).await?.0;
            if let Err(refusal) = &said
                && files.len() > 1
                && exchange.is_at_end().await?
            {
                return Err(refusal.clone().into());
            }
            let content = match &said {
                Ok((attributes, _)) => exchange.content(attributes.size as usize).await?,
                Err(_) => Vec::new(),
            };
            let Some(planned) = files.pop_front() else { break };
            self.arrived(
                planned,
                said.map(|(attributes, hash)| (attributes, hash, content)),
                arrivals,
            );
            let is_idle = arrivals.writing.as_ref().is_none_or(Job::is_done);
            if is_idle || arrivals.bytes >= BYTES {
                self.write(arrivals).await?;
            }
        }
        exchange.end().await
    }

    /// Takes a file that has come, or the reason why it does not.
    fn arrived(
        &self,
        mut planned: Planned,
        said: Result<(sss_files::Attributes, blake3::Hash, Vec<Bytes>), Refusal>,
        arrivals: &mut Arrivals,
    ) {
        match said {
            Err(refusal) if is_odd(refusal.status) => arrivals.odd.push(planned),
            Err(refusal) => self.tally.fail(planned.to.path, refusal),
            Ok((attributes, hash, chunks)) => {
                // Never more than was listed: the user, and the disk, were told of that.
                if attributes.size > planned.to.attributes.size {
                    return arrivals.odd.push(planned);
                }
                planned.to.attributes = attributes;
                arrivals.bytes = arrivals.bytes.saturating_add(attributes.size);
                arrivals.ready.push(Arrived { planned, chunks, hash });
            }
        }
    }

    /// Begins to write what is ready, when what came before is written.
    async fn write(&self, arrivals: &mut Arrivals) -> Result<(), TransferError> {
        self.written(arrivals).await?;
        arrivals.bytes = 0;
        let most = match self.options.contains(Options::SYNC) {
            true => SYNCED_TOGETHER,
            false => usize::MAX,
        };
        while !arrivals.ready.is_empty() {
            self.written(arrivals).await?;
            let now: Vec<_> = arrivals.ready.drain(..arrivals.ready.len().min(most)).collect();
            arrivals.writing = Some(io_pool::start(move || now.into_iter().map(Arrived::write).collect()));
        }
        Ok(())
    }

    /// Waits for what is being written.
    async fn written(&self, arrivals: &mut Arrivals) -> Result<(), TransferError> {
        let Some(writing) = arrivals.writing.take() else {
            return Ok(());
        };
        for (planned, written) in writing.result().await {
            match written.map_err(TransferError::local) {
                Ok(()) => {
                    self.tally.files_moved.add(1);
                    self.tally.bytes_moved.add(planned.to.attributes.size);
                }
                Err(TransferError::Refused(refusal)) if is_odd(refusal.status) => arrivals.odd.push(planned),
                Err(TransferError::Refused(refusal)) => self.tally.fail(planned.to.path, refusal),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Transfers a file of which something may have come to be here.
    async fn look_and_fetch(&self, planned: Planned) -> Result<(), TransferError> {
        let Planned { path, to, .. } = planned;
        let look = to.clone();
        match io_pool::run(move || look.find()).await {
            Ok(Place::Identical { .. }) => self.tally.kept(to.attributes.size),
            Ok(place) => return self.fetch_file(&path, to, place).await,
            Err(refusal) => self.tally.fail(to.path, refusal),
        }
        Ok(())
    }
}

impl Arrived {
    fn write(self) -> (Planned, Result<(), Refusal>) {
        let written = self.planned.to.complete(None, &self.chunks, self.hash);
        (self.planned, written)
    }
}

/// Returns whether a file that was refused so is worth another look.
fn is_odd(status: Status) -> bool {
    matches!(status, Status::Changed | Status::Exists | Status::Busy)
}
