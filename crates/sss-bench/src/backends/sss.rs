//! libsss.

use std::net::SocketAddr;
use std::str::FromStr as _;

use ::sss::{DriverMode, Eid, Host, HostBuilder, Server};
use bytes::Bytes;

use crate::Outcome;
use crate::setup::{Address, Backend, MTU, Setup, Workload};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};

const SERVICE: &str = "bench";
const PROTOCOL: &str = "1";

/// libsss. A connection is a channel with one top-level stream; its streams are substreams of that one.
pub(crate) struct Sss;

impl Transport for Sss {
    type Listener = SssListener;
    type Dialer = SssDialer;

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let host = builder(setup).build().await?;
        let server = host.listen(SERVICE, PROTOCOL)?;
        let address = Address {
            socket: host.local_addr(),
            credential: host.eid().to_string().into_bytes(),
        };
        Ok((SssListener(server), address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let eid = Eid::from_str(std::str::from_utf8(&address.credential)?)?;
        Ok(SssDialer {
            host: builder(setup).build().await?,
            setup: setup.clone(),
            eid,
            server: address.socket,
        })
    }
}

fn builder(setup: &Setup) -> HostBuilder {
    let mode = if setup.backend == Backend::SssDedicated {
        DriverMode::Dedicated
    } else {
        DriverMode::Shared
    };
    let builder = Host::builder().bind("127.0.0.1:0").driver(mode);
    if setup.workload == Workload::BulkNatural {
        builder
    } else {
        builder.max_datagram(MTU)
    }
}

/// The server's host listening for the service.
pub(crate) struct SssListener(Server);

impl Listener for SssListener {
    type Connection = SssConnection;
    type Incoming = SssConnection;

    async fn accept(&mut self) -> Outcome<SssConnection> {
        let (stream, _) = self.0.accept().await?;
        Ok(SssConnection(stream))
    }

    async fn establish(incoming: SssConnection) -> Outcome<SssConnection> {
        Ok(incoming)
    }
}

/// A client host. Two hosts share one channel, so each connection beside another takes a host of its own.
pub(crate) struct SssDialer {
    host: Host,
    setup: Setup,
    eid: Eid,
    server: SocketAddr,
}

impl Dialer for SssDialer {
    type Connection = SssConnection;

    /// Returns before the channel is established: what is written first travels in the third packet of the negotiation.
    async fn dial(&self) -> Outcome<SssConnection> {
        let connect = self.host.connect(self.eid, SERVICE, PROTOCOL).hint(self.server);
        Ok(SssConnection(connect.open()?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            host: builder(&self.setup).build().await?,
            setup: self.setup.clone(),
            eid: self.eid,
            server: self.server,
        })
    }
}

/// The top-level stream of a channel.
pub(crate) struct SssConnection(::sss::Stream);

impl Connection for SssConnection {
    type Stream = SssStream;

    async fn open(&self) -> Outcome<SssStream> {
        Ok(SssStream(self.0.open_substream()?))
    }

    async fn accept(&self) -> Option<SssStream> {
        self.0.accept_substream().await.ok().map(SssStream)
    }

    async fn close(self) -> Outcome<()> {
        self.0.peer().close(0, "");
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
