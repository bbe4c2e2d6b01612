//! Random operations on both sides over a bad wire, against plain models of data and credit.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_wire::constants::OPEN_COST;

use super::*;
use crate::DatagramFate;
use crate::error::ReadError;
use crate::ids::DatagramId;
use crate::streams::{DatagramOptions, ListenMode};

/// Load of one direction of the wire, and what the peer has taken in of it: the charges follow from that alone.
/// alone.
#[derive(Default)]
struct Ledger {
    parents: BTreeMap<u64, u64>,
    /// Streams opened by the sender of this direction.
    opened: BTreeSet<u64>,
    reached: BTreeMap<u64, u64>,
    /// By stream: which stream its opening was charged to, and how much.
    openings: BTreeMap<u64, (u64, u64)>,
    /// Streams that the receiver refused because it had retired the parent.
    orphans: BTreeSet<u64>,
}

impl Ledger {
    fn note(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Stream(f) => {
                if let Some(init) = f.init {
                    self.open(f.lsid, init.parent);
                    self.opened.insert(f.lsid);
                    if !self.orphans.contains(&f.lsid) {
                        let lender = self.above(init.parent, init.lender);
                        self.openings.entry(f.lsid).or_insert((lender, OPEN_COST + init.borrow));
                    }
                }
                if !f.data.is_empty() || f.mark || f.fin {
                    self.reach(f.lsid, f.end());
                }
            }
            Frame::Reset(f) => self.reach(f.lsid, f.final_size),
            _ => {}
        }
    }

    fn open(&mut self, lsid: u64, parent: u64) {
        self.parents.insert(lsid, parent);
    }

    fn reach(&mut self, lsid: u64, offset: u64) {
        let reached = self.reached.entry(lsid).or_default();
        *reached = offset.max(*reached);
    }

    fn above(&self, lsid: u64, levels: u8) -> u64 {
        (0..levels).fold(lsid, |at, _| self.parents.get(&at).copied().unwrap_or(0))
    }

    /// Returns what was charged to each account, as STR-53 says.
    fn charges(&self) -> BTreeMap<u64, u64> {
        let mut charges = BTreeMap::new();
        for (lender, cost) in self.openings.values() {
            *charges.entry(*lender).or_default() += cost;
        }
        charges
    }

    /// A stream that the receiver refused without keeping it counts nothing, and neither does what is below.
    fn forget(&mut self, lsid: u64) {
        self.orphans.insert(lsid);
        self.openings.remove(&lsid);
    }
}

fn received_most(ledger: &Ledger, lsid: u64) -> u64 {
    ledger.reached.get(&lsid).copied().unwrap_or(0)
}

/// Knowledge of the writer of a direction; its data begins with its number.
#[derive(Clone, Debug, Default)]
struct Written {
    len: u64,
    marks: BTreeSet<u64>,
    is_finished: bool,
    is_aborted: bool,
    /// Position of its reader.
    read: u64,
}

/// Knowledge of an application about a stream it holds.
#[derive(Clone, Copy, Debug, Default)]
struct Handle {
    /// Number of the direction it writes.
    writes: Option<usize>,
    /// Number of the direction it reads, once its first bytes are there, and how far it is.
    reads: Option<usize>,
    prefix: [u8; 4],
    read: u64,
}

struct Side {
    streams: Streams,
    held: BTreeMap<StreamKey, Handle>,
    sent: Ledger,
    received: Ledger,
    flying: Vec<Packet>,
    /// Datagrams that it sent and of which it does not know what became: number, and whether it is reliable.
    unsettled: BTreeMap<DatagramId, (usize, bool)>,
}

impl Side {
    fn new(role: Role) -> Self {
        let mut streams = Streams::test(role, 100_000);
        streams.grant_root(100_000).unwrap();
        // The responder keeps to what hosts do that know no such setting.
        match role {
            Role::Initiator => streams.set_start(256 << 10),
            Role::Responder => streams.set_peer_start(256 << 10),
        }
        Self {
            streams,
            held: BTreeMap::new(),
            sent: Ledger::default(),
            received: Ledger::default(),
            flying: Vec::new(),
            unsettled: BTreeMap::new(),
        }
    }

    fn any(&self, rng: &mut StdRng) -> Option<StreamKey> {
        if self.held.is_empty() {
            return None;
        }
        self.held.keys().nth(rng.random_range(0..self.held.len())).copied()
    }

