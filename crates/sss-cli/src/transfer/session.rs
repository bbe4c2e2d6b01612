//! Sessions: the greeting, from both sides (FIL-30, FIL-31), and what a client does when the server has no room for
//! its session.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sss::{Eid, ListenMode, Peer, RecvHalf, SendHalf, Stream};
use sss_files::{Cursor, Greeting, MAX_GREETING, Refusal, Status, Stop, answer};
use tokio::sync::Mutex;

use super::access::Door;
use super::exchange::TransferError;
use crate::ticket::Secret;

/// Time that a client has for its greeting.
const GREETING: Duration = Duration::from_secs(30);

/// Time to wait for the reason of a refusal, which travels with it.
const REASON: Duration = Duration::from_secs(1);

/// Pause before a host that has too many connections is asked for one again.
pub(crate) const FULL: Duration = Duration::from_millis(500);

/// Longest reason that is read, in bytes.
const MAX_REASON: usize = 4 << 10;

/// Opens a session: a stream that has greeted the server.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Stream, TransferError>> + Send>>;

/// The session of a client with a service. When the server sends it away because it has too much to do, the next
/// request opens another one.
pub(crate) struct Session {
    state: Mutex<State>,
    another: Option<Another>,
}

/// Means to open another session.
pub(crate) struct Another {
    /// Opens it.
    pub(crate) open: Box<dyn Fn() -> Opening + Send + Sync>,
    /// Told, once, that the server has no room and that it is asked again.
    pub(crate) tell: Box<dyn Fn() + Send + Sync>,
    /// Time after which a server that lets in none is given up.
    pub(crate) patience: Duration,
}

struct State {
    open: Arc<Open>,
    /// Time since which no session has been let in.
    refused: Option<Instant>,
}

/// A stream that is, or was, the session.
pub(crate) struct Open {
    sending: SendHalf,
    receiving: Mutex<RecvHalf>,
    /// Set when the server has answered anything in it.
    is_heard: AtomicBool,
    /// Reason why it was ended by the server.
    end: OnceLock<Refusal>,
}

impl Session {
    /// On a stream that has greeted the server.
    pub(crate) fn new(stream: Stream, another: Option<Another>) -> Self {
        let state = State {
            open: Arc::new(Open::new(stream)),
            refused: None,
        };
        Self {
            state: Mutex::new(state),
            another,
        }
    }

    /// The session that requests are made in now: another one if the last was ended by the server.
    ///
    /// # Errors
    /// BUSY if the server has let in none for too long; why none can be opened.
    pub(crate) async fn current(&self) -> Result<Arc<Open>, TransferError> {
        let mut state = self.state.lock().await;
        match (state.open.end.get(), &self.another) {
            (None, _) => {}
            (Some(end), Some(another)) if end.status == Status::Busy => state.renew(another).await?,
            (Some(end), _) if end.status == Status::Busy => return Err(TransferError::NoService(end.to_string())),
            (Some(end), _) => return Err(end.clone().into()),
        }
        Ok(state.open.clone())
    }

    /// The host at the other side.
    pub(crate) async fn peer(&self) -> Peer {
        self.state.lock().await.open.sending.peer()
    }
}

impl Session {
    /// Ends when nothing more can be asked in the present session, since the connection has ended.
    pub(crate) async fn ended(&self) {
        self.peer().await.closed().await;
    }
}

impl State {
    /// Opens another session.
    async fn renew(&mut self, another: &Another) -> Result<(), TransferError> {
        let refused = self.refused.filter(|_| !self.open.is_heard.load(Ordering::Relaxed));
        if refused.is_some_and(|since| since.elapsed() > another.patience) {
            return Err(TransferError::Busy(another.patience));
        }
        if refused.is_none() {
            (another.tell)();
        }
        let since = refused.unwrap_or_else(Instant::now);
        self.refused = Some(since);
        let stream = loop {
            match (another.open)().await {
                Err(error) if error.is_no_room() && since.elapsed() <= another.patience => {
                    tokio::time::sleep(FULL).await;
                }
                opened => break opened?,
            }
        };
        self.open = Arc::new(Open::new(stream));
        Ok(())
    }
}

impl Open {
    fn new(stream: Stream) -> Self {
        let (sending, receiving) = stream.split();
        Self {
            sending,
            receiving: Mutex::new(receiving),
            is_heard: AtomicBool::new(false),
            end: OnceLock::new(),
        }
    }

