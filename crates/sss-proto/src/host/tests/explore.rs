//! Every schedule of two real hosts that differs from a quiet network in a few places.
//!
//! A run is a list of *deviations* from the quiet schedule, in which the packet that was sent first arrives first, and
//! time passes only when nothing is on its way: `(step, deviation)`. All lists of at most `d` deviations are run, from
//! the start, each to its end (delay-bounded scheduling: Emmi, Qadeer, Rakamarić, POPL 2011). A host is a function of
//! its inputs, so a state is what both hosts were given, and when, what is on its way, and what may still deviate. Two
//! runs that come to one state are the same from there on, and the second one is cut off: nothing is lost by that.
//!
//! `SSS_EXPLORE_DEPTH=2 cargo test --release -p sss-proto explore -- --nocapture` goes deeper and says how far.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use sss_crypto::packet::{HeaderKey, PacketKey};
use sss_wire::short;

use super::*;
use crate::key_log::{ChannelSecret, SecretPurpose};
use crate::peer::Peer;

/// Packets behind the first that may overtake it.
const WINDOW: usize = 3;
/// Time within which the network, quiet again, has brought everything.
const PATIENCE: Duration = Duration::from_secs(150);
/// Length of the channel ids.
const ID_LEN: usize = 4;
const START: Instant = Instant::from_nanos(1_000_000_000);

/// Something that a quiet network does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Deviation {
    /// The packet that would arrive is lost.
    Lose,
    /// It arrives, and once more after all others.
    Repeat,
    /// One of those behind it arrives first.
    Overtake(usize),
    /// Timers run out while packets are on their way.
    Wait,
    /// A host is started anew, and has forgotten everything but its identity.
    Restart(usize),
    /// A host moves to an address of its own choice, and is told.
    Move(usize),
    /// A host begins a channel, though it has one.
    Renew(usize),
}

/// A situation that is looked into.
#[derive(Clone, Copy)]
struct Scenario {
    /// The hosts that connect at the start.
    openers: &'static [usize],
    /// Deviations begin when the first data of both has arrived.
    established: bool,
}

struct Actor {
    host: Host,
    address: SocketAddr,
    /// Moves and starts so far.
    moves: u8,
    lives: u8,
    /// Hash of all that the host was given, since it was started first.
    history: u64,
    wake: Option<Instant>,
    /// The stream on which its latest words went.
    stream: Option<StreamId>,
    words: u8,
    /// It connected of its own accord.
    is_opener: bool,
}

/// Use of a secret: the channel id of the packets, and the purpose.
type Use = (Vec<u8>, SecretPurpose);

/// The view of an eavesdropper with the key log.
#[derive(Default)]
struct Witness {
    /// By channel id and purpose: the secret, and who told it.
    secrets: HashMap<Use, ([u8; 32], [bool; 2])>,
    /// The first use of each secret.
    owners: HashMap<[u8; 32], Use>,
    keys: HashMap<Vec<u8>, (HeaderKey, BTreeMap<u32, PacketKey>, u64)>,
    /// Datagrams that were sealed, by key and number.
    sealed: HashMap<(Vec<u8>, u32, u64), Vec<u8>>,
}

impl Witness {
    fn note(&mut self, n: usize, told: &ChannelSecret) {
        let (id, bytes) = (told.channel_id.as_slice().to_vec(), *told.secret.reveal());
        let name = (id.clone(), told.purpose);
        let (secret, tellers) = self.secrets.entry(name.clone()).or_insert((bytes, [false; 2]));
        assert_eq!(*secret, bytes, "two hosts have different keys for {name:?}");
        assert!(
            !std::mem::replace(&mut tellers[n], true),
            "host {n} began {name:?} twice"
        );
        let owner = self.owners.entry(bytes).or_insert_with(|| name.clone());
        assert_eq!(*owner, name, "one key for two uses");
    }

    /// Reads a short packet, if it is one.
    fn read(&mut self, datagram: &[u8]) {
        if datagram[0] & 0x80 != 0 || datagram.len() < ID_LEN + 22 {
            return;
        }
        let mut packet = datagram.to_vec();
        let id = packet[1..=ID_LEN].to_vec();
        let Some((mask, generations, next)) = self.keys.get_mut(&id) else {
            return;
        };
        let Ok(sample) = short::sample(&packet, ID_LEN) else {
            return;
        };
        let mask = mask.mask(sample);
        let Ok(header) = short::unmask(&mut packet, ID_LEN, &mask) else {
            return;
        };
        let seq = short::recover_sequence(header.sequence, header.sequence_len, *next);
        let (aad, body) = packet.split_at(header.encoded_len());
        for (generation, key) in generations {
            if key.open(seq, aad, &mut body.to_vec()).is_ok() {
                *next = (*next).max(seq + 1);
                let before = self.sealed.insert((id, *generation, seq), datagram.to_vec());
                assert!(before.is_none_or(|it| it == datagram), "number {seq} was used twice");
                return;
            }
        }
    }

