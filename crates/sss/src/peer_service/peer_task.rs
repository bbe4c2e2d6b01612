//! The task that keeps the conversation with one peer.
//!
//! ```text
//!   apart --taken, or answered--> together --dropped, lost, replaced, forgotten--> apart
//!     \--not wanted--> gone
//! ```

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sss_proto::ReadError;
use sss_wire::{Code, Eid};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::mail::Mail;
use super::{AttemptError, Common, OfflineReason, PeerEvent, PeerService};
use crate::peer::Peer;
use crate::stream::Stream;
use crate::waiting::Answer;

/// First byte of the side that takes a stream says first.
const TAKEN: u8 = 1;
/// After a conversation of this length the next attempt is made soon.
const STEADY: Duration = Duration::from_secs(10);
/// Time for which a conversation may be held on to when the peer has begun another one.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct PeerTask {
    common: Arc<Common>,
    eid: Eid,
    notify: Arc<Notify>,
    events: mpsc::Sender<PeerEvent>,
    backoff: Backoff,
    retry_at: Instant,
}

impl PeerTask {
    pub(super) fn new(common: Arc<Common>, eid: Eid, notify: Arc<Notify>, events: mpsc::Sender<PeerEvent>) -> Self {
        Self {
            common,
            eid,
            notify,
            events,
            backoff: Backoff::new(),
            retry_at: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        while let Some(stream) = self.apart().await {
            let conversation = Conversation::of(&stream);
            let since = Instant::now();
            let eid = self.eid;
            self.tell(PeerEvent::Online { eid, stream }).await;
            let reason = self.together(conversation).await;
            if since.elapsed() >= STEADY {
                self.backoff.reset();
            }
            self.retry_at = Instant::now() + self.backoff.next();
            self.tell(PeerEvent::Offline { eid, reason }).await;
        }
    }

    async fn tell(&self, event: PeerEvent) {
        // Without a service there is nobody to be told, and this task is about to be ended.
        let _ = self.events.send(event).await;
    }

    /// Looks into the mailbox, which is closed if nothing is to be done any more.
    fn look(&self, is_dialing: bool) -> Option<Mail> {
        let mut mailboxes = self.common.mailboxes();
        let mail = mailboxes.get_mut(&self.eid)?.open();
        if mail.is_idle() && !is_dialing {
            mailboxes.remove(&self.eid);
            return None;
        }
        Some(mail)
    }

    /// Waits for a conversation to begin. `None`: nobody wants one.
    async fn apart(&mut self) -> Option<Stream> {
        let mut dialed: Option<Stream> = None;
        loop {
            let mail = self.look(dialed.is_some())?;
            if let Some(incoming) = mail.incoming
                && let Some(stream) = self.meet(incoming, &mut dialed).await
            {
                return Some(stream);
            }
            if mail.asked {
                self.retry_at = Instant::now();
            }
            match mail.wanted {
                None => dialed = None,
                Some(hints) if dialed.is_none() && Instant::now() >= self.retry_at => dialed = self.dial(hints).await,
                Some(_) => {}
            }
            tokio::select! {
                () = self.notify.notified() => {}
                () = sleep_until(self.retry_at), if dialed.is_none() => {}
                answer = answer(&mut dialed) => match answer {
                    Ok(()) => return dialed,
                    Err(error) => {
                        dialed = None;
                        self.fail(error).await;
                    }
                },
            }
        }
    }

    /// Takes the peer's stream, unless this side's is to become the conversation.
    async fn meet(&self, mut incoming: Stream, dialed: &mut Option<Stream>) -> Option<Stream> {
        let own = self.common.host.eid();
        if dialed.is_some() && own < self.eid {
            supersede(incoming);
            return None;
        }
        if let Some(dialed) = dialed.take() {
            supersede(dialed);
        }
        // A stream that the peer has given up meanwhile is no conversation.
        incoming.write_all(&[TAKEN]).await.ok()?;
        Some(incoming)
    }

    async fn dial(&mut self, hints: Vec<SocketAddr>) -> Option<Stream> {
        let Common {
            host,
            service,
            protocol,
            ..
        } = &*self.common;
        match host.connect(self.eid, service, protocol).hints(hints).open() {
            Ok(stream) => Some(stream),
            Err(error) => {
                self.fail(error.into()).await;
                None
            }
        }
    }

    async fn fail(&mut self, error: AttemptError) {
        let after = self.backoff.next();
        self.retry_at = Instant::now() + after;
        if !is_superseded(&error) {
            let eid = self.eid;
            self.tell(PeerEvent::Retrying { eid, error, after }).await;
        }
    }

    /// Waits until the conversation is over.
    async fn together(&self, mut conversation: Conversation) -> OfflineReason {
        let peer = conversation.peer.clone();
        let mut closed = pin!(peer.closed());
        let mut next: Option<Stream> = None;
        let mut deadline = Instant::now();
        let reason = loop {
            let mail = self.common.mailboxes().get_mut(&self.eid).map(|mailbox| mailbox.open());
            let (incoming, forgotten) = mail.map_or((None, false), |mail| (mail.incoming, mail.forgotten));
            if forgotten {
                conversation.end(PeerService::FORGOTTEN);
                break OfflineReason::Forgotten;
            }
            if incoming.is_some() {
                next = incoming;
                deadline = Instant::now() + GRACE;
            }
            tokio::select! {
                // Whoever drops a stream because the peer is lost does so later than the peer is lost.
                biased;
                reason = &mut closed => break OfflineReason::Lost(reason),
                _ = &mut conversation.released => break OfflineReason::Dropped,
                () = self.notify.notified() => {}
                // It was opened at the same time as the conversation, and lost.
                () = given_up(&mut next) => next = None,
                () = sleep_until(deadline), if next.is_some() => {
                    conversation.end(PeerService::SUPERSEDED);
                    break OfflineReason::Replaced;
                }
            }
        };
        let mut mailboxes = self.common.mailboxes();
        let older = match (next, mailboxes.get_mut(&self.eid)) {
            (Some(next), Some(mailbox)) => mailbox.put_back(next),
            (next, _) => next,
        };
        drop(mailboxes);
        drop(older);
        reason
    }
}

/// A conversation that the application holds.
struct Conversation {
    peer: Peer,
    stream: sss_proto::StreamId,
    /// Ends when nobody holds it any more.
    released: Answer<()>,
}

impl Conversation {
    fn of(stream: &Stream) -> Self {
        Self {
            peer: stream.peer(),
            stream: stream.id(),
            released: stream.released(),
        }
    }

