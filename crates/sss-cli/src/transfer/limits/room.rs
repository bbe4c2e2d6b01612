//! Room for bytes that were read and have not arrived.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Part;

/// Room for bytes that were read and have not arrived.
pub(crate) struct Room(pub(super) Part);

/// Bytes with the room for them: given back as soon as nobody holds the bytes any more, which is when the transport
/// knows that they have arrived, or that they never will.
struct InRoom {
    bytes: Vec<u8>,
    room: Option<Room>,
}

/// Receiver of room, as soon as what is in it has arrived.
pub(crate) type Heir = oneshot::Receiver<Room>;

impl Part {
    /// Gives back all but `count`.
    fn shrink(&mut self, count: u64) {
        let surplus = self.count.saturating_sub(count);
        if surplus > 0 {
            self.count = count;
            self.share.shrink(count);
            self.entry.gives_back(self.kind, surplus);
        }
    }
}

impl Room {
    /// Bytes that hold their room for as long as anybody holds them. Room that they do not need is given back.
    pub(crate) fn hold(mut self, bytes: Vec<u8>) -> Bytes {
        self.0.shrink(bytes.capacity() as u64);
        let room = Some(self);
        Bytes::from_owner(InRoom { bytes, room })
    }

    /// Number of bytes that there is room for.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.0.count).unwrap_or(usize::MAX)
    }
}

impl AsRef<[u8]> for InRoom {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for InRoom {
    fn drop(&mut self) {
        let Some(room) = self.room.take() else { return };
        let heir = room.0.entry.clock().heir.take();
        // Without an heir it is free.
        drop(heir.map(|heir| heir.send(room)));
    }
}
