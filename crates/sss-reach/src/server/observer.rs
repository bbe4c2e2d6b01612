//! A server's other port: it says how it sees a host, and whether the server relays, and does nothing else (RCH-28,
//! RCH-48).

use sss_proto::{Instant, Link};
use sss_wire::reach::bodies::{Lease, LeaseOk, Notice};
use sss_wire::reach::{Kind, Sealed};

use super::{Deed, Opened, Registrar};
use crate::Dropped;
use crate::path::Path;

/// Returns whether a packet has come to the other port: all that comes to a further socket of a server has.
pub(super) fn is_at(path: Path) -> bool {
    matches!(path.link, Link::Socket(..))
}

impl Registrar {
    /// The server takes packets at another port of its addresses too.
    pub fn set_other_port(&mut self, port: u16) {
        self.other_port = port;
    }

    /// LEASE that came to the other port. Nothing becomes of the lease, which stays where it is.
    pub(super) fn on_question(&mut self, now: Instant, from: Path, sealed: &Sealed<'_>) -> Result<(), Dropped> {
        if sealed.kind != Kind::Lease {
            return Err(Dropped::Unwelcome);
        }
        let Opened {
            bearer, key, plaintext, ..
        } = self.open(sealed)?;
        let lease = Lease::decode(&plaintext)?;
        let instance = bearer.instance();
        let is_new = self
            .leases
            .get(now, &instance)
            .is_some_and(|own| lease.counter > own.counter());
        if lease.boot != self.boot || !is_new {
            return Err(Dropped::Old);
        }
        if !self.leases.may(now, &bearer.eid, Deed::Lookup) {
            return Err(Dropped::Overload);
        }
        let ok = LeaseOk {
            boot: self.boot,
            counter: lease.counter,
            address: from.end(),
            ttl: self.ttl(),
            notice: Notice {
                relays_nothing: !self.relays(),
                ..Notice::default()
            },
            token: Vec::new(),
        };
        self.send_lease_ok(now, from, (bearer, &key), ok);
        Ok(())
    }
}
