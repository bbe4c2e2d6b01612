//! The boundary: everything that enters and leaves the core.
//!
//! The core performs no IO and reads no clock. A driver hands it datagrams and the present time
//! ([`Input`]), and polls it for what is to be sent and to be told ([`Output`]) until it answers
//! [`Output::Wake`].

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use sss_wire::reach::RELAY_HEADER;
use sss_wire::{Code, Eid};

use crate::error::CloseReason;
use crate::ids::{DatagramId, ListenerId, PeerId, StreamId};
use crate::interest::Interest;
use crate::key_log::ChannelSecret;
use crate::route::{Link, Route};
use crate::time::Instant;

/// The explicit congestion notification field of an IP header (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// The sender does not use ECN, or the socket cannot tell.
    #[default]
    NotEct,
    /// ECN-capable, codepoint 0: what SSS sends.
    Ect0,
    /// ECN-capable, codepoint 1.
    Ect1,
    /// Congestion experienced.
    Ce,
}

/// Input of the core.
#[derive(Debug)]
pub enum Input<'a> {
    /// Datagrams that came over one link, read from the socket in one call.
    Datagrams(Batch<'a>),
    /// A HELLO or HELLO_K that a [greeter](crate::Greeter) has admitted.
    Admitted {
        /// The address that it came from.
        remote: SocketAddr,
        /// The local address it was sent to, if the socket tells.
        local: Option<IpAddr>,
        /// The packet.
        packet: &'a [u8],
    },
    /// A packet of [`Event::Stray`] of another shard. Of no use here but as a stateless reset.
    Stray(&'a [u8]),
    /// Time has passed.
    Tick,
}

/// Datagrams of one GRO batch: equally long, but for the last, which may be shorter.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The datagrams one after another. Decrypted in place; payloads of streams leave as slices of
    /// it without a copy.
    ///
    /// On return it is as it was if no slice of it is out, and else empty; then the batch is in `lent`.
    pub data: &'a mut BytesMut,
    /// Place where a batch of which slices are out is put, so that the driver can use its memory again once they are
    /// gone.
    pub lent: &'a mut Option<Bytes>,
    /// Length of each datagram, in bytes; not 0.
    pub stride: usize,
    /// Link that they came over.
    pub link: Link,
    /// The local address they were sent to, if the socket tells.
    pub local: Option<IpAddr>,
    /// The ECN mark that all of them carry.
    pub ecn: Ecn,
}

/// Output of the core.
#[derive(Debug)]
pub enum Output {
    /// The transmit buffer holds datagrams to be sent now.
    Transmit(Transmit),
    /// Something the application waits for.
    Event(Event),
    /// Nothing more to do until the given moment, or until there is input.
    Wake(Option<Instant>),
}

/// Instructions how to send the contents of the [`TransmitBuf`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Link to send them over.
    pub link: Link,
    /// Source address, if it matters.
    pub local: Option<IpAddr>,
    /// The ECN mark to set.
    pub ecn: Ecn,
    /// Length of each datagram but the last, in bytes. The last may be shorter.
    pub segment: usize,
}

/// The buffer that [`crate::Host::poll`] fills with datagrams for one segmented send.
#[derive(Debug)]
pub struct TransmitBuf {
    bytes: Vec<u8>,
    max_segments: usize,
    used: usize,
    /// Set if each packet has it before it: what a relay forwards it by (CHN-17).
    lead: Option<[u8; RELAY_HEADER]>,
}

/// Largest number of bytes that one segmented UDP send can carry.
pub const MAX_TRANSMIT: usize = 65_507;

impl TransmitBuf {
    /// A buffer for sends of at most `max_segments` datagrams (1 where the socket cannot segment).
    pub fn new(max_segments: usize) -> Self {
        Self {
            bytes: vec![0; MAX_TRANSMIT],
            max_segments: max_segments.clamp(1, 64),
            used: 0,
            lead: None,
        }
    }

    /// The datagrams to send.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// Returns the number of datagrams that one send may hold.
    pub fn max_segments(&self) -> usize {
        self.max_segments
    }

    /// Changes how many datagrams one send may hold.
    pub fn set_max_segments(&mut self, n: usize) {
        self.max_segments = n.clamp(1, 64);
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.used = 0;
        self.lead = None;
    }

    /// Puts datagrams behind those that are there, for whoever sends what the core has not made. Returns false, and
    /// does nothing, if they do not fit.
    pub fn append(&mut self, datagrams: &[u8]) -> bool {
        let end = self.used + datagrams.len();
        let Some(space) = self.bytes.get_mut(self.used..end) else {
            return false;
        };
        space.copy_from_slice(datagrams);
        self.used = end;
        true
    }

    /// Empties it for packets that go by that route.
    pub(crate) fn begin(&mut self, route: &Route) {
        self.used = 0;
        self.lead = route.prefix();
    }

