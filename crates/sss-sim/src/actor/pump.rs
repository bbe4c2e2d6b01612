//! Actions of an application with an end until it cannot go on: write, finish, read, accept.

use std::task::Poll;

use bytes::Bytes;
use sss_proto::{Event, Interest, ReadError, ReadOutcome, WriteError};

use super::{Actors, EndId, Opening, Phase, Reader, Send};
use crate::model::fill;
use crate::world::World;

impl Actors {
    /// Goes on with the end after an event.
    pub(super) fn pump_on_event(&mut self, world: &mut World, id: EndId, event: &Event) {
        let is_input = matches!(
            event,
            Event::Ready(_, Interest::Read)
                | Event::Ready(_, Interest::RecvDatagram)
                | Event::Ready(_, Interest::Accept)
        );
        if self.ends[id.0].is_released || (is_input && self.aside.deafness.is_deaf(id)) {
            return;
        }
        match event {
            Event::Ready(_, Interest::Read) => match self.ends[id.0].reader {
                Reader::Eager(max) => self.read_all(world, id, max),
                Reader::Slow(_) => {}
            },
            Event::Ready(_, Interest::RecvDatagram) => match self.ends[id.0].reader {
                Reader::Eager(_) => self.take_messages(world, id),
                Reader::Slow(_) => {}
            },
            // Whoever finds no room does without.
            Event::Ready(_, Interest::SendDatagram) => {}
            Event::Ready(_, Interest::Accept) => self.accept_children(world, id),
            Event::Ready(_, Interest::Consumed) => self.check_read(world, id),
            Event::Ready(_, Interest::Sent) | Event::Ready(_, Interest::Acknowledged) => self.ask_progress(world, id),
            _ => self.send(world, id),
        }
        self.release_late(world, id);
    }

    /// Lets go of an end that came when everything else had been let go of already, once it is complete.
    fn release_late(&mut self, world: &mut World, id: EndId) {
        if self.phase == Phase::Released && self.ends[id.0].is_complete() {
            self.release(world, id);
        }
    }

    /// Does all that the end's application wants and can do now.
    pub(super) fn pump(&mut self, world: &mut World, id: EndId) {
        if self.ends[id.0].is_released {
            return;
        }
        self.send(world, id);
        if self.aside.deafness.is_deaf(id) {
            return;
        }
        if let Reader::Eager(max) = self.ends[id.0].reader {
            self.read_all(world, id, max);
            self.take_messages(world, id);
        }
        if self.ends[id.0].takes_children {
            self.accept_children(world, id);
        }
        self.release_late(world, id);
    }

    /// Writes up to the goal, then finishes if that is wanted, then waits for the end to have arrived.
    pub(super) fn send(&mut self, world: &mut World, id: EndId) {
        while self.ends[id.0].send == Send::Open && self.model.output(id).1 < self.ends[id.0].goal {
            if !self.write(world, id) {
                return;
            }
            self.ask_progress(world, id);
        }
        if self.ends[id.0].send == Send::Open && self.ends[id.0].wants_finish {
            self.finish(world, id);
        }
        if self.ends[id.0].send == Send::Finished {
            self.check_drained(world, id);
        }
    }

    /// Writes a piece; false if that has to wait.
    fn write(&mut self, world: &mut World, id: EndId) -> bool {
        if let Some(went_on) = self.write_record(world, id) {
            return went_on;
        }
        let (flow, offset) = self.model.output(id);
        let end = &self.ends[id.0];
        let (host, stream) = (end.host, end.stream);
        let n = usize::try_from(end.goal - offset).unwrap_or(usize::MAX).min(16 << 10);
        let mut data = vec![0; n];
        fill(flow, offset, &mut data);
        let result = if offset.is_multiple_of(2) {
            world.call(host, |h, _| h.stream(stream).poll_write(&data))
        } else {
            let mut chunk = Bytes::from(data);
            world.call(host, |h, _| h.stream(stream).poll_write_chunk(&mut chunk))
        };
        world.note(format_args!("h{} write {id:?} {n} at {offset} -> {result:?}", host.0));
        match result {
            Poll::Ready(Ok(taken)) if taken > n => {
                self.fail(format!("{id:?}: {taken} bytes taken of {n}"));
                false
            }
            Poll::Ready(Ok(taken)) => {
                self.model.wrote(id, taken);
                taken > 0
            }
            Poll::Ready(Err(error)) => {
                self.cannot_write(id, &error);
                false
            }
            Poll::Pending => false,
        }
    }

    fn finish(&mut self, world: &mut World, id: EndId) {
        let (host, stream) = (self.ends[id.0].host, self.ends[id.0].stream);
        let result = world.call(host, |h, _| h.stream(stream).finish());
        world.note(format_args!("h{} finish {id:?} -> {result:?}", host.0));
        match result {
            Ok(()) => {
                self.model.finished(id);
                self.ends[id.0].send = Send::Finished;
                self.ask_if_read(world, id);
            }
            Err(error) => self.cannot_write(id, &error),
        }
    }

