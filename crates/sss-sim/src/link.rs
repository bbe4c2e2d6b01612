//! One direction of a path between two hosts: what can happen to a datagram on its way.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use sss_proto::Ecn;

/// Loss in bursts: a chain of two states (Gilbert, 1960; Elliott, 1963), moved by one step for each datagram, and for
/// each 100 ms in between: a burst does not wait for sparse traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Probability to go from the good state to the bad one.
    pub enter: f64,
    /// Probability to go from the bad state to the good one.
    pub leave: f64,
    /// Probability that a datagram is lost in the bad state.
    pub loss: f64,
}

/// An interval of virtual time in which a link carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// Its start, from the start of the world.
    pub from: Duration,
    /// Its end.
    pub until: Duration,
}

/// Effect of one direction of a path on datagrams. The default carries everything at once.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Bits per second; `None`: without limit.
    pub rate: Option<u64>,
    /// Time of flight.
    pub delay: Duration,
    /// Each datagram is late by up to this much, without being overtaken.
    pub jitter: Duration,
    /// Probability of loss, each datagram by itself.
    pub loss: f64,
    /// Loss in bursts.
    pub burst: Option<Burst>,
    /// Probability that a datagram arrives twice.
    pub duplicate: f64,
    /// Probability that a datagram is held back and overtaken by others.
    pub reorder: f64,
    /// Probability that 1 to 3 bits are flipped.
    pub corrupt: f64,
    /// Probability that an ECN-capable datagram is marked CE.
    pub mark: f64,
    /// Bytes waiting above which an ECN-capable datagram is marked CE.
    pub mark_above: Option<usize>,
    /// Bytes that wait for a link with a rate, at most; what comes on top is lost.
    pub queue: usize,
    /// Largest datagram, in bytes of UDP payload.
    pub mtu: usize,
    /// Times at which nothing passes.
    pub blackouts: Vec<Blackout>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            rate: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            duplicate: 0.0,
            reorder: 0.0,
            corrupt: 0.0,
            mark: 0.0,
            mark_above: None,
            queue: 256 << 10,
            mtu: 1472,
            blackouts: Vec::new(),
        }
    }
}

impl LinkConfig {
    /// A link that only delays.
    pub fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
}

/// Fate of a datagram given to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// By chance.
    Chance,
    /// The queue was full.
    Queue,
    /// The link carried nothing.
    Blackout,
    /// It was too large.
    Size,
}

/// One arrival of a datagram.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Time in nanoseconds.
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ecn: Ecn,
}

/// One direction of a path, with its state.
#[derive(Debug)]
pub(crate) struct Link {
    config: LinkConfig,
    rng: StdRng,
    is_bad: bool,
    /// Time at which the chain of [`Burst`] was moved last.
    moved: u64,
    /// Time at which the last bit of the last datagram leaves the queue.
    busy_until: u64,
    /// Time at which the last datagram that was not held back arrives.
    last_arrival: u64,
    carried: u64,
    /// Datagrams for which the queue had no room.
    overflowed: u64,
}

impl Link {
    pub(crate) fn new(config: LinkConfig, rng: StdRng) -> Self {
        Self {
            config,
            rng,
            is_bad: false,
            moved: 0,
            busy_until: 0,
            last_arrival: 0,
            carried: 0,
            overflowed: 0,
        }
    }

    pub(crate) fn configure(&mut self, config: LinkConfig) {
        self.config = config;
    }

    pub(crate) fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Bytes that the link took in and did not lose.
    pub(crate) fn carried(&self) -> u64 {
        self.carried
    }

    /// Datagrams that were lost because the queue had no room.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Nanoseconds for which a datagram that is sent at `now` waits before it is on its way.
    pub(crate) fn waiting(&self, now: u64) -> u64 {
        self.busy_until.saturating_sub(now)
    }

    /// Sends a datagram at `now`: when and in what shape it arrives, once or twice, or why never.
    pub(crate) fn send(&mut self, now: u64, bytes: &[u8], ecn: Ecn) -> Result<Vec<Arrival>, Lost> {
        if bytes.len() > self.config.mtu {
            return Err(Lost::Size);
        }
        if self.is_dark(now) {
            return Err(Lost::Blackout);
        }
        let waiting = self.waiting_bytes(now);
        let departure = self.enqueue(now, bytes.len())?;
        let above = self.config.mark_above.is_some_and(|limit| waiting > limit as u128);
        let ecn = if above && ecn != Ecn::NotEct { Ecn::Ce } else { ecn };
        if self.is_lost(now) {
            return Err(Lost::Chance);
        }
        self.carried += bytes.len() as u64;
        let mut arrivals = vec![self.arrival(departure, bytes, ecn)];
        if self.rng.random_bool(self.config.duplicate) {
            arrivals.push(self.arrival(departure, bytes, ecn));
        }
        Ok(arrivals)
    }

    fn is_dark(&self, now: u64) -> bool {
        let now = Duration::from_nanos(now);
        let mut blackouts = self.config.blackouts.iter();
        blackouts.any(|b| (b.from..b.until).contains(&now))
    }

    /// Waits in the queue: the time at which the last bit is out.
    fn enqueue(&mut self, now: u64, len: usize) -> Result<u64, Lost> {
        let Some(rate) = self.config.rate else {
            return Ok(now);
        };
        let rate = rate.max(1);
        let start = self.busy_until.max(now);
        if self.waiting_bytes(now) + len as u128 > self.config.queue as u128 {
            self.overflowed += 1;
            return Err(Lost::Queue);
        }
        let nanos = len as u128 * 8_000_000_000 / u128::from(rate);
        self.busy_until = start + u64::try_from(nanos).unwrap_or(u64::MAX / 4);
        Ok(self.busy_until)
    }

    /// Bytes that wait in the queue, or are on their way out of it.
    fn waiting_bytes(&self, now: u64) -> u128 {
        let rate = self.config.rate.unwrap_or_default();
        u128::from(self.waiting(now)) * u128::from(rate) / 8_000_000_000
    }

    fn is_lost(&mut self, now: u64) -> bool {
        let mut loss = self.config.loss;
        if let Some(burst) = self.config.burst {
            let steps = 1 + ((now - self.moved) / 100_000_000).min(100);
            self.moved = now;
            for _ in 0..steps {
                let turn = if self.is_bad { burst.leave } else { burst.enter };
                self.is_bad ^= self.rng.random_bool(turn);
            }
            if self.is_bad {
                loss = loss.max(burst.loss);
            }
        }
        self.rng.random_bool(loss)
    }

    fn arrival(&mut self, departure: u64, bytes: &[u8], ecn: Ecn) -> Arrival {
        let delay = nanos(self.config.delay);
        let jitter = nanos(self.config.jitter);
        let late = if jitter > 0 {
            self.rng.random_range(0..=jitter)
        } else {
            0
        };
        let due = departure + delay + late;
        let at = if self.rng.random_bool(self.config.reorder) {
            // Far enough to be overtaken by several: a good part of the time of flight.
            due + self.rng.random_range(1..=(delay / 2 + jitter).max(1_000_000))
        } else {
            self.last_arrival = self.last_arrival.max(due);
            self.last_arrival
        };
        let mut bytes = bytes.to_vec();
        if self.rng.random_bool(self.config.corrupt) {
            self.corrupt(&mut bytes);
        }
        let marked = ecn != Ecn::NotEct && self.rng.random_bool(self.config.mark);
        Arrival {
            at,
            bytes,
            ecn: if marked { Ecn::Ce } else { ecn },
        }
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.rng.random_range(1..=3) {
            let bit = self.rng.random_range(0..bytes.len().max(1) * 8);
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests;
