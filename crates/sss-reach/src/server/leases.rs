//! Leases: which hosts are registered, and where they are (RCH-2, RCH-3, RCH-8 to RCH-10).

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::{Instant, Network};
use sss_wire::Eid;
use sss_wire::reach::bodies::{Status, Unfound};
use sss_wire::reach::records::{Entries, Register, Search, Visibility};

use super::Quotas;
use super::tokens::Bearer;

/// Hosts remembered after their lease is over, at most.
const MAX_GONE: usize = 65_536;

/// The table of leases.
pub(super) struct Leases {
    quotas: Quotas,
    hosts: HashMap<Eid, Lease, RandomState>,
    networks: HashMap<Network, u32, RandomState>,
    /// Each host, and which of its leases, with the time at which that may be over.
    due: VecDeque<(Eid, u32, Instant)>,
    /// Number of the latest lease.
    serial: u32,
    listed: BTreeSet<(Box<str>, Eid)>,
    gone: Gone,
}

/// A registered host.
pub(super) struct Lease {
    pub(super) instance: [u8; 8],
    /// Its validated address.
    pub(super) address: SocketAddr,
    /// The number of the latest packet.
    counter: u64,
    heard: Instant,
    /// Number of the lease: what waits in the queue for one that was given up does not count.
    serial: u32,
    /// Round-trip time to the host in microseconds; 0 if it is not known.
    pub(super) rtt: u32,
    pub(super) visibility: Visibility,
    /// It has registered in this run of the server: nothing is missing.
    is_complete: bool,
    spent: Spent,
    listing: Option<Box<Listing>>,
}

/// Statement that a listed host makes of itself.
struct Listing {
    words: String,
    profile: String,
}

/// Number of things that were done for a host in a second.
#[derive(Clone, Copy, Default)]
struct Spent {
    second: u32,
    counts: [u8; 3],
}

/// Things that a host may have done only so many times in a second.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    /// It looked for hosts.
    Lookup,
    /// It asked for an introduction.
    Call,
    /// It was told of one.
    Notice,
}

/// A packet of a registered host, opened.
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) from: SocketAddr,
    pub(super) counter: u64,
    pub(super) rtt: u32,
    /// Set if the host wants to be found, as far as the packet tells.
    pub(super) is_visible: Option<bool>,
}

/// Fate of a packet of a registered host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is as before, or the lease goes on.
    Renewed {
        /// The server was restarted since the host registered.
        is_forgotten: bool,
    },
    /// The address is not validated yet: nothing has changed.
    Elsewhere,
    /// Its number was seen before, or passed.
    Old,
    /// Another instance of the host has taken its place.
    Superseded,
    /// There is no room for another lease.
    NoRoom,
}

impl Leases {
    pub(super) fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            hosts: HashMap::default(),
            networks: HashMap::default(),
            due: VecDeque::new(),
            serial: 0,
            listed: BTreeSet::new(),
            gone: Gone::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The lease of a host, if it is not over.
    pub(super) fn get(&self, now: Instant, eid: &Eid) -> Option<&Lease> {
        let ttl = self.quotas.ttl;
        self.hosts.get(eid).filter(|lease| !lease.is_over(now, ttl))
    }

