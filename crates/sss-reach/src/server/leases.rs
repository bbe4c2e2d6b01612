//! Leases: which hosts are registered, and where they are (RCH-2, RCH-3, RCH-8 to RCH-10).

mod lease;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::{Instant, Link, Network, Route};
use sss_wire::Eid;
use sss_wire::reach::bodies::{Presence, Status, Unfound};
use sss_wire::reach::records::{Entries, Register, Search, Visibility};

use super::Quotas;
use super::crowds::PARTS;
use super::gone::Gone;
use super::mapped::is_proven;
use super::rate::{Bucket, Rate};
use super::recovery::Recovery;
use super::referring::statement;
use super::tokens::Bearer;
use crate::path::Path;
use lease::{Listing, Said, State};

pub(super) use lease::Lease;

/// Leases of one EID, at most: the programs that have this identity.
const MAX_INSTANCES: usize = 64;

/// Leases at the end of one tunnel, at most: a host has a tunnel of its own.
const MAX_OF_TUNNEL: u32 = 4;

/// One run of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Instance {
    pub(super) eid: Eid,
    /// Drawn by the host when it started.
    pub(super) name: [u8; 8],
}

/// The table of leases.
pub(super) struct Leases {
    quotas: Quotas,
    hosts: HashMap<Eid, Registrant, RandomState>,
    /// Number of leases, those that were given up included.
    count: usize,
    /// Number of leases that were given up, and are remembered.
    left: usize,
    networks: HashMap<Network, u32, RandomState>,
    /// Each host, and which of its leases, with the time at which that may be over.
    due: VecDeque<(Eid, u32, Instant)>,
    /// Number of the latest lease.
    serial: u32,
    listed: BTreeSet<(Box<str>, Eid)>,
    gone: Gone,
    recovery: Recovery,
}

/// Leases of an EID, and what was done for it.
#[derive(Default)]
struct Registrant {
    spent: Spent,
    /// One for each instance, in the order in which they registered: the latest last.
    leases: Vec<Lease>,
}

/// Things that were done for a host of late.
#[derive(Clone, Copy, Default)]
struct Spent([Bucket; 3]);

/// Things that a host may have done only so many times in a second.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    /// It looked for hosts, or asked for an echo.
    Lookup,
    /// It asked for an introduction.
    Call,
    /// It was told of one.
    Notice,
}

/// A packet of a registered host, opened.
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) from: Path,
    /// The time when its token was made.
    pub(super) made: Instant,
    pub(super) counter: u64,
    pub(super) rtt: u32,
    /// Wish of the host, as far as the packet tells.
    pub(super) presence: Option<Presence>,
    /// Set if nobody is to be told where it is (RCH-38), as far as the packet tells.
    pub(super) is_veiled: Option<bool>,
    /// The mapped port that it names, and 0 if none; `None` if it says nothing of that.
    pub(super) mapped: Option<u16>,
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
    /// There is no lease, and it may be one that has come before that was over: nothing has changed.
    Stale,
    /// Its number was seen before, or passed.
    Old,
    /// The host has given its lease up.
    Left,
    /// Other instances of the host have taken its place.
    Superseded,
    /// There is no room for another lease.
    NoRoom,
}

