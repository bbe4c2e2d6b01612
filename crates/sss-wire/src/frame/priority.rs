//! PRIORITY.

use super::fields::frame_of_fields;

/// PRIORITY: the receiver of a direction of a stream asks for another level of it (FRM-7, STR-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The stream, never the root.
    pub lsid: u64,
    /// Number of requests made for this stream before.
    pub serial: u64,
    /// The level among the stream's siblings, higher first.
    pub level: i8,
}

frame_of_fields!(Priority, 0x0b, { lsid: lsid, serial: varint, level: level });
