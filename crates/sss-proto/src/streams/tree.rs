//! The tree: the streams, where each is in it, and the names by which the peer knows them. Knows no frame.

pub(super) mod credit;
pub(super) mod ends;
pub(super) mod extras;
pub(super) mod family;
pub(super) mod index;
pub(super) mod lsids;
pub(super) mod names;
pub(super) mod node;
pub(super) mod opened;
pub(super) mod queue;
pub(super) mod table;

use std::ops::{Index, IndexMut};

use crate::ids::StreamKey;
use index::ROOT;
use lsids::{Found, LsidMap};
use names::NameCache;
use node::{Flags, Node};
use table::Table;

/// The streams of one peer, and their names.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) table: Table,
    pub(super) lsids: LsidMap,
    pub(super) names: NameCache,
}

impl Tree {
    /// A tree of nothing but its root. `seed` is for the map of LSIDs, so that a peer cannot choose colliding ones.
    pub(super) fn new(root: Node, seed: u64) -> Self {
        let mut table = Table::default();
        table.insert(root);
        Self {
            table,
            lsids: LsidMap::new(seed),
            names: NameCache::default(),
        }
    }

    /// Gives back spare memory, if there are few streams.
    pub(super) fn rest(&mut self) {
        self.table.rest();
        self.lsids.rest();
        if self.table.len() == 1 {
            self.names = NameCache::default();
        }
    }

    #[inline]
    pub(super) fn key(&self, index: u32) -> StreamKey {
        self.table.key(index)
    }

    /// The slot of the stream with this key, if it still exists.
    #[inline]
    pub(super) fn find(&self, key: StreamKey) -> Option<u32> {
        self.table.find(key)
    }

    /// The slot of a stream that the application holds.
    #[inline]
    pub(super) fn held(&self, key: StreamKey) -> Option<u32> {
        let index = self.table.find(key)?;
        (self[index].has(Flags::HELD) && index != ROOT).then_some(index)
    }

    /// Returns what an LSID names.
    #[inline]
    pub(super) fn locate(&self, lsid: u64) -> Found {
        self.lsids.find(&self.table, lsid)
    }

    /// The stream's LSID; for one that is not announced yet, that which it has when it is announced next.
    #[inline]
    pub(super) fn lsid(&self, index: u32) -> u64 {
        if index == ROOT {
            return 0;
        }
        let node = &self[index];
        let is_named = node.has(Flags::ANNOUNCED);
        let ordinal = if is_named { node.ordinal } else { self.lsids.next() };
        self.lsids.lsid(node.place.opener, ordinal)
    }

    /// This host announces a stream: it has a name from now on.
    pub(super) fn announce(&mut self, index: u32) {
        self.table[index].set(Flags::ANNOUNCED);
        self.table[index].ordinal = self.lsids.next();
        self.lsids.announce(&self.table, index);
    }

    /// Puts a new stream below its parent. One of the peer has its ordinal already, and gets its name.
    pub(super) fn insert(&mut self, node: Node) -> StreamKey {
        let is_named = node.has(Flags::ANNOUNCED);
        let key = self.table.insert(node);
        self.table.adopt(key.index);
        if is_named {
            self.lsids.attach(&self.table, key.index);
        }
        key
    }

    /// Takes out a stream that has no children, and whose parent does not count it any more.
    pub(super) fn remove(&mut self, index: u32) -> Option<Node> {
        let node = self.table.remove(index)?;
        if node.has(Flags::ANNOUNCED) {
            self.lsids.detach(&self.table, index, &node);
        }
        Some(node)
    }
}

impl Index<u32> for Tree {
    type Output = Node;

    #[inline]
    fn index(&self, index: u32) -> &Node {
        &self.table[index]
    }
}

impl IndexMut<u32> for Tree {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Node {
        &mut self.table[index]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use node::Opener;

    #[test]
    fn names_are_shared_on_while_there_is_a_stream_and_let_go_of_with_the_last() {
        let mut tree = Tree::new(Node::new(index::NONE, 0, Opener::Own, None), 1);
        let stream = tree.table.insert(Node::new(ROOT, 1, Opener::Own, None));
        let names = tree.names.get(b"service", b"protocol");
        tree.rest();
        assert!(Arc::ptr_eq(&names, &tree.names.get(b"service", b"protocol")));
        tree.table.remove(stream.index);
        tree.rest();
        assert_eq!(Arc::strong_count(&names), 1);
    }
}
