//! Subtrees: which of their children may be refused, and what the reset of one explains.

use std::collections::BTreeSet;

use sss_proto::ListenMode;
use sss_wire::Code;

use super::EndId;
use super::flows::Flows;

/// A subtree that an application has reset.
#[derive(Clone, Debug)]
struct TreeReset {
    top: EndId,
    code: Code,
}

/// Everything that applications did with streams and those below them.
#[derive(Clone, Debug, Default)]
pub(super) struct Trees {
    resets: Vec<TreeReset>,
    /// Ends that their own application has reset with a subtree.
    cut: BTreeSet<EndId>,
    /// Ends of which children may be refused: always, or when they are too many.
    refusing: BTreeSet<EndId>,
    limiting: BTreeSet<EndId>,
}

impl Trees {
    pub(super) fn resets(&self) -> usize {
        self.resets.len()
    }

    pub(super) fn is_cut(&self, end: EndId) -> bool {
        self.cut.contains(&end)
    }

    pub(super) fn is_refusing(&self, end: EndId) -> bool {
        self.refusing.contains(&end)
    }

    pub(super) fn is_limiting(&self, end: EndId) -> bool {
        self.limiting.contains(&end)
    }

    /// The application says which children of the end may wait.
    pub(super) fn listens(&mut self, end: EndId, mode: ListenMode) {
        match mode {
            ListenMode::Reject => self.refusing.insert(end),
            ListenMode::Limit(_) => self.limiting.insert(end),
            _ => return,
        };
    }

    /// Notes that an application resets a stream with all below it. Returns its own ends of these streams.
    pub(super) fn reset(&mut self, flows: &Flows, top: EndId, code: Code) -> Vec<EndId> {
        self.resets.push(TreeReset { top, code });
        let below = (0..flows.ends.len()).map(EndId);
        let cut: Vec<EndId> = below
            .filter(|end| flows.lineage(*end).any(|above| above == top))
            .collect();
        self.cut.extend(&cut);
        cut
    }

    /// Returns whether the end is part of a subtree that was reset with this code, as far as can be known.
    pub(super) fn is_cut_with(&self, flows: &Flows, end: EndId, code: Code) -> bool {
        self.resets
            .iter()
            .any(|tree| tree.code == code && self.covers(flows, tree, end))
    }

    /// Returns whether the end is part of any subtree that was reset, as far as can be known.
    pub(super) fn is_in_reset_tree(&self, flows: &Flows, end: EndId) -> bool {
        self.resets.iter().any(|tree| self.covers(flows, tree, end))
    }

    fn covers(&self, flows: &Flows, tree: &TreeReset, end: EndId) -> bool {
        flows
            .lineage(end)
            .any(|above| above == tree.top || flows.may_be_opposite(above, tree.top))
    }

    /// Returns whether a child of the end's stream may be refused because of what the peer's application said of that
    /// stream, or of one above it.
    pub(super) fn may_be_unwelcome(
        &self,
        flows: &Flows,
        parent: EndId,
        is_reason: impl Fn(&Trees, EndId) -> bool,
    ) -> bool {
        flows.lineage(parent).any(|above| match flows.opposite(above) {
            Some(opposite) => is_reason(self, opposite),
            None => {
                let state = &flows.ends[above.0];
                let mut ends = (0..flows.ends.len()).map(EndId);
                ends.any(|e| is_reason(self, e) && flows.is_nameless(e, state.peer, state.host))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use sss_proto::CloseReason;

    use super::super::{Model, Opening, fill};
    use super::*;
    use crate::world::HostIndex;

    const A: HostIndex = HostIndex(0);
    const B: HostIndex = HostIndex(1);

    /// A stream of which both sides have read the other's number; below `parent`, if there is one.
    fn stream(model: &mut Model, parent: Option<(EndId, EndId)>) -> (EndId, EndId) {
        let opening = parent.map_or(Opening::TopLevel, |_| Opening::Substream);
        let a = model.open(A, B, parent.map(|p| p.0), opening);
        let b = model.open(B, A, parent.map(|p| p.1), Opening::Accepted);
        let mut data = [0; 8];
        fill(model.output(a).0, 0, &mut data);
        model.wrote(a, 8);
        model.saw_data(b, &data).unwrap();
        (a, b)
    }

    #[test]
    fn the_reset_of_a_subtree_explains_what_is_seen_below_and_nothing_beside() {
        let mut model = Model::default();
        let top = stream(&mut model, None);
        let middle = stream(&mut model, Some(top));
        let below = stream(&mut model, Some(middle));
        let beside = stream(&mut model, Some(top));
        let (code, cut) = model.reset_tree(middle.0);
        assert_eq!(cut, [middle.0, below.0]);
        for end in [middle.1, below.1] {
            model.saw_reset(end, code).unwrap();
            model.saw_stop(end, code).unwrap();
        }
        model.saw_tree_reset(below.1, code).unwrap();
        for end in [top.1, beside.1] {
            assert!(model.saw_reset(end, code).is_err());
            assert!(model.saw_stop(end, code).is_err());
            assert!(model.saw_tree_reset(end, code).is_err());
        }
        let reason = CloseReason::Peer {
            code,
            reason: String::new(),
        };
        model.saw_no_children(below.1, &reason).unwrap();
        assert!(model.saw_no_children(beside.1, &reason).is_err());
    }

    #[test]
    fn children_are_refused_only_where_somebody_said_so() {
        let mut model = Model::default();
        let top = stream(&mut model, None);
        let middle = stream(&mut model, Some(top));
        let child = model.open(A, B, Some(middle.0), Opening::Substream);
        assert!(model.saw_stop(child, Code::NO_LISTENER).is_err());
        model.listens(top.1, ListenMode::Limit(10));
        assert!(model.saw_stop(middle.1, Code::BACKLOG).is_err(), "it was accepted");
        model.saw_stop(child, Code::BACKLOG).unwrap();
        let other = model.open(A, B, Some(middle.0), Opening::Substream);
        assert!(model.saw_reset(other, Code::NO_LISTENER).is_err());
        model.listens(middle.1, ListenMode::Reject);
        model.saw_reset(other, Code::NO_LISTENER).unwrap();
    }

    #[test]
    fn what_was_not_read_to_the_end_was_not_consumed() {
        let mut model = Model::default();
        let (a, b) = stream(&mut model, None);
        assert!(model.saw_consumed(a).is_err(), "not finished");
        let (flow, at) = model.output(a);
        let mut data = [0; 10];
        fill(flow, at, &mut data);
        model.wrote(a, 10);
        model.finished(a);
        model.saw_data(b, &data[..9]).unwrap();
        assert!(model.saw_consumed(a).is_err(), "a byte is missing");
        model.saw_data(b, &data[9..]).unwrap();
        model.saw_consumed(a).unwrap();
    }
}
