//! Workloads of streams.

use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{Event, StreamId};

use super::talk::{Job, Talk};
use super::{CLIENT, Work};
use crate::world::{Apps, HostIndex, World};

/// Parts that are the same in all of them.
macro_rules! work {
    ($type:ty) => {
        impl Work for $type {
            fn is_over(&self) -> bool {
                self.left == 0
            }

            fn bytes(&self) -> u64 {
                self.talk.bytes
            }

            fn failure(&self) -> Option<&str> {
                self.talk.failure.as_deref()
            }
        }
    };
}

work!(Bulk);
work!(Calls);
work!(Chains);
work!(Moves);

/// One stream that carries much.
pub(super) struct Bulk {
    talk: Talk,
    left: usize,
}

impl Bulk {
    const BYTES: usize = 24_000_000;

    pub(super) fn start(world: &mut World) -> Result<Self, String> {
        let served = Job {
            send: 1,
            expect: Self::BYTES as u64,
            answers: true,
            ends: true,
        };
        let mut talk = Talk::start(world, served)?;
        let job = Job {
            send: Self::BYTES,
            expect: 1,
            answers: false,
            ends: true,
        };
        talk.connect(world, job);
        Ok(Self { talk, left: 1 })
    }
}

impl Apps for Bulk {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        self.talk.on_event(world, host, event);
        while self.talk.take_done().is_some() {
            self.left -= 1;
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// Calls, each a substream of the same stream.
pub(super) struct Calls {
    talk: Talk,
    root: StreamId,
    to_open: usize,
    left: usize,
}

impl Calls {
    const TOTAL: usize = 12_000;
    const AT_ONCE: usize = 64;
    const CALL: Job = Job {
        send: 100,
        expect: 1000,
        answers: false,
        ends: true,
    };

    pub(super) fn start(world: &mut World) -> Result<Self, String> {
        let served = Job {
            send: 1000,
            expect: 100,
            answers: true,
            ends: true,
        };
        let mut talk = Talk::start(world, served)?;
        // The server waits for what never comes: the stream stays.
        let stays = Job {
            send: 0,
            expect: 1,
            answers: false,
            ends: false,
        };
        let root = talk.connect(world, stays);
        for _ in 0..Self::AT_ONCE {
            talk.open(world, root, Self::CALL);
        }
        Ok(Self {
            talk,
            root,
            to_open: Self::TOTAL - Self::AT_ONCE,
            left: Self::TOTAL,
        })
    }
}

impl Apps for Calls {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        self.talk.on_event(world, host, event);
        while self.talk.take_done().is_some() {
            self.left -= 1;
            if self.to_open > 0 {
                self.to_open -= 1;
                self.talk.open(world, self.root, Self::CALL);
            }
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// Chains of streams, one after another, below the same stream.
pub(super) struct Chains {
    talk: Talk,
    root: StreamId,
    chain: Vec<StreamId>,
    answered: usize,
    left: usize,
}

impl Chains {
    const TOTAL: usize = 300;
    const DEPTH: usize = 30;
    const LINK: Job = Job {
        send: 200,
        expect: 200,
        answers: false,
        ends: false,
    };

    pub(super) fn start(world: &mut World) -> Result<Self, String> {
        let served = Job {
            answers: true,
            ..Self::LINK
        };
        let mut talk = Talk::start(world, served)?;
        let stays = Job {
            send: 0,
            expect: 1,
            ..Self::LINK
        };
        let root = talk.connect(world, stays);
        let mut chains = Self {
            talk,
            root,
            chain: Vec::new(),
            answered: 0,
            left: Self::TOTAL,
        };
        chains.open(world);
        Ok(chains)
    }

    fn open(&mut self, world: &mut World) {
        self.answered = 0;
        self.chain.clear();
        let mut parent = self.root;
        for depth in 0..Self::DEPTH {
            let Some(stream) = self.talk.open(world, parent, Self::LINK) else {
                return;
            };
            // Levels of their own for some, as trees have them.
            let level = i8::try_from(depth % 3).unwrap_or_default();
            world.call(CLIENT, |h, _| h.stream(stream).set_priority(level));
            self.chain.push(stream);
            parent = stream;
        }
    }
}

impl Apps for Chains {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        self.talk.on_event(world, host, event);
        while self.talk.take_done().is_some() {
            self.answered += 1;
            if self.answered == Self::DEPTH {
                self.left -= 1;
                self.talk.reset_tree(world, &self.chain);
                self.open(world);
            }
        }
    }

    fn on_timer(&mut self, _: &mut World, _: HostIndex, _: u64) {}
}

/// Streams under which the client's address changes.
pub(super) struct Moves {
    talk: Talk,
    moves: u64,
    left: usize,
}

impl Moves {
    const STREAMS: usize = 8;
    const BYTES: usize = 750_000;
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(super) fn start(world: &mut World) -> Result<Self, String> {
        let served = Job {
            send: Self::BYTES,
            expect: Self::BYTES as u64,
            answers: false,
            ends: true,
        };
        let mut talk = Talk::start(world, served)?;
        for _ in 0..Self::STREAMS {
            talk.connect(world, served);
        }
        world.set_timer(CLIENT, Self::INTERVAL, 0);
        Ok(Self {
            talk,
            moves: 0,
            left: Self::STREAMS,
        })
    }
}

impl Apps for Moves {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        self.talk.on_event(world, host, event);
        while self.talk.take_done().is_some() {
            self.left -= 1;
        }
    }

    /// The client moves: every other time it knows, as a host that has changed networks; else it does not, as behind a
    /// NAT.
    fn on_timer(&mut self, world: &mut World, _: HostIndex, _: u64) {
        self.moves += 1;
        let port = u16::try_from(5000 + self.moves % 1000).unwrap_or(5000);
        world.rebind(CLIENT, SocketAddr::from(([10, 1, 0, 1], port)));
        if self.moves.is_multiple_of(2) {
            world.call(CLIENT, |h, now| h.network_changed(now, |_, _| true));
        }
        world.set_timer(CLIENT, Self::INTERVAL, 0);
    }
}
