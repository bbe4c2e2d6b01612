//! The relay: handles, and whose packets go where (RCH-17).

use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::Eid;

use super::leases::Leases;

/// Time for which a handle lasts without a packet.
const SILENCE: Duration = Duration::from_secs(60);
/// So much of what a handle may carry is there at once.
const BURST: Duration = Duration::from_millis(250);

/// Limits of a relay.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Handles at a time; two for each pair of hosts.
    pub handles: usize,
    /// Bytes a second in one direction of one pair.
    pub pair_rate: u64,
    /// Bytes a second of all.
    pub total_rate: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            handles: 131_072,
            pair_rate: 64 << 20,
            total_rate: 1 << 30,
        }
    }
}

/// A host, and where it is.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) eid: Eid,
    /// Validated.
    pub(super) address: SocketAddr,
}

/// The relay's table.
pub(super) struct Relay {
    limits: RelayLimits,
    sides: HashMap<u32, Side, RandomState>,
    pairs: HashMap<(Eid, Eid), (u32, u32), RandomState>,
    total: Bucket,
    swept: Instant,
}

/// One host's end of a pair.
struct Side {
    owner: Eid,
    /// The owner's address when the handle was made. From another one it needs another handle, since observers see it.
    address: SocketAddr,
    other: u32,
    /// The owner has asked for it, or has sent on it: it may be sent something.
    is_open: bool,
    used: Instant,
    bucket: Bucket,
}

/// Bytes that drain steadily (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Default)]
struct Bucket {
    /// The time when all that was let through has drained.
    drained: Instant,
}

/// Reasons why the relay drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrelayed {
    /// There is no such handle.
    UnknownHandle,
    /// The sender is not where the handle's host is.
    WrongSource,
    /// The other has no lease any more, or has moved.
    Gone,
    /// The other has not sent anything on its handle yet.
    NotOpen,
    /// The share of the pair, or of all, is used up.
    Overload,
}

impl Relay {
    pub(super) fn new(limits: RelayLimits) -> Self {
        Self {
            limits,
            sides: HashMap::default(),
            pairs: HashMap::default(),
            total: Bucket::default(),
            swept: Instant::default(),
        }
    }

    /// Handles of a caller and of the host that it calls; those they have, if they have some. `None` if there are too
    /// many.
    pub(super) fn open(&mut self, now: Instant, caller: End, callee: End, rng: &mut Generator) -> Option<(u32, u32)> {
        self.sweep(now);
        let is_turned = callee.eid < caller.eid;
        let pair = if is_turned { [callee, caller] } else { [caller, callee] };
        let known = self.pairs.get(&(pair[0].eid, pair[1].eid)).copied();
        let handles =
            match known.filter(|(first, second)| self.is_of(*first, &pair[0]) && self.is_of(*second, &pair[1])) {
                Some(handles) => handles,
                None => self.make(now, pair, rng)?,
            };
        let (own, other) = if is_turned { (handles.1, handles.0) } else { handles };
        if let Some(side) = self.sides.get_mut(&own) {
            side.is_open = true;
            side.used = now;
        }
        Some((own, other))
    }

    /// Returns whether a handle is of a host where it is now.
    fn is_of(&self, handle: u32, end: &End) -> bool {
        let side = self.sides.get(&handle);
        side.is_some_and(|side| side.owner == end.eid && side.address == end.address)
    }

    fn make(&mut self, now: Instant, [one, two]: [End; 2], rng: &mut Generator) -> Option<(u32, u32)> {
        let pair = (one.eid, two.eid);
        if let Some((first, second)) = self.pairs.remove(&pair) {
            self.sides.remove(&first);
            self.sides.remove(&second);
        }
        if self.sides.len().saturating_add(2) > self.limits.handles {
            return None;
        }
        let first = self.unused(rng, None)?;
        let second = self.unused(rng, Some(first))?;
        for (own, other, end) in [(first, second, one), (second, first, two)] {
            let side = Side {
                owner: end.eid,
                address: end.address,
                other,
                is_open: false,
                used: now,
                bucket: Bucket::default(),
            };
            self.sides.insert(own, side);
        }
        self.pairs.insert(pair, (first, second));
        Some((first, second))
    }

    fn unused(&self, rng: &mut Generator, but: Option<u32>) -> Option<u32> {
        (0..64).find_map(|_| {
            let mut bytes = [0; 4];
            rng.fill(&mut bytes);
            let handle = u32::from_be_bytes(bytes);
            let is_free = handle != 0 && but != Some(handle) && !self.sides.contains_key(&handle);
            is_free.then_some(handle)
        })
    }

    /// Says where a packet of so many bytes goes that came from an address with a handle, and with which handle.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        leases: &Leases,
        (from, handle): (SocketAddr, u32),
        bytes: usize,
    ) -> Result<(SocketAddr, u32), Unrelayed> {
        let side = self.sides.get_mut(&handle).ok_or(Unrelayed::UnknownHandle)?;
        if side.address != from || !side.is_valid(now, leases) {
            return Err(Unrelayed::WrongSource);
        }
        let other = side.other;
        side.is_open = true;
        side.used = now;
        let target = self.sides.get(&other).ok_or(Unrelayed::UnknownHandle)?;
        if !target.is_valid(now, leases) {
            return Err(Unrelayed::Gone);
        }
        if !target.is_open {
            return Err(Unrelayed::NotOpen);
        }
        let to = target.address;
        let side = self.sides.get_mut(&handle).ok_or(Unrelayed::UnknownHandle)?;
        if !side.bucket.has_room(now) || !self.total.has_room(now) {
            return Err(Unrelayed::Overload);
        }
        side.bucket.take(now, bytes, self.limits.pair_rate);
        self.total.take(now, bytes, self.limits.total_rate);
        Ok((to, other))
    }

    /// Removes pairs of which neither side was used, now and then.
    fn sweep(&mut self, now: Instant) {
        if now.since(self.swept) < SILENCE {
            return;
        }
        self.swept = now;
        let sides = &mut self.sides;
        self.pairs.retain(|_, (first, second)| {
            let is_used = [*first, *second]
                .iter()
                .any(|handle| sides.get(handle).is_some_and(|side| now.since(side.used) < SILENCE));
            if !is_used {
                sides.remove(first);
                sides.remove(second);
            }
            is_used
        });
    }

    pub(super) fn len(&self) -> usize {
        self.sides.len()
    }
}

impl Side {
    /// Returns whether the owner is still where it was, by a validated address of its lease.
    fn is_valid(&self, now: Instant, leases: &Leases) -> bool {
        leases
            .get(now, &self.owner)
            .is_some_and(|lease| lease.address == self.address)
    }
}

impl Bucket {
    fn has_room(self, now: Instant) -> bool {
        self.drained.since(now) <= BURST
    }

    fn take(&mut self, now: Instant, bytes: usize, rate: u64) {
        let nanos = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000);
        let nanos = nanos.checked_div(u128::from(rate)).unwrap_or(u128::MAX);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.drained = self.drained.max(now) + time;
    }
}
