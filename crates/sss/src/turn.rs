//! Relays of TURN (RFC 8656): a host that has one behaves, where that helps, as if one more socket of its own were at
//! the address that the TURN server lends it (RCH-48 to RCH-51).
//!
//! | module | what |
//! |---|---|
//! | [`message`] | messages of STUN and TURN |
//! | [`allocation`] | one allocation, without IO |
//! | [`carry`] | the packets of one allocation, over UDP or TCP |
//! | [`table`] | the allocation that a host's packets go by, and what is told of it |
//!
//! This file has the wishes of applications, and the task that keeps an allocation as long as one is wanted.

mod allocation;
mod carry;
mod message;
pub(crate) mod table;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::shared::Shared;
use carry::{End, Session};
pub use table::{TurnError, TurnReport, TurnState, TurnStats};
use table::{Turns, Wish};

/// TURN servers of one host.
const MAX_SERVERS: usize = 4;
/// Longest user name and password, in bytes: RFC 8489 has no longer names.
const MAX_NAME: usize = 508;
/// Time after which the next server is asked too, if one does not answer.
const STAGGER: Duration = Duration::from_secs(1);
/// Pause before all are asked again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An allocation that was there for so long is followed by another at once, as is the first that was not.
const LASTING: Duration = Duration::from_secs(10);
/// Time for giving an allocation back, when the host goes.
pub(crate) const GIVING_BACK: Duration = Duration::from_millis(500);

/// Carrier of packets between a host and a TURN server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TurnTransport {
    /// UDP.
    #[default]
    Udp,
    /// TCP, for networks where UDP is blocked.
    Tcp,
}

/// A TURN server, and the long-term credentials that it knows. Its `Debug` form does not show the password.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to HostBuilder::turn"]
pub struct TurnServer {
    place: String,
    user: String,
    password: Zeroizing<String>,
    transport: TurnTransport,
}

impl TurnServer {
    /// A server at an address or a name, and a port, such as `turn.example:3478`, that is asked over UDP. `user` and
    /// `password` are its long-term credentials, of at most 508 bytes each.
    pub fn new(place: impl Into<String>, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            user: user.into(),
            password: Zeroizing::new(password.into()),
            transport: TurnTransport::Udp,
        }
    }

    /// Sets how it is asked. What it sends to peers, and hears from them, is UDP in any case.
    pub fn transport(mut self, transport: TurnTransport) -> Self {
        self.transport = transport;
        self
    }

    fn check(&self) -> Result<(), BuildError> {
        let (host, port) = self.place.rsplit_once(':').unwrap_or_default();
        let is_long = self.user.len().max(self.password.len()) > MAX_NAME;
        if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port != 0) || is_long {
            return Err(BuildError::Turn(self.to_string()));
        }
        Ok(())
    }
}

/// As its place, with `?transport=tcp` behind it if it is asked over TCP (RFC 7065).
impl fmt::Display for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            TurnTransport::Udp => "",
            TurnTransport::Tcp => "?transport=tcp",
        };
        write!(f, "{}{transport}", self.place)
    }
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("place", &self.place)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// Checks what a host is to have.
///
/// # Errors
/// If there are too many, or one can be no server.
pub(crate) fn check(servers: &[TurnServer]) -> Result<(), BuildError> {
    if servers.len() > MAX_SERVERS {
        return Err(BuildError::Turn(format!("{} servers", servers.len())));
    }
    servers.iter().try_for_each(TurnServer::check)
}

/// Begins to keep an allocation for a host that has servers, whenever one is wanted, on the present runtime.
pub(crate) fn start(shared: &Arc<Shared>, servers: Vec<TurnServer>) {
    if servers.is_empty() {
        return;
    }
    let places = servers.iter().map(ToString::to_string).collect();
    let wishes = shared.call(|inner, _| inner.turns.open(places));
    let keeper = Keeper {
        shared: Arc::downgrade(shared),
        servers: servers.into_iter().map(Arc::new).collect(),
        wishes,
        pause: Duration::ZERO,
        first: 0,
    };
    tokio::spawn(keeper.run());
}

