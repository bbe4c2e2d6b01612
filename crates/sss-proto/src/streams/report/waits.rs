//! Reasons why streams wait: computed when somebody asks, from what is there anyway.

use std::fmt;

use crate::error::CloseReason;
use crate::ids::{StreamId, StreamKey};
use crate::streams::flow::lending::Acceptor;
use crate::streams::flow::openings;
use crate::streams::life::Life;
use crate::streams::life::state::SendState;
use crate::streams::tree::index::{NONE, ROOT};
use crate::streams::tree::node::Flags;

/// Reason why this host cannot yet send more of a stream, or call it done.
///
/// There may be several reasons at a time: the one named is that without which nothing would help.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waits {
    /// For this host's application: all that it wrote has arrived, and it has neither written more nor finished the
    /// stream.
    Application,
    /// For this host's application to accept it.
    Acceptance,
    /// For the peer's application to accept it, and so for more credit: what can be sent before is sent. The peer may
    /// have accepted it a moment ago, without having said so yet.
    PeerAcceptance(AcceptedBy),
    /// For the peer's application to read: the stream's own limit is used up. Of a datagram: for the peer to have room
    /// for the rest of it.
    PeerReading,
    /// For room to be opened.
    Opening(OpeningRoom),
    /// For a stream at a higher level to have nothing to send any more. That stream tells what it waits for itself.
    HigherLevel(StreamId),
    /// For acknowledgements of anything sent to the peer: the channel's congestion window is full.
    Congestion,
    /// For the pacer, which lets no packet out yet.
    Pacer,
    /// For nothing but its turn: it may send with the next packet.
    Turn,
    /// For the peer's host to acknowledge what was sent: nothing else is left to send.
    Acknowledgement,
    /// For the first channel to the peer.
    Connecting,
    /// For the peer to be heard again: it has not acknowledged two probes in a row.
    Stalled,
    /// For another channel: the last one ended with this reason.
    Down(CloseReason),
}

/// Acceptor of a stream that this host opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptedBy {
    /// A service of the peer.
    Service {
        /// Its name.
        service: String,
        /// The protocol asked for.
        protocol: String,
    },
    /// The holder of this stream, who accepts its substreams.
    Substreams(StreamId),
    /// Takers of datagrams.
    Datagrams,
}

/// Room that is missing for a stream to be opened: what waits to be accepted is charged to the openings account of a
/// stream above (STR-52 to STR-59).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpeningRoom {
    /// The stream that is to be opened first: the one that waits, or one above it.
    pub stream: StreamId,
    /// The acceptor of that one.
    pub acceptor: AcceptedBy,
    /// The stream whose account has the most room for it; `None`: the root.
    pub account: Option<StreamId>,
    /// True if the account is full, whoever is to accept. Else only the share of `acceptor` is used up: too many
    /// streams wait for it, and what is left is for others (STR-59).
    pub is_full: bool,
}

impl fmt::Display for AcceptedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, protocol } => write!(f, "service {service:?}, protocol {protocol:?}"),
            Self::Substreams(parent) => write!(f, "substreams of {parent}"),
            Self::Datagrams => f.write_str("datagrams"),
        }
    }
}

impl fmt::Display for OpeningRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = &self.acceptor;
        if self.is_full {
            write!(f, "room to open {} ({by}): the openings account of ", self.stream)?;
        } else {
            write!(
                f,
                "room to open {}: the peer has not accepted enough ({by}), whose share of the account of ",
                self.stream
            )?;
        }
        match self.account {
            Some(account) => write!(f, "{account}")?,
            None => f.write_str("the root")?,
        }
        f.write_str(if self.is_full { " is full" } else { " is used up" })
    }
}

/// Completes "waits: ".
impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "this application has nothing more to send yet",
            Self::Acceptance => "this application has not accepted it",
            Self::PeerAcceptance(by) => return write!(f, "the peer has not accepted it ({by})"),
            Self::PeerReading => "the peer's application has not read what was sent",
            Self::Opening(room) => return room.fmt(f),
            Self::HigherLevel(stream) => return write!(f, "{stream}, at a higher level, goes first"),
            Self::Congestion => "the congestion window is full",
            Self::Pacer => "the pacer lets nothing out yet",
            Self::Turn => "its turn",
            Self::Acknowledgement => "the peer's host has not acknowledged all that was sent",
            Self::Connecting => "there is no channel to the peer yet",
            Self::Stalled => "the peer is not heard",
            Self::Down(reason) => return write!(f, "there is no channel to the peer any more: {reason}"),
        })
    }
}

/// Returns what a stream waits for, as far as the tree of streams knows; `name` makes names of streams of keys. Takes
/// time in proportion to the depth of the stream.
pub(crate) fn waits(life: &Life, index: u32, name: impl Fn(StreamKey) -> StreamId) -> Option<Waits> {
    let node = &life.tree[index];
    if life.failed.is_some() || !node.status.send.carries_data() {
        return None;
    }
    if node.has(Flags::UNACCEPTED) {
        return Some(Waits::Acceptance);
    }
    if !life.tree.lsids.has_role() {
        return Some(Waits::Connecting);
    }
    if node.is_sendable() {
        let first = life.scheduler.preferred(&life.tree.table, index);
        return Some(first.map_or(Waits::Turn, |at| Waits::HigherLevel(name(life.tree.key(at)))));
    }
    if !node.has(Flags::ANNOUNCED) {
        return Some(Waits::Opening(opening_room(life, index, name)));
    }
    let is_done = node.send.is_acked() && node.is_known() && node.status.send == SendState::Open;
    Some(match node.send.unsent() {
        0 if is_done => Waits::Application,
        0 => Waits::Acknowledgement,
        _ if node.has(Flags::UNHEARD) => Waits::PeerAcceptance(accepted_by(life, index, name)),
        _ => Waits::PeerReading,
    })
}

fn accepted_by(life: &Life, index: u32, name: impl Fn(StreamKey) -> StreamId) -> AcceptedBy {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match openings::acceptor(&life.tree.table, index) {
        Acceptor::Service(names) => AcceptedBy::Service {
            service: text(names.service()),
            protocol: text(names.protocol()),
        },
        Acceptor::Substreams(parent) => AcceptedBy::Substreams(name(parent)),
        Acceptor::Datagrams(_) => AcceptedBy::Datagrams,
    }
}

/// Returns where a stream that waits to be opened finds no room.
fn opening_room(life: &Life, index: u32, name: impl Fn(StreamKey) -> StreamId) -> OpeningRoom {
    let stream = first_to_open(life, index);
    let (account, is_full) = openings::scarcest(&life.tree.table, stream);
    OpeningRoom {
        stream: name(life.tree.key(stream)),
        acceptor: accepted_by(life, stream, &name),
        account: (account != ROOT).then(|| name(life.tree.key(account))),
        is_full,
    }
}

/// The uppermost stream that finds no room, of those that are to be opened before this one; else this one.
fn first_to_open(life: &Life, index: u32) -> u32 {
    let mut first = index;
    let mut at = life.tree[index].place.parent;
    while at != NONE && !life.tree[at].has(Flags::ANNOUNCED) {
        if !openings::has_room(&life.tree.table, at) {
            first = at;
        }
        at = life.tree[at].place.parent;
    }
    first
}
