//! Congestion control: how much may be in flight (REC-6, REC-8).
//!
//! A controller is told what was sent, acknowledged and lost, and answers with a window in bytes. It knows no packets.

mod cubic;

use std::time::Duration;

use crate::io::Instant;

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
    /// Smoothed round-trip time.
    pub(super) smoothed: Duration,
    /// The round-trip time measured by this acknowledgement, if it measured one.
    pub(super) latest: Option<Duration>,
}

/// A congestion controller. All sizes are in bytes.
pub(super) trait Control {
    /// A name for people.
    fn name(&self) -> &'static str;
    /// How much may be in flight.
    fn window(&self) -> u64;
    /// Whether the window still grows exponentially.
    fn in_slow_start(&self) -> bool;
    /// Packets were acknowledged.
    fn on_acked(&mut self, sample: &AckSample);
    /// Congestion: a packet sent at `sent` was lost, or came back marked CE. One reaction per round trip; returns whether there
    /// was one.
    fn on_congestion(&mut self, now: Instant, sent: Instant) -> bool;
    /// The last reaction was to losses that were none: it is taken back.
    fn on_false_congestion(&mut self);
    /// Everything sent for a long time was lost (RFC 9002 section 7.6).
    fn on_persistent_congestion(&mut self);
    /// The size of datagrams changed.
    fn set_datagram(&mut self, datagram: u16);
}

/// The congestion controllers there are.
#[derive(Debug)]
pub(super) enum Controller {
    Cubic(Cubic),
}

impl Controller {
    /// The default controller.
    pub(super) fn new(datagram: u16) -> Self {
        Self::Cubic(Cubic::new(datagram))
    }

    pub(super) fn get(&self) -> &dyn Control {
        match self {
            Self::Cubic(cubic) => cubic,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut dyn Control {
        match self {
            Self::Cubic(cubic) => cubic,
        }
    }
}
