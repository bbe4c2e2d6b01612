//! A channel: one run of the negotiation, and the packets exchanged under its keys. It knows no streams.
//!
//! [`Channel`] is the one place where its parts meet. Up, in the order in which a packet meets them:
//!
//! 1. [`Channel::open`]: unmask, recover the number, decrypt in place ([`keys`]), replay window ([`replay`]);
//! 2. the owner dispatches the frames; those of the channel come back as [`Channel::on_ack`] (in [`flight`], which
//!    settles packets in [`sent`], measures [`rtt`], finds [`loss`], moves [`congestion`], [`mtu`], [`ecn`]; the tokens
//!    leave as [`Fate`]s), [`Channel::on_path_challenge`], [`Channel::on_path_response`], [`Channel::on_close`];
//! 3. [`Channel::note`]: what is to be acknowledged and when ([`received`]), signs of life ([`liveness`]), a changed
//!    address ([`path`]).
//!
//! Down:
//!
//! 1. [`Channel::transmit_alone`]: a datagram that travels alone: CLOSE ([`close`]), path validation;
//! 2. [`Channel::wants_control`] and [`Channel::budget`]: whether a packet is to be sent at all, and whether data may
//!    be in it (congestion window, [`pacer`]);
//! 3. [`Channel::begin`]: number and header, and the room for frames ([`sealing`]);
//! 4. [`Channel::write_control`]: the channel's own frames; then the owner's;
//! 5. [`Channel::finish`]: pad, seal, mask, record.
//!
//! Time ([`due`]): [`Channel::next_timer`] says when, [`Channel::on_timer`] does what is due.

mod close;
mod congestion;
mod counters;
mod due;
mod ecn;
mod fate;
mod flight;
mod keys;
mod liveness;
mod loss;
mod loss_rate;
mod mtu;
mod opened;
mod pacer;
mod path;
mod received;
mod recovery;
mod replay;
mod rtt;
mod sealing;
mod sent;
mod setup;
mod stats;
mod succession;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throughput;
mod timers;

use std::time::Duration;

use sss_crypto::Suite;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::constants::BASE_DATAGRAM;
use sss_wire::frame::{Ack, PathChallenge, PathResponse};
use sss_wire::params::Settings;
use sss_wire::{ChannelId, Code, Writer};

pub(crate) use close::CloseState;
pub use close::MAX_CLOSING;
pub use congestion::ResumeState;
pub(crate) use congestion::SavedPath;
pub(crate) use counters::Counters;
pub(crate) use due::{may_have_output, rest, rests};
pub use ecn::EcnState;
pub(crate) use fate::Fate;
pub(crate) use flight::{Budget, Flight};
pub(crate) use liveness::TimerEvent;
pub use mtu::MtuState;
pub(crate) use opened::{Opened, Received};
pub(crate) use pacer::Outlook;
pub(crate) use path::Path;
pub(crate) use setup::{ChannelConfig, ChannelSetup};
pub use stats::ChannelInfo;
pub(crate) use succession::{hand_on, overdue_at, resume, take_saved};

use crate::error::{DropReason, ProtocolError};
use crate::io::{Ecn, Transmit, TransmitBuf};
use crate::network::Network;
use crate::packet::PacketWriter;
use crate::role::Role;
use crate::route::Route;
use crate::time::Instant;
use crate::token::Token;
use flight::Settled;
use keys::Keys;
use liveness::Liveness;
use path::{Offpath, Paths};
use received::{Arrived, ReceivedSet};
use replay::ReplayWindow;
use rtt::Rtt;
use sealing::{FilledPacket, Ids, PacketSpace, Sealing};
use timers::Activity;

/// The longest that this host holds back an acknowledgement, in us: what it announces (CHN-4).
pub(crate) const MAX_ACK_DELAY_US: u64 = 25_000;
/// Lead of its timer over the deadline: a timer of an operating system rings late, never early (CHN-14).
const TIMER_LAG: Duration = Duration::from_millis(5);
/// Longest delay of acknowledgements that is waited for, whatever a peer announces: else one that goes would not be
/// missed for long (REC-4).
const MAX_PEER_ACK_DELAY: Duration = Duration::from_secs(1);
/// Probe timeouts for which the keys of the generation before are kept (PRT-8).
const OLD_KEYS: u32 = 3;
/// Bytes of acknowledgement beside CLOSE, at most.
const MAX_CLOSING_ACK: usize = 128;

