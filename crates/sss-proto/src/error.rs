//! The families of errors: dropped packets, protocol violations, ends of channels, failed operations.
//!
//! The network's faults are never an error of a call: a bad packet is a counted [`DropReason`], a peer that
//! breaks the rules ends its channel with a [`CloseReason`].

use std::io;

use sss_wire::{Code, Seconds, printable};
use thiserror::Error;

use crate::refusal::Refusal;
use crate::seen::{self, Tried};

/// Reason why a datagram was dropped. Each reason has a counter in [`crate::HostStats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum DropReason {
    /// It could not be parsed.
    Malformed,
    /// It names a channel that does not exist.
    UnknownChannel,
    /// It names a negotiation attempt that does not exist, or is past that step.
    UnknownAttempt,
    /// It failed authentication.
    Unauthentic,
    /// It was received before.
    Duplicate,
    /// Its cookie is too old, or was made for another address.
    StaleCookie,
    /// The host does not want to talk to this peer.
    Unwelcome,
    /// It was answered or discarded because the host is under load.
    Overload,
    /// It came from an address that is never used.
    BadAddress,
    /// It came through a relay, by a handle that this host was not told of.
    UnknownHandle,
    /// It came from outside of the local network, to which this host keeps.
    OutsideLan,
    /// It came directly, to a host that is reached by relays alone.
    NotRelayed,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::UnknownChannel,
        Self::UnknownAttempt,
        Self::Unauthentic,
        Self::Duplicate,
        Self::StaleCookie,
        Self::Unwelcome,
        Self::Overload,
        Self::BadAddress,
        Self::UnknownHandle,
        Self::OutsideLan,
        Self::NotRelayed,
    ];
    /// Number of reasons.
    pub const COUNT: usize = Self::ALL.len();

    /// A short name for tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownChannel => "unknown_channel",
            Self::UnknownAttempt => "unknown_attempt",
            Self::Unauthentic => "unauthentic",
            Self::Duplicate => "duplicate",
            Self::StaleCookie => "stale_cookie",
            Self::Unwelcome => "unwelcome",
            Self::Overload => "overload",
            Self::BadAddress => "bad_address",
            Self::UnknownHandle => "unknown_handle",
            Self::OutsideLan => "outside_lan",
            Self::NotRelayed => "not_relayed",
        }
    }
}

/// The peer broke a rule of the protocol. Ends the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} ({code})")]
#[non_exhaustive]
pub struct ProtocolError {
    /// The code sent in CLOSE.
    pub code: Code,
    /// Description of what was wrong, for people.
    pub what: &'static str,
}

impl ProtocolError {
    pub(crate) const fn new(code: Code, what: &'static str) -> Self {
        Self { code, what }
    }
}

/// Reason why a channel, or with it the tree of streams of two hosts, ended, and who ended it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This host's application closed it.
    #[error("closed by this host: {} ({code})", printable(reason))]
    Local {
        /// The code given.
        code: Code,
        /// The text given.
        reason: String,
    },
    /// The peer's application, or the peer's host, closed it.
    #[error("closed by the peer: {} ({code})", printable(reason))]
    Peer {
        /// The code the peer gave.
        code: Code,
        /// The text the peer gave.
        reason: String,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(ProtocolError),
    /// Nothing was heard from the peer for the idle timeout.
    #[error("nothing was heard from the peer for {}", Seconds(*.0))]
    Idle(std::time::Duration),
    /// The peer no longer knows the channel: it was restarted.
    #[error("the peer was restarted and has lost the channel")]
    PeerRestarted,
    /// A newer channel to the same peer took over.
    #[error("replaced by a newer channel")]
    Replaced,
    /// The keys of the channel have been used as often as is safe.
    #[error("the channel's keys are used up")]
    KeysUsedUp,
    /// This host has failed: nothing drives it any more, because its driver has panicked. The peer was told nothing.
    #[error("this host has failed: its driver panicked")]
    HostFailed,
    /// It has not ended: this host's application had let go of the stream that it asks about.
    #[error("the stream was released")]
    Released,
    /// The negotiation failed.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
}

