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

/// The next bytes, at most `max`, or the record mark that is next, unless `max` is 0; and whether they are the last:
/// the end that follows is read with them.
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
) -> Poll<Result<(ReadOutcome, bool), ReadError>> {
    life.flow.set_now(now);
    let index = life.tree.held(key).ok_or(ReadError::Closed)?;
    if let Some(outcome) = read(life, index, max) {
        let is_last = !matches!(outcome, ReadOutcome::Mark) && life.end_if_read(index);
        return Poll::Ready(Ok((outcome, is_last)));
    }
    if life.end_if_read(index) {
        return Poll::Ready(Ok((ReadOutcome::End, true)));
    }
    let node = &mut life.tree[index];
    node.advance_recv(RecvInput::Seen);
    let is_over = node.status.recv == RecvState::Done;
    if let Some(error) = cause::read_error(&life.tree.table, index) {
        return Poll::Ready(Err(error));
    }
    match life.failed.as_deref() {
        _ if is_over => Poll::Ready(Ok((ReadOutcome::End, true))),
        Some(reason) => Poll::Ready(Err(ReadError::Lost(reason.clone()))),
        None => {
            life.tree[index].set(Flags::waits_for(Interest::Read));
            Poll::Pending
        }
    }
}

/// Takes bytes or a mark out of the receive buffer. `None` if nothing can be read.
fn read(life: &mut Life, index: u32, max: usize) -> Option<ReadOutcome> {
    let outcome = life.pool.read(&mut life.tree[index].recv, max)?;
    life.flow.consume(&mut life.tree.table, &mut life.outbox, index);
    life.answer_watch(index);
    Some(outcome)
}
