//! Context of each call of a peer.

use std::net::IpAddr;

use crate::channel::Path;
use crate::io::{Batch, Ecn};
use crate::local_host::LocalHost;
use crate::route::Route;
use crate::time::Instant;

/// Moment and host that a peer is given for one call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) host: &'a mut LocalHost,
}

impl<'a> Context<'a> {
    pub(crate) fn new(now: Instant, host: &'a mut LocalHost) -> Self {
        Self { now, host }
    }
}

/// Way by which a datagram came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) route: Route,
    pub(crate) local: Option<IpAddr>,
    pub(crate) ecn: Ecn,
}

impl Arrival {
    /// The arrival of the datagrams of a batch.
    pub(crate) fn of(batch: &Batch<'_>) -> Self {
        Self {
            route: Route::over(batch.link),
            local: batch.local,
            ecn: batch.ecn,
        }
    }

    /// The route of an answer, and the address that it leaves from: the one that was asked (NEG-41). What was sent to
    /// many is answered from an address that the system chooses.
    pub(crate) fn way_back(&self) -> (Route, Option<IpAddr>) {
        let is_of_many = |ip: &IpAddr| ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        (self.route, self.local.filter(|ip| !is_of_many(ip)))
    }

    /// The way back.
    pub(super) fn path(&self) -> Path {
        Path {
            route: self.route,
            local: self.local,
        }
    }
}
