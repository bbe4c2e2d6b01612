//! Random scenarios: hosts, links, and applications, all from one seed, against the model.

mod plan;

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::actor::{Actors, Phase, Tally};
use crate::world::World;

pub use plan::{Plan, Profile, Weights};

/// Virtual time in which everything must come to its end once applications only finish what they began.
const DRAIN_LIMIT: Duration = Duration::from_secs(240);
/// Virtual time in which hosts must have forgotten all streams once they were let go of.
const RELEASE_LIMIT: Duration = Duration::from_secs(120);
/// Virtual time in which hosts must have forgotten all channels once they were shut down: three probe timeouts, which
/// are long where a blackout has spoilt the round-trip time.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(900);

/// Time between two looks whether a phase is over; in virtual time.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// A run that went well.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The profile that was played.
    pub profile: Profile,
    /// Number of hosts.
    pub hosts: usize,
    /// Count of what the applications did.
    pub tally: Tally,
    /// Bytes that readers got.
    pub bytes: u64,
    /// Record marks that readers got.
    pub records: u64,
    /// Datagrams that were received.
    pub datagrams: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Entries of the transcript.
    pub entries: u64,
    /// Hash of the transcript.
    pub hash: u64,
    /// Hash of its datagrams alone.
    pub datagram_hash: u64,
}

/// A run in which something was not as the model says.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The profile that was played.
    pub profile: Profile,
    /// The virtual time.
    pub at: Duration,
    /// Description of what was wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            profile,
            at,
            what,
        } = self;
        write!(
            f,
            "seed {seed} ({profile}) at {at:?}: {what}\n\
             replay: SSS_SEED={seed} cargo test -p sss-sim --test it replay -- --nocapture\n\
             or:     cargo run -p sss-sim -- run --from {seed} --seeds 1 --scenario {profile} --transcript"
        )
    }
}

impl std::error::Error for Failure {}

/// Plays the scenario of a seed. `profile` is drawn from the seed if it is not given. The transcript is returned with
/// the result; it has text if `with_text`.
pub fn run(seed: u64, profile: Option<Profile>, with_text: bool) -> (Result<Report, Failure>, crate::Transcript) {
    let mut rng = StdRng::seed_from_u64(seed);
    let drawn = Profile::ALL[rng.random_range(0..Profile::ALL.len())];
    let profile = profile.unwrap_or(drawn);
    let plan = Plan::draw(profile, &mut rng);
    let mut world = World::new(rng.random(), with_text);
    plan.build(&mut world, &mut rng);
    let mut run = Run {
        world,
        actors: Actors::new(plan, StdRng::from_seed(rng.random())),
    };
    let result = run.play();
    let transcript = run.world.transcript().clone();
    let result = match result {
        Ok(()) => Ok(run.report(seed, profile)),
        Err(what) => Err(Failure {
            seed,
            profile,
            at: run.world.elapsed(),
            what,
        }),
    };
    (result, transcript)
}

struct Run {
    world: World,
    actors: Actors,
}

impl Run {
    fn play(&mut self) -> Result<(), String> {
        self.actors.start(&mut self.world);
        let active = self.actors.plan.active;
        self.until(active, |_| false)?;

        self.hear()?;

        let limit = self.world.elapsed() + DRAIN_LIMIT;
        self.actors.drain(&mut self.world);
        let complete = self.until(limit, |run| run.actors.is_complete())?;
        if !complete {
            let ends = self.actors.describe_incomplete(&self.world);
            let (count, first) = self.actors.model.unaccounted();
            let messages = self.actors.model.check_messages().err().unwrap_or_default();
            return Err(format!(
                "no end within {DRAIN_LIMIT:?}: {count} flows unaccounted, first {first:?}; {messages}; {ends}"
            ));
        }
        self.actors.model.check_complete()?;
        self.check_hosts()?;

        self.actors.release_all(&mut self.world);
        debug_assert_eq!(self.actors.phase, Phase::Released);
        let limit = self.world.elapsed() + RELEASE_LIMIT;
        if !self.until(limit, Run::is_flat)? {
            return Err(format!(
                "streams that were let go of are kept: {}",
                self.describe_kept()
            ));
        }
        self.check_hosts()?;
        self.shut_down()
    }

    /// STR-52: whatever is unread or unaccepted elsewhere, everybody else is heard.
    fn hear(&mut self) -> Result<(), String> {
        let limit = self.world.elapsed() + DRAIN_LIMIT;
        self.actors.drain_partly(&mut self.world);
        let unheard = |run: &Self| run.actors.aside.deafness.unheard(&run.actors.model);
        if self.until(limit, |run| unheard(run).0 == 0)? {
            return Ok(());
        }
        let (count, first) = unheard(self);
        let ends = self.actors.describe_incomplete(&self.world);
        Err(format!(
            "{count} flows wait for readers of others: {}; {ends}",
            first.unwrap_or_default()
        ))
    }

