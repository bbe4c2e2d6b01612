//! Applications on both hosts that write so much on each stream, and read so much.

use std::collections::BTreeMap;
use std::task::Poll;

use sss_proto::{Event, Interest, ListenerId, ReadError, ReadOutcome, StreamId};

use super::{CLIENT, SERVER, SERVICE};
use crate::world::{HostIndex, World};

/// Task of an application with a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// Bytes to write.
    pub(super) send: usize,
    /// Bytes to read.
    pub(super) expect: u64,
    /// Writes only once everything expected was read.
    pub(super) answers: bool,
    /// Finishes, reads to the end and lets go of the stream; otherwise it stays.
    pub(super) ends: bool,
}

/// One end of a stream, while there is something to do.
struct Flow {
    job: Job,
    left: usize,
    read: u64,
    is_at_end: bool,
    is_done: bool,
}

impl Flow {
    fn is_read(&self) -> bool {
        self.read >= self.job.expect && (self.is_at_end || !self.job.ends)
    }
}

/// The streams of both hosts.
pub(super) struct Talk {
    listener: ListenerId,
    served: Job,
    flows: BTreeMap<(HostIndex, StreamId), Flow>,
    /// Streams of the client that have done their job, since this was last taken.
    done: Vec<StreamId>,
    /// Bytes that both hosts have read.
    pub(super) bytes: u64,
    pub(super) failure: Option<String>,
}

impl Talk {
    /// The server takes streams, and does `served` with each.
    pub(super) fn start(world: &mut World, served: Job) -> Result<Self, String> {
        let listener = world.call(SERVER, |h, _| h.listen(SERVICE.0, SERVICE.1));
        let mut talk = Self {
            listener: listener.map_err(|e| e.to_string())?,
            served,
            flows: BTreeMap::new(),
            done: Vec::new(),
            bytes: 0,
            failure: None,
        };
        talk.accept(world);
        Ok(talk)
    }

    /// Opens a top-level stream for the client.
    pub(super) fn connect(&mut self, world: &mut World, job: Job) -> StreamId {
        let stream = world.connect(CLIENT, SERVER, SERVICE);
        self.take(world, CLIENT, stream, job);
        stream
    }

    /// Opens a child for the client.
    pub(super) fn open(&mut self, world: &mut World, parent: StreamId, job: Job) -> Option<StreamId> {
        match world.call(CLIENT, |h, _| h.stream(parent).open_substream()) {
            Ok(stream) => {
                self.take(world, CLIENT, stream, job);
                Some(stream)
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// The client resets a stream and all below it, of which `streams` are all it holds, and lets go of these.
    pub(super) fn reset_tree(&mut self, world: &mut World, streams: &[StreamId]) {
        if let Some(top) = streams.first() {
            world.call(CLIENT, |h, _| h.stream(*top).reset_tree(sss_wire::Code::NONE, "over"));
        }
        for stream in streams {
            self.release(world, CLIENT, *stream);
        }
    }

    /// A stream of the client that has done its job and was not told of yet.
    pub(super) fn take_done(&mut self) -> Option<StreamId> {
        self.done.pop()
    }

    pub(super) fn on_event(&mut self, world: &mut World, host: HostIndex, event: Event) {
        match event {
            Event::Acceptable(_) => self.accept(world),
            Event::Ready(parent, Interest::Accept) => self.accept_children(world, parent),
            Event::Ready(stream, Interest::Read) | Event::Ready(stream, Interest::Write) => {
                self.go_on(world, host, stream)
            }
            Event::Disconnected(_, _, reason) => self.fail(reason),
            _ => {}
        }
    }

    fn fail(&mut self, what: impl ToString) {
        self.failure.get_or_insert(what.to_string());
    }

    fn accept(&mut self, world: &mut World) {
        let listener = self.listener;
        while let Some((stream, _)) = world.call(SERVER, |h, _| h.accept(listener)) {
            self.take(world, SERVER, stream, self.served);
            self.accept_children(world, stream);
        }
    }

    fn accept_children(&mut self, world: &mut World, parent: StreamId) {
        while self.flows.contains_key(&(SERVER, parent)) {
            match world.call(SERVER, |h, _| h.stream(parent).poll_accept_substream()) {
                Poll::Ready(Ok(Some(stream))) => {
                    self.take(world, SERVER, stream, self.served);
                    // Calls have no children.
                    if !self.served.ends {
                        self.accept_children(world, stream);
                    }
                }
                Poll::Ready(Ok(None)) | Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.fail(error),
            }
        }
    }

    fn take(&mut self, world: &mut World, host: HostIndex, stream: StreamId, job: Job) {
        let flow = Flow {
            job,
            left: job.send,
            read: 0,
            is_at_end: false,
            is_done: false,
        };
        self.flows.insert((host, stream), flow);
        self.go_on(world, host, stream);
    }

    fn release(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        self.flows.remove(&(host, stream));
        world.call(host, |h, _| h.stream(stream).release());
    }

    /// Reads and writes what there is, and what there is room for.
    fn go_on(&mut self, world: &mut World, host: HostIndex, stream: StreamId) {
        let Some(mut flow) = self.flows.remove(&(host, stream)) else {
            return;
        };
        let before = flow.read;
        let went = read(world, host, stream, &mut flow).and_then(|()| write(world, host, stream, &mut flow));
        self.bytes += flow.read - before;
        match went {
            Ok(()) => {}
            Err(Ended::ByPeer) => return self.release(world, host, stream),
            Err(Ended::Wrongly(what)) => return self.fail(what),
        }
        let is_done = flow.is_read() && flow.left == 0;
        if is_done && !flow.is_done {
            flow.is_done = true;
            if host == CLIENT {
                self.done.push(stream);
            }
        }
        let ends = flow.job.ends;
        self.flows.insert((host, stream), flow);
        if is_done && ends {
            self.release(world, host, stream);
        }
    }
}

/// Reason why a stream cannot go on.
enum Ended {
    /// The peer reset it, or let go of it.
    ByPeer,
    Wrongly(String),
}

fn read(world: &mut World, host: HostIndex, stream: StreamId, flow: &mut Flow) -> Result<(), Ended> {
    loop {
        match world.call(host, |h, now| h.stream(stream).poll_read(now, usize::MAX)) {
            Poll::Ready(Ok(ReadOutcome::Chunk(data))) => flow.read += data.len() as u64,
            Poll::Ready(Ok(ReadOutcome::Mark)) => {}
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(ReadOutcome::End)) => {
                flow.is_at_end = true;
                return Ok(());
            }
            Poll::Ready(Err(ReadError::Reset { .. })) if host == SERVER => return Err(Ended::ByPeer),
            Poll::Ready(Err(error)) => return Err(Ended::Wrongly(error.to_string())),
        }
    }
}

fn write(world: &mut World, host: HostIndex, stream: StreamId, flow: &mut Flow) -> Result<(), Ended> {
    const CHUNK: [u8; 16 << 10] = [0x5a; 16 << 10];
    if flow.left == 0 || flow.job.answers && !flow.is_read() {
        return Ok(());
    }
    let wrongly = |error: sss_proto::WriteError| Ended::Wrongly(error.to_string());
    while flow.left > 0 {
        let chunk = &CHUNK[..CHUNK.len().min(flow.left)];
        let taken = world.write(host, stream, chunk).map_err(wrongly)?;
        if taken == 0 {
            return Ok(());
        }
        flow.left -= taken;
    }
    if flow.job.ends {
        world.call(host, |h, _| h.stream(stream).finish()).map_err(wrongly)?;
    }
    Ok(())
}
