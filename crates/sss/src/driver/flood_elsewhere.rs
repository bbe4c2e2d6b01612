//! Floods where the kernel cannot put greetings into a socket of their own: the driver goes on alone.

use std::task::Context;

use sss_proto::Instant;

use super::SocketStats;
use super::receive::Receiver;
use super::socket::Socket;
use crate::shared::Shared;

/// Parts of the driver that a flood would be about.
#[expect(dead_code, reason = "nobody looks at them here")]
pub(super) struct Around<'a> {
    pub(super) socket: &'a Socket,
    pub(super) receiver: &'a mut Receiver,
    pub(super) shared: &'a Shared,
    pub(super) stats: &'a mut SocketStats,
}

/// Nothing.
pub(super) struct Flood;

impl Flood {
    pub(super) fn new(_may_share: bool) -> Self {
        Self
    }

    pub(super) fn has_waiting(&self) -> bool {
        false
    }

    pub(super) fn watch(&mut self, _denied: u64, _now: Instant, _around: &mut Around<'_>) {}

    pub(super) fn take(&mut self, _cx: &mut Context<'_>, _around: &mut Around<'_>) {}

    pub(super) fn end(&mut self, _around: &mut Around<'_>) {}
}
