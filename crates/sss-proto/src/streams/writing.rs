//! Writing by the application.

use std::task::{Poll, ready};

use bytes::Bytes;

use super::data::send_buf::SendBuf;
use super::life::state::SendState;
use super::life::{Life, cause};
use super::tree::node::Flags;
use crate::error::WriteError;
use crate::ids::StreamKey;
use crate::interest::Interest;

/// Takes as much of `data` as there is room for; returns how many bytes: at least one, if there are any.
///
/// # Errors
/// If the direction has ended.
pub(crate) fn poll_write(life: &mut Life, key: StreamKey, data: &[u8]) -> Poll<Result<usize, WriteError>> {
    let index = writable(life, key)?;
    let n = ready!(poll_room(life, index, data.len()));
    if let Some(data) = data.get(..n).filter(|d| !d.is_empty()) {
        life.append(index, |buf| buf.push(data));
    }
    Poll::Ready(Ok(n))
}

/// As [`poll_write`], taking bytes from the front of `chunk`.
///
/// # Errors
/// If the direction has ended.
pub(crate) fn poll_write_chunk(life: &mut Life, key: StreamKey, chunk: &mut Bytes) -> Poll<Result<usize, WriteError>> {
    let index = writable(life, key)?;
    let n = ready!(poll_room(life, index, chunk.len()));
    if n > 0 {
        let bytes = chunk.split_to(n);
        life.append(index, |buf| buf.push_bytes(bytes));
    }
    Poll::Ready(Ok(n))
}

/// Takes back what was written and not sent, but for the next `keep` bytes, and at least one; returns how many, of
/// which a record mark counts as one. Nothing, once the direction has ended.
pub(crate) fn take_back(life: &mut Life, key: StreamKey, keep: u64) -> u64 {
    match writable(life, key) {
        Ok(index) => life.pool.take_back_unsent(&mut life.tree[index].send, keep.max(1)),
        Err(_) => 0,
    }
}

/// Ready when there is room for at least one byte.
///
/// # Errors
/// If the direction has ended.
pub(crate) fn poll_writable(life: &mut Life, key: StreamKey) -> Poll<Result<(), WriteError>> {
    let index = writable(life, key)?;
    poll_room(life, index, 1).map(|_| Ok(()))
}

/// Ends a record (STR-27): what was written since the last mark is one.
///
/// The mark is taken whether there is room for it or not, so that a record is never left without its end; the caller
/// waits for [`poll_writable`] before.
///
/// # Errors
/// If the direction has ended.
pub(crate) fn write_mark(life: &mut Life, key: StreamKey) -> Result<(), WriteError> {
    let index = writable(life, key)?;
    life.append(index, SendBuf::push_mark);
    Ok(())
}

/// Appends a copy of `record`, and its mark. All of it is taken, whether there is room for it or not; the caller waits
/// for [`poll_writable`] before.
///
/// # Errors
/// If the direction has ended. Then nothing was taken.
pub(crate) fn write_record(life: &mut Life, key: StreamKey, record: &[u8]) -> Result<(), WriteError> {
    let index = writable(life, key)?;
    life.append(index, |buf| {
        buf.push(record);
        buf.push_mark();
    });
    Ok(())
}

/// As [`write_record`], without a copy, unless the record is short.
///
/// # Errors
/// If the direction has ended. Then nothing was taken.
pub(crate) fn write_record_bytes(life: &mut Life, key: StreamKey, record: Bytes) -> Result<(), WriteError> {
    let index = writable(life, key)?;
    life.append(index, |buf| {
        if !record.is_empty() {
            buf.push_bytes(record);
        }
        buf.push_mark();
    });
    Ok(())
}

/// Ends the direction well. Finishing again changes nothing.
///
/// # Errors
/// If it has ended otherwise.
pub(crate) fn finish(life: &mut Life, key: StreamKey) -> Result<(), WriteError> {
    match writable(life, key) {
        Ok(index) => {
            life.finish(index);
            Ok(())
        }
        Err(WriteError::Closed) if life.tree.held(key).is_some_and(|i| life.tree[i].is_finished()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The slot of a stream to which the application may write.
fn writable(life: &Life, key: StreamKey) -> Result<u32, WriteError> {
    if let Some(reason) = life.failed.as_deref() {
        return Err(WriteError::Lost(reason.clone()));
    }
    let index = life.tree.held(key).ok_or(WriteError::Closed)?;
    match life.tree[index].status.send {
        SendState::Open => Ok(index),
        SendState::Finishing | SendState::Done => Err(WriteError::Closed),
        SendState::Resetting | SendState::Aborted => Err(cause::write_error(&life.tree.table, index)),
    }
}

/// Returns how much of `wanted` may be written now.
fn poll_room(life: &mut Life, index: u32, wanted: usize) -> Poll<usize> {
    let node = &mut life.tree[index];
    let n = wanted.min(node.send.room());
    if n == 0 && wanted > 0 {
        node.set(Flags::waits_for(Interest::Write));
        return Poll::Pending;
    }
    Poll::Ready(n)
}
