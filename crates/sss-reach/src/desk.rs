//! A server's streams: those on which hosts register and ask (RCH-1).

use std::collections::BTreeMap;
use std::task::Poll;

use sss_proto::{Host, Instant, ListenError, ListenerId, ReadOutcome, Route, StreamId};
use sss_wire::reach::PROTOCOL;
use sss_wire::reach::records::MAX_RECORD;
use sss_wire::{Code, Eid};

use crate::path::Path;
use crate::server::Registrar;

/// Streams of visitors at a time.
const MAX_VISITS: usize = 16_384;
/// Streams of one host at a time.
const MAX_VISITS_EACH: usize = 16;
/// Code of a record that is none (RCH-1).
const MALFORMED: u32 = 1;

/// The desk at which visitors are served, one record after the other.
#[derive(Debug)]
pub(crate) struct Desk {
    listener: ListenerId,
    visits: BTreeMap<StreamId, Visit>,
    /// Number of visits of each host.
    counts: BTreeMap<Eid, usize>,
}

/// A stream of a host.
#[derive(Debug)]
struct Visit {
    eid: Eid,
    /// A record, as far as it has come.
    record: Vec<u8>,
}

/// State of a visit.
enum Served {
    /// More may come.
    Waits,
    /// The host has said all that it wanted.
    Done,
    /// It has said what makes no sense.
    Malformed,
}

impl Desk {
    /// Begins to take visitors.
    ///
    /// # Errors
    /// If the host does so already.
    pub(crate) fn open(host: &mut Host) -> Result<Self, ListenError> {
        let listener = host.offer_own(PROTOCOL)?;
        // Nobody is there yet: whoever comes first is told of.
        let none = host.accept(listener);
        debug_assert!(none.is_none());
        Ok(Self {
            listener,
            visits: BTreeMap::new(),
            counts: BTreeMap::new(),
        })
    }

    /// Returns whether a stream is one of a visitor.
    pub(crate) fn has(&self, stream: StreamId) -> bool {
        self.visits.contains_key(&stream)
    }

    pub(crate) fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Takes the visitors that have come.
    pub(crate) fn admit(&mut self, now: Instant, host: &mut Host, registrar: &mut Registrar) {
        while let Some((stream, eid)) = host.accept(self.listener) {
            let others = self.counts.get(&eid).copied().unwrap_or_default();
            if self.visits.len() >= MAX_VISITS || others >= MAX_VISITS_EACH {
                refuse(host, stream, Code::BACKLOG, "too many registrations at once");
                continue;
            }
            self.counts.insert(eid, others + 1);
            let record = Vec::new();
            self.visits.insert(stream, Visit { eid, record });
            self.serve(now, host, registrar, stream);
        }
    }

    /// Goes on with a visitor.
    pub(crate) fn serve(&mut self, now: Instant, host: &mut Host, registrar: &mut Registrar, stream: StreamId) {
        let Some(visit) = self.visits.get_mut(&stream) else {
            return;
        };
        match visit.serve(now, host, registrar, stream) {
            Served::Waits => return,
            // A stream that has ended already says so again: nothing is lost.
            Served::Done => drop(host.stream(stream).finish()),
            Served::Malformed => {
                let code = Code::app(MALFORMED);
                refuse(host, stream, code, "a record that is no request");
            }
        }
        host.stream(stream).release();
        self.leave(stream);
    }

    fn leave(&mut self, stream: StreamId) {
        let Some(visit) = self.visits.remove(&stream) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&visit.eid) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&visit.eid);
            }
        }
    }
}

impl Visit {
    /// Answers the records that are there, each when the answer before it has room.
    fn serve(&mut self, now: Instant, host: &mut Host, registrar: &mut Registrar, stream: StreamId) -> Served {
        loop {
            match host.stream(stream).poll_writable() {
                Poll::Pending => return Served::Waits,
                Poll::Ready(Err(_)) => return Served::Done,
                Poll::Ready(Ok(())) => {}
            }
            let room = (MAX_RECORD + 1).saturating_sub(self.record.len());
            match host.stream(stream).poll_read(now, room) {
                Poll::Pending => return Served::Waits,
                Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => self.record.extend_from_slice(&bytes),
                Poll::Ready(Ok(ReadOutcome::Mark)) => {
                    let record = std::mem::take(&mut self.record);
                    if !self.answer(now, host, registrar, stream, &record) {
                        return Served::Malformed;
                    }
                }
                Poll::Ready(Ok(_) | Err(_)) if self.record.is_empty() => return Served::Done,
                Poll::Ready(_) => return Served::Malformed,
            }
            if self.record.len() > MAX_RECORD {
                return Served::Malformed;
            }
        }
    }

    /// Returns false if the record is no request.
    fn answer(
        &self,
        now: Instant,
        host: &mut Host,
        registrar: &mut Registrar,
        stream: StreamId,
        record: &[u8],
    ) -> bool {
        let path = host.channel_info(stream.peer()).and_then(|info| {
            let (Route { link, handle }, local) = (info.route, info.local);
            handle.is_none().then_some(Path { link, local })
        });
        let Some(path) = path else {
            // The channel is gone: nobody is there to hear it. Or a relay is in between.
            return true;
        };
        match registrar.request(now, (&self.eid, path), record) {
            // If it cannot be written, the next step finds out why.
            Ok(answer) => drop(host.stream(stream).write_record(&answer)),
            Err(_) => return false,
        }
        true
    }
}

fn refuse(host: &mut Host, stream: StreamId, code: Code, reason: &str) {
    let mut stream = host.stream(stream);
    stream.stop(code, reason);
    stream.reset(code, reason);
    stream.release();
}
