//! Buffers used again by one stream after another, and what those in use hold.

use bytes::Bytes;
use sss_wire::frame::Stream;

use super::ReadOutcome;
use super::half::{RecvHalf, SendHalf};
use super::recv_buf::{Arrival, RecvBuf, Slices};
use super::send_buf::SendBuf;

/// Unused buffers kept of each kind.
const KEPT: usize = 128;
/// The same of those without memory for gathered bytes: about as many as there are small datagrams in a full queue.
const KEPT_BARE: usize = 512;

/// Buffers of streams that have nothing in them.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "the boxes move between the pool and the streams as they are"
)]
pub(crate) struct Pool {
    send: Vec<Box<SendBuf>>,
    recv: Vec<Box<RecvBuf>>,
    /// Bytes written and not sent, of all streams.
    unsent: u64,
    pub(crate) slices: Slices,
}

impl Pool {
    /// Bytes written and not sent, of all streams.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Gives back the unused buffers.
    pub(crate) fn rest(&mut self) {
        self.send = Vec::new();
        self.recv = Vec::new();
    }

    /// Puts something behind what was written to a direction.
    #[inline]
    pub(crate) fn append(&mut self, send: &mut SendHalf, write: impl FnOnce(&mut SendBuf)) {
        let buf = send.buf.get_or_insert_with(|| self.send_buf(send.sent));
        let before = buf.end();
        write(buf);
        self.unsent += buf.end() - before;
    }

    /// So many bytes of a direction, which were never sent, are in the packet being written.
    pub(crate) fn note_sent(&mut self, send: &mut SendHalf, len: u64) {
        send.sent += len;
        self.unsent -= len;
    }

    /// So many bytes wait to be put into a buffer.
    #[inline]
    pub(crate) fn note_waiting(&mut self, len: u64) {
        self.unsent += len;
    }

    /// So many bytes wait no more.
    #[inline]
    pub(crate) fn note_taken(&mut self, len: u64) {
        self.unsent -= len;
    }

    /// Puts a message that has waited in the place of one that is over, of which this counts nothing as sent.
    pub(crate) fn replace(&mut self, send: &mut SendHalf, message: Bytes) {
        self.note_taken(message.len() as u64);
        self.take_back_send(send);
        self.append(send, |buf| buf.push_message(message));
    }

    /// Takes back what was written and not sent of a direction, but for the next `keep` bytes; returns how many.
    pub(crate) fn take_back_unsent(&mut self, send: &mut SendHalf, keep: u64) -> u64 {
        let taken = send.unsent().saturating_sub(keep);
        let end = send.end() - taken;
        if let Some(buf) = send.buf.as_mut() {
            // Also if nothing is taken: what is kept may be the end of a long chunk.
            buf.truncate(end);
            self.unsent -= taken;
        }
        taken
    }

    /// A buffer for a direction of which `offset` bytes were sent and acknowledged.
    fn send_buf(&mut self, offset: u64) -> Box<SendBuf> {
        let mut buf = self.send.pop().unwrap_or_default();
        buf.begin(offset);
        buf
    }

    /// A buffer for a direction of which `offset` bytes were read.
    fn recv_buf(&mut self, offset: u64) -> Box<RecvBuf> {
        let mut buf = self.recv.pop().unwrap_or_default();
        buf.begin(offset);
        buf
    }

    /// Takes the buffer of a direction; what it holds unsent never will be sent.
    pub(crate) fn take_back_send(&mut self, send: &mut SendHalf) {
        self.unsent -= send.unsent();
        if let Some(mut buf) = send.buf.take()
            && self.send.len() < KEPT_BARE
        {
            buf.clear();
            if self.send.len() >= KEPT {
                buf.shrink();
            }
            self.send.push(buf);
        }
    }

    /// Takes in what a frame brings for a direction, unless all of it is there; returns whether more can be read.
    #[inline]
    pub(crate) fn keep(&mut self, recv: &mut RecvHalf, frame: &Stream<'_>, packet: &Bytes) -> bool {
        let is_bare = frame.data.is_empty() && !frame.mark;
        if is_bare || frame.end() <= recv.next() {
            return false;
        }
        let arrival = Arrival {
            offset: frame.offset,
            data: frame.data,
            has_mark: frame.mark,
            packet,
        };
        let read = recv.read;
        let mut buf = recv.buf.take().unwrap_or_else(|| self.recv_buf(read));
        let has_more = buf.insert(arrival, &mut self.slices);
        recv.buf = Some(buf);
        has_more
    }

    /// Takes bytes or a mark out of the buffer of a direction; gives the buffer back when it is empty.
    #[inline]
    pub(crate) fn read(&mut self, recv: &mut RecvHalf, max: usize) -> Option<ReadOutcome> {
        let buf = recv.buf.as_mut()?;
        if buf.is_blocked() {
            return None;
        }
        // STR-29
        let outcome = match buf.until_mark(recv.read) {
            0 if max > 0 => {
                buf.pass_mark();
                ReadOutcome::Mark
            }
            until => ReadOutcome::Chunk(buf.read(max.min(until), &mut self.slices)),
        };
        recv.read += match &outcome {
            ReadOutcome::Chunk(bytes) => bytes.len() as u64,
            _ => 1,
        };
        if buf.is_empty() {
            self.take_back_recv(recv.buf.take());
        }
        Some(outcome)
    }

    pub(crate) fn take_back_recv(&mut self, buf: Option<Box<RecvBuf>>) {
        if let Some(mut buf) = buf {
            buf.clear(&mut self.slices);
            if self.recv.len() < KEPT {
                self.recv.push(buf);
            }
        }
    }
}

#[cfg(test)]
impl Pool {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        self.send.capacity() + self.recv.capacity()
    }
}
