//! Questions to a congestion controller, and its answers.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

/// Limit of the initial window in bytes, unless two datagrams are more (RFC 9002 section 7.2).
const INITIAL_WINDOW_LIMIT: u64 = 14_720;

/// The window a connection begins with, for datagrams of the given size.
pub(in crate::channel) fn initial_window(datagram: u16) -> u64 {
    let datagram = u64::from(datagram);
    (10 * datagram).min(INITIAL_WINDOW_LIMIT.max(2 * datagram))
}

/// The window that no loss goes below.
pub(super) fn minimum_window(datagram: u16) -> u64 {
    2 * u64::from(datagram)
}

/// A packet that left.
#[derive(Clone, Copy, Debug)]
pub(in crate::channel) struct Departed {
    pub(in crate::channel) now: Instant,
    pub(in crate::channel) seq: u64,
    pub(in crate::channel) bytes: u64,
    /// Bytes in flight, this packet included.
    pub(in crate::channel) in_flight: u64,
}

/// A growth of four datagrams in a round trip: as much as careful senders grow, twice over.
pub(super) fn careful_growth(datagram: u16, window: u64) -> f64 {
    4.0 * f64::from(datagram) / window.max(1) as f64
}

/// One acknowledgement, as the congestion controller is told of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::channel) struct AckSample {
    pub(in crate::channel) now: Instant,
    /// Bytes newly acknowledged.
    pub(in crate::channel) bytes: u64,
    /// The highest number newly acknowledged.
    pub(in crate::channel) largest: u64,
    /// The number of the next packet to be sent.
    pub(in crate::channel) next: u64,
    /// The time when the highest number was sent.
    pub(in crate::channel) largest_sent: Instant,
    /// Bytes in flight before the acknowledgement.
    pub(in crate::channel) in_flight: u64,
    /// Bytes in flight after it, without what it showed to be lost.
    pub(in crate::channel) remaining: u64,
    /// All packets before this number are settled.
    pub(in crate::channel) oldest: u64,
    /// Smoothed round-trip time.
    pub(in crate::channel) smoothed: Duration,
    /// The round-trip time measured by this acknowledgement, if it measured one.
    pub(in crate::channel) latest: Option<Duration>,
    /// The least that was measured on this path (REC-1).
    pub(in crate::channel) least: Option<Duration>,
}

/// A sign of congestion.
#[derive(Clone, Copy, Debug)]
pub(in crate::channel) struct Signal {
    /// The time when the latest of the packets concerned was sent, and its number.
    pub(in crate::channel) sent: Instant,
    pub(in crate::channel) seq: u64,
    /// The round-trip time measured last: that of a packet sent just after those that were lost.
    pub(in crate::channel) rtt: Duration,
    pub(in crate::channel) kind: SignalKind,
}

/// Kinds of signs of congestion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::channel) enum SignalKind {
    /// So many packets were lost.
    Loss(u64),
    /// Packets came back marked CE.
    Mark,
}

/// A congestion controller. All sizes are in bytes.
///
/// One more is a file beside `cubic.rs`, a value of [`Congestion`](crate::Congestion), and a line in
/// [`Controller::new`](super::Controller::new).
pub(in crate::channel) trait Control: fmt::Debug + Send + Sync {
    /// Returns how much may be in flight.
    fn window(&self) -> u64;
    /// Returns whether the window still grows exponentially.
    fn in_slow_start(&self) -> bool;
    /// Returns whether it grows so until it has doubled at least once more: then packets leave at twice its rate.
    fn is_to_double(&self) -> bool {
        self.in_slow_start()
    }
    /// By what part of itself that what is in flight may grow in a round trip, but for slow start; infinite if nobody
    /// knows.
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
    /// The path is known to carry so much in a round trip: the first window may be that, if it is more,
    /// and packets leave at its rate.
    fn begin_with(&mut self, window: u64);
    /// This is the window from now on, in slow start: so much is tried, or was (REC-16).
    fn set_window(&mut self, window: u64);
    /// The path carried this rate before, in bytes per second, with this smallest round trip, and no more than that is
    /// looked for at first (REC-16). A controller that measures that has no use for it.
    fn expect(&mut self, _rate: f64, _rtt: Duration) {}
    /// That was too much: this is the window, and none that was tried counts (REC-17).
    fn retreat(&mut self, window: u64);
    /// All that was tried is settled: the window grows fast up to this one, if it is more.
    fn grow_to(&mut self, _: u64) {}
    /// The size of datagrams changed.
    fn set_datagram(&mut self, datagram: u16);
    /// Gives memory back that a busy time needed.
    fn shrink(&mut self) {}
}
