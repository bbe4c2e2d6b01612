//! The life of this process; name and age tell it from others of the same identity (MIG-4).

use rand::RngExt;
use sss_wire::params::{self, OLD};

use crate::entropy::Randomness;
use crate::error::{CloseReason, ListenError};
use crate::time::Instant;

/// Own name and age, and the end.
#[derive(Debug)]
pub(crate) struct Process {
    name: [u8; 8],
    /// The time when the host was first polled.
    began: Option<Instant>,
    phase: Phase,
}

/// Stage of a process on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// It shuts down: no tree is begun any more.
    Ending,
    /// Nothing drives it any more.
    Failed,
}

impl Process {
    pub(crate) fn new(rng: &mut Randomness) -> Self {
        Self {
            name: rng.random(),
            began: None,
            phase: Phase::Running,
        }
    }

    /// The host is polled.
    pub(crate) fn note(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    /// The host shuts down.
    pub(crate) fn end(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Ending;
        }
    }

    /// The host has failed.
    pub(crate) fn fail(&mut self) {
        self.phase = Phase::Failed;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.phase != Phase::Running
    }

    /// The end of what is begun while the host ends.
    pub(crate) fn end_reason(&self) -> CloseReason {
        match self.phase {
            Phase::Failed => CloseReason::HostFailed,
            Phase::Running | Phase::Ending => CloseReason::shut_down(),
        }
    }

    /// The end of a stream that nothing is known of any more.
    pub(crate) fn forgotten_reason(&self) -> CloseReason {
        match self.phase {
            Phase::Failed => CloseReason::HostFailed,
            Phase::Running | Phase::Ending => CloseReason::Released,
        }
    }

    /// Returns the error of offering a service, if nobody would come any more.
    pub(crate) fn check_listening(&self) -> Result<(), ListenError> {
        match self.phase {
            Phase::Running => Ok(()),
            Phase::Ending => Err(ListenError::HostClosed),
            Phase::Failed => Err(ListenError::HostFailed),
        }
    }

    /// Returns what the peer is told of it. Who offers no service has no tree to lose that another host has begun, and
    /// keeps its age for itself.
    pub(crate) fn told(&self, now: Instant, offers_services: bool) -> params::Process {
        let age = now.since(self.began.unwrap_or(now)).as_secs();
        let age = u16::try_from(age).unwrap_or(OLD).min(OLD);
        params::Process {
            name: self.name,
            age: offers_services.then_some(age),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    // spec: MIG-30
    #[test]
    fn an_age_is_told_in_whole_seconds_up_to_an_hour_and_only_by_who_offers_something() {
        let mut process = Process::new(&mut Randomness::new([1; 32].into()));
        let began = Instant::from_nanos(5_000_000_000);
        process.note(began);
        process.note(began + Duration::from_secs(3));
        let at = |ms| process.told(began + Duration::from_millis(ms), true).age;
        assert_eq!([0, 999, 1000, 61_999].map(at), [0, 0, 1, 61].map(Some));
        let late = [3_599_999, 3_600_000, 7_200_000, 10_000_000_000];
        assert_eq!(late.map(at), [3599, OLD, OLD, OLD].map(Some));
        assert_eq!(process.told(began, false).age, None);
        // The name stays, and each process has its own.
        let other = Process::new(&mut Randomness::new([2; 32].into()));
        assert_eq!(process.told(began, false).name, process.told(began, true).name);
        assert_ne!(process.told(began, true).name, other.told(began, true).name);
    }
}