impl Leases {
    pub(super) fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            hosts: HashMap::default(),
            count: 0,
            left: 0,
            networks: HashMap::default(),
            due: VecDeque::new(),
            serial: 0,
            listed: BTreeSet::new(),
            gone: Gone::default(),
            recovery: Recovery::default(),
        }
    }

    /// Hosts may have leases of an earlier run, and lease again in the next time.
    pub(super) fn on_restart(&mut self, now: Instant) {
        self.recovery = Recovery::begin(now, self.quotas.ttl);
    }

    /// The reason why a host that nobody has heard of is not found (RCH-1).
    fn never_seen(&self, now: Instant) -> Unfound {
        Unfound::since(Status::NeverSeen, self.recovery.seconds(now))
    }

    /// Number of leases.
    pub(super) fn len(&self) -> usize {
        self.count.saturating_sub(self.left)
    }

    fn of(&self, eid: &Eid) -> &[Lease] {
        self.hosts.get(eid).map_or(&[], |host| &host.leases)
    }

    fn get_mut(&mut self, instance: &Instance) -> Option<&mut Lease> {
        let host = self.hosts.get_mut(&instance.eid)?;
        host.leases.iter_mut().find(|lease| lease.instance == instance.name)
    }

    /// The lease of an instance, if it is not over.
    pub(super) fn get(&self, now: Instant, instance: &Instance) -> Option<&Lease> {
        self.living(now, &instance.eid)
            .find(|lease| lease.instance == instance.name)
    }

    /// The leases of a host that are not over, the latest last.
    pub(super) fn living(&self, now: Instant, eid: &Eid) -> impl DoubleEndedIterator<Item = &Lease> {
        let ttl = self.quotas.ttl;
        self.of(eid).iter().filter(move |lease| !lease.is_over(now, ttl))
    }

    /// The lease of a host that wants to be found, for one that asks. Of several instances the latest that registered,
    /// but one that has not answered of late comes behind all others (RCH-20).
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn find(&self, now: Instant, eid: &Eid, asking: Option<&Instance>) -> Result<&Lease, Unfound> {
        let is_asking = |lease: &Lease| asking.is_some_and(|other| other.eid == *eid && other.name == lease.instance);
        // Of those that hide nobody learns whether they are there.
        let visible = |lease: &&Lease| lease.visibility != Visibility::Hidden && !is_asking(lease);
        let mut latest = self.living(now, eid).rev().filter(visible);
        if let Some(first) = latest.next() {
            let answers = std::iter::once(first)
                .chain(latest)
                .find(|lease| lease.state == State::Heard);
            return Ok(answers.unwrap_or(first));
        }
        let remembered = self.of(eid).iter().filter(visible).map(|lease| lease.heard);
        let since = remembered.chain(self.gone.since(eid)).max();
        Err(since.map_or(self.never_seen(now), |since| {
            Unfound::since(Status::Offline, seconds(now.since(since)))
        }))
    }

    /// Statement that a host that wants to be found makes of itself: of the latest of its instances, one that is listed
    /// before others.
    /// `None` if there is none.
    pub(super) fn statement(&self, now: Instant, eid: &Eid) -> Option<Register> {
        let visible = |lease: &&Lease| lease.is_visible();
        self.living(now, eid).find(visible)?;
        let listed = self.living(now, eid).rev().find_map(|lease| lease.listing.as_ref());
        Some(match listed {
            Some(listing) => statement(Visibility::Listed, &listing.words, &listing.profile),
            None => statement(Visibility::Known, "", ""),
        })
    }

    /// An instance of a host that asks where an answer sends it, if there is one.
    pub(super) fn following(&self, now: Instant, eid: &Eid) -> Instance {
        let lease = self.living(now, eid).find(|lease| lease.follows());
        Instance {
            eid: *eid,
            name: lease.map(|lease| lease.instance).unwrap_or_default(),
        }
    }

    /// Hosts that want to be found.
    pub(super) fn visible(&self, now: Instant) -> Vec<Eid> {
        let is_visible = |eid: &&Eid| self.living(now, eid).any(Lease::is_visible);
        self.hosts.keys().filter(is_visible).copied().collect()
    }

    /// The host has not answered NOTIFY.
    pub(super) fn note_silent(&mut self, instance: &Instance) {
        if let Some(lease) = self.get_mut(instance).filter(|lease| lease.state == State::Heard) {
            lease.state = State::Silent;
        }
    }

    /// REGISTER: makes a lease, or changes that of the instance.
    ///
    /// # Errors
    /// [`Status::TooMany`] if there is no room.
    pub(super) fn register(
        &mut self,
        now: Instant,
        (bearer, path): (&Bearer, Path),
        register: &Register,
    ) -> Result<(), Status> {
        let is_known = self.get_mut(&bearer.instance()).is_some();
        if !is_known && self.of(&bearer.eid).len() >= MAX_INSTANCES {
            self.yield_one(&bearer.eid);
        }
        if !self.make_room(now, (bearer, path)) {
            return Err(Status::TooMany);
        }
        let listing = (register.visibility == Visibility::Listed).then(|| {
            let (words, profile) = (register.words.clone(), register.profile.clone());
            Box::new(Listing { words, profile })
        });
        let lease = Lease {
            visibility: register.visibility,
            said: if register.follows { Said::Follows } else { Said::Stays },
            is_veiled: register.is_veiled,
            listing,
            ..Lease::new(now, bearer, path)
        };
        self.begin(now, bearer.eid, lease);
        Ok(())
    }

    /// Takes a packet of the present run that was sealed under the lease key of its bearer.
    pub(super) fn take(&mut self, now: Instant, bearer: &Bearer, message: Message) -> Taken {
        let is_validated = bearer.address == message.from.end();
        let is_leaving = message.presence == Some(Presence::Leaving);
        let instance = bearer.instance();
        if let Some(lease) = self.get_mut(&instance) {
            if message.counter <= lease.counter {
                return Taken::Old;
            }
            lease.counter = message.counter;
            // The address is the one that was validated before: only the token is another one.
            let is_proof =
                lease.path.link == message.from.link && is_proven(message.from, message.mapped, bearer.address);
            if !is_validated && !is_proof {
                return Taken::Elsewhere;
            }
            if is_leaving {
                self.leave(now, &instance);
                return Taken::Left;
            }
            return self.renew(now, &instance, &message, is_proof);
        }
        match is_validated {
            false => return Taken::Elsewhere,
            true if is_leaving => return Taken::Left,
            // The number of its latest packet is forgotten: all that came before have older tokens.
            true if message.made + self.quotas.ttl <= now => return Taken::Stale,
            // CONNECT does not say what the host wants.
            true if message.presence.is_none() => return Taken::Stale,
            true if self.of(&bearer.eid).len() >= MAX_INSTANCES => return Taken::Superseded,
            true if !self.make_room(now, (bearer, message.from)) => return Taken::NoRoom,
            true => {}
        }
        let mut lease = Lease::new(now, bearer, message.from);
        lease.counter = message.counter;
        lease.renew(now, &message);
        self.begin(now, bearer.eid, lease);
        Taken::Renewed { is_forgotten: true }
    }

    fn renew(&mut self, now: Instant, instance: &Instance, message: &Message, is_proof: bool) -> Taken {
        let Some(lease) = self.get_mut(instance) else {
            return Taken::NoRoom;
        };
        let had_left = lease.state == State::Left;
        lease.renew(now, message);
        lease.note_mapped(message, is_proof);
        let (is_forgotten, from, is_visible) = (lease.said == Said::Nothing, lease.path, lease.is_visible());
        lease.path = message.from;
        self.left = self.left.saturating_sub(usize::from(had_left));
        if is_visible {
            self.gone.forget(&instance.eid);
        }
        if from.link != message.from.link {
            self.count(from, -1);
            self.count(message.from, 1);
        }
        Taken::Renewed { is_forgotten }
    }

    /// The host gives its lease up.
    fn leave(&mut self, now: Instant, instance: &Instance) {
        self.unlist(instance);
        let Some(lease) = self.get_mut(instance) else {
            return;
        };
        lease.heard = now;
        if lease.state != State::Left {
            lease.state = State::Left;
            self.left = self.left.saturating_add(1);
        }
    }

    /// Removes one of too many leases of a host: the first that was given up, else of those that hide the one that was
    /// heard of the longest ago, else the first.
    fn yield_one(&mut self, eid: &Eid) {
        let rank = |lease: &&Lease| match (lease.state, lease.visibility) {
            (State::Left, _) => (0, lease.heard),
            (_, Visibility::Hidden) => (1, lease.heard),
            _ => (2, Instant::default()),
        };
        if let Some(serial) = self.of(eid).iter().min_by_key(rank).map(|lease| lease.serial) {
            self.end(eid, serial);
        }
    }

    /// Returns whether something may be done for the host once more in this second, and counts it if so.
    pub(super) fn may(&mut self, now: Instant, eid: &Eid, deed: Deed) -> bool {
        let rate = self.rate(deed);
        let host = self.hosts.get_mut(eid);
        let bucket = host.and_then(|host| host.spent.0.get_mut(deed as usize));
        bucket.is_some_and(|bucket| bucket.take(now, rate))
    }

    /// As [`Self::may`], with so many parts of what may be at once, and counts nothing.
    pub(super) fn has_room(&self, now: Instant, eid: &Eid, (deed, part): (Deed, u16)) -> bool {
        let bucket = self.hosts.get(eid).and_then(|host| host.spent.0.get(deed as usize));
        let rate = self.rate(deed);
        let at_once = u32::from(rate.at_once) * u32::from(part) / u32::from(PARTS);
        let rate = Rate {
            at_once: u16::try_from(at_once).unwrap_or(u16::MAX),
            ..rate
        };
        part > 0 && bucket.is_some_and(|bucket| bucket.has_room(now, rate))
    }

    fn rate(&self, deed: Deed) -> Rate {
        match deed {
            Deed::Lookup => self.quotas.lookups,
            Deed::Call => self.quotas.calls,
            Deed::Notice => self.quotas.notices,
        }
    }

    /// Hosts listed under a word (RCH-4).
    pub(super) fn search(&self, now: Instant, search: &Search) -> Entries {
        let first = search.after.unwrap_or_else(|| Eid::from_public_key(&[0; 32]));
        let word: Box<str> = search.word.as_str().into();
        let mut entries = Entries {
            is_partial: self.recovery.seconds(now) > 0,
            ..Entries::default()
        };
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
            let mut listings = self.living(now, eid).rev().filter_map(|lease| lease.listing.as_ref());
            if let Some(listing) = listings.find(|listing| listing.words().any(|listed| *listed == *word)) {
                entries.entries.push((*eid, listing.profile.clone()));
            }
        }
        entries
    }

    /// Removes leases that are over.
    pub(super) fn on_timer(&mut self, now: Instant) {
        let ttl = self.quotas.ttl;
        while let Some((eid, serial, _)) = self.due.pop_front_if(|(_, _, at)| *at <= now) {
            let lease = self.of(&eid).iter().find(|lease| lease.serial == serial);
            match lease.map(|lease| lease.heard + ttl) {
                Some(end) if end <= now => self.end(&eid, serial),
                Some(end) => self.due.push_back((eid, serial, end)),
                None => {}
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due.front().map(|(_, _, at)| *at)
    }

    /// Returns whether there is room for a lease of the bearer, and counts it if so.
    fn make_room(&mut self, now: Instant, (bearer, path): (&Bearer, Path)) -> bool {
        self.on_timer(now);
        if let Some(lease) = self.get_mut(&bearer.instance()) {
            let from = lease.path;
            self.count(from, -1);
            self.count(path, 1);
            return true;
        }
        let there = self.networks.get(&network(path)).copied();
        let most = match path.link {
            Link::Tunnel(_) => self.quotas.each_network.min(MAX_OF_TUNNEL),
            _ => self.quotas.each_network,
        };
        if self.count >= self.quotas.leases || there.unwrap_or_default() >= most {
            return false;
        }
        self.count(path, 1);
        true
    }

    /// A lease for which there is room begins; it takes the place of that of the same instance.
    fn begin(&mut self, now: Instant, eid: Eid, mut lease: Lease) {
        self.unlist(&Instance {
            eid,
            name: lease.instance,
        });
        self.serial = self.serial.wrapping_add(1);
        lease.serial = self.serial;
        if lease.is_visible() {
            self.gone.forget(&eid);
        }
        let host = self.hosts.entry(eid).or_default();
        match host.leases.iter_mut().find(|before| before.instance == lease.instance) {
            Some(before) => {
                self.left = self.left.saturating_sub(usize::from(before.state == State::Left));
                *before = lease;
            }
            None => {
                // Most hosts have one.
                host.leases.reserve_exact(1);
                host.leases.push(lease);
                self.count = self.count.saturating_add(1);
            }
        }
        self.list(&eid);
        self.due.push_back((eid, self.serial, now + self.quotas.ttl));
    }

    /// Removes a lease.
    fn end(&mut self, eid: &Eid, serial: u32) {
        let Some(host) = self.hosts.get_mut(eid) else {
            return;
        };
        let Some(at) = host.leases.iter().position(|lease| lease.serial == serial) else {
            return;
        };
        let name = host.leases.get(at).map_or([0; 8], |lease| lease.instance);
        self.unlist(&Instance { eid: *eid, name });
        let Some(host) = self.hosts.get_mut(eid) else {
            return;
        };
        let lease = host.leases.remove(at);
        if host.leases.is_empty() {
            self.hosts.remove(eid);
        }
        self.count = self.count.saturating_sub(1);
        self.left = self.left.saturating_sub(usize::from(lease.state == State::Left));
        self.count(lease.path, -1);
        if lease.is_visible() {
            self.gone.note(*eid, lease.heard);
        }
    }

    /// Lists a host under the words of all its instances.
    fn list(&mut self, eid: &Eid) {
        let leases = self.hosts.get(eid).map_or(&[][..], |host| &host.leases);
        let listings = leases.iter().filter_map(|lease| lease.listing.as_ref());
        let words = listings.flat_map(|listing| listing.words());
        self.listed.extend(words.map(|word| (Box::from(word), *eid)));
    }

    /// Lists an instance no more.
    fn unlist(&mut self, instance: &Instance) {
        let Some(listing) = self.get_mut(instance).and_then(|lease| lease.listing.take()) else {
            return;
        };
        for word in listing.words() {
            self.listed.remove(&(Box::from(word), instance.eid));
        }
        self.list(&instance.eid);
    }

    /// Counts a lease more or less in the network of the client.
    fn count(&mut self, path: Path, change: i32) {
        let network = network(path);
        let count = self.networks.entry(network).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.networks.remove(&network);
        }
    }
}

/// Bytes of a slot of the table, and of a lease.
#[cfg(test)]
pub(super) fn sizes() -> (usize, usize) {
    (size_of::<(Eid, Registrant)>(), size_of::<Lease>())
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

/// The network of a client.
fn network(path: Path) -> Network {
    Network::from(&Route::over(path.link))
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