    /// Charges and limits agree with the ledgers.
    fn check(&self, peer: &Self, what: &str) {
        self.streams.check_costs(what);
        self.streams.check_unsent(what);
        let (sent, received) = (self.sent.charges(), self.received.charges());
        for index in 0..self.streams.life.tree.table.slots() {
            let Some(node) = self.streams.life.tree.table.get(index) else {
                continue;
            };
            if !node.has(Flags::ANNOUNCED) || node.has(Flags::DATAGRAM) {
                continue;
            }
            let lsid = self.streams.lsid(index);
            let (lent, (charge, consumed, limit)) = (self.streams.lent(index), self.streams.backing(index));
            let expected = |charges: &BTreeMap<u64, u64>| charges.get(&lsid).copied().unwrap_or(0);
            if !self.is_detached(index) {
                assert_eq!(lent, expected(&sent), "{what}: sent by {lsid}");
            }
            assert_eq!(charge, expected(&received), "{what}: received by {lsid}");
            assert!(charge <= limit && consumed <= charge, "{what}: {lsid}");
            if index > 0 {
                self.check_waits(index, received_most(&self.received, lsid), what);
            }
        }
        let _ = peer;
    }

    /// STR-52: what a stream may send it may send whatever others do.
    fn check_waits(&self, index: u32, received: u64, what: &str) {
        let node = &self.streams.life.tree.table[index];
        let lsid = self.streams.lsid(index);
        assert!(node.send.sent <= node.send.limit, "{what}: {lsid}");
        assert!(received <= node.recv.limit, "{what}: {lsid}");
        let is_kept = node.has(Flags::WAITING) && node.send.credit() > 0 && node.status.send.carries_data();
        assert!(!is_kept, "{what}: {lsid} waits, and has room of its own");
    }

    fn is_detached(&self, index: u32) -> bool {
        let node = &self.streams.life.tree.table[index];
        node.has(Flags::DETACHED) || (index != 0 && self.is_detached(node.place.parent))
    }
}

struct World {
    rng: StdRng,
    seed: u64,
    sides: [Side; 2],
    written: Vec<Written>,
    /// The number of of 16 packets do not arrive, and of how many that arrive the sender does not learn.
    loss: u32,
    ends: usize,
    resets: usize,
    marks: usize,
    /// Directions that were said to be read to their ends, and trees reset.
    consumed: usize,
    trees: usize,
    /// Times that it was told that no more children come.
    childless: usize,
    /// Sizes of the datagrams that were sent, and whether they were received or may have been dropped with their
    /// stream.
    datagrams: Vec<(usize, bool)>,
    clock: u64,
    fates: BTreeMap<&'static str, usize>,
}

