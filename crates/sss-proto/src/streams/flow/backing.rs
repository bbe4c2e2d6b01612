//! Charges of the peer to a stream of this host for openings (STR-52 to STR-57).

use sss_wire::constants::OPEN_ROOM;

use super::gauge::{Gauge, Tuning};

/// Charges of the peer to a stream for openings.
#[derive(Debug)]
pub(crate) struct Backing {
    limit: u64,
    charge: u64,
    consumed: u64,
    /// The part of it that datagrams had been charged.
    datagrams: u64,
    untold: Untold,
    /// The window, once it is not the smallest.
    tuning: Option<Box<Tuning>>,
}

/// Charges for what waits no more, though the peer may still take it to wait.
#[derive(Debug, Default)]
struct Untold {
    /// Charged for streams that were accepted since the peer was told of all that are.
    streams: u32,
    /// Charged for datagrams that were taken since it was told of that.
    datagrams: u32,
}

impl Default for Backing {
    fn default() -> Self {
        Self {
            limit: OPEN_ROOM,
            charge: 0,
            consumed: 0,
            datagrams: 0,
            untold: Untold::default(),
            tuning: None,
        }
    }
}

impl Backing {
    pub(crate) fn with_window(window: Tuning) -> Self {
        Self {
            limit: window.window,
            tuning: Some(Box::new(window)),
            ..Self::default()
        }
    }

    pub(crate) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.charge)
    }

    fn window(&self) -> u64 {
        self.tuning.as_ref().map_or(OPEN_ROOM, |t| t.window)
    }

    pub(crate) fn tuning(&self) -> Option<&Tuning> {
        self.tuning.as_deref()
    }

    /// An opening is charged. Returns whether the limit allows it.
    pub(crate) fn charge(&mut self, cost: u64) -> bool {
        self.charge = self.charge.saturating_add(cost);
        self.charge <= self.limit
    }

    /// So much of what was charged is out of the way.
    pub(crate) fn consume(&mut self, amount: u64) {
        self.consumed += amount;
        debug_assert!(self.consumed <= self.charge, "more consumed than charged");
    }

    /// Returns whether datagrams were taken of which the peer was not told.
    pub(crate) fn has_taken(&self) -> bool {
        self.untold.datagrams > 0
    }

    pub(crate) fn gauge(&self) -> Gauge {
        Gauge {
            limit: self.limit,
            charge: self.charge,
            consumed: self.consumed,
        }
    }

    /// The limit is raised.
    pub(crate) fn raise(&mut self, limit: u64, tuning: Tuning) {
        self.limit = limit;
        match &mut self.tuning {
            Some(present) => **present = tuning,
            none => *none = Some(Box::new(tuning)),
        }
    }

    /// Returns what OPEN_CREDIT says: the limit, and what of datagrams is consumed. The peer is told that now.
    pub(crate) fn tell(&mut self) -> (u64, u64) {
        self.untold.datagrams = 0;
        (self.limit, self.datagrams)
    }

    /// Returns what the latest OPEN_CREDIT said, if none is due.
    pub(crate) fn told(&self) -> (u64, u64) {
        (self.limit, self.datagrams - u64::from(self.untold.datagrams))
    }

    /// By how much the limit may be raised: what was consumed since it was raised last.
    fn rise(&self) -> u64 {
        (self.consumed + self.window()).saturating_sub(self.limit)
    }

    /// Returns whether so much was consumed that the peer should know: a part of what it has left (STR-56).
    pub(crate) fn is_due(&self) -> bool {
        let rise = self.rise();
        rise > 0 && rise >= self.room() / 4
    }

    /// A stream was accepted that had been charged so much. Returns whether the peer should know of those that it may
    /// not have heard of: for its sender they still wait.
    pub(crate) fn accept(&mut self, cost: u64) -> bool {
        self.untold.streams = self
            .untold
            .streams
            .saturating_add(u32::try_from(cost).unwrap_or(u32::MAX));
        let is_much = u64::from(self.untold.streams) >= self.room() / 4 || self.is_pressed();
        self.untold.streams = if is_much { 0 } else { self.untold.streams };
        is_much
    }

    /// So much that datagrams were charged is consumed. Returns whether the peer should know: OPEN_CREDIT says it.
    pub(crate) fn take_datagram(&mut self, amount: u64) -> bool {
        self.datagrams += amount;
        self.untold.datagrams = self
            .untold
            .datagrams
            .saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
        // When this alone is a part of what is left, the limit is raised, and that says it too.
        debug_assert!(
            u64::from(self.untold.datagrams) <= self.rise(),
            "taken, but not consumed"
        );
        self.is_pressed()
    }

    fn outstanding(&self) -> u64 {
        self.charge - self.consumed
    }

    /// So much waits that the peer should know of all that does not.
    pub(crate) fn is_pressed(&self) -> bool {
        self.outstanding() >= self.room() / 4
    }
}

#[cfg(test)]
impl Backing {
    /// Lets the peer charge so much more, which is charged at once.
    pub(crate) fn lend_more(&mut self, bytes: u64) {
        self.charge += bytes;
    }

    /// Lets the peer open as much as it likes.
    pub(crate) fn widen(&mut self) {
        self.limit = 1 << 60;
    }
}
