//! Streams: what may end one early, or refuse it, and whether all that was written has come to its reader.

use std::collections::BTreeMap;

use sss_proto::{CloseReason, ListenMode};
use sss_wire::Code;

use super::flows::{End, Flow, Flows, Reading};
use super::trees::Trees;
use super::{Check, EndId, FlowId, Opening};
use crate::world::HostIndex;

/// The flows of a world, and what applications did that explains their ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    pub(super) flows: Flows,
    pub(super) trees: Trees,
    /// Ends that gave each of the codes, which are all different.
    codes: BTreeMap<u64, EndId>,
    /// Channels that an application closed: (smaller host, larger host), and how often.
    closed: BTreeMap<(HostIndex, HostIndex), u32>,
}

/// Actions and observations of applications.
impl Streams {
    /// The application says which children of the end may wait.
    pub(super) fn listens(&mut self, end: EndId, mode: ListenMode) {
        self.trees.listens(end, mode);
    }

    /// The end is going to reset its stream with all below it. Returns the code, and the application's ends of these
    /// streams.
    pub(super) fn reset_tree(&mut self, top: EndId) -> (Code, Vec<EndId>) {
        let code = self.next_code();
        (code, self.trees.reset(&self.flows, top, code))
    }

    /// The end is going to reset its flow, with the code returned.
    pub(super) fn reset(&mut self, end: EndId) -> Code {
        let code = self.new_code(end);
        self.flows.flow_of(end).reset.get_or_insert(code);
        code
    }

    /// The end is going to stop the flow that it reads, with the code returned.
    pub(super) fn stop(&mut self, end: EndId) -> Code {
        let code = self.new_code(end);
        self.flows.ends[end.0].stop.get_or_insert(code);
        code
    }

    /// An application closes the channel between two hosts.
    pub(super) fn closed(&mut self, a: HostIndex, b: HostIndex) {
        *self.closed.entry((a.min(b), a.max(b))).or_default() += 1;
    }

    fn new_code(&mut self, end: EndId) -> Code {
        let code = self.next_code();
        self.codes.insert(code.value(), end);
        code
    }

