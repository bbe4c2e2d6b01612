//! Those who give something back for the sake of those who wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Group, LOOKED_AT, Owner, State};

/// Things that somebody could give back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) owner: Owner,
    pub(crate) count: u64,
    /// Set if it has had them for a turn.
    pub(crate) is_over: bool,
    pub(crate) cost: Cost,
}

/// Cost of giving something back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// The end of something whose peer cannot be reached: for who has nothing, or not half of an equal part, however
    /// little others have of whom it is.
    Gone,
    /// A pause.
    Delay,
    /// The end of something that does not move: only for who has nothing, or not half of an equal part.
    Ghost,
    /// The end of something that moves: only for who has nothing.
    Work,
}

/// Those who could give something back, by what they have.
struct Givers<'a> {
    /// The richest first.
    ranked: Vec<Giver<'a>>,
    /// Those of them whose peer cannot be reached.
    gone: Vec<Giver<'a>>,
    of_groups: BTreeMap<Group, Vec<Giver<'a>>>,
    costs: BTreeSet<Cost>,
}

/// One of them, with what its network has and what it has itself.
#[derive(Clone, Copy)]
struct Giver<'a> {
    holding: &'a Holding,
    has: (u64, u64),
    at: usize,
}

/// Somebody who waits, with what it would have if those before it were served: its network, and itself.
struct Need {
    owner: Owner,
    has: (u64, u64),
    count: u64,
    is_grave: bool,
}

impl State {
    /// Those who wait, and have nothing of their own, in the order in which they are served.
    fn poorest(&self) -> impl Iterator<Item = (Owner, u64)> {
        let groups = self.waiting.iter().filter_map(|(_, group)| {
            let members = self.groups.get(group)?;
            let poorest = members.waiting.iter().take_while(|(rank, _)| rank.used == 0);
            Some(poorest.map(move |(_, eid)| (*group, *eid, members)))
        });
        groups.flatten().filter_map(|(group, eid, members)| {
            let mut queue = members.peers.get(&eid)?.queue.iter();
            let first = queue.find(|waiter| !waiter.grant.is_closed())?;
            Some((Owner::of(eid, group), first.count))
        })
    }

    /// Those who wait, with what they would have then: first a thing for each who has none, however many others wait.
    fn needs(&self) -> Vec<Need> {
        let peers: usize = self.groups.values().map(|group| group.peers.len()).sum();
        let equal_part = self.total / (peers as u64).saturating_add(1);
        let firsts: Vec<_> = self.poorest().take(LOOKED_AT).collect();
        let mut counted: BTreeSet<Owner> = firsts.iter().map(|(owner, _)| *owner).collect();
        let others = self.waiters().filter(|(owner, _)| !counted.remove(owner));
        let (mut of_groups, mut of_peers) = (BTreeMap::<Group, u64>::new(), BTreeMap::<Owner, u64>::new());
        let needs = firsts.into_iter().chain(others).take(LOOKED_AT).map(|(owner, count)| {
            let (of_group, own) = self.used_by(owner);
            let group_before = of_groups.entry(owner.group).or_default();
            let own_before = of_peers.entry(owner).or_default();
            let has = (of_group.saturating_add(*group_before), own.saturating_add(*own_before));
            *group_before = group_before.saturating_add(count);
            *own_before = own_before.saturating_add(count);
            Need {
                owner,
                has,
                count,
                is_grave: has.1 == 0 || has.1.saturating_add(count).saturating_mul(2) <= equal_part,
            }
        });
        needs.collect()
    }

    /// The least that a network has of which somebody waits who has something. For those nobody is called: they get
    /// what is given back, before the networks that have more.
    fn least_of_those_with_some(&self) -> u64 {
        let mut waiting = self.waiting.iter();
        let first = waiting.find(|(_, group)| {
            let members = self.groups.get(group);
            members.is_some_and(|members| members.waiting.first().is_some_and(|(rank, _)| rank.used > 0))
        });
        first.map_or(u64::MAX, |(rank, _)| rank.used)
    }

    pub(super) fn who_gives_way(&self, holdings: &[Holding]) -> BTreeSet<usize> {
        let givers = Givers::new(holdings, |owner| self.used_by(owner));
        let least = self.least_of_those_with_some();
        let (mut give_way, mut taken) = (BTreeSet::new(), BTreeMap::<Group, u64>::new());
        for need in self.needs().iter().filter(|need| givers.have_any_for(need)) {
            for giver in givers.for_need(need, need.has.0 >= least) {
                let taken = taken.entry(giver.holding.owner.group).or_default();
                let has = (giver.has.0.saturating_sub(*taken), giver.has.1);
                if need.is_met_by(giver.holding, has) && give_way.insert(giver.at) {
                    *taken = taken.saturating_add(giver.holding.count);
                    break;
                }
            }
        }
        give_way
    }
}

impl<'a> Givers<'a> {
    fn new(holdings: &'a [Holding], used_by: impl Fn(Owner) -> (u64, u64)) -> Self {
        let givers = (0..).zip(holdings).map(|(at, holding)| Giver {
            holding,
            has: used_by(holding.owner),
            at,
        });
        let mut ranked: Vec<_> = givers.collect();
        ranked.sort_by_key(|giver| Reverse(giver.has));
        let mut of_groups = BTreeMap::<Group, Vec<_>>::new();
        for giver in &ranked {
            of_groups.entry(giver.holding.owner.group).or_default().push(*giver);
        }
        let costs = holdings.iter().map(|holding| holding.cost).collect();
        let gone = ranked.iter().filter(|giver| giver.holding.cost == Cost::Gone);
        Self {
            gone: gone.copied().collect(),
            ranked,
            of_groups,
            costs,
        }
    }

    fn have_any_for(&self, need: &Need) -> bool {
        self.costs.iter().any(|cost| need.is_worth(*cost))
    }

    /// Those that cannot be reached, and those who may have more than a need, the richest first: of its own network,
    /// and of others.
    fn for_need(&self, need: &Need, own_first: bool) -> impl Iterator<Item = &Giver<'a>> {
        let (group, has) = (need.owner.group, need.has.0);
        let own = || self.of_groups.get(&group).into_iter().flatten();
        let richer = self.ranked.iter().take_while(move |giver| giver.has.0 > has);
        let others = richer.filter(move |giver| giver.holding.owner.group != group);
        let (first, last) = if own_first {
            (Some(own()), None)
        } else {
            (None, Some(own()))
        };
        let (first, last) = (first.into_iter().flatten(), last.into_iter().flatten());
        let gone = need.is_grave.then_some(&self.gone).into_iter().flatten();
        gone.chain(first).chain(others).chain(last)
    }
}

impl Need {
    /// Returns whether somebody whose network and who itself have so much is to give something back for it.
    fn is_met_by(&self, holding: &Holding, (of_group, own): (u64, u64)) -> bool {
        let (has, would_have) = if holding.owner.group == self.owner.group {
            (own, self.has.1)
        } else {
            (of_group, self.has.0)
        };
        let is_over = holding.is_over && has > would_have;
        let is_richer = holding.cost == Cost::Gone || has > would_have.saturating_add(self.count) || is_over;
        is_richer && self.is_worth(holding.cost) && !holding.owner.is_same_peer(&self.owner)
    }

    fn is_worth(&self, cost: Cost) -> bool {
        match cost {
            Cost::Delay => true,
            Cost::Gone | Cost::Ghost => self.is_grave,
            Cost::Work => self.has.1 == 0,
        }
    }
}
