//! The host as an application holds it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sss_proto::{HostStats, ListenError, is_lan};
use sss_reach::server::ServerStats;
use sss_reach::{Referral, Registration};
use sss_wire::Eid;
use tokio::time::{Instant, timeout_at};

use crate::connect::{Connect, time_after};
use crate::driver::{SocketStats, addresses, closing};
use crate::error::{HostCloseError, ProbeError};
use crate::hint;
use crate::lifecycle::Lifecycle;
use crate::peer::Peer;
use crate::server::Server;
use crate::service_builder::ServiceBuilder;
use crate::services_of::{self, ServicesOf};
use crate::shared::{Handle, Inner, Shared};
use crate::waiting::Answer;

/// The first wait for an answer to a probe; it doubles each time.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Time for the router to take a port back, and for the local network to be told, when the host is closed.
#[cfg(any(feature = "port-mapping", feature = "mdns"))]
const GIVING_BACK: Duration = Duration::from_secs(1);

/// One holder of an identity: it opens streams to other hosts, and takes theirs.
///
/// Cheap to clone; all clones are the same host. When the last of them, and of the servers, streams and peers
/// made from them, is dropped, the host is closed in the background as [`Self::close`] does.
#[derive(Clone)]
pub struct Host {
    handle: Arc<Handle>,
}

impl Host {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            handle: Handle::new(shared),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// The public name of this host.
    pub fn eid(&self) -> Eid {
        self.handle.eid()
    }

