//! Opening a stream to a service of another host.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sss_proto::{Absence, CloseReason, NegotiationError, PeerId, Route, Seen, Tried, is_lan};
use sss_wire::{Eid, Seconds};
use tokio::time::Instant;

use crate::driver::wakers::Key;
use crate::error::ConnectError;
use crate::hint::{self, Hint, UnresolvedName};
use crate::lifecycle::Lifecycle;
use crate::redaction::HostTag;
use crate::shared::{Handle, Inner};
use crate::stream::Stream;
use crate::waiting::until;

/// Number of times that a stream is opened again because the peer was restarted while it was being reached.
const RESTARTS: u32 = 3;

/// A stream about to be opened; see [`crate::Host::connect`].
///
/// Awaited, it opens the stream and waits until the channel to the peer is established. With [`Self::open`] it does not
/// wait.
///
/// That the peer refuses the service is not an error of connecting, because opening a stream takes no round trip: the
/// stream then ends with [`crate::ReadError::Refused`] and [`crate::WriteError::Refused`], which say
/// [`crate::Refusal::Service`] or [`crate::Refusal::Protocol`].
///
/// A peer that restarts meanwhile is reached all the same: the stream, to which nothing was written yet, is opened
/// again.
///
/// Ends when the channel is there, or its time is over. Cancel safe: a cancelled attempt opens no stream, and nobody is
/// looked for any more, unless something else waits for the same peer: another attempt, a stream that is held, or one
/// that was finished and is to be delivered.
#[must_use = "nothing is opened until this is awaited, or `open` is called"]
pub struct Connect {
    handle: Arc<Handle>,
    eid: Eid,
    service: String,
    protocol: String,
    hints: Vec<SocketAddr>,
    /// Hints that are not looked up yet.
    names: Vec<String>,
    /// Hints that are of no use to this host.
    useless: Vec<UnresolvedName>,
    timeout: Option<Duration>,
}

impl Connect {
    pub(crate) fn new(handle: Arc<Handle>, eid: Eid, service: &str, protocol: &str) -> Self {
        Self {
            handle,
            eid,
            service: service.to_owned(),
            protocol: protocol.to_owned(),
            hints: Vec::new(),
            names: Vec::new(),
            useless: Vec::new(),
            timeout: None,
        }
    }

    /// Adds a place where the host may be: an address, or a name with a port, such as `"example.org:4433"`. All that
    /// are given are tried, at once.
    ///
    /// Names are looked up when this is awaited, unless the host is connected already. One that cannot be looked up, as
    /// an address to which this host cannot send (of IPv6, where its socket is of IPv4; of many hosts; with port 0), is
    /// an error only if no address is known without it: [`ConnectError::Unresolved`], at once. Otherwise it is told
    /// with the error, if nobody answers.
    pub fn hint(mut self, hint: impl Into<Hint>) -> Self {
        match hint.into().split() {
            // What is outside of the network that a host keeps to has an error of its own (RCH-37).
            Ok(address) if self.handle.keeps_to_lan() && !is_lan(address.ip()) => self.hints.push(address),
            Ok(address) => match hint::useless(address, self.handle.local_addr()) {
                None => self.hints.push(address),
                Some(why) => self.useless.push(UnresolvedName::new(&address.to_string(), why)),
            },
            Err(name) => self.names.push(name),
        }
        self
    }

    /// As [`Self::hint`], for several.
    pub fn hints(self, hints: impl IntoIterator<Item = impl Into<Hint>>) -> Self {
        hints.into_iter().fold(self, Self::hint)
    }

    /// Sets how long to wait for the names to be looked up, and then for the channel; for the latter at most the host's
    /// connect timeout, which is the default. Without this, names take as long as the system's resolver takes.
    ///
    /// Zero: it fails at once, unless there is a channel already. Without this, nothing ends the attempt of a host
    /// whose driver nobody runs; with it, the error is [`ConnectError::NotDriven`].
    ///
    /// Awaiting it then panics outside of a tokio runtime, as it does where a hint is a name.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Opens the stream without waiting for the channel.
    ///
    /// What is written to it before the channel is established travels with the negotiation, in its third packet, as
    /// far as it fits; that saves a round trip. If no channel comes to be, reading and writing fail with
    /// [`CloseReason::Negotiation`].
    ///
    /// # Errors
    /// If the attempt cannot even begin: no address is known, or none that this host can send to, the EID is this
    /// host's own or unusable, a name is empty or longer than 255 bytes, or the host was closed or has failed. Nor does
    /// it wait for names to be looked up: see [`Self::resolve`].
    pub fn open(mut self) -> Result<Stream, ConnectError> {
        self.check()?;
        if !self.names.is_empty() && !self.is_connected() {
            let why = "open does not wait for names: call resolve before, or await the connection";
            let names = self.names.iter().map(|name| UnresolvedName::new(name, why));
            return Err(ConnectError::unresolved(names.collect(), None));
        }
        let useless = std::mem::take(&mut self.useless);
        self.begin().map_err(|error| error.with_unresolved(useless))
    }

