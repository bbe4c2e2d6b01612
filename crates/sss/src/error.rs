//! The errors of operations that exist only with a driver, and how errors look to `AsyncRead` and `AsyncWrite`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use sss_proto::{BadSetting, CloseReason, ListenError, NegotiationError, OpenError, ReadError, WriteError};
use sss_wire::Seconds;
use thiserror::Error;

use crate::hint::{self, UnresolvedName};
use crate::lifecycle::HostEnd;

/// Reason why a host could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The address to bind is not an address.
    #[error("{address:?} is not an address to bind: give IP:PORT, such as 0.0.0.0:4433 or [::]:0")]
    BadAddress {
        /// The address given.
        address: String,
    },
    /// The address to bind is one of many hosts: multicast, or broadcast.
    #[error("{address} is an address of many hosts: bind one of this machine, or an unspecified one, such as 0.0.0.0")]
    OfMany {
        /// The address that was to be bound.
        address: SocketAddr,
    },
    /// A setting is out of range.
    #[error("a setting of the host is out of range: {0}")]
    Setting(#[from] BadSetting),
    /// No server takes the words or the profile of [`FoundBy::Anybody`](crate::FoundBy::Anybody).
    #[error("a host is listed under at most 16 words of at most 64 bytes, with a profile of 1024 bytes; 2048 in all")]
    Listing,
    /// Another socket has the port.
    #[error("{address} is in use by another program: stop that one, or choose another port (0 for any free one)")]
    PortInUse {
        /// The address that was to be bound.
        address: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("cannot bind {address}: {source}")]
    Bind {
        /// The address that was to be bound.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The socket cannot be set up.
    #[error("cannot set up the UDP socket: {0}")]
    Socket(#[source] io::Error),
    /// The address where tunnels of TLS are to be taken cannot be bound.
    #[error("cannot take TLS at {address}: {source}")]
    Tls {
        /// The address that was to be bound.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The certificate of a server that takes tunnels of TLS, or its key, is of no use.
    #[error("the certificate for TLS cannot be used: {0}")]
    Certificate(String),
    /// The file for a key log cannot be opened.
    #[error("cannot open {path:?}, which SSSKEYLOGFILE names: {source}")]
    KeyLog {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The host is to keep to its local network, and to have something that is outside of it.
    #[error("a host that keeps to its local network cannot have {0}")]
    LanOnly(&'static str),
    /// The host is to be reached by relays alone, and to do something that tells others where it is.
    #[error("a host that is reached by relays alone cannot {0}")]
    RelayOnly(&'static str),
    /// More than four STUN servers are named.
    #[error("a host asks at most four STUN servers")]
    TooManyStunServers,
    /// Something that can be no TURN server: its place without the password, or how many there are.
    #[error("{0} cannot be used by TURN: at most 4 servers, each as HOST:PORT, and no longer names than 508 bytes")]
    Turn(String),
    /// The host is to have several shards, which it cannot have so.
    #[error("a host with shards {0}")]
    Shards(&'static str),
    /// The operating system gave no entropy.
    #[error("the operating system gives no entropy: {0}")]
    Entropy(#[source] getrandom::Error),
    /// The driver's thread, or its runtime, cannot be started.
    #[error("cannot start the driver: {0}")]
    Driver(#[source] io::Error),
    /// `build` was called outside of a Tokio runtime.
    #[error("a host must be built within a Tokio runtime")]
    NoRuntime,
}

/// Reason why a call that does not wait gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TryError<E> {
    /// Nothing is there yet; more may come.
    #[error("nothing is there yet")]
    Empty,
    /// Error that the call that waits would give.
    #[error(transparent)]
    Failed(#[from] E),
}

impl<E> TryError<E> {
    /// Turns what a poll function gives into the answer of a call that does not wait.
    pub(crate) fn take<T>(polled: Poll<Result<T, E>>) -> Result<T, Self> {
        match polled {
            Poll::Ready(result) => result.map_err(Self::Failed),
            Poll::Pending => Err(Self::Empty),
        }
    }
}

/// Reason why no stream to a service could be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No channel could be negotiated.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The stream itself cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The tree of streams ended while the stream was waiting for its channel.
    #[error(transparent)]
    Closed(CloseReason),
    /// Hints were of no use: names that could not be looked up, and addresses to which this host's socket cannot send.
    #[error("cannot {} {}{}", looking_up(names), list(names), and(error.as_deref()))]
    Unresolved {
        /// The names and addresses, and why; not empty.
        names: Vec<UnresolvedName>,
        /// Reason why the addresses that are known besides, or that other names have, did not lead to a connection.
        /// `None`: there are none.
        error: Option<Box<Self>>,
    },
    /// Nothing was tried, because nobody has run the driver of this host since: see
    /// [`DriverMode::Shared`](crate::DriverMode::Shared).
    #[error("{}", NotDriven(*after))]
    NotDriven {
        /// Time for which this host was waited for.
        after: Duration,
    },
    /// This host was closed.
    #[error("this host was closed")]
    HostClosed,
    /// This host has failed: see [`Host::has_failed`](crate::Host::has_failed).
    #[error("this host has failed: its driver panicked")]
    HostFailed,
}

impl ConnectError {
    pub(crate) fn unresolved(names: Vec<UnresolvedName>, error: Option<Box<Self>>) -> Self {
        Self::Unresolved { names, error }
    }

    /// Says that names were of no use, if that may be why nobody answered, or it was not found.
    pub(crate) fn with_unresolved(self, names: Vec<UnresolvedName>) -> Self {
        match self {
            Self::Negotiation(NegotiationError::NoAddress) if !names.is_empty() => Self::unresolved(names, None),
            Self::Negotiation(NegotiationError::NoAnswer { .. } | NegotiationError::Unfound(_))
                if !names.is_empty() =>
            {
                Self::unresolved(names, Some(Box::new(self)))
            }
            other => other,
        }
    }
}

/// Nobody is asked about addresses.
fn looking_up(names: &[UnresolvedName]) -> &'static str {
    let addresses = names.iter().filter(|name| hint::is_address(&name.name)).count();
    match addresses {
        0 => "look up",
        all if all == names.len() => "send to",
        _ => "use",
    }
}

/// Words about a host that nobody drives.
struct NotDriven(Duration);

impl fmt::Display for NotDriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = Seconds(self.0);
        write!(
            f,
            "nothing was sent within {after}, since nobody runs the driver of this host: the runtime on which the host \
             was built has to run, and must not be blocked"
        )
    }
}

fn list(names: &[UnresolvedName]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join("; ")
}

fn and(error: Option<&ConnectError>) -> String {
    error.map_or_else(String::new, |error| format!("; besides, {error}"))
}

/// Errors of calls that come too late, or wait when the host ends.
macro_rules! from_host_end {
    ($($error:ty),*) => {
        $(impl From<HostEnd> for $error {
            fn from(end: HostEnd) -> Self {
                match end {
                    HostEnd::Closed => Self::HostClosed,
                    HostEnd::Failed => Self::HostFailed,
                }
            }
        })*
    };
}

from_host_end!(ConnectError, AcceptError, ProbeError, ListenError);

impl From<CloseReason> for ConnectError {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Negotiation(error) => Self::Negotiation(error),
            CloseReason::HostFailed => Self::HostFailed,
            other => Self::Closed(other),
        }
    }
}

impl From<sss_proto::ConnectError> for ConnectError {
    fn from(error: sss_proto::ConnectError) -> Self {
        match error {
            sss_proto::ConnectError::Negotiation(e) => Self::Negotiation(e),
            sss_proto::ConnectError::Open(e) => Self::Open(e),
        }
    }
}

/// Reason why nothing more can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// This host was closed.
    #[error("this host was closed")]
    HostClosed,
    /// This host has failed: see [`Host::has_failed`](crate::Host::has_failed).
    #[error("this host has failed: its driver panicked")]
    HostFailed,
    /// There is no server to accept from.
    #[error("the set has no server to accept from")]
    NoServer,
}

/// Reason why it is not known who is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nobody answered.
    #[error("no host answered at {address} within {}: is it running, and is the address right?", Seconds(*after))]
    NoAnswer {
        /// The address asked.
        address: SocketAddr,
        /// Time for which an answer was awaited.
        after: Duration,
    },
    /// Nothing was asked, because nobody has run the driver of this host since.
    #[error("{}", NotDriven(*after))]
    NotDriven {
        /// Time for which this host was waited for.
        after: Duration,
    },
    /// Nobody can be asked at the address, or not by this host's socket.
    #[error("cannot send to {address}: {why}")]
    Useless {
        /// The address that was to be asked.
        address: SocketAddr,
        /// Reason, for people.
        why: &'static str,
    },
    /// This host keeps to its local network, and the address is outside of it.
    #[error("{address} is outside of the local network, to which this host keeps")]
    OutsideLan {
        /// The address that was to be asked.
        address: SocketAddr,
    },
    /// This host reaches others by relays alone, and would have to ask directly.
    #[error("{address} would be asked directly, and this host reaches others through relays alone")]
    NotRelayed {
        /// The address that was to be asked.
        address: SocketAddr,
    },
    /// This host was closed.
    #[error("this host was closed")]
    HostClosed,
    /// This host has failed: see [`Host::has_failed`](crate::Host::has_failed).
    #[error("this host has failed: its driver panicked")]
    HostFailed,
}

/// Reason why it is not known what services a host offers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// The host cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The host does not tell, or was lost meanwhile.
    #[error("the host does not tell its services: {0}")]
    Read(#[from] ReadError),
    /// The answer is not a list of services.
    #[error("the host's list of services makes no sense: {0}")]
    Malformed(&'static str),
    /// No answer came.
    #[error("the host did not tell its services within {}", Seconds(*after))]
    NoAnswer {
        /// Time for which it was awaited.
        after: Duration,
    },
}

/// The host was closed before all that was finished had arrived, or had failed before it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}{streams} finished streams were not acknowledged by their peers in time", failed(*has_failed))]
#[non_exhaustive]
pub struct HostCloseError {
    /// Number of streams that were finished but are not known to have arrived, as far as they were still known.
    pub streams: usize,
    /// Set if the host had failed ([`Host::has_failed`](crate::Host::has_failed)): nothing that was under way then has
    /// arrived for sure.
    pub has_failed: bool,
}

impl HostCloseError {
    /// Both of two hosts, or parts of one.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            streams: self.streams.saturating_add(other.streams),
            has_failed: self.has_failed || other.has_failed,
        }
    }
}

