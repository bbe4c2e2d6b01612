//! Events of the core: whom to wake, and what is worth a line in the log. Both are seen to when nothing is locked.

use sss_proto::{CloseReason, Event, LinkStatus};
use sss_wire::Eid;

use super::notices::Notices;
use crate::shared::Inner;

/// Everything that was told since the last time.
#[derive(Default)]
pub(super) struct Notifications {
    notices: Notices,
    news: Vec<(Eid, News)>,
}

/// A change of a peer.
enum News {
    Connected,
    Link(LinkStatus),
    Ended(CloseReason),
}

impl Notifications {
    /// Takes note of an event.
    pub(super) fn take(&mut self, inner: &mut Inner, event: Event) {
        let news = match &event {
            Event::Connected(_, eid) => Some((Some(*eid), News::Connected)),
            Event::Disconnected(_, eid, reason) => Some((Some(*eid), News::Ended(reason.clone()))),
            Event::Link(peer, status) => Some((inner.core.peer_eid(*peer), News::Link(status.clone()))),
            _ => None,
        };
        if let Some((Some(eid), news)) = news {
            self.news.push((eid, news));
        }
        inner.waiters.on_event(event, &mut self.notices);
    }

    /// Everybody who waits is to be woken: the driver stops.
    pub(super) fn wake_all(&mut self, inner: &mut Inner) {
        inner.waiters.wake_all(&mut self.notices);
    }

    /// Returns whether nobody is to be woken.
    pub(super) fn is_quiet(&self) -> bool {
        self.notices.is_empty()
    }

    /// Logs the news of `host`, and wakes those whose time has come. False if there are none.
    pub(super) fn deliver(&mut self, host: Eid) -> bool {
        for (peer, news) in self.news.drain(..) {
            news.log(host, peer);
        }
        self.notices.deliver()
    }
}

impl News {
    fn log(self, host: Eid, peer: Eid) {
        match self {
            Self::Connected => tracing::info!(%host, %peer, "connected"),
            Self::Link(LinkStatus::Up) => tracing::info!(%host, %peer, "the peer can be reached again"),
            Self::Link(LinkStatus::Stalled) => tracing::info!(%host, %peer, "the peer does not answer"),
            Self::Link(LinkStatus::Down(reason)) => {
                tracing::info!(%host, %peer, %reason, "there is no channel any more: streams wait");
            }
            Self::Link(other) => tracing::info!(%host, %peer, status = ?other, "the way to the peer has changed"),
            Self::Ended(reason) => tracing::info!(%host, %peer, %reason, "the streams have ended"),
        }
    }
}
