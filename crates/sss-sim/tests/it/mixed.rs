//! A minute of everything at once, on a path on which everything goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use sss_proto::{Config, DatagramOptions, Event, Interest, ListenerId, ReadOutcome, Route, StreamId};
use sss_sim::{Apps, Blackout, HostIndex, LinkConfig, World, model};

use crate::support::{A, B, duo_with, ms, secs};

const RTT: Duration = Duration::from_millis(50);
const SERVICES: [(&str, &str); 4] = [("bulk", "1"), ("rpc", "1"), ("records", "1"), ("datagrams", "1")];
const BULK: usize = 0;
const RPC: usize = 1;
const RECORDS: usize = 2;
const DATAGRAMS: usize = 3;
/// How often applications do something.
const TICK: Duration = Duration::from_millis(10);

/// A message that can be checked without having been kept.
fn message(n: u64) -> Vec<u8> {
    let mut bytes = vec![0; 8 + (n as usize * 677) % 5000];
    model::fill(n + 1, 0, &mut bytes);
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// One direction of the bulk stream.
#[derive(Default)]
struct Bulk {
    written: u64,
    read: u64,
    ended: bool,
}

/// The applications of both hosts.
#[derive(Default)]
struct Mixed {
    listeners: Vec<ListenerId>,
    /// The streams of either host, by service.
    streams: [[Option<StreamId>; 4]; 2],
    bulk: [Bulk; 2],
    records: (u64, u64),
    partial: Vec<u8>,
    /// Requests under way, and how many were answered.
    calls: BTreeMap<StreamId, (u64, Vec<u8>)>,
    serving: BTreeMap<StreamId, Vec<u8>>,
    answered: (u64, u64),
    reliable: (BTreeSet<u64>, u64),
    best_effort: (BTreeSet<u64>, u64),
    ticks: u64,
    stopped: bool,
    /// When something was read last, and all moments at which that was after a silence.
    heard: Duration,
    resumed: VecDeque<(Duration, Duration)>,
    failures: Vec<String>,
}

impl Mixed {
    fn start(world: &mut World) -> Self {
        let listen = |(service, protocol)| world.call(B, |h, _| h.listen(service, protocol)).unwrap();
        let mut mixed = Self {
            listeners: SERVICES.into_iter().map(listen).collect(),
            ..Self::default()
        };
        for listener in mixed.listeners.clone() {
            mixed.accept(world, listener);
        }
        for (n, service) in SERVICES.into_iter().enumerate() {
            mixed.streams[A.0][n] = Some(world.connect(A, B, service));
        }
        let (bulk, datagrams) = (mixed.at(A, BULK), mixed.at(A, DATAGRAMS));
        world.call(A, |h, _| h.stream(datagrams).set_priority(1));
        mixed.read(world, A, bulk);
        world.set_timer(A, TICK, 0);
        mixed
    }

    fn at(&self, host: HostIndex, service: usize) -> StreamId {
        self.streams[host.0][service].expect("it was opened or accepted")
    }

    fn accept(&mut self, world: &mut World, listener: ListenerId) {
        while let Some((stream, _)) = world.call(B, |h, _| h.accept(listener)) {
            let service = self.listeners.iter().position(|l| *l == listener).unwrap();
            assert!(self.streams[B.0][service].replace(stream).is_none());
            match service {
                RPC => self.serve(world),
                DATAGRAMS => self.take_datagrams(world),
                _ => self.read(world, B, stream),
            }
        }
    }

    fn note(&mut self, world: &World) {
        let now = world.elapsed();
        if now > self.heard + secs(1) {
            self.resumed.push_back((self.heard, now));
        }
        self.heard = now;
    }

    /// What is done every few milliseconds.
    fn tick(&mut self, world: &mut World) {
        self.ticks += 1;
        self.write_bulk(world, A);
        self.write_bulk(world, B);
        if self.stopped {
            return;
        }
        if self.ticks.is_multiple_of(2) {
            let stream = self.at(A, RECORDS);
            if world.call(A, |h, _| h.stream(stream).poll_writable()) == Poll::Ready(Ok(())) {
                let record = message(self.records.0);
                world.call(A, |h, _| h.stream(stream).write_record(&record)).unwrap();
                self.records.0 += 1;
            }
        }
        if self.ticks.is_multiple_of(5) {
            self.call(world);
        }
        if self.ticks.is_multiple_of(3) {
            self.send_datagram(world);
        }
    }

    fn write_bulk(&mut self, world: &mut World, host: HostIndex) {
        let Some(stream) = self.streams[host.0][BULK] else {
            return;
        };
        let bulk = &mut self.bulk[host.0];
        if bulk.ended {
            return;
        }
        if self.stopped {
            bulk.ended = true;
            return world.call(host, |h, _| h.stream(stream).finish()).unwrap();
        }
        let mut data = vec![0; 16_384];
        model::fill(host.0 as u64 + 1, bulk.written, &mut data);
        bulk.written += world.write(host, stream, &data).unwrap() as u64;
    }

    fn call(&mut self, world: &mut World) {
        let parent = self.at(A, RPC);
        let stream = world.call(A, |h, _| h.stream(parent).open_substream()).unwrap();
        let n = self.answered.0;
        self.answered.0 += 1;
        let request = n.to_be_bytes();
        assert_eq!(world.write(A, stream, &request), Ok(8));
        world.call(A, |h, _| h.stream(stream).finish()).unwrap();
        self.calls.insert(stream, (n, Vec::new()));
        self.read(world, A, stream);
    }

    fn serve(&mut self, world: &mut World) {
        let Some(parent) = self.streams[B.0][RPC] else {
            return;
        };
        while let Poll::Ready(accepted) = world.call(B, |h, _| h.stream(parent).poll_accept_substream()) {
            let stream = accepted.unwrap().expect("the client holds it");
            self.serving.insert(stream, Vec::new());
            self.read(world, B, stream);
        }
    }

    fn send_datagram(&mut self, world: &mut World) {
        let is_reliable = self.ticks.is_multiple_of(2);
        let sent = if is_reliable {
            &mut self.reliable.1
        } else {
            &mut self.best_effort.1
        };
        let n = *sent * 2 + u64::from(is_reliable);
        let options = DatagramOptions::default().with(|o| {
            o.reliable = is_reliable;
            o.deadline = (!is_reliable).then_some(ms(300));
            o.priority = 1;
            o.tracked = false;
        });
        let stream = self.streams[A.0][DATAGRAMS].unwrap();
        let data = Bytes::from(message(n));
        let result = world.call(A, |h, now| h.stream(stream).send_datagram(now, &data, &options));
        match result {
            Ok(Some(_)) => *sent += 1,
            Ok(None) => {}
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    fn take_datagrams(&mut self, world: &mut World) {
        let Some(stream) = self.streams[B.0][DATAGRAMS] else {
            return;
        };
        loop {
            match world.call(B, |h, now| h.stream(stream).poll_recv_datagram(now)) {
                Poll::Ready(Ok(Some(data))) => {
                    let n = number(&data);
                    assert!(data[..] == message(n)[..], "datagram {n} is not what was sent");
                    let seen = if n % 2 == 1 {
                        &mut self.reliable.0
                    } else {
                        &mut self.best_effort.0
                    };
                    assert!(seen.insert(n), "datagram {n} came twice");
                    self.note(world);
                }
                Poll::Pending | Poll::Ready(Ok(None)) => return,
                Poll::Ready(Err(error)) => return self.failures.push(error.to_string()),
            }
        }
    }

    fn read(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        loop {
            match world.call(host, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
                Poll::Pending => return,
                Poll::Ready(Ok(outcome)) => {
                    self.note(world);
                    self.take(world, host, stream, outcome);
                }
                Poll::Ready(Err(error)) => return self.failures.push(format!("{host:?} {stream:?}: {error}")),
            }
            if !self.is_reading(host, stream) {
                return;
            }
        }
    }

    fn is_reading(&self, host: HostIndex, stream: StreamId) -> bool {
        self.streams[host.0].contains(&Some(stream))
            || self.calls.contains_key(&stream) && host == A
            || self.serving.contains_key(&stream) && host == B
    }

    fn take(&mut self, world: &mut World, host: HostIndex, stream: StreamId, outcome: ReadOutcome) {
        if self.streams[host.0][BULK] == Some(stream) {
            let from = 1 - host.0;
            if let ReadOutcome::Chunk(data) = &outcome {
                let bulk = &mut self.bulk[from];
                let mut expected = vec![0; data.len()];
                model::fill(from as u64 + 1, bulk.read, &mut expected);
                assert!(expected == data[..], "bulk of {from} is wrong after {}", bulk.read);
                bulk.read += data.len() as u64;
            } else {
                self.streams[host.0][BULK] = None;
            }
        } else if self.streams[host.0][RECORDS] == Some(stream) {
            match outcome {
                ReadOutcome::Chunk(data) => self.partial.extend_from_slice(&data),
                ReadOutcome::Mark => {
                    let record = std::mem::take(&mut self.partial);
                    assert!(record == message(self.records.1), "record {} is wrong", self.records.1);
                    self.records.1 += 1;
                }
                _ => {}
            }
        } else if host == B {
            self.take_request(world, stream, outcome);
        } else {
            self.take_answer(world, stream, outcome);
        }
    }

    fn take_request(&mut self, world: &mut World, stream: StreamId, outcome: ReadOutcome) {
        let Some(request) = self.serving.get_mut(&stream) else {
            return;
        };
        if let ReadOutcome::Chunk(data) = outcome {
            return request.extend_from_slice(&data);
        }
        let answer = message(number(request));
        assert_eq!(world.write(B, stream, &answer), Ok(answer.len()));
        world.call(B, |h, _| h.stream(stream).finish()).unwrap();
        world.call(B, |h, _| h.stream(stream).release());
        self.serving.remove(&stream);
    }

    fn take_answer(&mut self, world: &mut World, stream: StreamId, outcome: ReadOutcome) {
        let Some((n, answer)) = self.calls.get_mut(&stream) else {
            return;
        };
        if let ReadOutcome::Chunk(data) = outcome {
            return answer.extend_from_slice(&data);
        }
        assert!(*answer == message(*n), "the answer to call {n} is wrong");
        self.answered.1 += 1;
        self.calls.remove(&stream);
        world.call(A, |h, _| h.stream(stream).release());
    }

    fn describe(&self) -> String {
        let bulk: Vec<_> = self.bulk.iter().map(|b| (b.written, b.read)).collect();
        format!(
            "bulk {bulk:?}, records {:?}, calls {:?}, reliable {} of {}, best effort {} of {}, failures {:?}",
            self.records,
            self.answered,
            self.reliable.0.len(),
            self.reliable.1,
            self.best_effort.0.len(),
            self.best_effort.1,
            self.failures
        )
    }

    fn is_complete(&self) -> bool {
        self.bulk[0].written == self.bulk[0].read
            && self.bulk[1].written == self.bulk[1].read
            && self.records.0 == self.records.1
            && self.answered.0 == self.answered.1
            && self.reliable.0.len() as u64 == self.reliable.1
    }
}

impl Apps for Mixed {
    fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(listener) => self.accept(world, listener),
            Event::Ready(_, Interest::Accept) => self.serve(world),
            Event::Ready(_, Interest::RecvDatagram) => self.take_datagrams(world),
            Event::Ready(stream, Interest::Read) if self.is_reading(host, stream) => self.read(world, host, stream),
            Event::Disconnected(_, _, reason) => self.failures.push(format!("{host:?} lost its peer: {reason}")),
            _ => {}
        }
    }

    fn on_timer(&mut self, world: &mut World, _: HostIndex, _: u64) {
        self.tick(world);
        world.set_timer(A, TICK, 0);
    }
}

/// Runs a minute; returns how long after the network was back data flowed again.
fn run(seed: u64) -> Duration {
    let (from, until) = (secs(15), secs(35) + ms(29 * seed));
    let config = || Config::default().with(|c| c.renew = secs(2));
    let link = LinkConfig {
        rate: Some(20_000_000),
        queue: 150_000,
        loss: 0.03,
        blackouts: vec![Blackout { from, until }],
        ..LinkConfig::with_delay(RTT / 2)
    };
    let mut world = duo_with(700 + seed, &link, config(), config());
    let mut mixed = Mixed::start(&mut world);
    world.run_until(secs(25), &mut mixed);
    let addresses = ["203.0.113.7:9000", "198.51.100.3:9000"].map(|a| a.parse().unwrap());
    for (host, address) in [A, B].into_iter().zip(addresses) {
        world.rebind(host, address);
        world.call(host, |h, now| h.network_changed(now, |_, _| true));
    }
    world.run_until(secs(28), &mut mixed);
    let eid = world.eid(B);
    world.call(A, |h, now| {
        h.add_hints(
            now,
            &eid,
            &addresses[1..].iter().copied().map(Route::udp).collect::<Vec<_>>(),
        )
    });
    world.run_until(secs(60), &mut mixed);
    mixed.stopped = true;
    let limit = secs(200);
    while !mixed.is_complete() {
        assert!(
            world.step(limit, &mut mixed),
            "seed {seed}: not everything has arrived: {}",
            mixed.describe()
        );
    }
    assert_eq!(mixed.failures, Vec::<String>::new(), "seed {seed}");
    assert!(world.host(A).stats().channels_made > 10, "keys are renewed every 2 s");
    assert!(mixed.records.1 > 500 && mixed.answered.1 > 300 && mixed.reliable.1 > 100);
    assert!(
        mixed.best_effort.0.len() > 100,
        "{} of {}",
        mixed.best_effort.0.len(),
        mixed.best_effort.1
    );
    let gap = mixed
        .resumed
        .iter()
        .find(|(before, _)| *before < until && *before > from - secs(1));
    let (_, back) = gap.expect("there was a silence");
    *back - until
}

// spec: MIG-5, MIG-6, MIG-7, MIG-10, MIG-11, MIG-12, MIG-13
#[test]
fn a_minute_of_mixed_traffic_survives_blackout_moves_renewals_and_loss() {
    let mut times: Vec<Duration> = (0..9).map(run).collect();
    times.sort();
    let median = times[times.len() / 2];
    println!("data flows again after {times:?}, median {median:?}");
    assert!(median <= 2 * RTT + ms(250), "{median:?}");
}
