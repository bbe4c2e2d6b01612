//! One request and its answer, on a substream of the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sss::{
    CloseReason, Code, ConnectError, NegotiationError, OpenError, Peer, ReadError, RecvHalf, SendHalf, Stream,
    WriteError,
};
use sss_files::{Cursor, Refusal, RelPath, Request, Status, Stop};
use thiserror::Error;

use super::limits::too_many_open;
use super::patience::Patience;
use super::rate::Limiter;
use super::session::{Open, Session};

/// Content is read, written, hashed and held in pieces of this many bytes.
pub(crate) const SEGMENT: usize = 256 << 10;

/// Bytes up to which a chunk of content is copied.
pub(crate) const SMALL: usize = 1 << 10;

/// Function that reads a message.
type Decode<T> = fn(&mut Cursor<'_>) -> Result<T, Stop>;

/// Reason why a request, or the transfer of one file, failed.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    /// The channel is gone: nothing more can be asked.
    #[error(transparent)]
    Lost(CloseReason),
    /// This side's own disk is full, or cannot be written at all: other files would fare no better.
    #[error("{0}")]
    Disk(Refusal),
    /// This process may not open as many files as it needs, with nothing left to close.
    #[error("{}", too_many_open())]
    TooManyOpen,
    /// The peer refused, or what arrived is not to be used.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user asked for a pattern that is none.
    #[error("it is no pattern: {0}")]
    Pattern(String),
    /// The peer does not have the service.
    #[error("the peer does not offer it: {0}")]
    NoService(String),
    /// The server has too much to do to let anybody in.
    #[error("the server has had too much to do to let us in, for {} s", .0.as_secs())]
    Busy(Duration),
    /// The peer is there and says nothing.
    #[error("the peer has not said anything for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer does not answer.
    #[error("the peer has not answered for {} s", .0.as_secs())]
    Unheard(Duration),
    /// The peer does not answer, and this machine refuses to send to it.
    #[error("this machine has refused to send to the peer for {} s, as its firewall does", .0.as_secs())]
    Unsent(Duration),
    /// The peer does not answer, and this machine has no way to it.
    #[error("this machine has had no network that leads to the peer for {} s", .0.as_secs())]
    Cut(Duration),
    /// The peer does not keep to the protocol.
    #[error("the peer broke the file protocol: {0}")]
    Protocol(String),
}

impl TransferError {
    /// Returns whether a connection was not made, or closed, because the host has too many, or may have: in a crowd it
    /// does not tell everybody.
    pub(crate) fn is_no_room(&self) -> bool {
        self.is_full()
            || matches!(
                self,
                Self::Lost(CloseReason::Negotiation(NegotiationError::NotAccepted { .. }))
            )
    }

    /// Returns whether the host has too many connections.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Lost(reason) if is_for_want_of_room(reason))
    }

    /// A failure of this side's disk.
    pub(crate) fn local(refusal: Refusal) -> Self {
        match refusal.status {
            Status::NoSpace => Self::Disk(Refusal::new(refusal.status, format!("on this side: {}", refusal.text))),
            // What is not there is nothing that a server could list.
            Status::NotFound => Self::Refused(Refusal::new(Status::Io, format!("on this side: {}", refusal.text))),
            _ if refusal.is_shortage() => Self::TooManyOpen,
            _ => Self::Refused(refusal),
        }
    }

    /// The same, and which file it was about, if other files would fare no better.
    pub(crate) fn about(self, path: &RelPath) -> Self {
        match self {
            Self::Disk(refusal) => Self::Disk(Refusal::new(refusal.status, format!("{path}: {}", refusal.text))),
            other => other,
        }
    }
}

/// Returns whether a host has closed, or refused, a connection because it has too many.
pub(crate) fn is_for_want_of_room(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Peer { code, .. } if *code == Code::LIMIT)
}

impl From<ReadError> for TransferError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lost(reason) => Self::Lost(reason),
            ReadError::Reset { code, reason } => ended(code, &reason),
            ReadError::Refused(why) => Self::NoService(why.to_string()),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<WriteError> for TransferError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Lost(reason) => Self::Lost(reason),
            WriteError::Stopped { code, reason } => ended(code, &reason),
            WriteError::Refused(why) => Self::NoService(why.to_string()),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<ConnectError> for TransferError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Closed(reason) => Self::Lost(reason),
            ConnectError::Negotiation(error) => Self::Lost(CloseReason::Negotiation(error)),
            other => Self::NoService(other.to_string()),
        }
    }
}

