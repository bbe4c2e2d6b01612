//! Time until a host that is refused hears of it, and in what words.
//!
//! One host tries to reach another that will not have it, in each of nine ways. What is measured is the time from the
//! first packet (for a substream: from its opening) to the moment at which the application is told.

use std::collections::VecDeque;
use std::fmt;
use std::task::Poll;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sss_crypto::Suite;
use sss_proto::{Config, Event, Interest, ListenerId, StreamId};
use sss_wire::{Code, long};

use crate::link::LinkConfig;
use crate::world::{Apps, HostIndex, World};

const CLIENT: HostIndex = HostIndex(0);
const HOST: HostIndex = HostIndex(1);
const SERVICE: (&str, &str) = ("door", "door/1");
/// Round trip of the empty path.
pub const RTT: Duration = Duration::from_millis(50);
/// The time after which an attempt fails by itself.
pub const TIMEOUT: Duration = sss_wire::constants::HELLO_TIMEOUT;
const HELLO: u8 = 0x80;
/// A version that nobody speaks yet.
const FOREIGN: u32 = 9;

/// Reason why a host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The accept filter does not know it.
    Filter,
    /// The application accepts its stream, and closes at once.
    CloseAtAccept,
    /// There is no such service.
    Service,
    /// The service does not speak the protocol.
    Protocol,
    /// Too many substreams wait to be accepted.
    Backlog,
    /// The host speaks another version.
    Version,
    /// There is no common cipher suite.
    Suite,
    /// INITIATE has settings that break a rule.
    BadFrame,
    /// It is the host itself.
    OwnEid,
}

impl Way {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Filter,
        Self::CloseAtAccept,
        Self::Service,
        Self::Protocol,
        Self::Backlog,
        Self::Version,
        Self::Suite,
        Self::BadFrame,
        Self::OwnEid,
    ];

    /// A word that the application must be told.
    fn word(self) -> &'static str {
        match self {
            Self::Filter => "does not allow our EID",
            Self::CloseAtAccept => "members only",
            Self::Service => "no such service",
            Self::Protocol => "does not speak this protocol",
            Self::Backlog => "too many streams",
            Self::Version => "speaks versions [9]",
            Self::Suite => "no cipher suite in common",
            Self::BadFrame => "root_credit is below 65536",
            Self::OwnEid => "own EID",
        }
    }

    /// The longest time without loss. VERSION can be forged, and leaves the true host 3 s to answer.
    pub fn limit(self) -> Duration {
        match self {
            Self::OwnEid => Duration::ZERO,
            Self::Version => Duration::from_secs(3) + RTT,
            _ => 2 * RTT + Duration::from_millis(2),
        }
    }

    fn configs(self) -> (Config, Config) {
        let plain = Config::default;
        match self {
            Self::Filter => {
                let shy = plain().with(|c| c.accept_filter = Some(std::sync::Arc::new(|_, _| false)));
                (plain(), shy)
            }
            Self::Suite => {
                let only = |suite| plain().with(|c| c.suites = vec![suite]);
                (only(Suite::Aes256Gcm), only(Suite::ChaCha20Poly1305))
            }
            Self::BadFrame => (plain().with(|c| c.window.root = 1000), plain()),
            Self::Backlog => (plain(), plain().with(|c| c.streams.backlog = 1)),
            _ => (plain(), plain()),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "accept filter",
            Self::CloseAtAccept => "closed at accept",
            Self::Service => "service",
            Self::Protocol => "protocol",
            Self::Backlog => "backlog",
            Self::Version => "version",
            Self::Suite => "no common suite",
            Self::BadFrame => "bad frame in INITIATE",
            Self::OwnEid => "own EID",
        })
    }
}

/// The applications of both hosts.
struct Door {
    way: Way,
    /// The stream that is to be refused.
    stream: Option<StreamId>,
    accepted: usize,
    told: Option<(Duration, String)>,
}

impl Door {
    fn tell(&mut self, world: &World, what: String) {
        self.told.get_or_insert((world.elapsed(), what));
    }

    fn look(&mut self, world: &mut World) {
        let Some(stream) = self.stream else { return };
        if let Poll::Ready(Err(error)) = world.call(CLIENT, |h, now| h.stream(stream).poll_read(now, 100)) {
            self.tell(world, error.to_string());
        }
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, _)) = world.call(HOST, |h, _| h.accept(listener)) {
            self.accepted += 1;
            if self.way == Way::CloseAtAccept {
                world.call(HOST, |h, now| {
                    h.disconnect(now, stream.peer(), Code::app(403), "members only");
                });
            }
        }
    }
}

