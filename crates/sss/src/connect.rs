//! Opening a stream to a service of another host.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{CloseReason, NegotiationError, PeerId, Seen, Tried};
use sss_wire::Eid;
use tokio::time::Instant;

use crate::driver::socket;
use crate::driver::wakers::Key;
use crate::error::ConnectError;
use crate::shared::{Handle, Inner, Phase};
use crate::stream::Stream;
use crate::waiting::until;

/// How often a stream is opened again because the peer was restarted while it was being reached.
const RESTARTS: u32 = 3;

/// A stream about to be opened; see [`crate::Host::connect`].
///
/// Awaited, it opens the stream and waits until the channel to the peer is established. With [`Self::open`] it does not wait.
///
/// That the peer refuses the service is not an error of connecting, because opening a stream takes no round trip: the stream then
/// ends with [`crate::ReadError::Refused`] and [`crate::WriteError::Refused`], which say [`crate::Refusal::Service`] or
/// [`crate::Refusal::Protocol`].
///
/// A peer that restarts meanwhile is reached all the same: the stream, to which nothing was written yet, is opened again.
///
/// Ends when the channel is there, or its time is over. Cancel safe: a cancelled attempt opens no stream, and nobody is looked for any more,
/// unless something else waits for the same peer: another attempt, a stream that is held, or one that was finished and is to be delivered.
#[must_use = "nothing is opened until this is awaited, or `open` is called"]
pub struct Connect {
    handle: Arc<Handle>,
    eid: Eid,
    service: String,
    protocol: String,
    hints: Vec<SocketAddr>,
    timeout: Option<Duration>,
}

impl Connect {
    pub(crate) fn new(handle: Arc<Handle>, eid: Eid, service: &str, protocol: &str) -> Self {
        Self {
            handle,
            eid,
            service: service.to_owned(),
            protocol: protocol.to_owned(),
            hints: Vec::new(),
            timeout: None,
        }
    }

    /// An address at which the host may be. All that are given are tried.
    pub fn hint(mut self, address: SocketAddr) -> Self {
        self.hints.push(socket::canonical(address));
        self
    }

    /// Addresses at which the host may be.
    pub fn hints(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.hints.extend(addresses.into_iter().map(socket::canonical));
        self
    }

    /// How long to wait for the channel; at most the host's connect timeout, which is the default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Opens the stream without waiting for the channel.
    ///
    /// What is written to it before the channel is established travels with the negotiation, in its third packet, as far
    /// as it fits; that saves a round trip. If no channel comes to be, reading and writing fail with
    /// [`CloseReason::Negotiation`].
    ///
    /// # Errors
    /// If the attempt cannot even begin: no address is known, the EID is this host's own or unusable, a name is
    /// too long, or the host was closed.
    pub fn open(self) -> Result<Stream, ConnectError> {
        self.begin()
    }

    fn begin(&self) -> Result<Stream, ConnectError> {
        let id = self.handle.call(|inner, now| {
            if !inner.is_running() {
                return Err(ConnectError::HostClosed);
            }
            inner.want_driver();
            let names = (self.service.as_str(), self.protocol.as_str());
            Ok(inner.core.connect(now, self.eid, names, &self.hints)?)
        })?;
        let Self {
            eid, service, protocol, ..
        } = self;
        tracing::debug!(peer = %eid, %id, service, protocol, "stream opened");
        Ok(Stream::new(Arc::clone(&self.handle), id))
    }

    async fn run(self) -> Result<Stream, ConnectError> {
        let limit = self.timeout.map(|after| (after, Instant::now() + after));
        for _ in 0..RESTARTS {
            match self.reach(limit).await {
                // Nothing was written to the stream, so it can be opened again.
                Err(ConnectError::Closed(CloseReason::PeerRestarted)) => {}
                other => return other,
            }
        }
        self.reach(limit).await
    }

    async fn reach(&self, limit: Option<(Duration, Instant)>) -> Result<Stream, ConnectError> {
        let stream = self.begin()?;
        let peer = stream.id().peer();
        let established = until(&self.handle, Key::Connected(peer), |inner, _| established(inner, peer));
        match limit {
            None => established.await?,
            Some((after, end)) => match tokio::time::timeout_at(end, established).await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(self.no_answer(peer, after)),
            },
        }
        Ok(stream)
    }

    /// Why the peer was not reached within this caller's patience.
    fn no_answer(&self, peer: PeerId, after: Duration) -> ConnectError {
        let failure = self.handle.call(|inner, now| inner.core.negotiation_failure(now, peer));
        let addresses = || {
            self.hints.iter().map(|address| Tried {
                address: *address,
                seen: Seen::default(),
            })
        };
        let nobody = || NegotiationError::NoAnswer {
            addresses: addresses().collect(),
            after,
        };
        failure.unwrap_or_else(nobody).into()
    }
}

/// Ready when the channel to the peer is established, or never will be.
fn established(inner: &Inner, peer: PeerId) -> Poll<Result<(), ConnectError>> {
    if let Some(reason) = inner.core.close_reason(peer) {
        return Poll::Ready(Err(reason.into()));
    }
    match inner.core.is_connected(peer) {
        Some(true) => Poll::Ready(Ok(())),
        Some(false) if inner.phase < Phase::Stopped => Poll::Pending,
        _ => Poll::Ready(Err(ConnectError::HostClosed)),
    }
}

impl IntoFuture for Connect {
    type Output = Result<Stream, ConnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("eid", &self.eid)
            .field("service", &self.service)
            .field("protocol", &self.protocol)
            .field("hints", &self.hints)
            .finish_non_exhaustive()
    }
}