impl From<OpenError> for TransferError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Lost(reason) => Self::Lost(reason),
            other => Self::NoService(other.to_string()),
        }
    }
}

/// Explains what RESET or STOP with this code means.
fn ended(code: Code, reason: &str) -> TransferError {
    match code.as_app() {
        Some(app) => {
            let status = Status::from_code(app).unwrap_or(Status::Io);
            TransferError::Refused(Refusal::new(status, reason))
        }
        None => TransferError::NoService(code.to_string()),
    }
}

/// A substream of the session.
pub(crate) struct Exchange {
    sending: SendHalf,
    incoming: Incoming,
    limit: Option<Arc<Limiter>>,
    has_said_something: bool,
    patience: Option<Patience>,
}

/// The way in of a substream, and what was received on it but not yet looked at.
pub(crate) struct Incoming {
    receiving: RecvHalf,
    buffer: Bytes,
    limit: Option<Arc<Limiter>>,
    patience: Option<Patience>,
    /// Time that the peer may take before it says the next word, beside what it always may.
    extra: Duration,
    /// The session of a client.
    session: Option<Arc<Open>>,
}

impl Exchange {
    /// On a substream just opened or accepted.
    pub(crate) fn new(stream: Stream) -> Self {
        let (sending, receiving) = stream.split();
        let incoming = Incoming {
            receiving,
            buffer: Bytes::new(),
            limit: None,
            patience: None,
            extra: Duration::ZERO,
            session: None,
        };
        Self {
            sending,
            incoming,
            limit: None,
            has_said_something: false,
            patience: None,
        }
    }

    /// Grants the peer time to look at `bytes` of content before it says the next word.
    pub(crate) fn grant(&mut self, bytes: u64) {
        self.incoming.extra = Patience::to_hash(bytes);
    }

    /// Begins a request in a session, and waits for the peer no longer than is in effect.
    pub(crate) async fn begin(session: &Session, request: &Request) -> Result<Self, TransferError> {
        let open = session.current().await?;
        let mut exchange = Self::new(open.substream().await?);
        exchange.patience = Patience::in_effect();
        exchange.incoming.patience.clone_from(&exchange.patience);
        exchange.incoming.session = Some(open);
        exchange.send(request.encode()).await?;
        Ok(exchange)
    }

    /// Asks, with nothing to follow.
    pub(crate) async fn ask(session: &Session, request: &Request) -> Result<Self, TransferError> {
        let mut exchange = Self::begin(session, request).await?;
        exchange.finish()?;
        Ok(exchange)
    }

    /// Moves what is sent and received from now on no faster than that.
    pub(crate) fn limited(mut self, limit: Option<&Arc<Limiter>>) -> Self {
        self.limit = limit.cloned();
        self.incoming.limit = limit.cloned();
        self
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: impl Into<Bytes>) -> Result<(), TransferError> {
        self.has_said_something = true;
        let mut bytes = bytes.into();
        if let Some(limit) = self.limit.clone() {
            let piece = usize::try_from(limit.rate().piece()).unwrap_or(SEGMENT);
            while bytes.len() > piece {
                let first = bytes.split_to(piece);
                limit.take(first.len() as u64).await;
                self.write(first).await?;
            }
            limit.take(bytes.len() as u64).await;
        }
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), TransferError> {
        let stream = &mut self.sending;
        let sending = async { Ok(stream.write_chunk(bytes).await?) };
        let sent = match &self.patience {
            Some(patience) => patience.wait(Duration::ZERO, sending).await,
            None => sending.await,
        };
        match (sent, &self.incoming.session) {
            (Err(error), Some(session)) => Err(session.explain(error).await),
            (sent, _) => sent,
        }
    }

    /// Returns whether anything was said here on the stream.
    pub(crate) fn has_said_something(&self) -> bool {
        self.has_said_something
    }

    /// Waits until all that was written has left.
    ///
    /// Cancel safe.
    pub(crate) async fn sent(&self) -> Result<(), TransferError> {
        Ok(self.sending.sent().await?)
    }