/// One end of a channel.
pub(crate) struct Channel {
    ids: Ids,
    keys: Keys,
    replay: ReplayWindow,
    received: ReceivedSet,
    flight: Flight,
    paths: Paths,
    liveness: Liveness,
}

/// Making a channel, and reading what is known of it.
impl Channel {
    /// The initiator's channel: it sends in generation 0, and cannot receive before [`Self::install`] (NEG-17). `rtt`
    /// is the round trip of HELLO and COOKIE, if it is known.
    pub(crate) fn early(
        now: Instant,
        setup: ChannelSetup,
        suite: Suite,
        secrets: &EarlySecrets,
        rtt: Option<Duration>,
    ) -> Self {
        debug_assert_eq!(setup.role, Role::Initiator);
        let keys = Keys::early(suite, secrets, setup.key_log(suite));
        Self::with_keys(now, setup, keys, Rtt::new(rtt))
    }

    /// The responder's channel: it sends in generation 1, and receives in generations 0 and 1. The round trip is at
    /// most `bound`.
    pub(crate) fn accepted(
        now: Instant,
        setup: ChannelSetup,
        suite: Suite,
        (early, secrets): (&EarlySecrets, &ChannelSecrets),
        bound: Duration,
    ) -> Self {
        debug_assert_eq!(setup.role, Role::Responder);
        let keys = Keys::accepted(suite, early, secrets, setup.key_log(suite));
        Self::with_keys(now, setup, keys, Rtt::at_most(bound))
    }

    fn with_keys(now: Instant, setup: ChannelSetup, keys: Keys, rtt: Rtt) -> Self {
        let max_ack_delay = Duration::from_micros(MAX_ACK_DELAY_US);
        let activity = Activity::new(now, setup.config.idle_timeout, setup.config.keepalive);
        Self {
            ids: Ids::new(setup.local_id, setup.remote_id, setup.seed),
            keys,
            replay: ReplayWindow::new(),
            received: ReceivedSet::new(max_ack_delay, TIMER_LAG),
            flight: Flight::new(now, &setup, max_ack_delay, rtt),
            paths: Paths::new(setup.path, setup.config.allow_private_moves),
            liveness: Liveness::new(activity),
        }
    }

    /// ACCEPT has arrived: generation 1, both ways (NEG-17).
    pub(crate) fn install(&mut self, now: Instant, secrets: &ChannelSecrets) {
        self.keys.install(self.flight.sent.next(), secrets);
        self.flight.recovery.loss.restart(now);
    }

    /// Takes in what the peer announced.
    pub(crate) fn apply_peer_settings(&mut self, settings: &Settings) {
        let idle_timeout = Duration::from_millis(settings.idle_timeout_ms);
        self.liveness.activity.set_peer_timeout(idle_timeout);
        let announced = Duration::from_micros(settings.max_ack_delay_us);
        self.flight.recovery.peer_ack_delay = announced.min(MAX_PEER_ACK_DELAY).into();
        let theirs = u16::try_from(settings.max_datagram).unwrap_or(u16::MAX);
        self.flight.limit_datagram(theirs);
    }

    pub(crate) fn suite(&self) -> Suite {
        self.keys.suite()
    }

    /// The id on which this host receives.
    pub(crate) fn local_id(&self) -> ChannelId {
        self.ids.local
    }

    /// The addresses in use.
    pub(crate) fn path(&self) -> &Path {
        self.paths.current()
    }

    /// The peer's address.
    pub(crate) fn route(&self) -> Route {
        self.paths.current().route
    }

    /// The peer's network.
    pub(crate) fn network(&self) -> Network {
        self.paths.network()
    }