/// The task.
struct Keeper {
    shared: Weak<Shared>,
    servers: Vec<Arc<TurnServer>>,
    wishes: watch::Receiver<Wish>,
    pause: Duration,
    /// Number of the server that is asked first: the one behind the latest through which nothing came.
    first: usize,
}

impl Keeper {
    async fn run(mut self) {
        while self.wish().await == Wish::Allocation {
            let Some(session) = self.establish().await else {
                self.pause = self.pause.max(FIRST_PAUSE);
                self.rest().await;
                continue;
            };
            let (began, n) = (Instant::now(), session.n);
            match session.carry(&self.shared, &mut self.wishes).await {
                End::Lost if began.elapsed() < LASTING => self.rest().await,
                End::Lost | End::GivenBack => self.pause = Duration::ZERO,
                End::Mute => self.first = (n + 1) % self.servers.len(),
            }
        }
        if let Some(host) = self.shared.upgrade() {
            host.feed(|inner, _| inner.turns.on_ended());
        }
    }

    /// Waits for a wish. The host is gone, too, if nobody has any more.
    async fn wish(&mut self) -> Wish {
        let wish = self.wishes.wait_for(|wish| *wish != Wish::None).await;
        wish.map_or(Wish::Gone, |wish| *wish)
    }

    /// Waits before all servers are asked again, unless nothing is wanted any more.
    async fn rest(&mut self) {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        tokio::select! {
            () = sleep_until(until) => {}
            () = unwanted(&mut self.wishes) => {}
        }
    }

    /// Asks all servers, from the first to be asked on, one a little later than the other, until one of them gives an
    /// allocation. `None` if none does, or nothing is wanted any more.
    async fn establish(&mut self) -> Option<Session> {
        let mut attempts = JoinSet::new();
        let mut servers: Vec<_> = self.servers.clone().into_iter().enumerate().collect();
        servers.rotate_left(self.first);
        let mut waiting = servers.into_iter();
        let mut next_at = Instant::now();
        let mut is_any_left = true;
        let session = loop {
            if attempts.is_empty() && !is_any_left {
                break None;
            }
            tokio::select! {
                Some(attempt) = attempts.join_next(), if !attempts.is_empty() => match attempt {
                    Ok((_, Ok(session))) => break Some(session),
                    Ok((n, Err(why))) => {
                        self.tell(|turns| turns.on_state(n, TurnState::Failed(why)));
                        next_at = Instant::now();
                    }
                    Err(_) => {}
                },
                () = sleep_until(next_at), if is_any_left => {
                    next_at += STAGGER;
                    match waiting.next() {
                        Some((n, server)) => {
                            self.tell(|turns| turns.on_state(n, TurnState::Asking));
                            attempts.spawn(async move { (n, Session::open(n, server).await) });
                        }
                        None => is_any_left = false,
                    }
                }
                () = unwanted(&mut self.wishes) => break None,
            }
        };
        if session.is_none() && *self.wishes.borrow() == Wish::Allocation {
            self.tell_core();
        }
        // What others give is given back.
        tokio::spawn(async move {
            while let Some(attempt) = attempts.join_next().await {
                if let Ok((_, Ok(session))) = attempt {
                    session.give_back().await;
                }
            }
        });
        session
    }

    fn tell(&self, tell: impl FnOnce(&mut Turns)) {
        if let Some(host) = self.shared.upgrade() {
            host.feed(|inner, _| tell(&mut inner.turns));
        }
    }

    fn tell_core(&self) {
        if let Some(host) = self.shared.upgrade() {
            host.feed(|inner, now| inner.rendezvous.on_turn_failed(now, &mut inner.core));
        }
    }
}

/// Waits until no allocation is wanted any more.
async fn unwanted(wishes: &mut watch::Receiver<Wish>) {
    let _ = wishes.wait_for(|wish| *wish != Wish::Allocation).await;
}

#[cfg(test)]
mod tests;
