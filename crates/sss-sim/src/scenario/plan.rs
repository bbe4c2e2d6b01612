//! Plan of a scenario, drawn from its seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sss_crypto::Suite;
use sss_proto::{Config, Congestion, WindowConfig};

use crate::link::{Blackout, Burst, LinkConfig};
use crate::world::World;

/// A kind of scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// A little of everything on moderate links.
    Mixed,
    /// Few streams, much data.
    Transfer,
    /// Many streams, deeply nested, little data.
    Tree,
    /// Streams that are reset, stopped and let go of.
    Abort,
    /// Channels that are closed and made again.
    Churn,
    /// Services that do not exist.
    Refused,
    /// Everybody connects to everybody at once.
    Simultaneous,
    /// Bad links: bursts, corruption, blackouts.
    Harsh,
    /// A host whose address changes.
    Rebind,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 9] = [
        Self::Mixed,
        Self::Transfer,
        Self::Tree,
        Self::Abort,
        Self::Churn,
        Self::Refused,
        Self::Simultaneous,
        Self::Harsh,
        Self::Rebind,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Transfer => "transfer",
            Self::Tree => "tree",
            Self::Abort => "abort",
            Self::Churn => "churn",
            Self::Refused => "refused",
            Self::Simultaneous => "simultaneous",
            Self::Harsh => "harsh",
            Self::Rebind => "rebind",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| p.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|p| p.name()).collect();
            format!("there is no scenario {text:?}; there are {}", names.join(", "))
        })
    }
}

/// Frequencies of what applications do, relative to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Open a top-level stream.
    pub connect: u32,
    /// Open a substream.
    pub open: u32,
    /// Write.
    pub write: u32,
    /// Finish.
    pub finish: u32,
    /// Reset.
    pub reset: u32,
    /// Stop.
    pub stop: u32,
    /// Let go of any end.
    pub drop: u32,
    /// Let go of an end that is complete.
    pub release: u32,
    /// Close a channel.
    pub close: u32,
    /// Change the address.
    pub rebind: u32,
    /// Of 100 top-level streams, how many go to no service, and how many to no protocol.
    pub refused: u32,
}

impl Weights {
    const MIXED: Self = Self {
        connect: 8,
        open: 20,
        write: 40,
        finish: 15,
        reset: 3,
        stop: 3,
        drop: 3,
        release: 20,
        close: 0,
        rebind: 0,
        refused: 3,
    };

    fn of(profile: Profile) -> Self {
        let mixed = Self::MIXED;
        match profile {
            Profile::Mixed | Profile::Harsh => mixed,
            Profile::Transfer => Self {
                open: 4,
                reset: 0,
                stop: 0,
                drop: 0,
                refused: 0,
                ..mixed
            },
            Profile::Tree => Self {
                open: 80,
                write: 20,
                ..mixed
            },
            Profile::Abort => Self {
                reset: 15,
                stop: 15,
                drop: 15,
                ..mixed
            },
            Profile::Churn => Self { close: 6, ..mixed },
            Profile::Refused => Self {
                connect: 40,
                refused: 25,
                ..mixed
            },
            Profile::Simultaneous => Self { connect: 30, ..mixed },
            Profile::Rebind => Self { rebind: 4, ..mixed },
        }
    }
}

