//! Packets that came, and facts about them.

use std::ops::Range;

use crate::io::Ecn;
use crate::route::Route;

/// A packet that was opened in place.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) seq: u64,
    /// Range of its frames in the datagram.
    pub(crate) payload: Range<usize>,
    /// The generation of the keys that opened it.
    pub(crate) generation: u32,
    /// True if its number is above all before.
    pub(crate) newest: bool,
}

/// Facts about a packet that are known once its frames were dispatched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) ack_eliciting: bool,
    pub(crate) ecn: Ecn,
    /// Length of the datagram.
    pub(crate) bytes: usize,
    pub(crate) route: &'a Route,
}
