//! State that a host's handles and its driver share: the core behind one lock, and who waits for what.
//!
//! The lock is held for short computations only, never across a system call, and wakers are called and dropped after it
//! was released. An application's call that leaves the core with something to send wakes the driver, if
//! the driver sleeps: many calls cause one wake.
//!
//! In a copy of the process (fork) the driver is not there, or has to keep still: whoever would wait for it there ends
//! all that there is instead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::Waker;
use std::time::Duration;

use sss_crypto::StaticKey;
use sss_proto::{Event, Input, Instant, Link, Output, Route, Transmit, TransmitBuf};
#[cfg(feature = "turn")]
use sss_reach::TurnOrder;
use sss_reach::{Rendezvous, RendezvousConfig, SocketOrder, TunnelOrder};
use sss_wire::Eid;

#[cfg(feature = "port-mapping")]
use crate::desk::{Desk, HostsDesk};
use crate::driver::SocketStats;
use crate::driver::addresses::{self, Moving};
use crate::driver::clock::Clock;
use crate::driver::notices::Notices;
use crate::driver::wakers::Waiters;
use crate::lifecycle::Lifecycle;
#[cfg(feature = "port-mapping")]
use crate::mapping::desk::MappingReport;
#[cfg(feature = "mdns")]
use crate::mdns::desk::MdnsDesk;
#[cfg(feature = "stun")]
use crate::stun::desk::StunDesk;
#[cfg(feature = "tls")]
use crate::tunnels::Tunnels;
#[cfg(feature = "turn")]
use crate::turn::table::Turns;

/// The address of a host that has none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Datagrams of others than the protocol that wait to be sent, at most: each question has one.
#[cfg(feature = "stun")]
const MAX_BESIDE: usize = 16;

/// The state of a host that its handles and its driver share.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    clock: Clock,
    eid: Eid,
    /// The host keeps to its local network (RCH-37).
    lan_only: bool,
    /// Time after which an attempt to reach a peer has failed.
    connect_timeout: Duration,
    /// Process that the host was made in. A copy of it (fork) has the same keys and numbers, and must not use them.
    process: u32,
    /// Tells of copies without asking the system, as each call does.
    forks: Option<forkguard::Guard>,
    /// State in a copy that was made while the other was locked, by a thread that is not there.
    remains: OnceLock<Mutex<Inner>>,
    /// Opened by a host that wants its router to let its port in.
    #[cfg(feature = "port-mapping")]
    desk: OnceLock<HostsDesk<MappingReport>>,
    /// Set by a host that uses mDNS.
    #[cfg(feature = "mdns")]
    mdns: OnceLock<MdnsDesk>,
    /// Set by a host that asks STUN servers.
    #[cfg(feature = "stun")]
    stun: OnceLock<StunDesk>,
    /// Used by a registration server that shares a directory.
    #[cfg(feature = "redis")]
    pub(crate) directory: crate::directory::desk::DirectoryDesk,
}

/// A core that knows nothing, in place of one that cannot be used.
fn blank() -> sss_proto::Host {
    let key = StaticKey::from_bytes([0; 32]);
    sss_proto::Host::new(sss_proto::Config::default(), key, [0; 32])
}

/// State under the lock.
pub(crate) struct Inner {
    pub(crate) core: sss_proto::Host,
    pub(crate) rendezvous: Rendezvous,
    pub(crate) waiters: Waiters,
    pub(crate) phase: Lifecycle,
    pub(crate) socket: SocketStats,
    /// The address that the socket is bound to.
    pub(crate) local_addr: SocketAddr,
    pub(crate) moving: Moving,
    /// Number of calls that applications have made.
    pub(crate) calls: u64,
    /// Tunnels that are open.
    #[cfg(feature = "tls")]
    pub(crate) tunnels: Tunnels,
    /// Datagrams that are none of the protocol's, and wait to be sent.
    #[cfg(feature = "stun")]
    beside: Vec<(SocketAddr, Vec<u8>)>,
    /// TURN servers.
    #[cfg(feature = "turn")]
    pub(crate) turns: Turns,
    driver: Parking,
}

