//! Questions about a stream, and their answers: WATCH and CONSUMED, AWAIT and RELEASED.

use super::fields::frame_of_fields;

/// WATCH: the sender of a direction of a stream asks to be told when it was read to its end (FRM-11, STR-47).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The stream, never the root.
    pub lsid: u64,
}

/// CONSUMED: the direction of a stream that the receiver of this frame sends was read to its end (FRM-11, STR-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The stream, never the root.
    pub lsid: u64,
}

/// AWAIT: asks to be told when the receiver of this frame can open and send no more on a stream (FRM-20, STR-70).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Await {
    /// The stream, never the root.
    pub lsid: u64,
}

/// RELEASED: the sender of this frame opens and sends no more on a stream, and what it had opened has arrived (FRM-20,
/// STR-71).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The stream, never the root.
    pub lsid: u64,
}

frame_of_fields!(Watch, 0x0c, { lsid: lsid });
frame_of_fields!(Consumed, 0x0d, { lsid: lsid });
frame_of_fields!(Await, 0x11, { lsid: lsid });
frame_of_fields!(Released, 0x12, { lsid: lsid });