    /// The address that the host's socket is bound to. Its IP address may be unspecified. It changes if this machine
    /// loses it (see [`HostBuilder::watch_interfaces`](crate::HostBuilder::watch_interfaces)).
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Addresses under which peers can reach this host: global ones first, then private ones, loopback last. Of a host
    /// that keeps to its local network, those of that.
    ///
    /// If the socket is bound to an unspecified address, these are the addresses of all network interfaces that are up,
    /// except the link-local ones of IPv6; what a NAT makes of them is not known here. Asks the system each time.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let mut addresses = addresses::usable(self.handle.local_addr());
        addresses.retain(|address| !self.handle.keeps_to_lan() || is_lan(address.ip()));
        addresses
    }

    /// Offers `service`, spoken as `protocol`, to peers, for as long as the server exists. With [`Self::service`], it
    /// also gets a description, and more than one protocol.
    ///
    /// # Errors
    /// If this host already offers the pair, the service is the reserved `sss`, or a name is empty or longer than 255
    /// bytes; or if the host was closed, or has failed.
    pub fn listen(&self, service: &str, protocol: &str) -> Result<Server, ListenError> {
        self.service(service).protocol(protocol, "").listen()
    }

    /// Begins to offer a service, with its protocols and descriptions:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let host = sss::Host::builder().bind("127.0.0.1:0").build().await?;
    /// let server = host
    ///     .service("files")
    ///     .describe("Files of this machine")
    ///     .protocol("sync/1", "Directory transfer")
    ///     .protocol("sync/2", "Directory transfer with deltas")
    ///     .listen()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn service(&self, name: &str) -> ServiceBuilder {
        ServiceBuilder::new(Arc::clone(&self.handle), name)
    }

    /// Asks the host `eid` what services it offers, and with which protocols. Any host that may connect to it may ask.
    ///
    /// Give at least one address as a hint unless there is a channel already; then `.await` it.
    ///
    /// # Errors
    /// When it is awaited: if the host cannot be reached, does not answer in time, or its answer makes no sense.
    pub fn services_of(&self, eid: Eid) -> ServicesOf {
        let (service, protocol) = services_of::NAMES;
        ServicesOf::new(self.connect(eid, service, protocol))
    }

    /// Opens a stream to a service of the host `eid`: over the channel there is, or by negotiating one.
    ///
    /// Give at least one address as a hint unless there is a channel already; then `.await` it.
    pub fn connect(&self, eid: Eid, service: &str, protocol: &str) -> Connect {
        Connect::new(Arc::clone(&self.handle), eid, service, protocol)
    }

    /// Asks who is at an address.
    ///
    /// The answer is not authenticated: anybody on the path can give it. Connecting to the EID afterwards proves
    /// that the host holds its key (NEG-14).
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If nobody answers in time, this host cannot or does not ask there, nobody runs its driver, or it was closed or
    /// has failed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn probe(&self, address: SocketAddr, timeout: Duration) -> Result<Eid, ProbeError> {
        let address = addresses::canonical(address);
        if self.handle.keeps_to_lan() && !is_lan(address.ip()) {
            return Err(ProbeError::OutsideLan { address });
        }
        if let Some(why) = hint::useless(address, self.local_addr()) {
            return Err(ProbeError::Useless { address, why });
        }
        let deadline = time_after(timeout);
        let mut interval = PROBE_INTERVAL;
        let shared = self.handle.shared();
        let steps = shared.look(Inner::steps);
        let mut answer = shared.call(|inner, _| Answer::probe(shared, inner, address));
        loop {
            let (running, asked) = self.handle.call(|inner, _| {
                let asked = inner.core.probe(address.into());
                inner.want_driver();
                (inner.phase.check(), asked)
            });
            running?;
            if !asked {
                return Err(ProbeError::NotRelayed { address });
            }
            let until = deadline.min(Instant::now() + interval);
            match timeout_at(until, &mut answer).await {
                Ok(Some(eid)) => return Ok(eid),
                Ok(None) => return Err(shared.look(|inner| inner.phase.end()).into()),
                Err(_) if Instant::now() >= deadline => break,
                Err(_) => interval *= 2,
            }
        }
        let after = timeout;
        match shared.look(Inner::steps) == steps {
            true => Err(ProbeError::NotDriven { after }),
            false => Err(ProbeError::NoAnswer { address, after }),
        }
    }

    /// An address at which the host `eid` may be found: tried at once if that host does not answer where it was, and
    /// remembered for when it does not. The latest 8 are kept. Without streams to the host nothing happens; give
    /// the address to [`Self::connect`] then. Nor does anything happen if this host can send nothing there: see
    /// [`Connect::hint`].
    pub fn add_hint(&self, eid: Eid, address: SocketAddr) {
        self.handle.call(|inner, now| {
            if hint::useless(addresses::canonical(address), inner.local_addr).is_some() {
                return;
            }
            inner.core.add_hints(now, &eid, &[addresses::canonical(address).into()]);
            inner.want_driver();
        });
    }

    /// Tells the host that the network of this machine has changed: a socket whose address is gone is bound anew, and
    /// peers towards which this machine now uses another address are reached on new channels, onto which their
    /// streams move.
    ///
    /// A host notices by itself, unless [`crate::HostBuilder::watch_interfaces`] was switched off.
    pub fn network_changed(&self) {
        self.handle.call(|inner, _| inner.note_network_change());
    }

    /// The peers with an established channel.
    pub fn peers(&self) -> Vec<Peer> {
        let mut peers = self.handle.call(|inner, _| {
            let mut peers = inner.core.peers();
            peers.retain(|(id, _)| inner.core.is_connected(*id) == Some(true));
            peers
        });
        peers.sort_unstable_by_key(|(_, eid)| *eid);
        peers
            .into_iter()
            .map(|(id, eid)| Peer::new(Arc::clone(&self.handle), id, eid))
            .collect()
    }

    /// The peer `eid`, if there is an established channel to it.
    pub fn peer(&self, eid: &Eid) -> Option<Peer> {
        self.peers().into_iter().find(|peer| peer.eid() == *eid)
    }

    /// The time when the tree was begun on which new streams to an EID are opened.
    pub(crate) fn begun_with(&self, eid: &Eid) -> Option<std::time::Instant> {
        let begun = self.handle.call(|inner, _| sss_proto::begun_with(&inner.core, eid))?;
        Some(self.shared().clock().to_std(begun))
    }

    /// Returns what the host has received, sent and dropped.
    pub fn stats(&self) -> HostStats {
        self.handle.call(|inner, _| inner.core.stats())
    }

    /// Addresses of this host as its registration servers see them, each with the server's EID. Those are left out that
    /// this host is not registered with now.
    pub fn observed_addrs(&self) -> Vec<(Eid, SocketAddr)> {
        self.handle.call(|inner, _| inner.rendezvous.observed())
    }

    /// The state of the registration with each of the host's servers, in the order in which they were named: why it has
    /// failed, if it has. Few: it may be asked often.
    pub fn registrations(&self) -> Vec<Registration> {
        self.handle.call(|inner, _| inner.rendezvous.registrations())
    }

    /// The registration servers that have named a way to a peer of late; of the latest thousand peers.
    pub fn found_by(&self, eid: &Eid) -> Vec<Eid> {
        self.handle.call(|inner, _| inner.rendezvous.found_by(eid))
    }

    /// The latest registration server that another one has named for a peer, and what came of it (RCH-44): of late, and
    /// not for more than 64 peers.
    pub fn referral(&self, eid: &Eid) -> Option<Referral> {
        self.handle.call(|inner, _| inner.rendezvous.referral(eid))
    }

    /// Returns what the registration server that this host is has done. `None` if it is none.
    pub fn rendezvous_stats(&self) -> Option<ServerStats> {
        self.handle.call(|inner, _| inner.rendezvous.server_stats())
    }

    /// Returns what went through the host's tunnels of TLS, and what became of them.
    #[cfg(feature = "tls")]
    pub fn tunnel_stats(&self) -> crate::tunnels::TunnelStats {
        self.handle.call(|inner, _| inner.tunnels.stats())
    }

    /// The address where this host, a registration server, takes tunnels of TLS. `None` if it takes none.
    #[cfg(feature = "tls")]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.handle.call(|inner, _| inner.tunnels.listens_at)
    }

    /// Returns what is known of the host's TURN servers, in the order in which they were named.
    #[cfg(feature = "turn")]
    pub fn turn(&self) -> Vec<crate::turn::TurnReport> {
        self.handle.call(|inner, _| inner.turns.reports())
    }

    /// Asks the host's TURN servers for an allocation, whether one is needed or not, and keeps it: for those who want
    /// to know whether they are of use. [`Self::turn`] tells.
    #[cfg(feature = "turn")]
    pub fn try_turn(&self) {
        self.handle.call(|inner, _| inner.turns.try_one());
    }

    /// Returns how often the host's socket was used, and what it refused.
    pub fn socket_stats(&self) -> SocketStats {
        self.handle.call(|inner, _| inner.socket)
    }

    /// As [`Self::close_within`] 10 seconds.
    ///
    /// # Errors
    /// If not everything that was finished is known to have arrived.
    pub async fn close(&self) -> Result<(), HostCloseError> {
        self.close_within(closing::TIMEOUT).await
    }

    /// Ends the host: opens and accepts nothing more, waits at most `timeout` until the peers have acknowledged
    /// everything on the streams that were finished, closes all channels, and waits until they are gone.
    ///
    /// Streams that are not finished are lost; they end with [`crate::CloseReason::Local`] here and `Peer` there.
    ///
    /// Cancelled before it has closed the channels, it leaves the host without new streams but otherwise at work;
    /// call it again, or drop the host.
    ///
    /// # Errors
    /// If not everything that was finished is known to have arrived, or the host has failed before. It is closed all
    /// the same.
    pub async fn close_within(&self, timeout: Duration) -> Result<(), HostCloseError> {
        let streams = closing::finish(self.handle.shared(), timeout).await;
        #[cfg(feature = "stun")]
        if let Some(stun) = self.handle.stun() {
            stun.desk().close();
        }
        tokio::join!(
            closing::stopped(self.handle.shared()),
            self.give_port_back(),
            self.leave_lan()
        );
        self.give_turn_back().await;
        match self.has_failed() {
            false if streams == 0 => Ok(()),
            has_failed => Err(HostCloseError { streams, has_failed }),
        }
    }

    /// Gives the address of a TURN server back, if there is one: by now nothing leaves from there. Takes half a second
    /// at most.
    async fn give_turn_back(&self) {
        #[cfg(feature = "turn")]
        if let Some(ended) = self.handle.shared().look(|inner| inner.turns.close()) {
            let _ = tokio::time::timeout(crate::turn::GIVING_BACK, ended.notified()).await;
        }
    }

    /// Gives the router's port back, if it lets one in for this host. Takes a second at most.
    async fn give_port_back(&self) {
        #[cfg(feature = "port-mapping")]
        if let Some(desk) = self.handle.desk() {
            desk.close();
            let _ = tokio::time::timeout(GIVING_BACK, desk.ended()).await;
        }
    }

    /// Tells the local network that the host goes, if it has announced itself there.
    async fn leave_lan(&self) {
        #[cfg(feature = "mdns")]
        if let Some(mdns) = self.handle.mdns() {
            mdns.desk().close();
            let _ = tokio::time::timeout(GIVING_BACK, mdns.desk().ended()).await;
        }
    }

    /// Tells what came of mDNS. `None` if the host does not use it: see
    /// [`HostBuilder::mdns`](crate::HostBuilder::mdns).
    #[cfg(feature = "mdns")]
    pub fn mdns(&self) -> Option<crate::MdnsReport> {
        self.handle.mdns().map(|mdns| mdns.desk().report())
    }

    /// Asks on the local network which hosts of this protocol are there, if mDNS is on, as for a host that nobody is.
    /// What is heard within 15 s counts in [`MdnsReport::instances`](crate::MdnsReport::instances).
    #[cfg(feature = "mdns")]
    pub fn survey_lan(&self) {
        if let Some(mdns) = self.handle.mdns() {
            mdns.seek(crate::mdns::nobody());
        }
    }

    /// Tells what came of asking the router to let this host's port in. `None` if the host does not ask: see
    /// [`HostBuilder::port_mapping`](crate::HostBuilder::port_mapping).
    ///
    /// Whether the port is reached from outside, each registration tells
    /// ([`RegistrationState::Registered`](crate::RegistrationState::Registered)).
    #[cfg(feature = "port-mapping")]
    pub fn port_mapping(&self) -> Option<crate::MappingReport> {
        self.handle.desk().map(|desk| desk.report())
    }

    /// Tells what the host's STUN servers see. `None` if it asks none: see
    /// [`HostBuilder::stun`](crate::HostBuilder::stun).
    #[cfg(feature = "stun")]
    pub fn stun(&self) -> Option<crate::StunReport> {
        self.handle.stun().map(|stun| stun.desk().report())
    }

    /// Addresses at which the host is seen from outside, as its STUN servers say, beside those of
    /// [`Self::local_addrs`]: at most one of IPv4 and one of IPv6. None where they contradict each other, since a NAT
    /// that takes another port for each peer makes them useless, and where no server is asked. Others may try them as
    /// hints; whether they get through depends on the NAT.
    #[cfg(feature = "stun")]
    pub fn outside_addrs(&self) -> Vec<SocketAddr> {
        let own = addresses::usable(self.handle.local_addr());
        self.stun().map_or_else(Vec::new, |report| report.outside(&own))
    }

    /// Ends when the host has stopped and its port is free: some time after [`Self::close`] was called, or the last
    /// handle was dropped, or at once when its driver has panicked, or ended with its runtime. [`Self::close`] waits
    /// for it too, so this is for whoever drops the host without closing it:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sss::BuildError> {
    /// # use sss::Host;
    /// let host = Host::builder().bind("127.0.0.1:0").build().await?;
    /// let (port, stopped) = (host.local_addr(), host.stopped());
    /// drop(host);
    /// stopped.await;
    /// let host = Host::builder().bind(port).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The future does not keep the host alive, and never ends as long as something else does. Cancel safe.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let end = closing::end(self.handle.shared());
        async move {
            end.await;
        }
    }

    /// Returns whether the host was closed, has failed, or its driver has ended with its runtime.
    pub fn is_closed(&self) -> bool {
        self.handle.call(|inner, _| inner.phase > Lifecycle::Running)
    }

    /// Returns whether the host has failed: its driver has panicked, so that nothing goes in or out any more. All that
    /// waited has been told ([`CloseReason::HostFailed`](crate::CloseReason::HostFailed), and `HostFailed` of the
    /// errors of calls), and the log has a line at level error. Another host can be built, at the same port too.
    pub fn has_failed(&self) -> bool {
        self.handle.call(|inner, _| inner.phase == Lifecycle::Failed)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("eid", &self.eid())
            .field("local_addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}