    /// Returns what is wrong whoever the peer is, and wherever: the host has ended, or a name is none.
    fn check(&self) -> Result<(), ConnectError> {
        self.handle.call(|inner, _| inner.phase.check())?;
        Ok(sss_proto::check_names(&self.service, &self.protocol)?)
    }

    /// Looks up the names among the hints, so that [`Self::open`] need not wait for them.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ConnectError::Unresolved`] if a name cannot be looked up, and there is no other hint.
    pub async fn resolve(mut self) -> Result<Self, ConnectError> {
        self.check()?;
        self.useless = self.look_up().await?;
        Ok(self)
    }

    /// Takes the addresses of the names as hints. Gives the names that were of no use, unless nothing is known without
    /// them.
    async fn look_up(&mut self) -> Result<Vec<UnresolvedName>, ConnectError> {
        let names = std::mem::take(&mut self.names);
        let (names, unasked) = self.may_be_asked_about(names);
        let found = hint::look_up(&names, self.handle.local_addr());
        let (after, began) = (self.time(), Instant::now());
        let found = tokio::time::timeout(after, found).await;
        self.timeout = self.timeout.map(|after| after.saturating_sub(began.elapsed()));
        let (addresses, unresolved) = found.unwrap_or_else(|_| {
            let why = format!("the resolver did not answer within {}", Seconds(after));
            let names = names.iter().map(|name| UnresolvedName::new(name, &why));
            (Vec::new(), names.collect())
        });
        self.hints.extend(addresses);
        let useless = std::mem::take(&mut self.useless);
        let unresolved: Vec<_> = unresolved.into_iter().chain(unasked).chain(useless).collect();
        if self.hints.is_empty() && !unresolved.is_empty() {
            return Err(ConnectError::unresolved(unresolved, None));
        }
        Ok(unresolved)
    }

    /// Time in which names are to be looked up: that of the caller, or that of an attempt.
    fn time(&self) -> Duration {
        self.timeout.unwrap_or_else(|| self.handle.connect_timeout())
    }

    /// Returns whether nothing has to be known of where the host is.
    fn is_connected(&self) -> bool {
        self.handle.call(|inner, _| {
            let peers = inner.core.peers();
            let peer = peers.iter().find(|(_, eid)| *eid == self.eid);
            peer.is_some_and(|(id, _)| inner.core.is_connected(*id) == Some(true))
        })
    }

    fn begin(&self) -> Result<Stream, ConnectError> {
        let id = self.handle.call(|inner, now| {
            inner.phase.check()?;
            inner.want_driver();
            let names = (self.service.as_str(), self.protocol.as_str());
            let routes: Vec<Route> = self.hints.iter().copied().map(Route::udp).collect();
            let opened = inner.core.connect(now, self.eid, names, &routes);
            opened.map_err(ConnectError::from)
        })?;
        let Self {
            eid, service, protocol, ..
        } = self;
        tracing::debug!(peer = %HostTag::of(eid), %id, service, protocol, "stream opened");
        Ok(Stream::new(Arc::clone(&self.handle), id))
    }

    async fn run(mut self) -> Result<Stream, ConnectError> {
        self.check()?;
        if self.names.is_empty() || self.is_connected() {
            let useless = std::mem::take(&mut self.useless);
            let stream = self.establish().await;
            return stream.map_err(|error| error.with_unresolved(useless));
        }
        if self.handle.look(|inner| inner.rendezvous.seeks()) {
            return self.establish_and_look_up().await;
        }
        let unresolved = self.look_up().await?;
        let stream = self.establish().await;
        stream.map_err(|error| error.with_unresolved(unresolved))
    }

    /// Reaches the host while its names are looked up: others look for it, too, and need none.
    async fn establish_and_look_up(mut self) -> Result<Stream, ConnectError> {
        let names = std::mem::take(&mut self.names);
        let (names, mut unresolved) = self.may_be_asked_about(names);
        unresolved.append(&mut self.useless);
        let end = time_after(self.time());
        let mut found = pin!(hint::look_up(&names, self.handle.local_addr()));
        let failed = {
            let mut established = pin!(self.establish());
            let stream = tokio::select! {
                biased;
                stream = &mut established => stream,
                (addresses, more) = &mut found => {
                    unresolved.extend(more);
                    self.add(&addresses);
                    return established.await.map_err(|error| error.with_unresolved(unresolved));
                }
            };
            match stream {
                Err(error @ ConnectError::Negotiation(NegotiationError::Unfound(_))) => error,
                other => return other,
            }
        };
        // The others have looked in vain, and the resolver has not answered yet.
        let (addresses, more) = tokio::time::timeout_at(end, found).await.unwrap_or_default();
        unresolved.extend(more);
        if addresses.is_empty() {
            return Err(failed.with_unresolved(unresolved));
        }
        self.timeout = self.timeout.map(|_| end.saturating_duration_since(Instant::now()));
        self.hints.extend(addresses);
        let stream = self.establish().await;
        stream.map_err(|error| error.with_unresolved(unresolved))
    }

