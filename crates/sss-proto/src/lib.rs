//! The core of Structured Secure Streams: streams, channels, negotiation, without IO, clock or entropy of its own.
//!
//! A [`Host`] takes in datagrams and the passing of time ([`Input`]), and gives out datagrams, events and the moment at
//! which it wants to be called again ([`Output`]). All its randomness comes from the [`Entropy`] that it is given: if
//! that is a seed, the same inputs give the same outputs, byte for byte. The protocol is specified in `docs/spec`.
//!
//! # The loop
//!
//! Whoever drives a host does this, again and again:
//!
//! 1. Do what the application wants: [`Host::connect`], [`Stream::poll_write`], [`Stream::poll_read`] and so on. What
//!    is [pending](std::task::Poll::Pending) is to be tried again when [`Event::Ready`] says so.
//! 2. Call [`Host::poll`], until it gives [`Output::Wake`].
//! 3. At [`Output::Transmit`], send the datagrams in the [`TransmitBuf`] to where it says.
//! 4. At [`Output::Event`], tell the application, and go on with 2.
//! 5. At [`Output::Wake`], wait for a datagram, for the application, or for the moment given, whichever comes first.
//! 6. Hand in what has come with [`Host::handle`]: the datagrams of one sender, or that time has passed. Go on with 1.
//!
//! Two hosts in one program, each with a socket of the standard library. One opens a stream and writes, the other
//! reads:
//!
//! ```
//! use std::net::UdpSocket;
//! use std::task::Poll;
//! use std::time::{Duration, Instant as Clock};
//!
//! use bytes::BytesMut;
//! use sss_crypto::StaticKey;
//! use sss_proto::{Batch, Config, Ecn, Event, Host, Input, Instant, Interest, Link, Output, ReadOutcome, TransmitBuf};
//!
//! struct Driver {
//!     host: Host,
//!     socket: UdpSocket,
//!     buf: TransmitBuf,
//!     start: Clock,
//! }
//!
//! impl Driver {
//!     fn new(seed: u8, start: Clock) -> std::io::Result<Self> {
//!         let socket = UdpSocket::bind("127.0.0.1:0")?;
//!         // A real program keeps its key, and gives `Entropy::new` a closure that asks the operating system.
//!         let host = Host::new(Config::default(), StaticKey::from_bytes([seed; 32]), [seed; 32]);
//!         Ok(Self { host, socket, buf: TransmitBuf::new(1), start })
//!     }
//!
//!     fn now(&self) -> Instant {
//!         Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
//!     }
//!
//!     /// Steps 2 to 6: sends what is to be sent, waits a little, and takes in what has come. Returns the events.
//!     fn turn(&mut self) -> std::io::Result<Vec<Event>> {
//!         let mut events = Vec::new();
//!         let wake = loop {
//!             match self.host.poll(self.now(), &mut self.buf) {
//!                 Output::Transmit(to) => {
//!                     // This host has no other sockets, and no tunnels.
//!                     let Link::Udp(address) = to.link else { continue };
//!                     for datagram in self.buf.filled().chunks(to.segment) {
//!                         // A datagram that the system does not take is lost, as on any network.
//!                         let _ = self.socket.send_to(datagram, address);
//!                     }
//!                 }
//!                 Output::Event(event) => events.push(event),
//!                 Output::Wake(at) => break at,
//!             }
//!         };
//!         let rest = wake.map_or(Duration::from_millis(5), |at| at.since(self.now()));
//!         let rest = rest.clamp(Duration::from_micros(1), Duration::from_millis(5));
//!         self.socket.set_read_timeout(Some(rest))?;
//!         let mut data = BytesMut::zeroed(65_536);
//!         let Ok((n, from)) = self.socket.recv_from(&mut data) else {
//!             self.host.handle(self.now(), Input::Tick);
//!             return Ok(events);
//!         };
//!         data.truncate(n);
//!         let (link, lent) = (Link::Udp(from), &mut None);
//!         let batch = Batch { data: &mut data, lent, stride: n, link, local: None, ecn: Ecn::NotEct };
//!         self.host.handle(self.now(), Input::Datagrams(batch));
//!         Ok(events)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let start = Clock::now();
//! let (mut server, mut client) = (Driver::new(1, start)?, Driver::new(2, start)?);
//! let listener = server.host.listen("notes", "notes/1")?;
//! assert_eq!(server.host.accept(listener), None, "an event tells when there is a stream");
//!
//! let (eid, address) = (server.host.eid(), server.socket.local_addr()?);
//! let stream = client.host.connect(client.now(), eid, ("notes", "notes/1"), &[address.into()])?;
//! assert_eq!(client.host.stream(stream).poll_write(b"hello"), Poll::Ready(Ok(5)));
//! client.host.stream(stream).finish()?;
//!
//! let (mut accepted, mut heard) = (None, Vec::new());
//! 'hearing: while start.elapsed() < Duration::from_secs(20) {
//!     client.turn()?;
//!     for event in server.turn()? {
//!         match event {
//!             Event::Acceptable(_) => accepted = server.host.accept(listener).map(|(stream, _)| stream),
//!             Event::Ready(_, Interest::Read) => {}
//!             _ => continue,
//!         }
//!         let (now, Some(stream)) = (server.now(), accepted) else { continue };
//!         // Until it is pending: then an event tells when to go on.
//!         while let Poll::Ready(outcome) = server.host.stream(stream).poll_read(now, 1024) {
//!             match outcome? {
//!                 ReadOutcome::Chunk(bytes) => heard.extend_from_slice(&bytes),
//!                 ReadOutcome::Mark => {}
//!                 ReadOutcome::End => break 'hearing,
//!             }
//!         }
//!     }
//! }
//! assert_eq!(heard, b"hello");
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
extern crate self as sss_proto;

