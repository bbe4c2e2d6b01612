//! The time after a restart in which a server may not know yet who is registered (RCH-1).

use std::time::Duration;

use sss_proto::Instant;

/// The time until all who have a lease of an earlier run must have been heard of again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recovery(Option<(Instant, Instant)>);

impl Recovery {
    /// The server was restarted now; its leases last so long.
    pub(super) fn begin(now: Instant, ttl: Duration) -> Self {
        Self(Some((now, now + ttl / 2)))
    }

    /// Seconds since the restart, at least 1; 0 when the server knows all who are there.
    pub(super) fn seconds(self, now: Instant) -> u32 {
        let begun = self.0.filter(|(_, until)| now < *until);
        let since = begun.map(|(at, _)| now.since(at).as_secs().max(1));
        since.map_or(0, |since| u32::try_from(since).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-1
    #[test]
    fn a_server_knows_all_when_the_slowest_host_has_leased() {
        let at = |ms: u64| Instant::from_nanos(7_000_000_000 + ms * 1_000_000);
        assert_eq!(Recovery::default().seconds(at(0)), 0, "it was not restarted");
        for (ttl, end) in [(60, 30), (20, 10), (8, 4)] {
            let recovery = Recovery::begin(at(0), Duration::from_secs(ttl));
            let last = u64::from(end) * 1000;
            let told = [0, 999, 2500, last - 1, last, last * 9].map(|ms| recovery.seconds(at(ms)));
            assert_eq!(told, [1, 1, 2, end - 1, 0, 0], "{ttl} s");
        }
    }
}
