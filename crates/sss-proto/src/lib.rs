//! The core of Structured Secure Streams: streams, channels, negotiation, without IO, clock or entropy of its own.
//!
//! A [`Host`] takes in datagrams and the passing of time ([`Input`]), and gives out datagrams, events and the moment at
//! which it wants to be called again ([`Output`]). All its randomness comes from a seed, so that the same
//! inputs give the same outputs, byte for byte. The protocol is specified in `docs/spec`.

mod channel;
mod config;
mod error;
mod host;
mod ids;
mod interest;
mod io;
mod local_host;
mod negotiation;
mod pace;
mod packet;
mod peer;
mod refusal;
mod role;
mod seen;
mod streams;
mod time;
mod token;

pub use channel::{ChannelInfo, EcnState, MAX_CLOSING, MtuState};
pub use config::{AcceptFilter, BadSetting, Config, Congestion, StreamLimits, WindowConfig};
pub use error::{
    CloseReason, DatagramError, DropReason, ListenError, NegotiationError, OpenError, ProtocolError, ReadError,
    WriteError,
};
pub use host::{ConnectError, Host, HostStats, Visibility};
pub use ids::{DatagramId, ListenerId, PeerId, StreamId};
pub use interest::Interest;
pub use io::{Batch, DatagramFate, Ecn, Event, Input, LinkStatus, MAX_TRANSMIT, Output, Transmit, TransmitBuf};
pub use peer::PeerStats;
pub use refusal::Refusal;
pub use seen::{PathHint, Seen, Tried};
pub use streams::{
    AcceptedBy, DatagramOptions, DatagramStats, Delivery, ListenMode, OpeningRoom, ReadOutcome, RecvState, SendState,
    StreamInfo, SubtreeInfo, TreeNode, Waits,
};
pub use time::Instant;
