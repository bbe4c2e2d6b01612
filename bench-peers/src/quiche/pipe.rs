//! Bytes that wait between a stream and the task of its connection, bounded on either side.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::{Buf as _, Bytes};
use sss_bench::{Outcome, Stream};
use tokio::sync::mpsc;

use super::driver::Command;

/// Bytes that may wait on either side of a stream.
const LIMIT: usize = 1 << 20;

/// Both directions of a stream.
#[derive(Default)]
pub(super) struct Pipe(Mutex<State>);

#[derive(Default)]
struct State {
    /// Bytes that the application has not read, and how many.
    arrived: VecDeque<Bytes>,
    held: usize,
    ended: bool,
    reader: Option<Waker>,
    /// The driver reads no more until it is told to.
    starved: bool,
    /// Bytes that the application wrote and the connection did not take.
    queued: usize,
    writer: Option<Waker>,
    broken: bool,
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the driver may read on; if not, it will be told when.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.state();
        state.starved = state.held >= LIMIT;
        !state.starved
    }

    /// Gives what arrived to the application.
    pub(super) fn arrive(&self, data: Bytes, ended: bool) {
        let mut state = self.state();
        state.held += data.len();
        if !data.is_empty() {
            state.arrived.push_back(data);
        }
        state.ended |= ended;
        wake(state.reader.take());
    }

    /// Notes what the connection took.
    pub(super) fn sent(&self, count: usize) {
        let mut state = self.state();
        state.queued -= count.min(state.queued);
        wake(state.writer.take());
    }

    /// Notes that nothing passes any more.
    pub(super) fn break_off(&self) {
        let mut state = self.state();
        state.broken = true;
        wake(state.reader.take());
        wake(state.writer.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A bidirectional stream.
pub(crate) struct QuicheStream {
    id: u64,
    pipe: Arc<Pipe>,
    commands: mpsc::UnboundedSender<Command>,
}

impl QuicheStream {
    pub(super) fn new(id: u64, pipe: Arc<Pipe>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { id, pipe, commands }
    }

    fn command(&self, command: Command) -> Outcome<()> {
        Ok(self.commands.send(command).map_err(|_| "the connection has ended")?)
    }

    /// Takes what has arrived with `take`, as soon as there is something or the end.
    async fn arrived<T>(&self, mut take: impl FnMut(&mut VecDeque<Bytes>) -> T) -> Outcome<T> {
        let (taken, resume) = poll_fn(|cx| {
            let mut state = self.pipe.state();
            if state.arrived.is_empty() && !state.ended {
                if state.broken {
                    return Poll::Ready(Err("the stream was broken off"));
                }
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let taken = take(&mut state.arrived);
            state.held = state.arrived.iter().map(Bytes::len).sum();
            let resume = state.starved && state.held < LIMIT;
            state.starved &= !resume;
            Poll::Ready(Ok((taken, resume)))
        })
        .await?;
        if resume {
            self.command(Command::Resume(self.id))?;
        }
        Ok(taken)
    }
}

impl Stream for QuicheStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        poll_fn(|cx| {
            let mut state = self.pipe.state();
            if state.broken {
                return Poll::Ready(Err("the stream was broken off"));
            }
            if state.queued >= LIMIT {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.queued += data.len();
            Poll::Ready(Ok(()))
        })
        .await?;
        self.command(Command::Send(self.id, data))
    }

    async fn finish(&mut self) -> Outcome<()> {
        self.command(Command::Finish(self.id))
    }

    async fn drain(&mut self) -> Outcome<usize> {
        self.arrived(|arrived| take(arrived).iter().map(Bytes::len).sum()).await
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        let mut filled = 0;
        while filled < buf.len() {
            let count = self
                .arrived(|arrived| {
                    let Some(first) = arrived.front_mut() else { return 0 };
                    let count = first.len().min(buf.len() - filled);
                    first.copy_to_slice(&mut buf[filled..filled + count]);
                    if first.is_empty() {
                        arrived.pop_front();
                    }
                    count
                })
                .await?;
            if count == 0 {
                return Err("the stream ended early".into());
            }
            filled += count;
        }
        Ok(())
    }
}