    /// Waits until all that was written, the end included, has arrived.
    ///
    /// Cancel safe.
    pub(crate) async fn arrived(&self) -> Result<(), TransferError> {
        Ok(self.sending.drained().await?)
    }

    /// Takes back what was written and has not left, but for the next `keep` bytes; says how many.
    pub(crate) fn take_back(&mut self, keep: u64) -> u64 {
        self.sending.take_back(keep)
    }

    /// Returns how many bytes have left.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes().0
    }

    /// Returns how many bytes have left, and how many have come.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.sending.info().map_or((0, 0), |info| (info.sent, info.received))
    }

    /// The host at the other side.
    pub(crate) fn peer(&self) -> Peer {
        self.sending.peer()
    }

    /// The way in.
    pub(crate) fn incoming(&mut self) -> &mut Incoming {
        &mut self.incoming
    }

    /// Both directions, for two tasks.
    pub(crate) fn directions(&mut self) -> (&mut SendHalf, &mut Incoming) {
        (&mut self.sending, &mut self.incoming)
    }

    /// One message: see [`Incoming::message`].
    pub(crate) async fn message<T>(&mut self, decode: Decode<T>) -> Result<T, TransferError> {
        self.incoming.message(decode).await
    }

    /// Messages until the end: see [`Incoming::messages`].
    pub(crate) async fn messages<T>(&mut self, most: usize, decode: Decode<T>) -> Result<Vec<T>, TransferError> {
        self.incoming.messages(most, decode).await
    }

    /// Content: see [`Incoming::content`].
    pub(crate) async fn content(&mut self, count: usize) -> Result<Vec<Bytes>, TransferError> {
        self.incoming.content(count).await
    }

    /// The peer must have nothing more to say.
    pub(crate) async fn end(&mut self) -> Result<(), TransferError> {
        self.incoming.end().await
    }

    /// Returns whether the peer has nothing more to say, when that is known.
    pub(crate) async fn is_at_end(&mut self) -> Result<bool, TransferError> {
        self.incoming.at_end().await
    }

    /// Says that nothing more is sent.
    pub(crate) fn finish(&mut self) -> Result<(), TransferError> {
        Ok(self.sending.finish()?)
    }

    /// Gives up in the middle of content.
    pub(crate) fn reset(&mut self, refusal: &Refusal) {
        self.sending.reset_with(refusal.status as u32, &refusal.text);
    }

    /// Wants nothing more from the peer.
    pub(crate) fn stop(&mut self, status: Status) {
        self.incoming.receiving.stop_with(status as u32, "");
    }

    /// Sends a refusal as the whole rest of what is said, and wants no more.
    pub(crate) async fn refuse(&mut self, refusal: &Refusal) -> Result<(), TransferError> {
        let mut out = Vec::new();
        refusal.encode(&mut out);
        self.send(out).await?;
        self.finish()?;
        self.stop(refusal.status);
        Ok(())
    }
}

/// Content as it comes. A chunk costs memory of its own, and that of the datagrams it came with: small ones are
/// gathered.
#[derive(Default)]
pub(crate) struct Content {
    chunks: Vec<Bytes>,
    small: BytesMut,
}

impl Content {
    /// Takes up to `most` bytes of what has come; returns how many.
    pub(crate) fn take(&mut self, from: &mut Incoming, most: usize) -> usize {
        let chunk = from.buffer.split_to(from.buffer.len().min(most));
        let taken = chunk.len();
        if taken <= SMALL {
            self.small.extend_from_slice(&chunk);
        } else {
            self.close();
            self.chunks.push(chunk);
        }
        taken
    }

    /// Returns whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.small.is_empty()
    }

    /// All of it, in order.
    pub(crate) fn into_chunks(mut self) -> Vec<Bytes> {
        self.close();
        self.chunks
    }

    fn close(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }
}

#[cfg(test)]
impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Self {
        let chunks = vec![Bytes::from_static(bytes)];
        let small = BytesMut::new();
        Self { chunks, small }
    }
}

/// The peer broke off a file.
pub(crate) fn ended_in_a_file() -> TransferError {
    TransferError::Protocol("it ended in the middle of a file".to_owned())
}

