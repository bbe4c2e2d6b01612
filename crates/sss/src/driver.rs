//! The driver: moves datagrams between the socket and the core, and wakes who waits.
//!
//! One future per host does all of it, in rounds:
//!
//! 1. *receive*: what has arrived goes to the core, up to a bound ([`rounds`]), packets of channels first;
//! 2. *wake*: tasks whose operations can go on are woken, up to a bound, and the driver yields until they have run and
//!    queued what they have to say; a single task, for a single request, runs when the driver parks;
//! 3. *transmit*: the core is polled until it has nothing more to send, and acknowledgements and answers share packets;
//! 4. *park*: until the socket is ready, the core's next moment comes, or an application's call wants the driver.

pub(crate) mod addresses;
pub(crate) mod clock;
pub(crate) mod closing;
mod ending;
#[cfg_attr(not(target_os = "linux"), path = "driver/flood_elsewhere.rs")]
mod flood;
pub(crate) mod further;
pub(crate) mod key_log;
mod network;
pub(crate) mod notices;
mod notifications;
mod path_errors;
#[cfg_attr(not(unix), path = "driver/readiness_elsewhere.rs")]
mod readiness;
mod receive;
#[cfg(feature = "metrics")]
mod reporter;
mod rounds;
pub(crate) mod shards;
pub(crate) mod slots;
pub(crate) mod socket;
mod stats;
#[cfg(target_os = "linux")]
mod steering;
mod timer;
mod transmit;
pub(crate) mod wakers;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sss_proto::{Instant, Output};
use tokio::runtime::RuntimeFlavor;
use tokio::sync::oneshot;

use crate::error::BuildError;
use crate::lifecycle::Lifecycle;
use crate::redaction::cause;
use crate::shared::{Inner, Shared};
use crate::tls::{Listening, Tasks};
pub use stats::SocketStats;

use ending::End;
use flood::{Around, Flood};
use further::{Further, Takes};
use key_log::KeyLogFile;
use network::Watcher;
use notifications::Notifications;
use receive::Receiver;
use shards::Member;
use socket::{Bound, Socket};
use timer::Timer;
use transmit::Transmitter;

/// Rounds in one turn of the task, before other tasks get theirs.
const MAX_ROUNDS: usize = 16;
/// Number of times that the core is polled in one round, about.
const MAX_POLLS: usize = 64;
/// Transmissions of the core between two releases of the lock.
const MAX_GATHERED: usize = 16;
/// Number of times that the driver yields to the tasks that it woke, as long as they go on calling. On a current-thread
/// runtime they have all run after the first time; on others they run on other threads meanwhile.
const MAX_YIELDS: u8 = 32;

/// A driver about to be started.
pub(crate) struct Start {
    pub(crate) shared: Arc<Shared>,
    pub(crate) bound: Bound,
    /// Set if it watches the network of this machine.
    pub(crate) watch: bool,
    /// Set if a host with one peer takes another port when it moves.
    pub(crate) new_port_on_move: bool,
    /// The file for the secrets of channels.
    pub(crate) key_log: Option<KeyLogFile>,
    /// Place where tunnels are taken, of a server that does.
    pub(crate) tls: Option<Listening>,
    /// The other port of a server.
    pub(crate) other: Option<Bound>,
    /// Place among several shards.
    pub(crate) member: Option<Member>,
}

impl Start {
    /// Starts it as a task.
    pub(crate) fn spawn(self, runtime: &tokio::runtime::Handle) -> Result<(), BuildError> {
        let guard = runtime.enter();
        let is_one_thread = runtime.runtime_flavor() == RuntimeFlavor::CurrentThread;
        let driver = self.driver(is_one_thread).map_err(BuildError::Socket)?;
        drop(guard);
        runtime.spawn(driver);
        Ok(())
    }

