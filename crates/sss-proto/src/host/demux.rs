//! Which peer a datagram is for.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_wire::ChannelId;

use crate::peer::NameChange;

/// The names under which datagrams arrive: channel ids, attempts, reset tokens.
#[derive(Debug)]
pub(crate) struct Demux {
    channels: HashMap<ChannelId, u32, RandomState>,
    attempts: HashMap<[u8; 8], u32, RandomState>,
    reset_tokens: HashMap<[u8; 16], u32, RandomState>,
    /// The last channel found: a batch is nearly always of one channel.
    last: Option<(ChannelId, u32)>,
}

impl Demux {
    pub(crate) fn new() -> Self {
        Self {
            channels: HashMap::default(),
            attempts: HashMap::default(),
            reset_tokens: HashMap::default(),
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

    /// Makes a peer known under its new names, and no longer under the old ones.
    pub(crate) fn apply(&mut self, peer: u32, change: &NameChange) {
        self.last = None;
        replace(&mut self.channels, peer, change.old.channel, change.new.channel);
        replace(&mut self.attempts, peer, change.old.attempt, change.new.attempt);
        replace(
            &mut self.reset_tokens,
            peer,
            change.old.reset_token,
            change.new.reset_token,
        );
    }
}

fn replace<K: Copy + Eq + Hash>(names: &mut HashMap<K, u32, RandomState>, peer: u32, old: Option<K>, new: Option<K>) {
    if old == new {
        return;
    }
    if let Some(old) = old
        && names.get(&old) == Some(&peer)
    {
        names.remove(&old);
    }
    if let Some(new) = new {
        names.insert(new, peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Names;

    fn names(n: u8) -> Names {
        Names {
            attempt: Some([n; 8]),
            channel: ChannelId::new(&[n; 4]).ok(),
            reset_token: Some([n; 16]),
        }
    }

    #[test]
    fn names_follow_their_peer() {
        let mut demux = Demux::new();
        let (old, new) = (Names::default(), names(1));
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
        let (none, one) = (Names::default(), names(1));
        demux.apply(7, &NameChange { old: none, new: one });
        demux.apply(8, &NameChange { old: none, new: one });
        demux.apply(7, &NameChange { old: one, new: none });
        assert_eq!(demux.reset_token(&[1; 16]), Some(8));
    }
}