    fn lead_len(&self) -> usize {
        self.lead.map_or(0, |lead| lead.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// The unused part, in which the next packet begins.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        let at = self.used + self.lead_len();
        self.bytes.get_mut(at..).unwrap_or_default()
    }

    /// Counts the first `n` bytes of the unused part as filled, with what is before them; nothing if there are none.
    pub(crate) fn advance(&mut self, n: usize) {
        let Some(lead) = self.lead.filter(|_| n > 0) else {
            self.used = (self.used + n).min(self.bytes.len());
            return;
        };
        let at = self.used;
        if let Some(before) = self.bytes.get_mut(at..at + lead.len()) {
            before.copy_from_slice(&lead);
        }
        self.used = (at + lead.len() + n).min(self.bytes.len());
    }

    /// Replaces the contents by one packet that goes by that route.
    pub(crate) fn put(&mut self, route: &Route, packet: &[u8]) {
        self.begin(route);
        let spare = self.spare();
        let n = packet.len().min(spare.len());
        if let (Some(to), Some(from)) = (spare.get_mut(..n), packet.get(..n)) {
            to.copy_from_slice(from);
        }
        self.advance(n);
    }
}

/// Reachability of a peer (docs/spec/migration.md).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkStatus {
    /// Its channel works as far as is known.
    Up,
    /// The peer does not answer: the second probe in a row was not acknowledged. Other ways are tried.
    Stalled,
    /// There is no channel. Streams wait, and the peer's known addresses are tried, until a channel is made or linger
    /// is over.
    Down(CloseReason),
}

/// Event that the application may be waiting for.
///
/// [`Event::Ready`] comes once after an operation on a stream was pending; then the operation is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A channel to the peer is established.
    Connected(PeerId, Eid),
    /// The tree shared with the peer ended, or no channel could be made. Its streams have failed with the same reason.
    Disconnected(PeerId, Eid, CloseReason),
    /// The way to the peer has changed. Its streams go on, or wait.
    Link(PeerId, LinkStatus),
    /// Nothing comes of the peer that should: a flow of packets has broken off (CHN-18), or the first probe timeout has
    /// passed (REC-4). Perhaps this host is not reached any more where it was
    /// ([`crate::Host::outer_address_changed`]).
    Quiet(PeerId),
    /// A listener has a stream to accept.
    Acceptable(ListenerId),
    /// Something that was waited for of a stream has come, or never will: the operation is to be tried again.
    Ready(StreamId, Interest),
    /// Fate: what became of a datagram sent to the peer, if that was asked for. Comes once.
    DatagramSettled(PeerId, DatagramId, DatagramFate),
    /// A secret of a channel, for a key log. Told only if [`Config::key_log`](crate::Config::key_log) is set.
    Secret(ChannelSecret),
    /// A packet for a channel that is unknown here, and that may be a stateless reset for another shard: to be given to
    /// all of them as [`Input::Stray`]. Told only if [`Config::shard`](crate::Config::shard) is set (NEG-42), and at
    /// most ten times a second for one network, as such packets are answered (PRT-12).
    Stray(Vec<u8>),
    /// An attempt to reach this peer begins: other addresses of it are welcome ([`crate::Host::add_hints`]), or the
    /// reason why there is none ([`crate::Host::unfound`]). Told only if [`Config::seeks`](crate::Config::seeks) is
    /// set.
    Seeking(PeerId, Eid),
    /// A host answered an EID probe. Unauthenticated.
    ProbeReply(Route, Eid),
}

/// Fate of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatagramFate {
    /// All of it is there: it waits for the peer's application, or was taken by it. Of one that went in one packet: the
    /// peer's host has got that packet, and may have dropped it if nobody holds the stream any more, or too many
    /// wait.
    Delivered,
    /// It was sent once, in one packet, and that packet seems to be lost.
    Lost,
    /// It could not arrive before its deadline any more, or gave way to one of a later deadline, which could.
    Expired,
    /// It is larger than the peer takes. The limit was not known yet when it was sent.
    TooLarge,
    /// The peer refused it.
    Refused(Code),
    /// The stream that it was sent on was reset with all that is below it.
    Cancelled,
    /// The channel has ended.
    ChannelLost,
}

/// A datagram that belongs to no channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Route that it comes by, or goes by.
    pub route: Route,
    /// Address of this host that it was sent to, or is to leave from; `None` if that is not known, or does not matter.
    pub local: Option<IpAddr>,
    /// Its contents.
    pub bytes: Vec<u8>,
}

impl Datagram {
    /// A datagram for that route, from the address that the system chooses.
    pub fn new(route: Route, bytes: Vec<u8>) -> Self {
        Self {
            route,
            local: None,
            bytes,
        }
    }
}
