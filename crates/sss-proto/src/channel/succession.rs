//! Signs that another channel is to take over, and what that one takes over (MIG-26, MIG-31).

use sss_wire::constants::MIN_FLOW;

use super::Channel;
use super::flight::Flight;
use crate::time::Instant;

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

impl Flight {
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
