//! The end of a host: in order, or because nothing drives it any more.

use sss_wire::Code;

use super::Host;
use crate::error::{CloseReason, SHUTTING_DOWN};
use crate::ids::PeerId;
use crate::peer::Peer;
use crate::time::Instant;

impl Host {
    /// Ends the trees of all peers with CLOSE; none is begun any more, by either side.
    pub fn shutdown(&mut self, now: Instant) {
        self.local.process.end();
        for id in peers_of(self) {
            self.disconnect(now, id, Code::SHUTDOWN, SHUTTING_DOWN);
        }
    }
}

/// Ends the trees of all peers with [`CloseReason::HostFailed`], for a driver that cannot go on: nothing is sent any
/// more, so that no peer is told. None is begun any more, and what has been forgotten has ended for this reason, too.
pub fn fail(host: &mut Host) {
    host.local.process.fail();
    for id in peers_of(host) {
        host.peers
            .with(&mut host.local, id, |peer| peer.fail(CloseReason::HostFailed));
    }
}

fn peers_of(host: &Host) -> Vec<PeerId> {
    host.peers.iter().map(Peer::id).collect()
}