/// The byte at an offset of the direction with a number.
fn byte(number: usize, offset: u64) -> u8 {
    match offset {
        0..4 => (number as u32).to_be_bytes()[offset as usize],
        _ => ((offset ^ (number as u64 * 77)).wrapping_mul(0x9e37_79b9) >> 7) as u8,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let loss = rng.random_range(0..5);
        Self {
            rng,
            seed,
            sides: [Side::new(Role::Initiator), Side::new(Role::Responder)],
            written: Vec::new(),
            loss,
            ends: 0,
            resets: 0,
            marks: 0,
            consumed: 0,
            trees: 0,
            childless: 0,
            datagrams: Vec::new(),
            clock: 0,
            fates: BTreeMap::new(),
        }
    }

    fn pair(&mut self, from: usize) -> (&mut Side, &mut Side) {
        let [a, b] = &mut self.sides;
        if from == 0 { (a, b) } else { (b, a) }
    }

    fn send(&mut self, from: usize) {
        let room = [300, 1400, 1400, 9000][self.rng.random_range(0..4)];
        let side = &mut self.sides[from];
        if let Some(packet) = side.streams.packet(room) {
            packet.frames().iter().for_each(|f| side.sent.note(f));
            side.flying.push(packet);
        }
    }

    /// Something happens to one of the packets that are under way.
    fn arrive(&mut self, from: usize, loss: u32) {
        let count = self.sides[from].flying.len();
        if count == 0 {
            return;
        }
        let nth = self.rng.random_range(0..count.min(8));
        let (lost, unacked) = (self.rng.random_range(0..16) < loss, self.rng.random_range(0..16) < loss);
        let (seed, (sender, receiver)) = (self.seed, self.pair(from));
        let packet = sender.flying.remove(nth);
        if !lost {
            deliver(seed, sender, receiver, &packet);
        }
        if lost || unacked {
            sender.streams.lost(&packet);
        } else {
            sender.streams.acked(&packet);
        }
    }

    fn write(&mut self, side: usize, key: StreamKey) {
        let n = [1, 100, 2000, 80_000][self.rng.random_range(0..4)];
        let number = match self.sides[side].held[&key].writes {
            Some(number) => number,
            None => {
                self.written.push(Written::default());
                self.written.len() - 1
            }
        };
        let written = &mut self.written[number];
        let how = self.rng.random_range(0..6);
        let data: Vec<u8> = (written.len..written.len + n).map(|i| byte(number, i)).collect();
        let streams = &mut self.sides[side].streams;
        let can_mark = written.len > 3 && streams.poll_writable(key) == Poll::Ready(Ok(()));
        let (result, has_mark) = match how {
            0 if can_mark => (streams.write_mark(key).map(|()| 0), true),
            1 if can_mark => (streams.write_record(key, &data).map(|()| data.len()), true),
            2 if can_mark => (streams.write_record_bytes(key, data.into()).map(|()| n as usize), true),
            3 => (streams.write(key, &data), false),
            _ => (streams.write_chunk(key, &mut Bytes::from(data)), false),
        };
        match result {
            Ok(n) => {
                written.len += n as u64;
                if has_mark {
                    written.marks.insert(written.len);
                    written.len += 1;
                }
            }
            Err(_) => written.is_aborted |= !written.is_finished,
        }
        self.sides[side].held.get_mut(&key).unwrap().writes = Some(number);
    }

    fn read(&mut self, side: usize, key: StreamKey) {
        let max = [1, 500, 1 << 20][self.rng.random_range(0..3)];
        let seed = self.seed;
        let Side { streams, held, .. } = &mut self.sides[side];
        let handle = held.get_mut(&key).unwrap();
        let read = streams.poll_read(Instant::from_nanos(handle.read), key, max);
        match read.map_ok(|(outcome, _)| outcome) {
            Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => {
                for b in bytes {
                    if let Some(prefix) = handle.prefix.get_mut(handle.read as usize) {
                        *prefix = b;
                        handle.reads = Some(u32::from_be_bytes(handle.prefix) as usize).filter(|_| handle.read == 3);
                    } else {
                        let number = handle.reads.expect("a number comes first");
                        let is_mark = self.written[number].marks.contains(&handle.read);
                        assert!(!is_mark, "seed {seed}: direction {number} at {}", handle.read);
                        assert_eq!(
                            b,
                            byte(number, handle.read),
                            "seed {seed}: direction {number} at {}",
                            handle.read
                        );
                    }
                    handle.read += 1;
                }
            }
            Poll::Ready(Ok(ReadOutcome::Mark)) => {
                let number = handle.reads.expect("a number comes first");
                let is_mark = self.written[number].marks.contains(&handle.read);
                assert!(is_mark, "seed {seed}: direction {number} at {}", handle.read);
                handle.read += 1;
                self.marks += 1;
            }
            Poll::Ready(Ok(ReadOutcome::End)) => {
                self.ends += 1;
                if let Some(number) = handle.reads {
                    let written = &self.written[number];
                    assert!(written.is_finished, "seed {seed}: {written:?}");
                    assert_eq!(written.len, handle.read, "seed {seed}");
                }
            }
            Poll::Ready(Err(ReadError::Reset { .. })) => self.resets += 1,
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
        if let Some(number) = handle.reads {
            self.written[number].read = handle.read;
        }
    }

    /// Asks whether the peer's application has read everything.
    fn ask(&mut self, side: usize, key: StreamKey) {
        let Side { streams, held, .. } = &mut self.sides[side];
        if streams.poll_consumed(key) == Poll::Ready(Ok(()))
            && let Some(number) = held[&key].writes
        {
            let (seed, written) = (self.seed, &self.written[number]);
            // The reader of a shorter one does not know its number.
            if written.len >= 4 {
                assert!(written.is_finished, "seed {seed}: direction {number}");
                assert_eq!(written.read, written.len, "seed {seed}: direction {number}");
                self.consumed += 1;
            }
        }
    }

    fn finish(&mut self, side: usize, key: StreamKey) {
        let is_finished = self.sides[side].streams.finish(key).is_ok();
        if let Some(number) = self.sides[side].held[&key].writes {
            self.written[number].is_finished |= is_finished;
        }
    }

    fn take_streams(&mut self, side: usize) {
        let refuse = self.rng.random_ratio(1, 8);
        let Side { streams, held, .. } = &mut self.sides[side];
        if let Some(incoming) = streams.take_incoming() {
            if refuse {
                streams.refuse(incoming.key, Code::REFUSED_PROTOCOL);
            } else if streams.accept_top_level(incoming.key) {
                held.insert(incoming.key, Handle::default());
            }
        }
    }

    /// Accepts a child, if there is one. Returns whether none will come.
    fn accept(&mut self, side: usize, key: StreamKey) -> bool {
        match self.sides[side].streams.poll_accept_substream(key) {
            Poll::Pending => false,
            Poll::Ready(Ok(Some(child))) => {
                self.sides[side].held.insert(child, Handle::default());
                false
            }
            Poll::Ready(Ok(None)) => {
                self.check_no_more(side, key);
                true
            }
            Poll::Ready(Err(_)) => true,
        }
    }

    /// The other side holds the stream no more, and whatever it has opened there has come.
    fn check_no_more(&mut self, side: usize, key: StreamKey) {
        let (seed, lsid) = (self.seed, self.sides[side].streams.lsid_of(key));
        let (here, there) = self.pair(side);
        if let Found::Live(at) = there.streams.find(lsid) {
            let node = &there.streams.life.tree.table[at];
            let may_open = node.has(Flags::HELD) || node.has(Flags::UNACCEPTED);
            assert!(!may_open, "seed {seed}: stream {lsid} is held");
        }
        let children = there.sent.parents.iter().filter(|(_, parent)| **parent == lsid);
        for (child, _) in children.filter(|(child, _)| there.sent.opened.contains(child)) {
            let has_come = here.streams.find(*child) != Found::Never;
            assert!(
                has_come,
                "seed {seed}: child {child} of stream {lsid} comes after the end"
            );
        }
        self.childless += 1;
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock * 1_000_000)
    }

    fn send_datagram(&mut self, side: usize, key: StreamKey) {
        let number = self.datagrams.len();
        let size = [4, 4, 4, 200, 200, 1300, 1300, 5000, 40_000][self.rng.random_range(0..9)];
        let deadline = self.rng.random_bool(0.5).then(|| self.rng.random_range(1..2000));
        let options = DatagramOptions {
            reliable: self.rng.random(),
            deadline: deadline.map(std::time::Duration::from_millis),
            priority: self.rng.random_range(-1..2),
            tracked: true,
        };
        let data: Bytes = (0..size).map(|at| byte(number, at as u64)).collect();
        let now = self.now();
        let Side { streams, unsettled, .. } = &mut self.sides[side];
        let loss = if self.rng.random() { 0 } else { 10_000 };
        streams.set_loss(loss, std::time::Duration::from_millis(20));
        if let Ok(Some(id)) = streams.send_datagram(now, key, &data, &options) {
            self.datagrams.push((size, false));
            unsettled.insert(id, (number, options.reliable));
        }
    }

    fn recv_datagram(&mut self, side: usize, key: StreamKey) {
        let now = self.now();
        let Ok(Some(data)) = self.sides[side].streams.recv_datagram(now, key) else {
            return;
        };
        let number = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
        let (seed, (size, was_received)) = (self.seed, &mut self.datagrams[number]);
        assert!(
            !std::mem::replace(was_received, true),
            "seed {seed}: datagram {number} came twice"
        );
        assert_eq!(data.len(), *size, "seed {seed}: datagram {number}");
        assert!(
            data.iter().enumerate().all(|(at, b)| *b == byte(number, at as u64)),
            "seed {seed}: datagram {number} is wrong"
        );
    }

    fn settle(&mut self, side: usize) {
        let now = self.now();
        let Side { streams, unsettled, .. } = &mut self.sides[side];
        streams.on_timer(now);
        for event in streams.events() {
            let StreamEvent::DatagramSettled(id, fate) = event else {
                continue;
            };
            let (_, is_reliable) = unsettled.remove(&id).expect("a fate is told once");
            let name = match fate {
                DatagramFate::Delivered => "delivered",
                DatagramFate::Expired => "expired",
                DatagramFate::Refused(_) => "refused",
                DatagramFate::Lost if !is_reliable => "lost",
                DatagramFate::Cancelled if self.trees > 0 => "cancelled",
                other => panic!("seed {}: {other:?}", self.seed),
            };
            *self.fates.entry(name).or_default() += 1;
        }
    }

    /// One random operation of one application.
    fn act(&mut self, side: usize) {
        self.clock += 1;
        let what = self.rng.random_range(0..58);
        if what < 3 {
            let Side { streams, held, .. } = &mut self.sides[side];
            if held.len() < 30 {
                held.insert(streams.open_top_level("svc", "v1").unwrap(), Handle::default());
            }
            return;
        }
        if what < 6 {
            return self.take_streams(side);
        }
        let Some(key) = self.sides[side].any(&mut self.rng) else {
            return;
        };
        let Side { streams, held, .. } = &mut self.sides[side];
        match what {
            6..9 => {
                if held.len() < 60
                    && let Ok(child) = streams.open_substream(key)
                {
                    held.insert(child, Handle::default());
                }
            }
            9..12 => {
                self.accept(side, key);
            }
            12..20 => self.write(side, key),
            20..34 => self.read(side, key),
            34..36 => self.finish(side, key),
            36 => streams.reset(key, Code::app(4), "test"),
            40 => {
                let modes = [
                    ListenMode::Reject,
                    ListenMode::Limit(3000),
                    ListenMode::Unlimited,
                    ListenMode::Inherit,
                ];
                streams.set_listen_mode(key, modes[self.rng.random_range(0..4)]);
            }
            37 => streams.stop(key, Code::app(5), "test"),
            38 => {
                streams.release(key);
                held.remove(&key);
            }
            41..45 => self.send_datagram(side, key),
            45..49 => self.recv_datagram(side, key),
            39 | 49..51 => self.settle(side),
            51 | 52 => streams.set_priority(key, self.rng.random_range(-2..=2)),
            53 => streams.request_priority(key, self.rng.random_range(-2..=2)),
            54..57 => self.ask(side, key),
            57 => {
                if self.rng.random_ratio(1, 3) {
                    streams.reset_tree(key, Code::app(6), "test");
                    self.trees += 1;
                }
            }
            _ => unreachable!(),
        }
    }

    fn check(&self, step: usize) {
        let what = format!("seed {} step {step}", self.seed);
        self.sides[0].check(&self.sides[1], &what);
        self.sides[1].check(&self.sides[0], &what);
    }

    /// The applications come to an end, and the wire is good.
    fn wind_up(&mut self) {
        for _ in 0..3000 {
            for side in 0..2 {
                self.take_streams(side);
                let keys: Vec<_> = self.sides[side].held.keys().copied().collect();
                for key in keys {
                    self.finish(side, key);
                    self.ask(side, key);
                    self.read(side, key);
                    self.recv_datagram(side, key);
                    // One side lets go first; the other waits until it is told.
                    let is_told = self.accept(side, key) || side == 0;
                    let info = self.sides[side].streams.info(key).unwrap();
                    let is_over = info.receiving == crate::streams::RecvState::Done && info.children == 0;
                    if is_over && is_told && self.sides[side].streams.poll_drained(key).is_ready() {
                        self.sides[side].streams.release(key);
                        self.sides[side].held.remove(&key);
                    }
                }
                self.settle(side);
                for _ in 0..20 {
                    self.send(side);
                    self.arrive(side, 0);
                }
            }
            let is_quiet = self
                .sides
                .iter()
                .all(|s| s.held.is_empty() && s.flying.is_empty() && s.unsettled.is_empty() && s.streams.len() == 0);
            if is_quiet && self.sides.iter().all(|s| !s.streams.wants()) {
                return;
            }
        }
        let left = self.sides.each_ref().map(|s| (s.held.len(), s.streams.tree(named)));
        panic!("seed {}: streams are left: {left:?}", self.seed);
    }
}

