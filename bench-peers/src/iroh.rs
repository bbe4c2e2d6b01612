//! iroh: noq, with hosts known by their keys. Nothing but the loopback interface is used: no relay, no look-up.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ::iroh::endpoint::presets::Empty;
use ::iroh::endpoint::{Builder, MtuDiscoveryConfig, QuicTransportConfig, VarInt};
use ::iroh::{Endpoint, EndpointAddr, PublicKey, RelayMode, TransportAddr};
use bytes::Bytes;
use sss_bench::tls::{self, ALPN, Cryptography};
use sss_bench::tuning::{self, WINDOW};
use sss_bench::{Address, Connection, Dialer, Listener, MTU, Outcome, Settings, Setup, Transport, Workload};

use crate::noq::NoqStream;

/// iroh over aws-lc-rs.
pub(crate) struct Iroh;

impl Transport for Iroh {
    const LIBRARY: &'static str = "iroh";
    const PACKAGES: &'static [&'static str] = &["iroh", "noq", "rustls", "aws-lc-rs"];
    type Listener = IrohListener;
    type Dialer = IrohDialer;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match (workload, settings) {
            (Workload::BulkNatural, _) => Some("its endpoint receives at most 1472 bytes in a datagram"),
            (Workload::IdleStreams | Workload::IdleStreams100k, Settings::Default) => {
                Some("its default stream limit is lower")
            }
            _ => None,
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let endpoint = builder(setup)?.alpns(vec![ALPN.to_vec()]).bind().await?;
        let sockets = endpoint.bound_sockets();
        let socket = sockets.into_iter().find(|socket| socket.is_ipv4());
        let address = Address {
            socket: socket.ok_or("no socket for IPv4")?,
            credential: endpoint.id().as_bytes().to_vec(),
        };
        Ok((IrohListener(endpoint), address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let id = PublicKey::from_bytes(address.credential.as_slice().try_into()?)?;
        Ok(IrohDialer {
            endpoint: builder(setup)?.bind().await?,
            server: EndpointAddr::from_parts(id, [TransportAddr::Ip(address.socket)]),
        })
    }
}

/// An endpoint on the loopback interface; sessions are never resumed.
fn builder(setup: &Setup) -> Outcome<Builder> {
    let builder = Endpoint::builder(Empty)
        .crypto_provider(Arc::new(tls::provider(setup, Cryptography::AwsLc)))
        .max_tls_tickets(0)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr((Ipv4Addr::LOCALHOST, 0))?;
    Ok(match transport(setup)? {
        Some(transport) => builder.transport_config(transport),
        None => builder,
    })
}

/// Settings of a connection; `None` for the defaults.
fn transport(setup: &Setup) -> Outcome<Option<QuicTransportConfig>> {
    if !setup.settings.is_tuned() {
        return Ok(None);
    }
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU);
    let config = QuicTransportConfig::builder()
        .initial_mtu(MTU)
        .min_mtu(MTU)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(tuning::stream_limit(setup)?))
        .enable_segmentation_offload(true);
    Ok(Some(config.build()))
}

/// The server's endpoint.
pub(crate) struct IrohListener(Endpoint);

impl Listener for IrohListener {
    type Connection = IrohConnection;
    type Incoming = ::iroh::endpoint::Incoming;

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        self.0.accept().await.ok_or_else(|| "the endpoint was closed".into())
    }

    async fn establish(incoming: Self::Incoming) -> Outcome<Self::Connection> {
        Ok(IrohConnection(incoming.await?))
    }
}

/// The client's endpoint: one socket for all connections.
pub(crate) struct IrohDialer {
    endpoint: Endpoint,
    server: EndpointAddr,
}

impl Dialer for IrohDialer {
    type Connection = IrohConnection;

    async fn dial(&self) -> Outcome<Self::Connection> {
        Ok(IrohConnection(self.endpoint.connect(self.server.clone(), ALPN).await?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            endpoint: self.endpoint.clone(),
            server: self.server.clone(),
        })
    }
}

/// One connection.
pub(crate) struct IrohConnection(::iroh::endpoint::Connection);

impl Connection for IrohConnection {
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