impl Apps for Door {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Disconnected(_, _, reason) if host == CLIENT => self.tell(world, reason.to_string()),
            Event::Ready(_, Interest::Read) if host == CLIENT => self.look(world),
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// One attempt: how long it took until the application was told.
///
/// # Errors
/// If it was not told before the timeout, or in other words than it should be.
pub fn run(way: Way, loss: f64, seed: u64) -> Result<Duration, String> {
    let mut world = World::new(seed, false);
    let (client, host) = way.configs();
    world.add_host(client);
    world.add_host(host);
    let link = LinkConfig {
        loss,
        ..LinkConfig::with_delay(RTT / 2)
    };
    world.join(CLIENT, HOST, &link);
    let mut door = Door {
        way,
        stream: None,
        accepted: 0,
        told: None,
    };
    let listener = world
        .call(HOST, |h, _| h.listen(SERVICE.0, SERVICE.1))
        .map_err(|e| e.to_string())?;
    door.accept(&mut world, listener);
    let start = match way {
        Way::OwnEid => {
            let (own, address) = (world.eid(CLIENT), world.address(HOST));
            let refused = world.call(CLIENT, |h, now| h.connect(now, own, SERVICE, &[address.into()]));
            let error = refused.err().ok_or("a host reached itself")?;
            door.tell(&world, error.to_string());
            Duration::ZERO
        }
        Way::Backlog => open_beyond_backlog(&mut world, &mut door)?,
        _ => {
            let names = match way {
                Way::Service => ("nothing", SERVICE.1),
                Way::Protocol => (SERVICE.0, "door/2"),
                _ => SERVICE,
            };
            door.stream = Some(world.connect(CLIENT, HOST, names));
            Duration::ZERO
        }
    };
    door.look(&mut world);
    if way == Way::Version {
        answer_version(&mut world, &mut door, loss, seed);
    } else {
        while door.told.is_none() && world.step(start + TIMEOUT, &mut door) {}
    }
    let (at, what) = door
        .told
        .ok_or_else(|| format!("{way}, seed {seed}: nothing was told"))?;
    if !what.contains(way.word()) {
        return Err(format!("{way}, seed {seed}: the application was told {what:?}"));
    }
    Ok(at - start)
}

/// A stream to a service for which another waits already, and that is all it lets wait. Returns when that was opened.
fn open_beyond_backlog(world: &mut World, door: &mut Door) -> Result<Duration, String> {
    const BUSY: (&str, &str) = ("busy", "busy/1");
    world
        .call(HOST, |h, _| h.listen(BUSY.0, BUSY.1))
        .map_err(|e| e.to_string())?;
    world.connect(CLIENT, HOST, SERVICE);
    world.connect(CLIENT, HOST, BUSY);
    let waiting = |world: &World| {
        let core = world.host(HOST);
        core.peers()
            .iter()
            .map(|(peer, _)| core.stream_count(*peer))
            .sum::<usize>()
    };
    while waiting(world) < 2 && world.step(TIMEOUT, door) {}
    if waiting(world) < 2 {
        return Err("two streams did not arrive".to_owned());
    }
    // What was on its way has arrived, and the round trip is known.
    world.run_for(20 * RTT, door);
    let stream = world.connect(CLIENT, HOST, BUSY);
    world
        .write(CLIENT, stream, b"anybody there?")
        .map_err(|e| e.to_string())?;
    door.stream = Some(stream);
    Ok(world.elapsed())
}

/// Answers HELLO as a host does that speaks another version, since there is no such host yet.
fn answer_version(world: &mut World, door: &mut Door, loss: f64, seed: u64) {
    const STEP: Duration = Duration::from_millis(1);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut answers: VecDeque<(Duration, Vec<u8>)> = VecDeque::new();
    let from = world.address(HOST);
    while door.told.is_none() && world.elapsed() < TIMEOUT {
        world.hold(|c| c.kind() == HELLO);
        world.run_for(STEP, door);
        for hello in world.unhold() {
            let attempt = hello.bytes.get(5..13).and_then(|a| <[u8; 8]>::try_from(a).ok());
            if let Some(attempt) = attempt.filter(|_| !rng.random_bool(loss) && !rng.random_bool(loss)) {
                answers.push_back((hello.at + RTT, long::version(&attempt, &[FOREIGN])));
            }
        }
        while let Some((_, answer)) = answers.pop_front_if(|(at, _)| *at <= world.elapsed()) {
            world.inject(CLIENT, from, &answer);
        }
    }
}

/// Times of many attempts.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Why.
    pub way: Way,
    /// Probability of loss, in each direction.
    pub loss: f64,
    /// The median.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// The head of a table of rows.
pub const TABLE: &str = "| refused by | loss | p50 | p99 | longest |\n|---|---|---|---|---|";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |d: Duration| d.as_millis();
        let Self {
            way,
            loss,
            p50,
            p99,
            max,
        } = *self;
        let percent = loss * 100.0;
        write!(
            f,
            "| {way} | {percent} % | {} ms | {} ms | {} ms |",
            ms(p50),
            ms(p99),
            ms(max)
        )
    }
}

/// Makes `runs` attempts.
///
/// # Errors
/// As [`run`].
pub fn measure(way: Way, loss: f64, runs: u64, seed: u64) -> Result<Row, String> {
    let times: Result<Vec<Duration>, String> = (0..runs.max(1)).map(|n| run(way, loss, seed + n)).collect();
    let mut times = times?;
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    };
    Ok(Row {
        way,
        loss,
        p50: at(50),
        p99: at(99),
        max: at(100),
    })
}
