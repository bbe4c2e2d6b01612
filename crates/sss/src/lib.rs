//! Structured Secure Streams: a transport whose encrypted streams fork child streams.
//!
//! A [`Host`] has one [`Identity`], whose public name is its [`Eid`], and one UDP socket. Two hosts
//! share one encrypted, mutually authenticated channel, and on it a tree of streams: either side opens
//! a substream of any [`Stream`] at any time, without a round trip, and as many as it likes.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sss::Host;
//!
//! // One side: a service. Here it answers a single stream with what that stream says.
//! let alice = Host::builder().bind("127.0.0.1:0").build().await?;
//! let server = alice.listen("echo", "1")?;
//! tokio::spawn(async move {
//!     let (mut stream, _eid) = server.accept().await.unwrap();
//!     let said = stream.read_to_end(1024).await.unwrap();
//!     stream.write_chunk(said).await.unwrap();
//!     stream.close().await.unwrap();
//! });
//!
//! // The other side: all it needs is Alice's EID and an address.
//! let bob = Host::builder().bind("127.0.0.1:0").build().await?;
//! let mut stream = bob.connect(alice.eid(), "echo", "1").hint(alice.local_addr()).await?;
//! stream.write_all(b"hello").await?;
//! stream.finish()?;
//! assert_eq!(&stream.read_to_end(1024).await?[..], b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Services
//!
//! [`Host::listen`] offers a service; [`Host::service`] does so with a description and several protocols. [`ServerSet`]
//! takes the streams of many services in one loop. [`Host::services_of`] asks a host what it offers.
//!
//! # Ends
//!
//! A sending side ends well only by [`Stream::finish`], [`Stream::close`] or an `AsyncWrite` shutdown. Dropping an
//! unfinished stream resets it: the reader at the other end sees an error, never a silent truncation.
//! What was finished is delivered even if the stream is dropped at once, as long as the host lives;
//! [`Stream::close`] and [`Host::close`] wait for that.
//!
//! # Records
//!
//! A stream is a sequence of bytes. What is to be read as one piece is written as one by [`Stream::write_record`] and
//! read by [`Stream::read_record`]; or as items of a `Sink` and a `Stream`, see [`Stream::into_records`].
//!
//! # Datagrams
//!
//! [`Stream::send_datagram`] sends a message of any size that arrives whole, or not at all if its deadline comes first,
//! in no order with anything else; [`Stream::recv_datagram`] takes the next that has arrived.
//!
//! # Priorities
//!
//! Streams with the same parent share equally what can be sent, until [`Stream::set_priority`] lets one go before
//! others. [`Stream::request_priority`] asks the peer to do that for what it sends.
//!
//! # Peers that are equals
//!
//! [`Host::peer_service`] keeps one conversation with each peer, whichever side begins it, and tells who is there.
//!
//! # Statistics
//!
//! [`Stream::info`], [`Peer::info`], [`Peer::stats`] and [`Host::stats`] tell what is queued, under way, delivered and
//! lost. [`Stream::sent`] and [`Stream::acknowledged`] wait until what was written has left, or arrived. With the
//! feature `metrics` each host reports to the facade of that name.
//!
//! # Cryptography
//!
//! It comes from AWS-LC (the feature `aws-lc-rs`, which is on by default); or, without a C compiler and more slowly,
//! from RustCrypto: `default-features = false, features = ["rustcrypto"]`. Hosts of both builds talk to each other.
//!
//! # Tokio
//!
//! A [`Stream`] is `AsyncRead + AsyncWrite + Unpin + Send`, and so are its halves, each for its direction: hyper,
//! tonic, `copy_bidirectional` and all that is built on these traits take it as it is. The stream's own `read_to_end`,
//! `read_exact` and `write_all` win over those of `AsyncReadExt` and `AsyncWriteExt`; name the trait where these are
//! meant: `AsyncReadExt::read_to_end(&mut stream, &mut buffer)`.
//!
//! # Errors
//!
//! Streams outlive the channels that carry them. A peer that cannot be reached is no error: its streams wait
//! ([`Peer::link`] tells), for [`HostBuilder::linger`] at most.
//!
//! Each operation has its own error type. When the streams shared with a peer have ended, all of them carry the
//! [`CloseReason`]: who ended it, and why. Codes that applications give are `u32`; on the wire, and in
//! errors, they are [`Code`]s, which also cover those of the protocol ([`Code::as_app`] tells).
//!
//! # Runtime
//!
//! A host needs a Tokio runtime with IO and time enabled. Its driver is one task there, or one thread of
//! its own: see [`DriverMode`]. On a current-thread runtime small requests are several times cheaper
//! than on a multi-thread one, because no thread has to be woken.