    /// A code that was not used before.
    fn next_code(&self) -> Code {
        let used = self.codes.len() + self.trees.resets();
        Code::app(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// The end was told that the flow it reads was reset.
    ///
    /// # Errors
    /// If the writer did nothing that explains it.
    pub(super) fn saw_reset(&mut self, end: EndId, code: Code) -> Check {
        self.flows.ends[end.0].reading = Reading::Reset;
        if self.is_refusal(end, code)? || self.trees.is_cut_with(&self.flows, end, code) {
            return Ok(());
        }
        if self.flows.ends[end.0].input.is_none() {
            match self.codes.get(&code.value()) {
                Some(writer) => self.flows.identify(end, self.flows.ends[writer.0].out)?,
                None if code == Code::DROPPED => return self.flows.check_some_dropped(end),
                None => {}
            }
        }
        let flow = self.flows.ends[end.0].input.and_then(|id| self.flows.flows.get(&id));
        let by_code = |f: &Flow| f.reset == Some(code) || (f.is_dropped && code == Code::DROPPED);
        if flow.is_some_and(by_code) {
            Ok(())
        } else {
            Err(format!(
                "{end:?} sees a reset with {code} that its writer did not make: {flow:?}"
            ))
        }
    }

    /// The end was told that the peer does not want its flow.
    ///
    /// # Errors
    /// If the reader did nothing that explains it.
    pub(super) fn saw_stop(&mut self, end: EndId, code: Code) -> Check {
        self.flows.flow_of(end).is_stopped = true;
        if self.is_refusal(end, code)? || self.trees.is_cut_with(&self.flows, end, code) {
            return Ok(());
        }
        let state = &self.flows.ends[end.0];
        let by = |reader: &End| reader.stop == Some(code) || (reader.is_released && code == Code::UNREAD);
        let explained = match self.flows.flows[&state.out].reader {
            Some(reader) => by(&self.flows.ends[reader.0]),
            None => {
                let mut ends = self.flows.ends.iter();
                ends.any(|e| e.input.is_none() && (e.host, e.peer) == (state.peer, state.host) && by(e))
            }
        };
        if explained {
            Ok(())
        } else {
            Err(format!("{end:?} is stopped with {code}, which its reader did not do"))
        }
    }

    /// The end, or the host's channel to the peer, was lost.
    ///
    /// # Errors
    /// If nobody closed a channel between the two hosts.
    pub(super) fn saw_loss(&self, host: HostIndex, peer: HostIndex, reason: &CloseReason) -> Check {
        if self.is_closed(host, peer) {
            return Ok(());
        }
        Err(format!("h{} lost its channel to h{}: {reason}", host.0, peer.0))
    }

    /// Returns whether a channel between two hosts was ever closed by an application.
    pub(super) fn is_closed(&self, a: HostIndex, b: HostIndex) -> bool {
        self.closed.contains_key(&(a.min(b), a.max(b)))
    }

    /// An application sees that a stream was reset with a subtree.
    ///
    /// # Errors
    /// If the stream is part of no subtree that was reset with this code.
    pub(super) fn saw_tree_reset(&self, end: EndId, code: Code) -> Check {
        match self.trees.is_cut_with(&self.flows, end, code) {
            true => Ok(()),
            false => Err(format!("{end:?} is in no subtree that was reset with {code}")),
        }
    }

    /// No more children will come on the end.
    ///
    /// # Errors
    /// If nothing explains that.
    pub(super) fn saw_no_children(&self, end: EndId, reason: &CloseReason) -> Check {
        if let CloseReason::Local { code, .. } | CloseReason::Peer { code, .. } = reason
            && self.trees.is_cut_with(&self.flows, end, *code)
        {
            return Ok(());
        }
        let state = &self.flows.ends[end.0];
        self.saw_loss(state.host, state.peer, reason)
    }

    /// Returns whether `code` refuses the stream of which `end` is the opener's end; notes it.
    ///
    /// # Errors
    /// If it is a code of refusal for which there is no reason.
    fn is_refusal(&mut self, end: EndId, code: Code) -> Result<bool, String> {
        let state = &self.flows.ends[end.0];
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
        self.flows.ends[end.0].is_refused = true;
        Ok(true)
    }

    /// Returns whether the peer's application may have let go of the parent of the end's stream.
    fn parent_may_be_gone(&self, end: EndId) -> bool {
        let state = &self.flows.ends[end.0];
        let (Opening::Substream, Some(parent)) = (state.opening, state.parent) else {
            return false;
        };
        let parent_state = &self.flows.ends[parent.0];
        if parent_state.is_refused
            || self.may_be_refused(parent)
            || self.trees.may_be_unwelcome(&self.flows, parent, Trees::is_refusing)
        {
            return true;
        }
        match self.flows.opposite(parent) {
            Some(opposite) => self.flows.ends[opposite.0].is_released,
            // Its other end is not known: any that the peer let go of unread may be it; or it was given up before it
            // was accepted.
            None => parent_state.is_released || self.nameless_gone(parent_state.peer, parent_state.host) > 0,
        }
    }

    /// Returns whether the peer's application limits how many children wait on a stream above the end's.
    fn may_be_too_many(&self, end: EndId) -> bool {
        let parent = self.flows.ends[end.0].parent;
        parent.is_some_and(|parent| self.trees.may_be_unwelcome(&self.flows, parent, Trees::is_limiting))
    }

    pub(super) fn may_be_refused(&self, end: EndId) -> bool {
        match self.flows.ends[end.0].opening {
            Opening::NoService | Opening::NoProtocol => true,
            // One that was accepted cannot be refused any more.
            Opening::Substream => {
                self.flows.opposite(end).is_none() && (self.parent_may_be_gone(end) || self.may_be_too_many(end))
            }
            Opening::TopLevel | Opening::Accepted => false,
        }
    }

    /// Counts how many ends of `host` towards `peer` were given up, or have ended, before it was known which flow they
    /// read.
    pub(super) fn nameless_gone(&self, host: HostIndex, peer: HostIndex) -> usize {
        let is_gone = |(index, e): &(usize, &End)| {
            let is_cut = self.trees.is_cut(EndId(*index));
            let given_up = e.is_released || is_cut || e.stop.is_some() || e.reading != Reading::Open;
            e.input.is_none() && given_up && (e.host, e.peer) == (host, peer)
        };
        self.flows.ends.iter().enumerate().filter(is_gone).count()
    }

    /// Counts how many flows that were finished nobody has accounted for, and the first of them.
    ///
    /// Zero once all data that was handed over and not given up by somebody has reached its reader.
    pub(super) fn unaccounted(&self) -> (usize, Option<String>) {
        let mut by_pair: BTreeMap<(HostIndex, HostIndex), Vec<FlowId>> = BTreeMap::new();
        let mut open = Vec::new();
        for (id, flow) in &self.flows.flows {
            let writer = &self.flows.ends[flow.writer.0];
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
            let flow = &self.flows.flows[id];
            let reader = flow.reader.map(|r| &self.flows.ends[r.0]);
            format!("flow {id:x} is not read to its end: {flow:?}, reader {reader:?}")
        });
        (open.len(), first)
    }

    /// Returns whether a flow's data need not arrive.
    pub(super) fn is_excused(&self, flow: &Flow) -> bool {
        let writer = &self.flows.ends[flow.writer.0];
        !flow.is_finished
            || flow.reset.is_some()
            || flow.is_stopped
            || writer.is_refused
            || self.trees.is_in_reset_tree(&self.flows, flow.writer)
            || self.is_closed(writer.host, writer.peer)
            || (writer.opening != Opening::Accepted && self.may_be_refused(flow.writer))
    }

    /// Returns whether a reader has seen the end, or wanted no more.
    pub(super) fn is_settled(&self, reader: EndId) -> bool {
        let state = &self.flows.ends[reader.0];
        state.reading != Reading::Open || state.stop.is_some() || state.is_released || self.trees.is_cut(reader)
    }

    /// The end was told that no more children will come.
    ///
    /// # Errors
    /// If the peer's application still holds the stream, or a child that it had opened was not given.
    pub(super) fn saw_no_more_children(&self, end: EndId) -> Check {
        let Some(opposite) = self.released_opposite(end)? else {
            return Ok(());
        };
        let may_refuse = |e| self.trees.is_refusing(e) || self.trees.is_limiting(e);
        if self.may_be_cut_off(end) || self.flows.lineage(end).any(may_refuse) {
            return Ok(());
        }
        let children = |parent| {
            let all = (0..self.flows.ends.len()).map(EndId);
            all.filter(move |e| self.flows.ends[e.0].parent == Some(parent))
        };
        let is_accepted = |e: &EndId| self.flows.ends[e.0].opening == Opening::Accepted;
        let accepted = children(end).filter(is_accepted).count();
        let opened = children(opposite).filter(|e| !is_accepted(e));
        let (opened, certain) = opened.fold((0, 0), |(all, certain), e| {
            (all + 1, certain + usize::from(!self.may_be_unheard_of(e)))
        });
        match (certain..=opened).contains(&accepted) {
            true => Ok(()),
            false => Err(format!(
                "{end:?} is told that no child comes after {accepted}, {opposite:?} has opened {opened}, given up {}",
                opened - certain
            )),
        }
    }

    /// Returns whether the end must learn that nothing more comes on it.
    pub(super) fn must_see_no_more(&self, end: EndId) -> bool {
        let state = &self.flows.ends[end.0];
        let is_gone = match self.flows.opposite(end) {
            Some(opposite) => self.flows.ends[opposite.0].is_released,
            None => state.is_refused,
        };
        is_gone && !state.is_released && !self.may_be_cut_off(end)
    }

    pub(super) fn may_be_cut_off(&self, end: EndId) -> bool {
        let state = &self.flows.ends[end.0];
        self.trees.is_in_reset_tree(&self.flows, end) || self.is_closed(state.host, state.peer)
    }

    /// The other end, if it is known; its application must have let go of it.
    pub(super) fn released_opposite(&self, end: EndId) -> Result<Option<EndId>, String> {
        let state = &self.flows.ends[end.0];
        let is_refused = state.is_refused || (state.opening != Opening::Accepted && self.may_be_refused(end));
        match self.flows.opposite(end) {
            Some(opposite) if self.flows.ends[opposite.0].is_released => Ok(Some(opposite)),
            // STR-44: it was refused with the code of a subtree that was reset.
            None if is_refused || self.trees.is_in_reset_tree(&self.flows, end) => Ok(None),
            None if self.nameless_gone(state.peer, state.host) > 0 => Ok(None),
            opposite => Err(format!(
                "{end:?} is told that no more comes, of {opposite:?} which is held"
            )),
        }
    }

    /// Returns whether a stream may have been given up before its INIT was sent (STR-2, STR-43).
    fn may_be_unheard_of(&self, end: EndId) -> bool {
        let flow = &self.flows.flows[&self.flows.ends[end.0].out];
        self.trees.is_cut(end) || (self.flows.ends[end.0].is_released && (flow.is_dropped || flow.reset.is_some()))
    }

    /// Returns whether the peer may refuse a datagram on the stream of `sender`.
    pub(super) fn may_refuse_messages(&self, sender: EndId, code: Code) -> bool {
        let is_code = matches!(code, Code::NO_LISTENER | Code::PARENT_GONE);
        let state = &self.flows.ends[sender.0];
        let is_refused = state.is_refused || (state.opening != Opening::Accepted && self.may_be_refused(sender));
        let is_gone = match self.flows.opposite(sender) {
            Some(opposite) => self.flows.ends[opposite.0].is_released,
            None => state.is_released || self.nameless_gone(state.peer, state.host) > 0,
        };
        // STR-44
        let is_retired = self.trees.is_in_reset_tree(&self.flows, sender) && code == Code::PARENT_GONE;
        is_code && (is_refused || is_gone) || is_retired
    }
}