    /// Reads everything that was sent: afterwards, as secrets may be told after the packets that need them.
    fn read_all(&mut self, sent: &[Vec<u8>]) {
        let suite = sss_crypto::Suite::ChaCha20Poly1305;
        for ((id, purpose), (secret, _)) in &self.secrets {
            if let (SecretPurpose::Header, false) = (purpose, self.keys.contains_key(id)) {
                let header = HeaderKey::new(suite, secret);
                self.keys.insert(id.clone(), (header, BTreeMap::new(), 0));
            }
        }
        for ((id, purpose), (secret, _)) in &self.secrets {
            if let (SecretPurpose::Generation(n), Some((_, generations, _))) = (purpose, self.keys.get_mut(id)) {
                let secret = sss_crypto::schedule::Secret::new(*secret);
                generations.insert(*n, PacketKey::new(suite, &secret));
            }
        }
        sent.iter().for_each(|datagram| self.read(datagram));
    }
}

struct World {
    actors: [Actor; 2],
    now: Instant,
    wire: VecDeque<Packet>,
    sent: Vec<Vec<u8>>,
    /// Speakers that were heard, with what they said.
    heard: HashSet<(u8, u8)>,
    witness: Witness,
}

fn started(n: usize, lives: u8) -> Host {
    let config = Config::default().with(|config| {
        config.key_log = true;
        config.max_datagram = 1232;
        config.channel_id_len = ID_LEN;
        config.suites = vec![sss_crypto::Suite::ChaCha20Poly1305];
    });
    let seed = u8::try_from(n).unwrap() + 1;
    let mut host = Host::new(config, StaticKey::from_bytes([seed; 32]), [seed + 16 * lives; 32]);
    host.listen(SERVICE.0, SERVICE.1).unwrap();
    host
}