/// The peer broke off a message.
pub(crate) fn ended_in_a_message() -> TransferError {
    TransferError::Protocol("it ended in the middle of a message".to_owned())
}

impl Incoming {
    /// One message.
    pub(crate) async fn message<T>(&mut self, decode: Decode<T>) -> Result<T, TransferError> {
        loop {
            if let Some(message) = self.buffered(decode)? {
                return Ok(message);
            }
            if !self.receive().await? {
                return Err(ended_in_a_message());
            }
        }
    }

    /// One message, if it is there completely.
    pub(crate) fn buffered<T>(&mut self, decode: Decode<T>) -> Result<Option<T>, TransferError> {
        let mut cursor = Cursor::new(&self.buffer);
        match decode(&mut cursor) {
            Ok(message) => {
                let used = self.buffer.len().saturating_sub(cursor.remaining());
                drop(self.buffer.split_to(used));
                Ok(Some(message))
            }
            Err(Stop::Incomplete) => Ok(None),
            Err(Stop::Malformed(what)) => Err(TransferError::Protocol(what.to_owned())),
            Err(Stop::BadPath(what)) => Err(Refusal::new(Status::BadPath, what).into()),
        }
    }

    /// Messages until the end: at least one, or none at the end, and as many more as are there already, up to `most`.
    pub(crate) async fn messages<T>(&mut self, most: usize, decode: Decode<T>) -> Result<Vec<T>, TransferError> {
        let mut messages = Vec::new();
        if self.at_end().await? {
            return Ok(messages);
        }
        messages.push(self.message(decode).await?);
        while messages.len() < most
            && let Some(message) = self.buffered(decode)?
        {
            messages.push(message);
        }
        Ok(messages)
    }

    /// `count` bytes of content in as many chunks as they came in.
    pub(crate) async fn content(&mut self, count: usize) -> Result<Vec<Bytes>, TransferError> {
        let mut content = Content::default();
        let mut missing = count;
        while missing > 0 {
            if self.buffer.is_empty() && !self.receive().await? {
                return Err(ended_in_a_file());
            }
            missing = missing.saturating_sub(content.take(self, missing));
        }
        Ok(content.into_chunks())
    }

    /// The peer must have nothing more to say.
    pub(crate) async fn end(&mut self) -> Result<(), TransferError> {
        if self.at_end().await? {
            return Ok(());
        }
        Err(TransferError::Protocol("there is more than expected".to_owned()))
    }

    async fn at_end(&mut self) -> Result<bool, TransferError> {
        Ok(self.buffer.is_empty() && !self.receive().await?)
    }

    async fn chunk(&mut self, most: usize) -> Result<Option<Bytes>, TransferError> {
        let stream = &mut self.receiving;
        let reading = async { Ok(stream.read_chunk(most).await?) };
        let chunk = match &self.patience {
            Some(patience) => {
                let chunk = patience.wait(self.extra, reading).await;
                self.extra = Duration::ZERO;
                chunk
            }
            None => reading.await,
        };
        match (chunk, &self.session) {
            (Err(error), Some(session)) => Err(session.explain(error).await),
            (Ok(chunk), Some(session)) => {
                session.heard();
                Ok(chunk)
            }
            (chunk, None) => chunk,
        }
    }

    /// Adds what comes next to the buffer. False at the end.
    async fn receive(&mut self) -> Result<bool, TransferError> {
        self.more(SEGMENT).await
    }

    /// Returns whether something has come that was not taken.
    pub(crate) fn has_some(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits for more, at most `most` bytes of it, beside what has come and was not taken. False at the end.
    ///
    /// Cancel safe, if its rate is not limited.
    pub(crate) async fn more(&mut self, most: usize) -> Result<bool, TransferError> {
        let most = self.limit.as_ref().map_or(most, |limit| {
            usize::try_from(limit.rate().piece()).unwrap_or(SEGMENT).min(most)
        });
        let Some(chunk) = self.chunk(most).await? else {
            return Ok(false);
        };
        if let Some(limit) = &self.limit {
            limit.take(chunk.len() as u64).await;
        }
        if self.buffer.is_empty() && chunk.len() > SMALL {
            self.buffer = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.buffer.len().saturating_add(chunk.len()));
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&chunk);
            self.buffer = joined.freeze();
        }
        Ok(true)
    }
}
