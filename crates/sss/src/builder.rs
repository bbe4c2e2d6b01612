//! Building of a host.

mod binding;
mod checks;
#[cfg(any(feature = "stun", feature = "turn"))]
mod outside;
mod sharded;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sss_crypto::Suite;
use sss_proto::{Config, Congestion, Entropy, Padding, PeerLimits, PostQuantum, Route, WindowConfig};
#[cfg(feature = "mdns")]
use sss_reach::mdns::PATIENCE;
use sss_reach::{LeaseAt, RelayUse, Spraying};
use sss_wire::Eid;

use binding::{bind_default, parse};

use crate::driver::further::bind_other;
use crate::driver::key_log::KeyLogFile;
use crate::driver::{Start, socket};
use crate::error::BuildError;
use crate::hint::Hint;
use crate::host::Host;
use crate::identity::Identity;
#[cfg(feature = "port-mapping")]
use crate::mapping::{self, PortMapping};
#[cfg(feature = "mdns")]
use crate::mdns::{self, Mdns};
use crate::rendezvous::{self, FoundBy, RendezvousServer, Wishes};
use crate::shared::Shared;
#[cfg(feature = "stun")]
use crate::stun;

/// Place where a host's driver runs, which moves its datagrams and its timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverMode {
    /// As a task of the runtime on which the host is built: nothing moves while nobody runs that, as a current-thread
    /// runtime outside of its `block_on` ([`ConnectError::NotDriven`](crate::ConnectError::NotDriven)). It ends with
    /// that runtime.
    #[default]
    Shared,
    /// On a thread of its own, with a runtime of its own: packets move while the application's runtime is busy. Each
    /// wake of a task then crosses threads, which makes a lone request and its response slower.
    Dedicated,
}

/// Makes a [`Host`]. Everything has a default that works.
#[must_use = "a builder does nothing until `build` is called"]
pub struct HostBuilder {
    identity: Option<Identity>,
    bind: Option<String>,
    socket_buffers: usize,
    mode: DriverMode,
    watch_interfaces: bool,
    new_port_on_move: bool,
    #[cfg(feature = "port-mapping")]
    port_mapping: PortMapping,
    #[cfg(feature = "mdns")]
    mdns: Mdns,
    #[cfg(feature = "stun")]
    stun: Vec<Hint>,
    wishes: Wishes,
    config: Config,
}

/// Bytes of socket buffer asked for in each direction.
const SOCKET_BUFFERS: usize = 4 << 20;

impl Host {
    /// Begins to make a host.
    pub fn builder() -> HostBuilder {
        HostBuilder::new()
    }
}

impl HostBuilder {
    pub(crate) fn new() -> Self {
        Self {
            identity: None,
            bind: None,
            socket_buffers: SOCKET_BUFFERS,
            mode: DriverMode::default(),
            watch_interfaces: true,
            new_port_on_move: false,
            #[cfg(feature = "port-mapping")]
            port_mapping: PortMapping::default(),
            #[cfg(feature = "mdns")]
            mdns: Mdns::default(),
            #[cfg(feature = "stun")]
            stun: Vec::new(),
            wishes: Wishes::default(),
            config: Config::default(),
        }
    }

    /// Sets the identity of the host. Default: a new identity.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The address to bind, as text (`IP:PORT`, `[IP]:PORT`) or as a `SocketAddr`; port 0 takes any free
    /// one. An unspecified IPv6 address also takes IPv4. One of many hosts (multicast, broadcast) is an error of
    /// [`Self::build`].
    ///
    /// Default: `[::]:0`, or `0.0.0.0:0` where there is no IPv6.
    pub fn bind(mut self, address: impl ToString) -> Self {
        self.bind = Some(address.to_string());
        self
    }