/// State of the driver: whether it sleeps, and how to wake it.
#[derive(Debug, Default)]
struct Parking {
    waker: Option<Waker>,
    parked: bool,
    wanted: bool,
    /// The driver's last look at the clock, for calls made while it is at work.
    now: Instant,
    /// Number of steps that it has made.
    steps: u64,
}

impl Parking {
    /// The waker, if the driver sleeps and has a reason to wake up.
    fn take(&mut self) -> Option<Waker> {
        let wanted = std::mem::take(&mut self.wanted);
        if !(wanted && self.parked) {
            return None;
        }
        self.parked = false;
        self.waker.clone()
    }
}

/// The core, and what goes beside it.
impl Inner {
    fn new(core: sss_proto::Host, local_addr: SocketAddr, now: Instant) -> Self {
        Self {
            core,
            rendezvous: Rendezvous::default(),
            waiters: Waiters::default(),
            phase: Lifecycle::Running,
            socket: SocketStats::default(),
            local_addr,
            moving: Moving::default(),
            calls: 0,
            #[cfg(feature = "tls")]
            tunnels: Tunnels::default(),
            #[cfg(feature = "stun")]
            beside: Vec::new(),
            #[cfg(feature = "turn")]
            turns: Turns::default(),
            driver: Parking {
                now,
                ..Parking::default()
            },
        }
    }

    /// Takes in datagrams, or the passing of time.
    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.rendezvous.handle(now, &mut self.core, input);
    }

    /// The next thing to be sent or told, or the time until which there is nothing.
    pub(crate) fn poll(&mut self, now: Instant, buf: &mut TransmitBuf) -> Output {
        #[cfg(feature = "stun")]
        if let Some((to, datagram)) = self.beside.pop() {
            buf.clear();
            buf.append(&datagram);
            return Output::Transmit(Transmit {
                link: Link::Udp(to),
                local: None,
                ecn: sss_proto::Ecn::NotEct,
                segment: datagram.len(),
            });
        }
        self.rendezvous.poll(now, &mut self.core, buf)
    }

    /// Sends datagrams through a tunnel, or from an address of a TURN server, if that is how they go.
    pub(crate) fn send_through(&mut self, transmit: &Transmit, datagrams: &[u8]) -> bool {
        if let Link::Turn(id, to) = transmit.link {
            #[cfg(feature = "turn")]
            self.turns.send((id, to), datagrams, transmit.segment);
            #[cfg(not(feature = "turn"))]
            let (_, _) = (id, to);
            return true;
        }
        let Link::Tunnel(id) = transmit.link else {
            return false;
        };
        #[cfg(feature = "tls")]
        self.tunnels.send(id, datagrams, transmit.segment);
        #[cfg(not(feature = "tls"))]
        let (_, _) = (id, datagrams);
        true
    }

    /// Orders about tunnels. Seldom any.
    pub(crate) fn tunnel_orders(&mut self) -> Vec<TunnelOrder> {
        std::iter::from_fn(|| self.rendezvous.poll_tunnel_order()).collect()
    }

    /// Obeys an order about TURN servers. Seldom any: false.
    #[cfg(feature = "turn")]
    pub(crate) fn obey_turn_orders(&mut self, now: Instant) -> bool {
        let Some(order) = self.rendezvous.poll_turn_order() else {
            return false;
        };
        self.turns.obey(order);
        // It may be there already.
        if let (TurnOrder::Open, Some(allocated)) = (order, self.turns.allocated()) {
            self.rendezvous.on_turn_opened(now, &mut self.core, allocated);
        }
        true
    }

    /// Orders about further sockets. Seldom any.
    pub(crate) fn socket_orders(&mut self) -> Vec<SocketOrder> {
        std::iter::from_fn(|| self.rendezvous.poll_socket_order()).collect()
    }

    /// Has a datagram sent by the host's own socket, that is none of the protocol's.
    #[cfg(feature = "stun")]
    pub(crate) fn send_beside(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.beside.len() < MAX_BESIDE {
            self.beside.push((to, datagram));
        }
    }

    /// Routers let these outer addresses in for this host, and no others.
    #[cfg(feature = "port-mapping")]
    pub(crate) fn set_mapped(&mut self, now: Instant, named: &[SocketAddr]) {
        self.rendezvous.set_mapped(now, &mut self.core, named);
        self.want_driver();
    }

    /// The next event alone.
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        self.rendezvous.poll_event(now, &mut self.core)
    }
}

