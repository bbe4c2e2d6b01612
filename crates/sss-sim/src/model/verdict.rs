//! Refusals, and the account at the end: every flow that ended well was read to its end by somebody, or there is a reason.

use std::collections::BTreeMap;

use sss_wire::Code;

use super::trees::Trees;
use super::{Check, EndId, Flow, FlowId, Model, Opening, Reading};
use crate::world::HostIndex;

impl Model {
    /// Whether `code` refuses the stream of which `end` is the opener's end; notes it.
    ///
    /// # Errors
    /// If it is a code of refusal for which there is no reason.
    pub(super) fn is_refusal(&mut self, end: EndId, code: Code) -> Result<bool, String> {
        let state = &self.ends[end.0];
        let reason = match code {
            Code::REFUSED_SERVICE => state.opening == Opening::NoService,
            Code::REFUSED_PROTOCOL => state.opening == Opening::NoProtocol,
            Code::PARENT_GONE | Code::NO_LISTENER => self.parent_may_be_gone(end),
            Code::BACKLOG => self.may_be_too_many(end),
            Code::TOO_DEEP => false,
            _ => return Ok(false),
        };
        if !reason {
            return Err(format!(
                "{end:?} ({:?}) is refused with {code} for no reason",
                state.opening
            ));
        }
        self.ends[end.0].is_refused = true;
        Ok(true)
    }

    /// Whether the peer's application may have let go of the parent of the end's stream.
    fn parent_may_be_gone(&self, end: EndId) -> bool {
        let state = &self.ends[end.0];
        let (Opening::Substream, Some(parent)) = (state.opening, state.parent) else {
            return false;
        };
        let parent_state = &self.ends[parent.0];
        if parent_state.is_refused || self.may_be_refused(parent) || self.may_be_unwelcome(parent, Trees::is_refusing) {
            return true;
        }
        match self.opposite(parent) {
            Some(opposite) => self.ends[opposite.0].is_released,
            // Its other end is not known: any that the peer let go of unread may be it; or it was given up before it
            // was accepted.
            None => parent_state.is_released || self.nameless_gone(parent_state.peer, parent_state.host) > 0,
        }
    }

    /// Whether the peer's application limits how many children wait on a stream above the end's.
    fn may_be_too_many(&self, end: EndId) -> bool {
        let parent = self.ends[end.0].parent;
        parent.is_some_and(|parent| self.may_be_unwelcome(parent, Trees::is_limiting))
    }

    pub(super) fn may_be_refused(&self, end: EndId) -> bool {
        match self.ends[end.0].opening {
            Opening::NoService | Opening::NoProtocol => true,
            // One that was accepted cannot be refused any more.
            Opening::Substream => {
                self.opposite(end).is_none() && (self.parent_may_be_gone(end) || self.may_be_too_many(end))
            }
            Opening::TopLevel | Opening::Accepted => false,
        }
    }

    /// The other end of the end's stream, if it is known.
    pub fn opposite(&self, end: EndId) -> Option<EndId> {
        let input = self.ends[end.0].input?;
        self.flows.get(&input).map(|flow| flow.writer)
    }

    /// How many ends of `host` towards `peer` were given up, or have ended, before it was known which flow they read.
    pub(super) fn nameless_gone(&self, host: HostIndex, peer: HostIndex) -> usize {
        let is_gone = |(index, e): &(usize, &super::End)| {
            let is_cut = self.trees.is_cut(EndId(*index));
            let given_up = e.is_released || is_cut || e.stop.is_some() || e.reading != Reading::Open;
            e.input.is_none() && given_up && (e.host, e.peer) == (host, peer)
        };
        self.ends.iter().enumerate().filter(is_gone).count()
    }

    /// How many flows that were finished nobody has accounted for, and the first of them.
    ///
    /// Zero once all data that was handed over and not given up by somebody has reached its reader.
    pub fn unaccounted(&self) -> (usize, Option<String>) {
        let mut by_pair: BTreeMap<(HostIndex, HostIndex), Vec<FlowId>> = BTreeMap::new();
        let mut open = Vec::new();
        for (id, flow) in &self.flows {
            let writer = &self.ends[flow.writer.0];
            if self.is_excused(flow) {
                continue;
            }
            match flow.reader {
                Some(reader) if self.is_settled(reader) => {}
                Some(_) => open.push(*id),
                None => by_pair.entry((writer.host, writer.peer)).or_default().push(*id),
            }
        }
        for ((from, to), flows) in by_pair {
            let nameless = self.nameless_gone(to, from);
            open.extend(flows.into_iter().skip(nameless));
        }
        let first = open.first().map(|id| {
            let flow = &self.flows[id];
            let reader = flow.reader.map(|r| &self.ends[r.0]);
            format!("flow {id:x} is not read to its end: {flow:?}, reader {reader:?}")
        });
        (open.len(), first)
    }

    /// Whether a flow's data need not arrive.
    pub(super) fn is_excused(&self, flow: &Flow) -> bool {
        let writer = &self.ends[flow.writer.0];
        !flow.is_finished
            || flow.reset.is_some()
            || flow.is_stopped
            || writer.is_refused
            || self.is_in_reset_tree(flow.writer)
            || self.is_closed(writer.host, writer.peer)
            || (writer.opening != Opening::Accepted && self.may_be_refused(flow.writer))
    }

    /// Whether a reader has seen the end, or wanted no more.
    pub(super) fn is_settled(&self, reader: EndId) -> bool {
        let state = &self.ends[reader.0];
        state.reading != Reading::Open || state.stop.is_some() || state.is_released || self.trees.is_cut(reader)
    }

    /// Checks that nothing is unaccounted for.
    ///
    /// # Errors
    /// If data that was handed over, and that nobody gave up, did not reach its reader; or a datagram's sender does not know what became
    /// of it.
    pub fn check_complete(&self) -> Check {
        match self.unaccounted() {
            (0, _) => self.check_messages(),
            (count, first) => Err(format!("{count} flows unaccounted for; {}", first.unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests;
