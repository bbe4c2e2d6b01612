//! Up: opening packets, and what the channel learns from them.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rand::RngExt;
use sss_wire::Code;
use sss_wire::frame::Ack;

use super::congestion::{AckSample, Signal, SignalKind};
use super::ecn::Marks;
use super::loss::LossDetector;
use super::mtu::MtuSearch;
use super::pacer::Pacer;
use super::received::Arrived;
use super::rtt::Rtt;
use super::sent::{Flags, LossRule, SentPacket, Sink};
use super::{Channel, Fate};
use crate::error::{DropReason, ProtocolError};
use crate::io::Ecn;
use crate::time::Instant;

/// Probe timeouts for which the keys of the generation before are kept (PRT-8).
const OLD_KEYS: u32 = 3;
/// Probe timeouts of nothing but loss that are persistent congestion (RFC 9002 section 7.6.1).
const PERSISTENT: u32 = 3;

/// A packet that was opened in place.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) seq: u64,
    /// Where its frames are in the datagram.
    pub(crate) payload: Range<usize>,
    /// The generation of the keys that opened it.
    pub(crate) generation: u32,
    /// Whether its number is above all before.
    pub(crate) newest: bool,
}

/// What is to be known about a packet once its frames were dispatched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) ack_eliciting: bool,
    pub(crate) ecn: Ecn,
    /// Length of the datagram.
    pub(crate) bytes: usize,
    pub(crate) remote: SocketAddr,
}

/// The packets that one acknowledgement settled.
#[derive(Debug, Default)]
struct Acked {
    packets: u64,
    largest: Option<SentPacket>,
    bytes: u64,
    marked: u64,
    eliciting: bool,
    /// The largest packet: its number and size.
    biggest: (u64, u16),
    probe: Option<SentPacket>,
}

impl Acked {
    fn add(&mut self, packet: &SentPacket) {
        if self.largest.is_none_or(|l| packet.seq > l.seq) {
            self.largest = Some(*packet);
        }
        self.packets += 1;
        if packet.flags.has(Flags::COUNTED) {
            self.bytes += u64::from(packet.size);
        }
        self.marked += u64::from(packet.flags.has(Flags::MARKED));
        self.eliciting |= packet.flags.has(Flags::ELICITING);
        if packet.flags.has(Flags::MTU_PROBE) {
            self.probe = Some(*packet);
        } else if packet.size >= self.biggest.1 {
            self.biggest = (self.biggest.0.max(packet.seq), packet.size);
        }
    }
}

/// The packets that one pass of loss detection found.
#[derive(Debug, Default)]
struct Lost {
    packets: u64,
    /// The first that is a sign of congestion, and how many there are.
    first: u64,
    counted: u64,
    /// The number of the latest of these, and when it was sent.
    latest: Option<(u64, Instant)>,
    /// When the first of the ack-eliciting ones without an acknowledgement in between was sent.
    run_start: Option<Instant>,
    /// The longest time between two ack-eliciting ones without an acknowledgement in between.
    longest_run: Duration,
    black_hole: bool,
}

impl Lost {
    fn add(&mut self, packet: &SentPacket, acked_between: bool) {
        self.packets += 1;
        if packet.flags.has(Flags::COUNTED) {
            self.first = if self.counted == 0 { packet.seq } else { self.first };
            self.counted += 1;
            self.latest = Some((packet.seq, packet.sent));
        }
        if acked_between {
            self.run_start = None;
        }
        if packet.flags.has(Flags::ELICITING) {
            let start = *self.run_start.get_or_insert(packet.sent);
            self.longest_run = self.longest_run.max(packet.sent.since(start));
        }
    }
}

impl Channel {
    /// Unmasks and opens a packet in place, and marks its number as seen (PRT-5).
    ///
    /// # Errors
    /// Why the packet is to be dropped. Nothing but a counter has changed then.
    pub(crate) fn open(&mut self, packet: &mut [u8]) -> Result<Opened, DropReason> {
        let expected = self.replay.next();
        let opened = self.keys.open(packet, self.ids.local.len(), expected)?;
        if !self.replay.accept(opened.seq) {
            return Err(DropReason::Duplicate);
        }
        Ok(Opened {
            seq: opened.seq,
            payload: opened.range(),
            generation: opened.generation,
            newest: opened.seq >= expected,
        })
    }

