//! The end of a direction (STR-12): FIN and RESET say it, and nothing may contradict that.

use sss_wire::Code;

use crate::error::ProtocolError;
use crate::streams::life::state::RecvInput;
use crate::streams::tree::node::Node;

/// Checks the end of a STREAM frame.
///
/// # Errors
/// If it lies beyond the final size, or says another one.
pub(crate) fn check(node: &Node, end: u64, is_final: bool) -> Result<(), ProtocolError> {
    let (received, has_size) = (node.recv.received, node.status.recv.has_size());
    let is_beyond = has_size && end > received;
    let is_other_end = is_final && (end < received || (has_size && end != received));
    if is_beyond || is_other_end {
        return Err(ProtocolError::new(
            Code::FINAL_SIZE,
            "data beyond the end, or two different ends",
        ));
    }
    Ok(())
}

/// Notes a new final size, and a new highest offset. Returns by how much that is higher.
pub(crate) fn note(node: &mut Node, end: u64, is_final: bool) -> u64 {
    if is_final {
        node.advance_recv(RecvInput::Size);
    }
    let more = end.saturating_sub(node.recv.received);
    node.recv.received += more;
    more
}

/// Checks the final size of RESET.
///
/// # Errors
/// If it contradicts what is known.
pub(super) fn check_reset(node: &Node, size: u64) -> Result<(), ProtocolError> {
    let received = node.recv.received;
    if size < received || (node.status.recv.has_size() && size != received) {
        return Err(ProtocolError::new(Code::FINAL_SIZE, "RESET with another final size"));
    }
    Ok(())
}

/// Returns whether that was the last that was missing.
pub(crate) fn complete(node: &mut Node) -> bool {
    node.recv.next() >= node.recv.received && node.advance_recv(RecvInput::AllReceived)
}
