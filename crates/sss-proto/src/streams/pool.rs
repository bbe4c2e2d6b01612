//! Buffers used again by one stream after another, and what those in use hold.

use super::node::SendHalf;
use super::recv::{RecvBuf, Slices};
use super::send::SendBuf;

/// Unused buffers kept of each kind.
const KEPT: usize = 128;

/// Buffers of streams that have nothing in them.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "the boxes move between the pool and the streams as they are"
)]
pub(super) struct Pool {
    send: Vec<Box<SendBuf>>,
    recv: Vec<Box<RecvBuf>>,
    /// Bytes written and not sent, of all streams.
    pub(super) unsent: u64,
    pub(super) slices: Slices,
}

impl Pool {
    /// A buffer for a direction of which `offset` bytes were sent and acknowledged.
    pub(super) fn send_buf(&mut self, offset: u64) -> Box<SendBuf> {
        let mut buf = self.send.pop().unwrap_or_default();
        buf.begin(offset);
        buf
    }

    /// A buffer for a direction of which `offset` bytes were read.
    pub(super) fn recv_buf(&mut self, offset: u64) -> Box<RecvBuf> {
        let mut buf = self.recv.pop().unwrap_or_default();
        buf.begin(offset);
        buf
    }

    /// Takes the buffer of a direction; what it holds unsent never will be sent.
    pub(super) fn take_back_send(&mut self, send: &mut SendHalf) {
        self.unsent -= send.unsent();
        if let Some(mut buf) = send.buf.take()
            && self.send.len() < KEPT
        {
            buf.clear();
            self.send.push(buf);
        }
    }

    pub(super) fn take_back_recv(&mut self, buf: Option<Box<RecvBuf>>) {
        if let Some(mut buf) = buf {
            buf.clear(&mut self.slices);
            if self.recv.len() < KEPT {
                self.recv.push(buf);
            }
        }
    }
}