impl Inner {
    /// The number of steps that the driver has made. Where it stays the same, nobody runs the driver.
    pub(crate) fn steps(&self) -> u64 {
        self.driver.steps
    }

    /// Says that the core may have something to send now.
    pub(crate) fn want_driver(&mut self) {
        self.driver.wanted = true;
    }

    /// Wants the driver if a call has left the core with something to send.
    pub(crate) fn want_driver_if_ready(&mut self) {
        self.driver.wanted |= self.core.is_ready();
    }

    /// Lets the driver sleep until `waker` is called. The one known before, if it is another, is to be dropped when the
    /// host is not locked.
    #[must_use]
    pub(crate) fn park(&mut self, waker: &Waker) -> Option<Waker> {
        self.driver.parked = true;
        match &mut self.driver.waker {
            Some(known) if known.will_wake(waker) => None,
            slot => slot.replace(waker.clone()),
        }
    }

    /// Says that the network of this machine has changed: the driver sees to the socket, then calls
    /// [`Self::on_network_change`].
    pub(crate) fn note_network_change(&mut self) {
        self.moving.is_due = true;
        self.want_driver();
    }

    /// There is another way to IPv4 addresses than before, or the first (RCH-46): whoever is there is asked at once.
    pub(crate) fn on_translator(&mut self, now: Instant) {
        let is_ipv4 = |route: &Route| route.address().is_some_and(|address| address.is_ipv4());
        self.core.network_changed(now, |route, _| is_ipv4(route));
        self.rendezvous.on_network_change(now, &mut self.core);
    }

    /// The network of this machine has changed, and the socket is now bound to `local_addr`.
    /// All ways have changed if its port `is_new`.
    pub(crate) fn on_network_change(&mut self, now: Instant, local_addr: SocketAddr, is_new: bool) {
        self.moving.is_due = false;
        self.local_addr = local_addr;
        self.core.network_changed(now, |route, local| match route.link {
            Link::Udp(remote) => is_new || addresses::has_moved(remote, local, local_addr),
            // It is bound to the same address.
            Link::Socket(_, remote) => addresses::has_moved(remote, local, local_addr),
            // Whoever has that tunnel, or allocation, knows what became of it.
            Link::Turn(..) | Link::Tunnel(_) => false,
        });
        #[cfg(feature = "turn")]
        self.turns.on_network_change();
        self.tell_local();
        self.rendezvous.on_network_change(now, &mut self.core);
    }

    /// Begins what goes beside the core.
    pub(crate) fn begin_rendezvous(&mut self, now: Instant, config: RendezvousConfig, seed: &[u8; 32]) {
        // Nobody else offers what the host itself does.
        if let Ok(rendezvous) = Rendezvous::new(now, config, &mut self.core, seed) {
            self.rendezvous = rendezvous;
            self.tell_local();
        }
    }

    /// Says which networks this machine is in, if anybody is asked for peers.
    fn tell_local(&mut self) {
        if self.rendezvous.seeks() {
            self.rendezvous.set_local(addresses::networks(self.local_addr));
        }
    }

    /// The way to the only peer of a host that offers nothing, if it is to take another port when it moves.
    pub(crate) fn sole_path(&self) -> Option<(SocketAddr, Option<IpAddr>)> {
        let (route, local) = self.core.sole_path().filter(|_| self.moving.takes_new_port)?;
        Some((route.direct_address()?, local))
    }