    /// Adds addresses to the attempt that is under way.
    fn add(&self, addresses: &[SocketAddr]) {
        let routes: Vec<Route> = addresses.iter().copied().map(Route::udp).collect();
        self.handle.call(|inner, now| {
            inner.core.add_hints(now, &self.eid, &routes);
            inner.want_driver();
        });
    }

    /// The names that somebody may be asked about, and the others: resolvers ask whom they like (RCH-37).
    fn may_be_asked_about(&self, names: Vec<String>) -> (Vec<String>, Vec<UnresolvedName>) {
        if !self.handle.keeps_to_lan() {
            return (names, Vec::new());
        }
        let (names, unasked): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| hint::is_scoped(name));
        let why = "this host keeps to its local network, and looks up no names";
        let unasked = unasked.iter().map(|name| UnresolvedName::new(name, why));
        (names, unasked.collect())
    }

    async fn establish(&self) -> Result<Stream, ConnectError> {
        let limit = self.timeout.map(|after| (after, time_after(after)));
        for _ in 0..RESTARTS {
            match self.reach(limit).await {
                // Nothing was written to the stream, so it can be opened again.
                Err(ConnectError::Closed(CloseReason::PeerRestarted)) => {}
                other => return other,
            }
        }
        self.reach(limit).await
    }

    async fn reach(&self, limit: Option<(Duration, Instant)>) -> Result<Stream, ConnectError> {
        let steps = self.steps();
        let stream = self.begin()?;
        let peer = stream.id().peer();
        let established = until(&self.handle, Key::Connected(peer), |inner, _| established(inner, peer));
        match limit {
            None => established.await.map_err(|error| self.in_its_time(error))?,
            Some((after, end)) => match tokio::time::timeout_at(end, established).await {
                Ok(outcome) => outcome.map_err(|error| self.in_its_time(error))?,
                Err(_) if self.steps() == steps => return Err(ConnectError::NotDriven { after }),
                Err(_) => return Err(self.no_answer(peer, after)),
            },
        }
        Ok(stream)
    }

    /// The number of steps that the host's driver has made.
    fn steps(&self) -> u64 {
        self.handle.look(Inner::steps)
    }

    /// As [`Self::steps`], to be asked when this is gone. Keeps the host.
    pub(crate) fn steps_of_driver(&self) -> impl Fn() -> u64 + use<> {
        let handle = Arc::clone(&self.handle);
        move || handle.look(Inner::steps)
    }

    /// Tells why the peer was not reached within this caller's patience.
    fn no_answer(&self, peer: PeerId, after: Duration) -> ConnectError {
        let failure = self.handle.call(|inner, now| inner.core.negotiation_failure(now, peer));
        let addresses = || {
            self.hints
                .iter()
                .map(|address| Tried::new((*address).into(), Seen::default()))
        };
        let nobody = || NegotiationError::NoAnswer {
            addresses: addresses().collect(),
            attempts: 0,
            after,
        };
        self.in_its_time(failure.unwrap_or_else(nobody).into())
    }

    /// The error with the time that there was, if that was over before the time for the local network.
    fn in_its_time(&self, error: ConnectError) -> ConnectError {
        match error {
            ConnectError::Negotiation(NegotiationError::Unfound(Absence::NotOnLan(time))) => {
                NegotiationError::Unfound(Absence::NotOnLan(time.min(self.time()))).into()
            }
            other => other,
        }
    }
}

/// Returns when `time` from now is over; a time that no clock reaches ends in 30 years.
pub(crate) fn time_after(time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    Instant::now() + time.min(FAR)
}

/// Ready when the channel to the peer is established, or never will be.
fn established(inner: &Inner, peer: PeerId) -> Poll<Result<(), ConnectError>> {
    if let Some(reason) = inner.core.close_reason(peer) {
        return Poll::Ready(Err(reason.into()));
    }
    match inner.core.is_connected(peer) {
        Some(true) => Poll::Ready(Ok(())),
        Some(false) if inner.phase < Lifecycle::Stopped => Poll::Pending,
        _ => Poll::Ready(Err(inner.phase.end().into())),
    }
}

impl IntoFuture for Connect {
    type Output = Result<Stream, ConnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("eid", &self.eid)
            .field("service", &self.service)
            .field("protocol", &self.protocol)
            .field("hints", &self.hints)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