    /// The time after which a probe is sent, without backoff (REC-4).
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.flight.probe_timeout()
    }

    /// The packets under way, and what is known of the way.
    pub(crate) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// Sends PING if nothing is under way that will measure the round-trip time.
    pub(crate) fn ask_if_quiet(&mut self) {
        if self.flight.sent.in_flight() == 0 {
            self.liveness.activity.ask();
        }
    }

    /// Returns whether neither side has ended it.
    pub(crate) fn is_open(&self) -> bool {
        self.liveness.close.is_open()
    }

    /// Returns whether INITIATE or ACCEPT was sent: what follows is ordinary packets.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn has_sent_packet_zero(&self) -> bool {
        self.flight.sent.next() > 0
    }

    /// Returns whether the peer does not answer: the second probe timeout in a row has passed (MIG-11).
    pub(crate) fn is_stalled(&self) -> bool {
        self.flight.recovery.loss.is_silent()
    }

    /// Returns whether the peer is to be asked for signs of life: while a stream is open (CHN-3).
    /// It `stands_by` if another channel carries the streams.
    pub(crate) fn set_keepalive(&mut self, wanted: bool, stands_by: bool) {
        self.liveness.activity.set_keepalive(wanted, stands_by);
    }

    /// Sends PING.
    pub(crate) fn ask(&mut self) {
        self.liveness.activity.ask();
    }

    /// Returns whether something was received after a moment.
    pub(crate) fn was_heard_since(&self, moment: Instant) -> bool {
        self.liveness.activity.last_received() > moment
    }

    /// Returns what was counted so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.flight.counters
    }

    /// The channel's state, for people and tests.
    pub(crate) fn info(&self) -> ChannelInfo {
        stats::describe(self.path(), &self.keys, &self.flight, self.received.late())
    }
}

/// Up.
impl Channel {
    /// Unmasks and opens a packet in place, and marks its number as seen (PRT-5).
    ///
    /// # Errors
    /// Why the packet is to be dropped. Nothing but a counter has changed then.
    pub(crate) fn open(&mut self, packet: &mut [u8]) -> Result<Opened, DropReason> {
        let was_frozen = self.keys.is_receiving_frozen();
        let expected = self.replay.next();
        let opened = match self.keys.open(packet, self.ids.local.len(), expected) {
            Ok(opened) if self.replay.accept(opened.seq) => opened,
            refused => {
                // Who cannot seal a packet, or has only seen one, makes nobody hold keys.
                if was_frozen {
                    self.keys.freeze_receiving();
                }
                return Err(refused.err().unwrap_or(DropReason::Duplicate));
            }
        };
        Ok(Opened {
            seq: opened.seq,
            payload: opened.range(),
            generation: opened.generation,
            newest: opened.seq >= expected,
        })
    }

    /// Takes in a packet whose frames were dispatched: acknowledgement, signs of life, address.
    pub(crate) fn note(&mut self, now: Instant, opened: &Opened, received: &Received<'_>) {
        self.received.note(Arrived {
            seq: opened.seq,
            at: now,
            ack_eliciting: received.ack_eliciting,
            ecn: received.ecn,
        });
        self.liveness.activity.on_received(now, received.ack_eliciting);
        self.flight.counters.packets_received += 1;
        self.flight.counters.bytes_received += received.bytes as u64;
        let recovery = &self.flight.recovery;
        self.keys.on_received(now, || recovery.probe_timeout() * OLD_KEYS);
        self.paths.on_packet(received.route);
        if opened.newest {
            let draws = &mut self.ids.draws;
            let challenge = || draws.challenge();
            self.paths
                .on_newest(now, received.route, received.bytes as u64, challenge);
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
        let route = self.route();
        let received = Received {
            ack_eliciting: true,
            ecn,
            bytes,
            route: &route,
        };
        self.replay.accept(0);
        self.note(now, &opened, &received);
    }

    /// ACCEPT acknowledges INITIATE (NEG-16). What was sent more than once tells no round-trip time.
    pub(crate) fn ack_packet_zero(&mut self, now: Instant, was_repeated: bool, fates: &mut Vec<Fate>) {
        let settled = self.flight.ack_packet_zero(now, was_repeated, fates);
        self.on_settled(&settled);
    }

    /// Takes in an acknowledgement. The tokens of all packets that it settles, as acknowledged or as lost, are appended
    /// to `fates`.
    ///
    /// # Errors
    /// If it names a number that was never sent (CHN-6).
    pub(crate) fn on_ack(&mut self, now: Instant, ack: &Ack<'_>, fates: &mut Vec<Fate>) -> Result<(), ProtocolError> {
        let settled = self.flight.on_ack(now, ack, fates)?;
        self.on_settled(&settled);
        Ok(())
    }

    fn on_settled(&mut self, settled: &Settled) {
        if let Some(largest) = settled.of_acks {
            self.received.on_ack_acked(largest);
        }
        if let Some(largest) = settled.largest {
            self.keys.on_acked(largest);
        }
    }

    /// PATH_CHALLENGE came, in a packet that is noted afterwards.
    pub(crate) fn on_path_challenge(&mut self, data: [u8; 8]) {
        self.paths.on_challenge(data);
    }

    /// PATH_RESPONSE came: a validated address is used from now on, with fresh estimates (CHN-11).
    pub(crate) fn on_path_response(&mut self, now: Instant, data: [u8; 8]) {
        if let Some(rtt) = self.paths.on_response(now, data) {
            self.flight.begin_path(now, rtt);
        }
    }

    /// CLOSE came: nothing more is sent (CHN-12).
    pub(crate) fn on_close(&mut self, now: Instant) {
        self.liveness.close.on_close(now, self.flight.probe_timeout());
    }

    /// The end of the channel.
    pub(crate) fn ending(&mut self) -> &mut CloseState {
        &mut self.liveness.close
    }
}

/// Down.
impl Channel {
    /// Returns how long full packets are: datagrams, without what is before the packet. Probes go in datagrams of the
    /// size that every path carries (REC-4).
    pub(crate) fn datagram_size(&self) -> usize {
        let full = self.flight.mtu.current();
        let datagram = if self.probe_pending() {
            full.min(BASE_DATAGRAM)
        } else {
            full
        };
        usize::from(datagram) - self.paths.overhead()
    }

