//! QUIC by quinn.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, TransportConfig, VarInt};

use crate::outcome::Outcome;
use crate::setup::{Address, MTU, Settings, Setup, Workload};
use crate::tls::{self, Cryptography};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};
use crate::tuning::{self, WINDOW};

/// UDP payload of `bulk-natural`: ten of these fill a GSO send, and quinn puts at most ten into one.
const NATURAL_MTU: u16 = 6500;
/// Chunks taken from a stream in one call.
const CHUNKS: usize = 32;

/// Choice of the library of cryptography.
pub(crate) trait Choice: Send + 'static {
    const CRYPTOGRAPHY: Cryptography;
}

/// ring.
pub(crate) struct Ring;
/// aws-lc-rs.
pub(crate) struct AwsLc;

impl Choice for Ring {
    const CRYPTOGRAPHY: Cryptography = Cryptography::Ring;
}

impl Choice for AwsLc {
    const CRYPTOGRAPHY: Cryptography = Cryptography::AwsLc;
}

/// quinn with one library of cryptography.
pub(crate) struct Quinn<C>(PhantomData<C>);

impl<C: Choice> Transport for Quinn<C> {
    const LIBRARY: &'static str = "quinn";
    const PACKAGES: &'static [&'static str] = &["quinn", "quinn-proto", "rustls", "ring", "aws-lc-rs"];
    type Listener = QuinnListener;
    type Dialer = QuinnDialer;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match workload {
            Workload::BulkNatural if !settings.is_tuned() => Some("its default MTU is at most 1452"),
            Workload::IdleStreams | Workload::IdleStreams100k if !settings.is_tuned() => {
                Some("its default stream limit is lower")
            }
            Workload::Handshake if C::CRYPTOGRAPHY == Cryptography::Ring => Some("ring has no ML-KEM"),
            _ => None,
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (tls, credential) = tls::server(setup, C::CRYPTOGRAPHY)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        if let Some(transport) = transport(setup)? {
            config.transport_config(transport);
        }
        let endpoint = endpoint(setup, Some(config))?;
        let socket = endpoint.local_addr()?;
        Ok((QuinnListener(endpoint), Address { socket, credential }))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let tls = tls::client(setup, C::CRYPTOGRAPHY, &address.credential)?;
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        if let Some(transport) = transport(setup)? {
            config.transport_config(transport);
        }
        let mut endpoint = endpoint(setup, None)?;
        endpoint.set_default_client_config(config);
        Ok(QuinnDialer {
            endpoint,
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

fn endpoint(setup: &Setup, server: Option<quinn::ServerConfig>) -> Outcome<Endpoint> {
    let mut config = EndpointConfig::default();
    if setup.settings.is_tuned() {
        config.max_udp_payload_size(NATURAL_MTU)?;
    }
    let runtime = quinn::default_runtime().ok_or("no async runtime")?;
    Ok(Endpoint::new(config, server, tuning::socket(setup)?, runtime)?)
}

/// The server's endpoint.
pub(crate) struct QuinnListener(Endpoint);

impl Listener for QuinnListener {
    type Connection = QuinnConnection;
    type Incoming = quinn::Incoming;

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        self.0.accept().await.ok_or_else(|| "the endpoint was closed".into())
    }

    async fn establish(incoming: Self::Incoming) -> Outcome<Self::Connection> {
        Ok(QuinnConnection(incoming.await?))
    }
}

/// The client's endpoint: one socket for all connections.
pub(crate) struct QuinnDialer {
    endpoint: Endpoint,
    server: SocketAddr,
}

impl Dialer for QuinnDialer {
    type Connection = QuinnConnection;

    async fn dial(&self) -> Outcome<Self::Connection> {
        Ok(QuinnConnection(self.endpoint.connect(self.server, tls::NAME)?.await?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            endpoint: self.endpoint.clone(),
            server: self.server,
        })
    }
}

/// One QUIC connection.
pub(crate) struct QuinnConnection(quinn::Connection);

impl Connection for QuinnConnection {
    type Stream = QuinnStream;

    async fn open(&self) -> Outcome<Self::Stream> {
        let (send, receive) = self.0.open_bi().await?;
        Ok(QuinnStream { send, receive })
    }

    async fn accept(&self) -> Option<Self::Stream> {
        let (send, receive) = self.0.accept_bi().await.ok()?;
        Some(QuinnStream { send, receive })
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

/// A bidirectional stream.
pub(crate) struct QuinnStream {
    send: SendStream,
    receive: RecvStream,
}

impl Stream for QuinnStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        Ok(self.send.write_chunk(data).await?)
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(self.send.finish()?)
    }

    async fn drain(&mut self) -> Outcome<usize> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let count = self.receive.read_chunks(&mut chunks).await?.unwrap_or(0);
        Ok(chunks.iter().take(count).map(Bytes::len).sum())
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        Ok(self.receive.read_exact(buf).await?)
    }
}
