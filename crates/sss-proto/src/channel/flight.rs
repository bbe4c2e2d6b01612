//! The packets that are under way: what acknowledgements tell of them, which are lost, and how much more may be sent.

use std::time::Duration;

use sss_wire::Code;
use sss_wire::frame::Ack;

use super::congestion::{AckSample, Controller, Departed, Signal, SignalKind};
use super::counters::Counters;
use super::ecn::{EcnValidation, Marks};
use super::fate::Fate;
use super::loss::LossDetector;
use super::loss_rate::LossRate;
use super::mtu::MtuSearch;
use super::pacer::{Outlook, Pacer, Rate};
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::sent::{Flags, LossRule, SentPacket, SentRing, Sink};
use super::setup::ChannelSetup;
use super::throughput::Throughput;
use crate::error::ProtocolError;
use crate::io::Ecn;
use crate::padding::Padding;
use crate::time::Instant;
use crate::token::Token;

/// Probe timeouts of nothing but loss that are persistent congestion (RFC 9002 section 7.6.1).
const PERSISTENT: u32 = 3;
/// Packets whose contents are sent again on a probe timeout (REC-4).
const REPEATED: usize = 2;
/// No more than this is allowed for growth in a round trip: with a small window, a packet more is much, and no queue.
const MAX_GROWTH: f64 = 0.25;

/// Permission to send data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// Not before something is acknowledged.
    Blocked,
    /// Not before then.
    Later(Instant),
    /// A full datagram may leave.
    Ready,
}

/// Kinds of packets, by how they are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    /// Frames of the owner and of the channel.
    Ordinary,
    MtuProbe,
    /// CLOSE, or path validation: settled by other means.
    Unrecorded,
}

/// Packets under way, and what is known of the way.
pub(crate) struct Flight {
    pub(super) sent: SentRing,
    pub(super) recovery: Recovery,
    pub(super) flow: Flow,
    pub(super) mtu: MtuSearch,
    /// Padding of all packets.
    pub(super) padding: Padding,
    pub(super) ecn: EcnValidation,
    pub(super) counters: Counters,
}

/// Limits of what may be sent, and when.
pub(super) struct Flow {
    pub(super) controller: Controller,
    pub(super) pacer: Pacer,
    pub(super) throughput: Throughput,
    /// The time when data may be sent again, if the pacer has held it back.
    pub(super) resume: Option<Instant>,
}

/// Numbers that an acknowledgement has settled, for those who wait for it.
pub(super) struct Settled {
    /// The highest number newly acknowledged.
    pub(super) largest: Option<u64>,
    /// The highest number named by this host's acknowledgements that have arrived.
    pub(super) of_acks: Option<u64>,
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
    /// Probes of the path's size are not among them: what is lost with those is a size that the path does not carry.
    packets: u64,
    /// The first that is a sign of congestion, and how many there are.
    first: u64,
    counted: u64,
    /// The number of the latest of these, and when it was sent.
    latest: Option<(u64, Instant)>,
    /// The time when the first of the ack-eliciting ones without an acknowledgement in between was sent.
    run_start: Option<Instant>,
    /// The longest time between two ack-eliciting ones without an acknowledgement in between.
    longest_run: Duration,
    black_hole: bool,
}

