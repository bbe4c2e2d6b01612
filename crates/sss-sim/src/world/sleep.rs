//! Hosts that are suspended: time goes on, and they do not run.

use super::queue::Datagram;
use super::{HostIndex, World};

/// Bytes that the socket of a host keeps that does not run, as Linux has it by default.
const SOCKET: usize = 212_992;

/// Datagrams that have come for a host that does not run.
#[derive(Default)]
pub(super) struct Doorstep {
    datagrams: Vec<Datagram>,
    bytes: usize,
}

impl Doorstep {
    /// Keeps a datagram, if there is room. Returns whether there was.
    pub(super) fn put(&mut self, datagram: Datagram) -> bool {
        let bytes = self.bytes + datagram.bytes.len();
        if bytes > SOCKET {
            return false;
        }
        self.bytes = bytes;
        self.datagrams.push(datagram);
        true
    }
}

impl World {
    /// Suspends a host: it does nothing, and what comes for it lies in its socket, until it is [resumed](Self::resume).
    pub fn suspend(&mut self, host: HostIndex) {
        self.nodes[host.0].asleep.get_or_insert_default();
        self.note(format_args!("h{} suspended", host.0));
    }

    /// Has a suspended host run again.
    pub fn resume(&mut self, host: HostIndex) {
        let node = &mut self.nodes[host.0];
        let Some(doorstep) = node.asleep.take() else {
            return;
        };
        node.is_touched = true;
        self.note(format_args!("h{} resumed", host.0));
        for datagram in doorstep.datagrams {
            self.take_in(host.0, datagram);
        }
    }
}
