//! Rate at which packets are lost of late.

/// One in so many packets weighs in the average: about that many are remembered.
const MEMORY: u32 = 256;
/// Beyond so many packets at once nothing is left of what was before.
const MAX_STEPS: u64 = 4096;

/// An exponentially weighted moving average of the rate of loss, in parts of 2^32.
#[derive(Debug, Default)]
pub(super) struct LossRate(u32);

impl LossRate {
    /// The rate, in parts of 65536.
    pub(super) fn get(&self) -> u32 {
        self.0 >> 16
    }

    /// So many packets have arrived.
    pub(super) fn on_acked(&mut self, packets: u64) {
        for _ in 0..packets.min(MAX_STEPS) {
            self.0 -= self.0 / MEMORY;
        }
    }

    /// So many packets were lost.
    pub(super) fn on_lost(&mut self, packets: u64) {
        for _ in 0..packets.min(MAX_STEPS) {
            self.0 += (u32::MAX - self.0) / MEMORY;
        }
    }

    /// So many packets that counted as lost had only been late.
    pub(super) fn on_false_loss(&mut self, packets: u64) {
        for _ in 0..packets.min(MAX_STEPS) {
            self.0 = self.0.saturating_sub(u32::MAX / MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rate() {
        for every in [5, 20, 100, 1000] {
            let mut rate = LossRate::default();
            let mut sum = 0.0;
            for i in 1..=20_000 {
                if i % every == 0 {
                    rate.on_lost(1);
                } else {
                    rate.on_acked(1);
                }
                if i > 10_000 {
                    sum += f64::from(rate.get()) / 65536.0;
                }
            }
            let mean = sum / 10_000.0;
            assert!((mean * every as f64 - 1.0).abs() < 0.05, "1 in {every}: {mean}");
        }
    }

    #[test]
    fn false_losses_and_good_times_bring_it_back() {
        let mut rate = LossRate::default();
        rate.on_lost(3);
        assert!(rate.get() > 655, "three of the latest 256 are more than 1%");
        rate.on_false_loss(3);
        assert_eq!(rate.get(), 0);
        rate.on_lost(1_000_000);
        assert!(rate.get() > 65_000);
        rate.on_acked(1500);
        assert!(rate.get() < 655);
    }
}
