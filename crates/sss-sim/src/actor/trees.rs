//! Actions on a stream with those below it: which children may wait, budgets, resets of subtrees; and whether what
//! was sent was read.

use std::collections::BTreeSet;
use std::task::Poll;

use rand::RngExt;
use rand::rngs::StdRng;
use sss_proto::{ListenMode, WriteError};

use super::{Actors, EndId, Send, recent};
use crate::world::{HostIndex, World};

/// Things that the applications want to know of their streams, and what they do with subtrees.
#[derive(Debug)]
pub(super) struct Trees {
    rng: StdRng,
    /// Ends that their own application has reset with a subtree.
    cut: BTreeSet<EndId>,
    /// Ends that wait to hear whether all was read.
    asking: BTreeSet<EndId>,
    /// Ends that were told that no more children come.
    childless: BTreeSet<EndId>,
}

impl Trees {
    pub(super) fn new(rng: StdRng) -> Self {
        Self {
            rng,
            cut: BTreeSet::new(),
            asking: BTreeSet::new(),
            childless: BTreeSet::new(),
        }
    }

    pub(super) fn is_cut(&self, id: EndId) -> bool {
        self.cut.contains(&id)
    }

    pub(super) fn is_asking(&self, id: EndId) -> bool {
        self.asking.contains(&id)
    }

    /// The end was told that no more children come. Returns whether that is new.
    pub(super) fn note_childless(&mut self, id: EndId) -> bool {
        self.childless.insert(id)
    }

    pub(super) fn is_childless(&self, id: EndId) -> bool {
        self.childless.contains(&id)
    }

    /// Nobody waits for an answer any more.
    pub(super) fn forget(&mut self, id: EndId) {
        self.asking.remove(&id);
    }

    /// Whatever it is, all data arrives.
    fn budget(&mut self) -> Option<u64> {
        let is_limited = self.rng.random_bool(0.8);
        is_limited.then(|| self.rng.random_range(0..300_000))
    }

    fn mode(&mut self) -> ListenMode {
        match self.rng.random_range(0..4) {
            0 => ListenMode::Reject,
            1 => ListenMode::Limit(self.rng.random_range(0..30_000)),
            2 => ListenMode::Unlimited,
            _ => ListenMode::Inherit,
        }
    }
}

impl Actors {
    /// Does something with a subtree, perhaps.
    pub(super) fn tend_trees(&mut self, world: &mut World, host: HostIndex) {
        let Some(id) = recent(&self.ends, host, 0.1, &mut self.aside.trees.rng) else {
            return;
        };
        if self.aside.trees.is_cut(id) {
            return;
        }
        let end = &self.ends[id.0];
        let may_reset = self.plan.weights.reset > 0;
        if may_reset && self.aside.trees.rng.random_bool(0.2) {
            return self.reset_tree(world, id);
        }
        let stream = end.stream;
        if self.aside.trees.rng.random_bool(0.3) {
            let budget = self.aside.trees.budget();
            world.note(format_args!("h{} budget of {id:?}: {budget:?}", host.0));
            return world.call(host, |h, _| h.stream(stream).set_budget(budget));
        }
        let mode = self.aside.trees.mode();
        self.model.listens(id, mode);
        world.note(format_args!("h{} children of {id:?}: {mode:?}", host.0));
        world.call(host, |h, _| h.stream(stream).set_listen_mode(mode));
    }

    fn reset_tree(&mut self, world: &mut World, id: EndId) {
        self.tally.tree_resets += 1;
        let (code, cut) = self.model.reset_tree(id);
        let (host, stream) = (self.ends[id.0].host, self.ends[id.0].stream);
        world.note(format_args!(
            "h{} reset of the tree of {id:?} with {code}: {cut:?}",
            host.0
        ));
        world.call(host, |h, _| h.stream(stream).reset_tree(code, "tree reset at random"));
        for id in cut {
            let end = &mut self.ends[id.0];
            end.send = Send::Done;
            end.is_reading = false;
            self.aside.trees.forget(id);
            self.aside.trees.cut.insert(id);
        }
    }

    /// A direction was finished: asks whether the peer's application reads it, perhaps.
    pub(super) fn ask_if_read(&mut self, world: &mut World, id: EndId) {
        if self.aside.trees.rng.random_bool(0.4) {
            self.aside.trees.asking.insert(id);
            self.check_read(world, id);
        }
    }

    /// Looks whether the question is answered, if there is one.
    pub(super) fn check_read(&mut self, world: &mut World, id: EndId) {
        if !self.aside.trees.is_asking(id) {
            return;
        }
        let (host, peer, stream) = (self.ends[id.0].host, self.ends[id.0].peer, self.ends[id.0].stream);
        let answer = world.call(host, |h, _| h.stream(stream).poll_consumed());
        world.note(format_args!("h{} was {id:?} read? {answer:?}", host.0));
        let check = match &answer {
            Poll::Pending => return,
            Poll::Ready(Ok(())) => self.model.saw_consumed(id),
            Poll::Ready(Err(WriteError::Stopped { code, .. })) => self.model.saw_stop(id, *code),
            Poll::Ready(Err(WriteError::Refused(refusal))) => self.model.saw_stop(id, refusal.code()),
            Poll::Ready(Err(WriteError::Lost(reason))) => self.model.saw_loss(host, peer, reason),
            Poll::Ready(Err(WriteError::Closed)) => self.model.gave_up(id),
            Poll::Ready(Err(other)) => Err(format!("{id:?} meets an error that the model does not know: {other}")),
        };
        self.aside.trees.forget(id);
        self.tally.answers += 1;
        self.check(check);
    }
}