    fn check_hosts(&self) -> Result<(), String> {
        self.check_queues()?;
        self.check_acknowledgements()
    }

    /// No acknowledgement has left later than its host announces (CHN-4).
    fn check_acknowledgements(&self) -> Result<(), String> {
        for host in self.world.hosts() {
            let core = self.world.host(host);
            for (peer, _) in core.peers() {
                let late = core.channel_info(peer).map_or(0, |info| info.late_acks);
                if late > 0 {
                    return Err(format!("h{}: {late} acknowledgements were late", host.0));
                }
            }
        }
        Ok(())
    }

    /// Checks that a host counts as queued for a peer what the streams hold.
    fn check_queues(&self) -> Result<(), String> {
        for host in self.world.hosts() {
            let core = self.world.host(host);
            for (peer, _) in core.peers() {
                let held: u64 = core.tree(peer).iter().map(|node| node.info.unsent).sum();
                let counted = core.peer_stats(peer).map_or(0, |stats| stats.unsent);
                if held != counted {
                    return Err(format!(
                        "h{}: {counted} bytes are said to be queued, {held} are",
                        host.0
                    ));
                }
            }
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<(), String> {
        for a in self.world.hosts() {
            for b in self.world.hosts() {
                self.actors.model.closed(a, b);
            }
        }
        for host in self.world.hosts() {
            self.world.call(host, |h, now| h.shutdown(now));
        }
        let limit = self.world.elapsed() + SHUTDOWN_LIMIT;
        let all_idle = |run: &mut Run| run.world.hosts().all(|h| run.world.host(h).is_idle());
        if !self.until(limit, all_idle)? {
            return Err(format!(
                "a host is not idle after it was shut down: {}",
                self.describe_busy()
            ));
        }
        self.actors.model.check_complete()
    }

    /// Runs until a time, or until `done`. Whether it was done.
    fn until(&mut self, time: Duration, mut done: impl FnMut(&mut Run) -> bool) -> Result<bool, String> {
        let mut checked = self.world.elapsed();
        loop {
            let goes_on = self.world.step(time, &mut self.actors);
            if let Some(what) = self.actors.failure() {
                return Err(what.to_owned());
            }
            if let Some(fault) = self.world.fault() {
                return Err(fault.to_owned());
            }
            if !goes_on || self.world.elapsed() > checked + CHECK_INTERVAL {
                checked = self.world.elapsed();
                if done(self) {
                    return Ok(true);
                }
            }
            if !goes_on {
                return Ok(false);
            }
        }
    }

    /// Returns whether no host keeps a stream.
    fn is_flat(run: &mut Run) -> bool {
        let host = |h| {
            let core = run.world.host(h);
            core.peers().iter().all(|(peer, _)| core.stream_count(*peer) == 0)
        };
        run.world.hosts().all(host)
    }

    fn describe_busy(&self) -> String {
        let mut busy = Vec::new();
        for host in self.world.hosts().filter(|h| !self.world.host(*h).is_idle()) {
            let core = self.world.host(host);
            for (peer, eid) in core.peers() {
                let (up, info) = (core.is_connected(peer), core.channel_info(peer));
                busy.push(format!(
                    "h{} to {eid:?}: connected {up:?}, {:?}, {info:?}",
                    host.0,
                    core.close_reason(peer)
                ));
            }
        }
        busy.join("\n")
    }

    fn describe_kept(&self) -> String {
        let mut kept = Vec::new();
        for host in self.world.hosts() {
            let core = self.world.host(host);
            for (peer, _) in core.peers() {
                let tree = core.tree(peer);
                let info = core.channel_info(peer);
                if core.stream_count(peer) > 0 {
                    let first: Vec<_> = tree.iter().take(4).collect();
                    kept.push(format!("h{}: {} streams, {first:#?}, {info:?}", host.0, tree.len()));
                }
            }
        }
        kept.join("\n")
    }

    fn report(&self, seed: u64, profile: Profile) -> Report {
        let transcript = self.world.transcript();
        Report {
            seed,
            profile,
            hosts: self.world.hosts().count(),
            tally: self.actors.tally,
            bytes: self.actors.model.bytes_read(),
            records: self.actors.model.marks_read(),
            datagrams: self.actors.model.messages_received(),
            elapsed: self.world.elapsed(),
            entries: transcript.entries(),
            hash: transcript.hash(),
            datagram_hash: transcript.datagram_hash(),
        }
    }
}
