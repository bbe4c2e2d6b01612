//! libsss with a server of several shards.

use std::thread;

use ::sss::{Host, Stream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;

use super::sss::{PROTOCOL, SERVICE, Shared, Sss, SssConnection, SssDialer, builder};
use crate::backend::OWN;
use crate::outcome::Outcome;
use crate::setup::{Address, Settings, Setup, Workload};
use crate::transport::{Listener, Transport};

/// Shards of the server.
const SHARDS: usize = 2;

/// The server has shards, each with a thread of its own for its driver and for the tasks of its streams. Clients are as
/// everywhere.
pub(crate) struct Sharded;

impl Transport for Sharded {
    const LIBRARY: &'static str = OWN;
    const PACKAGES: &'static [&'static str] = <Sss<Shared> as Transport>::PACKAGES;
    type Listener = ShardedListener;
    type Dialer = SssDialer<Shared>;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        <Sss<Shared> as Transport>::excludes(workload, settings)
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let runtimes = (0..SHARDS).map(|_| Builder::new_current_thread().enable_all().build());
        let runtimes = runtimes.collect::<Result<Vec<_>, _>>()?;
        let handles: Vec<Handle> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
        let host = builder::<Shared>(setup).build_sharded_on(&handles)?;
        let (to_listener, incoming) = mpsc::unbounded_channel();
        for (runtime, shard) in runtimes.into_iter().zip(host.shards()) {
            let accepting = accept(shard.clone(), to_listener.clone());
            thread::Builder::new()
                .name("sss-shard".to_owned())
                .spawn(move || runtime.block_on(accepting))?;
        }
        let address = Address {
            socket: host.local_addr(),
            credential: host.eid().to_string().into_bytes(),
        };
        Ok((ShardedListener { incoming }, address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        <Sss<Shared> as Transport>::dialer(setup, address).await
    }
}

/// Accepts the connections of a shard, on its thread, until the process ends.
async fn accept(shard: Host, to_listener: mpsc::UnboundedSender<(Stream, Handle)>) {
    let server = match shard.listen(SERVICE, PROTOCOL) {
        Ok(server) => server,
        Err(failure) => return eprintln!("sss-bench serve: {failure}"),
    };
    while let Ok((stream, _)) = server.accept().await {
        if to_listener.send((stream, Handle::current())).is_err() {
            return;
        }
    }
}

/// Connections of all shards.
pub(crate) struct ShardedListener {
    incoming: mpsc::UnboundedReceiver<(Stream, Handle)>,
}

impl Listener for ShardedListener {
    type Connection = SssConnection;
    type Incoming = (Stream, Handle);

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        Ok(self.incoming.recv().await.ok_or("all shards have ended")?)
    }

    fn runtime((_, shard): &Self::Incoming) -> Option<Handle> {
        Some(shard.clone())
    }

    async fn establish((top, _): Self::Incoming) -> Outcome<SssConnection> {
        Ok(SssConnection(vec![top]))
    }
}