fn address(n: usize, moves: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, moves, u8::try_from(n).unwrap() + 1], 4000))
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let actor = |n: usize| Actor {
            host: started(n, 0),
            address: address(n, 0),
            moves: 0,
            lives: 0,
            history: 0,
            wake: None,
            stream: None,
            words: 0,
            is_opener: scenario.openers.contains(&n),
        };
        let mut world = Self {
            actors: [actor(0), actor(1)],
            now: START,
            wire: VecDeque::new(),
            sent: Vec::new(),
            heard: HashSet::new(),
            witness: Witness::default(),
        };
        scenario.openers.iter().for_each(|n| world.say(*n));
        world
    }

    fn note(&mut self, n: usize, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        (self.actors[n].history, self.now, what).hash(&mut hasher);
        self.actors[n].history = hasher.finish();
    }

    /// The application of a host has something new to say, on a stream of its own.
    fn say(&mut self, n: usize) {
        self.note(n, "say");
        let (eid, hint) = (self.actors[1 - n].host.eid(), self.actors[1 - n].address);
        let actor = &mut self.actors[n];
        actor.words += 1;
        let stream = actor.host.connect(self.now, eid, SERVICE, &[hint.into()]).unwrap();
        let words = [u8::try_from(n).unwrap(), actor.words];
        assert_eq!(written(actor.host.stream(stream).poll_write(&words)), 2);
        actor.stream = Some(stream);
        self.pump(n);
    }

    /// Lets a host do what it has to do; its application reads, and says what was lost once more.
    fn pump(&mut self, n: usize) {
        let mut buf = TransmitBuf::new(1);
        let mut is_cut = false;
        loop {
            let actor = &mut self.actors[n];
            match actor.host.poll(self.now, &mut buf) {
                Output::Transmit(transmit) => {
                    let bytes = buf.filled().to_vec();
                    self.sent.push(bytes.clone());
                    self.wire
                        .push_back((actor.address, transmit.link.address().unwrap(), bytes));
                }
                Output::Event(Event::Secret(secret)) => self.witness.note(n, &secret),
                Output::Event(Event::Disconnected(..)) => is_cut = true,
                Output::Event(_) => {}
                Output::Wake(at) => {
                    actor.wake = at;
                    if !self.listen(n) {
                        break;
                    }
                }
            }
        }
        if is_cut && self.actors[n].is_opener && !self.is_heard(n) {
            self.say(n);
        }
    }

    /// Reads what has come. False if nothing has.
    fn listen(&mut self, n: usize) -> bool {
        let host = &mut self.actors[n].host;
        let Some((stream, _)) = host.accept(crate::ids::ListenerId(0)) else {
            return false;
        };
        if let Poll::Ready(Ok(ReadOutcome::Chunk(words))) = host.stream(stream).poll_read(self.now, 100) {
            assert_eq!(words.len(), 2);
            self.heard.insert((words[0], words[1]));
        }
        true
    }

    fn is_heard(&self, n: usize) -> bool {
        self.heard.contains(&(u8::try_from(n).unwrap(), self.actors[n].words))
    }

    /// The openers have been heard with their latest words.
    fn is_done(&self) -> bool {
        (0..2).all(|n| !self.actors[n].is_opener || self.is_heard(n))
    }

    fn deliver(&mut self, packet: &Packet) {
        let Some(n) = (0..2).find(|n| self.actors[*n].address == packet.1) else {
            return;
        };
        self.note(n, packet);
        let mut data = BytesMut::from(&packet.2[..]);
        let batch = Batch {
            stride: data.len(),
            data: &mut data,
            lent: &mut None,
            link: Link::Udp(packet.0),
            local: None,
            ecn: Ecn::NotEct,
        };
        self.actors[n].host.handle(self.now, Input::Datagrams(batch));
        self.pump(n);
    }

    /// Time passes to the next timer. False if there is none.
    fn tick(&mut self) -> bool {
        let Some(at) = self.actors.iter().filter_map(|actor| actor.wake).min() else {
            return false;
        };
        self.now = self.now.max(at);
        for n in 0..2 {
            if self.actors[n].wake.is_some_and(|at| at <= self.now) {
                self.note(n, "tick");
                self.actors[n].host.handle(self.now, Input::Tick);
                self.pump(n);
            }
        }
        true
    }

    fn step(&mut self, deviation: Option<Deviation>) {
        match deviation {
            None => match self.wire.pop_front() {
                Some(packet) => self.deliver(&packet),
                None => {
                    assert!(self.tick(), "nothing will ever happen");
                }
            },
            Some(Deviation::Lose) => drop(self.wire.pop_front()),
            Some(Deviation::Repeat) => {
                let packet = self.wire.pop_front().unwrap();
                self.deliver(&packet);
                self.wire.push_back(packet);
            }
            Some(Deviation::Overtake(by)) => {
                let packet = self.wire.remove(by).unwrap();
                self.deliver(&packet);
            }
            Some(Deviation::Wait) => {
                self.tick();
            }
            Some(Deviation::Restart(n)) => self.restart(n),
            Some(Deviation::Move(n)) => self.relocate(n),
            Some(Deviation::Renew(n)) => {
                self.note(n, "renew");
                let actor = &mut self.actors[n];
                let has_channel = |peer: &&Peer| peer.open_channels() > 0;
                let id = actor.host.peers.iter().find(has_channel).unwrap().id();
                actor.host.peers.get_mut(id).unwrap().renew();
                actor.host.peers.settle(&mut actor.host.local, id.index);
                self.pump(n);
            }
        }
    }

    fn restart(&mut self, n: usize) {
        self.note(n, "restart");
        let actor = &mut self.actors[n];
        actor.lives += 1;
        actor.host = started(n, actor.lives);
        (actor.stream, actor.wake) = (None, None);
        if actor.is_opener {
            self.say(n);
        } else {
            self.tell_address(1 - n);
        }
    }

    fn relocate(&mut self, n: usize) {
        self.note(n, "move");
        self.tell_address(n);
        let actor = &mut self.actors[n];
        actor.moves += 1;
        actor.address = address(n, actor.moves);
        actor.host.network_changed(self.now, |_, _| true);
        self.pump(n);
    }

    /// The other host has moved without this one having heard of it, and will not be heard at its new address, or not
    /// where this host is: somebody else has to tell.
    fn tell_address(&mut self, n: usize) {
        let (eid, there) = (self.actors[1 - n].host.eid(), self.actors[1 - n].address);
        let host = &mut self.actors[n].host;
        let is_known = |peer: &Peer| peer.transport().channels().made_at(there.into()).is_some();
        if !host.peers.iter().any(is_known) {
            host.add_hints(self.now, &eid, &[there.into()]);
        }
    }

    /// Deviations that are possible here.
    fn deviations(&self) -> Vec<Deviation> {
        let mut all = Vec::new();
        if !self.wire.is_empty() {
            all.extend([Deviation::Lose, Deviation::Repeat, Deviation::Wait]);
        }
        all.extend((1..self.wire.len().min(WINDOW + 1)).map(Deviation::Overtake));
        for n in 0..2 {
            let actor = &self.actors[n];
            all.push(Deviation::Restart(n));
            let has_channel = self.open_channels(n) > 0;
            if has_channel && actor.moves < 2 {
                all.extend([Deviation::Move(n), Deviation::Renew(n)]);
            }
        }
        all
    }

    /// Open channels of a host to the other, and to lives of it that are over.
    fn open_channels(&self, n: usize) -> usize {
        self.actors[n].host.peers.iter().map(|peer| peer.open_channels()).sum()
    }

    /// A hash of all that decides what follows.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for actor in &self.actors {
            (actor.history, actor.address, actor.lives).hash(&mut hasher);
        }
        (self.now, &self.wire).hash(&mut hasher);
        hasher.finish()
    }
}

