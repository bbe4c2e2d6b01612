//! Actions of an application when it feels like doing something.

use std::net::SocketAddr;

use rand::RngExt;
use sss_proto::OpenError;
use sss_wire::Code;

use super::{Actors, EndId, Name, Opening, Reader, SERVICES, Send, recent};
use crate::scenario::Weights;
use crate::world::{HostIndex, World};

/// Levels of streams below the root, at most.
const MAX_DEPTH: u8 = 32;

impl Actors {
    /// One act of the application on `host`.
    pub(super) fn act(&mut self, world: &mut World, host: HostIndex) {
        self.read_slowly(world, host);
        self.rank(world, host);
        self.send_message(world, host);
        self.tend_trees(world, host);
        let weights = self.plan.weights;
        let mut x = self.rng.random_range(0..weights.total());
        for (weight, act) in weights.acts() {
            if x < weight {
                return act(self, world, host);
            }
            x -= weight;
        }
    }

    fn read_slowly(&mut self, world: &mut World, host: HostIndex) {
        for index in 0..self.ends.len() {
            let end = &self.ends[index];
            if let (true, false, Reader::Slow(max)) = (end.host == host, end.is_released, end.reader)
                && end.is_reading
                && self.rng.random_bool(0.3)
            {
                self.read(world, EndId(index), max);
                self.take_messages(world, EndId(index));
            }
        }
    }

    /// A random end of `host` for which `fits` says yes.
    fn pick(&mut self, host: HostIndex, fits: impl Fn(&super::End) -> bool) -> Option<EndId> {
        let ends = self.ends.iter().enumerate();
        let all: Vec<usize> = ends
            .filter(|(_, e)| e.host == host && !e.is_released && fits(e))
            .map(|(index, _)| index)
            .collect();
        if all.is_empty() {
            return None;
        }
        Some(EndId(all[self.rng.random_range(0..all.len())]))
    }

    pub(crate) fn connect(&mut self, world: &mut World, host: HostIndex) {
        let others: Vec<_> = world.hosts().filter(|h| *h != host).collect();
        let peer = others[self.rng.random_range(0..others.len())];
        let (service, protocol) = SERVICES[self.rng.random_range(0..SERVICES.len())];
        let (name, opening) = match self.rng.random_range(0..100) {
            x if x < self.plan.weights.refused => ((service, "none/0"), Opening::NoProtocol),
            x if x < 2 * self.plan.weights.refused => (("nothing", protocol), Opening::NoService),
            _ => ((service, protocol), Opening::TopLevel),
        };
        self.connect_to(world, host, peer, (name, opening));
    }

    /// Opens a stream to a service; its end.
    pub(super) fn connect_to(
        &mut self,
        world: &mut World,
        host: HostIndex,
        peer: HostIndex,
        (name, opening): (Name, Opening),
    ) -> Option<EndId> {
        let (eid, hint) = (world.eid(peer), world.address(peer));
        let result = world.call(host, |h, now| h.connect(now, eid, name, &[hint.into()]));
        match result {
            Ok(stream) => {
                self.tally.opened += 1;
                let id = self.add(host, peer, stream, None, opening);
                world.note(format_args!(
                    "h{} connect h{} {name:?} -> {id:?} {stream:?}",
                    host.0, peer.0
                ));
                self.greet(world, id);
                return Some(id);
            }
            Err(error) => self.fail(format!("h{} cannot connect: {error}", host.0)),
        }
        None
    }

    pub(crate) fn open(&mut self, world: &mut World, host: HostIndex) {
        match self.pick(host, |_| true) {
            Some(parent) => drop(self.open_below(world, parent)),
            None => self.connect(world, host),
        }
    }

    /// Opens a substream; its end, if the parent takes any.
    pub(super) fn open_below(&mut self, world: &mut World, parent: EndId) -> Option<EndId> {
        let (host, peer, stream, depth) = {
            let end = &self.ends[parent.0];
            (end.host, end.peer, end.stream, end.depth)
        };
        match world.call(host, |h, _| h.stream(stream).open_substream()) {
            Ok(child) => {
                self.tally.opened += 1;
                let id = self.add(host, peer, child, Some(parent), Opening::Substream);
                world.note(format_args!("h{} open of {parent:?} -> {id:?} {child:?}", host.0));
                self.greet(world, id);
                return Some(id);
            }
            Err(OpenError::TooDeep(_)) if depth >= MAX_DEPTH => {}
            Err(OpenError::Lost(reason)) => {
                let check = self.model.saw_loss(host, peer, &reason);
                self.check(check);
            }
            Err(OpenError::Refused(refusal)) => {
                let check = self.model.saw_stop(parent, refusal.code());
                self.check(check);
            }
            Err(OpenError::Reset { code, .. }) => {
                let check = self.model.saw_tree_reset(parent, code);
                self.check(check);
            }
            // The model checks the refusal of the child that told this side.
            Err(OpenError::ParentGone) => world.note(format_args!("h{} open of {parent:?}: parent gone", host.0)),
            Err(error) => self.fail(format!("{parent:?} takes no child: {error}")),
        }
        None
    }

    /// Sets more data to be written, of a random size that is small more often than large.
    pub(super) fn want(&mut self, id: EndId) {
        let bits = self.rng.random_range(0.0..self.plan.size_bits);
        let size = (2f64.powf(bits) as u64).min(self.budget);
        self.budget -= size;
        self.ends[id.0].goal += size;
        if self.rng.random_bool(0.3) {
            self.ends[id.0].wants_finish = true;
        }
    }

