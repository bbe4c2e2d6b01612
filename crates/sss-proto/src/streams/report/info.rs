//! Information about streams for those outside.

use std::fmt;

use super::waits::{self, Waits};
use crate::ids::{StreamId, StreamKey};
use crate::streams::life::Life;
use crate::streams::life::state::{RecvState, SendState};
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::{Flags, Node, Opener};

/// A snapshot of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Service and protocol of a top-level stream.
    pub names: Option<(String, String)>,
    /// Levels below the root; 1 for a top-level stream.
    pub depth: u8,
    /// True if the peer opened it.
    pub is_opened_by_peer: bool,
    /// Children that are not retired.
    pub children: u32,
    /// The level among its siblings of what this host sends of the stream and below it: higher first, 0 unless it was
    /// set.
    pub priority: i8,
    /// The sending direction.
    pub sending: SendState,
    /// Bytes sent so far, without repetitions. Here and below, a record mark counts as a byte.
    pub sent: u64,
    /// Bytes written and not sent.
    pub unsent: u64,
    /// Bytes sent and not acknowledged, those behind a gap included.
    pub in_flight: u64,
    /// Bytes acknowledged without a gap: they have arrived at the peer's host. `None` once the direction has ended
    /// early, or with the tree: then it is not known.
    pub delivered: Option<u64>,
    /// Bytes written and not acknowledged, the unsent included.
    pub unacked: u64,
    /// The reason why this host cannot send more of it, or call all of it arrived. `None` if the sending direction is
    /// over.
    pub waits: Option<Waits>,
    /// True if it was accepted: by this host's application if the peer opened it; else, as far as the peer has said
    /// so, by the peer's.
    pub is_accepted: bool,
    /// The receiving direction.
    pub receiving: RecvState,
    /// Highest offset received.
    pub received: u64,
    /// Bytes read by the application, or discarded.
    pub read: u64,
}

/// Sums over a stream and all streams below it, on this host's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubtreeInfo {
    /// The number of streams there are, the uppermost included. Streams of which nothing is left do not count.
    pub streams: usize,
    /// Bytes sent so far, without repetitions.
    pub sent: u64,
    /// Bytes written and not sent.
    pub unsent: u64,
    /// Bytes written and not acknowledged, the unsent included.
    pub unacked: u64,
    /// Bytes received, as far as the highest offset of each stream.
    pub received: u64,
    /// Bytes received and neither read nor discarded.
    pub unread: u64,
}

/// A stream in a snapshot of a peer's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeNode {
    /// The stream.
    pub id: StreamId,
    /// Its parent; `None` for a top-level stream.
    pub parent: Option<StreamId>,
    /// Information about it.
    pub info: StreamInfo,
}

impl StreamInfo {
    fn of(node: &Node, is_lost: bool, waits: Option<Waits>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            names: node.names.as_ref().map(|n| (text(n.service()), text(n.protocol()))),
            depth: node.place.depth,
            is_opened_by_peer: node.place.opener == Opener::Peer,
            children: node.children(),
            priority: node.place.level,
            sending: node.status.send,
            sent: node.send.sent,
            unsent: node.send.unsent(),
            in_flight: node.send.sent - node.send.acked(),
            delivered: match node.status.send {
                SendState::Done => Some(node.send.sent),
                SendState::Open | SendState::Finishing if !is_lost => Some(node.send.acked()),
                _ => None,
            },
            unacked: node.send.unacked(),
            waits,
            is_accepted: node.has(Flags::ANNOUNCED) && !node.has(Flags::UNACCEPTED) && !node.has(Flags::UNHEARD),
            receiving: node.status.recv,
            received: node.recv.received,
            read: node.recv.read,
        }
    }
}

/// A line about the stream: what it is, what was sent and read, and what it waits for.
impl fmt::Display for StreamInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.names {
            Some((service, protocol)) => write!(f, "stream to service {service:?}, protocol {protocol:?}")?,
            None => write!(f, "stream at depth {}", self.depth)?,
        }
        write!(
            f,
            ": {} bytes sent, {} unsent, {} in flight",
            self.sent, self.unsent, self.in_flight
        )?;
        write!(
            f,
            "; {} received, {} unread here",
            self.received,
            self.received - self.read
        )?;
        if let Some(waits) = &self.waits {
            write!(f, "; waits: {waits}")?;
        }
        let is_told = matches!(
            self.waits,
            Some(Waits::Acceptance | Waits::PeerAcceptance(_) | Waits::Opening(_)) | None
        );
        if !self.is_accepted && !is_told {
            f.write_str("; the peer is not known to have accepted it")?;
        }
        Ok(())
    }
}

/// Returns what is known about a stream; `name` makes names of streams of keys. Of what stops it, only the part that is
/// the streams' own.
pub(crate) fn describe(life: &Life, key: StreamKey, name: impl Fn(StreamKey) -> StreamId) -> Option<StreamInfo> {
    let index = life.tree.find(key).filter(|i| *i != ROOT)?;
    Some(info_of(life, index, name))
}

fn info_of(life: &Life, index: u32, name: impl Fn(StreamKey) -> StreamId) -> StreamInfo {
    StreamInfo::of(
        &life.tree[index],
        life.failed.is_some(),
        waits::waits(life, index, name),
    )
}

/// Sums over a stream and all streams below it. Takes time in proportion to their number.
pub(crate) fn subtree_info(life: &Life, key: StreamKey) -> Option<SubtreeInfo> {
    let top = life.tree.find(key).filter(|i| *i != ROOT)?;
    let mut sums = SubtreeInfo::default();
    for node in life.tree.table.subtree(top).map(|at| &life.tree[at]) {
        sums.streams += 1;
        sums.sent += node.send.sent;
        sums.unsent += node.send.unsent() + node.bytes_in_line();
        sums.unacked += node.send.unacked();
        sums.received += node.recv.received;
        sums.unread += node.recv.unread();
    }
    Some(sums)
}

/// All streams with their parents (`None`: the root), parents before children. Takes time in proportion to their
/// number.
pub(crate) fn tree(
    life: &Life,
    name: impl Fn(StreamKey) -> StreamId,
) -> Vec<(StreamKey, Option<StreamKey>, StreamInfo)> {
    let mut all: Vec<_> = (1..life.tree.table.slots())
        .filter_map(|index| {
            let node = life.tree.table.get(index)?;
            let parent = (node.place.parent != ROOT).then(|| life.tree.key(node.place.parent));
            let info = info_of(life, index, &name);
            Some((life.tree.key(index), parent, info))
        })
        .collect();
    all.sort_by_key(|(_, _, info)| info.depth);
    all
}