impl Lost {
    fn add(&mut self, packet: &SentPacket, acked_between: bool) {
        self.packets += u64::from(!packet.flags.has(Flags::MTU_PROBE));
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

/// Making it, and reading what is known of the way.
impl Flight {
    pub(super) fn new(now: Instant, setup: &ChannelSetup, peer_ack_delay: Duration, rtt: Rtt) -> Self {
        let mtu = MtuSearch::new(setup.config.max_datagram);
        Self {
            sent: SentRing::default(),
            recovery: Recovery {
                rtt,
                loss: LossDetector::new(),
                loss_rate: LossRate::default(),
                peer_ack_delay: peer_ack_delay.into(),
                path_start: 0,
            },
            flow: Flow {
                controller: Controller::new(setup.config.congestion, mtu.current(), setup.seed),
                pacer: Pacer::new(now),
                throughput: Throughput::default(),
                resume: None,
            },
            mtu,
            padding: setup.config.padding,
            ecn: EcnValidation::default(),
            counters: Counters::default(),
        }
    }

    /// The time after which a probe is sent, without backoff (REC-4).
    pub(super) fn probe_timeout(&self) -> Duration {
        self.recovery.probe_timeout()
    }

    /// Probe timeouts in a row, without an acknowledgement.
    pub(crate) fn probe_count(&self) -> u32 {
        self.recovery.loss.probe_count()
    }

    /// Returns whether something is under way that the peer has to acknowledge.
    pub(crate) fn asks(&self) -> bool {
        self.sent.has_eliciting()
    }

    /// The smoothed round-trip time.
    pub(crate) fn rtt(&self) -> Duration {
        self.recovery.rtt.smoothed()
    }

    /// The rate at which packets were lost lately, in parts of 65536.
    pub(crate) fn loss(&self) -> u32 {
        self.recovery.loss_rate.get()
    }

    /// The time that a packet takes to the peer at most, as far as round trips tell: all that they are longer than the
    /// shortest is taken for a queue on the way there, and so is what this host adds to it in the round trip that
    /// measurements are behind.
    pub(crate) fn one_way(&self) -> Duration {
        let rtt = &self.recovery.rtt;
        let Some(shortest) = rtt.min() else {
            return rtt.smoothed() / 2 + rtt.variation();
        };
        let measured = rtt.smoothed().max(rtt.latest());
        let growth = self.flow.controller.get().growth().clamp(0.0, MAX_GROWTH);
        (measured + measured.mul_f64(growth) + rtt.variation()).saturating_sub(shortest / 2)
    }

    /// Returns when the peer is known to have been there: it has acknowledged what was sent then.
    pub(crate) fn was_there(&self) -> Instant {
        self.sent.was_there()
    }

    /// Bytes that may leave from now on.
    pub(crate) fn outlook(&self, now: Instant) -> Outlook {
        Outlook::new(now, self.sent.in_flight(), self.rate())
    }

    /// Sends no datagram of more than `limit` bytes: the peer, or the socket, takes no larger one (CHN-8).
    pub(super) fn limit_datagram(&mut self, limit: u16) {
        self.mtu.set_limit(limit.min(self.mtu.limit()));
        self.flow.controller.get_mut().set_datagram(self.mtu.current());
    }

    /// Another address was validated, with a round trip of `rtt` if it measured one: all estimates begin anew (CHN-11).
    pub(super) fn begin_path(&mut self, now: Instant, rtt: Option<Duration>) {
        self.mtu = MtuSearch::new(self.mtu.limit());
        self.mtu.start(now);
        self.flow.controller = self.flow.controller.restarted(self.mtu.current());
        self.flow.pacer = Pacer::new(now);
        self.flow.throughput.begin_path();
        self.recovery.rtt = Rtt::new(rtt);
        self.recovery.loss = LossDetector::new();
        self.recovery.loss.restart(now);
        self.recovery.path_start = self.sent.next();
        self.sent.uncount();
        self.ecn.restart();
    }

    /// Gives spare memory back. What is known of losses stays: an acknowledgement that is late may refute them.
    pub(super) fn rest(&mut self) {
        self.sent.shrink();
        self.recovery.loss.rest();
        self.flow.controller.get_mut().shrink();
    }

    /// Gives memory back that a busy time needed.
    pub(super) fn shrink(&mut self) {
        self.rest();
        self.recovery.loss.shrink();
    }
}

/// Sending.
impl Flight {
    /// Returns whether a datagram of data may be sent: nothing is sent into silence but probes (REC-4).
    pub(super) fn budget(&mut self, now: Instant) -> Budget {
        self.flow.resume = None;
        if self.is_window_full() || self.recovery.loss.is_silent() {
            return Budget::Blocked;
        }
        let rate = self.rate();
        match self.flow.pacer.check(now, rate) {
            Ok(()) => Budget::Ready,
            Err(at) => {
                self.flow.resume = Some(at);
                Budget::Later(at)
            }
        }
    }

    pub(super) fn rate(&self) -> Rate {
        let controller = self.flow.controller.get();
        Rate {
            window: controller.window(),
            smoothed: self.recovery.rtt.smoothed(),
            slow_start: controller.is_to_double(),
            model: self.flow.controller.pacing_rate(),
            datagram: self.mtu.current(),
        }
    }

    /// Returns whether one more datagram is more than the congestion window allows.
    pub(crate) fn is_window_full(&self) -> bool {
        let in_flight = self.sent.in_flight();
        let after = in_flight + u64::from(self.mtu.current());
        in_flight > 0 && after > self.flow.controller.get().window()
    }

    /// Returns whether the pacer let no datagram out when it was asked last.
    pub(crate) fn is_paced(&self) -> bool {
        self.flow.resume.is_some()
    }

    /// The owner had nothing more to send. Whether more might have left is what congestion control has to know of that.
    pub(super) fn on_nothing_to_send(&mut self) {
        let in_flight = self.sent.in_flight();
        let controller = self.flow.controller.get_mut();
        if in_flight + u64::from(self.mtu.current()) <= controller.window() {
            controller.on_app_limited(in_flight);
        }
    }

    /// Remembers a packet under the next number.
    pub(super) fn record(
        &mut self,
        now: Instant,
        size: usize,
        (kind, ack_eliciting): (PacketKind, bool),
        tokens: &[Token],
    ) {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let is_marked = kind != PacketKind::Unrecorded && self.ecn.mark() == Ecn::Ect0;
        let is_counted = kind == PacketKind::Ordinary && ack_eliciting;
        let flags = Flags::default()
            .with(Flags::ELICITING, ack_eliciting)
            .with(Flags::COUNTED, is_counted)
            .with(Flags::MARKED, is_marked)
            .with(Flags::MTU_PROBE, kind == PacketKind::MtuProbe);
        let seq = self.sent.next();
        self.sent.push(now, size, flags, tokens);
        self.counters.on_recorded(kind, size);
        if is_marked {
            self.ecn.on_sent();
        }
        if is_counted {
            self.flow.pacer.on_sent(now, u64::from(size));
            self.tell_controller(now, seq, size);
        }
        if ack_eliciting {
            self.recovery.loss.on_eliciting_sent(now);
        }
    }

    fn tell_controller(&mut self, now: Instant, seq: u64, size: u16) {
        self.flow.controller.on_sent(&Departed {
            now,
            seq,
            bytes: u64::from(size),
            in_flight: self.sent.in_flight(),
        });
    }

    /// Remembers this host's packet 0 (INITIATE or ACCEPT), which the negotiation has sealed (NEG-16).
    pub(super) fn record_packet_zero(&mut self, now: Instant, size: usize, tokens: &[Token]) {
        debug_assert_eq!(self.sent.next(), 0);
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let flags = Flags::default().with(Flags::ELICITING, true).with(Flags::COUNTED, true);
        self.sent.push(now, size, flags, tokens);
        self.tell_controller(now, 0, size);
        self.counters.on_sent(size);
        self.recovery.loss.on_eliciting_sent(now);
    }

    /// Packet 0 is sent again: its acknowledgement tells no round-trip time any more (REC-1).
    pub(super) fn on_packet_zero_repeated(&mut self) {
        self.recovery.path_start = self.recovery.path_start.max(1);
    }

    /// Gives up what is outstanding: all tokens are appended to `fates` as lost.
    pub(super) fn abandon(&mut self, fates: &mut Vec<Fate>) {
        self.sent.abandon(&mut Sink::new(fates));
    }
}

/// Acknowledgement and loss.
impl Flight {
    /// ACCEPT acknowledges INITIATE (NEG-16). What was sent more than once tells no round-trip time: nobody knows which
    /// copy was answered (Karn and Partridge, 1987).
    pub(super) fn ack_packet_zero(&mut self, now: Instant, was_repeated: bool, fates: &mut Vec<Fate>) -> Settled {
        let mut sink = Sink::new(fates);
        let mut acked = Acked::default();
        let in_flight = self.sent.in_flight();
        self.sent.ack(&(0..=0), &mut sink, |packet| acked.add(packet));
        self.sent.acked_through(0);
        if let Some(packet) = acked.largest
            && !was_repeated
        {
            self.recovery.rtt.update(now, now.since(packet.sent), Duration::ZERO);
        }
        self.tell_mtu(now, &acked);
        self.on_progress(now, &acked, in_flight, None);
        Settled {
            largest: acked.largest.map(|packet| packet.seq),
            of_acks: sink.ack_acked,
        }
    }

    /// Takes in an acknowledgement. The tokens of all packets that it settles, as acknowledged or as lost, are appended
    /// to `fates`.
    ///
    /// # Errors
    /// If it names a number that was never sent (CHN-6).
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        fates: &mut Vec<Fate>,
    ) -> Result<Settled, ProtocolError> {
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
                rtt: self.recovery.rtt.adjusted(),
                kind: SignalKind::Mark,
            };
            let reacted = self.flow.controller.on_congestion(now, &signal);
            self.counters.congestion_events += u64::from(reacted);
        }
        if self.recovery.loss.take_refuted() {
            self.flow.controller.on_false_congestion();
        }
        // What arrived tells the losses that follow from those of a path that carries less.
        self.tell_mtu(now, &acked);
        self.detect_losses(now, &mut sink);
        self.on_progress(now, &acked, in_flight, latest);
        Ok(Settled {
            largest: acked.largest.map(|packet| packet.seq),
            of_acks: sink.ack_acked,
        })
    }

    /// The round trip that an acknowledgement measures, if it newly names its largest number (REC-1).
    fn measure(&mut self, now: Instant, ack: &Ack<'_>, acked: &Acked) -> Option<Duration> {
        self.recovery.note_suspension(now, self.sent.next());
        let largest = acked.largest.filter(|l| l.seq == ack.largest && acked.eliciting)?;
        if largest.seq < self.recovery.path_start {
            return None;
        }
        let delay = Duration::from_micros(ack.delay_us).min(self.recovery.peer_ack_delay.get());
        self.recovery.rtt.update(now, now.since(largest.sent), delay);
        Some(self.recovery.rtt.adjusted())
    }

    /// Tells the search for the MTU what was newly acknowledged.
    fn tell_mtu(&mut self, now: Instant, acked: &Acked) {
        if acked.packets == 0 {
            return;
        }
        let (seq, size) = acked.biggest;
        self.mtu.on_acked(seq, size);
        if let Some(probe) = acked.probe {
            self.counters.on_sent(probe.size);
        }
        if let Some(probe) = acked.probe
            && probe.seq >= self.recovery.path_start
            && self.mtu.on_probe_acked(now, probe.seq, probe.size)
        {
            self.flow.controller.get_mut().set_datagram(self.mtu.current());
        }
        self.mtu.start(now);
    }

    /// Tells everyone else concerned what was newly acknowledged.
    fn on_progress(&mut self, now: Instant, acked: &Acked, in_flight: u64, latest: Option<Duration>) {
        let Some(largest) = acked.largest else {
            return;
        };
        self.recovery.loss.on_progress();
        self.recovery.loss_rate.on_acked(acked.packets);
        if acked.bytes > 0 {
            let rtt = self.recovery.rtt.smoothed();
            self.flow.throughput.on_acked(now, acked.bytes, rtt);
            self.flow.controller.on_acked(&AckSample {
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
                least: self.recovery.rtt.min(),
            });
        }
    }

    /// Declares lost what is (REC-2), and sets the time at which more may be.
    fn detect_losses(&mut self, now: Instant, sink: &mut Sink<'_>) {
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
        let (mtu, ecn, counters) = (&mut self.mtu, &mut self.ecn, &mut self.counters);
        let mut lost = Lost::default();
        let oldest_left = self.sent.detect_lost(rule, sink, |packet, acked_between| {
            lost.add(packet, acked_between);
            loss.remember(packet.seq);
            counters.on_lost(packet.flags);
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
        let controller = &mut self.flow.controller;
        if let Some((seq, sent)) = lost.latest {
            let signal = Signal {
                sent,
                seq,
                rtt: self.recovery.rtt.adjusted(),
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
            controller.get_mut().set_datagram(self.mtu.current());
        }
    }

    /// Returns when something is to be declared lost, or else the peer to be probed.
    pub(super) fn recovery_time(&self) -> Option<Instant> {
        self.recovery.loss.loss_time.or_else(|| self.probe_time())
    }

    fn probe_time(&self) -> Option<Instant> {
        let (rtt, delay) = (&self.recovery.rtt, self.recovery.peer_ack_delay.get());
        self.sent
            .has_eliciting()
            .then(|| self.recovery.loss.probe_time(rtt, delay))
    }

    /// The time of [`Self::recovery_time`] has come.
    pub(super) fn on_recovery_timer(&mut self, now: Instant, fates: &mut Vec<Fate>) {
        let mut sink = Sink::new(fates);
        if self.recovery.loss.loss_time.is_some() {
            self.detect_losses(now, &mut sink);
        } else {
            self.counters.probe_timeouts = self.counters.probe_timeouts.saturating_add(1);
            self.recovery.note_suspension(now, self.sent.next());
            self.recovery.loss.on_probe_timeout(now);
            if self.recovery.loss.probes_carry_data() {
                self.sent.repeat_oldest(REPEATED, &mut sink);
            }
        }
    }
}