    /// Ranks a stream, or asks the peer to: whatever the level, what arrives is the same.
    fn rank(&mut self, world: &mut World, host: HostIndex) {
        let Some(id) = recent(&self.ends, host, 0.3, &mut self.aside.levels) else {
            return;
        };
        let stream = self.ends[id.0].stream;
        let (level, is_asked) = (
            self.aside.levels.random_range(-3..=3),
            self.aside.levels.random_bool(0.3),
        );
        world.note(format_args!(
            "h{} level {level} for {stream:?}, asked: {is_asked}",
            host.0
        ));
        world.call(host, |h, _| match is_asked {
            true => h.stream(stream).request_priority(level),
            false => h.stream(stream).set_priority(level),
        });
    }

    pub(crate) fn write_more(&mut self, world: &mut World, host: HostIndex) {
        if let Some(id) = self.pick(host, |e| e.send == Send::Open && !e.wants_finish) {
            self.want(id);
            self.pump(world, id);
        }
    }

    pub(crate) fn finish_one(&mut self, world: &mut World, host: HostIndex) {
        if let Some(id) = self.pick(host, |e| e.send == Send::Open) {
            self.ends[id.0].wants_finish = true;
            self.pump(world, id);
        }
    }

    pub(crate) fn reset_one(&mut self, world: &mut World, host: HostIndex) {
        let Some(id) = self.pick(host, |e| e.send != Send::Done) else {
            return;
        };
        self.tally.resets += 1;
        let code = self.model.reset(id);
        let end = &mut self.ends[id.0];
        end.send = Send::Done;
        let stream = end.stream;
        world.note(format_args!("h{} reset {id:?} with {code}", host.0));
        world.call(host, |h, _| h.stream(stream).reset(code, "reset at random"));
    }

    pub(crate) fn stop_one(&mut self, world: &mut World, host: HostIndex) {
        let Some(id) = self.pick(host, |e| e.is_reading) else {
            return;
        };
        self.tally.stops += 1;
        let code = self.model.stop(id);
        let end = &mut self.ends[id.0];
        end.is_reading = false;
        let stream = end.stream;
        world.note(format_args!("h{} stop {id:?} with {code}", host.0));
        world.call(host, |h, _| h.stream(stream).stop(code, "stopped at random"));
    }

    pub(crate) fn release_one(&mut self, world: &mut World, host: HostIndex) {
        if let Some(id) = self.pick(host, |_| true) {
            self.release(world, id);
        }
    }

    /// Lets go of an end that has come to its end, as a well-behaved application does.
    pub(crate) fn release_complete(&mut self, world: &mut World, host: HostIndex) {
        if let Some(id) = self.pick(host, |e| e.send == Send::Done && !e.is_reading) {
            self.release(world, id);
        }
    }

    pub(crate) fn close_one(&mut self, world: &mut World, host: HostIndex) {
        let peers = world.host(host).peers();
        if peers.is_empty() {
            return;
        }
        let (peer, eid) = peers[self.rng.random_range(0..peers.len())];
        let Some(other) = world.host_of(&eid) else {
            return self.fail(format!("h{} knows an unknown host", host.0));
        };
        self.tally.closes += 1;
        self.model.closed(host, other);
        world.note(format_args!("h{} closes h{}", host.0, other.0));
        world.call(host, |h, now| h.disconnect(now, peer, Code::app(1), "closed at random"));
    }

    /// Gives the host another address, if all its channels are up on both sides: an attempt under way is bound to its
    /// address by the cookie, and so cannot survive.
    pub(crate) fn rebind(&mut self, world: &mut World, host: HostIndex) {
        let is_quiet = |h: HostIndex| {
            let core = world.host(h);
            core.peers()
                .iter()
                .all(|(peer, _)| core.is_connected(*peer) == Some(true))
        };
        if host != HostIndex(0) || !world.hosts().all(is_quiet) {
            return;
        }
        self.tally.rebinds += 1;
        let n = u8::try_from(self.tally.rebinds % 200 + 1).unwrap_or(1);
        let port = self.rng.random_range(1024..60_000);
        world.rebind(host, SocketAddr::from(([10, 9, n, 1], port)));
        if self.rng.random_bool(0.5) {
            // It is the host's own move, and no NAT's.
            world.call(host, |h, now| h.network_changed(now, |_, _| true));
        }
        // Until the host speaks, nobody can reach it: it has something to say to everybody.
        let peers: Vec<_> = world
            .host(host)
            .peers()
            .into_iter()
            .filter_map(|(_, eid)| world.host_of(&eid))
            .collect();
        for peer in peers {
            self.connect_to(world, host, peer, (SERVICES[0], Opening::TopLevel));
        }
    }
}

type Act = fn(&mut Actors, &mut World, HostIndex);

impl Weights {
    fn acts(&self) -> [(u32, Act); 10] {
        [
            (self.connect, Actors::connect),
            (self.open, Actors::open),
            (self.write, Actors::write_more),
            (self.finish, Actors::finish_one),
            (self.reset, Actors::reset_one),
            (self.stop, Actors::stop_one),
            (self.drop, Actors::release_one),
            (self.release, Actors::release_complete),
            (self.close, Actors::close_one),
            (self.rebind, Actors::rebind),
        ]
    }

    fn total(&self) -> u32 {
        self.acts().iter().map(|(weight, _)| weight).sum()
    }
}
