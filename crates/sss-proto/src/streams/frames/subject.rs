//! The stream that a frame is about.

use sss_wire::Code;

use crate::error::ProtocolError;
use crate::streams::life::Life;
use crate::streams::tree::lsids::Found;

/// The stream that a frame is about; `None` if it was retired.
///
/// # Errors
/// If it was never opened (STR-8).
pub(super) fn find(life: &Life, lsid: u64) -> Result<Option<u32>, ProtocolError> {
    match life.tree.locate(lsid) {
        _ if life.failed.is_some() => Ok(None),
        Found::Live(index) => Ok(Some(index)),
        Found::Retired => Ok(None),
        Found::Never => Err(never_opened()),
    }
}

/// As [`find`], for a frame that the peer sends only of streams that its application holds.
///
/// # Errors
/// If it was never opened (STR-8).
pub(super) fn find_held(life: &mut Life, lsid: u64) -> Result<Option<u32>, ProtocolError> {
    let index = find(life, lsid)?;
    if let Some(index) = index {
        life.on_heard(index);
    }
    Ok(index)
}

pub(super) fn never_opened() -> ProtocolError {
    ProtocolError::new(Code::STREAM_STATE, "frame for a stream that was never opened")
}