    /// A substream, for a request.
    ///
    /// # Errors
    /// The reason that the server has told for ending the session, if that is why there is none.
    pub(crate) async fn substream(&self) -> Result<Stream, TransferError> {
        match self.sending.open_substream() {
            Ok(stream) => Ok(stream),
            Err(error) => Err(self.explain(error.into()).await),
        }
    }

    /// Notes that the server has answered a request.
    pub(crate) fn heard(&self) {
        self.is_heard.store(true, Ordering::Relaxed);
    }

    /// Substreams of a session that the server has ended meet only the consequences: this asks the session itself for
    /// the reason.
    ///
    /// A host that closes the whole connection since it has too many has ended the session for want of room.
    pub(crate) async fn explain(&self, error: TransferError) -> TransferError {
        if error.is_full() {
            let end = Refusal::new(Status::Busy, error.to_string());
            return self.end.get_or_init(|| end).clone().into();
        }
        if !matches!(error, TransferError::NoService(_)) {
            return error;
        }
        let mut receiving = self.receiving.lock().await;
        if self.end.get().is_none()
            && let Ok(Some(end)) = tokio::time::timeout(REASON, reason(&mut receiving)).await
        {
            // Nobody else sets it: the lock is ours.
            let _ = self.end.set(end);
        }
        self.end.get().map_or(error, |end| end.clone().into())
    }
}

/// Reads why the server has ended a session. `None`: it does not say.
async fn reason(receiving: &mut RecvHalf) -> Option<Refusal> {
    let mut said = Vec::new();
    loop {
        match receiving.read_chunk(MAX_GREETING).await {
            Ok(Some(chunk)) if said.len() <= MAX_REASON => said.extend_from_slice(&chunk),
            Ok(Some(_)) => return None,
            // Whoever was let in, and not told anything since, gave way to others.
            Ok(None) => return Some(Refusal::new(Status::Busy, "the server has ended the session")),
            Err(error) => match error.into() {
                TransferError::Refused(refusal) => return Some(refusal),
                _ => return None,
            },
        }
        if let Ok(Err(refusal)) = answer(&mut Cursor::new(&said)) {
            return Some(refusal);
        }
    }
}

/// Greets the server; what it answers, and whether the session has ended already, is found out by whoever finds that
/// nothing else is answered.
pub(crate) async fn greet(session: &mut Stream, secret: Option<&Secret>) {
    let greeting = Greeting {
        secret: secret.map(|secret| &secret.as_bytes()[..]),
    };
    let _ = session.write_all(&greeting.encode()).await;
}

/// Hears the greeting of a client, and answers it.
///
/// # Errors
/// If the session is not let in. Then it is told why, and its requests are refused.
pub(crate) async fn hear(session: &mut Stream, eid: Eid, door: &Door) -> Result<(), Refusal> {
    let heard = tokio::time::timeout(
        GREETING,
        read(session, |greeting| door.enter(eid, greeting, Instant::now())),
    );
    let entered = heard.await.unwrap_or_else(|_| Err(bad("no greeting came")));
    let mut answer = Vec::new();
    match &entered {
        Ok(()) => answer.push(Status::Ok as u8),
        Err(refusal) => refusal.encode(&mut answer),
    }
    // Whoever is gone needs no answer.
    let _ = session.write_all(&answer).await;
    if entered.is_err() {
        session.set_listen_mode(ListenMode::Reject);
        let _ = session.finish();
    }
    entered
}

async fn read(session: &mut Stream, take: impl FnOnce(&Greeting<'_>) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    loop {
        let mut cursor = Cursor::new(&bytes);
        match Greeting::decode(&mut cursor) {
            Ok(_) if cursor.remaining() > 0 => return Err(bad("there is more than a greeting")),
            Ok(greeting) => return take(&greeting),
            Err(Stop::Incomplete) if bytes.len() <= MAX_GREETING => {}
            Err(_) => return Err(bad("it did not begin with a greeting")),
        }
        match session.read_chunk(MAX_GREETING).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            _ => return Err(bad("it ended before its greeting")),
        }
    }
}

fn bad(text: &str) -> Refusal {
    Refusal::new(Status::BadRequest, text)
}