fn failed(has_failed: bool) -> &'static str {
    match has_failed {
        true => "the host has failed, because its driver panicked; ",
        false => "",
    }
}

/// Data that [`crate::Stream::close`] knows to be undelivered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamCloseError {
    /// The stream's own data was not delivered completely.
    #[error("the stream was not delivered completely: {0}")]
    Stream(#[source] WriteError),
    /// The stream was delivered; some of the streams below it were stopped or refused by the peer before all had
    /// arrived.
    #[error("{failed} substreams were not delivered completely, the first because: {first}")]
    Substreams {
        /// Number of them.
        failed: usize,
        /// Reason why the first of them failed.
        #[source]
        first: WriteError,
    },
    /// All that was written has arrived, on the stream and on those below it; but some of the latter are held
    /// elsewhere, and neither finished nor reset. They go on.
    #[error("all that was written has arrived, but {streams} substreams are not finished")]
    Unfinished {
        /// Number of them.
        streams: usize,
    },
}

/// Reason why `read_exact` did not fill the buffer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadExactError {
    /// The stream ended well, but too early.
    #[error("the stream ended {missing} bytes too early")]
    Ended {
        /// Number of bytes of the buffer that were not filled.
        missing: usize,
    },
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reason why `read_to_end` did not give everything.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// The peer sent more than the caller wanted.
    #[error("the peer sent more than {limit} bytes")]
    TooLong {
        /// The limit that the caller gave, in bytes.
        limit: usize,
    },
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reason why no record could be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record has more bytes than this side takes. The stream was stopped, and the peer was told the limit.
    #[error("the peer sent a record of more than {limit} bytes: the limit can be raised with set_record_limit")]
    TooLarge {
        /// The limit of this side, in bytes.
        limit: usize,
    },
    /// The stream was finished, but what came last was not marked as a record. The next call tells the end.
    #[error("the stream ended within a record, after {} bytes of it", rest.len())]
    Unfinished {
        /// Bytes that came behind the last record; not empty.
        rest: Bytes,
    },
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[cfg(test)]
mod tests {
    use sss_wire::Code;

    use super::*;

    #[test]
    fn io_errors_keep_the_typed_error() {
        let error = ReadError::Reset {
            code: Code::app(7),
            reason: "no".into(),
        };
        let io = io::Error::from(error.clone());
        assert_eq!(io.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(io.get_ref().and_then(|e| e.downcast_ref::<ReadError>()), Some(&error));

        let io = io::Error::from(WriteError::Lost(CloseReason::Idle(Duration::from_secs(1))));
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
        assert!(io.get_ref().is_some_and(|e| e.is::<WriteError>()));
    }

    #[test]
    fn a_failed_negotiation_is_told_as_such() {
        let error = ConnectError::from(CloseReason::Negotiation(NegotiationError::OwnEid));
        assert_eq!(error, ConnectError::Negotiation(NegotiationError::OwnEid));
    }
}