/// A scenario, but for what its applications will draw.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kind.
    pub profile: Profile,
    /// Number of hosts.
    pub hosts: usize,
    /// Frequencies of what applications do.
    pub weights: Weights,
    /// The mean time between two acts of an application.
    pub pause: Duration,
    /// For how long applications act at random.
    pub active: Duration,
    /// Bytes that all applications together write, at most.
    pub budget: u64,
    /// The largest single amount written is 2 to this power.
    pub size_bits: f64,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(profile: Profile, rng: &mut StdRng) -> Self {
        let transfer = profile == Profile::Transfer;
        let acts = rng.random_range(20..200);
        let pause = Duration::from_micros(rng.random_range(500..60_000));
        Self {
            profile,
            hosts: if transfer { 2 } else { rng.random_range(2..=4) },
            weights: Weights::of(profile),
            pause,
            active: pause * acts,
            budget: if transfer { 4 << 20 } else { 1 << 20 },
            size_bits: if transfer { 20.0 } else { 16.0 },
        }
    }

    /// Makes the hosts and the links.
    pub fn build(&self, world: &mut World, rng: &mut StdRng) {
        for _ in 0..self.hosts {
            let host = world.add_host(config(rng));
            world.set_segments(host, [1, 4, 16, 64][rng.random_range(0..4)]);
        }
        for a in world.hosts() {
            for b in world.hosts().filter(|b| *b > a) {
                let there = self.draw_link(rng);
                let back = if rng.random_bool(0.5) {
                    there.clone()
                } else {
                    self.draw_link(rng)
                };
                world.set_link(a, b, there);
                world.set_link(b, a, back);
            }
        }
    }

    fn draw_link(&self, rng: &mut StdRng) -> LinkConfig {
        let harsh = self.profile == Profile::Harsh;
        let mut some = |probability: f64, max: f64| {
            if rng.random_bool(probability) {
                rng.random_range(0.0..max)
            } else {
                0.0
            }
        };
        let mut link = LinkConfig {
            loss: some(0.5, if harsh { 0.1 } else { 0.03 }),
            duplicate: some(0.4, 0.05),
            reorder: some(0.4, 0.1),
            corrupt: some(0.4, if harsh { 0.03 } else { 0.01 }),
            mark: some(0.2, 0.05),
            ..LinkConfig::default()
        };
        link.delay = Duration::from_micros([100, 5000, 20_000, 100_000][rng.random_range(0..4)]);
        if rng.random_bool(0.5) {
            link.jitter = link.delay.mul_f64(rng.random_range(0.0..0.5));
        }
        if rng.random_bool(0.6) {
            link.rate = Some((2f64.powf(rng.random_range(19.0..27.0))) as u64);
            link.queue = rng.random_range(16_000..300_000);
        }
        link.mtu = [1232, 1400, 1472, 4000, 9000][rng.random_range(0..5)];
        if harsh {
            self.make_harsh(&mut link, rng);
        }
        link
    }

    fn make_harsh(&self, link: &mut LinkConfig, rng: &mut StdRng) {
        if rng.random_bool(0.5) {
            link.burst = Some(Burst {
                enter: rng.random_range(0.001..0.02),
                leave: rng.random_range(0.1..0.5),
                loss: rng.random_range(0.5..1.0),
            });
        }
        if rng.random_bool(0.6) {
            let from = self.active.mul_f64(rng.random_range(0.0..1.0));
            let until = from + Duration::from_millis(rng.random_range(100..8000));
            link.blackouts.push(Blackout { from, until });
        }
    }
}

fn config(rng: &mut StdRng) -> Config {
    let mut config = Config::default().with(|c| {
        c.max_datagram = [1232, 1472, 4000, 65_507][rng.random_range(0..4)];
        c.channel_id_len = rng.random_range(4..=20);
    });
    if rng.random_bool(0.4) {
        config.suites = vec![Suite::ChaCha20Poly1305];
    }
    if rng.random_bool(0.3) {
        config.window = WindowConfig::default().with(|w| {
            w.start = [65_536, 100_000, 256 << 10][rng.random_range(65_536..131_072) % 3];
            w.per_stream_max = 256 << 10;
            w.per_peer_budget = 1 << 20;
            w.root = rng.random_range(65_536..262_144);
        });
    }
    if rng.random_bool(0.2) {
        config.hello_threshold = 1;
    }
    if rng.random_bool(0.3) {
        config.renew = Duration::from_millis(rng.random_range(1000..10_000));
    }
    if rng.random_bool(0.3) {
        config.idle_timeout = Duration::from_millis(rng.random_range(2000..20_000));
    }
    if rng.random_bool(0.3) {
        config.congestion = Congestion::Bbr;
    }
    config
}
