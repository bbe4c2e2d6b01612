//! A stream with those below it: which children may be refused, what the reset of a subtree explains, and whether data was read.

use std::collections::BTreeSet;

use sss_proto::{CloseReason, ListenMode};
use sss_wire::Code;

use super::{Check, EndId, Model, Opening, Reading};
use crate::world::HostIndex;

/// A subtree that an application has reset.
#[derive(Clone, Debug)]
struct TreeReset {
    top: EndId,
    code: Code,
}

/// What applications did with streams and those below them.
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
}

impl Model {
    /// The application says which children of the end may wait.
    pub fn listens(&mut self, end: EndId, mode: ListenMode) {
        match mode {
            ListenMode::Reject => self.trees.refusing.insert(end),
            ListenMode::Limit(_) => self.trees.limiting.insert(end),
            _ => return,
        };
    }

    /// The end is going to reset its stream with all that is below it, with the code returned. Those are the application's ends of these
    /// streams.
    pub fn reset_tree(&mut self, top: EndId) -> (Code, Vec<EndId>) {
        let code = self.next_code();
        self.trees.resets.push(TreeReset { top, code });
        let below = (0..self.ends.len()).map(EndId);
        let cut: Vec<EndId> = below
            .filter(|end| self.lineage(*end).any(|above| above == top))
            .collect();
        self.trees.cut.extend(&cut);
        (code, cut)
    }

    /// An application sees that a stream was reset with a subtree.
    ///
    /// # Errors
    /// If the stream is part of no subtree that was reset with this code.
    pub fn saw_tree_reset(&self, end: EndId, code: Code) -> Check {
        match self.is_cut_with(end, code) {
            true => Ok(()),
            false => Err(format!("{end:?} is in no subtree that was reset with {code}")),
        }
    }

    /// No more children will come on the end.
    ///
    /// # Errors
    /// If nothing explains that.
    pub fn saw_no_children(&self, end: EndId, reason: &CloseReason) -> Check {
        if let CloseReason::Local { code, .. } | CloseReason::Peer { code, .. } = reason
            && self.is_cut_with(end, *code)
        {
            return Ok(());
        }
        let state = &self.ends[end.0];
        self.saw_loss(state.host, state.peer, reason)
    }

    /// The end was told that all of its flow was read.
    ///
    /// # Errors
    /// If it was not.
    pub fn saw_consumed(&self, end: EndId) -> Check {
        let writer = &self.ends[end.0];
        let flow = &self.flows[&writer.out];
        let has_read = |reader: &super::End| reader.read == flow.written && reader.reading != Reading::Reset;
        let is_read = match flow.reader {
            Some(reader) => has_read(&self.ends[reader.0]),
            None => {
                let mut ends = self.ends.iter();
                ends.any(|e| e.input.is_none() && (e.host, e.peer) == (writer.peer, writer.host) && has_read(e))
            }
        };
        match is_read && flow.is_finished {
            true => Ok(()),
            false => Err(format!("{end:?} is told that {flow:?} was read")),
        }
    }

    /// The end is told that nothing will be known of its flow, because it was given up.
    ///
    /// # Errors
    /// If it was not.
    pub fn gave_up(&self, end: EndId) -> Check {
        let flow = &self.flows[&self.ends[end.0].out];
        match flow.reset.is_some() || flow.is_dropped {
            true => Ok(()),
            false => Err(format!("{end:?} is said to have given up {flow:?}")),
        }
    }

    /// Whether the end is part of a subtree that was reset with this code, as far as can be known.
    pub(super) fn is_cut_with(&self, end: EndId, code: Code) -> bool {
        self.trees
            .resets
            .iter()
            .any(|tree| tree.code == code && self.covers(tree, end))
    }

    /// Whether the end is part of any subtree that was reset, as far as can be known.
    pub(super) fn is_in_reset_tree(&self, end: EndId) -> bool {
        self.trees.resets.iter().any(|tree| self.covers(tree, end))
    }

    fn covers(&self, tree: &TreeReset, end: EndId) -> bool {
        self.lineage(end)
            .any(|above| above == tree.top || self.may_be_opposite(above, tree.top))
    }

    /// Whether two ends are those of one stream, or may be: before either has read enough to know.
    fn may_be_opposite(&self, end: EndId, other: EndId) -> bool {
        let (a, b) = (&self.ends[end.0], &self.ends[other.0]);
        match (self.opposite(end), self.opposite(other)) {
            (None, None) => {
                let are_of_one_pair = (a.host, a.peer) == (b.peer, b.host);
                are_of_one_pair && (a.opening == Opening::Accepted) != (b.opening == Opening::Accepted)
            }
            (known, _) => known == Some(other),
        }
    }

    /// Whether a child of the end's stream may be refused because of what the peer's application said of that stream, or of one above it.
    pub(super) fn may_be_unwelcome(&self, parent: EndId, is_reason: impl Fn(&Trees, EndId) -> bool) -> bool {
        self.lineage(parent).any(|above| match self.opposite(above) {
            Some(opposite) => is_reason(&self.trees, opposite),
            None => {
                let state = &self.ends[above.0];
                let mut ends = (0..self.ends.len()).map(EndId);
                ends.any(|e| is_reason(&self.trees, e) && self.is_nameless(e, state.peer, state.host))
            }
        })
    }

    /// Whether it is an end of a host towards another, of which it is not known yet which flow it reads.
    fn is_nameless(&self, end: EndId, host: HostIndex, peer: HostIndex) -> bool {
        let state = &self.ends[end.0];
        state.input.is_none() && (state.host, state.peer) == (host, peer)
    }

    /// The end, and those of the same host above it.
    pub(super) fn lineage(&self, end: EndId) -> impl Iterator<Item = EndId> {
        std::iter::successors(Some(end), |at| self.ends[at.0].parent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fill;
    use super::*;

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