    /// Adds a server at which this host registers, by the server's EID and a place where it is: then
    /// [`Host::connect`] reaches peers that have registered there by their EIDs alone, also through NATs. Several may
    /// be given, and several places of one. A name is looked up in the background, again and again until it is found.
    ///
    /// The server learns this host's EID and address, and whom it looks for. Where more than two are given, the host
    /// leases at the two that its EID chooses, and others in place of those that do not answer (RCH-43); see
    /// [`Self::lease_at`]. Default: none, and nothing is sent.
    pub fn rendezvous(mut self, server: Eid, at: impl Into<Hint>) -> Self {
        self.wishes.servers.push((server, at.into()));
        self
    }

    /// Sets at how many of the servers of [`Self::rendezvous`] this host leases at a time. Whoever is to ask each of
    /// them, as [`Host::search`] does, leases at all. Default: at two, [`LeaseAt::Two`].
    pub fn lease_at(mut self, lease_at: LeaseAt) -> Self {
        self.wishes.lease_at = lease_at;
        self
    }

    /// Adds the place where one of the servers of [`Self::rendezvous`] takes tunnels of TLS, such as
    /// `example.org:443`: where UDP gets no answer, all that goes to that server, and through its relay to others, goes
    /// through one (RCH-24). UDP is tried all the same, and used as soon as it works. The server is authenticated by
    /// its EID, inside: nobody looks at its certificate. A server that is named by this alone is reached by tunnels
    /// alone.
    #[cfg(feature = "tls")]
    pub fn rendezvous_tls(mut self, server: Eid, at: impl Into<Hint>) -> Self {
        self.wishes.tls.push((server, at.into().to_string()));
        self
    }

    /// Sets who is to find this host at its registration servers. Default: nobody.
    pub fn found_by(mut self, found_by: FoundBy) -> Self {
        self.wishes.found_by = found_by;
        self
    }

    /// Sets whether the router of this machine's network is asked to let the host's port in from everywhere: by PCP,
    /// NAT-PMP or UPnP, over IPv4, and by packets to the router alone. Nothing waits for it. The outer address is told
    /// to peers by the servers of [`Self::rendezvous`], once they have found that it works: then two hosts reach each
    /// other directly also where both have NATs that would not let them. [`Host::port_mapping`] tells what came of it;
    /// [`Host::close`] gives the port back. The task runs on the runtime on which the host is built.
    ///
    /// The router learns that a program takes UDP at this port, and so does who looks at its pages; what comes in there
    /// is for this host, which takes what it would take from its own network. Default: off.
    #[cfg(feature = "port-mapping")]
    pub fn port_mapping(mut self, mapping: PortMapping) -> Self {
        self.port_mapping = mapping;
        self
    }

    /// Sets whether hosts are looked for on the local network by mDNS, and whether this one is found there: then
    /// [`Host::connect`] reaches peers on the same network by their EIDs alone, without a server. Where one is, is a
    /// hint and no more: whoever answers there proves who it is. [`Host::mdns`] tells what came of it. The task runs on
    /// the runtime on which the host is built.
    ///
    /// With [`Mdns::Announce`], everybody on the network learns that a host of this protocol is there, and who knows
    /// its EID recognises it. Nobody else does, or can tell that it is the one that was seen elsewhere, or yesterday:
    /// names are random, others on each link, and others after each start. With [`Mdns::Browse`] nothing is sent unless
    /// a peer is looked for, and then not whom. Default: off.
    #[cfg(feature = "mdns")]
    pub fn mdns(mut self, mdns: Mdns) -> Self {
        self.mdns = mdns;
        self
    }

    /// Sets whether this host keeps to its local network: it sends nothing to addresses that are neither private (RFC
    /// 1918, RFC 4193), nor link-local, nor of this machine, and drops what comes from others
    /// ([`DropReason::OutsideLan`](crate::DropReason::OutsideLan)). Such an address as a hint is an error of
    /// [`Host::connect`], and so is a name, since resolvers ask others. It uses no registration server, and does not
    /// ask its router for a port: [`BuildError::LanOnly`]. Default: no.
    ///
    /// A private network may be larger than the local one, where its owner has joined several by routers or tunnels.
    pub fn lan_only(mut self, lan_only: bool) -> Self {
        self.config.lan_only = lan_only;
        self
    }

