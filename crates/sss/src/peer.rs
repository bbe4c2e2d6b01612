//! A host's view of one other host.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use sss_proto::{ChannelInfo, CloseReason, DatagramStats, LinkStatus, PeerId, PeerStats, StreamId, TreeNode};
use sss_wire::{Code, Eid};

use crate::driver::addresses;
use crate::driver::closing::forgotten;
use crate::driver::notices::Notices;
use crate::hint;
use crate::link::LinkWatch;
use crate::redaction::HostTag;
use crate::shared::{Handle, Shared};
use crate::waiting::Answer;

/// Another host, and the streams shared with it. Cheap to clone.
///
/// Streams outlive the channels that carry them: while the host cannot be reached they wait, and a new channel is made
/// when it can be, from wherever either side is then. A `Peer` ends when the streams do: closed by either side, given
/// up after [`crate::HostBuilder::linger`], or lost because the host was restarted. Streams opened to the same EID
/// afterwards belong to another `Peer`.
#[derive(Clone)]
pub struct Peer {
    handle: Arc<Handle>,
    id: PeerId,
    eid: Eid,
}

impl Peer {
    pub(crate) fn new(handle: Arc<Handle>, id: PeerId, eid: Eid) -> Self {
        Self { handle, id, eid }
    }

    /// The public name of the host.
    pub fn eid(&self) -> Eid {
        self.eid
    }

    /// Returns whether a channel is established. It may be stalled: see [`Self::link_status`].
    pub fn is_connected(&self) -> bool {
        self.handle.call(|inner, _| inner.core.is_connected(self.id)) == Some(true)
    }

    /// Address, round-trip time, bandwidth, window, losses, path MTU and why, bytes and more of the channel. `None`
    /// before it is established and after it ended.
    pub fn info(&self) -> Option<ChannelInfo> {
        self.handle.call(|inner, _| inner.core.channel_info(self.id))
    }

    /// Totals over all channels that the shared streams have had: channels, moves, outages, packets, bytes, losses; and
    /// what is queued now. `None` once nothing is left of the streams.
    pub fn stats(&self) -> Option<PeerStats> {
        self.handle.call(|inner, _| inner.core.peer_stats(self.id))
    }

    /// Returns whether the host can be reached: up, stalled (it does not answer), or down (there is no channel), with
    /// the reason.
    pub fn link_status(&self) -> LinkStatus {
        let (status, phase) = self
            .handle
            .call(|inner, _| (inner.core.link_status(self.id), inner.phase));
        status.unwrap_or_else(|| LinkStatus::Down(forgotten(phase)))
    }

    /// Follows the way to the host. Once the shared streams have ended there is nothing to follow:
    /// [`LinkWatch::changed`] says so at once.
    pub fn link(&self) -> LinkWatch {
        let receiver = self.handle.call(|inner, _| {
            // Of what has ended nothing more is told.
            if let Some(reason) = inner.core.close_reason(self.id) {
                return Err(reason);
            }
            let now = inner.core.link_status(self.id).ok_or_else(|| forgotten(inner.phase))?;
            Ok(inner.waiters.watch_link(self.id, now))
        });
        match receiver {
            Ok(receiver) => LinkWatch::new(receiver, self.handle.shared(), self.id),
            Err(reason) => LinkWatch::ended(LinkStatus::Down(reason)),
        }
    }

    /// A span of [`tracing`] for what is done with the host: `peer`, at level info, with the [`HostTag`] in the
    /// field `tag`. It is made only if somebody listens.
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!("peer", tag = %HostTag::of(&self.eid))
    }

    /// An address at which the host may be found. It is tried at once if the host does not answer where it was, and
    /// remembered for when it does not. Nothing happens if this host can send nothing there: see
    /// [`Connect::hint`](crate::Connect::hint).
    pub fn add_hint(&self, address: SocketAddr) {
        let address = addresses::canonical(address);
        self.handle.call(|inner, now| {
            if hint::useless(address, inner.local_addr).is_some() {
                return;
            }
            inner.core.add_hints(now, &self.eid, &[address.into()]);
            inner.want_driver();
        });
    }

    /// A snapshot of all streams shared with the host, parents before children.
    ///
    /// Takes time in proportion to their number, during which the host does nothing else.
    pub fn tree(&self) -> Vec<TreeNode> {
        self.handle.call(|inner, _| inner.core.tree(self.id))
    }

    /// Counters of the datagrams exchanged with the host.
    pub fn datagram_stats(&self) -> DatagramStats {
        let stats = self.handle.call(|inner, _| inner.core.datagram_stats(self.id));
        stats.unwrap_or_default()
    }

    /// Returns the number of streams shared with the host.
    pub fn stream_count(&self) -> usize {
        self.handle.call(|inner, _| inner.core.stream_count(self.id))
    }

    /// Ends the streams shared with the host at once, and their channel. The host is told the code and the reason, of
    /// which at most 256 bytes are sent. What was not yet acknowledged may not have arrived.
    pub fn close(&self, code: u32, reason: &str) {
        self.handle.call(|inner, now| {
            inner.core.disconnect(now, self.id, Code::app(code), reason);
            inner.want_driver();
        });
    }

    /// Ends both directions of a stream, whoever holds it.
    pub(crate) fn end_stream(&self, stream: StreamId, code: Code) {
        let mut notices = Notices::default();
        self.handle.call(|inner, _| {
            inner.core.stream(stream).reset(code, "");
            inner.core.stream(stream).stop(code, "");
            inner.waiters.wake_waiting_for(stream, &mut notices);
            inner.want_driver();
        });
        notices.deliver();
    }

    /// Waits until the streams shared with the host have ended, and says why.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        ended(self.handle.shared(), self.id).await
    }
}

/// Waits until the tree of a peer has ended.
pub(crate) async fn ended(shared: &Arc<Shared>, peer: PeerId) -> CloseReason {
    let waiting = shared.call(|inner, _| {
        if let Some(reason) = inner.core.close_reason(peer) {
            return Err(reason);
        }
        match inner.core.is_connected(peer) {
            Some(_) => Ok(Answer::closed(shared, inner, peer)),
            None => Err(forgotten(inner.phase)),
        }
    });
    match waiting {
        Ok(waiting) => {
            let told = waiting.await;
            told.unwrap_or_else(|| forgotten(shared.look(|inner| inner.phase)))
        }
        Err(reason) => reason,
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("eid", &self.eid).finish_non_exhaustive()
    }
}
