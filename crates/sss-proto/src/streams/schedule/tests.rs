//! The scheduler against a plain model of what may be chosen and who was served.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::streams::tree::index::NONE;
use crate::streams::tree::node::{Node, Opener};

/// A competitor in a node's rings: a child, or the node's own data, which bears the node's number.
type Competitor = u32;

/// A competitor that is in a ring.
struct Present {
    level: i8,
    /// Bytes that everybody in the same rings had been served at each level when this one entered.
    before: BTreeMap<(Competitor, i8), u64>,
}

/// A scheduler, its streams, and the model: who is active, and who was served how much.
struct Model {
    table: Table,
    scheduler: Scheduler,
    nodes: Vec<u32>,
    /// For each node, those in its rings.
    present: BTreeMap<u32, BTreeMap<Competitor, Present>>,
    /// For each node, what its competitors were served at each level.
    served: BTreeMap<u32, BTreeMap<(Competitor, i8), u64>>,
    what: String,
}

impl Model {
    fn new(what: String) -> Self {
        let mut table = Table::default();
        table.insert(Node::new(NONE, 0, Opener::Own, None));
        Self {
            table,
            scheduler: Scheduler::default(),
            nodes: vec![ROOT],
            present: BTreeMap::new(),
            served: BTreeMap::new(),
            what,
        }
    }

    fn add(&mut self, parent: u32) -> u32 {
        let depth = self.table[parent].place.depth + 1;
        let key = self.table.insert(Node::new(parent, depth, Opener::Own, None));
        self.table[parent].account_mut().children += 1;
        self.nodes.push(key.index);
        key.index
    }

    fn remove(&mut self, at: u32) {
        self.scheduler.forget(&mut self.table, at);
        let node = self.table.remove(at).unwrap();
        self.table[node.place.parent].account_mut().children -= 1;
        self.nodes.retain(|n| *n != at);
        // The slot may be used again, by another stream.
        for served in self.served.values_mut() {
            served.retain(|(who, _), _| *who != at);
        }
        self.refresh();
        for present in self.present.values_mut().flat_map(BTreeMap::values_mut) {
            present.before.retain(|(who, _), _| *who != at);
        }
    }

    fn children(&self, of: u32) -> Vec<u32> {
        let is_child = |n: &u32| *n != ROOT && self.table[*n].place.parent == of;
        self.nodes.iter().copied().filter(is_child).collect()
    }

    /// Returns whether a node or one below it has something to send.
    fn is_busy(&self, at: u32) -> bool {
        self.table[at].has(Flags::ACTIVE) || self.children(at).into_iter().any(|c| self.is_busy(c))
    }

    /// Returns who should be in a node's rings, and at which level.
    fn competitors(&self, of: u32) -> BTreeMap<Competitor, i8> {
        let mut all = BTreeMap::new();
        for child in self.children(of) {
            if self.is_busy(child) {
                all.insert(child, self.table[child].place.level);
            }
        }
        if self.table[of].has(Flags::ACTIVE) && !all.is_empty() {
            all.insert(of, 0);
        }
        all
    }

    /// Notes who has entered rings, and who has left.
    fn refresh(&mut self) {
        for node in self.nodes.clone() {
            let should = self.competitors(node);
            let served = self.served.entry(node).or_default();
            let present = self.present.entry(node).or_default();
            present.retain(|who, p| should.get(who) == Some(&p.level));
            for (who, level) in should {
                present.entry(who).or_insert_with(|| Present {
                    level,
                    before: served.clone(),
                });
            }
        }
    }

    /// Lets the scheduler choose, and the chosen one send.
    fn send(&mut self, bytes: usize) -> u32 {
        let index = self.scheduler.pick(&self.table).expect("somebody is active").index;
        assert!(
            self.table[index].has(Flags::ACTIVE),
            "{}: {index} has nothing to send",
            self.what
        );
        let mut who = index;
        let mut node = index;
        loop {
            let rivals = self.competitors(node);
            if let Some(level) = rivals.get(&who) {
                let highest = rivals.values().max().unwrap();
                assert_eq!(level, highest, "{}: {who} below {node} of {rivals:?}", self.what);
                *self.served.entry(node).or_default().entry((who, *level)).or_default() += bytes as u64;
            }
            if node == ROOT {
                break;
            }
            who = node;
            node = self.table[node].place.parent;
        }
        self.scheduler.charge(&self.table, index, bytes);
        index
    }