/// A packet arrives: the receiver takes it in, and both ledgers learn what it counts.
fn deliver(seed: u64, sender: &mut Side, receiver: &mut Side, packet: &Packet) {
    for frame in packet.frames() {
        let lsid = match &frame {
            Frame::Stream(f) => f.lsid,
            Frame::Reset(f) => f.lsid,
            _ => 0,
        };
        let before = lsid == 0 || receiver.streams.find(lsid) == Found::Never;
        let was_live = matches!(receiver.streams.find(lsid.max(1)), Found::Live(_));
        // A datagram may be whole, and retired, at once.
        let is_datagram = match &frame {
            Frame::Stream(Stream { init: Some(init), .. }) => {
                matches!(init.kind, InitKind::Datagram { .. })
                    && matches!(receiver.streams.find(init.parent), Found::Live(_))
            }
            _ => false,
        };
        let result = receiver.streams.on_frame(&frame, &packet.bytes);
        result.unwrap_or_else(|e| panic!("seed {seed}: {e} after {frame:?}"));
        let is_live = matches!(receiver.streams.find(lsid.max(1)), Found::Live(_));
        let is_kept = before && (is_live || is_datagram);
        if was_live || is_kept {
            receiver.received.note(&frame);
        }
        // STREAM from either side tells both directions where a stream is.
        if let Frame::Stream(Stream { init: Some(init), .. }) = &frame
            && is_kept
        {
            receiver.sent.open(lsid, init.parent);
            sender.received.open(lsid, init.parent);
        }
        let gone = match &frame {
            Frame::Reset(f) if f.code == Code::PARENT_GONE => Some(f.lsid),
            Frame::Stop(f) if f.code == Code::PARENT_GONE => Some(f.lsid),
            _ => None,
        };
        if let Some(lsid) = gone {
            receiver.sent.forget(lsid);
        }
    }
}

