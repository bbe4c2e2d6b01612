//! Copies of datagrams, and datagrams taken out of the network, for tests.

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::Ecn;

use super::queue::Datagram;

/// A datagram as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Time from the start of the world.
    pub at: Duration,
    /// The sender's address.
    pub from: SocketAddr,
    /// Address that it was sent to.
    pub to: SocketAddr,
    /// The mark that it was sent with.
    pub ecn: Ecn,
    /// UDP payload.
    pub bytes: Vec<u8>,
}

impl Captured {
    /// The first byte, which tells the type.
    pub fn kind(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }
}

type Filter = Box<dyn FnMut(&Captured) -> bool>;

#[derive(Default)]
pub(super) struct Tap {
    copies: Option<Vec<Captured>>,
    held: Vec<Captured>,
    filter: Option<Filter>,
}

impl Tap {
    pub(super) fn capture(&mut self) {
        self.copies = Some(Vec::new());
    }

    pub(super) fn take_captured(&mut self) -> Vec<Captured> {
        self.copies.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn hold(&mut self, filter: Option<Filter>) {
        self.filter = filter;
    }

    pub(super) fn take_held(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.held)
    }

    /// Sees a datagram; true if it is not to be sent.
    pub(super) fn takes(&mut self, now: u64, datagram: &Datagram) -> bool {
        if self.copies.is_none() && self.filter.is_none() {
            return false;
        }
        let captured = Captured {
            at: Duration::from_nanos(now),
            from: datagram.from,
            to: datagram.to,
            ecn: datagram.ecn,
            bytes: datagram.bytes.clone(),
        };
        if let Some(copies) = &mut self.copies {
            copies.push(captured.clone());
        }
        let held = self.filter.as_mut().is_some_and(|filter| filter(&captured));
        if held {
            self.held.push(captured);
        }
        held
    }
}
