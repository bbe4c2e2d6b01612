//! QUIC by quinn.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use super::tls;
use crate::outcome::Outcome;
use crate::setup::{Address, MTU, Setup, Workload};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};

/// Bytes of each socket buffer, tuned.
const SOCKET_BUFFER: usize = 4 << 20;
/// Bytes of each flow-control window, tuned: what the socket buffer bears. Larger ones only cause loss on this path.
const WINDOW: u32 = 4 << 20;
/// Streams that the other side may have open in the rpc workloads, tuned. quinn makes room for all of them with each
/// connection, so its default of 100 serves it better in the others.
const STREAMS: u32 = 256;
/// The same with 1,000 in flight.
const MANY_STREAMS: u32 = 2048;
const DEFAULT_STREAMS: u32 = 100;
/// UDP payload of `bulk-natural`: ten of these fill a GSO send, and quinn puts at most ten into one.
const NATURAL_MTU: u16 = 6500;
/// Chunks taken from a stream in one call.
const CHUNKS: usize = 32;

/// quinn, with the cryptography and the settings that the setup names.
pub(crate) struct Quinn;

impl Transport for Quinn {
    type Listener = QuinnListener;
    type Dialer = QuinnDialer;

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (tls, credential) = tls::server(setup)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        if let Some(transport) = transport(setup)? {
            config.transport_config(transport);
        }
        let endpoint = endpoint(setup, Some(config))?;
        let socket = endpoint.local_addr()?;
        Ok((QuinnListener(endpoint), Address { socket, credential }))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let tls = tls::client(setup, &address.credential)?;
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
    if !setup.backend.is_tuned() {
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
        .max_concurrent_bidi_streams(VarInt::from_u32(stream_limit(setup)?))
        .enable_segmentation_offload(true);
    Ok(Some(Arc::new(config)))
}

fn stream_limit(setup: &Setup) -> Outcome<u32> {
    // Those of the warm-up are open as well.
    let idle = |count: usize| u32::try_from(count + count / 10 + 1);
    Ok(match setup.workload {
        Workload::IdleStreams | Workload::IdleStreams100k => idle(setup.idle_streams())?,
        Workload::Rpc1000 => MANY_STREAMS,
        workload if workload.is_rpc() => STREAMS,
        _ => DEFAULT_STREAMS,
    })
}

fn endpoint(setup: &Setup, server: Option<quinn::ServerConfig>) -> Outcome<Endpoint> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let mut config = EndpointConfig::default();
    if setup.backend.is_tuned() {
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        config.max_udp_payload_size(NATURAL_MTU)?;
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let runtime = quinn::default_runtime().ok_or("no async runtime")?;
    Ok(Endpoint::new(config, server, socket.into(), runtime)?)
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
