//! Congestion control: how much may be in flight (REC-6, REC-8).
//!
//! A controller is told what was sent, acknowledged and lost, and answers with a window in bytes. It knows no packets.

mod bbr;
mod cubic;

use std::fmt;
use std::time::Duration;

use crate::config::Congestion;
use crate::time::Instant;

pub(super) use bbr::Bbr;
pub(super) use cubic::Cubic;

/// Limit of the initial window in bytes, unless two datagrams are more (RFC 9002 section 7.2).
const INITIAL_WINDOW_LIMIT: u64 = 14_720;

/// The window a connection begins with, for datagrams of the given size.
fn initial_window(datagram: u16) -> u64 {
    let datagram = u64::from(datagram);
    (10 * datagram).min(INITIAL_WINDOW_LIMIT.max(2 * datagram))
}

/// The window that no loss goes below.
fn minimum_window(datagram: u16) -> u64 {
    2 * u64::from(datagram)
}

/// A packet that left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departed {
    pub(super) now: Instant,
    pub(super) seq: u64,
    pub(super) bytes: u64,
    /// Bytes in flight, this packet included.
    pub(super) in_flight: u64,
}

/// A growth of four datagrams in a round trip: as much as careful senders grow, twice over.
fn careful_growth(datagram: u16, window: u64) -> f64 {
    4.0 * f64::from(datagram) / window.max(1) as f64
}

/// What one acknowledgement says to the congestion controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckSample {
    pub(super) now: Instant,
    /// Bytes newly acknowledged.
    pub(super) bytes: u64,
    /// The highest number newly acknowledged.
    pub(super) largest: u64,
    /// The number of the next packet to be sent.
    pub(super) next: u64,
    /// When the highest number was sent.
    pub(super) largest_sent: Instant,
    /// Bytes in flight before the acknowledgement.
    pub(super) in_flight: u64,
    /// Bytes in flight after it, without what it showed to be lost.
    pub(super) remaining: u64,
    /// All packets before this number are settled.
    pub(super) oldest: u64,
    /// Smoothed round-trip time.
    pub(super) smoothed: Duration,
    /// The round-trip time measured by this acknowledgement, if it measured one.
    pub(super) latest: Option<Duration>,
}

/// A sign of congestion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    /// When the latest of the packets concerned was sent, and its number.
    pub(super) sent: Instant,
    pub(super) seq: u64,
    /// The round-trip time measured last: that of a packet sent just after those that were lost.
    pub(super) rtt: Duration,
    pub(super) cause: Cause,
}

/// What a sign of congestion consists in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// So many packets were lost.
    Loss(u64),
    /// Packets came back marked CE.
    Mark,
}

/// A congestion controller. All sizes are in bytes.
///
/// One more is a file beside `cubic.rs`, a value of [`Congestion`], and a line in [`Controller::new`].
pub(super) trait Control: fmt::Debug + Send + Sync {
    /// How much may be in flight.
    fn window(&self) -> u64;
    /// Whether the window still grows exponentially.
    fn in_slow_start(&self) -> bool;
    /// By what part of itself that what is in flight may grow in a round trip, but for slow start.
    fn growth(&self) -> f64;
    /// Bytes per second at which packets are to leave, if the controller knows better than what follows from the window
    /// (REC-7).
    fn pacing_rate(&self) -> Option<f64> {
        None
    }
    /// A packet left.
    fn on_sent(&mut self, _: &Departed) {}
    /// There was nothing more to send although the window allowed it, with so many bytes in flight.
    fn on_app_limited(&mut self, _: u64) {}
    /// Packets were acknowledged.
    fn on_acked(&mut self, sample: &AckSample);
    /// Packets were lost, or came back marked CE. One reaction per round trip; returns whether there was one.
    fn on_congestion(&mut self, now: Instant, signal: &Signal) -> bool;
    /// The last reaction was to losses that were none: it is taken back.
    fn on_false_congestion(&mut self);
    /// Everything sent for a long time was lost (RFC 9002 section 7.6).
    fn on_persistent_congestion(&mut self);
    /// The size of datagrams changed.
    fn set_datagram(&mut self, datagram: u16);
    /// Gives memory back that a busy time needed.
    fn shrink(&mut self) {}
}

/// The congestion controller of a channel.
#[derive(Debug)]
pub(super) struct Controller {
    kind: Congestion,
    seed: u64,
    control: Box<dyn Control>,
}

impl Controller {
    /// The controller of that kind, for datagrams of that size. All that it draws at random comes from `seed`.
    pub(super) fn new(kind: Congestion, datagram: u16, seed: u64) -> Self {
        let control: Box<dyn Control> = match kind {
            Congestion::Cubic => Box::new(Cubic::new(datagram)),
            Congestion::Bbr => Box::new(Bbr::new(datagram, seed)),
        };
        Self { kind, seed, control }
    }

    /// The same kind, knowing nothing: the path is another one.
    pub(super) fn restarted(&self, datagram: u16) -> Self {
        Self::new(self.kind, datagram, self.seed)
    }

    /// A name for people.
    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub(super) fn get(&self) -> &dyn Control {
        self.control.as_ref()
    }

    pub(super) fn get_mut(&mut self) -> &mut dyn Control {
        self.control.as_mut()
    }
}
