//! The slots of a tree's streams.

use std::ops::{Index, IndexMut};

use super::node::Node;
use crate::ids::StreamKey;

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

/// Slots in pages, so that growing moves nothing, and no memory is held in reserve beyond a page.
#[derive(Debug, Default)]
pub(super) struct Table {
    pages: Vec<Vec<Option<Node>>>,
    free: Vec<u32>,
    slots: u32,
    generation: u32,
}

impl Table {
    /// How many streams there are.
    pub(super) fn len(&self) -> usize {
        self.slots as usize - self.free.len()
    }

    /// How many slots there are; each index below may hold a stream.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn insert(&mut self, mut node: Node) -> StreamKey {
        let generation = self.generation;
        self.generation = self.generation.wrapping_add(1);
        node.place.generation = generation;
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.slot_mut(index) {
                    *slot = Some(node);
                }
                index
            }
            None => self.push(node),
        };
        StreamKey { index, generation }
    }

    fn push(&mut self, node: Node) -> u32 {
        let index = self.slots;
        self.slots += 1;
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(Some(node)),
            _ => self.pages.push(vec![Some(node)]),
        }
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Node> {
        let node = self.slot_mut(index)?.take()?;
        self.free.push(index);
        Some(node)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Option<Node>> {
        self.pages
            .get_mut((index >> PAGE_BITS) as usize)?
            .get_mut(index as usize % PAGE)
    }

    pub(super) fn get(&self, index: u32) -> Option<&Node> {
        self.pages
            .get((index >> PAGE_BITS) as usize)?
            .get(index as usize % PAGE)?
            .as_ref()
    }

    /// The slot of the stream with this key, if it still exists.
    pub(super) fn find(&self, key: StreamKey) -> Option<u32> {
        (self.get(key.index)?.place.generation == key.generation).then_some(key.index)
    }

    /// The key of the stream in a slot.
    pub(super) fn key(&self, index: u32) -> StreamKey {
        StreamKey {
            index,
            generation: self[index].place.generation,
        }
    }
}

/// The stream in a slot. The slot is in use: it was just found by key or LSID, or it is the parent of a stream that
/// exists, which outlives its children.
impl Index<u32> for Table {
    type Output = Node;

    fn index(&self, index: u32) -> &Node {
        match self.get(index) {
            Some(node) => node,
            None => unreachable!("slot {index} of the stream table is not in use"),
        }
    }
}

impl IndexMut<u32> for Table {
    fn index_mut(&mut self, index: u32) -> &mut Node {
        match self.slot_mut(index) {
            Some(Some(node)) => node,
            _ => unreachable!("slot {index} of the stream table is not in use"),
        }
    }
}

#[cfg(test)]
impl Table {
    /// Bytes of memory that the slots take.
    pub(super) fn memory(&self) -> usize {
        let slots: usize = self
            .pages
            .iter()
            .map(|p| p.capacity() * size_of::<Option<Node>>())
            .sum();
        slots + self.pages.capacity() * size_of::<Vec<Option<Node>>>() + self.free.capacity() * 4
    }
}