/// Words of a host that goes away.
pub(crate) const SHUTTING_DOWN: &str = "the host is shutting down";

impl CloseReason {
    /// This host goes away.
    pub(crate) fn shut_down() -> Self {
        Self::Local {
            code: Code::SHUTDOWN,
            reason: SHUTTING_DOWN.to_owned(),
        }
    }
}

/// Words about a host that asked for proof of our address.
const UNDER_LOAD: &str = "it is under load";

/// Reason why no channel could be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// Nobody answered HELLO.
    #[error(
        "no answer from {} within {} ({}){}",
        seen::list(addresses),
        Seconds(*after),
        seen::attempts(*attempts),
        seen::question(addresses)
    )]
    NoAnswer {
        /// The addresses tried, and what was seen of each.
        addresses: Vec<Tried>,
        /// Number of times that HELLO was sent, each time to all of them; 0 if it is not known.
        attempts: u32,
        /// For how long.
        after: std::time::Duration,
    },
    /// Somebody answered COOKIE but nobody answered INITIATE.
    #[error(
        "the host at {address} answered but did not accept us within {}: {}",
        Seconds(*after),
        if *is_busy { UNDER_LOAD } else { "it may have been restarted, be overloaded, or refuse without a word" }
    )]
    NotAccepted {
        /// The address that answered.
        address: String,
        /// For how long it was tried.
        after: std::time::Duration,
        /// Set if it was seen to be under load: it asked for proof of our address first. Unauthenticated.
        is_busy: bool,
    },
    /// The peer does not talk to this host, and says so (NEG-23).
    #[error("the host at {address} does not allow our EID: {}", printable(reason))]
    Forbidden {
        /// The address that answered.
        address: String,
        /// Words of the peer.
        reason: String,
    },
    /// The peer accepted the attempt, ended the channel, and then connected to us, all before its acceptance arrived.
    #[error(
        "the peer accepted the connection and ended it before its answer arrived: what was sent may have been delivered"
    )]
    EndedUnheard,
    /// The peer speaks none of our versions.
    #[error("the peer speaks versions {theirs:?} of the protocol, we speak {ours:?}: update the older side")]
    Version {
        /// The peer's versions.
        theirs: Vec<u32>,
        /// Ours.
        ours: Vec<u32>,
    },
    /// The two hosts have no cipher suite in common.
    #[error("no cipher suite in common with the peer")]
    Suite,
    /// The peer makes no channel without the post-quantum leg, and this host has it off.
    #[error("the peer requires post-quantum protection, which is off here")]
    PostQuantumOff,
    /// This host makes no channel without the post-quantum leg, and the peer has it off.
    #[error("the peer has post-quantum protection off, which is required here")]
    PostQuantumMissing,
    /// COOKIE came, but COOKIE_K, the post-quantum half of the answer, did not.
    #[error(
        "the host at {address} answered, but the post-quantum part of its answer did not arrive within {}: {}",
        Seconds(*after),
        if *is_busy { UNDER_LOAD } else { "somebody on the way may drop it, or the host has too much to do" }
    )]
    PostQuantumUnanswered {
        /// The address that answered.
        address: String,
        /// For how long it was tried.
        after: std::time::Duration,
        /// Set if it was seen to be under load: it asked for proof of our address first. Unauthenticated.
        is_busy: bool,
    },
    /// No address of the peer is known.
    #[error("no address is known for this peer: give a location hint")]
    NoAddress,
    /// This host is one of several shards, which take channels and begin none (NEG-42). Another host has to begin.
    #[error("this host has several shards, which take channels and begin none: the peer has to connect to it")]
    Sharded,
    /// No address of the peer is known, and no server knows one either (docs/spec/reach.md).
    #[error(transparent)]
    Unfound(#[from] Absence),
    /// This host keeps to its local network ([`Config::lan_only`](crate::Config::lan_only)), and all addresses that
    /// are known for the peer are outside of it.
    #[error("{address} is outside of the local network, to which this host keeps")]
    OutsideLan {
        /// The first of the addresses.
        address: String,
    },
    /// This host reaches others by relays alone ([`Config::relay_only`](crate::Config::relay_only)), and nobody tells
    /// it of one that leads to the peer.
    #[error("{address} would be reached directly, and this host reaches others through relays alone")]
    NotRelayed {
        /// The first of the addresses that are known.
        address: String,
    },
    /// The peer is this host.
    #[error("that is this host's own EID")]
    OwnEid,
    /// The EID holds a public key that cannot be used.
    #[error("the EID is not a usable public key")]
    BadEid,
}