    /// Sets which use is made of the relays of its registration servers, if they relay. Default: packets go through a
    /// relay as long as they do not get through directly.
    ///
    /// With [`RelayUse::Never`], a host that only a relay would reach fails with [`Absence::OnlyRelayed`]. With
    /// [`RelayUse::Always`], nothing goes directly to anybody but its servers, and what comes so from others is dropped
    /// ([`DropReason::NotRelayed`](crate::DropReason::NotRelayed)): hints are not tried, and are an error of
    /// [`Host::connect`] where no server is asked. Such a host cannot be a server, use mDNS, or ask its router for a
    /// port: [`BuildError::RelayOnly`].
    ///
    /// [`Absence::OnlyRelayed`]: crate::Absence::OnlyRelayed
    pub fn relay(mut self, relay: RelayUse) -> Self {
        self.config.relay_only = relay == RelayUse::Always;
        self.wishes.relay = relay;
        self
    }

    /// Sets whether the ports of NATs are guessed, where packets go through a relay since one of the two hosts is
    /// behind a NAT that takes another port for each peer ("symmetric"). Both have to want it. Default: they are, after
    /// a second through the relay, with no more than 1,024 packets of 45 bytes to an address in an hour, and with up to
    /// 256 sockets for ten seconds at the host behind that NAT. [`Host::explain`] tells what came of it.
    pub fn spraying(mut self, spraying: Spraying) -> Self {
        self.wishes.spraying = spraying;
        self
    }

    /// Makes this host a registration server for others. Its identity is to be kept: with another one, all that have
    /// registered have to be told.
    pub fn serve_rendezvous(mut self, server: RendezvousServer) -> Self {
        self.wishes.serve = Some(server);
        self
    }

    /// Sets whether hosts that [`Self::accept_filter`] keeps out get no answer, and wait until their time is over; by
    /// default they are told.
    pub fn refuse_silently(mut self, silently: bool) -> Self {
        self.config.refuse_silently = silently;
        self
    }

    /// Sets whether whoever asks this host's address who is there ([`Host::probe`]) is told its EID, as long as it
    /// offers a service. Default: no. Peers know the EID already, and strangers who learn it can tell that two
    /// addresses are of one host.
    pub fn answer_probes(mut self, answer: bool) -> Self {
        self.config.answer_probes = answer;
        self
    }

    /// Decides which peers may connect to this host, before any state is kept for them. A peer that may not, and has
    /// proven its identity, is told so ([`NegotiationError::Forbidden`](crate::NegotiationError::Forbidden)). The
    /// filter must not block, and must not use the host. It is given the peer's EID and the route that it came by.
    ///
    /// Default: all may.
    pub fn accept_filter(mut self, filter: impl Fn(&Eid, Route) -> bool + Send + Sync + 'static) -> Self {
        self.config.accept_filter = Some(Arc::new(filter));
        self
    }

