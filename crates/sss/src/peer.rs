//! What a host knows about one other host.

use std::fmt;
use std::sync::Arc;

use sss_proto::{ChannelInfo, CloseReason, DatagramStats, PeerId, TreeNode};
use sss_wire::{Code, Eid};

use crate::driver::closing::forgotten;
use crate::shared::Handle;

/// Another host, as seen over one channel. Cheap to clone.
///
/// It stands for the channel that was there when it was made: a later channel to the same EID is another `Peer`.
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

    /// Whether the channel is established.
    pub fn is_connected(&self) -> bool {
        self.handle.call(|inner, _| inner.core.is_connected(self.id)) == Some(true)
    }

    /// Address, round-trip time, losses, path MTU, bytes and more of the channel. `None` before it is
    /// established and after it ended.
    pub fn info(&self) -> Option<ChannelInfo> {
        self.handle.call(|inner, _| inner.core.channel_info(self.id))
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

    /// How many streams are shared with the host.
    pub fn stream_count(&self) -> usize {
        self.handle.call(|inner, _| inner.core.stream_count(self.id))
    }

    /// Ends the channel at once, and with it all streams. The host is told the code and the reason, of which at most 256 bytes are
    /// sent. What was not yet acknowledged may not have arrived.
    pub fn close(&self, code: u32, reason: &str) {
        self.handle.call(|inner, now| {
            inner.core.disconnect(now, self.id, Code::app(code), reason);
            inner.want_driver();
        });
    }

    /// Waits until the channel has ended, and says why.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        let waiting = self.handle.call(|inner, _| {
            if let Some(reason) = inner.core.close_reason(self.id) {
                return Err(reason);
            }
            match inner.core.is_connected(self.id) {
                Some(_) => Ok(inner.waiters.closed(self.id)),
                None => Err(forgotten()),
            }
        });
        match waiting {
            Ok(waiting) => waiting.await.unwrap_or_else(|_| forgotten()),
            Err(reason) => reason,
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("eid", &self.eid).finish_non_exhaustive()
    }
}
