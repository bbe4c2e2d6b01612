//! A host with several shards, as an application holds it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use sss_proto::{HostStats, ListenError};
use sss_wire::Eid;
use tokio::task::JoinSet;

use crate::connect::Connect;
use crate::driver::{SocketStats, closing};
use crate::error::HostCloseError;
use crate::host::Host;
use crate::peer::Peer;
use crate::server_set::ServerSet;
use crate::services_of::{self, ServicesOf};

/// A host whose channels are divided among several drivers, each with a socket of its own, which share one port: see
/// [`HostBuilder::build_sharded`](crate::HostBuilder::build_sharded).
///
/// A peer's channels are all of one shard, and so are its streams. Cheap to clone; all clones are the same host. Each
/// shard is closed when the last handle of it is dropped: this, its [`Self::shards`], its servers, streams and peers.
#[derive(Clone)]
pub struct ShardedHost {
    /// At least one.
    shards: Vec<Host>,
}

impl ShardedHost {
    pub(crate) fn new(shards: Vec<Host>) -> Self {
        Self { shards }
    }

    /// The shards, each as a host of its own: what is offered, accepted and counted there is of this shard alone.
    pub fn shards(&self) -> &[Host] {
        &self.shards
    }

    /// The public name of this host.
    pub fn eid(&self) -> Eid {
        self.first().eid()
    }

    /// The address that the sockets are bound to. Its IP address may be unspecified.
    pub fn local_addr(&self) -> SocketAddr {
        self.first().local_addr()
    }

    /// Addresses under which peers can reach this host: as [`Host::local_addrs`] has them.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.first().local_addrs()
    }

    /// Offers `service`, spoken as `protocol`, to peers, for as long as the servers exist: one of each shard, in the
    /// order of [`Self::shards`]. [`ServerSet::accept`] takes the streams of all of them in one loop. Where each shard
    /// has tasks of its own, offer it there: `host.shards()[n].listen(..)`, or
    /// [`Host::service`] for one with a description or several protocols. The loop ends as soon as one shard was closed
    /// or its runtime has ended, though the others go on.
    ///
    /// # Errors
    /// As [`Host::listen`]. Then nothing is offered.
    pub fn listen(&self, service: &str, protocol: &str) -> Result<ServerSet, ListenError> {
        self.shards
            .iter()
            .map(|shard| shard.listen(service, protocol))
            .collect()
    }

    /// Opens a stream to a service of a peer that has connected to this host. Such a host begins no channel itself:
    /// to another peer it fails with [`NegotiationError::Sharded`](crate::NegotiationError::Sharded). Of several hosts
    /// with one EID, or processes of it, it is the one that has connected last.
    pub fn connect(&self, eid: Eid, service: &str, protocol: &str) -> Connect {
        self.shard_of(&eid).connect(eid, service, protocol)
    }

    /// Asks a peer that has connected to this host what services it offers: see [`Host::services_of`].
    pub fn services_of(&self, eid: Eid) -> ServicesOf {
        let (service, protocol) = services_of::NAMES;
        ServicesOf::new(self.connect(eid, service, protocol))
    }

    /// The peers with an established channel, by their EIDs. One that was started again may be there twice for a while,
    /// as what it was before and as what it is.
    pub fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self.shards.iter().flat_map(Host::peers).collect();
        peers.sort_unstable_by_key(Peer::eid);
        peers
    }

    /// The peer `eid`, if there is an established channel to it: on the shard to which it has connected last.
    pub fn peer(&self, eid: &Eid) -> Option<Peer> {
        self.shard_of(eid).peer(eid)
    }

    /// Returns what all shards together have received, sent and dropped.
    pub fn stats(&self) -> HostStats {
        let mut sum = HostStats::default();
        self.shards.iter().for_each(|shard| sum.merge(&shard.stats()));
        sum
    }

    /// Returns how often the sockets were used, and what they refused, in all; and how many datagrams were handed over
    /// from one shard to another.
    pub fn socket_stats(&self) -> SocketStats {
        let mut sum = SocketStats::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.socket_stats()));
        sum
    }

    /// As [`Self::close_within`] 10 seconds.
    ///
    /// # Errors
    /// If not everything that was finished is known to have arrived.
    pub async fn close(&self) -> Result<(), HostCloseError> {
        self.close_within(closing::TIMEOUT).await
    }

    /// Ends all shards at the same time, each as [`Host::close_within`] does.
    ///
    /// # Errors
    /// If not everything that was finished is known to have arrived. The host is closed all the same.
    pub async fn close_within(&self, timeout: Duration) -> Result<(), HostCloseError> {
        let mut closing = JoinSet::new();
        for shard in self.shards.clone() {
            closing.spawn(async move { shard.close_within(timeout).await });
        }
        let closed = closing.join_all().await;
        let errors = closed.into_iter().filter_map(Result::err);
        errors.reduce(HostCloseError::and).map_or(Ok(()), Err)
    }

    /// Ends when all shards have stopped and the port is free: see [`Host::stopped`].
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped: Vec<_> = self.shards.iter().map(Host::stopped).collect();
        async move {
            for shard in stopped {
                shard.await;
            }
        }
    }

    /// Returns whether the host was closed, or a driver of it has failed, or ended with its runtime.
    pub fn is_closed(&self) -> bool {
        self.shards.iter().any(Host::is_closed)
    }

    /// Returns whether a shard has failed: see [`Host::has_failed`]. The others go on.
    pub fn has_failed(&self) -> bool {
        self.shards.iter().any(Host::has_failed)
    }

    #[expect(clippy::indexing_slicing, reason = "a host has a shard at least")]
    fn first(&self) -> &Host {
        &self.shards[0]
    }

    /// The shard that has the newest tree with a peer, with a channel at the moment or without; any if none has.
    fn shard_of(&self, eid: &Eid) -> &Host {
        let begun = self
            .shards
            .iter()
            .filter_map(|shard| Some((shard.begun_with(eid)?, shard)));
        let latest = begun.max_by_key(|(at, _)| *at);
        latest.map_or_else(|| self.first(), |(_, shard)| shard)
    }
}

impl fmt::Debug for ShardedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedHost")
            .field("eid", &self.eid())
            .field("local_addr", &self.local_addr())
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}