    /// Returns whether the keys may seal anything but CLOSE.
    fn may_send(&self) -> bool {
        self.is_open() && !self.keys.is_exhausted()
    }

    /// Returns whether a packet must be sent even if there is no data for it: ACK, PATH_RESPONSE, or PING.
    pub(crate) fn wants_control(&self, now: Instant) -> bool {
        self.may_send()
            && (self.received.is_due(now)
                || self.paths.has_response()
                || self.probe_pending()
                || self.liveness.activity.wants_ping())
    }

    /// Returns whether an ack-eliciting packet is to be sent whatever the budget says (REC-4).
    pub(crate) fn probe_pending(&self) -> bool {
        self.flight.recovery.loss.probes_pending() > 0
    }

    /// Returns whether such a packet may repeat data (MIG-12).
    pub(crate) fn probe_may_carry_data(&self) -> bool {
        self.probe_pending() && self.flight.recovery.loss.probes_carry_data()
    }

    /// Returns whether a datagram of data may be sent.
    pub(crate) fn budget(&mut self, now: Instant) -> Budget {
        if self.may_send() {
            self.flight.budget(now)
        } else {
            self.flight.flow.resume = None;
            Budget::Blocked
        }
    }

    fn sealing(&mut self) -> Sealing<'_> {
        Sealing {
            ids: &mut self.ids,
            keys: &mut self.keys,
            flight: &mut self.flight,
            liveness: &mut self.liveness,
            overhead: self.paths.overhead(),
        }
    }