#[cfg(test)]
#[macro_use]
mod testing;

mod channel;
mod config;
mod entropy;
mod error;
mod host;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod ids;
mod interest;
mod io;
mod key_log;
mod limit;
mod local_host;
mod nearby;
mod negotiation;
mod network;
mod pace;
mod packet;
mod padding;
mod peer;
mod rare;
mod refusal;
mod role;
mod route;
mod seen;
mod sketch;
mod streams;
mod time;
mod token;

pub use channel::{ChannelInfo, EcnState, MAX_CLOSING, MtuState, ResumeState};
pub use config::{AcceptFilter, BadSetting, Config, Congestion, PeerLimits, PostQuantum, StreamLimits, WindowConfig};
pub use entropy::Entropy;
pub use error::{
    Absence, CloseReason, DatagramError, DropReason, ListenError, NegotiationError, OpenError, ProtocolError,
    ReadError, WriteError,
};
pub use host::{ConnectError, Host, HostStats, Introduced, Stream, Visibility, begun_with, check_names, fail};
pub use ids::{DatagramId, ListenerId, PeerId, StreamId};
pub use interest::Interest;
pub use io::{
    Batch, Datagram, DatagramFate, Ecn, Event, Input, LinkStatus, MAX_TRANSMIT, Output, Transmit, TransmitBuf,
};
pub use key_log::{ChannelSecret, SecretPurpose};
pub use negotiation::{Greeted, Greeter, GreeterStats, shard_mark_at, shard_of};
pub use network::{AddressScope, Network, is_lan, is_usable};
pub use padding::Padding;
pub use peer::PeerStats;
pub use refusal::Refusal;
pub use route::{Link, RelayHandle, Route, RouteClass, SocketId, TunnelId, TurnId};
pub use seen::{PathHint, Seen, Tried};
pub use sss_wire::params::Shard;
#[cfg(any(test, fuzzing))]
pub use streams::reassembly;
pub use streams::{
    AcceptedBy, DatagramOptions, DatagramStats, ListenMode, OpeningRoom, ReadOutcome, RecvState, SendState, StreamInfo,
    SubtreeDelivery, SubtreeInfo, TreeNode, Waits,
};
pub use time::Instant;
