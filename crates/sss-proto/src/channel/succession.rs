//! Signs that another channel is to take over, and what that one takes over (MIG-26, MIG-31, REC-15).

use sss_wire::constants::MIN_FLOW;

use super::Channel;
use super::congestion::{SavedPath, initial_window};
use super::flight::Flight;
use super::path::Path;
use crate::time::Instant;

/// Of what arrives in the smallest round trip, the window is so many times that at most.
const PRODUCTS: f64 = 2.0;

/// Returns when the peer should have acknowledged a flow on a channel, or should have been heard there, unless it is
/// away: before a probe is due. `None`: too little is to be acknowledged to tell.
pub(crate) fn overdue_at(channel: &Channel) -> Option<Instant> {
    let unheard = channel.liveness.activity.last_received() + channel.probe_timeout() / 2;
    Some(channel.flight.overdue_at()?.max(unheard))
}

/// A channel whose path has the same ends begins with half of the window of the one before, if it has less.
pub(crate) fn hand_on(window: u64, to: &mut Channel) {
    to.flight.flow.controller.get_mut().begin_with(window / 2);
}

/// Takes what a channel has found out about its path, for a later one there (REC-15); once.
pub(crate) fn take_saved(from: &mut Channel) -> Option<(Path, SavedPath)> {
    let path = from.paths.settled()?;
    Some((path, from.flight.take_saved()?))
}

/// An earlier channel has found this out about the path of a new one (REC-16).
pub(crate) fn resume(saved: SavedPath, to: &mut Channel) {
    let datagram = to.flight.mtu.current();
    to.flight.flow.controller.resume(saved, datagram);
}

impl Flight {
    /// The path is another one, and no address says so: what is known of it is not of this one (REC-15).
    pub(super) fn on_moved(&mut self) {
        self.flow.controller.on_moved();
        self.flow.throughput.begin_path();
    }

    /// Takes the window, but no more than twice what has arrived in a round trip at most.
    fn take_saved(&mut self) -> Option<SavedPath> {
        if let Some(unused) = self.flow.controller.take_unused() {
            return Some(unused);
        }
        let rtt = self.recovery.rtt.min()?;
        let flow = &mut self.flow;
        let rate = flow.throughput.peak();
        let carried = rate as f64 * rtt.as_secs_f64() * PRODUCTS;
        let saved = SavedPath {
            window: flow.controller.get().window().min(carried as u64),
            rate,
            rtt,
            at: flow.throughput.peaked(),
        };
        let is_worth_it = saved.jump() > initial_window(self.mtu.current());
        (is_worth_it && flow.controller.note_saved()).then_some(saved)
    }

    /// Returns whether so much is to be acknowledged that chance does not lose all of it.
    pub(crate) fn is_flow(&self) -> bool {
        self.sent.eliciting() >= MIN_FLOW as usize
    }

    /// Returns when the oldest packet of a flow should have been acknowledged.
    fn overdue_at(&self) -> Option<Instant> {
        let usual = self.probe_timeout().saturating_sub(self.recovery.rtt.variation() * 2);
        let oldest = self.sent.oldest_eliciting().filter(|_| self.is_flow());
        oldest.map(|sent| sent + usual)
    }

    /// Bytes under way, as far as the congestion window allows them.
    pub(crate) fn used_window(&self) -> u64 {
        self.sent.in_flight().min(self.flow.controller.get().window())
    }
}
