//! A packet that is being filled.

use crate::packet::PacketWriter;

/// The packet, and what the frames in it have to know of each other.
pub(crate) struct Draft<'a, 'b> {
    pub(crate) packet: &'a mut PacketWriter<'b>,
    /// Streams whose INIT is in it.
    announced: &'a mut Vec<u32>,
    /// Position at which what the scheduler chooses begins.
    pub(crate) data_at: usize,
    /// Bytes by which it is shorter than packets may be.
    pub(crate) missing: usize,
}

impl<'a, 'b> Draft<'a, 'b> {
    /// `announced` is space that is used again.
    pub(crate) fn new(packet: &'a mut PacketWriter<'b>, announced: &'a mut Vec<u32>) -> Self {
        announced.clear();
        Self {
            packet,
            announced,
            data_at: 0,
            missing: 0,
        }
    }

    /// Returns whether the packet has INIT of a stream.
    #[inline]
    pub(crate) fn announces(&self, index: u32) -> bool {
        self.announced.contains(&index)
    }

    /// INIT of a stream is in the packet.
    pub(super) fn note_announced(&mut self, index: u32) {
        self.announced.push(index);
    }
}
