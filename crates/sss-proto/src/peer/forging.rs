//! Packets that a peer should not make.

use super::Peer;
use crate::route::Route;
use crate::time::Instant;

impl Peer {
    /// The next packet of the carrier, with a plaintext that is given.
    pub(crate) fn forge(&mut self, now: Instant, plaintext: &[u8]) -> Option<(Route, Vec<u8>)> {
        let channel = &mut self.transport.channels.carrier_mut().filter(|c| c.is_open())?.channel;
        if !channel.has_sent_packet_zero() {
            return None;
        }
        let mut datagram = vec![0; channel.datagram_size()];
        let mut packet = channel.begin(&mut datagram);
        packet
            .plaintext()
            .get_mut(..plaintext.len())?
            .copy_from_slice(plaintext);
        let len = channel.finish(now, packet.sealed(plaintext.len(), true), &mut Vec::new());
        datagram.truncate(len);
        (len > 0).then(|| (channel.path().route, datagram))
    }
}
