//! libsss.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr as _;

use ::sss::{DriverMode, Eid, Host, HostBuilder, PostQuantum, Server};
use bytes::Bytes;

use crate::backend::OWN;
use crate::outcome::Outcome;
use crate::setup::{Address, MANY, MTU, Settings, Setup, Workload};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};

pub(super) const SERVICE: &str = "bench";
pub(super) const PROTOCOL: &str = "1";
/// Client hosts with a driver on a thread of its own, at most.
const MOST_THREADS: usize = 100;

/// Choice of what a builder does not say by itself.
pub(crate) trait Choice: Send + Sync + 'static {
    const DRIVER: DriverMode = DriverMode::Shared;
    /// Streams between the top-level one and those that are measured.
    const LEVELS: usize = 0;
}

/// The driver on the runtime of the application.
pub(crate) struct Shared;
/// The driver on a thread of its own.
pub(crate) struct Dedicated;
/// A deep tree.
pub(crate) struct Deep;

impl Choice for Shared {}

impl Choice for Dedicated {
    const DRIVER: DriverMode = DriverMode::Dedicated;
}

impl Choice for Deep {
    const LEVELS: usize = 16;
}

/// libsss. A connection is a channel with one top-level stream; its streams are substreams of that one.
pub(crate) struct Sss<C>(PhantomData<C>);

impl<C: Choice> Transport for Sss<C> {
    const LIBRARY: &'static str = OWN;
    const PACKAGES: &'static [&'static str] = &["libsss", "aws-lc-rs"];
    type Listener = SssListener;
    type Dialer = SssDialer<C>;

    fn excludes(_: Workload, _: Settings) -> Option<&'static str> {
        None
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let host = builder::<C>(setup).build().await?;
        let server = host.listen(SERVICE, PROTOCOL)?;
        let address = Address {
            socket: host.local_addr(),
            credential: host.eid().to_string().into_bytes(),
        };
        let depth = C::LEVELS;
        Ok((SssListener { server, depth }, address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let eid = Eid::from_str(std::str::from_utf8(&address.credential)?)?;
        Ok(SssDialer {
            host: client::<C>(setup).build().await?,
            setup: setup.clone(),
            eid,
            server: address.socket,
            choice: PhantomData,
        })
    }
}

/// A client host. Very many have no thread each, whatever the server has.
fn client<C: Choice>(setup: &Setup) -> HostBuilder {
    let builder = builder::<C>(setup);
    match setup.workload.peers() > MOST_THREADS {
        true => builder.driver(DriverMode::Shared),
        false => builder,
    }
}

pub(super) fn builder<C: Choice>(setup: &Setup) -> HostBuilder {
    let builder = Host::builder().bind("127.0.0.1:0").driver(C::DRIVER);
    // All clients have one address: as many as that are a flood for the default, unless a host expects them.
    let builder = if setup.workload.is_handshake() || setup.workload.peers() > 0 {
        builder.hello_threshold(1_000_000)
    } else {
        builder
    };
    let builder = if setup.workload.is_post_quantum() {
        builder
    } else {
        builder.post_quantum(PostQuantum::Off)
    };
    if setup.workload == Workload::BulkNatural {
        builder
    } else {
        builder.max_datagram(MTU)
    }
}

/// The server's host listening for the service.
pub(crate) struct SssListener {
    server: Server,
    depth: usize,
}

impl Listener for SssListener {
    type Connection = SssConnection;
    type Incoming = (::sss::Stream, usize);

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        let (stream, _) = self.server.accept().await?;
        Ok((stream, self.depth))
    }

    async fn establish((top, depth): Self::Incoming) -> Outcome<SssConnection> {
        let mut chain = vec![top];
        for _ in 0..depth {
            let deepest = chain.last().ok_or("a chain of streams has an end")?;
            let next = deepest.accept_substream().await?;
            chain.push(next.ok_or("the client has let go of the chain")?);
        }
        Ok(SssConnection(chain))
    }
}

/// A client host. Two hosts share one channel, so each connection beside another takes a host of its own.
pub(crate) struct SssDialer<C> {
    host: Host,
    setup: Setup,
    eid: Eid,
    server: SocketAddr,
    choice: PhantomData<C>,
}

impl<C: Choice> Dialer for SssDialer<C> {
    type Connection = SssConnection;

    /// Returns before the channel is established: what is written first travels in the third packet of the negotiation.
    async fn dial(&self) -> Outcome<SssConnection> {
        let connect = self.host.connect(self.eid, SERVICE, PROTOCOL).hint(self.server);
        let mut chain = vec![connect.open()?];
        for _ in 0..C::LEVELS {
            let deepest = chain.last().ok_or("a chain of streams has an end")?;
            chain.push(deepest.open_substream()?);
        }
        Ok(SssConnection(chain))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            host: client::<C>(&self.setup).build().await?,
            setup: self.setup.clone(),
            eid: self.eid,
            server: self.server,
            choice: PhantomData,
        })
    }
}

/// The top-level stream of a channel, and those below it down to the one whose children are measured.
pub(crate) struct SssConnection(pub(super) Vec<::sss::Stream>);

impl SssConnection {
    fn deepest(&self) -> Outcome<&::sss::Stream> {
        Ok(self.0.last().ok_or("a chain of streams has an end")?)
    }
}

impl Connection for SssConnection {
    type Stream = SssStream;

    async fn open(&self) -> Outcome<SssStream> {
        Ok(SssStream(self.deepest()?.open_substream()?))
    }

    async fn accept(&self) -> Option<SssStream> {
        self.deepest().ok()?.accept_substream().await.ok()?.map(SssStream)
    }

    async fn send_datagram(&self, data: Bytes) -> Outcome<()> {
        Ok(self.deepest()?.send_datagram(data).await?)
    }

    async fn recv_datagram(&self) -> Option<usize> {
        let received = self.deepest().ok()?.recv_datagram().await;
        received.ok()?.map(|datagram| datagram.len())
    }

    async fn send_datagrams(&self, all: Vec<Bytes>) -> Outcome<()> {
        Ok(self.deepest()?.send_datagrams(all).await?)
    }

    async fn recv_datagrams(&self, space: &mut Vec<Bytes>) -> Option<usize> {
        space.clear();
        let received = self.deepest().ok()?.recv_datagrams(space, MANY).await;
        received.ok().filter(|count| *count > 0)
    }

    async fn close(self) -> Outcome<()> {
        self.deepest()?.peer().close(0, "");
        Ok(())
    }
}

/// A substream.
pub(crate) struct SssStream(::sss::Stream);

impl Stream for SssStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        Ok(self.0.write_chunk(data).await?)
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(self.0.finish()?)
    }

    async fn drain(&mut self) -> Outcome<usize> {
        Ok(self.0.read_chunk(usize::MAX).await?.map_or(0, |chunk| chunk.len()))
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        Ok(self.0.read_exact(buf).await?)
    }
}
