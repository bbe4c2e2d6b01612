//! One conversation with each peer, whoever opens it.

mod backoff;
mod mail;
mod peer_task;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::{CloseReason, ListenError, ReadError};
use sss_wire::Eid;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::ConnectError;
use crate::host::Host;
use crate::server::Server;
use crate::stream::Stream;
use mail::Mailbox;
use peer_task::PeerTask;

/// Number of events that may wait to be taken. When so many do, nothing happens with the peers that have more to tell.
const EVENTS: usize = 64;

/// A service of equals: every peer both offers it and uses it, and there is one conversation with each, whichever side
/// begins it. Made by [`Host::peer_service`].
///
/// [`Self::connect_peer`] says whom to talk to, again and again until [`Self::forget`]. Peers that begin by themselves
/// are taken as they come ([`HostBuilder::accept_filter`](crate::HostBuilder::accept_filter) keeps out those who must
/// not). [`Self::next`] tells who is there, and hands over the conversations: plain streams, which may have substreams.
///
/// When both sides begin at once, the stream of the host with the smaller [`Eid`] becomes the conversation, and the
/// other is reset with [`Self::SUPERSEDED`]. A stream becomes a conversation when the side that did not open it takes
/// it, which it says by a byte of value 1; whoever speaks to such a service without this type must expect that byte, or
/// send it.
///
/// A conversation survives the network as all streams do. It ends when it is dropped here (all of it, if it was
/// split), when the peer is lost ([`PeerEvent::Offline`] says why), or when the peer begins another one and the old one
/// was not dropped within 5 s. So read it, and drop it when reading or writing fails. After that, and after an attempt
/// that failed, the next attempt follows in 250 ms, then in twice that and so on up to 30 s, each shortened at random
/// by up to half. A conversation of more than 10 s makes it begin with 250 ms again.
///
/// Dropping this withdraws the service and ends the attempts; conversations that were handed over go on.
pub struct PeerService {
    common: Arc<Common>,
    events: tokio::sync::Mutex<mpsc::Receiver<PeerEvent>>,
}

/// An event of the peers of a [`PeerService`].
#[derive(Debug)]
#[non_exhaustive]
pub enum PeerEvent {
    /// The peer is there.
    Online {
        /// The peer.
        eid: Eid,
        /// The conversation.
        stream: Stream,
    },
    /// The conversation is over. Follows [`Self::Online`] of the same peer.
    Offline {
        /// The peer.
        eid: Eid,
        /// Reason why it is over.
        reason: OfflineReason,
    },
    /// An attempt to reach a peer failed. The next one follows by itself.
    Retrying {
        /// The peer.
        eid: Eid,
        /// Error that happened.
        error: AttemptError,
        /// Time from now to the next attempt, unless [`PeerService::connect_peer`] is called before.
        after: Duration,
    },
}

/// Reason why a conversation is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OfflineReason {
    /// All streams shared with the peer have ended: it was closed, was restarted, or could not be reached for too long.
    Lost(CloseReason),
    /// This side dropped the conversation. What reading and writing told before is the reason.
    Dropped,
    /// The peer began another conversation.
    Replaced,
    /// [`PeerService::forget`] was called.
    Forgotten,
}

/// Reason why an attempt to begin a conversation failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// It could not even begin, most often because no address is known.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer could not be reached, does not offer the service, or did not take the stream.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The peer answered as no [`PeerService`] does.
    #[error("the peer's service does not answer as a peer service does")]
    NoAnswer,
}

/// Reason why there is no [`PeerService`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerServiceError {
    /// The service cannot be offered.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// It was to be made outside of a Tokio runtime.
    #[error("a peer service must be made within a Tokio runtime")]
    NoRuntime,
}

/// State that the tasks of a service share.
struct Common {
    host: Host,
    service: String,
    protocol: String,
    mailboxes: Mutex<HashMap<Eid, Mailbox, RandomState>>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
    /// Without a strong one left, the receiver learns of the end.
    events: mpsc::WeakSender<PeerEvent>,
}