    /// Begins a packet in a buffer that is as long as the packet may be.
    pub(crate) fn begin<'a>(&mut self, datagram: &'a mut [u8]) -> PacketSpace<'a> {
        self.sealing().begin(datagram)
    }

    /// Writes the channel's frames: ACK, then PATH_RESPONSE (FRM-2).
    pub(crate) fn write_control(&mut self, now: Instant, writer: &mut PacketWriter<'_>) {
        if self.received.is_pending() || self.received.is_due(now) {
            let room = writer.remaining();
            if let Some(largest) = self.received.write_ack(now, writer.quiet(), room) {
                writer.remember(Token::Ack { largest });
                self.received.on_ack_written(now);
            }
        }
        if writer.remaining() >= PathResponse([0; 8]).encoded_len()
            && let Some(data) = self.paths.take_response()
        {
            PathResponse(data).encode(writer.eliciting());
        }
    }

    /// Completes a packet: adds PING if one is owed, pads, seals, masks, and remembers it with its tokens, which are
    /// drained. Returns the datagram's length, 0 if there is nothing in it.
    pub(crate) fn finish(&mut self, now: Instant, packet: FilledPacket<'_>, tokens: &mut Vec<Token>) -> usize {
        let owes_ping = self.owes_ping();
        let size = self.sealing().finish(now, packet, owes_ping, tokens);
        if size > 0 {
            tokens.clear();
        }
        size
    }

    fn owes_ping(&self) -> bool {
        self.probe_pending() || self.liveness.owes_ping(self.received.range_count())
    }

    /// The owner had nothing more to send. Whether more might have left is what congestion control has to know of that.
    pub(crate) fn on_nothing_to_send(&mut self) {
        self.flight.on_nothing_to_send();
    }

    /// Remembers this host's packet 0 (INITIATE or ACCEPT), which the negotiation has sealed (NEG-16).
    pub(crate) fn record_packet_zero(&mut self, now: Instant, size: usize, tokens: &[Token]) {
        let size = size + self.paths.overhead();
        self.flight.record_packet_zero(now, size, tokens);
        self.liveness.activity.on_eliciting_sent(now);
    }

    /// ACCEPT is sent again: its acknowledgement tells no round-trip time any more (REC-1).
    pub(crate) fn note_packet_zero_repeated(&mut self) {
        self.flight.on_packet_zero_repeated();
    }

    /// The peer answers on this path, of those that the negotiation has proved (RCH-16).
    pub(crate) fn settle_on(&mut self, path: Path) {
        if path.route != self.route() {
            self.paths.settle_on(path);
            self.flight.on_moved();
        }
    }

    /// This host has moved: packets leave from whatever address it has now.
    pub(crate) fn forget_local(&mut self) {
        self.paths.forget_local();
        self.flight.on_moved();
    }

    /// Returns how packets to the present address are to be sent, `segment` bytes each.
    pub(crate) fn transmit(&self, segment: usize) -> Transmit {
        let Path { route, local } = *self.paths.current();
        Transmit {
            link: route.link,
            local,
            ecn: self.flight.ecn.mark(),
            segment,
        }
    }

    /// Fills the empty buffer with a datagram that travels alone, if one is due: CLOSE, or path validation.
    pub(crate) fn transmit_alone(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        if !self.is_open() {
            return self.transmit_close(now, buf);
        }
        if !self.may_send() {
            return None;
        }
        self.transmit_offpath(now, buf)
    }

    /// CLOSE; beside it, what arrived is acknowledged: the peer's application asks whether its last words did.
    fn transmit_close(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        let (code, reason) = self.close_due().map(|(code, reason)| (code, reason.to_owned()))?;
        self.liveness.close.on_sent();
        let mut acks = [0; MAX_CLOSING_ACK];
        let mut writer = Writer::new(&mut acks);
        self.received.write_ack(now, &mut writer, MAX_CLOSING_ACK);
        let len = writer.position();
        let how = (*self.paths.current(), self.flight.padding);
        self.sealing().alone(now, buf, how, |w| {
            w.bytes(acks.get(..len).unwrap_or_default());
            close::frame(code, &reason).encode(w);
        })
    }

    fn transmit_offpath(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        let size = self.sealing().validation_size();
        let interval = self.flight.probe_timeout();
        let offpath = self.paths.take_offpath(now, size, interval)?;
        let mut sealing = self.sealing();
        // Not padded: it has one size already, and may be sent only so many bytes.
        let how = |path| (path, Default::default());
        match offpath {
            Offpath::Challenge(data, path) => sealing.alone(now, buf, how(path), |w| PathChallenge(data).encode(w)),
            Offpath::Response(data, path) => sealing.alone(now, buf, how(path), |w| PathResponse(data).encode(w)),
        }
    }

    /// Fills the empty buffer with a probe for a longer datagram, if one is due (CHN-8). Not while the peer does not
    /// answer.
    pub(crate) fn transmit_mtu_probe(&mut self, now: Instant, buf: &mut TransmitBuf) -> Option<Transmit> {
        if !self.may_send() || !self.keys.can_receive() || self.flight.recovery.loss.probe_count() > 0 {
            return None;
        }
        let size = self.flight.mtu.wanted_probe()?;
        self.sealing().mtu_probe(now, buf, size)?;
        Some(self.transmit(buf.len()))
    }
}

/// The end.
impl Channel {
    /// CLOSE is on its way, in ACCEPT.
    pub(crate) fn note_close_sent(&mut self) {
        self.liveness.close.on_sent();
    }

    /// The CLOSE that is to be sent now, if one is.
    pub(crate) fn close_due(&self) -> Option<(Code, &str)> {
        let closing = self.liveness.close.due()?;
        Some((closing.code, &closing.reason))
    }

    /// Gives up what is outstanding: all tokens are appended to `fates` as lost (NEG-18, MIG-7).
    pub(crate) fn abandon(&mut self, fates: &mut Vec<Fate>) {
        self.flight.abandon(fates);
    }

    /// Ends the channel with CLOSE (CHN-12).
    pub(crate) fn close(&mut self, now: Instant, code: Code, reason: &str) {
        let probe_timeout = self.flight.probe_timeout();
        self.liveness.close.close(now, probe_timeout, code, reason.to_owned());
    }
}
