//! State of a host's use of mDNS: what the task tells, and what it is asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sss_wire::Eid;
use tokio::sync::mpsc;

use crate::desk::{Desk, HostsDesk};

/// Hosts that wait to be looked for.
const MAX_WAITING: usize = 256;

/// Finds of which a report tells, the latest.
const MAX_FOUND: usize = 64;

/// Result of using mDNS, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MdnsReport {
    /// Set if this host announces itself.
    pub announces: bool,
    /// Links on which hosts are looked for and heard of; those of the latest search, of a host that only looks for
    /// others.
    pub links: Vec<MdnsLink>,
    /// Words of the system, if mDNS cannot be used; for people.
    pub failure: Option<String>,
    /// Number of questions that were sent, on all links together.
    pub questions: u64,
    /// Number of announcements that were sent, asked for or not.
    pub announcements: u64,
    /// Number of announcements of hosts of this protocol that were heard, whoever they are.
    pub heard: u64,
    /// Number of different instances of hosts of this protocol that were heard, of up to 64, as long as somebody was
    /// looked for ([`Host::survey_lan`](crate::Host::survey_lan)). A host is one on each link.
    pub instances: usize,
    /// Number of messages that were dropped: they make no sense, come from elsewhere, or are too many.
    pub dropped: u64,
    /// Hosts that were looked for, with an address at which one that has their tag says to be; the latest 64. Whoever
    /// answers there proves who it is when it is connected to.
    pub found: Vec<(Eid, SocketAddr)>,
}

/// Link of this machine that carries mDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MdnsLink {
    /// Name of the interface.
    pub name: String,
    /// Addresses of this machine there that mDNS is sent from.
    pub addresses: Vec<IpAddr>,
    /// Name under which this host announces itself there.
    pub instance: Option<String>,
}

impl MdnsReport {
    /// Notes where a host seems to be.
    pub(super) fn note_found(&mut self, eid: Eid, address: SocketAddr) {
        self.found.retain(|known| *known != (eid, address));
        if self.found.len() >= MAX_FOUND {
            self.found.remove(0);
        }
        self.found.push((eid, address));
    }
}

/// The host's end: hosts that are to be looked for, and the desk.
pub(crate) struct MdnsDesk {
    desk: HostsDesk<MdnsReport>,
    orders: mpsc::Sender<Eid>,
}

impl MdnsDesk {
    /// Both ends.
    pub(super) fn new(report: MdnsReport) -> (Self, Arc<Desk<MdnsReport>>, mpsc::Receiver<Eid>) {
        let desk = HostsDesk::new(report);
        let (orders, taken) = mpsc::channel(MAX_WAITING);
        let tasks = Arc::clone(desk.desk());
        (Self { desk, orders }, tasks, taken)
    }

    pub(crate) fn desk(&self) -> &Desk<MdnsReport> {
        self.desk.desk()
    }

    /// Orders to look for a host; not if too many wait.
    pub(crate) fn seek(&self, eid: Eid) {
        let _ = self.orders.try_send(eid);
    }
}
