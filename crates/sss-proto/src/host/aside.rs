//! Packets that are not the core's own: those of leases and introductions (docs/spec/reach.md), for whoever drives it.

use std::collections::VecDeque;

use sss_wire::reach::Kind;

use crate::error::DropReason;
use crate::route::Route;

/// Packets that wait to be taken, at most.
const MAX_WAITING: usize = 4096;

/// The packets that wait, and the routes that they came by.
#[derive(Debug, Default)]
pub(super) struct Aside {
    is_on: bool,
    waiting: VecDeque<(Route, Vec<u8>)>,
}

impl Aside {
    /// Takes packets if `is_on` is set; else they are dropped as unknown ones are.
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            is_on,
            ..Self::default()
        }
    }

    /// Returns whether a packet that begins with this byte is one of those.
    #[inline]
    pub(super) fn takes(&self, first: u8) -> bool {
        self.is_on && Kind::of(first).is_some()
    }

    /// Puts a packet with those that wait.
    ///
    /// # Errors
    /// If too many wait.
    pub(super) fn push(&mut self, route: Route, packet: &[u8]) -> Result<(), DropReason> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(DropReason::Overload);
        }
        self.waiting.push_back((route, packet.to_vec()));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<(Route, Vec<u8>)> {
        self.waiting.pop_front()
    }
}
