//! Outcome of a request, for whoever runs the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sss::{Eid, Peer, Route};
use sss_files::{Names, Refusal, RelPath, Request, Status};

use super::exchange::{Exchange, TransferError};

/// Whoever wants to know what is served.
pub(crate) type Log = Arc<dyn Fn(Served) + Send + Sync>;

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) eid: Eid,
    /// Route to the peer when it ended.
    pub(crate) address: Option<Route>,
    /// `connect`, `session`, `list`, `get`, `put`, `make`; `request`: nobody knows what it was to be.
    pub(crate) what: &'static str,
    pub(crate) path: RelPath,
    /// Bytes that were sent, and that came, with what is around the content.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) time: Duration,
    /// `None`: it ended well.
    pub(crate) refusal: Option<Refusal>,
}

/// A request while it is served.
pub(crate) struct Serving {
    served: Served,
    begun: Instant,
    /// The files that were asked for together, and for those that are dealt with, bytes sent and why not.
    names: Arc<Names>,
    files: Vec<(u64, Option<Refusal>)>,
}

impl Serving {
    /// Of a peer that has opened a stream.
    pub(crate) fn begin(eid: Eid, peer: &Peer, what: &'static str) -> Self {
        let served = Served {
            eid,
            address: peer.info().map(|info| info.route),
            what,
            path: RelPath::default(),
            sent: 0,
            received: 0,
            time: Duration::ZERO,
            refusal: None,
        };
        Self {
            served,
            begun: Instant::now(),
            names: Arc::default(),
            files: Vec::new(),
        }
    }

    /// Notes what is asked for.
    pub(crate) fn note(&mut self, request: &Request) {
        let (what, path) = match request {
            Request::List { path, .. } => ("list", path),
            Request::Fetch { path, .. } => ("get", path),
            Request::Store { path, .. } => ("put", path),
            Request::Make { path, .. } => ("make", path),
            Request::Gather { path, .. } => ("get", path),
        };
        self.served.what = what;
        self.served.path = path.clone();
    }

    /// Notes which files are asked for together.
    pub(crate) fn note_names(&mut self, names: Arc<Names>) {
        self.names = names;
    }

    /// Notes what became of the next of them.
    pub(crate) fn note_file(&mut self, sent: u64, refusal: Option<Refusal>) {
        self.files.push((sent, refusal));
    }

    /// It is over: a line for it, or one for each file.
    pub(crate) fn end(mut self, exchange: Option<&Exchange>, refusal: Option<Refusal>, log: &Log) {
        self.served.time = self.begun.elapsed();
        // It may have moved; one that is gone was last seen where it was.
        if let Some(info) = exchange.and_then(|exchange| exchange.peer().info()) {
            self.served.address = Some(info.route);
        }
        if self.names.is_empty() {
            (self.served.sent, self.served.received) = exchange.map_or((0, 0), Exchange::bytes);
            self.served.refusal = refusal;
            return log(self.served);
        }
        let mut files = self.files.into_iter();
        for name in self.names.iter() {
            let (sent, own) = files.next().unwrap_or_default();
            log(Served {
                path: self.served.path.join(&name),
                sent,
                refusal: own.or_else(|| refusal.clone()),
                ..self.served.clone()
            });
        }
    }
}

/// The reason of a failure, for the log.
pub(crate) fn reason(error: TransferError) -> Refusal {
    match error {
        TransferError::Refused(refusal) | TransferError::Disk(refusal) => refusal,
        TransferError::Protocol(what) | TransferError::Pattern(what) => Refusal::new(Status::BadRequest, what),
        TransferError::Lost(reason) => Refusal::new(Status::Io, format!("the connection was lost: {reason}")),
        silent @ (TransferError::Silent(_)
        | TransferError::Unheard(_)
        | TransferError::Unsent(_)
        | TransferError::Cut(_)
        | TransferError::Busy(_)) => Refusal::new(Status::Io, silent.to_string()),
        TransferError::TooManyOpen => Refusal::new(Status::Busy, error.to_string()),
        TransferError::NoService(what) => Refusal::new(Status::Io, format!("the peer did not want it: {what}")),
    }
}
