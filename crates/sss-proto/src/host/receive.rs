//! Up, the first steps: sorting the datagrams of a batch, opening them in place, handing them to peers.
//!
//! 1. what a relay has forwarded is known by its handle, and long packets go to the negotiation, at once;
//! 2. short packets find their peer by channel id, and are opened in place;
//! 3. the whole batch becomes immutable, and each packet's frames are dispatched as slices of it;
//! 4. the peers touched are settled once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use sss_wire::ChannelId;
use sss_wire::reach::{self, RELAY_HEADER};

use super::aside::Aside;
use super::negotiate::{Admission, Negotiation};
use super::outbox::Outbox;
use super::peers::Peers;
use super::probes::Probes;
use super::relays::Relays;
use super::stats::HostStats;
use crate::channel::Opened;
use crate::error::DropReason;
use crate::io::Batch;
use crate::limit::{Limit, Standing};
use crate::local_host::LocalHost;
use crate::network::Network;
use crate::peer::{Arrival, ChannelSerial, Context, OpenPacket};
use crate::route::{RelayHandle, Route};
use crate::time::Instant;

/// Smallest short packet that is answered with a stateless reset (PRT-12).
const MIN_RESET_TRIGGER: usize = 41;
const MAX_RESET: usize = 48;

/// A packet that was opened, and where its frames are in the batch.
struct OpenedPacket {
    peer: u32,
    channel: ChannelSerial,
    opened: Opened,
    frames: Range<usize>,
    datagram: usize,
    /// Set if a relay has forwarded it.
    handle: Option<RelayHandle>,
}

/// Memory used again for every batch.
#[derive(Default)]
pub(super) struct Scratch {
    opened: Vec<OpenedPacket>,
    touched: Vec<u32>,
}

/// Parts of the host that a batch of datagrams may change.
pub(super) struct Reception<'a> {
    pub(super) now: Instant,
    /// Way by which the batch came in.
    pub(super) arrival: Arrival,
    pub(super) local: &'a mut LocalHost,
    pub(super) relays: &'a mut Relays,
    pub(super) peers: &'a mut Peers,
    pub(super) admission: &'a mut Admission,
    pub(super) outbox: &'a mut Outbox,
    pub(super) probes: &'a mut Probes,
    pub(super) resets: &'a mut Limit,
    pub(super) stats: &'a mut HostStats,
    pub(super) scratch: &'a mut Scratch,
    pub(super) aside: &'a mut Aside,
}