    /// The lease of a host that wants to be found.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn find(&self, now: Instant, eid: &Eid) -> Result<&Lease, Unfound> {
        let gone = |since| match since {
            Some(since) => Unfound {
                status: Status::Offline,
                since: seconds(now.since(since)),
            },
            None => Unfound::because(Status::NeverSeen),
        };
        let Some(lease) = self.hosts.get(eid) else {
            return Err(gone(self.gone.since(eid)));
        };
        // Of one that hides nobody learns whether it is there.
        if lease.visibility == Visibility::Hidden {
            return Err(Unfound::because(Status::NeverSeen));
        }
        match lease.is_over(now, self.quotas.ttl) {
            true => Err(gone(Some(lease.heard))),
            false => Ok(lease),
        }
    }

    /// REGISTER: makes a lease, or one of another instance.
    ///
    /// # Errors
    /// [`Status::TooMany`] if there is no room.
    pub(super) fn register(&mut self, now: Instant, bearer: &Bearer, register: &Register) -> Result<(), Status> {
        let spent = self.hosts.get(&bearer.eid).map(|lease| lease.spent);
        if !self.make_room(now, bearer) {
            return Err(Status::TooMany);
        }
        let listing = (register.visibility == Visibility::Listed).then(|| {
            let (words, profile) = (register.words.clone(), register.profile.clone());
            Box::new(Listing { words, profile })
        });
        self.unlist(&bearer.eid);
        let lease = Lease {
            visibility: register.visibility,
            is_complete: true,
            spent: spent.unwrap_or_default(),
            listing,
            ..Lease::new(now, bearer)
        };
        self.list(&bearer.eid, &lease);
        self.begin(now, bearer.eid, lease);
        Ok(())
    }

    /// Takes a packet of the present run that was sealed under the lease key of its bearer.
    pub(super) fn take(&mut self, now: Instant, bearer: &Bearer, message: Message) -> Taken {
        let is_validated = bearer.address == message.from;
        let ttl = self.quotas.ttl;
        let known = self.hosts.get_mut(&bearer.eid);
        if let Some(lease) = known.filter(|lease| lease.instance == bearer.instance || !lease.is_over(now, ttl)) {
            if lease.instance != bearer.instance {
                return Taken::Superseded;
            }
            if message.counter <= lease.counter {
                return Taken::Old;
            }
            lease.counter = message.counter;
            if !is_validated {
                return Taken::Elsewhere;
            }
            lease.renew(now, &message);
            let (is_forgotten, from) = (!lease.is_complete, lease.address);
            if from != message.from {
                lease.address = message.from;
                self.count(from, -1);
                self.count(message.from, 1);
            }
            return Taken::Renewed { is_forgotten };
        }
        if !is_validated {
            return Taken::Elsewhere;
        }
        if !self.make_room(now, bearer) {
            return Taken::NoRoom;
        }
        let mut lease = Lease::new(now, bearer);
        lease.counter = message.counter;
        lease.renew(now, &message);
        self.begin(now, bearer.eid, lease);
        Taken::Renewed { is_forgotten: true }
    }

    /// The host wants to be forgotten.
    pub(super) fn unregister(&mut self, eid: &Eid) {
        self.end(eid);
    }

    /// Returns whether something may be done for the host once more in this second, and counts it if so.
    pub(super) fn may(&mut self, now: Instant, eid: &Eid, deed: Deed) -> bool {
        let limit = match deed {
            Deed::Lookup => self.quotas.lookups,
            Deed::Call => self.quotas.calls,
            Deed::Notice => self.quotas.notices,
        };
        let lease = self.hosts.get_mut(eid);
        lease.is_some_and(|lease| lease.spent.allow(now, deed, limit))
    }

    /// Hosts listed under a word (RCH-4).
    pub(super) fn search(&self, now: Instant, search: &Search) -> Entries {
        let first = search.after.unwrap_or_else(|| Eid::from_public_key(&[0; 32]));
        let word: Box<str> = search.word.as_str().into();
        let mut entries = Entries::default();
        for (listed, eid) in self.listed.range((word.clone(), first)..) {
            if *listed != word {
                break;
            }
            if search.after == Some(*eid) {
                continue;
            }
            if entries.entries.len() >= usize::from(search.count.min(self.quotas.entries)) {
                entries.next = entries.entries.last().map(|(eid, _)| *eid);
                break;
            }
            let listing = self.get(now, eid).and_then(|lease| lease.listing.as_ref());
            if let Some(listing) = listing {
                entries.entries.push((*eid, listing.profile.clone()));
            }
        }
        entries
    }

    /// Removes leases that are over.
    pub(super) fn on_timer(&mut self, now: Instant) {
        while let Some((eid, serial, _)) = self.due.pop_front_if(|(_, _, at)| *at <= now) {
            let ttl = self.quotas.ttl;
            match self.hosts.get(&eid).filter(|lease| lease.serial == serial) {
                Some(lease) if lease.is_over(now, ttl) => {
                    let heard = lease.heard;
                    let is_visible = lease.visibility != Visibility::Hidden;
                    self.end(&eid);
                    if is_visible {
                        self.gone.note(eid, heard);
                    }
                }
                Some(lease) => self.due.push_back((eid, serial, lease.heard + ttl)),
                None => {}
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due.front().map(|(_, _, at)| *at)
    }

    /// Returns whether there is room for a lease of the bearer, and counts it if so.
    fn make_room(&mut self, now: Instant, bearer: &Bearer) -> bool {
        self.on_timer(now);
        if let Some(lease) = self.hosts.get(&bearer.eid) {
            let from = lease.address;
            self.count(from, -1);
            self.count(bearer.address, 1);
            return true;
        }
        let there = self.networks.get(&Network::from(bearer.address.ip())).copied();
        if self.hosts.len() >= self.quotas.leases || there.unwrap_or_default() >= self.quotas.each_network {
            return false;
        }
        self.count(bearer.address, 1);
        true
    }

    fn begin(&mut self, now: Instant, eid: Eid, mut lease: Lease) {
        self.serial = self.serial.wrapping_add(1);
        lease.serial = self.serial;
        self.hosts.insert(eid, lease);
        self.gone.forget(&eid);
        self.due.push_back((eid, self.serial, now + self.quotas.ttl));
    }

    fn end(&mut self, eid: &Eid) {
        self.unlist(eid);
        if let Some(lease) = self.hosts.remove(eid) {
            self.count(lease.address, -1);
        }
    }

    fn list(&mut self, eid: &Eid, lease: &Lease) {
        let words = lease.listing.iter().flat_map(|listing| listing.words());
        self.listed.extend(words.map(|word| (Box::from(word), *eid)));
    }

    fn unlist(&mut self, eid: &Eid) {
        let listing = self.hosts.get_mut(eid).and_then(|lease| lease.listing.take());
        for word in listing.iter().flat_map(|listing| listing.words()) {
            self.listed.remove(&(Box::from(word), *eid));
        }
    }

    /// Counts a lease more or less in the network of the address.
    fn count(&mut self, address: SocketAddr, change: i32) {
        let network = Network::from(address.ip());
        let count = self.networks.entry(network).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.networks.remove(&network);
        }
    }
}

