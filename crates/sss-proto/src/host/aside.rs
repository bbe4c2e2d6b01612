//! Packets that are not the core's own, for whoever drives it: those of leases and introductions (docs/spec/reach.md);
//! and, of a shard, those that may be stateless resets of another one's channels (NEG-42).

use std::collections::VecDeque;

use sss_wire::reach::Kind;

use crate::error::DropReason;
use crate::io::Datagram;
use crate::peer::Arrival;

/// Packets that wait to be taken, at most.
const MAX_WAITING: usize = 4096;
/// Strays that wait to be taken, at most.
const MAX_STRAYS: usize = 32;

/// The packets that wait.
#[derive(Debug, Default)]
pub(super) struct Aside {
    is_on: bool,
    waiting: VecDeque<Datagram>,
    strays: VecDeque<Vec<u8>>,
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
    pub(super) fn push(&mut self, arrival: &Arrival, packet: &[u8]) -> Result<(), DropReason> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(DropReason::Overload);
        }
        let (route, local) = arrival.way_back();
        self.waiting.push_back(Datagram {
            route,
            local,
            bytes: packet.to_vec(),
        });
        Ok(())
    }

    /// Puts a packet with those that another shard may know. What is beyond is dropped: resets are repeated.
    pub(super) fn push_stray(&mut self, packet: &[u8]) {
        if self.strays.len() < MAX_STRAYS {
            self.strays.push_back(packet.to_vec());
        }
    }

    pub(super) fn pop_stray(&mut self) -> Option<Vec<u8>> {
        self.strays.pop_front()
    }

    pub(super) fn pop(&mut self) -> Option<Datagram> {
        self.waiting.pop_front()
    }
}
