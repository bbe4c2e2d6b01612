//! Takes the tunnels of others, within bounds.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sss_proto::Network;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::carry::{Entry, set_up};
use super::{Listening, TlsLimits};
use crate::shared::Shared;

/// Pause after the system has given no connection, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The place where tunnels are taken.
pub(super) struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: TlsLimits,
    guests: Arc<Mutex<HashMap<Network, u32>>>,
}

/// A connection that counts.
struct Guest {
    guests: Arc<Mutex<HashMap<Network, u32>>>,
    network: Network,
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
            guests: Arc::default(),
        })
    }

    /// Lets one more in, if there is room.
    fn admit(&self, ip: IpAddr) -> Option<Guest> {
        let network = Network::from(ip);
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u32 = guests.values().sum();
        let there = guests.entry(network).or_default();
        if usize::try_from(all).is_ok_and(|all| all < self.limits.tunnels) && *there < self.limits.each_network {
            *there += 1;
            let guests = Arc::clone(&self.guests);
            return Some(Guest { guests, network });
        }
        if *there == 0 {
            guests.remove(&network);
        }
        None
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = guests.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.network);
            }
        }
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
            Err(error) => {
                tracing::debug!(%error, "no connection can be taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        match door.admit(remote.ip()) {
            Some(guest) => {
                let (acceptor, limits, shared) = (door.acceptor.clone(), door.limits, Weak::clone(&shared));
                tunnels.spawn(async move {
                    receive((acceptor, limits), stream, &shared).await;
                    drop(guest);
                });
            }
            None => match shared.upgrade() {
                Some(host) => host.feed(|inner, _| inner.tunnels.stats.refused += 1),
                None => return,
            },
        }
    }
}

/// Agrees on TLS, and carries packets until the tunnel ends.
async fn receive((acceptor, limits): (TlsAcceptor, TlsLimits), stream: TcpStream, shared: &Weak<Shared>) {
    set_up(&stream);
    match timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let Some(entry) = Entry::new(shared, |_, _, _| {}) else {
                return;
            };
            let why = entry.carry(stream, Some(limits.idle)).await;
            tracing::debug!(%why, "a tunnel has ended");
        }
        Ok(Err(_)) | Err(_) => {
            if let Some(host) = shared.upgrade() {
                host.feed(|inner, _| inner.tunnels.stats.failed += 1);
            }
        }
    }
}
