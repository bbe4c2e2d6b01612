//! The relay: handles, and whose packets go where (RCH-17).

use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_crypto::Generator;
use sss_proto::Instant;
use sss_wire::Eid;

use super::leases::{Instance, Leases};
use crate::path::Path;

/// Time for which a handle lasts without a packet.
const SILENCE: Duration = Duration::from_secs(60);
/// So much of what a handle may carry is there at once.
const BURST: Duration = Duration::from_millis(250);

/// Time for which the share of each is estimated.
const FAIR_INTERVAL: Duration = Duration::from_millis(200);

/// Limits of a relay.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Handles at a time; two for each pair of hosts.
    pub handles: usize,
    /// Bytes a second in one direction of one pair.
    pub pair_rate: u64,
    /// Bytes a second that one host may send to all others.
    pub client_rate: u64,
    /// Bytes a second of all. When they are used up, all pairs get the same.
    pub total_rate: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            handles: 131_072,
            pair_rate: 256 << 20,
            client_rate: 512 << 20,
            total_rate: 1 << 30,
        }
    }
}

/// A host, and where it is.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) instance: Instance,
    /// Validated.
    pub(super) address: SocketAddr,
}

/// The relay's table.
pub(super) struct Relay {
    limits: RelayLimits,
    sides: HashMap<u32, Side, RandomState>,
    pairs: HashMap<(Instance, Instance), (u32, u32), RandomState>,
    clients: HashMap<Eid, Client, RandomState>,
    total: Bucket,
    fair: FairShare,
    swept: Instant,
}

/// A host with handles.
#[derive(Default)]
struct Client {
    handles: usize,
    /// The bytes that it sends.
    bucket: Bucket,
}

/// Datagrams with one handle, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of them.
    pub packets: usize,
    /// Their bytes, headers of the relay included.
    pub bytes: usize,
}

/// Share that each direction of a pair has when all is used up: so large that nothing is left, were they to ask for the
/// same as in the interval before (max-min fairness: Bertsekas, Gallager, Data Networks, section 6.5.2).
struct FairShare {
    /// Bytes a second.
    rate: u64,
    began: Instant,
    /// Number of the interval.
    interval: u32,
    /// By the number of bits of what a direction has asked for in the interval: how many there are, and the sum.
    asked: [(u64, u64); 65],
}

/// Bytes that a direction of a pair has asked for in an interval.
#[derive(Clone, Copy, Default)]
struct Asked {
    interval: u32,
    bytes: u64,
}