    /// Starts it on a thread of its own.
    pub(crate) async fn spawn_thread(self) -> Result<(), BuildError> {
        let (started_tx, started) = oneshot::channel();
        let run = move || match self.with_runtime() {
            Ok((runtime, driver)) => {
                // The host may have been dropped while it was being built.
                let _ = started_tx.send(Ok(()));
                runtime.block_on(driver);
            }
            Err(error) => {
                let _ = started_tx.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name("sss-driver".to_owned())
            .spawn(run)
            .map_err(BuildError::Driver)?;
        started
            .await
            .map_err(|_| BuildError::Driver(io::Error::other("its thread ended")))?
            .map_err(BuildError::Driver)
    }

    fn with_runtime(self) -> io::Result<(tokio::runtime::Runtime, Driver)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let driver = self.driver(false)?;
        drop(guard);
        Ok((runtime, driver))
    }

    /// The driver, its socket and its watcher on the present runtime; on one thread with the application, if that is
    /// set.
    fn driver(self, is_one_thread: bool) -> io::Result<Driver> {
        // Loopback does not change.
        let watch = self.watch && !self.bound.local_addr().ip().is_loopback();
        let watcher = watch.then(|| Watcher::start(&self.shared));
        self.shared
            .drive(|inner, _| inner.moving.takes_new_port = self.new_port_on_move);
        let notifications = Notifications::new(self.key_log);
        let tunnels = Tasks::start(self.tls, &self.shared)?;
        let mut further = Further::default();
        if let Some(other) = self.other {
            let port = other.local_addr().port();
            further.add(other, Takes::Leases)?;
            self.shared.drive(|inner, _| inner.rendezvous.set_other_port(port));
        }
        let socket = Socket::new(self.bound)?;
        let shared = Arc::downgrade(&self.shared);
        socket.translation().on_found(move || {
            if let Some(host) = shared.upgrade() {
                host.feed(Inner::on_translator);
            }
        });
        let mut intake = Intake::new(&self.shared, further, tunnels, self.member);
        intake.receiver.set_one_thread(is_one_thread);
        Ok(Driver::new(self.shared, (socket, intake), watcher, notifications))
    }
}

/// The future that runs a host. It ends when the host has been closed, or all its handles are gone.
///
/// The fields are dropped in their order: the sockets before those are told who wait for the end.
struct Driver {
    shared: Arc<Shared>,
    intake: Intake,
    socket: Socket,
    transmitter: Transmitter,
    timer: Timer,
    notifications: Notifications,
    step: Step,
    stats: SocketStats,
    /// Closes the host when nobody is left to do it.
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Set if the host is to notice changes of the network by itself.
    watcher: Option<Watcher>,
    #[cfg(feature = "metrics")]
    _reporter: reporter::Reporter,
    _end: End,
}

/// The ways by which packets come in.
struct Intake {
    flood: Flood,
    receiver: Receiver,
    further: Further,
    tunnels: Tasks,
}

impl Intake {
    fn new(shared: &Shared, further: Further, tunnels: Tasks, member: Option<Member>) -> Self {
        Self {
            // Where shards share the port, no other socket does.
            flood: Flood::new(member.is_none()),
            receiver: Receiver::of(shared).with_place(member),
            further,
            tunnels,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Receive,
    Settle(Settle),
    Transmit,
}

/// The tasks that were woken are running.
#[derive(Clone, Copy, Debug)]
struct Settle {
    /// Calls made before the last yield.
    calls: u64,
    yields: u8,
}

/// Consequence of a step.
enum Next {
    Step(Step),
    /// Other tasks run first.
    Yield(Step),
    /// Nothing to do before somebody wakes the task.
    Wait,
    Stop,
}

/// Polls the core until what it gives out is no transmission, or enough is gathered. Counts in `polls` how often.
fn gather(inner: &mut Inner, now: Instant, transmitter: &mut Transmitter, polls: &mut usize) -> Output {
    let mut left = MAX_GATHERED;
    loop {
        *polls += 1;
        let output = inner.poll(now, transmitter.buf());
        let Output::Transmit(transmit) = output else {
            return output;
        };
        if !inner.send_through(&transmit, transmitter.buf().filled()) {
            transmitter.accept(transmit);
        }
        left -= 1;
        if left == 0 || !transmitter.has_room() {
            return output;
        }
    }
}

/// Output of the core for the driver.
enum Polled {
    Filled,
    Notifications,
    Parked(Option<Instant>),
    /// Something rare has come up since it was last looked for.
    Interrupted,
    Stopped,
}

impl Driver {
    fn new(
        shared: Arc<Shared>,
        (socket, intake): (Socket, Intake),
        watcher: Option<Watcher>,
        notifications: Notifications,
    ) -> Self {
        Self {
            transmitter: Transmitter::new(&socket),
            intake,
            timer: Timer::new(),
            notifications,
            step: Step::Receive,
            stats: SocketStats::default(),
            closing: None,
            watcher,
            #[cfg(feature = "metrics")]
            _reporter: reporter::Reporter::start(&shared),
            _end: End::new(&shared),
            shared,
            socket,
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Next {
        let (flood, mut around) = self.flood();
        flood.take(cx, &mut around);
        let sockets = (&mut self.socket, &mut self.intake.further);
        self.intake.receiver.run(cx, sockets, &self.shared, &mut self.stats);
        let notifications = &mut self.notifications;
        let hints = self.socket.take_hints();
        // On a multi-thread runtime, a driver that yields is stolen by another worker, which is woken for that: much
        // work for one request. The task wakes the driver by its call, on the same worker.
        let is_for_one = self.intake.receiver.is_for_one();
        let (calls, denied, now) = self.shared.drive(|inner, now| {
            for (remote, hint) in hints {
                inner.core.note_path(now, remote.into(), hint);
            }
            while let Some(event) = inner.poll_event(now) {
                notifications.take(inner, event);
            }
            (inner.calls, inner.core.greetings_denied(), now)
        });
        self.intake.receiver.count(now, calls);
        self.intake.receiver.spread(&self.notifications.take_strays());
        let (flood, mut around) = self.flood();
        flood.watch(denied, now, &mut around);
        let is_for_one = is_for_one && self.notifications.waiting() == 1;
        if self.wake() && !is_for_one {
            Next::Yield(Step::Settle(Settle { calls, yields: 1 }))
        } else {
            Next::Step(Step::Transmit)
        }
    }

    /// The guard against floods, and the parts of the driver that it needs.
    fn flood(&mut self) -> (&mut Flood, Around<'_>) {
        let around = Around {
            socket: &self.socket,
            receiver: &mut self.intake.receiver,
            shared: &self.shared,
            stats: &mut self.stats,
        };
        (&mut self.intake.flood, around)
    }

    fn settle(&self, before: Settle) -> Next {
        let calls = self.shared.look(|inner| inner.calls);
        if calls == before.calls || before.yields >= MAX_YIELDS {
            return Next::Step(Step::Transmit);
        }
        Next::Yield(Step::Settle(Settle {
            calls,
            yields: before.yields + 1,
        }))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Next {
        let mut polls = 0;
        // What the socket did not take the last time.
        if self.flush(cx).is_pending() {
            return self.wait_for_socket(cx);
        }
        while polls < MAX_POLLS {
            let polled = self.poll_core(cx, &mut polls);
            let goes_on = matches!(polled, Polled::Filled | Polled::Notifications);
            if goes_on && self.transmitter.has_room() {
                continue;
            }
            if self.flush(cx).is_pending() {
                return self.wait_for_socket(cx);
            }
            match polled {
                Polled::Filled | Polled::Notifications => {}
                Polled::Parked(at) => return self.park(cx, at),
                Polled::Interrupted => return Next::Yield(Step::Receive),
                Polled::Stopped => return Next::Stop,
            }
        }
        if self.flush(cx).is_pending() {
            return self.wait_for_socket(cx);
        }
        // More is left to send; but acknowledgements may have arrived.
        Next::Step(Step::Receive)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sockets = (&mut self.socket, &mut self.intake.further);
        self.transmitter.flush(cx, sockets, &mut self.stats)
    }

    /// Polls the core until there is enough for the socket, or something else. Counts in `polls` how often.
    fn poll_core(&mut self, cx: &Context<'_>, polls: &mut usize) -> Polled {
        let told = self.watcher.as_ref().filter(|_| self.socket.take_sign());
        if let Some(watcher) = told {
            watcher.note_told();
        }
        let is_sign = told.is_some();
        let Self {
            transmitter,
            notifications,
            ..
        } = self;
        let stats = self.stats;
        let (mut replaced, mut orders, mut sockets) = (None, Vec::new(), Vec::new());
        let polled = self.shared.drive(|inner, now| {
            inner.socket = stats;
            inner.moving.is_due |= is_sign;
            match gather(inner, now, transmitter, polls) {
                Output::Transmit(_) => Polled::Filled,
                Output::Event(event) => {
                    notifications.take(inner, event);
                    Polled::Notifications
                }
                Output::Wake(at) => {
                    #[cfg(feature = "mdns")]
                    self.shared.seek_on_lan(inner);
                    #[cfg(feature = "redis")]
                    self.shared.order_directory(inner);
                    #[cfg(feature = "turn")]
                    if inner.obey_turn_orders(now) {
                        return Polled::Notifications;
                    }
                    orders = inner.tunnel_orders();
                    sockets = inner.socket_orders();
                    if inner.phase == Lifecycle::ShuttingDown && inner.core.is_idle() {
                        let is_over = inner.rendezvous.leave(now, &mut inner.core);
                        return match inner.core.is_idle() {
                            true if is_over => Polled::Stopped,
                            true => Polled::Parked(at),
                            false => Polled::Notifications,
                        };
                    }
                    // Nobody wakes a driver that is at work: it would sleep over what came up meanwhile.
                    if inner.is_abandoned() || inner.moving.is_due {
                        return Polled::Interrupted;
                    }
                    // Those who are about to be woken will call, and need not wake the driver.
                    if notifications.is_quiet() {
                        replaced = inner.park(cx.waker());
                    }
                    Polled::Parked(at)
                }
            }
        });
        drop(replaced);
        if !orders.is_empty() {
            self.intake.tunnels.obey(orders, &self.shared);
        }
        if !sockets.is_empty() && !matches!(polled, Polled::Stopped) {
            self.intake.further.obey(sockets, &self.shared);
            return Polled::Notifications;
        }
        polled
    }

    /// The socket's send buffer is full: goes on when it is not, or when something arrives.
    fn wait_for_socket(&mut self, cx: &mut Context<'_>) -> Next {
        if self.is_wanted(cx) {
            return Next::Step(Step::Receive);
        }
        Next::Wait
    }

    fn park(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Next {
        if self.is_wanted(cx) {
            return Next::Step(Step::Receive);
        }
        let at = at.map(|at| self.shared.clock().to_std(at));
        if self.timer.poll(cx, at).is_ready() {
            return Next::Step(Step::Transmit);
        }
        self.step = Step::Receive;
        Next::Wait
    }

    /// Returns whether there is somebody to wake or something to take in; else the task of `cx` is woken when something
    /// arrives.
    fn is_wanted(&mut self, cx: &mut Context<'_>) -> bool {
        let has_waiting = self.intake.receiver.has_waiting() || self.intake.flood.has_waiting();
        let is_further = self.intake.further.poll_readable(cx).is_ready();
        !self.notifications.is_quiet() || has_waiting || is_further | self.socket.poll_readable(cx).is_ready()
    }

    /// Wakes those whose time has come. False if there are none.
    fn wake(&mut self) -> bool {
        let limit = self.intake.receiver.woken(self.notifications.waiting());
        self.notifications.deliver(self.shared.eid(), limit)
    }

    /// Sees to what is rare: a changed network, and a host that nobody holds any more.
    fn attend(&mut self, cx: &mut Context<'_>) {
        let look = |inner: &Inner| (inner.is_abandoned(), inner.moving.is_due);
        let (abandoned, network_changed) = self.shared.look(look);
        if network_changed {
            self.on_network_change();
        }
        if abandoned && self.closing.is_none() {
            let shared = Arc::clone(&self.shared);
            self.closing = Some(Box::pin(async move {
                closing::finish(&shared, closing::TIMEOUT).await;
            }));
        }
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = Some(Box::pin(std::future::pending()));
        }
    }
}

impl Driver {
    /// Returns whether the port is to be another one, too: nobody but one peer needs it, and the way there has changed.
    fn moved_alone(&self) -> bool {
        let bound = self.socket.local_addr();
        let path = self.shared.look(Inner::sole_path);
        path.is_some_and(|(remote, local)| addresses::has_moved(remote, local, bound))
    }

    /// The network of this machine has changed: a socket whose address is gone is replaced, and the core told.
    fn on_network_change(&mut self) {
        self.stats.network_changes += 1;
        // The second socket has the address and the port of this one.
        let (flood, mut around) = self.flood();
        flood.end(&mut around);
        let port = self.moved_alone().then_some(0);
        let rebound = match port {
            Some(port) => self.socket.rebind(port).map(|()| true),
            None => self.socket.rebind_if_stranded(),
        };
        match rebound {
            Ok(rebound) => self.stats.rebinds += u64::from(rebound),
            Err(error) => tracing::warn!(error = cause(&error), "no other socket can be bound"),
        }
        if let Err(error) = self.socket.on_network_change() {
            tracing::warn!(%error, "the socket cannot be set up anew");
        }
        self.transmitter.adapt(&self.socket);
        let (stats, local_addr) = (self.stats, self.socket.local_addr());
        self.shared.drive(|inner, now| {
            inner.socket = stats;
            inner.on_network_change(now, local_addr, port.is_some());
        });
        #[cfg(feature = "port-mapping")]
        if let Some(desk) = self.shared.desk() {
            desk.note_change();
        }
        #[cfg(feature = "mdns")]
        if let Some(mdns) = self.shared.mdns() {
            mdns.desk().note_change();
        }
        #[cfg(feature = "stun")]
        if let Some(stun) = self.shared.stun() {
            stun.desk().note_change();
        }
        // A new socket has to be asked for what arrives.
        self.step = Step::Receive;
    }
}

impl Driver {
    /// One turn of the task.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.is_in_copy() {
            self.shared.end_in_copy();
            // Nothing is dropped: sockets and what waits for them are those of the first process too.
            return Poll::Pending;
        }
        self.attend(cx);
        for _ in 0..MAX_ROUNDS {
            let next = match self.step {
                Step::Receive => self.receive(cx),
                Step::Settle(before) => self.settle(before),
                Step::Transmit => self.transmit(cx),
            };
            match next {
                Next::Step(step) => self.step = step,
                Next::Yield(step) => {
                    self.step = step;
                    break;
                }
                Next::Wait => return Poll::Pending,
                Next::Stop => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        ending::caught(|| this.turn(cx)).unwrap_or_else(|panic| {
            ending::fail(&this.shared, &*panic, &mut this.notifications);
            Poll::Ready(())
        })
    }
}

#[cfg(test)]
mod tests;
