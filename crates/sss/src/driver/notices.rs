//! Wakers to wake and answers to give, gathered while the host is locked and delivered when it is not: what is called
//! or dropped then may be an application's, and use the host.

use std::collections::VecDeque;
use std::task::Waker;

use sss_proto::{CloseReason, DatagramFate, LinkStatus};
use sss_wire::Eid;
use tokio::sync::{oneshot, watch};

/// Everything that is to be delivered.
#[derive(Default)]
pub(crate) struct Notices {
    pub(super) wakers: VecDeque<Waker>,
    told: Vec<Notice>,
}

/// An answer to somebody; `None`: that nothing will be told any more.
pub(super) enum Notice {
    Closed(oneshot::Sender<CloseReason>, Option<CloseReason>),
    Settled(oneshot::Sender<DatagramFate>, Option<DatagramFate>),
    Found(oneshot::Sender<Eid>, Option<Eid>),
    Over(oneshot::Sender<()>),
    Link(watch::Sender<LinkStatus>, Option<LinkStatus>),
}

impl Notices {
    pub(super) fn tell(&mut self, notice: Notice) {
        self.told.push(notice);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.told.is_empty()
    }

    /// Wakes and tells all of them. False if there are none.
    pub(crate) fn deliver(&mut self) -> bool {
        self.deliver_some(usize::MAX)
    }

    /// Tells all, and wakes the first `limit`. False if there is nobody to tell or to wake.
    pub(crate) fn deliver_some(&mut self, limit: usize) -> bool {
        let any = !self.is_empty();
        for notice in self.told.drain(..) {
            notice.deliver();
        }
        let count = self.wakers.len().min(limit);
        // One by one: a waker that panics does not take the others with it.
        for waker in std::iter::from_fn(|| self.wakers.pop_front()).take(count) {
            waker.wake();
        }
        any
    }
}

impl Notice {
    fn deliver(self) {
        match self {
            Self::Closed(to, reason) => tell(to, reason),
            Self::Settled(to, fate) => tell(to, fate),
            Self::Found(to, eid) => tell(to, eid),
            Self::Over(to) => tell(to, Some(())),
            Self::Link(to, Some(status)) => drop(to.send_replace(status)),
            Self::Link(to, None) => drop(to),
        }
    }
}

/// Whoever has given up meanwhile is not interested.
fn tell<T>(to: oneshot::Sender<T>, what: Option<T>) {
    if let Some(what) = what {
        drop(to.send(what));
    }
}
