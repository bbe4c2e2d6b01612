//! Streams that wait for room to be opened.
//!
//! Those for one acceptor wait in a queue of their own, so that whoever has no room stops nobody else. Each queue is
//! listed at every stream whose account may be charged for it. When an account gets room, those listed there are looked
//! at in turn, and no more of them than there is room for: of those that are listed from further below all find room or
//! none does, because they share it (STR-59).

use std::collections::VecDeque;
use std::mem;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::lending::Acceptor;
use super::openings;
use crate::ids::StreamKey;
use crate::rare::Rare;
use crate::streams::tree::queue::KeyQueue;
use crate::streams::tree::table::Table;

/// Entries that a list may have before those that stand for nothing are looked for.
const SMALLEST: usize = 64;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Streams that wait to be opened: seldom any.
#[derive(Debug, Default)]
pub(crate) struct Openers(Rare<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    queues: Map<Acceptor, Queue>,
    /// By stream that may be charged: who may find room there. Never iterated, as the queues are not.
    lists: Map<StreamKey, Lists>,
    /// By stream that is to be opened first: who waits for that.
    behind: Map<StreamKey, KeyQueue>,
    /// Those that waited behind a stream that was opened.
    ready: VecDeque<StreamKey>,
    /// Streams whose accounts may have room again.
    due: VecDeque<StreamKey>,
    serial: u64,
    /// Searches for room for a stream.
    #[cfg(test)]
    looks: u64,
}

#[derive(Debug)]
struct Queue {
    keys: KeyQueue,
    /// Tells it from one that there was for the same acceptor before.
    serial: u64,
}

/// The queues of which the first stream may be charged to one account.
#[derive(Debug, Default)]
struct Lists {
    /// Of children of the stream.
    direct: List,
    /// Of streams further below.
    nested: List,
    /// Of datagrams further below.
    datagrams: List,
    is_due: bool,
}

#[derive(Debug, Default)]
struct List {
    entries: VecDeque<(Acceptor, u64)>,
    compact_at: usize,
    #[cfg(test)]
    looks: u64,
}

impl List {
    fn push(&mut self, entry: (Acceptor, u64), queues: &Map<Acceptor, Queue>) {
        if self.entries.len() >= self.compact_at.max(SMALLEST) {
            let is_there =
                |(acceptor, serial): &(Acceptor, u64)| queues.get(acceptor).is_some_and(|q| q.serial == *serial);
            self.entries.retain(is_there);
            self.compact_at = 2 * self.entries.len();
        }
        self.entries.push_back(entry);
    }

    /// The next stream that finds room. If `is_shared`, none does when one does not.
    fn next(&mut self, queues: &mut Map<Acceptor, Queue>, table: &Table, is_shared: bool) -> Option<StreamKey> {
        for _ in 0..self.entries.len() {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let (acceptor, serial) = self.entries.pop_front()?;
            let Some(queue) = queues.get_mut(&acceptor).filter(|q| q.serial == serial) else {
                continue;
            };
            let Some(key) = queue.first(table) else {
                queues.remove(&acceptor);
                continue;
            };
            let has_room = table.find(key).is_some_and(|index| openings::has_room(table, index));
            if has_room {
                queue.keys.pop();
                self.entries.push_back((acceptor, serial));
                return Some(key);
            }
            if is_shared {
                self.entries.push_front((acceptor, serial));
                return None;
            }
            self.entries.push_back((acceptor, serial));
        }
        None
    }
}

impl Queue {
    /// The first that still waits; those before it are dropped.
    fn first(&mut self, table: &Table) -> Option<StreamKey> {
        loop {
            let key = self.keys.front()?;
            if openings::waits_to_open(table, key) {
                return Some(key);
            }
            self.keys.pop();
        }
    }
}