    /// Sets a name, of at most 64 bytes, that tells this host from others with the same identity and the same port,
    /// such as replicas behind one name: else one of them could end the channels of another (a stateless reset,
    /// PRT-11). It is to be the same after a restart. Default: empty.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.config.instance = name.into();
        self
    }

    /// Sets how much a peer may send before the application reads it: the defaults, with some of them changed.
    ///
    /// ```
    /// # async fn f() -> Result<(), sss::BuildError> {
    /// let window = sss::WindowConfig::default().with(|window| {
    ///     window.per_peer_budget = 16 << 20;
    ///     window.per_host_budget = 64 << 20;
    /// });
    /// let host = sss::Host::builder().window(window).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn window(mut self, window: WindowConfig) -> Self {
        self.config.window = window;
        self
    }

    /// Sets how many streams of one peer may wait for one service to accept them. More are refused with
    /// [`Refusal::Backlog`](crate::Refusal::Backlog). Default: 1024.
    pub fn backlog(mut self, streams: usize) -> Self {
        self.config.streams.backlog = streams;
        self
    }

    /// Sets how many trees peers may begin with this host, each with its channels: of one EID, of one network, and in
    /// all. Default: 128, 16,384 and 131,072.
    pub fn peer_limits(mut self, limits: PeerLimits) -> Self {
        self.config.peers = limits;
        self
    }

    /// Sets how many streams that one peer opened, and that all peers opened together, are kept at a time, with those
    /// that were refused and of which the peer has not agreed to that yet. More are refused with
    /// [`Refusal::TooMany`](crate::Refusal::TooMany). Default: 1,048,576 and 4,194,304.
    pub fn max_streams(mut self, per_peer: u64, per_host: u64) -> Self {
        self.config.streams.per_peer = per_peer;
        self.config.streams.per_host = per_host;
        self
    }

    /// Largest datagram on a stream that is taken, in bytes, at most 64 MiB; 0: none. Peers are told. Default: 1 MiB.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.config.window.max_message = bytes;
        self
    }

    /// A channel ends when nothing was heard from the peer for this long; the shorter of both sides'
    /// times counts. Zero: never. Default: 60 s. Streams wait for another one: see [`Self::linger`].
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// Sets how long streams wait when their peer cannot be reached, before they fail with
    /// [`crate::CloseReason::Idle`]. Meanwhile the peer is looked for at every address known. Zero: streams end
    /// with their channel, as TCP connections do. Default: 5 min.
    pub fn linger(mut self, time: Duration) -> Self {
        self.config.linger = time;
        self
    }

    /// Sets how old a channel becomes before it is replaced by one with new keys, onto which its streams move. Zero:
    /// never. Default: 30 min.
    pub fn renew(mut self, age: Duration) -> Self {
        self.config.renew = age;
        self
    }

    /// While a stream is open, a silent peer is asked for a sign of life this often, or each half of
    /// [`Self::idle_timeout`] if that is less. Zero: never. Default: 15 s.
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.config.keepalive = interval;
        self
    }

    /// Sets how long to try to reach a peer: more than zero. Default: 60 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Largest UDP payload that is sent or accepted, in bytes, from 1232 to 65,507: the upper end of the search
    /// for the path MTU.
    pub fn max_datagram(mut self, bytes: u16) -> Self {
        self.config.max_datagram = bytes;
        self
    }

    /// Sets the congestion control: how it is found how fast this host may send. Peers choose for themselves. Default:
    /// [`Congestion::Cubic`].
    ///
    /// ```
    /// # async fn f() -> Result<(), sss::BuildError> {
    /// let host = sss::Host::builder().congestion(sss::Congestion::Bbr).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn congestion(mut self, congestion: Congestion) -> Self {
        self.config.congestion = congestion;
        self
    }

    /// Sets whether a channel begins with what an earlier one with the same peer, over the same path, found out within
    /// the hour before: after its first round trip it tries half of that window (careful resume, RFC 9959). Only what
    /// this host sends is meant. Default: yes.
    pub fn careful_resume(mut self, resume: bool) -> Self {
        self.config.careful_resume = resume;
        self
    }

    /// Size of the socket's buffers, in bytes each. The operating system may grant less. Default: 4 MiB.
    pub fn socket_buffers(mut self, bytes: usize) -> Self {
        self.socket_buffers = bytes;
        self
    }

    /// Sets the protection against those who record what is sent, and have a quantum computer later. Both hosts have a
    /// say, and nobody on the way has. Default: [`PostQuantum::Required`].
    ///
    /// ```
    /// # async fn f() -> Result<(), sss::BuildError> {
    /// let host = sss::Host::builder().post_quantum(sss::PostQuantum::Preferred).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn post_quantum(mut self, policy: PostQuantum) -> Self {
        self.config.post_quantum = policy;
        self
    }

    /// Sets the padding of all packets that this host sends, so that their sizes tell less of what is in them; what it
    /// costs, docs/security.md says. [`Stream::set_padding`](crate::Stream::set_padding) asks for more where it
    /// matters. Default: [`Padding::None`].
    ///
    /// ```
    /// # async fn f() -> Result<(), sss::BuildError> {
    /// let host = sss::Host::builder().padding(sss::Padding::Buckets).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn padding(mut self, padding: Padding) -> Self {
        self.config.padding = padding;
        self
    }

    /// Cipher suites offered and accepted, best first. Default: AES-256-GCM where the processor has
    /// instructions for it, then ChaCha20-Poly1305.
    pub fn suites(mut self, suites: Vec<Suite>) -> Self {
        self.config.suites = suites;
        self
    }

    /// Sets whether other processes with the same identity may be connected to and accepted, such as a server and a
    /// client of one account on one machine. Default: no, so that a host that dials its own address is told.
    pub fn allow_own_eid(mut self, allow: bool) -> Self {
        self.config.allow_own_eid = allow;
        self
    }

    /// Sets whether the address of a peer may change from a global to a private one on a channel that goes on. Default:
    /// no, so that nobody who has a channel can aim this host's packets at its own network. A peer that comes into this
    /// network makes a new channel from there, and its streams go on (MIG-22).
    pub fn allow_private_moves(mut self, allow: bool) -> Self {
        self.config.allow_private_moves = allow;
        self
    }

    /// Sets how many attempts to connect in a second are ordinary. Above it, initiators must prove their address before
    /// any cryptography is spent on them; of those who did, so many are served in a second, and of one network (an IPv4
    /// address, or 64 bits of an IPv6 one) a sixteenth of what is left at the moment. A host that many reach by one
    /// address, such as that of a proxy, needs more. Default 1000.
    pub fn hello_threshold(mut self, per_second: u32) -> Self {
        self.config.hello_threshold = per_second;
        self
    }

    /// Sets what peers are told about the software, at most 64 bytes: more is an error of [`Self::build`]. For
    /// information only.
    pub fn agent(mut self, text: impl Into<String>) -> Self {
        self.config.agent = text.into();
        self
    }

    /// Sets where the driver runs. Default: on the caller's runtime.
    pub fn driver(mut self, mode: DriverMode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets whether the host notices by itself when this machine's addresses, or its way to other networks, change.
    /// Channels then move to the new address, and a host that was bound to one address that is gone goes on with
    /// the unspecified address, on the same port if that is free. Switch it off if a host must never use another
    /// address than the one given to [`Self::bind`]. Packets of a channel never leave from another address than the
    /// channel has, so one whose address is gone is silent until the host moves, or is told of the change.
    ///
    /// Default: yes; a host on loopback has nothing to watch. On Linux the kernel tells; elsewhere the host looks every
    /// 5 s.
    pub fn watch_interfaces(mut self, watch: bool) -> Self {
        self.watch_interfaces = watch;
        self
    }

    /// Sets whether a host that has one peer and offers no service takes another port when the way to that peer comes
    /// to lead over another network, so that not even the port tells an observer of both that it is the same host
    /// (MIG-13). Default: no, since a firewall may let only one port pass. [`Host::local_addr`] tells the port.
    pub fn new_port_on_move(mut self, new: bool) -> Self {
        self.new_port_on_move = new;
        self
    }

    /// Sets whether the secrets of all channels are appended to the file that the variable `SSSKEYLOGFILE` of the
    /// environment names, so that captures can be read: whoever has the file reads all that is sent and received. It
    /// takes both, the variable and this; a warning in the log says so at the start. The file is made readable for its
    /// owner only; on Unix, one that others may read or write, own, or reach by another name, is refused
    /// ([`BuildError::KeyLog`]), and so is what is no regular file. The specification has its format ("Key log").
    ///
    /// Default: no, and nothing is kept for it.
    pub fn key_log(mut self, allow: bool) -> Self {
        self.config.key_log = allow;
        self
    }

    /// Binds the socket and starts the driver.
    ///
    /// Cancel safe: a cancelled build leaves nothing behind.
    ///
    /// # Errors
    /// If a setting is out of range, the address is malformed, taken or not of this machine, or the system refuses a
    /// resource.
    ///
    /// # Panics
    /// On a tokio runtime without I/O or time (`enable_all`).
    pub async fn build(mut self) -> Result<Host, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        self.check()?;
        let key_log = self.key_log_file()?;
        self.config.key_log = key_log.is_some();
        let socket = match &self.bind {
            Some(text) => socket::bind(parse(text)?, self.socket_buffers)?,
            None => bind_default(self.socket_buffers)?,
        };
        self.config.port = socket.local_addr().port();
        let entropy = entropy()?;
        let identity = self.identity.unwrap_or_else(Identity::generate);
        let (lan_only, connect_timeout) = (self.config.lan_only, self.config.connect_timeout);
        #[cfg(feature = "mdns")]
        if self.mdns != Mdns::Off {
            self.config.lan_search = PATIENCE;
            self.wishes.searches_lan = true;
        }
        self.config.seeks = self.wishes.is_any();
        let tls = self.wishes.listen()?;
        let other = self.wishes.serve.as_ref().and_then(|_| bind_other(socket.local_addr()));
        #[cfg(feature = "redis")]
        let directory = self.wishes.serve.as_mut().and_then(|server| server.directory.take());
        #[cfg(feature = "turn")]
        let turn = self.wishes.turn.clone();
        let (rendezvous, unresolved) = self.wishes.split(&identity.key());
        if !rendezvous.register.is_legal() {
            return Err(BuildError::Listing);
        }
        #[cfg(feature = "port-mapping")]
        let ports = (self.port_mapping == PortMapping::On).then(|| mapping::OuterPorts::of(&identity.key()));
        let core = sss_proto::Host::new(self.config, identity.key(), entropy);
        let shared = Arc::new(Shared::new(core, socket.local_addr()).keeping_to(lan_only, connect_timeout));
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(BuildError::Entropy)?;
        shared.drive(|inner, now| inner.begin_rendezvous(now, rendezvous, &seed));
        // Cancelled from now on, the driver finds that nobody holds the host.
        let host = Host::new(Arc::clone(&shared));
        let start = Start {
            shared,
            bound: socket,
            watch: self.watch_interfaces,
            new_port_on_move: self.new_port_on_move,
            key_log,
            tls,
            other,
            member: None,
        };
        rendezvous::look_up(unresolved, host.shared());
        #[cfg(feature = "redis")]
        if let Some(directory) = directory {
            crate::directory::start(host.shared(), directory, &host.local_addrs());
        }
        #[cfg(feature = "port-mapping")]
        if let Some(ports) = ports {
            mapping::start(host.shared(), ports);
        }
        #[cfg(feature = "turn")]
        crate::turn::start(host.shared(), turn);
        #[cfg(feature = "mdns")]
        if self.mdns != Mdns::Off {
            mdns::start(host.shared(), self.mdns);
        }
        #[cfg(feature = "stun")]
        if !self.stun.is_empty() {
            stun::start(host.shared(), self.stun);
        }
        match self.mode {
            DriverMode::Shared => start.spawn(&runtime)?,
            DriverMode::Dedicated => start.spawn_thread().await?,
        }
        Ok(host)
    }

    /// The file for secrets, if program and environment agree that there is to be one.
    fn key_log_file(&self) -> Result<Option<KeyLogFile>, BuildError> {
        if self.config.key_log {
            KeyLogFile::of_environment()
        } else {
            Ok(None)
        }
    }
}

impl fmt::Debug for HostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostBuilder")
            .field("identity", &self.identity)
            .field("bind", &self.bind)
            .field("mode", &self.mode)
            .field("watch_interfaces", &self.watch_interfaces)
            .finish_non_exhaustive()
    }
}

/// Entropy of the system, if it gives any.
fn entropy() -> Result<Entropy, BuildError> {
    getrandom::fill(&mut [0; 32]).map_err(BuildError::Entropy)?;
    Ok(Entropy::new(|bytes| {
        if let Err(error) = getrandom::fill(bytes) {
            tracing::error!(%error, "the system gives no entropy");
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_that_peers_would_refuse_are_refused_here() {
        let window = WindowConfig::default().with(|w| w.root = 1000);
        let built = HostBuilder::new().bind("127.0.0.1:0").window(window).build().await;
        let shown = built.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(shown.contains("window.root must be at least 65536"), "{shown}");
    }
}
