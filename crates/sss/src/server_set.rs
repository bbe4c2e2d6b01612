//! Many services, taken from in one loop.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crate::error::AcceptError;
use crate::server::{Incoming, Server};
use crate::waiting::Place;

/// Servers whose streams are accepted in one loop, in turn, so that none waits because of another.
///
/// As a `futures` `Stream` it gives what [`Self::accept`] does, and ends when that fails.
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

    /// The next stream of any server, with what it was opened for. Ends when there is one, or a host is closed.
    ///
    /// Cancel safe: no stream is lost. Takes time and memory in proportion to the number of servers while it waits.
    ///
    /// # Errors
    /// If a host was closed, or there is no server: nothing could ever come.
    pub async fn accept(&self) -> Result<Incoming, AcceptError> {
        let mut places: Vec<Place<'_>> = self.servers.iter().map(Server::place).collect();
        std::future::poll_fn(|cx| {
            self.poll_in_turn(|at, server| match places.get_mut(at) {
                Some(place) => server.poll_incoming_at(cx, place),
                None => Poll::Pending,
            })
        })
        .await
    }

    /// As [`Self::accept`], as a poll function. If there is no stream yet, the task of the *latest* call is woken when
    /// there is; several tasks use [`Self::accept`].
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        self.poll_in_turn(|_, server| server.poll_accept_incoming(cx))
    }

    /// Asks the servers, another one first each time, until one has something.
    fn poll_in_turn(
        &self,
        mut poll: impl FnMut(usize, &Server) -> Poll<Result<Incoming, AcceptError>>,
    ) -> Poll<Result<Incoming, AcceptError>> {
        if self.servers.is_empty() {
            return Poll::Ready(Err(AcceptError::NoServer));
        }
        let first = self.first.load(Ordering::Relaxed);
        let in_turn = self.servers.iter().enumerate().cycle().skip(first);
        for (at, server) in in_turn.take(self.servers.len()) {
            if let Poll::Ready(incoming) = poll(at, server) {
                let next = at.wrapping_add(1) % self.servers.len();
                self.first.store(next, Ordering::Relaxed);
                return Poll::Ready(incoming);
            }
        }
        Poll::Pending
    }
}

impl futures_core::Stream for ServerSet {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.poll_accept(cx).map(Result::ok)
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
