//! The ceiling of the window (REC-20): what congestion has shown to be too much, for longer than until the next probe.
//!
//! One among fifty senders has a product of a few datagrams, and probes each few round trips. If a probe forgot all,
//! the queue would be full for ever, and a tenth be lost. So what congestion takes comes back slowly: of small windows
//! by the same for all, so that shares become equal (Chiu and Jain, 1989), of large ones by a factor (Kelly, 2003,
//! "Scalable TCP").

/// Part of the window that is left after congestion.
const LEFT: f32 = 0.7;
/// Growth in a round trip: so many datagrams, or this part of it if that is more.
const DATAGRAMS: f32 = 0.15;
const PART: f32 = 1.0 / 32.0;

/// Bytes that may be in flight; infinite if nothing is known to be too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling(f32);

impl Default for Ceiling {
    fn default() -> Self {
        Self(f32::INFINITY)
    }
}

impl Ceiling {
    /// Congestion: it is below what may be in flight now, but no lower than `least`.
    pub(super) fn lower(&mut self, window: u64, least: u64) {
        self.0 = (LEFT * self.0.min(window as f32)).max(least as f32);
    }

    /// A round trip is over.
    pub(super) fn on_round(&mut self, datagram: u16) {
        self.0 += (DATAGRAMS * f32::from(datagram)).max(PART * self.0);
    }

    /// Returns so many times the bytes.
    pub(super) fn times(&self, gain: f64) -> u64 {
        (gain * f64::from(self.0)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: REC-20
    #[test]
    fn it_falls_with_each_congestion_and_rises_slowly() {
        let mut ceiling = Ceiling::default();
        ceiling.on_round(1000);
        assert_eq!(ceiling.times(1.0), u64::MAX);
        ceiling.lower(10_000, 4000);
        assert_eq!((ceiling.times(1.0), ceiling.times(1.25)), (7000, 8750));
        ceiling.lower(100_000, 4000);
        assert_eq!(
            ceiling.times(1.0),
            4900,
            "of the ceiling, if more could be in flight but for it"
        );
        ceiling.lower(5000, 4000);
        assert_eq!(ceiling.times(1.0), 4000);
        (0..4).for_each(|_| ceiling.on_round(1000));
        assert_eq!(ceiling.times(1.0), 4600, "by the same in each round trip");
    }

    // spec: REC-20
    #[test]
    fn that_of_a_large_window_rises_in_proportion_and_has_no_end() {
        let mut ceiling = Ceiling::default();
        ceiling.lower(1_000_000, 4000);
        let rounds = (1..).find(|_| {
            ceiling.on_round(1000);
            ceiling.times(1.0) >= 1_000_000
        });
        assert_eq!(rounds, Some(12), "what was taken is back");
        (0..100_000).for_each(|_| ceiling.on_round(1000));
        assert_eq!(ceiling.times(1.0), u64::MAX);
    }
}
