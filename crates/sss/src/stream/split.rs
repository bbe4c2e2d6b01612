//! The halves of a stream, for two tasks.

use std::fmt;
use std::sync::Arc;

use sss_proto::{CloseReason, ListenMode, OpenError, StreamId, StreamInfo, SubtreeInfo};
use sss_wire::{Code, Eid};

use super::datagram::{datagram_receiving_methods, datagram_sending_methods};
use super::read::{Receiving, receiving_methods};
use super::records::{record_reading_methods, record_writing_methods};
use super::stream_ref::StreamRef;
use super::write::{Sending, sending_methods};
use super::{Stream, tree_methods};
use crate::peer::Peer;

/// The sending side of a [`Stream`]. Dropping it unfinished resets that direction.
pub struct SendHalf {
    stream: Arc<StreamRef>,
    sending: Sending,
}

impl SendHalf {
    pub(crate) fn new(stream: Arc<StreamRef>, sending: Sending) -> Self {
        Self { stream, sending }
    }

    pub(super) fn sending(&mut self) -> (&StreamRef, &mut Sending) {
        (&self.stream, &mut self.sending)
    }

    fn stream_ref(&self) -> &StreamRef {
        &self.stream
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.sending.has_ended() {
            // STR-13
            self.sending.reset(&self.stream, Code::DROPPED, "dropped unfinished");
        }
    }
}

/// The receiving side of a [`Stream`]. Dropping it before its end stops that direction.
pub struct RecvHalf {
    stream: Arc<StreamRef>,
    receiving: Receiving,
}

impl RecvHalf {
    pub(crate) fn new(stream: Arc<StreamRef>, receiving: Receiving) -> Self {
        Self { stream, receiving }
    }

    pub(super) fn receiving(&mut self) -> (&StreamRef, &mut Receiving) {
        (&self.stream, &mut self.receiving)
    }

    fn stream_ref(&self) -> &StreamRef {
        &self.stream
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        // STR-13
        self.receiving.stop(&self.stream, Code::UNREAD, "dropped unread");
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
