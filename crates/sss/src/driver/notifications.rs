//! Events of the core: whom to wake, and what is worth a line in the log. Both are seen to when nothing is locked.

use sss_proto::{ChannelSecret, CloseReason, Event, LinkStatus};
use sss_wire::Eid;

use super::key_log::KeyLogFile;
use super::notices::Notices;
use crate::redaction::{Bare, HostTag};
use crate::shared::Inner;

/// Everything that was told since the last time.
#[derive(Default)]
pub(super) struct Notifications {
    notices: Notices,
    news: Vec<(Eid, News)>,
    secrets: Vec<ChannelSecret>,
    /// Packets that other shards are to look at.
    strays: Vec<Vec<u8>>,
    key_log: Option<KeyLogFile>,
}

/// A change of a peer.
enum News {
    Connected,
    Link(LinkStatus),
    Ended(CloseReason),
}

impl Notifications {
    /// No events; secrets go into the file.
    pub(super) fn new(key_log: Option<KeyLogFile>) -> Self {
        Self {
            notices: Notices::default(),
            news: Vec::new(),
            secrets: Vec::new(),
            strays: Vec::new(),
            key_log,
        }
    }

    /// Takes note of an event.
    pub(super) fn take(&mut self, inner: &mut Inner, event: Event) {
        let event = match event {
            Event::Secret(secret) => return self.secrets.push(secret),
            Event::Stray(packet) => return self.strays.push(packet),
            other => other,
        };
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

    /// Packets that other shards are to look at. Seldom any.
    pub(super) fn take_strays(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.strays)
    }

    /// Returns whether nobody is to be woken.
    pub(super) fn is_quiet(&self) -> bool {
        self.notices.is_empty()
    }

    /// Returns how many tasks are to be woken.
    pub(super) fn waiting(&self) -> usize {
        self.notices.wakers.len()
    }

    /// Logs the news of `host`, and wakes the first `limit` of those whose time has come. False if there are none.
    pub(super) fn deliver(&mut self, host: Eid, limit: usize) -> bool {
        if let Some(log) = &mut self.key_log {
            log.append(self.secrets.drain(..));
        }
        for (peer, news) in self.news.drain(..) {
            news.log(host, peer);
        }
        self.notices.deliver_some(limit)
    }
}

#[cfg(test)]
impl Notifications {
    pub(super) fn wake_later(&mut self, waker: std::task::Waker) {
        self.notices.wakers.push_back(waker);
    }
}

impl News {
    /// Logs it without EIDs, addresses and words of the peer; those are for level debug.
    fn log(self, host: Eid, eid: Eid) {
        let (host, peer) = (HostTag::of(&host), HostTag::of(&eid));
        match self {
            Self::Connected => {
                tracing::info!(%host, %peer, "connected");
                tracing::debug!(%host, %peer, %eid, "the name of the peer");
            }
            Self::Link(LinkStatus::Up) => tracing::info!(%host, %peer, "the peer can be reached again"),
            Self::Link(LinkStatus::Stalled) => tracing::info!(%host, %peer, "the peer does not answer"),
            Self::Link(LinkStatus::Down(reason)) => {
                tracing::info!(%host, %peer, reason = %Bare(&reason), "there is no channel any more: streams wait");
                tracing::debug!(%host, %peer, %reason, "why there is no channel");
            }
            Self::Link(_) => tracing::info!(%host, %peer, "the way to the peer has changed"),
            Self::Ended(reason) => {
                tracing::info!(%host, %peer, reason = %Bare(&reason), "the streams have ended");
                tracing::debug!(%host, %peer, %reason, "why the streams have ended");
            }
        }
    }
}
