//! Messages to the task of a peer.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::stream::Stream;

/// As many addresses as a host remembers of a peer.
const MAX_HINTS: usize = 8;

/// Everything that is wanted of a peer, and that came from it. Bounded, whatever the peer does.
#[derive(Default)]
pub(super) struct Mailbox {
    wanted: bool,
    hints: Vec<SocketAddr>,
    /// Set if the application asked since the task last looked.
    asked: bool,
    /// Set if the application no longer wants the peer since the task last looked.
    forgotten: bool,
    incoming: Option<Stream>,
    notify: Arc<Notify>,
}

/// Mail that a task finds when it looks.
pub(super) struct Mail {
    /// The addresses, if a conversation is wanted.
    pub(super) wanted: Option<Vec<SocketAddr>>,
    pub(super) asked: bool,
    pub(super) forgotten: bool,
    /// The latest stream that the peer has opened.
    pub(super) incoming: Option<Stream>,
}

impl Mailbox {
    /// Rings whenever something is put in.
    pub(super) fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.notify)
    }

    pub(super) fn want(&mut self, hints: &[SocketAddr]) {
        self.wanted = true;
        self.asked = true;
        self.hints.retain(|known| !hints.contains(known));
        self.hints.extend(hints);
        let excess = self.hints.len().saturating_sub(MAX_HINTS);
        self.hints.drain(..excess);
        self.notify.notify_one();
    }

    pub(super) fn forget(&mut self) {
        self.wanted = false;
        self.hints.clear();
        self.forgotten = true;
        self.notify.notify_one();
    }

    /// Takes a stream that the peer has opened, and gives the one before, if the task has not seen it.
    pub(super) fn put(&mut self, stream: Stream) -> Option<Stream> {
        self.notify.notify_one();
        self.incoming.replace(stream)
    }

    /// Takes back a stream that the task could not take yet, and gives it again if the peer has opened another.
    pub(super) fn put_back(&mut self, stream: Stream) -> Option<Stream> {
        if self.incoming.is_some() {
            return Some(stream);
        }
        self.put(stream)
    }

    pub(super) fn open(&mut self) -> Mail {
        Mail {
            wanted: self.wanted.then(|| self.hints.clone()),
            asked: std::mem::take(&mut self.asked),
            forgotten: std::mem::take(&mut self.forgotten),
            incoming: self.incoming.take(),
        }
    }
}

impl Mail {
    /// Returns whether there is nothing to be done.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_none() && self.incoming.is_none()
    }
}
