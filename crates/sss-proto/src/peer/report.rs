//! Reports on a peer's streams, the way to the peer included.

use super::transport::Transport;
use crate::channel::Flight;
use crate::ids::{PeerId, StreamId, StreamKey};
use crate::io::LinkStatus;
use crate::streams::{StreamInfo, Streams, TreeNode, Waits};

/// A view of a peer for whoever asks how its streams are.
pub(crate) struct Report<'a> {
    pub(super) peer: PeerId,
    pub(super) streams: &'a Streams,
    pub(super) transport: &'a Transport,
}

impl Report<'_> {
    /// Returns what is known about a stream.
    pub(crate) fn stream(&self, key: StreamKey) -> Option<StreamInfo> {
        let info = self.streams.describe(key, |key| self.id(key))?;
        Some(self.completed(info))
    }

    /// A snapshot of all streams, parents before children.
    pub(crate) fn tree(&self) -> Vec<TreeNode> {
        let node = |(key, parent, info): (_, Option<_>, _)| TreeNode {
            id: self.id(key),
            parent: parent.map(|parent| self.id(parent)),
            info: self.completed(info),
        };
        let streams = self.streams.tree(|key| self.id(key));
        streams.into_iter().map(node).collect()
    }

    fn id(&self, key: StreamKey) -> StreamId {
        let peer = self.peer;
        StreamId { peer, key }
    }

    /// Adds to what is known of a stream what the channel, or the lack of one, lets it wait for.
    fn completed(&self, mut info: StreamInfo) -> StreamInfo {
        if let Some(waits) = info.waits.take() {
            info.waits = Some(self.refined(waits));
        }
        info
    }

    fn refined(&self, waits: Waits) -> Waits {
        if matches!(waits, Waits::Application | Waits::Acceptance) {
            return waits;
        }
        // Whatever else stops it, nothing changes before there is a channel that works.
        if self.transport.attempts().is_first() {
            return Waits::Connecting;
        }
        match self.transport.mobility().status() {
            LinkStatus::Stalled => Waits::Stalled,
            LinkStatus::Down(reason) => Waits::Down(reason.clone()),
            LinkStatus::Up if waits == Waits::Turn => {
                let carrier = self.transport.channels().carrier().map(|c| c.channel.flight());
                if carrier.is_some_and(Flight::is_window_full) {
                    Waits::Congestion
                } else if carrier.is_some_and(Flight::is_paced) {
                    Waits::Pacer
                } else {
                    waits
                }
            }
            LinkStatus::Up => waits,
        }
    }
}
