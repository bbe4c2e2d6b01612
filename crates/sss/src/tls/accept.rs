//! Takes the tunnels of others, within bounds.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

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
    guests: Arc<Mutex<Guests>>,
}

/// Connections of each network.
struct Guests {
    networks: HashMap<Network, Count>,
    /// The beginning of the present second.
    second: Instant,
}

/// Connections of one network.
#[derive(Clone, Copy, Default)]
struct Count {
    open: u32,
    /// Those of this second.
    recent: u32,
}

/// A connection that counts.
struct Guest {
    guests: Arc<Mutex<Guests>>,
    network: Network,
}

impl Guests {
    /// Counts one more of a network, if there is room.
    fn admit(&mut self, now: Instant, network: Network, limits: &TlsLimits) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.networks.retain(|_, count| count.open > 0);
            self.networks.values_mut().for_each(|count| count.recent = 0);
        }
        let all = self.networks.values().fold(Count::default(), |all, count| Count {
            open: all.open + count.open,
            recent: all.recent + count.recent,
        });
        let has_room = all.open < limits.tunnels && all.recent < limits.a_second;
        let there = self.networks.get(&network).copied().unwrap_or_default();
        let is_fair = there.open < limits.each_network && there.recent < limits.each_network_a_second;
        if has_room && is_fair {
            let count = self.networks.entry(network).or_default();
            count.open += 1;
            count.recent += 1;
        }
        has_room && is_fair
    }

    fn leave(&mut self, network: Network) {
        if let Some(count) = self.networks.get_mut(&network) {
            count.open = count.open.saturating_sub(1);
        }
    }
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
            guests: Arc::new(Mutex::new(Guests {
                networks: HashMap::new(),
                second: Instant::now(),
            })),
        })
    }

    /// Lets one more in, if there is room.
    fn admit(&self, ip: IpAddr) -> Option<Guest> {
        let network = Network::from(ip);
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let guest = || Guest {
            guests: Arc::clone(&self.guests),
            network,
        };
        guests.admit(Instant::now(), network, &self.limits).then(guest)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.leave(self.network);
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

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-22
    #[test]
    fn threat_40_a_network_that_connects_without_end_leaves_room_for_others() {
        let limits = TlsLimits {
            tunnels: 40,
            each_network: 20,
            a_second: 30,
            each_network_a_second: 10,
            ..TlsLimits::default()
        };
        let begun = Instant::now();
        let mut guests = Guests {
            networks: HashMap::new(),
            second: begun,
        };
        let mut admitted = |ms, network, ends: bool| {
            let network = Network::V4(network);
            let mut connect = || {
                let is_in = guests.admit(begun + Duration::from_millis(ms), network, &limits);
                if is_in && ends {
                    guests.leave(network);
                }
                is_in
            };
            (0..100).filter(|_| connect()).count()
        };
        // Those that end at once are counted all the same: TLS has been spent on them.
        assert_eq!(
            [(0, 1), (999, 1), (999, 2)].map(|(ms, n)| admitted(ms, n, true)),
            [10, 0, 10]
        );
        assert_eq!([3, 4].map(|n| admitted(999, n, true)), [10, 0], "of all");
        // Those that stay fill it up.
        assert_eq!([1000, 2000, 3000].map(|ms| admitted(ms, 1, false)), [10, 10, 0]);
        assert_eq!([4000, 5000, 6000].map(|ms| admitted(ms, 2, false)), [10, 10, 0]);
        assert_eq!(admitted(9000, 3, false), 0, "of all");
    }
}
