//! Outcome of a request, for whoever runs the server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sss::{Eid, Peer};
use sss_files::{Refusal, RelPath, Request, Status};

use super::exchange::{Exchange, TransferError};

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) eid: Eid,
    pub(crate) address: Option<SocketAddr>,
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
}

impl Serving {
    /// Of a peer that has opened a stream.
    pub(crate) fn begin(eid: Eid, peer: &Peer, what: &'static str) -> Self {
        let served = Served {
            eid,
            address: peer.info().map(|info| info.remote),
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
        }
    }

    /// Notes what is asked for.
    pub(crate) fn note(&mut self, request: &Request) {
        let (what, path) = match request {
            Request::List { path, .. } => ("list", path),
            Request::Fetch { path, .. } => ("get", path),
            Request::Store { path, .. } => ("put", path),
            Request::Make { path, .. } => ("make", path),
        };
        self.served.what = what;
        self.served.path = path.clone();
    }

    /// It is over.
    pub(crate) fn end(mut self, exchange: Option<&Exchange>, refusal: Option<Refusal>) -> Served {
        (self.served.sent, self.served.received) = exchange.map_or((0, 0), Exchange::bytes);
        self.served.time = self.begun.elapsed();
        self.served.refusal = refusal;
        self.served
    }
}

/// The reason of a failure, for the log.
pub(crate) fn reason(error: TransferError) -> Refusal {
    match error {
        TransferError::Refused(refusal) | TransferError::Disk(refusal) => refusal,
        TransferError::Protocol(what) => Refusal::new(Status::BadRequest, what),
        TransferError::Lost(reason) => Refusal::new(Status::Io, format!("the connection was lost: {reason}")),
        silent @ TransferError::Silent(_) => Refusal::new(Status::Io, silent.to_string()),
        TransferError::NoService(what) => Refusal::new(Status::Io, format!("the peer did not want it: {what}")),
    }
}
