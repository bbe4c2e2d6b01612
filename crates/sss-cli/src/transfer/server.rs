//! The serving side: answers the requests of sessions, each on its own.

use std::sync::Arc;

use sss::{Eid, Server, Stream};
use sss_files::{
    Attributes, Entry, Kind, MAX_PATH, NotMade, Options, PathError, Prefix, Refusal, RelPath, Request, Status,
};
use tracing::{debug, info};

use super::access::Door;
use super::directories::{finish_directories, make_directory};
use super::download::basis;
use super::exchange::{Exchange, TransferError};
use super::fetch::Fetch;
use super::io_pool;
use super::limits::{Claim, Limits};
use super::list::List;
use super::receive::{Destination, Place, Received, make_link};
use super::served::{Served, Serving, reason};
use super::session;
use crate::ticket::Secret;
use crate::transfer::safe_path::Root;

/// Entries of MAKE made together.
const BATCH: usize = 256;

/// A directory that is served.
#[derive(Clone)]
pub(crate) struct FileService {
    root: Arc<Root>,
    /// Set if files are taken.
    writable: bool,
    door: Arc<Door>,
    limits: Arc<Limits>,
    log: Log,
}

/// Whoever wants to know what is served.
pub(crate) type Log = Arc<dyn Fn(Served) + Send + Sync>;

impl FileService {
    /// Of a directory, with all that requests share.
    pub(crate) fn new(root: Root, writable: bool, secret: Option<Secret>, log: Log) -> Self {
        Self {
            root: Arc::new(root),
            writable,
            door: Arc::new(Door::new(secret)),
            limits: Arc::new(Limits::new(io_pool::threads())),
            log,
        }
    }

    /// Returns whether files are taken.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Answers all who come, until the host is closed.
    pub(crate) async fn serve(self, server: Server) {
        tokio::spawn(self.limits.clone().watch());
        while let Ok((session, eid)) = server.accept().await {
            info!(%eid, "session");
            tokio::spawn(self.clone().session(session, eid));
        }
    }

    async fn session(self, mut session: Stream, eid: Eid) {
        let serving = Serving::begin(eid, &session, "session");
        let Some(_place) = self.limits.sessions.try_get(eid, 1) else {
            let refusal = busy();
            session.reset_tree_with(refusal.status as u32, &refusal.text);
            return (self.log)(serving.end(None, Some(refusal)));
        };
        let (mut send, mut receive) = session.split();
        if let Err(refusal) = session::hear((&mut send, &mut receive), eid, &self.door).await {
            return (self.log)(serving.end(None, Some(refusal)));
        }
        let next = || async {
            // What waits is not at hand: the transport keeps it, and its peer pays for it.
            let substream = send.accept_substream().await.ok()??;
            Some((substream, self.limits.claim(eid).await))
        };
        let mut coming = Box::pin(next());
        loop {
            let (substream, claim) = tokio::select! {
                next = &mut coming => match next {
                    Some(next) => next,
                    None => break,
                },
                ended = receive.read_chunk(1) => {
                    debug!(%eid, ?ended, "the session ends");
                    break;
                }
            };
            tokio::spawn(self.clone().request(Exchange::new(substream), claim));
            coming.set(next());
        }
        drop(coming);
        // A peer that is gone is not told.
        let _ = send.finish();
    }

    /// One request from its first byte to the arrival of the answer.
    async fn request(self, mut exchange: Exchange, claim: Claim) {
        let mut serving = Serving::begin(claim.eid(), exchange.stream(), "request");
        let answered = tokio::select! {
            answered = self.answer(&mut exchange, &claim, &mut serving) => Some(answered),
            () = claim.given_up() => None,
        };
        // Nothing more of it can be taken back.
        claim.paused();
        let arrived = match &answered {
            Some(_) => tokio::select! {
                arrived = exchange.arrived() => Some(arrived),
                () = claim.given_up() => None,
            },
            None => None,
        };
        let result = match (answered, arrived) {
            (Some(Ok(())), Some(arrived)) => arrived.map_err(reason),
            (Some(Err(error)), _) => Err(reason(error)),
            (_, None) | (None, _) => {
                exchange.reset(&busy());
                exchange.stop(Status::Busy);
                Err(busy())
            }
        };
        (self.log)(serving.end(Some(&exchange), result.err()));
    }

    async fn answer(&self, exchange: &mut Exchange, claim: &Claim, serving: &mut Serving) -> Result<(), TransferError> {
        let result = match exchange.message(Request::decode).await {
            Ok(request) => {
                serving.note(&request);
                self.perform(request, exchange, claim).await
            }
            Err(error) => Err(error),
        };
        let refusal = match result {
            Err(TransferError::Refused(refusal) | TransferError::Disk(refusal)) => refusal,
            Err(TransferError::Protocol(what)) => Refusal::new(Status::BadRequest, what),
            other => return other,
        };
        // Whoever does not want to hear it needs not.
        let _ = exchange.refuse(&refusal).await;
        Err(refusal.into())
    }

    async fn perform(&self, request: Request, exchange: &mut Exchange, claim: &Claim) -> Result<(), TransferError> {
        debug!(?request);
        let root = self.root.clone();
        match request {
            Request::List { path, depth } => {
                exchange.end().await?;
                let list = List {
                    root,
                    path,
                    depth,
                    claim,
                };
                Box::pin(list.answer(exchange)).await
            }
            Request::Fetch { path, have } => {
                exchange.end().await?;
                let fetch = Fetch { root, path, claim };
                Box::pin(fetch.answer(have, exchange)).await
            }
            Request::Store { .. } | Request::Make { .. } if !self.writable => Err(read_only().into()),
            Request::Store {
                path,
                options,
                attributes,
            } => {
                let to = Destination {
                    root,
                    path,
                    attributes,
                    options,
                };
                let _descriptors = claim.descriptor(STORE_DESCRIPTORS).await;
                claim.resumed();
                Box::pin(store(to, exchange, claim)).await
            }
            Request::Make { path, options } => {
                let maker = Maker { root, path, options };
                let _walk = claim.limits().walks.get(claim.eid(), 1).await;
                Box::pin(maker.run(exchange)).await
            }
        }
    }
}

/// Descriptors of a file that comes in, and of its directory.
const STORE_DESCRIPTORS: u64 = 2;

fn busy() -> Refusal {
    Refusal::new(Status::Busy, "this server has too much to do: try again later")
}

fn read_only() -> Refusal {
    let text = "this server takes no files: whoever runs it can allow that with `sss serve --write`";
    Refusal::new(Status::ReadOnly, text)
}

async fn store(to: Destination, exchange: &mut Exchange, claim: &Claim) -> Result<(), TransferError> {
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
    let status = match to.receive(exchange, (basis, start), |_| claim.moved()).await? {
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
