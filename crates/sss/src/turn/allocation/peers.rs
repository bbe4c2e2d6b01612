//! Permissions and channels of an allocation. Of both, a bounded number is remembered: those that were used last.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::turn::message::CHANNELS;

/// Permissions and peers that are remembered; the one that was used the longest ago gives way.
pub(super) const MAX_PERMISSIONS: usize = 256;
pub(super) const MAX_PEERS: usize = 256;
/// Time after which a permission is asked for again, if it is used: it lasts for five minutes.
const PERMISSION: Duration = Duration::from_secs(240);
/// Time after which a request for one that was not answered is made again.
const ASKED: Duration = Duration::from_secs(5);
/// Time after which a channel is bound again, if it is used: it lasts for ten minutes.
const CHANNEL: Duration = Duration::from_secs(540);
/// Packets to a peer after which a channel is bound.
const BUSY: u32 = 8;

/// Permissions and channels.
#[derive(Default)]
pub(super) struct Peers {
    permissions: HashMap<IpAddr, Permission, RandomState>,
    peers: HashMap<SocketAddr, Peer, RandomState>,
    /// Peers of the numbers that were given. A number is given again when all have been, and its peer is forgotten.
    numbers: HashMap<u16, SocketAddr, RandomState>,
    given: u16,
}

struct Permission {
    used: Instant,
    /// It is asked for again then.
    again: Instant,
}

struct Peer {
    used: Instant,
    /// Packets that were sent to it.
    sent: u32,
    channel: Option<Channel>,
}

#[derive(Clone, Copy)]
struct Channel {
    number: u16,
    /// The server has bound it, until then.
    until: Option<Instant>,
    /// It is asked for again then.
    again: Instant,
}

impl Peers {
    /// Something is sent to that address. Returns whether a permission is to be asked for first.
    pub(super) fn wants_permission(&mut self, now: Instant, ip: IpAddr) -> bool {
        if let Some(known) = self.permissions.get_mut(&ip) {
            known.used = now;
            let is_due = known.again <= now;
            if is_due {
                known.again = now + ASKED;
            }
            return is_due;
        }
        if self.permissions.len() >= MAX_PERMISSIONS {
            let oldest = self.permissions.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(ip, _)| *ip) {
                self.permissions.remove(&oldest);
            }
        }
        let again = now + ASKED;
        self.permissions.insert(ip, Permission { used: now, again });
        true
    }

    /// Something is sent to that peer. Returns the number by which a channel is to be asked for, if it is time.
    pub(super) fn wants_channel(&mut self, now: Instant, peer: SocketAddr) -> Option<u16> {
        if !self.peers.contains_key(&peer) {
            self.make_room();
        }
        let known = self.peers.entry(peer).or_insert(Peer {
            used: now,
            sent: 0,
            channel: None,
        });
        known.used = now;
        known.sent = known.sent.saturating_add(1);
        match &mut known.channel {
            Some(channel) if channel.again <= now => {
                channel.again = now + ASKED;
                Some(channel.number)
            }
            Some(_) => None,
            None if known.sent < BUSY => None,
            None => {
                let number = self.next_number()?;
                self.numbers.insert(number, peer);
                let channel = Channel {
                    number,
                    until: None,
                    again: now + ASKED,
                };
                self.peers.get_mut(&peer)?.channel = Some(channel);
                Some(number)
            }
        }
    }

    fn make_room(&mut self) {
        if self.peers.len() < MAX_PEERS {
            return;
        }
        let oldest = self.peers.iter().min_by_key(|(_, known)| known.used);
        if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
            self.peers.remove(&oldest);
        }
    }

    /// A number that is no live channel's. Those that were given the longest ago come first: a server keeps a number
    /// for its peer for some time.
    fn next_number(&mut self) -> Option<u16> {
        let count = CHANNELS.end() - CHANNELS.start() + 1;
        for _ in 0..count {
            let number = CHANNELS.start() + self.given % count;
            self.given = self.given.wrapping_add(1);
            let peer = self.numbers.get(&number);
            let is_live = peer.is_some_and(|peer| self.peers.contains_key(peer));
            if !is_live {
                return Some(number);
            }
        }
        None
    }

    /// The number of the channel to a peer, if there is one.
    pub(super) fn channel(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let channel = self.peers.get(&peer)?.channel?;
        channel.until.filter(|until| now < *until).map(|_| channel.number)
    }

    /// The peer of a channel: also of one that the server has not said yet that it is bound.
    pub(super) fn at(&self, number: u16) -> Option<SocketAddr> {
        self.numbers.get(&number).copied()
    }

    pub(super) fn on_permitted(&mut self, now: Instant, ip: IpAddr) {
        if let Some(known) = self.permissions.get_mut(&ip) {
            known.again = now + PERMISSION;
        }
    }

    pub(super) fn on_bound(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(channel) = self.peers.get_mut(&peer).and_then(|known| known.channel.as_mut()) {
            channel.until = Some(now + CHANNEL);
            // Whatever is sent in the last minute binds it again.
            channel.again = now + CHANNEL - Duration::from_secs(60);
        }
    }

    /// There is no permission: it is asked for again when something is to be sent there.
    pub(super) fn forget(&mut self, ip: IpAddr) {
        // A server that refuses is asked after a while.
        if let Some(known) = self.permissions.get_mut(&ip) {
            known.again = known.used + ASKED;
        }
    }

    /// There is no channel; another is asked for after as many packets as before the first.
    pub(super) fn unbind(&mut self, peer: SocketAddr) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.channel = None;
            known.sent = 0;
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.permissions.len(), self.peers.len(), self.numbers.len()]
    }
}
