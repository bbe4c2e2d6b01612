//! Methods that a transport must offer to be measured. Workloads are written against these traits and compiled once for
//! each backend, so that the harness costs every one of them the same.

use bytes::Bytes;

use crate::outcome::Outcome;
use crate::setup::{Address, Setup};

/// A transport under test.
pub(crate) trait Transport: 'static {
    type Listener: Listener;
    type Dialer: Dialer;

    /// Starts a server on a free port of the loopback interface.
    fn listen(setup: &Setup) -> impl Future<Output = Outcome<(Self::Listener, Address)>> + Send;

    /// Makes a client for the server at `address`; connects to nothing yet.
    fn dialer(setup: &Setup, address: &Address) -> impl Future<Output = Outcome<Self::Dialer>> + Send;
}

/// A server that accepts connections.
pub(crate) trait Listener: Send + 'static {
    type Connection: Connection;
    /// A connection whose handshake may not have happened yet.
    type Incoming: Send + 'static;

    /// Waits for the next client.
    fn accept(&mut self) -> impl Future<Output = Outcome<Self::Incoming>> + Send;

    /// Completes the handshake; runs in a task of its own.
    fn establish(incoming: Self::Incoming) -> impl Future<Output = Outcome<Self::Connection>> + Send;
}

/// A client that makes connections.
pub(crate) trait Dialer: Sized + Send + Sync + 'static {
    type Connection: Connection;

    /// Makes a new connection with a full handshake.
    fn dial(&self) -> impl Future<Output = Outcome<Self::Connection>> + Send;

    /// Another dialer, whose connection can live beside the one of this dialer.
    fn sibling(&self) -> impl Future<Output = Outcome<Self>> + Send;
}

/// A connection that carries streams.
pub(crate) trait Connection: Send + Sync + 'static {
    type Stream: Stream;

    /// Opens a stream.
    fn open(&self) -> impl Future<Output = Outcome<Self::Stream>> + Send;

    /// Waits for a stream of the other side; `None` when the connection has ended. One caller at a time.
    fn accept(&self) -> impl Future<Output = Option<Self::Stream>> + Send;

    /// Sends a datagram, when there is room for it.
    fn send_datagram(&self, data: Bytes) -> impl Future<Output = Outcome<()>> + Send;

    /// Waits for a datagram of the other side; returns how long it is. `None` when the connection has ended.
    fn recv_datagram(&self) -> impl Future<Output = Option<usize>> + Send;

    /// Ends the connection.
    fn close(self) -> impl Future<Output = Outcome<()>> + Send;
}

/// A stream of bytes in both directions.
pub(crate) trait Stream: Send + 'static {
    /// Sends all of `data`.
    fn send(&mut self, data: Bytes) -> impl Future<Output = Outcome<()>> + Send;

    /// Ends the sending direction.
    fn finish(&mut self) -> impl Future<Output = Outcome<()>> + Send;

    /// Takes what has arrived, at least one byte, in the cheapest way the transport has; returns how much it was, 0 at
    /// the end.
    fn drain(&mut self) -> impl Future<Output = Outcome<usize>> + Send;

    /// Fills `buf`.
    fn receive_exact(&mut self, buf: &mut [u8]) -> impl Future<Output = Outcome<()>> + Send;
}