    /// Nobody of the same level was served much more than one who was in the ring all the time, however often it came
    /// and went.
    fn check_shares(&self, slack: u64) {
        for (node, present) in &self.present {
            let served = &self.served[node];
            for (who, p) in present {
                let since = |key: (Competitor, i8)| {
                    let before = p.before.get(&key).copied().unwrap_or(0);
                    served.get(&key).copied().unwrap_or(0) - before
                };
                let own = since((*who, p.level));
                for (rival, level) in served.keys().filter(|(_, level)| *level == p.level) {
                    let theirs = since((*rival, *level));
                    assert!(
                        theirs <= own + slack,
                        "{}: below {node}, {rival} got {theirs} and {who} {own}",
                        self.what
                    );
                }
            }
        }
    }
}

fn random_step(model: &mut Model, rng: &mut StdRng, levels: &[i8]) {
    let any = model.nodes[rng.random_range(0..model.nodes.len())];
    match rng.random_range(0..100) {
        0..2 if model.nodes.len() < 24 && model.table[any].place.depth < 5 => {
            model.add(any);
        }
        2..4 if any != ROOT && model.table[any].children() == 0 && model.nodes.len() > 12 => model.remove(any),
        4..8 if any != ROOT => model.scheduler.activate(&mut model.table, any),
        8..11 => model.scheduler.deactivate(&mut model.table, any),
        11..13 if any != ROOT => {
            let level = levels[rng.random_range(0..levels.len())];
            model.scheduler.set_level(&mut model.table, any, level);
        }
        _ if model.scheduler.has_active() => {
            let bytes = [20, 700, 1200, 1200][rng.random_range(0..4)];
            let index = model.send(bytes);
            // Some have no more, and have it again soon: the worst case for who stays.
            if rng.random_ratio(1, 4) {
                model.scheduler.deactivate(&mut model.table, index);
                model.refresh();
                if rng.random_ratio(3, 4) {
                    model.scheduler.activate(&mut model.table, index);
                }
            }
        }
        _ => {}
    }
    model.refresh();
}

// spec: STR-22, STR-23
#[test]
fn random_trees_are_served_strictly_by_level_and_equally_within() {
    let seeds = std::env::var("SSS_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .map_or(0..60, |s| s..s + 1);
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut model = Model::new(format!("seed {seed}"));
        let levels: &[i8] = if seed % 3 == 0 { &[0] } else { &[-128, -1, 0, 0, 1, 127] };
        for _ in 0..8 {
            let parent = model.nodes[rng.random_range(0..model.nodes.len())];
            model.add(parent);
        }
        for step in 0..3000 {
            model.what = format!("seed {seed} step {step}");
            random_step(&mut model, &mut rng, levels);
            // A turn more, and what one frame goes beyond the deficit, on either side.
            model.check_shares(3 * MIN_QUANTUM as u64);
        }
        while model.scheduler.has_active() {
            let index = model.send(100);
            model.scheduler.deactivate(&mut model.table, index);
        }
        assert!(model.nodes.iter().all(|n| !model.table[*n].has(Flags::ACTIVE)));
        assert!(model.scheduler.pick(&model.table).is_none());
        assert!(
            model.scheduler.rings.get().is_none_or(Rings::is_empty),
            "seed {seed}: entries are left"
        );
    }
}

#[test]
fn one_who_always_leaves_in_debt_gains_nothing() {
    let mut model = Model::new("debts".to_owned());
    let (steady, comes_and_goes) = (model.add(ROOT), model.add(ROOT));
    model.scheduler.activate(&mut model.table, steady);
    let mut sent = BTreeMap::new();
    for _ in 0..10_000 {
        model.scheduler.activate(&mut model.table, comes_and_goes);
        let index = model.scheduler.pick(&model.table).unwrap().index;
        let before: &mut u64 = sent.entry(index).or_default();
        // A small frame, then a large one, then nothing for a moment.
        let bytes = if index == comes_and_goes && before.is_multiple_of(1300) {
            100
        } else {
            1200
        };
        *before += bytes;
        model.scheduler.charge(&model.table, index, bytes as usize);
        if index == comes_and_goes && before.is_multiple_of(1300) {
            model.scheduler.deactivate(&mut model.table, index);
        }
    }
    let (steady, other) = (sent[&steady] as f64, sent[&comes_and_goes] as f64);
    assert!(other <= steady * 1.01, "{other} beside {steady}");
}

