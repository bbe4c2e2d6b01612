//! Pace at which a peer that does not answer is tried again (MIG-12).

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// The silence so far is this many times the pause until the next try: what is waited for in vain after the network
/// is back stays small beside how long it was away.
const SHARE: u32 = 128;

/// The pause between two tries after so long a silence.
pub(crate) fn retry_interval(silence: Duration) -> Duration {
    (silence / SHARE).clamp(SHORTEST, LONGEST)
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
    }
}
