//! A channel: one run of the negotiation, and the packets exchanged under its keys. It knows no streams.
//!
//! Up, in the order in which a packet meets them ([`receive`]):
//!
//! 1. [`Channel::open`]: unmask, recover the number, decrypt in place ([`keys`]), replay window ([`replay`]);
//! 2. the owner dispatches the frames; those of the channel come back as [`Channel::on_ack`] (settles packets in
//!    [`sent`], measures [`rtt`], finds [`loss`], moves [`congestion`], [`mtu`], [`ecn`]; the tokens leave as
//!    [`Fate`]s), [`Channel::on_path_challenge`], [`Channel::on_path_response`], [`Channel::on_close`];
//! 3. [`Channel::note`]: what is to be acknowledged and when ([`received`]), signs of life ([`timers`]), a changed
//!    address ([`path`]).
//!
//! Down ([`transmit`]):
//!
//! 1. [`Channel::transmit_alone`]: a datagram that travels alone: CLOSE ([`close`]), path validation, MTU probe;
//! 2. [`Channel::wants_control`] and [`Channel::budget`]: whether a packet is to be sent at all, and whether data may
//!    be in it (congestion window, [`pacer`]);
//! 3. [`Channel::begin`]: number and header, and the room for frames;
//! 4. [`Channel::write_control`]: the channel's own frames; then the owner's;
//! 5. [`Channel::finish`]: pad, seal, mask, record.
//!
//! Time ([`wake`]): [`Channel::next_timer`] says when, [`Channel::on_timer`] does what is due.

mod close;
mod congestion;
mod ecn;
mod keys;
mod loss;
mod loss_rate;
mod mtu;
mod pacer;
mod path;
mod receive;
mod received;
mod replay;
mod rtt;
mod sent;
mod stats;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throughput;
mod timers;
mod transmit;
mod wake;

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_crypto::Suite;
use sss_crypto::schedule::{ChannelSecrets, EarlySecrets};
use sss_wire::ChannelId;
use sss_wire::params::Settings;

pub use close::MAX_CLOSING;
pub use ecn::EcnState;
pub use mtu::MtuState;
pub(crate) use path::Path;
pub(crate) use receive::{Opened, Received};
pub use stats::ChannelInfo;
pub(crate) use stats::Counters;
pub(crate) use transmit::Budget;
pub(crate) use wake::TimerEvent;

use crate::config::Congestion;
use crate::role::Role;
use crate::time::Instant;
use crate::token::Token;
use close::CloseState;
use congestion::Controller;
use ecn::EcnValidation;
use keys::{DirectionKeys, Keys};
use loss::LossDetector;
use loss_rate::LossRate;
use mtu::MtuSearch;
use pacer::{Pacer, Rate};
use path::Paths;
use received::ReceivedSet;
use replay::ReplayWindow;
use rtt::Rtt;
use sent::SentRing;
use stats::parts_per_million;
use throughput::Throughput;
use timers::Activity;

/// The longest that this host holds back an acknowledgement, in us: what it announces (CHN-4).
pub(crate) const MAX_ACK_DELAY_US: u64 = 25_000;
/// How much sooner its timer is set: a timer of an operating system rings late, never early (CHN-14).
const TIMER_LAG: Duration = Duration::from_millis(5);
/// What clocks and timers are good for; the least that a timeout adds to a measurement.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Probe timeouts in a row from which on a channel is stalled (MIG-11).
const STALLED: u32 = 2;
/// No more than this is allowed for growth in a round trip: with a small window, a packet more is much, and no queue.
const MAX_GROWTH: f64 = 0.25;
/// A number is skipped once in about so many packets (CHN-6).
const SKIP_MEAN: u64 = 1024;

/// What a channel is told about the host's wishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelConfig {
    /// Zero: never.
    pub(crate) idle_timeout: Duration,
    pub(crate) keepalive: Duration,
    /// Largest UDP payload that this host sends.
    pub(crate) max_datagram: u16,
    pub(crate) congestion: Congestion,
}

/// What a channel is made from, beside its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelSetup {
    pub(crate) role: Role,
    /// The id on which this host receives.
    pub(crate) local_id: ChannelId,
    /// The id under which the peer receives. Known to the responder only from INITIATE.
    pub(crate) remote_id: ChannelId,
    pub(crate) path: Path,
    pub(crate) config: ChannelConfig,
    pub(crate) seed: u64,
}