#[test]
fn a_seat_remembers_debts_and_no_savings() {
    let mut rings = Rings::default();
    let interior = rings.open(Slot::NONE);
    let chain = |stream| Chain {
        top: stream,
        bottom: stream,
    };
    let enter =
        |rings: &mut Rings, stream, slot| Slot::taken(rings.enter_chain(interior, (chain(stream), 0), slot, 1000));
    let leave = |rings: &mut Rings, slot| rings.remove(slot).unwrap().1;
    let slot = enter(&mut rings, 7, Slot::NONE);
    rings.spend(slot, 400);
    let slot = leave(&mut rings, slot);
    assert!(!slot.is_taken());
    let slot = enter(&mut rings, 7, slot);
    rings.spend(slot, 999);
    assert_eq!(rings.front(interior, 1000), Some(Who::Chain(chain(7))));
    rings.spend(slot, 500);
    let slot = leave(&mut rings, slot);
    let slot = enter(&mut rings, 7, slot);
    rings.spend(slot, 500);
    let other = enter(&mut rings, 8, Slot::NONE);
    assert_eq!(rings.front(interior, 1000), Some(Who::Chain(chain(7))));
    rings.spend(slot, 1);
    assert_eq!(rings.front(interior, 1000), Some(Who::Chain(chain(8))));
    leave(&mut rings, slot);
    leave(&mut rings, other);
    rings.close(interior);
    assert!(rings.is_empty());
}

/// Steps to serve `count` children of a stream at a level, all of which have something to send, in turn.
fn steps_at(depth: usize, count: usize) -> u64 {
    let mut model = Model::new("depth".to_owned());
    let mut parent = ROOT;
    for _ in 0..depth {
        parent = model.add(parent);
    }
    let children: Vec<u32> = (0..count).map(|_| model.add(parent)).collect();
    for child in &children {
        model.scheduler.activate(&mut model.table, *child);
    }
    let before = model.scheduler.steps();
    for _ in 0..10 * count {
        let index = model.scheduler.pick(&model.table).unwrap().index;
        model.scheduler.charge(&model.table, index, 1000);
    }
    model.scheduler.steps() - before
}

#[test]
fn depth_costs_no_step_where_nothing_is_chosen() {
    assert_eq!(steps_at(1, 20), steps_at(31, 20));
}

impl Model {
    /// A datagram on a stream, which has something to send until a deadline.
    fn add_datagram(&mut self, parent: u32, level: i8, deadline: Option<u64>) -> u32 {
        let index = self.add(parent);
        self.table[index].set(Flags::DATAGRAM);
        self.scheduler.set_level(&mut self.table, index, level);
        if let Some(at) = deadline {
            self.scheduler.set_deadline(index, Instant::from_nanos(at));
        }
        self.scheduler.activate(&mut self.table, index);
        index
    }

    /// Lets so many packets be sent; returns by whom.
    fn order(&mut self, packets: usize) -> Vec<u32> {
        let mut send = || {
            let turn = self.scheduler.pick(&self.table).unwrap();
            self.scheduler.charge(&self.table, turn.of, MIN_QUANTUM);
            turn.index
        };
        (0..packets).map(|_| send()).collect()
    }
}

/// A pace that lets out so many bytes in a millisecond.
fn leaving(bytes: usize) -> Outlook {
    // 1.25 windows in a round trip (REC-7).
    let window = u64::try_from(bytes).unwrap() * 8 + 1;
    Outlook::of(Instant::from_nanos(0), 0, window, Duration::from_millis(10))
}

