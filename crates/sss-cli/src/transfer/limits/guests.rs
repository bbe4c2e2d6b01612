//! Sessions: how many each peer and all may have. A process that was killed leaves its session until its streams end;
//! when its peer comes back and finds no place, the oldest of its sessions that cannot be reached gives way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sss::Eid;
use tokio::sync::Notify;

use super::shares::{Share, Shares};

/// Time that a session has to give way.
const MOMENT: Duration = Duration::from_secs(2);

/// Function that tells whether the peer of a session cannot be reached.
type IsGone = Box<dyn Fn() -> bool + Send + Sync>;

/// All sessions.
pub(crate) struct Guests {
    shares: Shares,
    there: Mutex<There>,
}

#[derive(Default)]
struct There {
    next: u64,
    guests: BTreeMap<u64, Guest>,
}

struct Guest {
    eid: Eid,
    is_gone: IsGone,
    sent_away: Arc<Notify>,
}

/// The place of a session. It is free again when this is dropped.
pub(crate) struct Place {
    guests: Arc<Guests>,
    id: u64,
    sent_away: Arc<Notify>,
    _share: Share,
}

impl Guests {
    /// Room for `total` sessions, of which one peer gets at most `most`.
    pub(crate) fn new(total: u64, most: u64) -> Self {
        Self {
            shares: Shares::new(total, most),
            there: Mutex::default(),
        }
    }

    /// Takes a place for a session of a peer, which `is_gone` looks after. `None`: there is none.
    pub(crate) async fn place(
        self: &Arc<Self>,
        eid: Eid,
        is_gone: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Option<Place> {
        let share = match self.shares.try_get(eid, 1) {
            Some(share) => share,
            None if self.send_away(eid) => tokio::time::timeout(MOMENT, self.shares.get(eid, 1)).await.ok()?,
            None => return None,
        };
        let sent_away = Arc::new(Notify::new());
        let mut there = self.there();
        let id = there.next;
        there.next = id.saturating_add(1);
        there.guests.insert(
            id,
            Guest {
                eid,
                is_gone: Box::new(is_gone),
                sent_away: sent_away.clone(),
            },
        );
        drop(there);
        Some(Place {
            guests: self.clone(),
            id,
            sent_away,
            _share: share,
        })
    }

    /// Sends the oldest session of a peer away that cannot be reached; returns whether there is one.
    fn send_away(&self, eid: Eid) -> bool {
        let mut there = self.there();
        let mut oldest = there
            .guests
            .iter()
            .filter(|(_, guest)| guest.eid == eid && (guest.is_gone)());
        let Some(id) = oldest.next().map(|(id, _)| *id) else {
            return false;
        };
        if let Some(guest) = there.guests.remove(&id) {
            guest.sent_away.notify_one();
        }
        true
    }

    fn there(&self) -> MutexGuard<'_, There> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until the session has to give way.
    ///
    /// Cancel safe.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.there().guests.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    #[tokio::test]
    async fn those_that_cannot_be_reached_give_way_to_others_of_the_same_peer() {
        let guests = Arc::new(Guests::new(64, 2));
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = gone.clone();
        let first = guests
            .place(eid(1), move || is_gone.load(Ordering::Relaxed))
            .await
            .unwrap();
        let second = guests.place(eid(1), || false).await.unwrap();
        assert!(guests.place(eid(1), || false).await.is_none(), "both are there");
        let other = guests.place(eid(2), || true).await.unwrap();
        gone.store(true, Ordering::Relaxed);
        let leaving = tokio::spawn(async move {
            first.sent_away().await;
            drop(first);
        });
        let third = guests.place(eid(1), || false).await.expect("the first gives way");
        leaving.await.unwrap();
        assert!(guests.place(eid(1), || false).await.is_none(), "nobody else does");
        drop((second, third, other));
        assert!(guests.there().guests.is_empty());
    }
}
