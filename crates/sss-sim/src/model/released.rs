//! Whether more can come on a stream: nothing that the peer's application had opened or sent is missing when its end is told, and it is told
//! whenever that application has let go.

use sss_proto::DatagramFate;

use super::{Check, EndId, Model, Opening};

impl Model {
    /// The end was told that no more children will come.
    ///
    /// # Errors
    /// If the peer's application still holds the stream, or a child that it had opened was not given.
    pub(crate) fn saw_no_more_children(&self, end: EndId) -> Check {
        let Some(opposite) = self.released_opposite(end)? else {
            return Ok(());
        };
        let may_refuse = |e| self.trees.is_refusing(e) || self.trees.is_limiting(e);
        if self.may_be_cut_off(end) || self.lineage(end).any(may_refuse) {
            return Ok(());
        }
        let children = |parent| {
            let all = (0..self.ends.len()).map(EndId);
            all.filter(move |e| self.ends[e.0].parent == Some(parent))
        };
        let is_accepted = |e: &EndId| self.ends[e.0].opening == Opening::Accepted;
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

    /// Whether a stream may have been given up before its INIT was sent (STR-2, STR-43).
    fn may_be_unheard_of(&self, end: EndId) -> bool {
        let flow = &self.flows[&self.ends[end.0].out];
        self.trees.is_cut(end) || (self.ends[end.0].is_released && (flow.is_dropped || flow.reset.is_some()))
    }

    /// The end was told that no more datagrams will come.
    ///
    /// # Errors
    /// If the peer's application still holds the stream, or a datagram that had to arrive was not given.
    pub(crate) fn saw_no_more_messages(&self, end: EndId) -> Check {
        let Some(opposite) = self.released_opposite(end)? else {
            return Ok(());
        };
        match self.missing_message(opposite) {
            Some(message) if !self.may_be_cut_off(end) => {
                Err(format!("{end:?} is told that none comes after {message}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the end must learn that nothing more comes on it.
    pub(crate) fn must_see_no_more(&self, end: EndId) -> bool {
        let state = &self.ends[end.0];
        let is_gone = match self.opposite(end) {
            Some(opposite) => self.ends[opposite.0].is_released,
            None => state.is_refused,
        };
        is_gone && !state.is_released && !self.may_be_cut_off(end)
    }

    fn may_be_cut_off(&self, end: EndId) -> bool {
        let state = &self.ends[end.0];
        self.is_in_reset_tree(end) || self.is_closed(state.host, state.peer)
    }

    /// The other end, if it is known; its application must have let go of it.
    fn released_opposite(&self, end: EndId) -> Result<Option<EndId>, String> {
        let state = &self.ends[end.0];
        let is_refused = state.is_refused || (state.opening != Opening::Accepted && self.may_be_refused(end));
        match self.opposite(end) {
            Some(opposite) if self.ends[opposite.0].is_released => Ok(Some(opposite)),
            None if is_refused || self.nameless_gone(state.peer, state.host) > 0 => Ok(None),
            opposite => Err(format!(
                "{end:?} is told that no more comes, of {opposite:?} which is held"
            )),
        }
    }

    /// A datagram of the end that had to arrive and did not.
    fn missing_message(&self, sender: EndId) -> Option<String> {
        let mut all = self.messages.all().iter();
        let is_missing = |m: &&super::messages::Message| {
            let may_arrive = matches!(m.fate(), None | Some(DatagramFate::Delivered));
            m.sender() == sender && m.must_arrive() && may_arrive
        };
        all.find(is_missing).map(|m| format!("{m:?}"))
    }
}