    fn check_drained(&mut self, world: &mut World, id: EndId) {
        let (host, stream) = (self.ends[id.0].host, self.ends[id.0].stream);
        match world.call(host, |h, _| h.stream(stream).poll_drained()) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                world.note(format_args!("h{} drained {id:?}", host.0));
                self.ends[id.0].send = Send::Done;
            }
            Poll::Ready(Err(error)) => self.cannot_write(id, &error),
        }
    }

    pub(super) fn cannot_write(&mut self, id: EndId, error: &WriteError) {
        let end = &mut self.ends[id.0];
        end.send = Send::Done;
        let check = match error {
            WriteError::Stopped { code, .. } => self.model.saw_stop(id, *code),
            WriteError::Refused(refusal) => self.model.saw_stop(id, refusal.code()),
            WriteError::Lost(reason) => self.model.saw_loss(end.host, end.peer, reason),
            WriteError::Closed => Err(format!("{id:?} is said to be closed by its own application")),
            other => Err(format!("{id:?} meets an error that the model does not know: {other}")),
        };
        self.check(check);
    }

    pub(super) fn read_all(&mut self, world: &mut World, id: EndId, max: usize) {
        while self.ends[id.0].is_reading && self.read(world, id, max) {}
    }

    /// Reads a piece; false if that has to wait, or there is nothing more.
    pub(super) fn read(&mut self, world: &mut World, id: EndId, max: usize) -> bool {
        let (host, stream) = (self.ends[id.0].host, self.ends[id.0].stream);
        let result = world.call(host, |h, now| h.stream(stream).poll_read(now, max));
        let check = match result {
            Poll::Pending => return false,
            Poll::Ready(Ok(ReadOutcome::Chunk(data))) => {
                world.note(format_args!("h{} read {id:?} -> {} bytes", host.0, data.len()));
                let check = match data.len() {
                    n if n > max => Err(format!("{id:?}: {n} bytes read where {max} were asked for")),
                    0 => Err(format!("{id:?}: an empty chunk")),
                    _ => self.model.saw_data(id, &data),
                };
                self.check(check);
                return self.failure.is_none();
            }
            Poll::Ready(Ok(ReadOutcome::Mark)) => {
                world.note(format_args!("h{} read {id:?} -> a mark", host.0));
                let check = self.model.saw_mark(id);
                self.check(check);
                return self.failure.is_none();
            }
            Poll::Ready(Ok(ReadOutcome::End)) => {
                world.note(format_args!("h{} read {id:?} -> end", host.0));
                self.model.saw_end(id)
            }
            Poll::Ready(Err(error)) => {
                world.note(format_args!("h{} read {id:?} -> {error:?}", host.0));
                self.cannot_read(id, &error)
            }
        };
        self.ends[id.0].is_reading = false;
        self.check(check);
        false
    }

    fn cannot_read(&mut self, id: EndId, error: &ReadError) -> Result<(), String> {
        let end = &self.ends[id.0];
        match error {
            ReadError::Reset { code, .. } => self.model.saw_reset(id, *code),
            ReadError::Refused(refusal) => self.model.saw_reset(id, refusal.code()),
            ReadError::Lost(reason) => self.model.saw_loss(end.host, end.peer, reason),
            ReadError::Closed => Err(format!("{id:?} is said to be stopped by its own application")),
            other => Err(format!("{id:?} meets an error that the model does not know: {other}")),
        }
    }

    /// Accepts all children that wait.
    pub(super) fn accept_children(&mut self, world: &mut World, id: EndId) {
        let (host, peer, stream) = (self.ends[id.0].host, self.ends[id.0].peer, self.ends[id.0].stream);
        loop {
            match world.call(host, |h, _| h.stream(stream).poll_accept_substream()) {
                Poll::Pending => return,
                Poll::Ready(Ok(None)) => return self.note_childless(world, id),
                Poll::Ready(Ok(Some(child))) => {
                    self.tally.accepted += 1;
                    let child_id = self.add(host, peer, child, Some(id), Opening::Accepted);
                    world.note(format_args!("h{} accept of {id:?} -> {child_id:?} {child:?}", host.0));
                    self.greet(world, child_id);
                }
                Poll::Ready(Err(reason)) => {
                    let check = self.model.saw_no_children(id, &reason);
                    return self.check(check);
                }
            }
            if self.failure.is_some() {
                return;
            }
        }
    }

    fn note_childless(&mut self, world: &mut World, id: EndId) {
        if self.aside.trees.note_childless(id) {
            self.tally.childless += 1;
            world.note(format_args!("no more children of {id:?}"));
        }
        let check = self.model.saw_no_more_children(id);
        self.check(check);
    }

    pub(super) fn release(&mut self, world: &mut World, id: EndId) {
        let end = &mut self.ends[id.0];
        if end.is_released {
            return;
        }
        end.is_released = true;
        let (host, stream) = (end.host, end.stream);
        if self.phase == Phase::Active {
            self.tally.drops += 1;
        }
        self.model.released(id);
        self.aside.trees.forget(id);
        world.note(format_args!("h{} release {id:?}", host.0));
        world.call(host, |h, _| h.stream(stream).release());
    }
}
