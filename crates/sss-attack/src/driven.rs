//! A host of the core with a socket, driven by hand: it sends when it is told to.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use bytes::BytesMut;
use sss_proto::{Batch, Ecn, Host, Input, Link, Output, TransmitBuf};
use sss_reach::Rendezvous;

/// A host, its part in finding others, and its socket.
pub(crate) struct Driven {
    pub(crate) host: Host,
    rendezvous: Rendezvous,
    socket: UdpSocket,
    begun: Instant,
    buf: TransmitBuf,
}

/// The time of hosts whose clock began then.
pub(crate) fn since(begun: Instant) -> sss_proto::Instant {
    sss_proto::Instant::from_nanos(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl Driven {
    /// A host whose clock has begun then.
    pub(crate) fn new(host: Host, rendezvous: Rendezvous, socket: UdpSocket, begun: Instant) -> Self {
        Self {
            host,
            rendezvous,
            socket,
            begun,
            buf: TransmitBuf::new(1),
        }
    }

    pub(crate) fn now(&self) -> sss_proto::Instant {
        since(self.begun)
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Introductions that it has begun, as a server.
    pub(crate) fn introduced(&self) -> u64 {
        self.rendezvous.server_stats().map_or(0, |stats| stats.introduced)
    }

    /// Takes in a datagram, as one that has come from this address.
    pub(crate) fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        let mut data = BytesMut::from(datagram);
        let batch = Batch {
            stride: data.len().max(1),
            data: &mut data,
            lent: &mut None,
            link: Link::Udp(from),
            local: None,
            ecn: Ecn::NotEct,
        };
        let now = self.now();
        self.rendezvous.handle(now, &mut self.host, Input::Datagrams(batch));
    }

    /// Takes in that time has passed.
    pub(crate) fn tick(&mut self) {
        let now = self.now();
        self.rendezvous.handle(now, &mut self.host, Input::Tick);
    }

    /// Sends what is to be sent; what is for an address, to the one that `place` gives for it.
    pub(crate) fn flush(&mut self, place: impl Fn(SocketAddr) -> SocketAddr) {
        loop {
            let now = self.now();
            match self.rendezvous.poll(now, &mut self.host, &mut self.buf) {
                Output::Transmit(transmit) => {
                    let Link::Udp(to) = transmit.link else { continue };
                    for datagram in self.buf.filled().chunks(transmit.segment) {
                        // What the system has no room for is lost, as in networks.
                        let _ = self.socket.send_to(datagram, place(to));
                    }
                }
                Output::Event(_) => {}
                Output::Wake(_) => break,
            }
        }
    }
}
