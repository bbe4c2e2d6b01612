//! The serving side: answers the requests of sessions, each on its own.

use std::sync::Arc;

use sss::{Eid, Server, Stream};
use sss_files::{
    Attributes, Entry, Kind, MAX_PATH, NotMade, Options, PathError, Prefix, Refusal, RelPath, Request, Status,
};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::directories::{finish_directories, make_directory};
use super::download::basis;
use super::exchange::{Exchange, TransferError};
use super::io_pool;
use super::manifest::Walk;
use super::receive::{Destination, Place, Received, make_link};
use super::send;
use crate::transfer::safe_path::Root;

/// Requests of one session answered at once; more wait.
const AT_ONCE: usize = 512;
/// Bytes of a listing sent together.
const LISTING: usize = 32 << 10;
/// Entries of MAKE made together.
const BATCH: usize = 256;

/// A directory that is served.
#[derive(Clone)]
pub(crate) struct FileService {
    pub(crate) root: Arc<Root>,
    /// Set if files are taken.
    pub(crate) writable: bool,
}

impl FileService {
    /// Answers all who come, until the host is closed.
    pub(crate) async fn serve(self, server: Server) {
        while let Ok((session, eid)) = server.accept().await {
            info!(%eid, "session");
            tokio::spawn(self.clone().session(session, eid));
        }
    }

    async fn session(self, session: Stream, eid: Eid) {
        let (mut send, mut receive) = session.split();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else {
                break;
            };
            let substream = tokio::select! {
                accepted = send.accept_substream() => accepted,
                ended = receive.read_chunk(1) => {
                    debug!(%eid, ?ended, "the session ends");
                    break;
                }
            };
            let Ok(Some(substream)) = substream else { break };
            let service = self.clone();
            tokio::spawn(async move {
                if let Err(error) = service.answer(Exchange::new(substream)).await {
                    debug!(%eid, %error, "a request failed");
                }
                drop(permit);
            });
        }
        // A peer that is gone is not told.
        let _ = send.finish();
    }

    async fn answer(self, mut exchange: Exchange) -> Result<(), TransferError> {
        let result = match exchange.message(Request::decode).await {
            Ok(request) => self.perform(request, &mut exchange).await,
            Err(error) => Err(error),
        };
        let refusal = match result {
            Err(TransferError::Refused(refusal) | TransferError::Disk(refusal)) => refusal,
            Err(TransferError::Protocol(what)) => Refusal::new(Status::BadRequest, what),
            other => return other,
        };
        debug!(%refusal, "refused");
        exchange.refuse(&refusal).await
    }

    async fn perform(&self, request: Request, exchange: &mut Exchange) -> Result<(), TransferError> {
        debug!(?request);
        match request {
            Request::List { path, depth } => {
                exchange.end().await?;
                self.list(path, depth, exchange).await
            }
            Request::Fetch { path, have } => {
                exchange.end().await?;
                let segment = send::open(self.root.clone(), path, have).await?;
                segment.send(exchange, |_| ()).await
            }
            Request::Store { .. } | Request::Make { .. } if !self.writable => Err(read_only().into()),
            Request::Store {
                path,
                options,
                attributes,
            } => {
                let to = Destination {
                    root: self.root.clone(),
                    path,
                    attributes,
                    options,
                };
                store(to, exchange).await
            }
            Request::Make { path, options } => {
                let root = self.root.clone();
                let maker = Maker { root, path, options };
                maker.run(exchange).await
            }
        }
    }

    async fn list(&self, path: RelPath, depth: u8, exchange: &mut Exchange) -> Result<(), TransferError> {
        let root = self.root.clone();
        let walk = io_pool::run(move || Walk::new(&root, &path, depth)).await;
        let walk = walk.map_err(Refusal::from)?;
        exchange.send(vec![Status::Ok as u8]).await?;
        let next = |mut walk: Walk| {
            io_pool::start(move || {
                let batch = walk.batch(LISTING);
                (batch, walk)
            })
        };
        let mut ahead = next(walk);
        loop {
            let (batch, walk) = ahead.result().await;
            if batch.is_empty() {
                return exchange.finish();
            }
            ahead = next(walk);
            exchange.send(batch).await?;
        }
    }
}

fn read_only() -> Refusal {
    let text = "this server takes no files: whoever runs it can allow that with `sss serve --write`";
    Refusal::new(Status::ReadOnly, text)
}

async fn store(to: Destination, exchange: &mut Exchange) -> Result<(), TransferError> {
    let looker = to.clone();
    let place = io_pool::run(move || looker.find()).await?;
    if let Place::Identical { .. } = place {
        finally(exchange, Status::Identical).await?;
        return exchange.end().await;
    }
    let basis = basis(&to, &place).await?;
    let mut answer = vec![Status::Ok as u8];
    Prefix::encode(basis.prefix().as_ref(), &mut answer);
    exchange.send(answer).await?;
    let start = exchange.message(sss_files::start).await?;
    if start > to.attributes.size {
        return Err(TransferError::Protocol(
            "it starts behind the end of the file".to_owned(),
        ));
    }
    let status = match to.receive(exchange, (basis, start), |_| ()).await? {
        Received::Written => Status::Ok,
        Received::Identical => Status::Identical,
    };
    exchange.end().await?;
    finally(exchange, status).await
}

async fn finally(exchange: &mut Exchange, status: Status) -> Result<(), TransferError> {
    exchange.send(vec![status as u8, 0]).await?;
    exchange.finish()
}

/// Answers MAKE.
#[derive(Clone)]
struct Maker {
    root: Arc<Root>,
    path: RelPath,
    options: Options,
}

/// Entries made so far, and not made.
#[derive(Default)]
struct Made {
    directories: Vec<(RelPath, Attributes)>,
    failed: Vec<NotMade>,
}

impl Maker {
    async fn run(self, exchange: &mut Exchange) -> Result<(), TransferError> {
        let mut made = Made::default();
        loop {
            let entries = exchange.messages(BATCH, Entry::decode).await?;
            if entries.is_empty() {
                break;
            }
            let maker = self.clone();
            made = io_pool::run(move || maker.make(entries, made)).await;
        }
        let made = io_pool::run(move || self.finish(made)).await;
        let mut out = vec![Status::Ok as u8];
        made.failed.iter().for_each(|failed| failed.encode(&mut out));
        exchange.send(out).await?;
        exchange.finish()
    }

    fn make(&self, entries: Vec<Entry>, mut made: Made) -> Made {
        for Entry { path, kind } in entries {
            let to = self.path.join(&path);
            let result = match kind {
                _ if to.as_bytes().len() > MAX_PATH => {
                    Err(Refusal::new(Status::BadPath, PathError::TooLong.to_string()))
                }
                Kind::Directory(attributes) => make_directory(&self.root, &to, self.options).map(|is_made| {
                    if is_made {
                        made.directories.push((to, attributes));
                    }
                }),
                Kind::Link(_, target) => make_link(&self.root, &to, &target, self.options).map(drop),
                _ => Err(Refusal::new(Status::BadRequest, "only directories and links are made")),
            };
            if let Err(refusal) = result {
                made.failed.push(NotMade { path, refusal });
            }
        }
        made
    }

    fn finish(&self, mut made: Made) -> Made {
        for (path, refusal) in finish_directories(&self.root, &made.directories, self.options) {
            made.failed.push(NotMade { path, refusal });
        }
        made
    }
}
