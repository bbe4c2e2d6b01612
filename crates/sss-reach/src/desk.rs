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
    /// The record is whole, and its answer waits for the directory.
    waits: bool,
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

/// Fate of a record.
enum Answered {
    Yes,
    /// It is no request.
    No,
    /// The directory was asked first.
    NotYet,
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
            let visit = Visit {
                eid,
                record,
                waits: false,
            };
            self.visits.insert(stream, visit);
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

    /// The directory has answered: goes on with those who have waited for it.
    pub(crate) fn resume(&mut self, now: Instant, host: &mut Host, registrar: &mut Registrar) {
        let waiting = self.visits.iter().filter(|(_, visit)| visit.waits);
        let waiting: Vec<StreamId> = waiting.map(|(stream, _)| *stream).collect();
        for stream in waiting {
            self.serve(now, host, registrar, stream);
        }
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
            if self.waits {
                let record = std::mem::take(&mut self.record);
                match self.answer(now, host, registrar, stream, &record) {
                    Answered::Yes => self.waits = false,
                    Answered::No => return Served::Malformed,
                    Answered::NotYet => {
                        self.record = record;
                        return Served::Waits;
                    }
                }
            }
            let room = (MAX_RECORD + 1).saturating_sub(self.record.len());
            match host.stream(stream).poll_read(now, room) {
                Poll::Pending => return Served::Waits,
                Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => self.record.extend_from_slice(&bytes),
                Poll::Ready(Ok(ReadOutcome::Mark)) => {
                    let record = std::mem::take(&mut self.record);
                    match self.answer(now, host, registrar, stream, &record) {
                        Answered::Yes => {}
                        Answered::No => return Served::Malformed,
                        Answered::NotYet => {
                            self.record = record;
                            self.waits = true;
                            return Served::Waits;
                        }
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

    /// Answers a record.
    fn answer(
        &self,
        now: Instant,
        host: &mut Host,
        registrar: &mut Registrar,
        stream: StreamId,
        record: &[u8],
    ) -> Answered {
        let path = host.channel_info(stream.peer()).and_then(|info| {
            let (Route { link, handle }, local) = (info.route, info.local);
            handle.is_none().then_some(Path { link, local })
        });
        let Some(path) = path else {
            // The channel is gone: nobody is there to hear it. Or a relay is in between.
            return Answered::Yes;
        };
        match registrar.ask(now, (&self.eid, path), record, self.waits) {
            // If it cannot be written, the next step finds out why.
            Ok(Some(answer)) => drop(host.stream(stream).write_record(&answer)),
            Ok(None) => return Answered::NotYet,
            Err(_) => return Answered::No,
        }
        Answered::Yes
    }
}

fn refuse(host: &mut Host, stream: StreamId, code: Code, reason: &str) {
    let mut stream = host.stream(stream);
    stream.stop(code, reason);
    stream.reset(code, reason);
    stream.release();
}
