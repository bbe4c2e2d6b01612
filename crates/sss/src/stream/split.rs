//! The halves of a stream, for two tasks.

use std::fmt;
use std::sync::Arc;

use sss_proto::{CloseReason, ListenMode, OpenError, StreamId, StreamInfo, SubtreeInfo};
use sss_wire::{Code, Eid};

use super::datagram::{datagram_receiving_methods, datagram_sending_methods};
use super::link::Link;
use super::read::{Receiving, receiving_methods};
use super::records::{record_reading_methods, record_writing_methods};
use super::write::{Sending, sending_methods};
use super::{Stream, tree_methods};
use crate::peer::Peer;

/// The sending side of a [`Stream`]. Dropping it unfinished resets that direction.
pub struct SendHalf {
    link: Arc<Link>,
    sending: Sending,
}

impl SendHalf {
    pub(crate) fn new(link: Arc<Link>, sending: Sending) -> Self {
        Self { link, sending }
    }

    pub(super) fn sending(&mut self) -> (&Link, &mut Sending) {
        (&self.link, &mut self.sending)
    }

    fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.sending.has_ended() {
            // STR-13
            self.sending.reset(&self.link, Code::DROPPED, "dropped unfinished");
        }
    }
}

/// The receiving side of a [`Stream`]. Dropping it before its end stops that direction.
pub struct RecvHalf {
    link: Arc<Link>,
    receiving: Receiving,
}

impl RecvHalf {
    pub(crate) fn new(link: Arc<Link>, receiving: Receiving) -> Self {
        Self { link, receiving }
    }

    pub(super) fn receiving(&mut self) -> (&Link, &mut Receiving) {
        (&self.link, &mut self.receiving)
    }

    fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        // STR-13
        self.receiving.stop(&self.link, Code::UNREAD, "dropped unread");
    }
}

sending_methods!(SendHalf);
record_writing_methods!(SendHalf);
tree_methods!(SendHalf);
datagram_sending_methods!(SendHalf);
receiving_methods!(RecvHalf);
record_reading_methods!(RecvHalf);
tree_methods!(RecvHalf);
datagram_receiving_methods!(RecvHalf);