// spec: STR-80
#[test]
fn turns_are_long_where_a_round_of_all_is_short() {
    let mut model = Model::new("long turns".to_owned());
    let streams = [(); 4].map(|()| model.add(ROOT));
    for stream in streams {
        model.scheduler.activate(&mut model.table, stream);
    }
    let mut runs = |round: usize, packets: usize| {
        model.scheduler.set_round(&leaving(round));
        model.scheduler.set_quantum(MIN_QUANTUM);
        model.order(4 * packets); // What was left of the turns before.
        let order = model.order(8 * packets);
        let lengths: Vec<usize> = order.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
        let counts = streams.map(|s| order.iter().filter(|index| **index == s).count());
        assert!(
            counts.iter().all(|count| count.abs_diff(2 * packets) <= packets),
            "{counts:?}"
        );
        lengths.into_iter().max().unwrap()
    };
    assert_eq!(runs(0, 1), 1);
    assert_eq!(runs(4 * MIN_QUANTUM, 1), 1, "a packet for each");
    assert_eq!(runs(40 * MIN_QUANTUM, 10), 10);
    assert_eq!(runs(4000 * MIN_QUANTUM, 55), MAX_QUANTUM.div_ceil(MIN_QUANTUM));
    assert_eq!(runs(100, 55), 1, "the link has become slow");
    // With many, a round takes no longer than with few.
    let more = [(); 36].map(|()| model.add(ROOT));
    for stream in more {
        model.scheduler.activate(&mut model.table, stream);
    }
    model.scheduler.set_round(&leaving(40 * MIN_QUANTUM));
    model.scheduler.set_quantum(MIN_QUANTUM);
    model.order(40);
    let order = model.order(40);
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

// spec: STR-80
#[test]
fn turns_are_short_where_none_has_more_than_a_packet() {
    let mut model = Model::new("small".to_owned());
    let next = || leaving(100 * MIN_QUANTUM);
    let streams = [(); 3].map(|()| model.add(ROOT));
    for (stream, is_long) in streams.into_iter().zip([false, true, true]) {
        model.scheduler.activate(&mut model.table, stream);
        assert!(model.scheduler.look_ahead(1 << 20, next).is_none());
        assert_eq!(model.scheduler.share > 0, is_long, "one has nobody beside it");
    }
    model.scheduler.look_ahead(3 * MIN_QUANTUM as u64, next);
    assert_eq!(model.scheduler.share, 0, "what was long before is not now");
    model.add_datagram(streams[0], 0, Some(10));
    assert!(model.scheduler.look_ahead(0, next).is_some(), "deadlines want to know");
}

/// Streams of the root that have something to send, beside those that there are.
fn busy(model: &mut Model, count: usize) -> Vec<u32> {
    let streams: Vec<u32> = (0..count).map(|_| model.add(ROOT)).collect();
    for stream in &streams {
        model.scheduler.activate(&mut model.table, *stream);
    }
    streams
}

/// The pace is so many bytes in a millisecond, and packets are of the smallest size.
fn set_pace(model: &mut Model, bytes: usize) {
    model.scheduler.set_round(&leaving(bytes));
    model.scheduler.set_quantum(MIN_QUANTUM);
}

/// The most packets of one stream without another's between them.
fn longest(order: &[u32]) -> usize {
    let runs = order.chunk_by(|a, b| a == b).map(<[u32]>::len);
    runs.max().unwrap_or(0)
}

fn times(order: &[u32], stream: u32) -> usize {
    order.iter().filter(|index| **index == stream).count()
}

// spec: STR-80
#[test]
fn turns_are_short_at_once_when_the_pace_falls_and_shares_stay_equal() {
    let mut model = Model::new("a pace that falls".to_owned());
    let streams = busy(&mut model, 4);
    let mut all = Vec::new();
    for round in 0..5 {
        set_pace(&mut model, 4000 * MIN_QUANTUM);
        // The pace falls in the middle of a turn.
        all.extend(model.order(4 * 55 + 30));
        set_pace(&mut model, 100);
        let slow = model.order(40);
        assert_eq!(longest(&slow), 1, "round {round}: {slow:?}");
        for stream in &streams {
            assert_eq!(times(&slow, *stream), 10, "round {round}: {slow:?}");
        }
        all.extend(slow);
    }
    for stream in streams {
        let count = times(&all, stream);
        assert!(count.abs_diff(all.len() / 4) <= 55, "{count} of {}", all.len());
    }
}

// spec: STR-80
#[test]
fn turns_are_short_at_once_when_many_come() {
    let mut model = Model::new("many come".to_owned());
    let pace = 200 * MIN_QUANTUM;
    let mut streams = busy(&mut model, 2);
    set_pace(&mut model, pace);
    let order = model.order(200);
    assert!(longest(&order) > 50, "{order:?}");
    model.order(30);
    streams.extend(busy(&mut model, 998));
    set_pace(&mut model, pace);
    for _ in 0..3 {
        let order = model.order(1000);
        assert_eq!(longest(&order), 1);
        assert!(streams.iter().all(|stream| times(&order, *stream) == 1));
    }
    // They go: the turns of those who stay are long again.
    for stream in streams.split_off(2) {
        model.scheduler.deactivate(&mut model.table, stream);
    }
    set_pace(&mut model, pace);
    let order = model.order(1000);
    assert!(longest(&order) > 50);
    assert!(times(&order, streams[0]).abs_diff(500) <= 2 * 55);
}

// spec: STR-23, STR-80
#[test]
fn a_level_holds_at_once_in_the_middle_of_a_long_turn() {
    let mut model = Model::new("levels in long turns".to_owned());
    let streams = busy(&mut model, 3);
    set_pace(&mut model, 4000 * MIN_QUANTUM);
    for round in 0..6 {
        let current = model.order(5)[4];
        let other = streams[(round + usize::from(streams[round % 3] == current)) % 3];
        for (level, is_first) in [(1, true), (-1, false), (2, true)] {
            model.scheduler.set_level(&mut model.table, other, level);
            let order = model.order(30);
            let expected = if is_first { 30 } else { 0 };
            assert_eq!(times(&order, other), expected, "round {round}, level {level}");
        }
        model.scheduler.set_level(&mut model.table, other, 0);
    }
}

// spec: STR-22, STR-80
#[test]
fn random_trees_are_served_equally_at_a_pace_that_varies() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut model = Model::new(format!("seed {seed}"));
        let levels: &[i8] = if seed % 3 == 0 { &[0] } else { &[-1, 0, 0, 1] };
        for _ in 0..8 {
            let parent = model.nodes[rng.random_range(0..model.nodes.len())];
            model.add(parent);
        }
        for step in 0..3000 {
            model.what = format!("seed {seed} step {step}");
            if rng.random_ratio(1, 20) {
                let most = [1, 1000, 100_000, 10_000_000][rng.random_range(0..4)];
                set_pace(&mut model, rng.random_range(0..most));
            }
            random_step(&mut model, &mut rng, levels);
            model.check_shares(3 * MAX_QUANTUM as u64);
        }
    }
}

