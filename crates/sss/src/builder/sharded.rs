//! Building of a host with shards.

use std::net::SocketAddr;
use std::sync::Arc;

use sss_proto::{Config, Shard};
use tokio::runtime;

use super::binding::{any_port, parse};
use super::{DriverMode, HostBuilder, entropy};
use crate::driver::Start;
use crate::driver::shards::Member;
use crate::driver::socket::{self, Bound};
use crate::error::BuildError;
use crate::host::Host;
use crate::identity::Identity;
use crate::sharded_host::ShardedHost;
use crate::shared::Shared;

impl HostBuilder {
    /// Builds a host of several shards, for servers that want more than one core: each shard has a driver, a socket
    /// (all of one port, by `SO_REUSEPORT`), and channels of its own, and shares nothing with the others while data
    /// flows. Where the drivers run says [`Self::driver`]: as tasks of the present runtime, or each on a thread.
    ///
    /// Peers know nothing of it: they meet one host, with one EID, at one address. The kernel gives each datagram to
    /// the shard that it is for; what comes to another is handed over ([`SocketStats::handed_over`]).
    ///
    /// Such a host takes channels, and begins none: [`ShardedHost::connect`] reaches peers that have connected to it.
    /// Nor does it use registration servers, mDNS, STUN, TURN or its router: it is for servers with an address of their
    /// own. Limits of the whole host, [`Self::peer_limits`] but for those of an EID, [`Self::max_streams`],
    /// [`Self::hello_threshold`] and the window's budget of the host, are divided among the shards. With one shard it
    /// is a host like any other.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let host = sss::Host::builder().bind("127.0.0.1:0").build_sharded(4).await?;
    /// let echo = host.listen("echo", "echo/1")?;
    /// # tokio::spawn(async move {
    /// while let Ok(incoming) = echo.accept().await {
    ///     // A task for each stream.
    /// #     drop(incoming);
    /// }
    /// # });
    /// # Ok(())
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    ///
    /// Cancel safe: a cancelled build leaves nothing behind.
    ///
    /// # Errors
    /// As [`Self::build`]; and [`BuildError::Shards`] if there are to be none or more than 128, more than one on a
    /// system other than Linux, or something is wanted that such a host does not do.
    ///
    /// [`SocketStats::handed_over`]: crate::SocketStats::handed_over
    pub async fn build_sharded(self, shards: usize) -> Result<ShardedHost, BuildError> {
        let runtime = runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let mode = self.mode;
        let (hosts, starts) = self.prepare(shards)?;
        for start in starts {
            match mode {
                DriverMode::Shared => start.spawn(&runtime)?,
                DriverMode::Dedicated => start.spawn_thread().await?,
            }
        }
        Ok(hosts)
    }

