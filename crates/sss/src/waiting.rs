//! Waiting for something of a host. Whoever waits owns its place among those who do: when the future is dropped, the
//! place is gone.
//!
//! No waker is called or dropped while the host is locked. A waker may be the last to hold a task, the task a stream,
//! and the stream's end is a call on the host.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use sss_proto::{CloseReason, DatagramFate, DatagramId, Instant, PeerId, StreamId};
use sss_wire::Eid;
use tokio::sync::oneshot;

use crate::driver::slots::Ticket;
use crate::driver::wakers::{Key, Side, Waiter};
use crate::shared::{Inner, Shared};

/// A task's place among those who wait for the same.
pub(crate) struct Place<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl<'a> Place<'a> {
    /// Nowhere yet.
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let ticket = Ticket::default();
        Self { shared, ticket }
    }

    /// Runs `attempt`. If that is not ready, the task of `cx` has the place, and is woken when `key` has happened. The
    /// key is the same each time.
    pub(crate) fn poll<R>(
        &mut self,
        cx: &Context<'_>,
        key: Key,
        attempt: impl FnOnce(&mut Inner, Instant) -> Poll<R>,
    ) -> Poll<R> {
        let ticket = &mut self.ticket;
        let (result, left) = self.shared.call(|inner, now| {
            let result = attempt(inner, now);
            if result.is_pending() {
                inner.waiters.enter(ticket, key, cx.waker());
                return (result, None);
            }
            (result, inner.waiters.leave(std::mem::take(ticket)))
        });
        drop(left);
        result
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.ticket.is_blank() {
            drop(self.shared.tend(|inner| inner.waiters.leave(self.ticket)));
        }
    }
}

/// Waits until `attempt` is ready, which is tried again whenever `key` has happened. Cancel safe if `attempt` takes
/// nothing unless it is ready.
pub(crate) fn until<R, A>(shared: &Shared, key: Key, attempt: A) -> Until<'_, A>
where
    A: FnMut(&mut Inner, Instant) -> Poll<R>,
{
    let place = Place::new(shared);
    Until { place, key, attempt }
}

/// Future of [`until`]. Tasks hold many of these: an `async` function would be several times as large.
pub(crate) struct Until<'a, A> {
    place: Place<'a>,
    key: Key,
    attempt: A,
}

/// `attempt` is never pinned.
impl<A> Unpin for Until<'_, A> {}

impl<R, A> Future for Until<'_, A>
where
    A: FnMut(&mut Inner, Instant) -> Poll<R>,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        this.place.poll(cx, this.key, &mut this.attempt)
    }
}

/// Waits with `poll`, which makes the task wait for a side of a stream that it holds. Dropped before, the task does not
/// wait any more.
pub(crate) fn exclusively<R, P>(shared: &Shared, (stream, side): (StreamId, Side), poll: P) -> Exclusively<'_, P>
where
    P: FnMut(&mut Context<'_>) -> Poll<R>,
{
    let holder = Holder {
        shared,
        stream,
        side,
        waits: false,
    };
    Exclusively { holder, poll }
}

/// Future of [`exclusively`].
pub(crate) struct Exclusively<'a, P> {
    holder: Holder<'a>,
    poll: P,
}

/// `poll` is never pinned.
impl<P> Unpin for Exclusively<'_, P> {}

impl<R, P> Future for Exclusively<'_, P>
where
    P: FnMut(&mut Context<'_>) -> Poll<R>,
{
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = self.get_mut();
        let result = (this.poll)(cx);
        this.holder.waits = result.is_pending();
        result
    }
}

/// A task with a side of a stream.
struct Holder<'a> {
    shared: &'a Shared,
    stream: StreamId,
    side: Side,
    waits: bool,
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        if self.waits {
            drop(self.shared.tend(|inner| inner.waiters.unwait(self.stream, self.side)));
        }
    }
}

/// Something that is told once; `None` if it never will be, because the driver has stopped. May outlive the host.
/// Dropped before, nobody is to be told any more.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    from: oneshot::Receiver<T>,
    asked: Option<Asked>,
}

/// Request that is to be taken back if nobody is to be told any more.
#[derive(Debug)]
struct Asked {
    host: Weak<Shared>,
    what: Question,
}

#[derive(Debug)]
enum Question {
    Waiter(Ticket),
    Receipt(PeerId, DatagramId),
}

impl Answer<CloseReason> {
    /// Answers why the tree of a peer has ended.
    pub(crate) fn closed(shared: &Arc<Shared>, inner: &mut Inner, peer: PeerId) -> Self {
        Self::ask(shared, inner, Key::Closed(peer), Waiter::Closed)
    }
}

impl Answer<Eid> {
    /// Answers who is at an address.
    pub(crate) fn probe(shared: &Arc<Shared>, inner: &mut Inner, address: std::net::SocketAddr) -> Self {
        Self::ask(shared, inner, Key::Probe(address), Waiter::Found)
    }
}

impl Answer<()> {
    /// That the driver has stopped, or the handle of a stream is gone.
    pub(crate) fn over(shared: &Arc<Shared>, inner: &mut Inner, key: Key) -> Self {
        Self::ask(shared, inner, key, Waiter::Over)
    }
}

impl Answer<DatagramFate> {
    /// Answers what becomes of a datagram.
    pub(crate) fn settled(shared: &Arc<Shared>, inner: &mut Inner, peer: PeerId, datagram: DatagramId) -> Self {
        let from = inner.waiters.settled(peer, datagram);
        Self::new(shared, from, Question::Receipt(peer, datagram))
    }
}

impl<T> Answer<T> {
    fn ask(shared: &Arc<Shared>, inner: &mut Inner, key: Key, waiter: fn(oneshot::Sender<T>) -> Waiter) -> Self {
        let (to, from) = oneshot::channel();
        let ticket = inner.waiters.add(key, waiter(to));
        Self::new(shared, from, Question::Waiter(ticket))
    }

    fn new(shared: &Arc<Shared>, from: oneshot::Receiver<T>, what: Question) -> Self {
        let host = Arc::downgrade(shared);
        let asked = Some(Asked { host, what });
        Self { from, asked }
    }

    /// An answer that never comes.
    pub(crate) fn never() -> Self {
        let from = oneshot::channel().1;
        Self { from, asked: None }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        let mut told = Pin::new(&mut this.from).poll(cx);
        if told.is_pending()
            && let Some(shared) = this.asked.as_ref().and_then(|asked| asked.host.upgrade())
            && shared.end_if_forked()
        {
            // Who would tell it may have been locked away with the host, by a thread that is not there.
            this.from.close();
            told = Pin::new(&mut this.from).poll(cx);
        }
        if told.is_ready() {
            this.asked = None;
        }
        told.map(Result::ok)
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let Some(shared) = asked.host.upgrade() else {
            return;
        };
        match asked.what {
            Question::Waiter(ticket) => drop(shared.tend(|inner| inner.waiters.leave(ticket))),
            Question::Receipt(peer, datagram) => {
                drop(shared.tend(|inner| inner.waiters.unsettled(peer, datagram)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
