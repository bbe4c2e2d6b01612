//! Walks through subtrees that were reset (STR-43, STR-44).
//!
//! Whoever resets, and whoever receives such a RESET, goes through the subtree as it sees it, and ends both directions
//! of each stream; what is opened below while that is under way is refused. A walk through many streams goes on in
//! steps, so that nobody waits for it; its place is moved on when the stream there is retired.

use crate::ids::StreamKey;
use crate::rare::Rare;
use crate::streams::tree::table::Table;

/// The walks under way, one after another.
#[derive(Debug, Default)]
pub(crate) struct Walks(Rare<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    /// The uppermost streams of those that have not begun.
    waiting: Vec<StreamKey>,
    /// The one under way: its uppermost stream, and the next to go through.
    current: Option<(u32, u32)>,
}

impl UnderWay {
    fn next(&mut self, table: &Table) -> Option<u32> {
        let (top, at) = self.current.or_else(|| self.next_walk(table))?;
        self.current = table.next_in(top, at).map(|next| (top, next));
        Some(at)
    }

    fn next_walk(&mut self, table: &Table) -> Option<(u32, u32)> {
        loop {
            let key = self.waiting.pop()?;
            if let Some(index) = table.find(key) {
                return Some((index, index));
            }
        }
    }

    fn is_over(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }
}

impl Walks {
    pub(crate) fn is_idle(&self) -> bool {
        self.0.get().is_none_or(UnderWay::is_over)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Goes through a stream and all that are below it.
    pub(crate) fn begin(&mut self, top: StreamKey) {
        self.0.make().waiting.push(top);
    }

    /// The stream that is next. It may be retired before this is called again.
    pub(crate) fn next(&mut self, table: &Table) -> Option<u32> {
        let next = self.0.get_mut()?.next(table);
        self.0.rest(UnderWay::is_over);
        next
    }

    /// A stream without children is about to be retired.
    pub(crate) fn leave(&mut self, table: &Table, index: u32) {
        if let Some(walks) = self.0.get_mut()
            && let Some((top, at)) = walks.current
            && at == index
        {
            walks.current = table.next_beyond(top, at).map(|next| (top, next));
        }
    }
}