/// Figures of an exploration.
#[derive(Debug, Default)]
struct Explored {
    runs: usize,
    cut: usize,
    states: usize,
    steps: usize,
    packets_read: usize,
    /// Time until one channel was left, at the end of a run.
    longest: Duration,
}

struct Explorer {
    scenario: Scenario,
    depth: usize,
    /// States, and how much might still deviate from each when it was come to (and one more).
    seen: HashMap<u64, usize>,
    pending: Vec<Vec<(usize, Deviation)>>,
    found: Explored,
}

impl Explorer {
    fn explore(scenario: Scenario, depth: usize) -> Explored {
        let mut this = Self {
            scenario,
            depth,
            seen: HashMap::new(),
            pending: vec![Vec::new()],
            found: Explored::default(),
        };
        while let Some(schedule) = this.pending.pop() {
            let run = std::panic::AssertUnwindSafe(|| this.run(&schedule));
            if let Err(panic) = std::panic::catch_unwind(run) {
                println!("the schedule: {schedule:?}");
                std::panic::resume_unwind(panic);
            }
        }
        this.found.states = this.seen.len();
        println!("{depth} deviations: {:?}", this.found);
        this.found
    }

    /// Runs a schedule to its end, and notes those that deviate from it once more.
    fn run(&mut self, schedule: &[(usize, Deviation)]) {
        self.found.runs += 1;
        let mut world = World::new(self.scenario);
        if self.scenario.established {
            while !world.is_done() || !world.wire.is_empty() {
                world.step(None);
            }
        }
        let first = schedule.last().map_or(0, |(step, _)| step + 1);
        let mut deviations = schedule.iter().peekable();
        for step in 0.. {
            let planned = deviations
                .next_if(|(at, _)| *at == step)
                .map(|(_, deviation)| *deviation);
            if step >= first {
                let left = self.depth - schedule.len();
                let known = self.seen.entry(world.fingerprint()).or_insert(0);
                if *known > left {
                    self.found.cut += 1;
                    return;
                }
                *known = left + 1;
                if left > 0 {
                    let more = |deviation| [schedule, &[(step, deviation)]].concat();
                    self.pending.extend(world.deviations().into_iter().map(more));
                }
                if world.is_done() && world.wire.is_empty() {
                    break;
                }
            }
            self.found.steps += 1;
            world.step(planned);
            assert!(world.now < START + PATIENCE, "not all has arrived");
        }
        self.end(world);
    }

    /// All is quiet: one channel is left, and it works for whoever had opened.
    fn end(&mut self, mut world: World) {
        let begin = world.now;
        for n in 0..2 {
            if world.actors[n].is_opener {
                world.say(n);
            }
        }
        // Those that lost go after a while (MIG-8), and hosts that had not noticed a restart do.
        let is_left = |world: &World| [0, 1].map(|n| world.open_channels(n)) == [1, 1];
        while !world.is_done() || !world.wire.is_empty() || !is_left(&world) {
            world.step(None);
            let open = [0, 1].map(|n| world.open_channels(n));
            assert!(
                world.now < begin + PATIENCE,
                "{open:?} channels are left, done: {}",
                world.is_done()
            );
        }
        self.found.longest = self.found.longest.max(world.now.since(begin));
        let sent = std::mem::take(&mut world.sent);
        world.witness.read_all(&sent);
        self.found.packets_read += world.witness.sealed.len();
    }
}

/// Deviations in one run: what is asked for, or what takes some seconds.
fn depth(modest: usize) -> usize {
    let asked = std::env::var("SSS_EXPLORE_DEPTH").ok();
    asked.map_or(modest, |depth| depth.parse().expect("a number"))
}

const ONE: Scenario = Scenario {
    openers: &[0],
    established: false,
};
const BOTH: Scenario = Scenario {
    openers: &[0, 1],
    established: false,
};

// spec: NEG-11, NEG-15
#[test]
fn explore_one_that_opens() {
    let found = Explorer::explore(ONE, depth(2));
    assert!(found.packets_read > found.runs - found.cut, "the witness reads");
}

// spec: NEG-18
#[test]
fn explore_both_that_open_at_once() {
    Explorer::explore(BOTH, depth(1));
}

// spec: MIG-7, MIG-13
#[test]
fn explore_hosts_that_move() {
    let scenario = Scenario {
        established: true,
        ..BOTH
    };
    Explorer::explore(scenario, depth(2));
}
