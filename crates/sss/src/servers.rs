//! Many services, taken from in one loop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crate::error::AcceptError;
use crate::server::{Incoming, Server};

/// Servers whose streams are accepted in one loop, in turn, so that none waits because of another.
///
/// Several tasks may accept at once. Dropping it withdraws all services.
#[derive(Debug, Default)]
pub struct ServerSet {
    servers: Vec<Server>,
    /// The one that is asked first next time.
    first: AtomicUsize,
}

impl ServerSet {
    /// A set of none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a server. It may be of another host.
    pub fn push(&mut self, server: Server) {
        self.servers.push(server);
    }

    /// The servers, in the order in which they were added.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The next stream of any server, with what it was opened for. Waits for ever if there is no server.
    ///
    /// Cancel safe: no stream is lost.
    ///
    /// # Errors
    /// If a host was closed.
    pub async fn accept(&self) -> Result<Incoming, AcceptError> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Self::accept`], as a poll function.
    ///
    /// # Errors
    /// If a host was closed.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let first = self.first.load(Ordering::Relaxed);
        let in_turn = self.servers.iter().enumerate().cycle().skip(first);
        for (at, server) in in_turn.take(self.servers.len()) {
            if let Poll::Ready(incoming) = server.poll_accept_incoming(cx) {
                let next = at.wrapping_add(1) % self.servers.len();
                self.first.store(next, Ordering::Relaxed);
                return Poll::Ready(incoming);
            }
        }
        Poll::Pending
    }
}

impl FromIterator<Server> for ServerSet {
    fn from_iter<I: IntoIterator<Item = Server>>(servers: I) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            first: AtomicUsize::new(0),
        }
    }
}

impl<const N: usize> From<[Server; N]> for ServerSet {
    fn from(servers: [Server; N]) -> Self {
        servers.into_iter().collect()
    }
}