mod builder;
mod connect;
#[cfg(any(feature = "port-mapping", feature = "mdns", feature = "stun"))]
mod desk;
#[cfg(feature = "redis")]
mod directory;
mod driver;
mod error;
mod explain;
mod hint;
mod host;
mod identity;
mod interface;
mod lifecycle;
mod link;
#[cfg(feature = "port-mapping")]
mod mapping;
#[cfg(feature = "mdns")]
mod mdns;
mod nat64;
mod peer;
mod peer_service;
mod redaction;
mod rendezvous;
mod search;
mod server;
mod server_set;
mod service_builder;
mod services_of;
mod sharded_host;
mod shared;
mod stream;
#[cfg(feature = "stun")]
mod stun;
#[cfg_attr(not(feature = "tls"), path = "tls_absent.rs")]
mod tls;
#[cfg(feature = "tls")]
mod tunnels;
#[cfg(feature = "turn")]
mod turn;
mod waiting;

pub use builder::{DriverMode, HostBuilder};
pub use connect::Connect;
pub use driver::SocketStats;
pub use error::{
    AcceptError, BuildError, ConnectError, HostCloseError, ProbeError, ReadExactError, ReadToEndError, RecordError,
    ServicesError, StreamCloseError, TryError,
};
pub use explain::{Explanation, NatKind};
pub use hint::{Hint, UnresolvedName};
pub use host::Host;
pub use identity::{Identity, IdentityError};
pub use interface::NoInterface;
pub use link::LinkWatch;
pub use peer::Peer;
pub use peer_service::{AttemptError, OfflineReason, PeerEvent, PeerService, PeerServiceError};
pub use redaction::HostTag;
pub use rendezvous::{FoundBy, RendezvousServer};
pub use search::{ListedHost, SearchError, SearchPage};
pub use server::{Incoming, Server};
pub use server_set::ServerSet;
pub use service_builder::ServiceBuilder;
pub use services_of::ServicesOf;
pub use sharded_host::ShardedHost;
pub use stream::{
    Receipt, RecordReader, RecordWriter, RecvHalf, SendDatagram, SendDatagrams, SendHalf, SendTracked, Stream,
};

#[cfg(feature = "port-mapping")]
pub use mapping::PortMapping;
#[cfg(feature = "port-mapping")]
pub use mapping::desk::{MappedPort, MappingError, MappingProtocol, MappingReport, Pinhole};
#[cfg(feature = "mdns")]
pub use mdns::Mdns;
#[cfg(feature = "mdns")]
pub use mdns::desk::{MdnsLink, MdnsReport};
#[cfg(feature = "stun")]
pub use stun::desk::{StunReport, StunServer, StunState};
#[cfg(feature = "tls")]
pub use tls::{TlsLimits, TlsServer};
#[cfg(feature = "tls")]
pub use tunnels::TunnelStats;
#[cfg(feature = "turn")]
pub use turn::{TurnError, TurnReport, TurnServer, TurnState, TurnStats, TurnTransport};

#[cfg(feature = "redis")]
pub use directory::{RedisDirectory, RedisUrlError};
pub use sss_crypto::Suite;
pub use sss_proto::{
    Absence, AcceptedBy, BadSetting, ChannelInfo, CloseReason, Congestion, DatagramError, DatagramFate, DatagramStats,
    DropReason, EcnState, HostStats, Link, LinkStatus, ListenError, ListenMode, MtuState, NegotiationError, Network,
    OpenError, OpeningRoom, Padding, PeerId, PeerLimits, PeerStats, PostQuantum, ProtocolError, ReadError, RecvState,
    Refusal, RelayHandle, ResumeState, Route, RouteClass, Seen, SendState, SocketId, StreamId, StreamInfo,
    StreamLimits, SubtreeInfo, TreeNode, Tried, TunnelId, TurnId, Waits, WindowConfig, WriteError,
};
pub use sss_reach::server::{DirectoryStats, Quotas, Rate, RelayLimits, ServerStats};
pub use sss_reach::{
    LeaseAt, Mapping, Over, Proof, Registration, RegistrationError, RegistrationState, RelayUse, SprayOutcome,
    SprayReport, SprayRole, Spraying, TunnelEnd, Verdict,
};
pub use sss_wire::services::{ProtocolInfo, ServiceInfo, ServiceList};
pub use sss_wire::{Code, Eid, EidError, Seconds, is_printable, printable};

/// The README's program is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
