//! Applications that take nothing in for a while: they neither read nor accept, while others flood them. Nobody else
//! may have to wait for that (STR-52 to STR-59).

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use sss_proto::ListenerId;

use super::{Actors, EndId, Name, Opening, SERVICES};
use crate::model::{Deaf, Model};
use crate::world::{HostIndex, World};

/// A service that every host has, and that accepts nothing before all else has come to its end.
pub(super) const DEAF_SERVICE: Name = ("deaf", "deaf/1");
/// Number of streams opened that nobody accepts.
const FLOOD: std::ops::Range<usize> = 40..300;
/// Ends that are flooded, or tried, in a run.
const ENDS: usize = 6;

/// Applications that are deaf.
pub(crate) struct Deafness {
    rng: StdRng,
    /// Those of the deaf services, while they accept nothing.
    listeners: BTreeSet<(HostIndex, ListenerId)>,
    deaf: Deaf,
}

impl Deafness {
    pub(super) fn new(rng: StdRng) -> Self {
        Self {
            rng,
            listeners: BTreeSet::new(),
            deaf: Deaf::default(),
        }
    }

    pub(super) fn add_service(&mut self, host: HostIndex, listener: ListenerId) {
        self.listeners.insert((host, listener));
    }

    /// Returns whether a service accepts nothing at present.
    pub(super) fn refuses(&self, host: HostIndex, listener: ListenerId) -> bool {
        self.listeners.contains(&(host, listener))
    }

    /// Returns whether the holder of an end takes nothing in at present.
    pub(super) fn is_deaf(&self, id: EndId) -> bool {
        self.deaf.ends.contains(&id)
    }

    /// Draws how much is written to a stream that is opened while some are deaf.
    pub(super) fn goal(&mut self, opening: Opening) -> u64 {
        match opening {
            Opening::Accepted => 0,
            _ => self.rng.random_range(8..3000),
        }
    }

    /// Makes some of so many ends deaf, or none. Returns whether they are to be flooded.
    pub(super) fn begin(&mut self, ends: usize) -> bool {
        let share = [0.0, 0.1, 0.3, 0.7][self.rng.random_range(0..4)];
        let ends = (0..ends).map(EndId);
        self.deaf.ends = ends.filter(|_| self.rng.random_bool(share)).collect();
        self.rng.random_bool(0.4)
    }

    /// Nobody is deaf any more. Returns the services that were.
    pub(super) fn end(&mut self) -> BTreeSet<(HostIndex, ListenerId)> {
        self.deaf = Deaf::default();
        std::mem::take(&mut self.listeners)
    }

    /// Counts how many flows have not reached readers who want them, and the first of these.
    pub(crate) fn unheard(&self, model: &Model) -> (usize, Option<String>) {
        self.deaf.unheard(model)
    }
}

/// Opens streams while some are deaf.
pub(super) struct Openers<'a> {
    pub(super) actors: &'a mut Actors,
    pub(super) world: &'a mut World,
}

impl Openers<'_> {
    /// Opens many streams for which nobody cares: below deaf ends, and to a service.
    pub(super) fn flood(&mut self) {
        for parent in self.held_with(true) {
            for _ in 0..self.deafness().rng.random_range(FLOOD) / ENDS {
                self.actors.open_below(self.world, parent);
            }
        }
        let Some((from, to)) = self.connected_pair() else {
            return;
        };
        for _ in 0..self.deafness().rng.random_range(FLOOD) {
            let to_nobody = (DEAF_SERVICE, Opening::TopLevel);
            let id = self.actors.connect_to(self.world, from, to, to_nobody);
            self.deafness().deaf.unwanted.extend(id);
        }
    }

    /// Opens a few streams to those who care.
    pub(super) fn try_others(&mut self) {
        let mut opened = Vec::new();
        for parent in self.held_with(false) {
            opened.extend(self.actors.open_below(self.world, parent));
        }
        if let Some((from, to)) = self.connected_pair() {
            let to_somebody = (SERVICES[0], Opening::TopLevel);
            opened.extend(self.actors.connect_to(self.world, from, to, to_somebody));
        }
        self.deafness().deaf.sure.extend(opened);
    }

    fn deafness(&mut self) -> &mut Deafness {
        &mut self.actors.aside.deafness
    }

    /// Some ends whose peers are deaf, or are not.
    fn held_with(&self, is_deaf: bool) -> Vec<EndId> {
        let Actors { model, ends, aside, .. } = &*self.actors;
        let other = |id: &EndId| model.opposite(*id).filter(|_| !ends[id.0].is_released);
        let fits = |id: &EndId| other(id).is_some_and(|other| aside.deafness.is_deaf(other) == is_deaf);
        (0..ends.len()).map(EndId).filter(fits).take(ENDS).collect()
    }

    /// Two hosts that have a channel.
    fn connected_pair(&self) -> Option<(HostIndex, HostIndex)> {
        let from = HostIndex(0);
        let core = self.world.host(from);
        let mut peers = core.peers().into_iter();
        let (_, eid) = peers.find(|(peer, _)| core.is_connected(*peer) == Some(true))?;
        Some((from, self.world.host_of(&eid)?))
    }
}