impl Reception<'_> {
    /// Takes in the datagrams of a batch.
    pub(super) fn receive(mut self, batch: Batch<'_>) {
        let Batch { data, lent, stride, .. } = batch;
        let total = data.len();
        let stride = stride.max(1);
        let mut start = 0;
        while start < total {
            let end = (start + stride).min(total);
            self.stats.datagrams_received += 1;
            self.stats.bytes_received += (end - start) as u64;
            if let Err(reason) = self.sort(data, start..end) {
                self.stats.count_drop(reason);
            }
            start = end;
        }
        *lent = self.dispatch_opened(data);
    }

    /// Takes in a packet of the negotiation that a greeter has counted and admitted.
    pub(super) fn receive_admitted(mut self, packet: &[u8]) {
        if let Err(reason) = self.negotiation().receive_admitted(packet) {
            self.stats.count_drop(reason);
        }
    }

    /// Steps 1 and 2, for one datagram.
    fn sort(&mut self, data: &mut BytesMut, range: Range<usize>) -> Result<(), DropReason> {
        // RCH-37
        self.local.hears_link(&self.arrival.route)?;
        let first = *data.get(range.start).ok_or(DropReason::Malformed)?;
        if first != reach::RELAY {
            self.arrival.route.handle = None;
            return self.packet(data, range);
        }
        // CHN-17
        let datagram = data.get(range.clone()).ok_or(DropReason::Malformed)?;
        let handle = RelayHandle(reach::relay_handle(datagram).map_err(|_| DropReason::Malformed)?);
        let route = Route::through(self.arrival.route.link, handle);
        if !self.relays.hear(self.now, &route) {
            return Err(DropReason::UnknownHandle);
        }
        self.arrival.route = route;
        self.packet(data, range.start + RELAY_HEADER..range.end)
    }

    fn packet(&mut self, data: &mut BytesMut, range: Range<usize>) -> Result<(), DropReason> {
        let packet = data.get_mut(range.clone()).ok_or(DropReason::Malformed)?;
        let first = *packet.first().ok_or(DropReason::Malformed)?;
        match first >> 6 {
            0b10 | 0b11 if self.aside.takes(first) => self.aside.push(&self.arrival, packet),
            // RCH-40
            _ if self.local.hears_peers(&self.arrival.route).is_err() => Err(DropReason::NotRelayed),
            0b10 | 0b11 => self.negotiation().receive(packet),
            0b01 => self.open(packet, range),
            // PRT-7
            _ => Err(DropReason::Malformed),
        }
    }

    fn open(&mut self, packet: &mut [u8], range: Range<usize>) -> Result<(), DropReason> {
        let id_len = self.local.ids.len();
        let id = packet.get(1..=id_len).ok_or(DropReason::Malformed)?;
        let id = ChannelId::new(id).map_err(|_| DropReason::Malformed)?;
        let Some(peer) = self.peers.demux.channel(id) else {
            return self.unknown_channel(id, packet);
        };
        let state = self.peers.at(peer).ok_or(DropReason::UnknownChannel)?;
        let (channel, opened) = state.open(id, packet)?;
        let frames = range.start + opened.payload.start..range.start + opened.payload.end;
        self.scratch.opened.push(OpenedPacket {
            peer,
            channel,
            opened,
            frames,
            datagram: range.len() + self.arrival.route.overhead(),
            handle: self.arrival.route.handle,
        });
        Ok(())
    }

    /// Steps 3 and 4. Returns the batch if slices of it are out.
    fn dispatch_opened(&mut self, data: &mut BytesMut) -> Option<Bytes> {
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
            self.dispatch(&bytes, &packet);
        }
        for peer in touched.drain(..) {
            self.peers.settle_but_timer(self.local, peer);
            self.peers.mark_if_ready(self.now, peer);
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

    fn dispatch(&mut self, batch: &Bytes, packet: &OpenedPacket) {
        let Some(peer) = self.peers.at(packet.peer) else {
            return;
        };
        let Some(frames) = batch.get(packet.frames.clone()) else {
            return;
        };
        self.arrival.route.handle = packet.handle;
        let mut context = Context::new(self.now, self.local);
        let packet = OpenPacket {
            channel: packet.channel,
            opened: &packet.opened,
            frames,
            datagram: packet.datagram,
        };
        let had_met = packet.channel.is_of_rival() && peer.has_met();
        peer.receive(&mut context, batch, &packet, &self.arrival);
        self.stats.channels_made += u64::from(had_met && !peer.has_met());
    }

    /// A short packet for no channel of ours: a stateless reset, or the reason to send one.
    fn unknown_channel(&mut self, id: ChannelId, packet: &[u8]) -> Result<(), DropReason> {
        if self.peers.on_reset(self.local, self.now, packet)? {
            return Ok(());
        }
        let is_stray = self.local.config.shard.is_some() && packet.len() <= MAX_RESET;
        let is_trigger = packet.len() >= MIN_RESET_TRIGGER;
        if (is_stray || is_trigger) && self.may_reset() {
            if is_stray {
                self.aside.push_stray(packet);
            }
            if is_trigger {
                self.send_stateless_reset(id, packet.len());
            }
        }
        Err(DropReason::UnknownChannel)
    }

    /// PRT-12.
    fn may_reset(&mut self) -> bool {
        let sender = Network::from(&self.arrival.route);
        self.resets.allow(self.now, sender, Standing::Stranger)
    }

    fn send_stateless_reset(&mut self, id: ChannelId, trigger: usize) {
        let mut bytes = vec![0; (trigger - 1).min(MAX_RESET)];
        self.local.rng.fill_bytes(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 0x40 | (*first & 0x3f);
        }
        if let Some(tail) = bytes.last_chunk_mut::<16>() {
            *tail = self.local.reset_token(id);
        }
        self.stats.resets_sent += 1;
        self.outbox.hint(self.arrival.way_back(), bytes);
    }

    fn negotiation(&mut self) -> Negotiation<'_> {
        Negotiation {
            now: self.now,
            arrival: self.arrival,
            local: self.local,
            peers: self.peers,
            admission: self.admission,
            outbox: self.outbox,
            probes: self.probes,
            stats: self.stats,
        }
    }
}
