//! Up, the first steps: sorting the datagrams of a batch, opening them in place, handing them to peers.
//!
//! 1. long packets go to the negotiation, at once;
//! 2. short packets find their peer by channel id, and are opened in place;
//! 3. the whole batch becomes immutable, and each packet's frames are dispatched as slices of it;
//! 4. the peers touched are settled once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use sss_wire::ChannelId;

use super::Host;
use crate::channel::Opened;
use crate::error::DropReason;
use crate::io::Batch;
use crate::peer::{Arrival, ChannelSerial, OpenPacket};
use crate::time::Instant;

/// Smallest short packet that is answered with a stateless reset (PRT-12).
const MIN_RESET_TRIGGER: usize = 41;
const MAX_RESET: usize = 48;

/// A packet that was opened, and where its frames are in the batch.
pub(super) struct OpenedPacket {
    peer: u32,
    channel: ChannelSerial,
    opened: Opened,
    frames: Range<usize>,
    datagram: usize,
}

impl Host {
    pub(super) fn receive(&mut self, now: Instant, batch: Batch<'_>) {
        let Batch {
            data,
            lent,
            stride,
            remote,
            local,
            ecn,
        } = batch;
        let arrival = Arrival { remote, local, ecn };
        let total = data.len();
        let stride = stride.max(1);
        let mut start = 0;
        while start < total {
            let end = (start + stride).min(total);
            self.stats.datagrams_received += 1;
            self.stats.bytes_received += (end - start) as u64;
            if let Err(reason) = self.sort(now, data, start..end, &arrival) {
                self.stats.count_drop(reason);
            }
            start = end;
        }
        *lent = self.dispatch_opened(now, data, &arrival);
    }

    /// Steps 1 and 2, for one datagram.
    fn sort(
        &mut self,
        now: Instant,
        data: &mut BytesMut,
        range: Range<usize>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let packet = data.get_mut(range.clone()).ok_or(DropReason::Malformed)?;
        let first = *packet.first().ok_or(DropReason::Malformed)?;
        match first >> 6 {
            0b10 | 0b11 => self.receive_long(now, packet, arrival),
            0b01 => self.open(now, packet, range, arrival),
            // PRT-7
            _ => Err(DropReason::Malformed),
        }
    }

    fn open(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        range: Range<usize>,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let id_len = self.local.ids.len();
        let id = packet.get(1..=id_len).ok_or(DropReason::Malformed)?;
        let id = ChannelId::new(id).map_err(|_| DropReason::Malformed)?;
        let Some(peer) = self.demux.channel(id) else {
            return self.unknown_channel(now, id, packet, arrival);
        };
        let state = self.peers.at(peer).ok_or(DropReason::UnknownChannel)?;
        let (channel, opened) = state.open(id, packet)?;
        let frames = range.start + opened.payload.start..range.start + opened.payload.end;
        self.scratch.opened.push(OpenedPacket {
            peer,
            channel,
            opened,
            frames,
            datagram: range.len(),
        });
        Ok(())
    }

    /// Steps 3 and 4. Returns the batch if slices of it are out.
    fn dispatch_opened(&mut self, now: Instant, data: &mut BytesMut, arrival: &Arrival) -> Option<Bytes> {
        if self.scratch.opened.is_empty() {
            return None;
        }
        let bytes = std::mem::take(data).freeze();
        let mut opened = std::mem::take(&mut self.scratch.opened);
        let mut touched = std::mem::take(&mut self.scratch.touched);
        for packet in opened.drain(..) {
            if touched.last() != Some(&packet.peer) {
                touched.push(packet.peer);
            }
            self.dispatch(now, &bytes, &packet, arrival);
        }
        for peer in touched.drain(..) {
            self.settle(peer);
            self.mark_ready(peer);
        }
        self.scratch.opened = opened;
        self.scratch.touched = touched;
        match bytes.try_into_mut() {
            Ok(unshared) => {
                *data = unshared;
                None
            }
            Err(shared) => Some(shared),
        }
    }

    fn dispatch(&mut self, now: Instant, batch: &Bytes, packet: &OpenedPacket, arrival: &Arrival) {
        let Some(peer) = self.peers.at(packet.peer) else {
            return;
        };
        let Some(frames) = batch.get(packet.frames.clone()) else {
            return;
        };
        let mut context = self.local.context(now);
        let packet = OpenPacket {
            channel: packet.channel,
            opened: &packet.opened,
            frames,
            datagram: packet.datagram,
        };
        peer.receive(&mut context, batch, &packet, arrival);
    }

    /// A short packet for no channel of ours: a stateless reset, or the reason to send one.
    fn unknown_channel(
        &mut self,
        now: Instant,
        id: ChannelId,
        packet: &[u8],
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        if let Some(token) = packet.last_chunk::<16>()
            && let Some(index) = self.demux.reset_token(token)
        {
            let peer = self.peers.at(index).ok_or(DropReason::UnknownChannel)?;
            peer.on_stateless_reset(now, token)?;
            self.settle(index);
            self.mark_ready(index);
            return Ok(());
        }
        if packet.len() >= MIN_RESET_TRIGGER && self.resets.allow(now) {
            self.send_stateless_reset(id, packet.len(), arrival);
        }
        Err(DropReason::UnknownChannel)
    }

    /// PRT-12.
    fn send_stateless_reset(&mut self, id: ChannelId, trigger: usize, arrival: &Arrival) {
        let mut bytes = vec![0; (trigger - 1).min(MAX_RESET)];
        self.local.rng.fill_bytes(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 0x40 | (*first & 0x3f);
        }
        if let Some(tail) = bytes.last_chunk_mut::<16>() {
            *tail = self.local.reset_token(id);
        }
        self.stats.resets_sent += 1;
        self.push_datagram(arrival.remote, bytes);
    }
}

/// At most so many stateless resets, or refusals, a second.
#[derive(Debug, Default)]
pub(super) struct Limit {
    second: u64,
    sent: u32,
}

impl Limit {
    const PER_SECOND: u32 = 100;

    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            *self = Self { second, sent: 0 };
        }
        self.sent += 1;
        self.sent <= Self::PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: PRT-12
    #[test]
    fn at_most_100_resets_a_second() {
        let mut limit = Limit::default();
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert_eq!((0..500).filter(|_| limit.allow(at(10))).count(), 100);
        assert!(limit.allow(at(1000)));
    }
}