/// Reason why a host is not found by its EID (docs/spec/reach.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Absence {
    /// No server has answered, or taken this host.
    #[error("no registration server answers: is this machine connected, and are the servers' names right?")]
    NoServer,
    /// The time was over before a server had said where the host is.
    #[error("no registration server has said yet where the host is")]
    Pending,
    /// The servers do not serve this host.
    #[error("the registration servers do not serve this host")]
    NotAllowed,
    /// No host of that EID has registered with the servers, as far as they remember.
    #[error("no host of this EID has registered with our servers")]
    NeverSeen,
    /// The server was restarted so long ago, and knows none of the hosts that have not leased again since. The error of
    /// an attempt whose time is over.
    #[error("the registration server was restarted {} ago, and the host has not come back to it yet", Seconds(*.0))]
    NotYet(std::time::Duration),
    /// The host was registered, and is gone.
    #[error("the host is offline: its server has heard nothing of it for {}", Seconds(*.0))]
    Offline(std::time::Duration),
    /// The host does not want to talk to this one.
    #[error("the host has refused to be introduced")]
    Refused,
    /// The host is registered, and does not answer.
    #[error("the host is registered, but does not answer its server")]
    Unreachable,
    /// The host was found, and nothing gets through to it; the server relays nothing, or the host does not want that.
    /// The error of an attempt whose time is over.
    #[error("the host was found, but no packet gets through to it")]
    NoWay,
    /// The host was found, and nothing gets through to it; the server would relay packets, and this host does not want
    /// that. The error of an attempt whose time is over.
    #[error("the host was found, but no packet gets through to it, and this host uses no relay")]
    OnlyRelayed,
    /// No host of that EID has announced itself on the local network within this time (RCH-36), and no server was there
    /// to be asked.
    #[error("no host of this EID has announced itself on the local network within {}", Seconds(*.0))]
    NotOnLan(std::time::Duration),
    /// The servers have no room, or were asked too often.
    #[error("the registration servers were asked too often, or are full: try again later")]
    TooMany,
}

/// Reason why a stream cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The handle names a stream that no longer exists.
    #[error("the stream no longer exists")]
    Gone,
    /// The peer let go of the parent and takes no more children of it.
    #[error("the peer has let go of the parent stream")]
    ParentGone,
    /// The peer refused the stream that was to be the parent.
    #[error("the peer refused the parent stream: {0}")]
    Refused(Refusal),
    /// The stream that was to be the parent was reset with all that is below it, by either side.
    #[error(
        "the parent stream was reset with all its substreams: {} ({code})",
        printable(reason)
    )]
    Reset {
        /// The code given.
        code: Code,
        /// The text given.
        reason: String,
    },
    /// The tree would be deeper than the protocol allows.
    #[error("the stream tree would be deeper than {0} levels")]
    TooDeep(u8),
    /// A name is longer than 255 bytes.
    #[error("a service or protocol name is longer than 255 bytes")]
    NameTooLong,
    /// A name is empty: nobody can offer that (SVC-3).
    #[error("a service or protocol name is empty")]
    NameEmpty,
    /// The tree of streams has ended.
    #[error(transparent)]
    Lost(#[from] CloseReason),
}

/// Reason why nothing more can be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// `finish` or `reset` was called before.
    #[error("the stream was finished or reset by this side")]
    Closed,
    /// The peer refused the stream.
    #[error("the peer refused the stream: {0}")]
    Refused(Refusal),
    /// The peer wants no more data.
    #[error("the peer stopped the stream: {} ({code})", printable(reason))]
    Stopped {
        /// The code the peer gave.
        code: Code,
        /// The text the peer gave.
        reason: String,
    },
    /// The tree of streams has ended.
    #[error(transparent)]
    Lost(#[from] CloseReason),
}