    /// There is no driver any more: all streams end. Somebody has to be told of the events.
    pub(crate) fn stop(&mut self, now: Instant, mut tell: impl FnMut(&mut Self, Event)) {
        self.phase = self.phase.max(Lifecycle::Stopped);
        match self.phase {
            Lifecycle::Failed => sss_proto::fail(&mut self.core),
            _ => self.core.shutdown(now),
        }
        while let Some(event) = self.poll_event(now) {
            tell(self, event);
        }
    }

    /// Gives up what a panic has left of the core, with all that it knew, since it cannot even be ended.
    pub(crate) fn give_up(&mut self) {
        self.phase = Lifecycle::Failed;
        self.core = blank();
        sss_proto::fail(&mut self.core);
        self.rendezvous = Rendezvous::default();
    }

    /// Returns whether nobody holds the host any more, and the driver has not begun to close it.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.phase == Lifecycle::Abandoned
    }
}

impl Shared {
    pub(crate) fn new(core: sss_proto::Host, local_addr: SocketAddr) -> Self {
        let clock = Clock::start();
        Self {
            eid: core.eid(),
            inner: Mutex::new(Inner::new(core, local_addr, clock.now())),
            clock,
            lan_only: false,
            connect_timeout: Duration::MAX,
            process: std::process::id(),
            forks: forkguard::Guard::try_new().ok(),
            remains: OnceLock::new(),
            #[cfg(feature = "port-mapping")]
            desk: OnceLock::new(),
            #[cfg(feature = "mdns")]
            mdns: OnceLock::new(),
            #[cfg(feature = "stun")]
            stun: OnceLock::new(),
            #[cfg(feature = "redis")]
            directory: crate::directory::desk::DirectoryDesk::default(),
        }
    }

