//! The stream of a registration: REGISTER, and CONNECTs behind it (RCH-1, RCH-41).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Host, Instant, Link, ReadOutcome, StreamId};
use sss_wire::reach::bodies::Found;
use sss_wire::reach::records::{Call, MAX_RECORD, Register, Request, read_way};

use super::calls::LIFE;
use super::registration::{why_unread, why_unwritten};
use super::report::RegistrationError;

/// CONNECTs that wait for their answers on one stream, at most.
const MAX_CALLS: usize = 8;

/// A stream on which a server is asked.
pub(super) struct Conversation {
    stream: StreamId,
    /// The next answer, as far as it has come.
    record: Vec<u8>,
    /// Introductions that were asked for, the first to be answered first, with the round trip that the server was told.
    calls: VecDeque<([u8; 8], Duration)>,
    /// Time of the latest of them.
    asked: Instant,
    /// Set once something may follow REGISTER: the round trip is known.
    is_greeted: bool,
}

impl Conversation {
    /// Asks for a lease on a stream that was opened for it.
    ///
    /// # Errors
    /// If the stream has ended.
    pub(super) fn begin(host: &mut Host, stream: StreamId, register: &Register) -> Result<Self, RegistrationError> {
        let record = Request::Register(register.clone()).encode();
        if let Err(error) = host.stream(stream).write_record(&record) {
            host.stream(stream).release();
            return Err(why_unwritten(error));
        }
        Ok(Self {
            stream,
            record: Vec::new(),
            calls: VecDeque::new(),
            asked: Instant::default(),
            is_greeted: false,
        })
    }

    pub(super) fn is_on(&self, stream: StreamId) -> bool {
        self.stream == stream
    }

    /// Returns whether CONNECTs wait for their answers.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Returns whether no answer is waited for any more: the introductions are forgotten.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.asked + LIFE
    }

    /// Returns whether something may follow REGISTER from now on.
    pub(super) fn note_greeted(&mut self, host: &Host) -> bool {
        let is_greeted = self.rtt(host).is_some();
        let was_greeted = std::mem::replace(&mut self.is_greeted, is_greeted);
        is_greeted && !was_greeted
    }

    /// The round trip to the server, once its answer to the greeting has told it.
    pub(super) fn rtt(&self, host: &Host) -> Option<Duration> {
        host.channel_info(self.stream.peer())?.min_rtt
    }

    /// The link by which the server is reached, if no relay is in between.
    pub(super) fn link(&self, host: &Host) -> Option<Link> {
        let route = host.channel_info(self.stream.peer())?.route;
        route.handle.is_none().then_some(route.link)
    }

    /// The address of this host that the channel uses, if the socket has told it.
    pub(super) fn local(&self, host: &Host) -> Option<IpAddr> {
        host.channel_info(self.stream.peer())?.local
    }

    /// Asks for an introduction, if there is room for one more and the round trip is known. Returns whether it was.
    pub(super) fn connect(&mut self, now: Instant, host: &mut Host, call: impl FnOnce() -> Call) -> bool {
        let Some(rtt) = self.rtt(host).filter(|_| self.calls.len() < MAX_CALLS) else {
            return false;
        };
        let call = call();
        let introduction = call.introduction;
        let us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        let record = Request::Connect(Call { rtt: us, ..call }).encode();
        let is_written = host.stream(self.stream).write_record(&record).is_ok();
        if is_written {
            self.calls.push_back((introduction, rtt));
            self.asked = now;
        }
        is_written
    }

    /// The next answer, when all of it has come.
    pub(super) fn poll(&mut self, now: Instant, host: &mut Host) -> Poll<Result<Vec<u8>, RegistrationError>> {
        loop {
            match host.stream(self.stream).poll_read(now, MAX_RECORD) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) if self.record.len() + bytes.len() <= MAX_RECORD => {
                    self.record.extend_from_slice(&bytes);
                }
                Poll::Ready(Ok(ReadOutcome::Mark)) => return Poll::Ready(Ok(std::mem::take(&mut self.record))),
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(RegistrationError::Malformed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(why_unread(error))),
            }
        }
    }

    /// The next answer to a CONNECT, when it has come.
    pub(super) fn poll_found(&mut self, now: Instant, host: &mut Host) -> Poll<Result<Found, RegistrationError>> {
        let record = std::task::ready!(self.poll(now, host))?;
        let Some(((introduction, told), mut outcome)) = self.calls.pop_front().zip(read_way(&record).ok()) else {
            return Poll::Ready(Err(RegistrationError::Malformed));
        };
        if let (Ok(way), Some(rtt)) = (&mut outcome, self.rtt(host)) {
            // The first round trip has the time in it that the server took for its answer. The callee holds its packets
            // back for half of what was too much: so does this host, so that both open at once.
            let excess = u32::try_from(told.saturating_sub(rtt).as_micros() / 2).unwrap_or(u32::MAX);
            way.hold = way.hold.saturating_add(excess);
        }
        Poll::Ready(Ok(Found { introduction, outcome }))
    }

    /// All was said.
    pub(super) fn end(self, host: &mut Host) {
        // If the stream has ended already, nothing is lost.
        let _ = host.stream(self.stream).finish();
        host.stream(self.stream).release();
    }
}
