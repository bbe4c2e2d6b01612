//! Datagrams: sent at random, taken as they come.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use sss_proto::{DatagramError, DatagramFate, DatagramId, DatagramOptions, PeerId, ReadError};

use super::{Actors, EndId, recent};
use crate::world::{HostIndex, World};

/// Bytes of datagrams in one scenario.
const BUDGET: usize = 400_000;

/// Knowledge that the applications have of their datagrams.
#[derive(Debug)]
pub(super) struct Mail {
    rng: StdRng,
    budget: usize,
    /// Those of which the fate is not known, and their numbers.
    pending: BTreeMap<(HostIndex, PeerId, DatagramId), u64>,
}

impl Mail {
    pub(super) fn new(rng: StdRng) -> Self {
        Self {
            rng,
            budget: BUDGET,
            pending: BTreeMap::new(),
        }
    }

    fn size(&mut self) -> usize {
        let largest = [16, 600, 1500, 6000, 40_000, 150_000][self.rng.random_range(0..6)];
        let size = self.rng.random_range(8..=largest);
        size.min(self.budget.max(8))
    }

    fn options(&mut self) -> DatagramOptions {
        let has_deadline = self.rng.random_bool(0.4);
        DatagramOptions::default().with(|o| {
            o.reliable = self.rng.random_bool(0.5);
            o.deadline = has_deadline.then(|| Duration::from_millis(self.rng.random_range(1..3000)));
            o.priority = self.rng.random_range(-1..=1);
            o.tracked = true;
        })
    }
}

impl Actors {
    /// Sends a datagram, perhaps.
    pub(super) fn send_message(&mut self, world: &mut World, host: HostIndex) {
        let Some(id) = recent(&self.ends, host, 0.3, &mut self.aside.mail.rng) else {
            return;
        };
        if self.aside.trees.is_cut(id) {
            return;
        }
        let end = &self.ends[id.0];
        let (peer, stream) = (end.peer, end.stream);
        let mail = &mut self.aside.mail;
        let (size, options) = (mail.size(), mail.options());
        let (number, data) = self.model.compose(size);
        let data = Bytes::from(data);
        let result = world.call(host, |h, now| h.stream(stream).send_datagram(now, &data, &options));
        world.note(format_args!(
            "h{} datagram of {size} on {id:?}, {options:?} -> {result:?}",
            host.0
        ));
        match result {
            Ok(None) => {}
            Ok(Some(datagram)) => {
                let (is_reliable, has_deadline) = (options.reliable, options.deadline.is_some());
                self.model.sent_message(id, data.len(), is_reliable, has_deadline);
                let mail = &mut self.aside.mail;
                mail.budget = mail.budget.saturating_sub(size);
                if mail.pending.insert((host, stream.peer(), datagram), number).is_some() {
                    self.fail(format!("{datagram:?} names two datagrams"));
                }
            }
            // The model checks the refusal of what told this side.
            Err(DatagramError::PeerGone) => {}
            Err(DatagramError::Reset { code, .. }) => {
                let check = self.model.saw_tree_reset(id, code);
                self.check(check);
            }
            Err(DatagramError::Lost(reason)) => {
                let check = self.model.saw_loss(host, peer, &reason);
                self.check(check);
            }
            Err(error) => self.fail(format!("{id:?} takes no datagram: {error}")),
        }
    }

    pub(super) fn on_fate(&mut self, host: HostIndex, peer: PeerId, datagram: DatagramId, fate: DatagramFate) {
        let Some(number) = self.aside.mail.pending.remove(&(host, peer, datagram)) else {
            return self.fail(format!("h{} is told {fate:?} of an unknown {datagram:?}", host.0));
        };
        let check = self.model.saw_fate(number, fate);
        self.check(check);
    }

    /// Takes all datagrams that there are.
    pub(super) fn take_messages(&mut self, world: &mut World, id: EndId) {
        let (host, peer, stream) = (self.ends[id.0].host, self.ends[id.0].peer, self.ends[id.0].stream);
        while self.failure.is_none() && !self.aside.trees.is_cut(id) {
            let check = match world.call(host, |h, now| h.stream(stream).poll_recv_datagram(now)) {
                Poll::Pending => return,
                Poll::Ready(Ok(None)) => {
                    let check = self.model.saw_no_more_messages(id);
                    return self.check(check);
                }
                Poll::Ready(Ok(Some(data))) => {
                    world.note(format_args!("h{} datagram of {} from {id:?}", host.0, data.len()));
                    self.model.saw_message(id, &data)
                }
                Poll::Ready(Err(ReadError::Reset { code, .. })) => {
                    let check = self.model.saw_tree_reset(id, code);
                    return self.check(check);
                }
                Poll::Ready(Err(ReadError::Lost(reason))) => {
                    let check = self.model.saw_loss(host, peer, &reason);
                    return self.check(check);
                }
                Poll::Ready(Err(error)) => Err(format!("{id:?} gives no datagram: {error}")),
            };
            self.check(check);
        }
    }
}