/// What became of a frame.
///
/// A token comes once as acknowledged, or once as lost and then perhaps as acknowledged after all: when a probe timeout
/// repeats a packet that was only late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) token: Token,
    pub(crate) acked: bool,
}

/// One end of a channel.
pub(crate) struct Channel {
    ids: Ids,
    keys: Keys,
    replay: ReplayWindow,
    received: ReceivedSet,
    sent: SentRing,
    recovery: Recovery,
    flow: Flow,
    mtu: MtuSearch,
    ecn: EcnValidation,
    paths: Paths,
    life: Life,
    counters: Counters,
}

/// What packets are named by.
struct Ids {
    local: ChannelId,
    remote: ChannelId,
    /// The next number that is left out (CHN-6).
    next_skip: u64,
    rng: StdRng,
}

/// Round-trip time and loss.
struct Recovery {
    rtt: Rtt,
    loss: LossDetector,
    loss_rate: LossRate,
    /// The longest that the peer holds back an acknowledgement.
    peer_ack_delay: Duration,
    /// Numbers below this one tell no round trip: they were sent on another path, or more than once.
    path_start: u64,
}

/// How much may be sent, and when.
struct Flow {
    controller: Controller,
    pacer: Pacer,
    throughput: Throughput,
    /// When data may be sent again, if the pacer has held it back.
    resume: Option<Instant>,
}

/// Signs of life, and the end.
struct Life {
    activity: Activity,
    close: CloseState,
    /// When [`Channel::on_timer`] last ran: what was due then waits only to be sent.
    timers_run: Option<Instant>,
    /// Packets sent since one that must be acknowledged.
    quiet: u32,
}