    fn end(&self, code: u32) {
        self.peer.end_stream(self.stream, Code::app(code));
    }
}

fn supersede(mut stream: Stream) {
    stream.reset_with(PeerService::SUPERSEDED, "superseded");
    stream.stop_with(PeerService::SUPERSEDED, "superseded");
}

fn is_superseded(error: &AttemptError) -> bool {
    let superseded = Code::app(PeerService::SUPERSEDED);
    matches!(error, AttemptError::Read(ReadError::Reset { code, .. }) if *code == superseded)
}

/// Waits until the peer has taken the stream, for ever without one.
///
/// Cancel safe.
async fn answer(dialed: &mut Option<Stream>) -> Result<(), AttemptError> {
    let Some(stream) = dialed else {
        return pending().await;
    };
    let mut said = [0];
    match stream.read(&mut said).await? {
        1 if said == [TAKEN] => Ok(()),
        _ => Err(AttemptError::NoAnswer),
    }
}

/// Waits until the peer gives up a stream on which it waits for an answer, for ever without one.
///
/// Cancel safe.
async fn given_up(next: &mut Option<Stream>) {
    match next {
        Some(stream) => {
            // Any word before the answer is as good as none.
            let _ = stream.read(&mut [0]).await;
        }
        None => pending().await,
    }
}
