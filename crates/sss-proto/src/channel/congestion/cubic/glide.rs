//! The way of what is in flight down to a window that was reduced: Proportional Rate Reduction (RFC 9937), as a limit
//! to what may be in flight.
//!
//! A window that is cut at once lets nothing leave until so much was acknowledged: the queue runs empty meanwhile, and
//! then the link does. So there may be more in flight at first, and a little less with each byte that is acknowledged,
//! until a round trip later it is the window. What was lost is not made up for.

use super::super::control::AckSample;

/// Bytes by which what is in flight may be more than the window while a sender recovers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Glide {
    /// Of no more than 4 GiB, since it is in each controller.
    excess: u32,
}

impl Glide {
    /// A glide that begins with the next acknowledgement: it tells how much is in flight.
    pub(super) const DUE: Self = Self { excess: u32::MAX };

    pub(super) fn excess(self) -> u64 {
        match self {
            Self::DUE => 0,
            Self { excess } => u64::from(excess),
        }
    }

    /// The glide after an acknowledgement, to `window`, which is the part `kept` of what it was.
    pub(super) fn after(self, sample: &AckSample, window: u64, kept: f64) -> Self {
        let above = match self {
            Self::DUE => sample.in_flight.saturating_sub(window),
            Self { excess } => u64::from(excess),
        };
        let lost = sample.in_flight.saturating_sub(sample.bytes + sample.remaining);
        let less = (sample.bytes as f64 * (1.0 - kept)) as u64 + lost;
        let excess = u32::try_from(above.saturating_sub(less)).unwrap_or(u32::MAX);
        Self {
            excess: excess.min(u32::MAX - 1),
        }
    }
}
