//! Those who call a host: where they are too many, whoever has called little comes first (RCH-3).

use std::collections::{BTreeSet, HashSet, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::{Instant, Network};
use sss_wire::Eid;

use super::rate::MEMORY;

/// Introductions that a host remembers for [`MEMORY`] (RCH-13).
const REMEMBERED: usize = 64;
/// Those of them that are left to callers that have called little, of one network.
const KEPT: usize = 16;
/// Parts of what a host may be told of at once.
pub(super) const PARTS: u16 = 4;

/// A caller: who it is, and where.
pub(super) type Caller = (Eid, Network);

/// Callers of late, of each host that was called.
#[derive(Default)]
pub(super) struct Crowds {
    all: HashMap<Eid, VecDeque<(Instant, Caller)>, RandomState>,
}

impl Crowds {
    /// The part of what a host may be told of at once, in [`PARTS`], that may be used up when this caller is
    /// introduced; 0 if the host would not remember it.
    pub(super) fn part(&self, now: Instant, callee: &Eid, caller: Caller) -> u16 {
        let none = VecDeque::new();
        let known = self.all.get(callee).unwrap_or(&none).iter();
        let known: Vec<Caller> = known
            .filter(|(at, _)| *at + MEMORY > now)
            .map(|(_, caller)| *caller)
            .collect();
        let (eid, network) = caller;
        let own = known.iter().filter(|(other, _)| *other == eid).count();
        if own == known.len() {
            return PARTS;
        }
        let beside = known.iter().filter(|(_, other)| *other == network).count();
        let eids: BTreeSet<Eid> = known.iter().map(|(eid, _)| *eid).chain([eid]).collect();
        let networks: HashSet<Network> = known.iter().map(|(_, network)| *network).chain([network]).collect();
        // No more than half of what each has on average.
        let is_little = |of: usize, among: usize| 2 * of * among <= known.len();
        let is_quiet = is_little(own, eids.len());
        match () {
            () if beside >= REMEMBERED || beside >= REMEMBERED - KEPT && !is_quiet => 0,
            () if is_little(beside, networks.len()) => PARTS,
            () if is_quiet => PARTS - 1,
            () => PARTS - 2,
        }
    }

    /// A caller is introduced to a host.
    pub(super) fn note(&mut self, now: Instant, callee: Eid, caller: Caller) {
        self.all.entry(callee).or_default().push_back((now, caller));
    }

    /// Forgets who has called a host long ago.
    pub(super) fn expire(&mut self, now: Instant, callee: &Eid) {
        if let Some(known) = self.all.get_mut(callee) {
            while known.pop_front_if(|(at, _)| *at + MEMORY <= now).is_some() {}
            if known.is_empty() {
                self.all.remove(callee);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn caller(n: u8, network: u8) -> Caller {
        (
            Eid::from_public_key(&[n; 32]),
            IpAddr::from([198, 51, 100, network]).into(),
        )
    }

    // spec: RCH-3
    #[test]
    fn whoever_calls_little_may_use_what_others_may_not() {
        let (mut crowds, callee) = (Crowds::default(), Eid::from_public_key(&[99; 32]));
        let part = |crowds: &Crowds, ms, of| crowds.part(at(ms), &callee, of);
        for n in 0..30 {
            assert_eq!(part(&crowds, 0, caller(1, 1)), PARTS, "alone, {n}");
            crowds.note(at(0), callee, caller(1, 1));
        }
        for _ in 0..17 {
            crowds.note(at(5000), callee, caller(2, 1));
        }
        // 47 of one network.
        assert_eq!(part(&crowds, 5000, caller(1, 1)), PARTS - 2);
        assert_eq!(part(&crowds, 5000, caller(3, 1)), PARTS - 1, "another host there");
        assert_eq!(part(&crowds, 5000, caller(3, 2)), PARTS, "another network");
        crowds.note(at(5000), callee, caller(1, 1));
        assert_eq!(part(&crowds, 5000, caller(1, 1)), 0, "what is left is for others");
        for _ in 0..5 {
            crowds.note(at(5000), callee, caller(3, 1));
        }
        assert_eq!(part(&crowds, 5000, caller(3, 1)), PARTS - 1);
        for n in 10..21 {
            assert_eq!(part(&crowds, 5000, caller(n, 1)), PARTS - 1);
            crowds.note(at(5000), callee, caller(n, 1));
        }
        assert_eq!(
            part(&crowds, 5000, caller(22, 1)),
            0,
            "64 of one network are all that is remembered"
        );
        assert_eq!(part(&crowds, 5000, caller(22, 2)), PARTS);
        // What was long ago does not count.
        assert_eq!(part(&crowds, 10_000, caller(1, 1)), PARTS - 1);
        crowds.expire(at(10_000), &callee);
        assert!(!crowds.is_empty());
        crowds.expire(at(15_000), &callee);
        assert!(crowds.is_empty());
    }
}
