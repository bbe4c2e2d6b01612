//! CREDIT and OPEN_CREDIT.

use super::fields::frame_of_fields;

/// CREDIT: raises the limit of a stream's own data (STR-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The stream, never the root.
    pub lsid: u64,
    /// The new limit, a position in the direction.
    pub limit: u64,
}

frame_of_fields!(Credit, 0x0a, { lsid: lsid, limit: varint });

/// OPEN_CREDIT: raises the limit of what openings of streams may be charged to a stream (STR-55).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCredit {
    /// The stream whose account it is; 0 is the root.
    pub lsid: u64,
    /// The new limit in bytes of charge, absolute.
    pub limit: u64,
    /// Bytes, in total, that are consumed of what datagrams were charged there.
    pub datagrams: u64,
}

frame_of_fields!(OpenCredit, 0x13, { lsid: varint, limit: varint, datagrams: varint });