impl Host {
    /// Offers `service`, spoken as `protocol`, to peers that offer it too, and keeps one conversation with each.
    ///
    /// # Errors
    /// If the service cannot be offered (see [`Self::listen`]), or this is not called within a Tokio runtime.
    pub fn peer_service(&self, service: &str, protocol: &str) -> Result<PeerService, PeerServiceError> {
        PeerService::new(self, service, protocol)
    }
}

impl PeerService {
    /// The code with which a stream is reset that lost against one that the other side opened: an application's code,
    /// as a [`Code`](crate::Code) 2^32.
    pub const SUPERSEDED: u32 = 0xFFFF_FF00;
    /// The code with which a conversation is reset by [`Self::forget`].
    pub const FORGOTTEN: u32 = 0xFFFF_FF01;

    pub(crate) fn new(host: &Host, service: &str, protocol: &str) -> Result<Self, PeerServiceError> {
        let runtime = Handle::try_current().map_err(|_| PeerServiceError::NoRuntime)?;
        let server = host.listen(service, protocol)?;
        let (sender, receiver) = mpsc::channel(EVENTS);
        let common = Arc::new(Common {
            host: host.clone(),
            service: service.to_owned(),
            protocol: protocol.to_owned(),
            mailboxes: Mutex::default(),
            tasks: Mutex::default(),
            runtime,
            events: sender.downgrade(),
        });
        common.spawn(take_incoming(Arc::clone(&common), server, sender));
        let events = tokio::sync::Mutex::new(receiver);
        Ok(Self { common, events })
    }

    /// Wants a conversation with a peer, from now on until [`Self::forget`]: one is attempted at once, unless there is
    /// one, and again whenever it fails or ends. The addresses are remembered, the latest 8.
    pub fn connect_peer(&self, eid: Eid, hints: impl IntoIterator<Item = SocketAddr>) {
        let hints: Vec<_> = hints.into_iter().collect();
        for hint in &hints {
            self.common.host.add_hint(eid, *hint);
        }
        if let Some(events) = self.common.events.upgrade() {
            self.common.post(eid, &events, |mailbox| mailbox.want(&hints));
        }
    }

    /// Wants no conversation with a peer any more. One that there is ends: both directions are reset with
    /// [`Self::FORGOTTEN`]. The peer may begin another one.
    pub fn forget(&self, eid: &Eid) {
        if let Some(mailbox) = self.common.mailboxes().get_mut(eid) {
            mailbox.forget();
        }
    }

    /// Waits for the next event. `None` once the host is closed.
    ///
    /// Call it again and again: while 64 events wait, nothing goes on. Cancel safe: no event is lost. Several tasks may
    /// call it at once.
    pub async fn next(&self) -> Option<PeerEvent> {
        self.events.lock().await.recv().await
    }
}

impl Drop for PeerService {
    fn drop(&mut self) {
        self.common.tasks().abort_all();
    }
}

impl fmt::Debug for PeerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerService")
            .field("service", &self.common.service)
            .field("protocol", &self.common.protocol)
            .finish_non_exhaustive()
    }
}

impl Common {
    fn mailboxes(&self) -> MutexGuard<'_, HashMap<Eid, Mailbox, RandomState>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    /// Puts something into the mailbox of a peer's task, which is spawned if there is none.
    fn post<R>(self: &Arc<Self>, eid: Eid, events: &mpsc::Sender<PeerEvent>, f: impl FnOnce(&mut Mailbox) -> R) -> R {
        let mut spawned = None;
        let result = {
            let mut mailboxes = self.mailboxes();
            let mailbox = mailboxes.entry(eid).or_insert_with(|| {
                let mailbox = Mailbox::default();
                spawned = Some(mailbox.notify());
                mailbox
            });
            f(mailbox)
        };
        if let Some(notify) = spawned {
            let task = PeerTask::new(Arc::clone(self), eid, notify, events.clone());
            self.spawn(task.run());
        }
        result
    }
}

/// Gives the streams that peers open to their tasks, until the host is closed.
async fn take_incoming(common: Arc<Common>, server: Server, events: mpsc::Sender<PeerEvent>) {
    while let Ok((stream, eid)) = server.accept().await {
        let older = common.post(eid, &events, |mailbox| mailbox.put(stream));
        drop(older);
    }
    common.tasks().abort_all();
}