    /// As [`Self::build_sharded`], with a shard on each of these runtimes, whatever [`Self::driver`] says. With
    /// current-thread runtimes, each on a thread and a core of its own, and the application's tasks for a shard's
    /// streams on the shard's runtime, a request is received, answered and sent on one core: nothing waits for another
    /// one, and no lock is contended. [`ShardedHost::shards`] has the shards in the order of the runtimes; each has its
    /// servers.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::runtime::Builder;
    ///
    /// let cores = [(); 2].map(|()| Builder::new_current_thread().enable_all().build());
    /// let cores = cores.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// let handles: Vec<_> = cores.iter().map(|core| core.handle().clone()).collect();
    /// let host = sss::Host::builder().bind("127.0.0.1:0").build_sharded_on(&handles)?;
    /// for (core, shard) in cores.into_iter().zip(host.shards()) {
    ///     let echo = shard.listen("echo", "echo/1")?;
    ///     std::thread::spawn(move || {
    ///         core.block_on(async move {
    ///             while let Ok((stream, _peer)) = echo.accept().await {
    ///                 // `tokio::spawn`: it runs on this thread.
    /// #               drop(stream);
    ///             }
    ///         });
    ///     });
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Self::build_sharded`].
    pub fn build_sharded_on(self, runtimes: &[runtime::Handle]) -> Result<ShardedHost, BuildError> {
        let (hosts, starts) = self.prepare(runtimes.len())?;
        for (start, runtime) in starts.into_iter().zip(runtimes) {
            start.spawn(runtime)?;
        }
        Ok(hosts)
    }

    /// The shards, and their drivers about to be started. When those are dropped, nothing is left.
    fn prepare(mut self, count: usize) -> Result<(ShardedHost, Vec<Start>), BuildError> {
        self.check()?;
        self.check_sharded(count)?;
        let count = u8::try_from(count).unwrap_or(u8::MAX);
        let sockets = self.bind_group(count)?;
        let identity = self.identity.take().unwrap_or_else(Identity::generate);
        let mut members = Member::group(count, self.config.channel_id_len).into_iter();
        let (mut hosts, mut starts) = (Vec::new(), Vec::new());
        for (bound, index) in sockets.into_iter().zip(0..) {
            let key_log = self.key_log_file()?;
            let shard = Shard::new(index, count).filter(|_| count > 1);
            let mut config = divided(&self.config, count);
            config.key_log = key_log.is_some();
            config.port = bound.local_addr().port();
            config.shard = shard;
            let (lan_only, connect_timeout) = (config.lan_only, config.connect_timeout);
            let core = sss_proto::Host::new(config, identity.key(), entropy()?);
            let shared = Shared::new(core, bound.local_addr()).keeping_to(lan_only, connect_timeout);
            let shared = Arc::new(shared);
            hosts.push(Host::new(Arc::clone(&shared)));
            starts.push(Start {
                shared,
                bound,
                watch: self.watch_interfaces && shard.is_none(),
                new_port_on_move: false,
                key_log,
                tls: None,
                other: None,
                member: members.next().filter(|_| shard.is_some()),
            });
        }
        Ok((ShardedHost::new(hosts), starts))
    }

    /// A socket for each of `count` shards.
    fn bind_group(&self, count: u8) -> Result<Vec<Bound>, BuildError> {
        let (buffers, shape) = (self.socket_buffers, (count, self.config.channel_id_len));
        let bind = |address: SocketAddr| match count {
            1 => Ok(vec![socket::bind(address, buffers)?]),
            _ => bind_shards(address, buffers, shape),
        };
        match &self.bind {
            Some(text) => bind(parse(text)?),
            None => any_port(bind),
        }
    }
}

#[cfg(target_os = "linux")]
use crate::driver::shards::bind as bind_shards;

/// Nobody asks for them here.
#[cfg(not(target_os = "linux"))]
fn bind_shards(address: SocketAddr, buffers: usize, _: (u8, usize)) -> Result<Vec<Bound>, BuildError> {
    Ok(vec![socket::bind(address, buffers)?])
}

/// The settings of one of `count` shards.
fn divided(config: &Config, count: u8) -> Config {
    let (mut config, parts) = (config.clone(), u32::from(count));
    let part = |all: usize| (all / usize::from(count)).max(1);
    config.peers.trees = part(config.peers.trees);
    config.peers.trees_per_network = part(config.peers.trees_per_network);
    config.peers.unheard = part(config.peers.unheard);
    config.streams.per_host = (config.streams.per_host / u64::from(parts)).max(1);
    config.window.per_host_budget /= u64::from(parts);
    config.hello_threshold = (config.hello_threshold / parts).max(1);
    config
}

#[cfg(test)]
mod tests {
    use sss_proto::{PeerLimits, WindowConfig};

    use super::*;

    #[test]
    fn each_limit_of_the_whole_host_is_divided_and_none_of_a_peer() {
        let whole = Config::default();
        let part = divided(&whole, 4);
        let (peers, streams, window) = (&whole.peers, &whole.streams, &whole.window);
        let limits = PeerLimits::default().with(|limits| {
            limits.trees = peers.trees / 4;
            limits.trees_per_network = peers.trees_per_network / 4;
            limits.unheard = peers.unheard / 4;
        });
        assert_eq!(part.peers, limits);
        let (kept, backlog) = (streams.per_host / 4, streams.backlog);
        let per_peer = streams.per_peer;
        assert_eq!(
            (part.streams.per_host, part.streams.per_peer, part.streams.backlog),
            (kept, per_peer, backlog)
        );
        let budget = WindowConfig::default().with(|limits| limits.per_host_budget = window.per_host_budget / 4);
        assert_eq!(part.window, budget);
        assert_eq!(part.hello_threshold, whole.hello_threshold / 4);
        // A shard with none of something would be of no use.
        let mut few = Config::default();
        (few.peers.trees, few.peers.trees_per_network, few.hello_threshold) = (2, 2, 2);
        few.streams.per_host = 2;
        let part = divided(&few, 128);
        assert_eq!((part.peers.trees, part.peers.trees_per_network), (1, 1));
        assert_eq!((part.streams.per_host, part.hello_threshold), (1, 1));
    }
}