/// Reason why a datagram cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It is larger than the peer takes.
    #[error("the datagram has {size} bytes, and the peer takes at most {limit}: send it as a substream")]
    TooLarge {
        /// Its size, in bytes.
        size: u64,
        /// The largest size that the peer takes; 0: it takes no datagrams.
        limit: u64,
    },
    /// This side has let go of the stream.
    #[error("the stream was released by this side")]
    Closed,
    /// The peer has let go of the stream.
    #[error("the peer has let go of the stream")]
    PeerGone,
    /// The stream was reset with all streams below it, by this side or by the peer.
    #[error("the stream was reset with all its substreams: {} ({code})", printable(reason))]
    Reset {
        /// The code given.
        code: Code,
        /// The text given.
        reason: String,
    },
    /// The tree of streams has ended.
    #[error(transparent)]
    Lost(#[from] CloseReason),
}

/// Reason why nothing more can be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// `stop` was called before, and the peer had not ended its sending side by then: if it had, its reason stays.
    #[error("the stream was stopped by this side")]
    Closed,
    /// The peer refused the stream.
    #[error("the peer refused the stream: {0}")]
    Refused(Refusal),
    /// The peer ended its sending side without finishing it.
    #[error("the peer reset the stream: {} ({code})", printable(reason))]
    Reset {
        /// The code the peer gave.
        code: Code,
        /// The text the peer gave.
        reason: String,
    },
    /// The tree of streams has ended.
    #[error(transparent)]
    Lost(#[from] CloseReason),
}

/// As `io::Error`, with the typed error as its source.
impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Closed | WriteError::Stopped { .. } => io::ErrorKind::BrokenPipe,
            WriteError::Refused(_) => io::ErrorKind::ConnectionRefused,
            WriteError::Lost(reason) => reason.io_kind(),
        };
        Self::new(kind, error)
    }
}

/// As `io::Error`, with the typed error as its source.
impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Closed => io::ErrorKind::NotConnected,
            ReadError::Refused(_) => io::ErrorKind::ConnectionRefused,
            ReadError::Reset { .. } => io::ErrorKind::ConnectionReset,
            ReadError::Lost(reason) => reason.io_kind(),
        };
        Self::new(kind, error)
    }
}

impl CloseReason {
    /// The kind of `io::Error` that comes nearest.
    fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Idle(_) | Self::Negotiation(NegotiationError::NoAnswer { .. }) => io::ErrorKind::TimedOut,
            Self::Negotiation(NegotiationError::NotAccepted { .. }) => io::ErrorKind::ConnectionRefused,
            Self::Negotiation(NegotiationError::Forbidden { .. }) => io::ErrorKind::PermissionDenied,
            Self::Violation(_) => io::ErrorKind::InvalidData,
            Self::PeerRestarted => io::ErrorKind::ConnectionReset,
            Self::Peer { .. } => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::NotConnected,
        }
    }
}

/// Reason why a service cannot be listened for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The pair is registered already.
    #[error("service {0:?} with protocol {1:?} is registered already")]
    Taken(String, String),
    /// A name is longer than 255 bytes or empty.
    #[error("a service or protocol name must have 1 to 255 bytes")]
    BadName,
    /// A description is longer than 1024 bytes.
    #[error("the description of a service or protocol must have at most 1024 bytes")]
    BadDescription,
    /// The service name belongs to the protocol itself (SVC-1).
    #[error("the service name {0:?} is reserved: every host answers it by itself")]
    Reserved(String),
    /// No protocol was named.
    #[error("service {0:?} was given no protocol")]
    NoProtocol(String),
    /// This host was closed.
    #[error("this host was closed")]
    HostClosed,
    /// This host has failed: its driver has panicked.
    #[error("this host has failed: its driver panicked")]
    HostFailed,
}
