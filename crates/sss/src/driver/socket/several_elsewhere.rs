//! Systems without a call that sends to several destinations.

use std::io;

use sss_proto::Transmit;

use super::Socket;

/// Datagrams of one call, at most: none are gathered for one.
pub(crate) const MAX_DATAGRAMS: usize = 0;

/// Nothing is known of such calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Several;

impl Several {
    /// Nothing follows from it.
    pub(super) fn note_alone(&mut self, _was_sent: bool) {}
}

impl Socket {
    /// Returns 0: the first is to be sent alone.
    pub(crate) fn send_several<'a>(&mut self, _: impl Iterator<Item = (Transmit, &'a [u8])>) -> io::Result<usize> {
        Ok(0)
    }
}
