//! Progress of what was written: what a host says, checked against what the peer's host has.

use std::task::Poll;

use super::{Actors, EndId, Send};
use crate::model::Check;
use crate::world::World;

impl Actors {
    /// Asks how far an end's data has come; events tell when to ask again.
    pub(super) fn ask_progress(&mut self, world: &mut World, id: EndId) {
        let end = &self.ends[id.0];
        let (host, stream) = (end.host, end.stream);
        if end.send == Send::Done {
            return;
        }
        let sent = world.call(host, |h, _| h.stream(stream).poll_sent());
        let acknowledged = world.call(host, |h, _| h.stream(stream).poll_acknowledged());
        match (sent, acknowledged) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => self.cannot_write(id, &error),
            (sent, acknowledged) => {
                let check = self.check_progress(world, id, (sent.is_ready(), acknowledged.is_ready()));
                self.check(check);
            }
        }
    }

    /// Answers and statistics agree, and nothing counts as delivered that the peer's host does not have.
    fn check_progress(&self, world: &World, id: EndId, (sent, acknowledged): (bool, bool)) -> Check {
        let end = &self.ends[id.0];
        let Some(info) = world.host(end.host).stream_info(end.stream) else {
            return Err(format!("{id:?}: nothing is known of a stream that is held"));
        };
        let delivered = info.delivered.unwrap_or(u64::MAX);
        let is_sum = info.unsent + info.in_flight == info.unacked
            && delivered.checked_add(info.unacked) == Some(self.model.output(id).1);
        if !is_sum || sent != (info.unsent == 0) || acknowledged != (info.unacked == 0) {
            return Err(format!(
                "{id:?}: sent {sent}, acknowledged {acknowledged}, but {info:?}"
            ));
        }
        let reader = self.model.reader_of(id).map(|reader| &self.ends[reader.0]);
        let theirs = reader.and_then(|r| world.host(r.host).stream_info(r.stream));
        match theirs {
            Some(theirs) if theirs.received < delivered => Err(format!("{id:?}: {info:?} of {theirs:?} was delivered")),
            _ => Ok(()),
        }
    }
}
