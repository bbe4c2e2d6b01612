//! Buffers used again by one stream after another.

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

    pub(super) fn take_back_send(&mut self, buf: Option<Box<SendBuf>>) {
        if let Some(mut buf) = buf
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
