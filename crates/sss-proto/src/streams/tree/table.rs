//! The slots of a tree's streams.

use std::ops::{Index, IndexMut};

use crate::ids::StreamKey;
use crate::streams::tree::index::ROOT;
use crate::streams::tree::node::Node;

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

/// Slots in pages, so that growing moves nothing, and no memory is held in reserve beyond a page. A page without
/// streams takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pages: Vec<Page>,
    /// The pages that have room for another stream. The last of them is filled next.
    open: Vec<u32>,
    len: usize,
    generation: u32,
}

/// Number of slots up to which a page grows by one.
const FEW: usize = 4;

/// At most [`PAGE`] slots, and those of them that are free. Grows as it is filled for the first time.
#[derive(Debug, Default)]
struct Page {
    slots: Vec<Option<Node>>,
    free: Vec<u16>,
}

impl Page {
    fn is_full(&self) -> bool {
        self.slots.len() == PAGE && self.free.is_empty()
    }

    fn insert(&mut self, node: Node) -> usize {
        match self.free.pop().map(usize::from) {
            Some(at) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    *slot = Some(node);
                }
                at
            }
            None => {
                // Most trees have a stream or two: four slots at once would be half a kilobyte.
                if self.slots.len() < FEW {
                    self.slots.reserve_exact(1);
                }
                self.slots.push(Some(node));
                self.slots.len() - 1
            }
        }
    }

    /// Gives back spare memory behind its last stream.
    fn rest(&mut self) {
        let last = self.slots.iter().rposition(Option::is_some);
        self.slots.truncate(last.map_or(0, |last| last + 1));
        self.slots.shrink_to_fit();
        self.free.retain(|at| usize::from(*at) < self.slots.len());
        self.free.shrink_to_fit();
    }

    fn remove(&mut self, at: usize) -> Option<Node> {
        let node = self.slots.get_mut(at)?.take()?;
        self.free.push(at as u16);
        if self.free.len() == self.slots.len() {
            *self = Self::default();
        }
        Some(node)
    }
}

impl Table {
    /// Returns how many streams there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many slots there are; each index below may hold a stream.
    pub(crate) fn slots(&self) -> u32 {
        let last = self.pages.last().map_or(0, |page| page.slots.len());
        (self.pages.len().saturating_sub(1) * PAGE + last) as u32
    }

    /// Gives back spare memory, if there are few streams. The first of them is the root, which stays.
    pub(crate) fn rest(&mut self) {
        if self.len > FEW || self.get(ROOT).is_none() {
            return;
        }
        let last = self.pages.iter().rposition(|page| !page.slots.is_empty());
        self.pages.truncate(last.map_or(0, |last| last + 1));
        self.pages.shrink_to_fit();
        self.pages.iter_mut().for_each(Page::rest);
        let open = (0..).zip(&self.pages).filter(|(_, page)| !page.is_full());
        self.open = open.map(|(number, _)| number).collect();
        self.open.shrink_to_fit();
    }