// spec: STR-11, STR-16, STR-18, STR-19, STR-27, STR-29, STR-71, STR-72
#[test]
fn random_operations_keep_data_ends_and_credit_right() {
    let seeds = std::env::var("SSS_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .map_or(0..120, |s| s..s + 1);
    let (mut ends, mut resets, mut marks) = (0, 0, 0);
    let (mut consumed, mut trees, mut childless) = (0, 0, 0);
    let (mut fates, mut received) = (BTreeMap::new(), 0);
    for seed in seeds {
        let mut world = World::new(seed);
        for step in 0..5000 {
            let side = world.rng.random_range(0..2);
            match world.rng.random_range(0..4) {
                0 => world.send(side),
                1 => world.arrive(side, world.loss),
                _ => world.act(side),
            }
            if step % 50 == 0 {
                // Whatever there is, nothing is lost by a rest.
                world
                    .sides
                    .iter_mut()
                    .for_each(|s| crate::streams::rest(&mut s.streams));
            }
            if step % 16 == 0 {
                world.check(step);
            }
        }
        world.wind_up();
        world.check(usize::MAX);
        for side in &world.sides {
            let (charge, consumed, _) = side.streams.backing(0);
            assert_eq!(charge, consumed, "seed {seed}");
            assert_eq!(side.streams.spent(), side.streams.root_extra(), "seed {seed}");
        }
        let charges = world
            .sides
            .each_ref()
            .map(|s| (s.streams.lent(0), s.streams.backing(0).0));
        assert_eq!(
            (charges[0].0, charges[1].0),
            (charges[1].1, charges[0].1),
            "seed {seed}"
        );
        ends += world.ends;
        resets += world.resets;
        marks += world.marks;
        consumed += world.consumed;
        trees += world.trees;
        childless += world.childless;
        received += world.datagrams.iter().filter(|(_, was_received)| *was_received).count();
        for (fate, count) in &world.fates {
            *fates.entry(*fate).or_default() += *count;
        }
    }
    assert!(ends > 0 && resets > 0 && marks > 1000, "{ends} {resets} {marks}");
    println!("{fates:?}, {received} received, {consumed} consumed, {trees} trees, {childless} without children");
    assert!(childless > 1000, "{childless}");
    assert!(consumed > 1000 && trees > 100, "{consumed} {trees}");
    let is_told = |fate| fates.get(fate).is_some_and(|count: &usize| *count > 0);
    assert!(["delivered", "expired", "refused", "lost"].into_iter().all(is_told));
    assert!(received > 0);
}
