//! Pace at which a peer that does not answer is tried again (MIG-12).

use std::time::Duration;

use sss_wire::constants::STALL_GRACE;

const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// The silence so far is this many times the pause until the next try: what is waited for in vain after the network
/// is back stays small beside how long it was away.
const SHARE: u32 = 128;

/// The same for a host that the peer comes back to.
const PATIENT_SHARE: u32 = 8;
/// Time for which such a host waits before it tries, in times of [`STALL_GRACE`].
const PATIENT_GRACE: u32 = 5;

/// The pause between two tries after so long a silence.
pub(crate) fn retry_interval(silence: Duration) -> Duration {
    (silence / SHARE).clamp(SHORTEST, LONGEST)
}

/// Pace at which a host tries to make another channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It has begun the tree, or has moved: nobody else can find the way back.
    #[default]
    Eager,
    /// The peer has begun the tree, and comes back by itself. What it is sent meanwhile is perhaps sent to nobody.
    Patient,
}

impl Pace {
    /// The pause between two tries after so long a silence.
    pub(crate) fn retry_interval(self, silence: Duration) -> Duration {
        match self {
            Self::Eager => retry_interval(silence),
            Self::Patient => (silence / PATIENT_SHARE).clamp(SHORTEST, LONGEST),
        }
    }

    /// The time for which a carrier is stalled before another channel is attempted (MIG-11).
    pub(crate) fn grace(self) -> Duration {
        match self {
            Self::Eager => STALL_GRACE,
            Self::Patient => STALL_GRACE * PATIENT_GRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: MIG-12
    #[test]
    fn pauses_grow_with_the_silence() {
        let pause = |ms| retry_interval(Duration::from_millis(ms)).as_millis();
        assert_eq!(
            [pause(0), pause(16_000), pause(32_000), pause(600_000), pause(6_000_000)],
            [250, 250, 250, 4687, 10_000]
        );
        let pause = |ms| Pace::Patient.retry_interval(Duration::from_millis(ms)).as_millis();
        assert_eq!(
            [pause(0), pause(2000), pause(40_000), pause(600_000)],
            [250, 250, 5000, 10_000]
        );
    }
}