    /// Takes in a packet whose frames were dispatched: acknowledgement, signs of life, address.
    pub(crate) fn note(&mut self, now: Instant, opened: &Opened, received: &Received) {
        self.received.note(Arrived {
            seq: opened.seq,
            at: now,
            ack_eliciting: received.ack_eliciting,
            ecn: received.ecn,
        });
        self.life.activity.on_received(now);
        self.counters.packets_received += 1;
        self.counters.bytes_received += received.bytes as u64;
        let recovery = &self.recovery;
        self.keys.on_received(now, || recovery.probe_timeout() * OLD_KEYS);
        self.paths.on_packet(received.remote);
        if opened.newest {
            let rng = &mut self.ids.rng;
            let challenge = || rng.random();
            self.paths
                .on_newest(now, received.remote, received.bytes as u64, challenge);
        }
    }

    /// The peer's packet 0 (INITIATE or ACCEPT) was opened by the negotiation (NEG-16).
    pub(crate) fn note_packet_zero_received(&mut self, now: Instant, bytes: usize, ecn: Ecn) {
        let opened = Opened {
            seq: 0,
            payload: 0..0,
            generation: 0,
            newest: false,
        };
        let received = Received {
            ack_eliciting: true,
            ecn,
            bytes,
            remote: self.remote(),
        };
        self.replay.accept(0);
        self.note(now, &opened, &received);
    }

    /// ACCEPT acknowledges INITIATE (NEG-16). What was sent more than once tells no round-trip time: nobody knows which
    /// copy was answered (Karn and Partridge, 1987).
    pub(crate) fn ack_packet_zero(&mut self, now: Instant, was_repeated: bool, fates: &mut Vec<Fate>) {
        let mut sink = Sink::new(fates);
        let mut acked = Acked::default();
        let in_flight = self.sent.in_flight();
        self.sent.ack(&(0..=0), &mut sink, |packet| acked.add(packet));
        self.sent.acked_through(0);
        if let Some(packet) = acked.largest
            && !was_repeated
        {
            self.recovery.rtt.update(now.since(packet.sent), Duration::ZERO);
        }
        self.on_progress(now, &acked, in_flight, None);
    }

    /// Takes in an acknowledgement. The tokens of all packets that it settles, as acknowledged or as lost, are appended
    /// to `fates`.
    ///
    /// # Errors
    /// If it names a number that was never sent (CHN-6).
    pub(crate) fn on_ack(&mut self, now: Instant, ack: &Ack<'_>, fates: &mut Vec<Fate>) -> Result<(), ProtocolError> {
        let mut sink = Sink::new(fates);
        let mut acked = Acked::default();
        let in_flight = self.sent.in_flight();
        let in_order = self.sent.largest_acked().is_none_or(|l| ack.largest > l);
        let mut cursor = self.recovery.loss.search(now, ack.largest, &self.recovery.rtt);
        for range in ack.ranges() {
            self.sent
                .check(&range)
                .map_err(|_| ProtocolError::new(Code::ACK_INVALID, "acknowledgement of a packet never sent"))?;
            let late = self.recovery.loss.on_acked_range(&range, &mut cursor);
            self.counters.false_losses += late;
            self.recovery.loss_rate.on_false_loss(late);
            self.sent.ack(&range, &mut sink, |packet| acked.add(packet));
        }
        self.sent.acked_through(ack.largest);
        let latest = self.measure(now, ack, &acked);
        let marks = Marks {
            newly_acked: acked.marked,
            in_order,
        };
        if self.ecn.on_ack(ack.ecn, marks)
            && let Some(largest) = acked.largest
        {
            self.recovery.loss.confirm_congestion();
            let signal = Signal {
                sent: largest.sent,
                seq: largest.seq,
                rtt: self.recovery.rtt.latest(),
                kind: SignalKind::Mark,
            };
            let reacted = self.flow.controller.get_mut().on_congestion(now, &signal);
            self.counters.congestion_events += u64::from(reacted);
        }
        if self.recovery.loss.take_refuted() {
            self.flow.controller.get_mut().on_false_congestion();
        }
        self.detect_losses(now, &mut sink);
        if let Some(largest) = sink.ack_acked {
            self.received.on_ack_acked(largest);
        }
        self.on_progress(now, &acked, in_flight, latest);
        Ok(())
    }

    /// The round trip that an acknowledgement measures, if it newly names its largest number (REC-1).
    fn measure(&mut self, now: Instant, ack: &Ack<'_>, acked: &Acked) -> Option<Duration> {
        let largest = acked.largest.filter(|l| l.seq == ack.largest && acked.eliciting)?;
        if largest.seq < self.recovery.path_start {
            return None;
        }
        let latest = now.since(largest.sent);
        let delay = Duration::from_micros(ack.delay_us).min(self.recovery.peer_ack_delay);
        self.recovery.rtt.update(latest, delay);
        Some(latest)
    }

