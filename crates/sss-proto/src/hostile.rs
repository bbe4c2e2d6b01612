//! A host that says what it should not: for the fuzz targets, and for the tests that replay their corpora. It is in no
//! other build.

use std::cell::RefCell;

thread_local! {
    static PACKET_ZERO: RefCell<Option<(usize, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Sets what the next INITIATE or ACCEPT of any host of this thread says: the first `keep` bytes of what it should
/// say, and then `frames`.
pub fn set_packet_zero(keep: usize, frames: &[u8]) {
    PACKET_ZERO.set(Some((keep, frames.to_vec())));
}

/// Makes of what packet 0 should say what it is to say.
pub(crate) fn spoil(packet: &mut Vec<u8>, room: usize) {
    if let Some((keep, frames)) = PACKET_ZERO.take() {
        packet.truncate(keep);
        packet.extend_from_slice(&frames);
        packet.truncate(room);
    }
}
