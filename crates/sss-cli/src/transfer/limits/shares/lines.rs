//! The lines in which requests of one peer wait: one for each of its sessions, so that what one program of an identity
//! asks for does not wait for all that others of it want.

use std::collections::{BTreeMap, VecDeque};

use super::Waiter;

/// Number of a session.
pub(crate) type Session = u64;

/// All lines of a peer.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<Session, Line>);

/// Those of one session who wait, and what it has.
#[derive(Default)]
struct Line {
    used: u64,
    /// The time when one of it was served last.
    served: u64,
    waiters: VecDeque<Waiter>,
}

impl Lines {
    /// Returns whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|line| line.waiters.is_empty())
    }

    /// Those who wait, line by line.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.0.values().flat_map(|line| &line.waiters)
    }

    /// The next to be served: the first of the session that has least, and of equals of the one whose turn was the
    /// longest ago.
    pub(super) fn front(&self) -> Option<&Waiter> {
        self.0.get(&self.next()?)?.waiters.front()
    }

    /// Takes out who is next.
    pub(super) fn pop_front(&mut self, turn: u64) -> Option<(Session, Waiter)> {
        let session = self.next()?;
        let line = self.0.get_mut(&session)?;
        line.served = turn;
        Some((session, line.waiters.pop_front()?))
    }

    pub(super) fn push_back(&mut self, session: Session, waiter: Waiter) {
        self.0.entry(session).or_default().waiters.push_back(waiter);
    }

    /// Forgets those who do not wait any more.
    pub(super) fn retain_waiting(&mut self) {
        self.0.retain(|_, line| {
            line.waiters.retain(|waiter| !waiter.grant.is_closed());
            !line.is_over()
        });
    }

    /// A session has so many things more.
    pub(super) fn take(&mut self, session: Session, count: u64) {
        let line = self.0.entry(session).or_default();
        line.used = line.used.saturating_add(count);
    }

    /// A session has so many things less.
    pub(super) fn give_back(&mut self, session: Session, count: u64) {
        if let Some(line) = self.0.get_mut(&session) {
            line.used = line.used.saturating_sub(count);
            if line.is_over() {
                self.0.remove(&session);
            }
        }
    }

    fn next(&self) -> Option<Session> {
        let waiting = self.0.iter().filter(|(_, line)| !line.waiters.is_empty());
        let next = waiting.min_by_key(|(_, line)| (line.used, line.served));
        next.map(|(session, _)| *session)
    }
}

impl Line {
    fn is_over(&self) -> bool {
        self.used == 0 && self.waiters.is_empty()
    }
}
