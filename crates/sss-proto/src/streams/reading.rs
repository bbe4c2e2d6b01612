//! Reading by the application.

use std::task::Poll;

use super::data::ReadOutcome;
use super::life::state::{RecvInput, RecvState};
use super::life::{Life, cause};
use super::tree::node::Flags;
use crate::error::ReadError;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::time::Instant;

/// The next bytes, at most `max`, or the record mark that is next, unless `max` is 0.
///
/// What had arrived in order can be read even after the channel ended.
///
/// # Errors
/// If the direction ended early.
pub(super) fn poll_read(
    life: &mut Life,
    now: Instant,
    key: StreamKey,
    max: usize,
) -> Poll<Result<ReadOutcome, ReadError>> {
    life.flow.set_now(now);
    let index = life.tree.held(key).ok_or(ReadError::Closed)?;
    if let Some(outcome) = read(life, index, max) {
        return Poll::Ready(Ok(outcome));
    }
    if life.end_if_read(index) {
        return Poll::Ready(Ok(ReadOutcome::End));
    }
    let node = &mut life.tree[index];
    node.advance_recv(RecvInput::Seen);
    let is_over = node.status.recv == RecvState::Done;
    if let Some(error) = cause::read_error(&life.tree.table, index) {
        return Poll::Ready(Err(error));
    }
    match life.failed.as_deref() {
        _ if is_over => Poll::Ready(Ok(ReadOutcome::End)),
        Some(reason) => Poll::Ready(Err(ReadError::Lost(reason.clone()))),
        None => {
            life.tree[index].set(Flags::waits_for(Interest::Read));
            Poll::Pending
        }
    }
}

/// As [`poll_read`]; and whether what is read is the last, so that the end has been read with it.
pub(super) fn poll_read_with_end(
    life: &mut Life,
    now: Instant,
    key: StreamKey,
    max: usize,
) -> Poll<Result<(ReadOutcome, bool), ReadError>> {
    let outcome = std::task::ready!(poll_read(life, now, key, max))?;
    let is_end = match outcome {
        ReadOutcome::End => true,
        ReadOutcome::Mark => false,
        ReadOutcome::Chunk(_) => life.tree.held(key).is_some_and(|index| life.end_if_read(index)),
    };
    Poll::Ready(Ok((outcome, is_end)))
}

/// Takes bytes or a mark out of the receive buffer. `None` if nothing can be read.
fn read(life: &mut Life, index: u32, max: usize) -> Option<ReadOutcome> {
    let outcome = life.pool.read(&mut life.tree[index].recv, max)?;
    life.flow.consume(&mut life.tree.table, &mut life.outbox, index);
    life.answer_watch(index);
    Some(outcome)
}