impl Recovery {
    fn probe_timeout(&self) -> Duration {
        self.rtt.probe_timeout(self.peer_ack_delay)
    }
}

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
        let send = DirectionKeys {
            secret: &secrets.initiator,
            header: secrets.initiator_header(),
        };
        Self::with_keys(now, setup, Keys::sending(suite, 0, &send), rtt)
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
        let send = DirectionKeys {
            secret: &secrets.responder,
            header: secrets.responder_header(),
        };
        let receive = DirectionKeys {
            secret: &early.initiator,
            header: early.initiator_header(),
        };
        let mut keys = Keys::sending(suite, 1, &send);
        keys.receive_from(0, &receive, secrets.initiator.clone());
        let mut channel = Self::with_keys(now, setup, keys, None);
        channel.recovery.rtt = Rtt::at_most(bound);
        channel
    }

    fn with_keys(now: Instant, setup: ChannelSetup, keys: Keys, rtt: Option<Duration>) -> Self {
        let config = setup.config;
        let mtu = MtuSearch::new(config.max_datagram);
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let next_skip = 2 + skip_distance(&mut rng);
        Self {
            ids: Ids {
                local: setup.local_id,
                remote: setup.remote_id,
                next_skip,
                rng,
            },
            keys,
            replay: ReplayWindow::new(),
            received: ReceivedSet::new(Duration::from_micros(MAX_ACK_DELAY_US), TIMER_LAG),
            sent: SentRing::default(),
            recovery: Recovery {
                rtt: Rtt::new(rtt),
                loss: LossDetector::new(),
                loss_rate: LossRate::default(),
                peer_ack_delay: Duration::from_micros(MAX_ACK_DELAY_US),
                path_start: 0,
            },
            flow: Flow {
                controller: Controller::new(config.congestion, mtu.current(), setup.seed),
                pacer: Pacer::new(now),
                throughput: Throughput::default(),
                resume: None,
            },
            mtu,
            ecn: EcnValidation::default(),
            paths: Paths::new(setup.path),
            life: Life {
                activity: Activity::new(now, config.idle_timeout, config.keepalive),
                close: CloseState::Open,
                timers_run: None,
                quiet: 0,
            },
            counters: Counters::default(),
        }
    }

    /// ACCEPT has arrived: generation 1, both ways (NEG-17).
    pub(crate) fn install(&mut self, now: Instant, secrets: &ChannelSecrets) {
        let send = DirectionKeys {
            secret: &secrets.initiator,
            header: secrets.initiator_header(),
        };
        let receive = DirectionKeys {
            secret: &secrets.responder,
            header: secrets.responder_header(),
        };
        self.keys.send_from(self.sent.next(), &send);
        self.keys.receive_from(1, &receive, secrets.responder.next());
        self.recovery.loss.restart(now);
    }

    /// Takes in what the peer announced.
    pub(crate) fn apply_peer_settings(&mut self, settings: &Settings) {
        self.life
            .activity
            .set_peer_timeout(Duration::from_millis(settings.idle_timeout_ms));
        self.recovery.peer_ack_delay = Duration::from_micros(settings.max_ack_delay_us);
        let theirs = u16::try_from(settings.max_datagram).unwrap_or(u16::MAX);
        self.limit_datagram(theirs);
    }

    /// Sends no datagram of more than `limit` bytes: the peer, or the socket, takes no larger one (CHN-8).
    pub(crate) fn limit_datagram(&mut self, limit: u16) {
        self.mtu.set_limit(limit.min(self.mtu.limit()));
        self.flow.controller.get_mut().set_datagram(self.mtu.current());
    }

    pub(crate) fn suite(&self) -> Suite {
        self.keys.suite()
    }

    /// The id on which this host receives.
    pub(crate) fn local_id(&self) -> ChannelId {
        self.ids.local
    }

    /// The addresses in use.
    pub(crate) fn path(&self) -> Path {
        self.paths.current()
    }

    /// The peer's address.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.paths.current().remote
    }

    /// The time after which a probe is sent, without backoff (REC-4).
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.recovery.rtt.probe_timeout(self.recovery.peer_ack_delay)
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

    /// Sends PING if nothing is under way that will measure the round-trip time.
    pub(crate) fn ask_if_quiet(&mut self) {
        if self.sent.in_flight() == 0 {
            self.life.activity.ask();
        }
    }

    /// Whether neither side has ended it.
    pub(crate) fn is_open(&self) -> bool {
        self.life.close.is_open()
    }

    /// Whether the peer does not answer: the second probe timeout in a row has passed (MIG-11).
    pub(crate) fn is_stalled(&self) -> bool {
        self.recovery.loss.probe_count() >= STALLED
    }

    /// Whether the peer is to be asked for signs of life: while a stream is open (CHN-3).
    pub(crate) fn set_keepalive(&mut self, wanted: bool) {
        self.life.activity.set_keepalive(wanted);
    }

    fn rate(&self) -> Rate {
        let controller = self.flow.controller.get();
        Rate {
            window: controller.window(),
            smoothed: self.recovery.rtt.smoothed(),
            slow_start: controller.in_slow_start(),
            model: controller.pacing_rate(),
            datagram: self.mtu.current(),
        }
    }

    /// What was counted so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The channel's state, for people and tests.
    pub(crate) fn info(&self) -> ChannelInfo {
        let rtt = &self.recovery.rtt;
        let controller = self.flow.controller.get();
        let c = self.counters;
        ChannelInfo {
            remote: self.remote(),
            suite: self.keys.suite(),
            key_generation: self.keys.generation(),
            rtt: rtt.smoothed(),
            min_rtt: rtt.min(),
            rtt_variation: rtt.variation(),
            mtu: self.mtu.current(),
            mtu_state: self.mtu.state(),
            congestion: self.flow.controller.name(),
            window: controller.window(),
            slow_start: controller.in_slow_start(),
            in_flight: self.sent.in_flight(),
            in_flight_packets: self.sent.eliciting(),
            bandwidth: self.flow.throughput.latest(),
            peak_bandwidth: self.flow.throughput.peak(),
            bytes_delivered: self.flow.throughput.delivered(),
            recent_loss_ppm: parts_per_million(self.loss()),
            ecn: self.ecn.state(),
            reordering_threshold: self.recovery.loss.threshold(),
            packets_sent: c.packets_sent,
            bytes_sent: c.bytes_sent,
            packets_received: c.packets_received,
            bytes_received: c.bytes_received,
            packets_lost: c.packets_lost,
            false_losses: c.false_losses,
            congestion_events: c.congestion_events,
            probe_timeouts: c.probe_timeouts,
            late_acks: self.received.late(),
        }
    }
}

/// Packets until the next number that is left out.
fn skip_distance(rng: &mut StdRng) -> u64 {
    rng.random_range(0..2 * SKIP_MEAN)
}
