//! Events for the application.

use std::collections::VecDeque;

use super::tree::node::Flags;
use super::tree::table::Table;
use crate::ids::{DatagramId, StreamKey};
use crate::interest::Interest;
use crate::io::DatagramFate;

/// Something to be told to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    /// Something that was waited for has come, or never will.
    Ready(StreamKey, Interest),
    /// Fate of a datagram.
    DatagramSettled(DatagramId, DatagramFate),
}

/// Events that the application has not taken yet. One follows only if an operation answered "not yet".
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<StreamEvent>,
}

impl Events {
    /// Tells the application, if it waits for it.
    #[inline]
    pub(crate) fn notify(&mut self, table: &mut Table, index: u32, interest: Interest) {
        if table[index].take(Flags::waits_for(interest)) {
            self.queue.push_back(StreamEvent::Ready(table.key(index), interest));
        }
    }

    /// Tells the application whatever it waits for.
    pub(crate) fn notify_all(&mut self, table: &mut Table, index: u32) {
        for interest in table[index].interests() {
            self.notify(table, index, interest);
        }
    }

    /// Tells the application what became of a datagram.
    pub(crate) fn settled(&mut self, id: DatagramId, fate: DatagramFate) {
        self.queue.push_back(StreamEvent::DatagramSettled(id, fate));
    }

    /// Gives back spare memory.
    pub(crate) fn rest(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// The next event that still matters.
    #[inline]
    pub(crate) fn next(&mut self, table: &Table) -> Option<StreamEvent> {
        loop {
            let event = self.queue.pop_front()?;
            let is_held = |key| table.find(key).is_some_and(|i| table[i].has(Flags::HELD));
            match event {
                // The end of a stream is waited for also by those who do not hold it.
                StreamEvent::Ready(_, Interest::Drained) | StreamEvent::DatagramSettled(..) => return Some(event),
                StreamEvent::Ready(key, _) if is_held(key) => return Some(event),
                StreamEvent::Ready(..) => {}
            }
        }
    }
}

#[cfg(test)]
impl Events {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        self.queue.capacity()
    }
}