    /// The same, of a host that keeps to its local network if that is set, and that time for attempts.
    pub(crate) fn keeping_to(self, lan_only: bool, connect_timeout: Duration) -> Self {
        Self {
            lan_only,
            connect_timeout,
            ..self
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn keeps_to_lan(&self) -> bool {
        self.lan_only
    }

    /// Returns whether this is a copy of the process that the host was made in, whoever made it. Asks the system.
    pub(crate) fn is_in_copy(&self) -> bool {
        std::process::id() != self.process
    }

    /// Returns whether this is a copy that was made by `fork`.
    fn was_forked(&self) -> bool {
        match &self.forks {
            Some(forks) => forks.clone().detected_fork(),
            None => self.is_in_copy(),
        }
    }

    /// Ends all that is there if this is a copy. Returns whether it is.
    pub(crate) fn end_if_forked(&self) -> bool {
        let was_forked = self.was_forked();
        if was_forked {
            self.end_in_copy();
        }
        was_forked
    }

    /// Ends all that is there in a copy, without a word to peers, or to a log that others write.
    pub(crate) fn end_in_copy(&self) {
        let mut notices = Notices::default();
        self.drive(|inner, now| {
            inner.stop(now, |inner, event| match event {
                Event::Secret(_) => {}
                other => inner.waiters.on_event(other, &mut notices),
            });
            inner.waiters.wake_all(&mut notices);
        });
        notices.deliver();
    }

    pub(crate) fn eid(&self) -> Eid {
        self.eid
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.look(|inner| inner.local_addr)
    }

    /// The desk for port mapping, opened if it was not.
    #[cfg(feature = "port-mapping")]
    pub(crate) fn open_desk(&self) -> &Arc<Desk<MappingReport>> {
        self.desk.get_or_init(|| HostsDesk::new(MappingReport::asking())).desk()
    }

    /// The desk for port mapping, of a host that wants it.
    #[cfg(feature = "port-mapping")]
    pub(crate) fn desk(&self) -> Option<&Arc<Desk<MappingReport>>> {
        self.desk.get().map(HostsDesk::desk)
    }

    /// Says so if there are orders for the directory. Seldom any.
    #[cfg(feature = "redis")]
    pub(crate) fn order_directory(&self, inner: &Inner) {
        if inner.rendezvous.has_directory_orders() {
            self.directory.notify();
        }
    }

    /// Sets the desk for mDNS.
    #[cfg(feature = "mdns")]
    pub(crate) fn set_mdns(&self, desk: MdnsDesk) {
        let _ = self.mdns.set(desk);
    }

    /// The desk for mDNS, of a host that uses it.
    #[cfg(feature = "mdns")]
    pub(crate) fn mdns(&self) -> Option<&MdnsDesk> {
        self.mdns.get()
    }

    /// Sets the desk for STUN.
    #[cfg(feature = "stun")]
    pub(crate) fn set_stun(&self, desk: StunDesk) {
        let _ = self.stun.set(desk);
    }

    /// The desk for STUN, of a host that asks servers.
    #[cfg(feature = "stun")]
    pub(crate) fn stun(&self) -> Option<&StunDesk> {
        self.stun.get()
    }

    /// Has hosts looked for on the local network, if some are to be. Seldom any.
    #[cfg(feature = "mdns")]
    pub(crate) fn seek_on_lan(&self, inner: &mut Inner) {
        while let Some(eid) = inner.rendezvous.poll_lan_order() {
            if let Some(mdns) = self.mdns() {
                mdns.seek(eid);
            }
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Runs an application's call.
    ///
    /// While the driver is at work its own reading of the clock serves, so that a burst of calls costs one
    /// reading.
    pub(crate) fn call<R>(&self, f: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.driver.parked {
            inner.driver.now = self.clock.now();
        }
        inner.calls = inner.calls.wrapping_add(1);
        let now = inner.driver.now;
        let result = f(inner, now);
        let wake = inner.driver.take();
        let replaced = inner.waiters.take_replaced();
        drop(guard);
        drop(replaced);
        if self.end_if_forked() {
            return result;
        }
        if let Some(waker) = wake {
            waker.wake();
        }
        result
    }

    /// Runs what a tunnel, or a translator, has to do with the core, and lets the driver see to what comes of it.
    pub(crate) fn feed<R>(&self, f: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.driver.now = self.clock.now();
        let now = inner.driver.now;
        let result = f(inner, now);
        inner.want_driver();
        let wake = inner.driver.take();
        drop(guard);
        if let Some(waker) = wake {
            waker.wake();
        }
        result
    }

    /// Takes out who does not wait any more. What `f` returns is dropped when the host is not locked.
    pub(crate) fn tend<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.lock())
    }

    /// Runs a step of the driver, at the present time. The driver is not parked any more.
    pub(crate) fn drive<R>(&self, f: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let mut inner = self.lock();
        inner.driver.parked = false;
        let now = self.clock.now();
        inner.driver.now = now;
        inner.driver.steps = inner.driver.steps.wrapping_add(1);
        f(&mut inner, now)
    }

    /// Looks at the state, without side effects.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&Inner) -> R) -> R {
        f(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let inner = match self.inner.try_lock() {
            Ok(inner) => return inner,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.was_forked() => self.remains.get_or_init(|| {
                let mut inner = Inner::new(blank(), NOWHERE, self.clock.now());
                inner.phase = Lifecycle::Stopped;
                Mutex::new(inner)
            }),
            Err(TryLockError::WouldBlock) => &self.inner,
        };
        inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Token that keeps a host alive: every public handle holds one. When the last is gone, the driver closes the host.
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(shared))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl std::ops::Deref for Handle {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.call(|inner, _| {
            inner.phase = inner.phase.max(Lifecycle::Abandoned);
            inner.want_driver();
        });
    }
}

#[cfg(test)]
impl Shared {
    pub(crate) fn pretend_to_be_a_copy(&mut self, is_copy: bool) {
        self.process ^= u32::from(is_copy);
    }
}