// spec: STR-78
#[test]
fn of_datagrams_with_deadlines_the_first_has_all_their_turns() {
    let mut model = Model::new("deadlines".to_owned());
    let stream = model.add(ROOT);
    let late = model.add_datagram(stream, 0, Some(30));
    let early = model.add_datagram(stream, 0, Some(10));
    let middle = model.add_datagram(stream, 0, Some(20));
    assert_eq!(model.order(6), [early; 6]);
    model.scheduler.deactivate(&mut model.table, early);
    assert_eq!(model.order(4), [middle; 4]);
    model.scheduler.activate(&mut model.table, early);
    assert_eq!(model.order(1), [early]);
    model.remove(early);
    model.remove(middle);
    assert_eq!(model.order(2), [late; 2]);
    model.remove(late);
    assert!(!model.scheduler.has_deadlines());
}

// spec: STR-22, STR-78
#[test]
fn the_others_keep_their_shares_beside_datagrams_with_deadlines() {
    let mut model = Model::new("deadlines and others".to_owned());
    let stream = model.add(ROOT);
    let child = model.add(stream);
    model.scheduler.activate(&mut model.table, child);
    let without = model.add_datagram(stream, 0, None);
    let dated = [40, 30, 20].map(|at| model.add_datagram(stream, 0, Some(at)));
    // Of another stream, and of other levels: they do not take turns of these.
    let other = model.add(ROOT);
    let apart = model.add_datagram(other, 0, Some(1));
    let below = model.add_datagram(stream, -1, Some(1));
    let sent = model.order(1000);
    let count = |of: u32| sent.iter().filter(|index| **index == of).count();
    assert_eq!([dated[0], dated[1], below].map(count), [0; 3]);
    for (who, share) in [(apart, 500), (child, 100), (without, 100), (dated[2], 300)] {
        assert!(count(who).abs_diff(share) <= 5, "{who}: {}", count(who));
    }
}

// spec: STR-79
#[test]
fn a_later_one_is_of_the_same_stream_and_level_and_has_something_to_send() {
    let mut model = Model::new("later".to_owned());
    let stream = model.add(ROOT);
    let first = model.add_datagram(stream, 0, Some(10));
    let others = [(1, Some(20)), (-1, Some(20)), (0, Some(5)), (0, None)];
    for (level, at) in others {
        model.add_datagram(stream, level, at);
    }
    let elsewhere = model.add(ROOT);
    model.add_datagram(elsewhere, 0, Some(20));
    assert!(!model.scheduler.has_later(&model.table, first));
    let later = model.add_datagram(stream, 0, Some(20));
    assert!(model.scheduler.has_later(&model.table, first));
    assert!(!model.scheduler.has_later(&model.table, later));
    model.scheduler.deactivate(&mut model.table, later);
    assert!(!model.scheduler.has_later(&model.table, first));
}
