//! Slots of the table of streams.

/// The root's slot.
pub(crate) const ROOT: u32 = 0;
/// No slot.
pub(crate) const NONE: u32 = u32::MAX;
