//! Which peer a datagram is for.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_wire::ChannelId;

use crate::ids::TreeId;
use crate::peer::{Name, NameChange};

/// The names under which datagrams arrive: channel ids, attempts, reset tokens; and those of trees.
#[derive(Debug)]
pub(crate) struct Demux {
    channels: HashMap<ChannelId, u32, RandomState>,
    attempts: HashMap<[u8; 8], u32, RandomState>,
    reset_tokens: HashMap<[u8; 16], u32, RandomState>,
    trees: HashMap<TreeId, u32, RandomState>,
    /// The last channel found: a batch is nearly always of one channel.
    last: Option<(ChannelId, u32)>,
}

impl Demux {
    pub(crate) fn new() -> Self {
        Self {
            channels: HashMap::default(),
            attempts: HashMap::default(),
            reset_tokens: HashMap::default(),
            trees: HashMap::default(),
            last: None,
        }
    }

    pub(crate) fn channel(&mut self, id: ChannelId) -> Option<u32> {
        if let Some((last, peer)) = self.last
            && last == id
        {
            return Some(peer);
        }
        let peer = *self.channels.get(&id)?;
        self.last = Some((id, peer));
        Some(peer)
    }

    pub(crate) fn has_channel(&self, id: ChannelId) -> bool {
        self.channels.contains_key(&id)
    }

    pub(crate) fn attempt(&self, id: &[u8; 8]) -> Option<u32> {
        self.attempts.get(id).copied()
    }

    /// The peer that announced `token`. Tokens are secrets of 128 bits under a keyed hash: the time of a
    /// look-up tells nothing useful about them (PRT-13).
    pub(crate) fn reset_token(&self, token: &[u8; 16]) -> Option<u32> {
        self.reset_tokens.get(token).copied()
    }

    /// The peer with which a tree is shared.
    pub(crate) fn tree(&self, id: &TreeId) -> Option<u32> {
        self.trees.get(id).copied()
    }

    /// Makes a peer known under its new names, and no longer under the old ones.
    pub(crate) fn apply(&mut self, peer: u32, change: &NameChange) {
        self.last = None;
        for name in change.old.iter().filter(|n| !change.new.contains(n)) {
            match name {
                Name::Attempt(id) => forget(&mut self.attempts, peer, id),
                Name::Channel(id) => forget(&mut self.channels, peer, id),
                Name::ResetToken(token) => forget(&mut self.reset_tokens, peer, token),
                Name::Tree(id) => forget(&mut self.trees, peer, id),
            }
        }
        for name in change.new.iter().filter(|n| !change.old.contains(n)) {
            match *name {
                Name::Attempt(id) => drop(self.attempts.insert(id, peer)),
                Name::Channel(id) => drop(self.channels.insert(id, peer)),
                Name::ResetToken(token) => drop(self.reset_tokens.insert(token, peer)),
                // A peer may have named the tree (NEG-25): it takes no other's.
                Name::Tree(id) => drop(self.trees.entry(id).or_insert(peer)),
            }
        }
    }
}

fn forget<K: Eq + Hash>(names: &mut HashMap<K, u32, RandomState>, peer: u32, name: &K) {
    if names.get(name) == Some(&peer) {
        names.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    fn names(n: u8) -> Vec<Name> {
        vec![
            Name::Attempt([n; 8]),
            Name::Channel(ChannelId::new(&[n; 4]).unwrap()),
            Name::ResetToken([n; 16]),
            Name::Tree([n; 16]),
        ]
    }

    // Threat 35: a stranger chooses attempts, tokens and trees that fall into one place of a map.
    #[test]
    fn threat_35_two_hosts_order_names_differently() {
        let hashes = |demux: &Demux| {
            let attempts = (0..8).map(|n: u8| demux.attempts.hasher().hash_one([n; 8]));
            let tokens = (0..8).map(|n: u8| demux.reset_tokens.hasher().hash_one([n; 16]));
            let trees = (0..8).map(|n: u8| demux.trees.hasher().hash_one([n; 16]));
            let channels = (0..8).map(|n: u8| demux.channels.hasher().hash_one(ChannelId::new(&[n; 4]).unwrap()));
            attempts
                .chain(tokens)
                .chain(trees)
                .chain(channels)
                .collect::<Vec<u64>>()
        };
        let (one, other) = (hashes(&Demux::new()), hashes(&Demux::new()));
        assert!(one.iter().zip(&other).all(|(a, b)| a != b));
    }

    #[test]
    fn names_follow_their_peer() {
        let mut demux = Demux::new();
        let (old, new) = (Vec::new(), names(1));
        demux.apply(7, &NameChange { old, new });
        let id = ChannelId::new(&[1; 4]).unwrap();
        assert_eq!(demux.channel(id), Some(7));
        assert_eq!(demux.attempt(&[1; 8]), Some(7));
        assert_eq!(demux.reset_token(&[1; 16]), Some(7));
        let (old, new) = (names(1), names(2));
        demux.apply(7, &NameChange { old, new });
        assert_eq!(demux.channel(id), None);
        assert_eq!(demux.attempt(&[2; 8]), Some(7));
    }

    #[test]
    fn a_name_taken_over_by_another_peer_stays_with_it() {
        let mut demux = Demux::new();
        let change = |old: &[Name], new: &[Name]| NameChange {
            old: old.to_vec(),
            new: new.to_vec(),
        };
        let one = names(1);
        demux.apply(7, &change(&[], &one));
        demux.apply(8, &change(&[], &one));
        demux.apply(7, &change(&one, &[]));
        assert_eq!(demux.reset_token(&[1; 16]), Some(8));
    }

    #[test]
    fn the_name_of_a_tree_is_taken_from_nobody() {
        let mut demux = Demux::new();
        let change = |old: &[Name], new: &[Name]| NameChange {
            old: old.to_vec(),
            new: new.to_vec(),
        };
        demux.apply(7, &change(&[], &names(1)));
        demux.apply(8, &change(&[], &names(1)));
        assert_eq!(demux.tree(&[1; 16]), Some(7));
        demux.apply(8, &change(&names(1), &[]));
        assert_eq!(demux.tree(&[1; 16]), Some(7));
    }
}