/// One host's end of a pair.
struct Side {
    owner: Instance,
    /// The owner's address when the handle was made. From another one it needs another handle, since observers see it.
    address: SocketAddr,
    other: u32,
    /// The owner has asked for it, or has sent on it: it may be sent something.
    is_open: bool,
    /// The time when the owner last asked for a handle to that peer, or sent on one.
    heard: Option<Instant>,
    used: Instant,
    bucket: Bucket,
    asked: Asked,
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
            clients: HashMap::default(),
            total: Bucket::default(),
            fair: FairShare {
                rate: limits.pair_rate,
                began: Instant::default(),
                interval: 0,
                asked: [(0, 0); 65],
            },
            swept: Instant::default(),
        }
    }

    /// Handles of a caller and of the host that it calls; those they have, if they have some. `None` if there are too
    /// many.
    pub(super) fn open(&mut self, now: Instant, caller: End, callee: End, rng: &mut Generator) -> Option<(u32, u32)> {
        self.sweep(now);
        let is_turned = callee.instance < caller.instance;
        let pair = if is_turned { [callee, caller] } else { [caller, callee] };
        let known = self.pairs.get(&(pair[0].instance, pair[1].instance)).copied();
        let handles =
            match known.filter(|(first, second)| self.is_of(*first, &pair[0]) && self.is_of(*second, &pair[1])) {
                Some(handles) => handles,
                None => self.make(now, pair, rng)?,
            };
        let (own, other) = if is_turned { (handles.1, handles.0) } else { handles };
        if let Some(side) = self.sides.get_mut(&own) {
            side.is_open = true;
            side.heard = Some(now);
            side.used = now;
        }
        Some((own, other))
    }

    /// Returns whether a host has sent something by its handle to another one, and that not long ago.
    pub(super) fn is_kept_by(&self, now: Instant, host: &Instance, other: &Instance) -> bool {
        let (pair, is_turned) = match host < other {
            true => ((*host, *other), false),
            false => ((*other, *host), true),
        };
        let Some(handles) = self.pairs.get(&pair) else {
            return false;
        };
        let own = if is_turned { handles.1 } else { handles.0 };
        let side = self.sides.get(&own);
        side.and_then(|side| side.heard)
            .is_some_and(|at| now.since(at) < SILENCE)
    }

    /// Returns whether a handle is of a host where it is now.
    fn is_of(&self, handle: u32, end: &End) -> bool {
        let side = self.sides.get(&handle);
        side.is_some_and(|side| side.owner == end.instance && side.address == end.address)
    }

    fn make(&mut self, now: Instant, [one, two]: [End; 2], rng: &mut Generator) -> Option<(u32, u32)> {
        let pair = (one.instance, two.instance);
        let mut heard = [None; 2];
        if let Some((first, second)) = self.pairs.remove(&pair) {
            heard = [first, second].map(|handle| self.remove(handle)?.heard);
        }
        if self.sides.len().saturating_add(2) > self.limits.handles {
            return None;
        }
        let first = self.unused(rng, None)?;
        let second = self.unused(rng, Some(first))?;
        for (own, other, (end, heard)) in [(first, second, (one, heard[0])), (second, first, (two, heard[1]))] {
            let side = Side {
                owner: end.instance,
                address: end.address,
                other,
                is_open: false,
                heard,
                used: now,
                bucket: Bucket::default(),
                asked: Asked::default(),
            };
            self.sides.insert(own, side);
            self.clients.entry(end.instance.eid).or_default().handles += 1;
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

    fn remove(&mut self, handle: u32) -> Option<Side> {
        let side = self.sides.remove(&handle)?;
        if let Some(client) = self.clients.get_mut(&side.owner.eid) {
            client.handles = client.handles.saturating_sub(1);
            if client.handles == 0 {
                self.clients.remove(&side.owner.eid);
            }
        }
        Some(side)
    }

    /// Says where a run of packets goes that came from an address with a handle, and with which handle.
    ///
    /// # Errors
    /// Why it is dropped.
    pub(super) fn forward(
        &mut self,
        now: Instant,
        leases: &Leases,
        (from, handle): (SocketAddr, u32),
        bytes: usize,
    ) -> Result<(Path, u32), Unrelayed> {
        let side = self.sides.get(&handle).ok_or(Unrelayed::UnknownHandle)?;
        let other = side.other;
        let target = self.sides.get(&other).ok_or(Unrelayed::UnknownHandle)?;
        if [side, target].iter().all(|side| side.is_silent(now)) {
            return Err(Unrelayed::UnknownHandle);
        }
        if side.address != from || side.path(now, leases).is_none() {
            return Err(Unrelayed::WrongSource);
        }
        let (to, is_open) = (target.path(now, leases), target.is_open);
        let side = self.sides.get_mut(&handle).ok_or(Unrelayed::UnknownHandle)?;
        side.is_open = true;
        side.heard = Some(now);
        side.used = now;
        let to = to.ok_or(Unrelayed::Gone)?;
        if !is_open {
            return Err(Unrelayed::NotOpen);
        }
        self.take(now, handle, bytes).ok_or(Unrelayed::Overload)?;
        Ok((to, other))
    }

    /// Takes the bytes out of all that they count for, if nothing of it is used up.
    fn take(&mut self, now: Instant, handle: u32, bytes: usize) -> Option<()> {
        let side = self.sides.get_mut(&handle)?;
        let client = self.clients.get_mut(&side.owner.eid)?;
        self.fair.review(now, &self.limits);
        if !client.bucket.has_room(now) {
            return None;
        }
        self.fair.ask(&mut side.asked, bytes as u64);
        if !side.bucket.has_room(now) || !self.total.has_room(now) {
            return None;
        }
        let rate = self.fair.rate;
        side.bucket.take(now, bytes, rate);
        client.bucket.take(now, bytes, self.limits.client_rate);
        self.total.take(now, bytes, self.limits.total_rate);
        Some(())
    }

    /// Removes pairs of which neither side was used, now and then.
    pub(super) fn sweep(&mut self, now: Instant) {
        if now.since(self.swept) < SILENCE {
            return;
        }
        self.swept = now;
        let sides = &self.sides;
        let is_silent = |handle: &u32| sides.get(handle).is_none_or(|side| side.is_silent(now));
        let silent = self
            .pairs
            .extract_if(|_, (first, second)| is_silent(first) && is_silent(second));
        for (_, (first, second)) in silent.collect::<Vec<_>>() {
            self.remove(first);
            self.remove(second);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sides.len()
    }
}

impl Side {
    /// Returns whether nothing was sent on it for too long.
    fn is_silent(&self, now: Instant) -> bool {
        now.since(self.used) >= SILENCE
    }

    /// The way to the owner, if it is still where it was, by a validated address of its lease.
    fn path(&self, now: Instant, leases: &Leases) -> Option<Path> {
        let path = leases.get(now, &self.owner)?.path;
        (path.end() == self.address).then_some(path)
    }
}

impl FairShare {
    /// Notes what is asked for.
    fn ask(&mut self, asked: &mut Asked, bytes: u64) {
        if asked.interval != self.interval {
            *asked = Asked {
                interval: self.interval,
                bytes: 0,
            };
        } else if let Some((count, sum)) = self.asked.get_mut(bits(asked.bytes)) {
            *count = count.saturating_sub(1);
            *sum = sum.saturating_sub(asked.bytes);
        }
        asked.bytes = asked.bytes.saturating_add(bytes);
        if let Some((count, sum)) = self.asked.get_mut(bits(asked.bytes)) {
            *count = count.saturating_add(1);
            *sum = sum.saturating_add(asked.bytes);
        }
    }

    /// At the end of an interval, makes the share anew.
    fn review(&mut self, now: Instant, limits: &RelayLimits) {
        let time = now.since(self.began);
        if time < FAIR_INTERVAL {
            return;
        }
        let of_interval = |a_second: u64| u128::from(a_second) * FAIR_INTERVAL.as_nanos() / 1_000_000_000;
        let there = u64::try_from(of_interval(limits.total_rate)).unwrap_or(u64::MAX);
        // What was asked for before a pause says nothing any more.
        let share = self.share(there).filter(|_| time < FAIR_INTERVAL * 2);
        // As long as nobody asks for more than there is, it doubles with each interval.
        let intervals = u32::try_from(time.as_nanos() / FAIR_INTERVAL.as_nanos()).unwrap_or(u32::MAX);
        let doubled = self.rate.saturating_mul(1 << intervals.min(40));
        let a_second = |bytes: u64| u128::from(bytes) * 1_000_000_000 / FAIR_INTERVAL.as_nanos();
        let rate = share.map_or(doubled, |bytes| u64::try_from(a_second(bytes)).unwrap_or(u64::MAX));
        self.rate = rate.clamp(1, limits.pair_rate);
        self.asked = [(0, 0); 65];
        self.interval = self.interval.wrapping_add(1);
        self.began = now;
    }

    /// Bytes for each, if they ask for more than there are.
    fn share(&self, there: u64) -> Option<u64> {
        let (mut above, asked) = self
            .asked
            .iter()
            .fold((0, 0), |(n, all), (count, sum)| (n + count, all + sum));
        let mut left = Some(there).filter(|there| asked > *there)?;
        for (bits, (count, sum)) in self.asked.iter().enumerate() {
            let share = left.checked_div(above)?;
            if *count > 0 && self::bits(share) <= bits {
                return Some(share);
            }
            left = left.saturating_sub(*sum);
            above = above.saturating_sub(*count);
        }
        None
    }
}

/// Number of bits that a number has.
fn bits(n: u64) -> usize {
    n.checked_ilog2().map_or(0, |log| log as usize + 1)
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

#[cfg(test)]
mod tests {
    use sss_wire::reach::records::Register;

    use super::super::Quotas;
    use super::super::tokens::Bearer;
    use super::*;

    /// Jain's index of fairness (Jain, Chiu, Hawe, 1984): 1 if all have the same.
    fn jain(shares: &[u64]) -> f64 {
        let sum: f64 = shares.iter().map(|share| *share as f64).sum();
        let squares: f64 = shares.iter().map(|share| (*share as f64).powi(2)).sum();
        sum * sum / (shares.len() as f64 * squares)
    }

    /// A host with a lease.
    fn end(leases: &mut Leases, now: Instant, n: u32) -> End {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let bearer = Bearer {
            eid: Eid::from_public_key(&key),
            instance: [1; 8],
            address: SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 7000)),
        };
        leases
            .register(now, (&bearer, bearer.address.into()), &Register::default())
            .unwrap();
        End {
            instance: bearer.instance(),
            address: bearer.address,
        }
    }

    // spec: RCH-17
    #[test]
    fn silent_handles_are_dead_and_what_a_host_or_all_may_have_is_kept() {
        let limits = RelayLimits {
            client_rate: 100_000,
            total_rate: 150_000,
            ..RelayLimits::default()
        };
        let start = Instant::from_nanos(1_000_000_000);
        let (mut relay, mut leases) = (Relay::new(limits), Leases::new(Quotas::default()));
        let mut rng = Generator::new(&[4; 32]);
        let ends: Vec<End> = (0..6).map(|n| end(&mut leases, start, n)).collect();
        let mut open = |one: usize, two: usize| {
            let handles = relay.open(start, ends[one], ends[two], &mut rng).unwrap();
            relay.open(start, ends[two], ends[one], &mut rng).unwrap();
            (ends[one].address, handles.0)
        };
        // One host with two others, and another pair.
        let senders = [open(0, 1), open(0, 2), open(3, 4)];
        let mut passed = [0_u32; 3];
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            for (sender, passed) in senders.iter().zip(&mut passed) {
                *passed += u32::from(relay.forward(now, &leases, *sender, 1000).is_ok());
            }
        }
        let of_host = passed[0] + passed[1];
        assert!(
            (90..=130).contains(&of_host),
            "{passed:?} KB in a second, 100 of the first host"
        );
        let all = of_host + passed[2];
        assert!((140..=200).contains(&all), "{passed:?} KB in a second, 150 of all");
        // Nobody has swept up, and nothing was sent for a minute.
        let late = start + Duration::from_secs(61);
        leases = Leases::new(Quotas::default());
        let _: Vec<End> = (0..6).map(|n| end(&mut leases, late, n)).collect();
        let forwarded = relay.forward(late, &leases, senders[0], 10);
        assert_eq!(forwarded, Err(Unrelayed::UnknownHandle));
    }

    // spec: RCH-17
    #[test]
    fn a_thousand_pairs_that_want_too_much_get_the_same_each() {
        const PAIRS: u32 = 1000;
        let limits = RelayLimits {
            total_rate: 20_000_000,
            ..RelayLimits::default()
        };
        let now = Instant::from_nanos(1_000_000_000);
        let (mut relay, mut leases) = (Relay::new(limits), Leases::new(Quotas::default()));
        let mut rng = Generator::new(&[3; 32]);
        let mut senders = Vec::new();
        for n in 0..PAIRS {
            let (one, two) = (end(&mut leases, now, 2 * n), end(&mut leases, now, 2 * n + 1));
            let handles = relay.open(now, one, two, &mut rng).unwrap();
            relay.open(now, two, one, &mut rng).unwrap();
            senders.push((one.address, handles.0));
        }
        // Each would have 20 KB a second: they want from 1.2 to 20 times that, and one wants all.
        let mut passed = vec![0_u64; senders.len()];
        let mut credit = vec![0_u64; senders.len()];
        for ms in 1..=6000_u64 {
            let now = now + Duration::from_millis(ms);
            for (n, (from, handle)) in senders.iter().enumerate() {
                let wants = if n == 0 { 20_000 } else { 24 + n as u64 * 376 / 1000 };
                credit[n] += wants;
                while credit[n] >= 1200 {
                    credit[n] -= 1200;
                    let is_through = relay.forward(now, &leases, (*from, *handle), 1200).is_ok();
                    passed[n] += u64::from(is_through && ms > 2000);
                }
            }
        }
        let (index, total) = (jain(&passed), passed.iter().sum::<u64>() * 1200 / 4);
        println!("Jain {index:.4}, {total} bytes a second");
        assert!(index >= 0.95, "{index}");
        assert!((17_000_000..=21_000_000).contains(&total), "{total}");
        // Where there is enough for all, each gets what it wants.
        let later = now + Duration::from_secs(8);
        let (from, handle) = senders[1];
        for ms in 0..1000 {
            let now = later + Duration::from_millis(ms);
            assert!(relay.forward(now, &leases, (from, handle), 10_000).is_ok(), "{ms}");
        }
    }
}
