//! Takes the tunnels of others, within bounds.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sss_proto::Network;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::carry::{Entry, Watch, set_up};
use super::guests::{Guests, Pulse, Seat};
use super::{Listening, TlsLimits};
use crate::shared::Shared;

/// Pause after the system has given no connection, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The place where tunnels are taken.
pub(super) struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: TlsLimits,
    guests: Arc<Mutex<Guests>>,
}

/// A connection that has a seat.
struct Guest {
    guests: Arc<Mutex<Guests>>,
    seat: Seat,
}

impl Door {
    /// Opens it, on the present runtime.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn open(listening: Listening) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::from_std(listening.listener)?,
            acceptor: TlsAcceptor::from(listening.config),
            limits: listening.limits,
            guests: Arc::new(Mutex::new(Guests::new(Instant::now()))),
        })
    }

    /// Lets one more in, if there is room.
    fn admit(&self, ip: IpAddr) -> Option<Guest> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let seat = guests.admit(Instant::now(), Network::from(ip), &self.limits)?;
        let guests = Arc::clone(&self.guests);
        Some(Guest { guests, seat })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.leave(&self.seat);
    }
}

/// Takes tunnels, until this is dropped or the host is gone.
pub(super) async fn serve(door: Door, shared: Weak<Shared>) {
    let mut tunnels = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = door.listener.accept() => accepted,
            // Those that have ended are forgotten.
            Some(_) = tunnels.join_next() => continue,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            // It was gone before it was taken: the next may be there.
            Err(error) if is_of_one(&error) => continue,
            Err(error) => {
                tracing::debug!(%error, "no connection can be taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        match door.admit(remote.ip()) {
            Some(guest) => {
                let (acceptor, limits, shared) = (door.acceptor.clone(), door.limits, Weak::clone(&shared));
                tunnels.spawn(host((acceptor, limits), stream, guest, shared));
            }
            None => match shared.upgrade() {
                Some(host) => host.feed(|inner, _| inner.tunnels.stats.refused += 1),
                None => return,
            },
        }
    }
}

/// Returns whether an error is of the connection that was to be taken, not of the place where they are.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Has a guest until it goes, or has to give way.
async fn host(how: (TlsAcceptor, TlsLimits), stream: TcpStream, mut guest: Guest, shared: Weak<Shared>) {
    let (gives_way, pulse) = (&mut guest.seat.gives_way, &guest.seat.pulse);
    let gave_way = tokio::select! {
        () = receive(how, stream, pulse, &shared) => false,
        // The other end is dropped.
        _ = gives_way => true,
    };
    match shared.upgrade() {
        Some(host) if gave_way => host.feed(|inner, _| inner.tunnels.stats.gave_way += 1),
        _ => {}
    }
}

/// Agrees on TLS, and carries packets until the tunnel ends.
async fn receive(
    (acceptor, limits): (TlsAcceptor, TlsLimits),
    stream: TcpStream,
    pulse: &Pulse,
    shared: &Weak<Shared>,
) {
    set_up(&stream);
    match timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let Some(entry) = Entry::new(shared, |_, _, _| {}) else {
                return;
            };
            let watch = Watch {
                pulse,
                idle: limits.idle,
            };
            let why = entry.carry(stream, Some(watch)).await;
            tracing::debug!(%why, "a tunnel has ended");
        }
        Ok(Err(_)) | Err(_) => {
            if let Some(host) = shared.upgrade() {
                host.feed(|inner, _| inner.tunnels.stats.failed += 1);
            }
        }
    }
}
