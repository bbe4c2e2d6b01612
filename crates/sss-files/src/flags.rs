//! Sets of bits in the messages.

use bitflags::bitflags;

bitflags! {
    /// Manner in which a receiver stores and makes (FIL-20).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Options: u8 {
        /// Replaces what is there and differs.
        const REPLACE = 1;
        /// Modes are masked by the receiver's umask, and those of files that are there stay.
        const NO_PERMS = 2;
        /// Answers with OK what is on the disk.
        const SYNC = 4;
        /// It is part of a tree: what is made above it gets its mode and time by a MAKE that follows.
        const TREE = 8;
    }
}

bitflags! {
    /// Further facts of a file, as bits of its mode on the wire (FIL-23).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Traits: u32 {
        /// The file has holes: long runs of zeros that take no room.
        const HOLES = 1 << 9;
        /// The file has other names, too (hard links).
        const LINKED = 1 << 10;
    }
}