    pub(crate) fn insert(&mut self, mut node: Node) -> StreamKey {
        let generation = self.generation;
        self.generation = self.generation.wrapping_add(1);
        node.place.generation = generation;
        if self.open.is_empty() {
            self.open.push(self.pages.len() as u32);
            if self.pages.is_empty() {
                self.pages.reserve_exact(1);
            }
            self.pages.push(Page::default());
        }
        let number = self.open.last().copied().unwrap_or_default();
        let mut index = number << PAGE_BITS;
        if let Some(page) = self.pages.get_mut(number as usize) {
            index += page.insert(node) as u32;
            if page.is_full() {
                self.open.pop();
            }
            self.len += 1;
        }
        StreamKey { index, generation }
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Node> {
        let number = index >> PAGE_BITS;
        let page = self.pages.get_mut(number as usize)?;
        let was_full = page.is_full();
        let node = page.remove(index as usize % PAGE)?;
        if was_full {
            self.open.push(number);
        }
        self.len -= 1;
        Some(node)
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Option<Node>> {
        let page = self.pages.get_mut((index >> PAGE_BITS) as usize)?;
        page.slots.get_mut(index as usize % PAGE)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&Node> {
        let page = self.pages.get((index >> PAGE_BITS) as usize)?;
        page.slots.get(index as usize % PAGE)?.as_ref()
    }

    /// The slot of the stream with this key, if it still exists.
    #[inline]
    pub(crate) fn find(&self, key: StreamKey) -> Option<u32> {
        (self.get(key.index)?.place.generation == key.generation).then_some(key.index)
    }

    /// The key of the stream in a slot.
    #[inline]
    pub(crate) fn key(&self, index: u32) -> StreamKey {
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

    #[inline]
    fn index(&self, index: u32) -> &Node {
        match self.get(index) {
            Some(node) => node,
            None => unreachable!("slot {index} of the stream table is not in use"),
        }
    }
}

impl IndexMut<u32> for Table {
    #[inline]
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
    pub(crate) fn memory(&self) -> usize {
        let page = |p: &Page| p.slots.capacity() * size_of::<Option<Node>>() + p.free.capacity() * size_of::<u16>();
        let pages: usize = self.pages.iter().map(page).sum();
        pages + self.pages.capacity() * size_of::<Page>() + self.open.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::streams::tree::index::NONE;
    use crate::streams::tree::node::Opener;

    fn node(ordinal: u64) -> Node {
        let mut node = Node::new(NONE, 0, Opener::Own, None);
        node.ordinal = ordinal;
        node
    }

    #[test]
    fn a_table_gives_back_the_slots_behind_the_last_stream_when_there_are_few() {
        let mut table = Table::default();
        let root = table.insert(node(0));
        for round in 0..3 {
            let keys: Vec<_> = (1..=3 * PAGE as u64).map(|n| (table.insert(node(n)), n)).collect();
            let (many, few) = keys.split_at(keys.len() - FEW);
            for (key, _) in many {
                table.remove(key.index);
            }
            let memory = table.memory();
            table.rest();
            assert_eq!(table.memory(), memory, "round {round}: not many are gone");
            table.remove(few[0].0.index);
            let kept = &few[1..];
            for left in (0..kept.len()).rev() {
                table.rest();
                assert_eq!(table.slots(), kept[left].0.index + 1, "round {round}");
                for (key, ordinal) in &kept[..=left] {
                    assert_eq!(table.find(*key).map(|index| table[index].ordinal), Some(*ordinal));
                }
                table.remove(kept[left].0.index);
            }
            table.rest();
            assert!(table.memory() < 256, "round {round}: {}", table.memory());
            assert_eq!((table.len(), table.slots(), table.find(root)), (1, 1, Some(ROOT)));
            let next = table.insert(node(1));
            assert_eq!(next.index, 1);
            assert!(keys.iter().all(|(key, _)| table.find(*key).is_none()));
            table.remove(next.index);
        }
    }

    #[test]
    fn random_streams_come_and_go() {
        for seed in 0..4 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut highest = 0;
            for step in 0..40_000_u64 {
                // Fills several pages, then empties them, and so on.
                let grows = (step / 8000).is_multiple_of(2);
                if rng.random_ratio(if grows { 3 } else { 1 }, 4) {
                    let key = table.insert(node(step));
                    assert!(model.insert(key.index, (key, step)).is_none(), "seed {seed}");
                } else if let Some((index, (key, ordinal))) = {
                    let at = rng.random_range(0..=table.slots());
                    model.range(at..).next().map(|(i, v)| (*i, *v))
                } {
                    assert_eq!(table.find(key), Some(index));
                    assert_eq!(table.remove(index).map(|n| n.ordinal), Some(ordinal));
                    assert!(table.find(key).is_none() && table.remove(index).is_none());
                    model.remove(&index);
                }
                assert_eq!(table.len(), model.len());
                highest = highest.max(table.memory());
            }
            for (index, (key, ordinal)) in &model {
                assert!(table.key(*index) == *key && table[*index].ordinal == *ordinal);
                assert!(*index < table.slots());
            }
            assert!(highest > 2 * PAGE * size_of::<Option<Node>>(), "seed {seed}: {highest}");
            for index in model.keys() {
                table.remove(*index);
            }
            assert!(table.memory() < 1024, "seed {seed}: {}", table.memory());
        }
    }
}
