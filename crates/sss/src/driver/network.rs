//! Notices changes of this machine's network without being told: addresses that come or go, another way out.
//!
//! 1. *signal*: the system says that something changed (on Linux over a netlink socket), or it is time to look;
//! 2. *compare*: signals that changed nothing for a host, such as another route to a known network, end here;
//! 3. *tell* the host, at once if there is a way out now;
//! 4. *settle*: changes come in bursts, an address first and its route later: go on looking until there is peace, and
//!    tell what is so then.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::addresses;
use crate::shared::Shared;

/// Time after a signal for what belongs to it: an address and its route come one after the other.
const MOMENT: Duration = Duration::from_millis(10);
/// A burst of signals is over when there were none for so long.
const PEACE: Duration = Duration::from_millis(200);
/// A burst is over after so many looks, if signals do not end.
const MAX_BURST: u32 = 9;
/// Time between two looks where the system gives no signals.
const INTERVAL: Duration = Duration::from_secs(5);

/// A task that watches the network for a host. It ends when this is dropped.
pub(crate) struct Watcher {
    task: AbortHandle,
    known: Arc<Known>,
}

impl Watcher {
    /// Begins to watch, on the present runtime.
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let known = Arc::new(Known(Mutex::new(Snapshot::take())));
        let task = tokio::spawn(watch(Arc::downgrade(shared), Arc::clone(&known)));
        Self {
            task: task.abort_handle(),
            known,
        }
    }

    /// The host knows already, by an error of its socket, that the network has changed.
    pub(crate) fn note_told(&self) {
        self.known.is_news(Wanted::Anything);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(host: Weak<Shared>, known: Arc<Known>) {
    let mut signals = Signals::new();
    loop {
        signals.next().await;
        for look in 0..MAX_BURST {
            // The longer it goes on, the less urgent it is.
            tokio::time::sleep((MOMENT * (1 << look)).min(PEACE)).await;
            if !tell_news(&host, &known, Wanted::WayOut) {
                return;
            }
            if tokio::time::timeout(PEACE, signals.next()).await.is_err() {
                break;
            }
        }
        if !tell_news(&host, &known, Wanted::Anything) {
            return;
        }
    }
}

/// Tells the host if anything has changed. Returns whether it is still there.
fn tell_news(host: &Weak<Shared>, known: &Known, wanted: Wanted) -> bool {
    let Some(shared) = host.upgrade() else {
        return false;
    };
    if known.is_news(wanted) {
        tracing::debug!("the network of this machine has changed");
        shared.call(|inner, _| inner.note_network_change());
    }
    true
}

/// News that a host is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Anything,
    /// There is a way to other networks now: half-way through a change there may be none.
    WayOut,
}

/// The state of the network that the host was told of.
struct Known(Mutex<Snapshot>);

impl Known {
    /// Returns whether the network is not as it was when this was last so.
    fn is_news(&self, wanted: Wanted) -> bool {
        let present = Snapshot::take();
        if wanted == Wanted::WayOut && present.sources == [None; 2] {
            return false;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != present;
        *known = present;
        is_news
    }
}

/// State of the network, as far as it matters to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    addresses: Vec<IpAddr>,
    /// The addresses used towards other networks.
    sources: [Option<IpAddr>; 2],
}

impl Snapshot {
    fn take() -> Self {
        let mut addresses = addresses::of_interfaces();
        addresses.sort_unstable();
        Self {
            addresses,
            sources: addresses::preferred_sources(),
        }
    }
}

/// Source of signals that the network may have changed.
enum Signals {
    #[cfg(target_os = "linux")]
    Netlink(netlink::Listener),
    /// None: looks so often.
    Interval(Duration),
}

impl Signals {
    #[cfg(target_os = "linux")]
    fn new() -> Self {
        match netlink::Listener::new() {
            Ok(listener) => Self::Netlink(listener),
            Err(error) => {
                tracing::debug!(%error, "no netlink socket: looking at the network from time to time");
                Self::Interval(INTERVAL)
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> Self {
        Self::Interval(INTERVAL)
    }

    /// Waits for the next signal. Cancel safe.
    async fn next(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Netlink(listener) => {
                if let Err(error) = listener.next().await {
                    tracing::debug!(%error, "the netlink socket failed: looking at the network from time to time");
                    *self = Self::Interval(INTERVAL);
                }
            }
            Self::Interval(interval) => tokio::time::sleep(*interval).await,
        }
    }
}

#[cfg(target_os = "linux")]
mod netlink {
    //! The kernel's messages about links, addresses and routes (rtnetlink(7)). That there is one is all that is taken
    //! from them.

    use std::io;
    use std::net::UdpSocket as StdUdpSocket;

    use rustix::io::Errno;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    /// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and RTMGRP_IPV6_ROUTE.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

    /// A netlink socket, which for the runtime is a datagram socket like any other.
    pub(super) struct Listener(UdpSocket);

    impl Listener {
        pub(super) fn new() -> io::Result<Self> {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // No protocol is NETLINK_ROUTE, which is 0.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(UdpSocket::from_std(StdUdpSocket::from(socket))?))
        }

        /// Waits until there are messages, and discards them. Cancel safe.
        pub(super) async fn next(&self) -> io::Result<()> {
            self.0.async_io(Interest::READABLE, || drain(&self.0)).await
        }
    }

    /// `WouldBlock` if there was nothing.
    fn drain(socket: &UdpSocket) -> io::Result<()> {
        /// The rest is left for the next time.
        const MAX_MESSAGES: usize = 256;
        let mut some = false;
        let mut message = [0; 64];
        for _ in 0..MAX_MESSAGES {
            match recv(socket, &mut message[..], RecvFlags::empty()) {
                // Messages that did not fit into the socket's buffer are missing: a signal like any other.
                Ok(_) | Err(Errno::NOBUFS) => some = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if some => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_there_are_no_signals_it_is_looked_from_time_to_time() {
        let start = std::time::Instant::now();
        let mut signals = Signals::Interval(Duration::from_millis(300));
        signals.next().await;
        assert!(start.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn what_a_host_was_told_is_no_news_and_without_a_way_out_nothing_is_wanted_yet() {
        let present = Snapshot::take();
        let known = Known(Mutex::new(Snapshot {
            addresses: vec![IpAddr::from([192, 0, 2, 1])],
            ..present.clone()
        }));
        let has_way_out = present.sources != [None; 2];
        assert_eq!(known.is_news(Wanted::WayOut), has_way_out);
        assert_eq!(known.is_news(Wanted::Anything), !has_way_out, "it is told once");
        assert!(!known.is_news(Wanted::Anything) && !known.is_news(Wanted::WayOut));
    }

    #[test]
    fn a_machine_at_rest_looks_the_same_twice() {
        assert_eq!(Snapshot::take(), Snapshot::take());
    }
}