impl Openers {
    /// Returns whether [`Self::next`] may find one.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.0.get().is_some_and(Waiting::is_due)
    }

    /// The account of a stream may have room, or be one that can be charged.
    #[inline]
    pub(crate) fn retry_at(&mut self, lender: StreamKey) {
        if let Some(waiting) = self.0.get_mut() {
            waiting.retry_at(lender);
        }
    }

    /// Lets a stream wait for room, in front of the others if it had its turn. Its acceptor is the same each time.
    pub(crate) fn wait(&mut self, key: StreamKey, acceptor: Acceptor, table: &Table, was_woken: bool) {
        self.0.make().wait(key, acceptor, table, was_woken);
    }

    /// Lets a stream wait until another is opened.
    pub(crate) fn wait_behind(&mut self, key: StreamKey, first: StreamKey, table: &Table) {
        self.0.make().wait_behind(key, first, table);
    }

    /// A stream is opened: those behind it can be.
    #[inline]
    pub(crate) fn on_opened(&mut self, first: StreamKey) {
        if let Some(waiting) = self.0.get_mut() {
            waiting.on_opened(first);
        }
    }

    /// The next that may be opened, for each account and each acceptor in turn.
    pub(crate) fn next(&mut self, table: &Table) -> Option<StreamKey> {
        self.0.get_mut()?.next(table)
    }

    /// A stream is no more, and has no children.
    #[inline]
    pub(crate) fn forget(&mut self, key: StreamKey) {
        if let Some(waiting) = self.0.get_mut() {
            waiting.forget(key);
        }
    }

    /// Gives back spare memory.
    pub(super) fn rest(&mut self) {
        self.0.rest(Waiting::is_empty);
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.lists.is_empty() && self.behind.is_empty() && !self.is_due()
    }

    #[inline]
    fn is_due(&self) -> bool {
        !self.due.is_empty() || !self.ready.is_empty()
    }

    fn retry_at(&mut self, lender: StreamKey) {
        if let Some(lists) = self.lists.get_mut(&lender)
            && !mem::replace(&mut lists.is_due, true)
        {
            self.due.push_back(lender);
        }
    }

    fn wait(&mut self, key: StreamKey, acceptor: Acceptor, table: &Table, was_woken: bool) {
        if !self.queues.contains_key(&acceptor) {
            self.serial += 1;
            let queue = Queue {
                keys: KeyQueue::default(),
                serial: self.serial,
            };
            self.queues.insert(acceptor.clone(), queue);
            self.list(key, &acceptor, table);
        }
        if let Some(queue) = self.queues.get_mut(&acceptor) {
            if was_woken {
                queue.keys.push_front(key);
            } else {
                queue.keys.push(key, |k| openings::waits_to_open(table, k));
            }
        }
    }

    /// Lists a new queue wherever its streams may be charged, now or later.
    fn list(&mut self, key: StreamKey, acceptor: &Acceptor, table: &Table) {
        let Some(index) = table.find(key) else {
            return;
        };
        for (above, levels) in openings::above(table, index) {
            let lists = self.lists.entry(table.key(above)).or_default();
            let list = match acceptor {
                _ if levels == 0 => &mut lists.direct,
                Acceptor::Datagrams(_) => &mut lists.datagrams,
                _ => &mut lists.nested,
            };
            list.push((acceptor.clone(), self.serial), &self.queues);
        }
    }

    fn wait_behind(&mut self, key: StreamKey, first: StreamKey, table: &Table) {
        let queue = self.behind.entry(first).or_default();
        queue.push(key, |k| openings::waits_to_open(table, k));
    }

    fn on_opened(&mut self, first: StreamKey) {
        if let Some(queue) = self.behind.remove(&first) {
            self.ready.extend(queue.drain());
        }
    }

    fn next(&mut self, table: &Table) -> Option<StreamKey> {
        while let Some(key) = self.ready.pop_front() {
            if openings::waits_to_open(table, key) {
                return Some(key);
            }
        }
        while let Some(lender) = self.due.pop_front() {
            let Some(lists) = self.lists.get_mut(&lender) else {
                continue;
            };
            let queues = &mut self.queues;
            let next = lists.direct.next(queues, table, false);
            let next = next.or_else(|| lists.nested.next(queues, table, true));
            let next = next.or_else(|| lists.datagrams.next(queues, table, true));
            #[cfg(test)]
            {
                self.looks += lists.take_looks();
            }
            if next.is_some() {
                self.due.push_back(lender);
                return next;
            }
            lists.is_due = false;
            let lists = [&lists.direct, &lists.nested, &lists.datagrams];
            if lists.into_iter().all(|list| list.entries.is_empty()) {
                self.lists.remove(&lender);
            }
        }
        None
    }

    fn forget(&mut self, key: StreamKey) {
        if !self.lists.is_empty() {
            self.lists.remove(&key);
            self.queues.remove(&Acceptor::Substreams(key));
            self.queues.remove(&Acceptor::Datagrams(key));
        }
        if !self.behind.is_empty() {
            self.behind.remove(&key);
        }
    }
}

#[cfg(test)]
impl Lists {
    fn take_looks(&mut self) -> u64 {
        let lists = [&mut self.direct, &mut self.nested, &mut self.datagrams];
        lists.into_iter().map(|list| mem::take(&mut list.looks)).sum()
    }
}

#[cfg(test)]
impl Openers {
    /// Returns whether nobody waits.
    pub(crate) fn is_unused(&self, table: &Table) -> bool {
        let Some(waiting) = self.0.get() else {
            return true;
        };
        let waits = |keys: &KeyQueue| keys.keys().any(|key| openings::waits_to_open(table, key));
        let queues = waiting.queues.values().map(|q| &q.keys).chain(waiting.behind.values());
        waiting.ready.is_empty() && !queues.into_iter().any(waits)
    }

    /// Searches for room for a stream.
    pub(crate) fn looks(&self) -> u64 {
        self.0.get().map_or(0, |waiting| waiting.looks)
    }
}

#[cfg(test)]
impl Openers {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        usize::from(self.0.get().is_some())
    }
}
