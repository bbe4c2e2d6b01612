//! QUIC by noq, the fork of quinn below iroh: the same calls and the same settings as quinn.

use std::net::SocketAddr;
use std::sync::Arc;

use ::noq::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ::noq::{
    ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, ServerConfig, TransportConfig,
    VarInt,
};
use bytes::Bytes;
use sss_bench::tls::{self, Cryptography};
use sss_bench::tuning::{self, WINDOW};
use sss_bench::{Address, Connection, Dialer, Listener, MTU, Outcome, Settings, Setup, Stream, Transport, Workload};

/// UDP payload of `bulk-natural`: ten of these fill a GSO send, and more do not go into one.
const NATURAL_MTU: u16 = 6500;
/// Chunks taken from a stream in one call.
const CHUNKS: usize = 32;

/// noq over aws-lc-rs.
pub(crate) struct Noq;

impl Transport for Noq {
    const LIBRARY: &'static str = "noq";
    const PACKAGES: &'static [&'static str] = &["noq", "noq-proto", "rustls", "aws-lc-rs"];
    type Listener = NoqListener;
    type Dialer = NoqDialer;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match (workload, settings) {
            (Workload::BulkNatural, Settings::Default) => Some("its default MTU is at most 1452"),
            (Workload::IdleStreams | Workload::IdleStreams100k, Settings::Default) => {
                Some("its default stream limit is lower")
            }
            _ => None,
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (tls, credential) = tls::server(setup, Cryptography::AwsLc)?;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        if let Some(transport) = transport(setup)? {
            config.transport_config(transport);
        }
        let endpoint = endpoint(setup, Some(config))?;
        let socket = endpoint.local_addr()?;
        Ok((NoqListener(endpoint), Address { socket, credential }))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let tls = tls::client(setup, Cryptography::AwsLc, &address.credential)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        if let Some(transport) = transport(setup)? {
            config.transport_config(transport);
        }
        Ok(NoqDialer {
            endpoint: endpoint(setup, None)?,
            config,
            server: address.socket,
        })
    }
}

/// Settings of a connection; `None` for the defaults.
fn transport(setup: &Setup) -> Outcome<Option<Arc<TransportConfig>>> {
    if !setup.settings.is_tuned() {
        return Ok(None);
    }
    let mtu = if setup.workload == Workload::BulkNatural {
        NATURAL_MTU
    } else {
        MTU
    };
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu);
    let mut config = TransportConfig::default();
    config
        .initial_mtu(mtu)
        .min_mtu(mtu)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(tuning::stream_limit(setup)?))
        .enable_segmentation_offload(true);
    Ok(Some(Arc::new(config)))
}

fn endpoint(setup: &Setup, server: Option<ServerConfig>) -> Outcome<Endpoint> {
    let mut config = EndpointConfig::default();
    if setup.settings.is_tuned() {
        config.max_udp_payload_size(NATURAL_MTU)?;
    }
    let runtime = ::noq::default_runtime().ok_or("no async runtime")?;
    Ok(Endpoint::new(config, server, tuning::socket(setup)?, runtime)?)
}

/// The server's endpoint.
pub(crate) struct NoqListener(Endpoint);

impl Listener for NoqListener {
    type Connection = NoqConnection;
    type Incoming = ::noq::Incoming;

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        self.0.accept().await.ok_or_else(|| "the endpoint was closed".into())
    }

    async fn establish(incoming: Self::Incoming) -> Outcome<Self::Connection> {
        Ok(NoqConnection(incoming.await?))
    }
}

/// The client's endpoint: one socket for all connections.
pub(crate) struct NoqDialer {
    endpoint: Endpoint,
    config: ClientConfig,
    server: SocketAddr,
}

impl Dialer for NoqDialer {
    type Connection = NoqConnection;

    async fn dial(&self) -> Outcome<Self::Connection> {
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), self.server, tls::NAME)?;
        Ok(NoqConnection(connecting.await?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            endpoint: self.endpoint.clone(),
            config: self.config.clone(),
            server: self.server,
        })
    }
}

/// One QUIC connection.
pub(crate) struct NoqConnection(::noq::Connection);

impl Connection for NoqConnection {
    type Stream = NoqStream;

    async fn open(&self) -> Outcome<Self::Stream> {
        let (send, receive) = self.0.open_bi().await?;
        Ok(NoqStream { send, receive })
    }

    async fn accept(&self) -> Option<Self::Stream> {
        let (send, receive) = self.0.accept_bi().await.ok()?;
        Some(NoqStream { send, receive })
    }

    async fn send_datagram(&self, data: Bytes) -> Outcome<()> {
        Ok(self.0.send_datagram_wait(data).await?)
    }

    async fn recv_datagram(&self) -> Option<usize> {
        self.0.read_datagram().await.ok().map(|datagram| datagram.len())
    }

    async fn close(self) -> Outcome<()> {
        self.0.close(VarInt::from_u32(0), b"");
        Ok(())
    }
}

/// A bidirectional stream of noq, which iroh hands out as well.
pub(crate) struct NoqStream {
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

impl Stream for NoqStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        Ok(self.send.write_chunk(data).await?)
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(self.send.finish()?)
    }

    async fn drain(&mut self) -> Outcome<usize> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let count = self.receive.read_many_chunks(&mut chunks).await?.unwrap_or(0);
        Ok(chunks.iter().take(count).map(Bytes::len).sum())
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        Ok(self.receive.read_exact(buf).await?)
    }
}
