//! Methods that a transport must offer to be measured. Workloads are written against these traits and compiled once for
//! each backend, so that the harness costs every one of them the same.

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::outcome::Outcome;
use crate::setup::{Address, Settings, Setup, Workload};

/// A transport under test.
pub trait Transport: 'static {
    /// Name of the library; ratios are told for each.
    const LIBRARY: &'static str;
    /// Packages whose versions a report tells.
    const PACKAGES: &'static [&'static str];
    /// The server's side.
    type Listener: Listener;
    /// The client's side.
    type Dialer: Dialer;

    /// Tells why there is no result of a workload, if there is none.
    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str>;

    /// Starts a server on a free port of the loopback interface.
    fn listen(setup: &Setup) -> impl Future<Output = Outcome<(Self::Listener, Address)>> + Send;

    /// Makes a client for the server at `address`; connects to nothing yet.
    fn dialer(setup: &Setup, address: &Address) -> impl Future<Output = Outcome<Self::Dialer>> + Send;
}

/// A server that accepts connections.
pub trait Listener: Send + 'static {
    /// A connection of this side.
    type Connection: Connection;
    /// A connection whose handshake may not have happened yet.
    type Incoming: Send + 'static;

    /// Waits for the next client.
    fn accept(&mut self) -> impl Future<Output = Outcome<Self::Incoming>> + Send;

    /// The runtime for all tasks of a connection, if it is not the server's own.
    fn runtime(incoming: &Self::Incoming) -> Option<Handle> {
        let _ = incoming;
        None
    }

    /// Completes the handshake; runs in a task of its own.
    fn establish(incoming: Self::Incoming) -> impl Future<Output = Outcome<Self::Connection>> + Send;
}

/// A client that makes connections.
pub trait Dialer: Sized + Send + Sync + 'static {
    /// A connection of this side.
    type Connection: Connection;

    /// Makes a new connection with a full handshake.
    fn dial(&self) -> impl Future<Output = Outcome<Self::Connection>> + Send;

    /// Another dialer, whose connection can live beside the one of this dialer.
    fn sibling(&self) -> impl Future<Output = Outcome<Self>> + Send;
}

/// A connection that carries streams.
pub trait Connection: Send + Sync + 'static {
    /// A stream of this connection.
    type Stream: Stream;

    /// Opens a stream.
    fn open(&self) -> impl Future<Output = Outcome<Self::Stream>> + Send;

    /// Waits for a stream of the other side; `None` when the connection has ended. One caller at a time.
    fn accept(&self) -> impl Future<Output = Option<Self::Stream>> + Send;

    /// Sends a datagram, when there is room for it. Not every transport has them.
    fn send_datagram(&self, data: Bytes) -> impl Future<Output = Outcome<()>> + Send {
        drop(data);
        async { Err("it has no datagrams".into()) }
    }

    /// Waits for a datagram of the other side; returns how long it is. `None` when the connection has ended.
    fn recv_datagram(&self) -> impl Future<Output = Option<usize>> + Send {
        async { None }
    }

    /// As [`Self::send_datagram`] for each of them, by one call if the transport has one for that.
    fn send_datagrams(&self, all: Vec<Bytes>) -> impl Future<Output = Outcome<()>> + Send {
        async {
            for data in all {
                self.send_datagram(data).await?;
            }
            Ok(())
        }
    }

    /// As [`Self::recv_datagram`] of several, if the transport has a call for that; returns how many. `space` is for
    /// them, for as long as this takes.
    fn recv_datagrams(&self, space: &mut Vec<Bytes>) -> impl Future<Output = Option<usize>> + Send {
        let _ = space;
        async { self.recv_datagram().await.map(|_| 1) }
    }

    /// Ends the connection.
    fn close(self) -> impl Future<Output = Outcome<()>> + Send;
}

/// A stream of bytes in both directions.
pub trait Stream: Send + 'static {
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