#[cfg(test)]
impl Leases {
    pub(super) fn due_len(&self) -> usize {
        self.due.len()
    }

    pub(super) fn networks_len(&self) -> usize {
        self.networks.len()
    }

    pub(super) fn is_unlisted(&self) -> bool {
        self.listed.is_empty()
    }
}

impl Lease {
    fn new(now: Instant, bearer: &Bearer) -> Self {
        Self {
            instance: bearer.instance,
            address: bearer.address,
            counter: 0,
            heard: now,
            serial: 0,
            rtt: 0,
            visibility: Visibility::Hidden,
            is_complete: false,
            spent: Spent::default(),
            listing: None,
        }
    }

    fn is_over(&self, now: Instant, ttl: Duration) -> bool {
        self.heard + ttl <= now
    }

    fn renew(&mut self, now: Instant, message: &Message) {
        self.heard = now;
        self.rtt = message.rtt;
        // What is listed was said on a stream.
        if let Some(is_visible) = message.is_visible.filter(|_| self.visibility != Visibility::Listed) {
            self.visibility = match is_visible {
                true => Visibility::Known,
                false => Visibility::Hidden,
            };
        }
    }
}

impl Listing {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.words.split(' ').filter(|word| !word.is_empty())
    }
}

impl Spent {
    fn allow(&mut self, now: Instant, deed: Deed, limit: u8) -> bool {
        let second = seconds(now.since(Instant::default()));
        if second != self.second {
            *self = Self {
                second,
                ..Self::default()
            };
        }
        let Some(count) = self.counts.get_mut(deed as usize) else {
            return false;
        };
        let is_allowed = *count < limit;
        *count = count.saturating_add(u8::from(is_allowed));
        is_allowed
    }
}

/// Hosts that had a lease: a fixed number, the latest.
#[derive(Default)]
struct Gone {
    since: HashMap<Eid, Instant, RandomState>,
    order: VecDeque<Eid>,
}

impl Gone {
    fn since(&self, eid: &Eid) -> Option<Instant> {
        self.since.get(eid).copied()
    }

    fn note(&mut self, eid: Eid, heard: Instant) {
        if self.since.insert(eid, heard).is_none() {
            self.order.push_back(eid);
        }
        while self.order.len() > MAX_GONE {
            if let Some(oldest) = self.order.pop_front() {
                self.since.remove(&oldest);
            }
        }
    }

    /// The host is back. Its place in the order goes when its turn comes.
    fn forget(&mut self, eid: &Eid) {
        self.since.remove(eid);
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