    /// Tells everyone concerned what was newly acknowledged.
    fn on_progress(&mut self, now: Instant, acked: &Acked, in_flight: u64, latest: Option<Duration>) {
        let Some(largest) = acked.largest else {
            return;
        };
        self.recovery.loss.on_progress();
        self.recovery.loss_rate.on_acked(acked.packets);
        self.keys.on_acked(largest.seq);
        let (seq, size) = acked.biggest;
        self.mtu.on_acked(seq, size);
        if let Some(probe) = acked.probe
            && probe.seq >= self.recovery.path_start
            && self.mtu.on_probe_acked(now, probe.seq, probe.size)
        {
            self.flow.controller.get_mut().set_datagram(self.mtu.current());
        }
        self.mtu.start(now);
        if acked.bytes > 0 {
            let rtt = self.recovery.rtt.smoothed();
            self.flow.throughput.on_acked(now, acked.bytes, rtt);
            self.flow.controller.get_mut().on_acked(&AckSample {
                now,
                bytes: acked.bytes,
                largest: largest.seq,
                next: self.sent.next(),
                largest_sent: largest.sent,
                in_flight,
                remaining: self.sent.in_flight(),
                oldest: self.sent.oldest(),
                smoothed: self.recovery.rtt.smoothed(),
                latest,
            });
        }
    }

    /// Declares lost what is (REC-2), and sets the time at which more may be.
    pub(super) fn detect_losses(&mut self, now: Instant, sink: &mut Sink<'_>) {
        let Some(largest_acked) = self.sent.largest_acked() else {
            return;
        };
        let loss = &mut self.recovery.loss;
        let delay = loss.time_threshold(now, &self.recovery.rtt);
        let rule = LossRule {
            largest_acked,
            threshold: loss.threshold(),
            now,
            age: delay,
        };
        let path_start = self.recovery.path_start;
        let (mtu, ecn) = (&mut self.mtu, &mut self.ecn);
        let mut lost = Lost::default();
        let oldest_left = self.sent.detect_lost(rule, sink, |packet, acked_between| {
            lost.add(packet, acked_between);
            loss.remember(packet.seq);
            if packet.seq < path_start {
                return;
            }
            if packet.flags.has(Flags::MARKED) {
                ecn.on_lost();
            }
            if packet.flags.has(Flags::MTU_PROBE) {
                mtu.on_probe_lost(now, packet.size);
            } else {
                lost.black_hole |= mtu.on_lost(now, packet.seq, packet.size);
            }
        });
        loss.loss_time = oldest_left.map(|sent| sent + delay);
        loss.forget_old(largest_acked);
        if lost.packets > 0 {
            self.on_lost(now, &lost);
        }
    }

    fn on_lost(&mut self, now: Instant, lost: &Lost) {
        self.counters.packets_lost += lost.packets;
        self.recovery.loss_rate.on_lost(lost.counted);
        let persistent =
            self.recovery.rtt.min().is_some() && lost.longest_run > self.recovery.probe_timeout() * PERSISTENT;
        let controller = self.flow.controller.get_mut();
        if let Some((seq, sent)) = lost.latest {
            let signal = Signal {
                sent,
                seq,
                rtt: self.recovery.rtt.latest(),
                kind: SignalKind::Loss(lost.counted),
            };
            let reacted = controller.on_congestion(now, &signal);
            self.counters.congestion_events += u64::from(reacted);
            self.recovery.loss.on_congestion(lost.first, lost.counted, reacted);
            if persistent {
                self.recovery.loss.confirm_congestion();
                controller.on_persistent_congestion();
            }
        }
        if lost.black_hole {
            controller.set_datagram(self.mtu.current());
        }
    }

    /// PATH_CHALLENGE came, in a packet that is noted afterwards.
    pub(crate) fn on_path_challenge(&mut self, data: [u8; 8]) {
        self.paths.on_challenge(data);
    }

    /// PATH_RESPONSE came: a validated address is used from now on, with fresh estimates (CHN-11).
    pub(crate) fn on_path_response(&mut self, now: Instant, data: [u8; 8]) {
        let Some(rtt) = self.paths.on_response(now, data) else {
            return;
        };
        self.mtu = MtuSearch::new(self.mtu.limit());
        self.mtu.start(now);
        self.flow.controller = self.flow.controller.restarted(self.mtu.current());
        self.flow.pacer = Pacer::new(now);
        self.recovery.rtt = Rtt::new(rtt);
        self.recovery.loss = LossDetector::new();
        self.recovery.loss.restart(now);
        self.recovery.path_start = self.sent.next();
        self.sent.uncount();
        self.ecn.restart();
    }

    /// CLOSE came: nothing more is sent (CHN-12).
    pub(crate) fn on_close(&mut self, now: Instant) {
        self.life.close.on_close(now, self.recovery.probe_timeout());
    }

    /// A packet came after this host ended the channel.
    pub(crate) fn on_packet_while_closing(&mut self) {
        self.life.close.on_packet();
    }
}
