//! QUIC by quiche on tokio, as tokio-quiche drives it: a task for each connection, which our driver gives its streams.

mod driver;
mod pipe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boring::pkey::PKey;
use boring::ssl::{SslContextBuilder, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use boring::x509::X509;
use bytes::Bytes;
use sss_bench::tls::{self, ALPN};
use sss_bench::tuning::{self, WINDOW};
use sss_bench::{Address, Connection, Dialer, Listener, MTU, Outcome, Settings, Setup, Transport, Workload};
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use tokio_quiche::metrics::DefaultMetrics;
use tokio_quiche::quic::{ConnectionHook, connect_with_config};
use tokio_quiche::settings::{CertificateKind, Hooks, QuicSettings, TlsCertificatePaths};
use tokio_quiche::socket::Socket;
use tokio_quiche::{ConnectionParams, InitialQuicConnection, QuicConnectionStream};

use driver::{Command, Driver};
use pipe::{Pipe, QuicheStream};

/// Datagrams that wait on either side: a megabyte, as others have by default.
const DATAGRAMS: usize = 1024;
/// Between the numbers of two bidirectional streams of one side (RFC 9000, 2.1).
const STRIDE: u64 = 4;

/// quiche over BoringSSL.
pub(crate) struct Quiche;

impl Transport for Quiche {
    const LIBRARY: &'static str = "quiche";
    const PACKAGES: &'static [&'static str] = &["tokio-quiche", "quiche", "boring"];
    type Listener = QuicheListener;
    type Dialer = QuicheDialer;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match (workload, settings) {
            (Workload::BulkNatural, _) => Some("tokio-quiche sends at most 1500 bytes"),
            (Workload::IdleStreams | Workload::IdleStreams100k, Settings::Default) => {
                Some("its default stream limit is lower")
            }
            _ => None,
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (certificate, key) = tls::certificate()?;
        let context = Context {
            curve: curve(setup),
            certificate: certificate.clone(),
            key: Some(key),
        };
        let params = ConnectionParams::new_server(settings(setup)?, NOWHERE, context.hooks());
        let socket = UdpSocket::from_std(nonblocking(setup)?)?;
        let address = Address {
            socket: socket.local_addr()?,
            credential: certificate,
        };
        let listeners = tokio_quiche::listen([socket], params, DefaultMetrics)?;
        let listener = listeners.into_iter().next().ok_or("no listener for the socket")?;
        Ok((QuicheListener(listener), address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        Ok(QuicheDialer {
            setup: setup.clone(),
            context: Context {
                curve: curve(setup),
                certificate: address.credential.clone(),
                key: None,
            },
            server: address.socket,
        })
    }
}

fn nonblocking(setup: &Setup) -> Outcome<std::net::UdpSocket> {
    let socket = tuning::socket(setup)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn settings(setup: &Setup) -> Outcome<QuicSettings> {
    let mut settings = QuicSettings::default();
    settings.alpn = vec![ALPN.to_vec()];
    if setup.settings.is_tuned() {
        let window = u64::from(WINDOW);
        settings.initial_max_data = window;
        settings.initial_max_stream_data_bidi_local = window;
        settings.initial_max_stream_data_bidi_remote = window;
        settings.max_connection_window = window;
        settings.max_stream_window = window;
        settings.initial_max_streams_bidi = u64::from(tuning::stream_limit(setup)?);
        settings.max_recv_udp_payload_size = usize::from(MTU);
        settings.max_send_udp_payload_size = usize::from(MTU);
        // No one else asks a client for a second round trip.
        settings.disable_client_ip_validation = true;
    }
    Ok(settings)
}

fn curve(setup: &Setup) -> &'static str {
    if setup.workload.is_post_quantum() {
        "X25519MLKEM768"
    } else {
        "X25519"
    }
}

/// Paths that nothing reads: there is a context only where there are paths.
const NOWHERE: TlsCertificatePaths<'static> = TlsCertificatePaths {
    cert: "",
    private_key: "",
    kind: CertificateKind::X509,
};

/// TLS as the others have it: one key exchange, no resumption.
#[derive(Clone)]
struct Context {
    curve: &'static str,
    certificate: Vec<u8>,
    /// A server's.
    key: Option<Vec<u8>>,
}

impl Context {
    fn hooks(&self) -> Hooks {
        Hooks {
            connection_hook: Some(Arc::new(self.clone())),
        }
    }

    fn builder(&self) -> Outcome<SslContextBuilder> {
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        builder.set_curves_list(self.curve)?;
        builder.set_options(SslOptions::NO_TICKET);
        let certificate = X509::from_der(&self.certificate)?;
        match &self.key {
            Some(key) => {
                builder.set_certificate(&certificate)?;
                let key = PKey::private_key_from_der(key)?;
                builder.set_private_key(&key)?;
            }
            None => {
                builder.cert_store_mut().add_cert(&certificate)?;
                builder.set_verify(SslVerifyMode::PEER);
            }
        }
        Ok(builder)
    }
}

impl ConnectionHook for Context {
    fn create_custom_ssl_context_builder(&self, _: TlsCertificatePaths<'_>) -> Option<SslContextBuilder> {
        self.builder()
            .inspect_err(|failure| eprintln!("sss-bench-peers: TLS of quiche: {failure}"))
            .ok()
    }
}

/// The server's socket.
pub(crate) struct QuicheListener(QuicConnectionStream<DefaultMetrics>);

impl Listener for QuicheListener {
    type Connection = QuicheConnection;
    type Incoming = InitialQuicConnection<UdpSocket, DefaultMetrics>;

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        use tokio_stream::StreamExt as _;
        let next = self.0.next().await.ok_or("the endpoint was closed")?;
        Ok(next?)
    }

    async fn establish(incoming: Self::Incoming) -> Outcome<Self::Connection> {
        let (connection, driver) = QuicheConnection::with_driver(true);
        // The task goes on without its handle.
        incoming.start(driver);
        Ok(connection)
    }
}

/// Parts that the client needs for a connection: each has a socket of its own.
pub(crate) struct QuicheDialer {
    setup: Setup,
    context: Context,
    server: SocketAddr,
}

impl Dialer for QuicheDialer {
    type Connection = QuicheConnection;

    async fn dial(&self) -> Outcome<Self::Connection> {
        let socket = UdpSocket::from_std(nonblocking(&self.setup)?)?;
        socket.connect(self.server).await?;
        let mut socket = Socket::<Arc<UdpSocket>, Arc<UdpSocket>>::from_udp(socket)?;
        // GSO and GRO, as `listen` asks for by itself and `connect` does not.
        socket.apply_max_capabilities();
        let mut settings = settings(&self.setup)?;
        settings.verify_peer = true;
        let params = ConnectionParams::new_client(settings, Some(NOWHERE), self.context.hooks());
        let (connection, driver) = QuicheConnection::with_driver(false);
        connect_with_config(socket, Some(tls::NAME), &params, driver).await?;
        Ok(connection)
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            setup: self.setup.clone(),
            context: self.context.clone(),
            server: self.server,
        })
    }
}

/// A handle to the task of one connection.
pub(crate) struct QuicheConnection {
    commands: mpsc::UnboundedSender<Command>,
    /// Number of the next stream.
    next: AtomicU64,
    accepted: Mutex<mpsc::UnboundedReceiver<QuicheStream>>,
    datagrams: mpsc::Sender<Bytes>,
    arrived: Mutex<mpsc::Receiver<usize>>,
}

impl QuicheConnection {
    fn with_driver(is_server: bool) -> (Self, Driver) {
        let (commands, commanded) = mpsc::unbounded_channel();
        let (accept, accepted) = mpsc::unbounded_channel();
        let (datagrams, to_send) = mpsc::channel(DATAGRAMS);
        let (arrive, arrived) = mpsc::channel(DATAGRAMS);
        let driver = Driver::new(is_server, (commands.downgrade(), commanded), accept, to_send, arrive);
        let connection = Self {
            commands,
            next: AtomicU64::new(u64::from(is_server)),
            accepted: Mutex::new(accepted),
            datagrams,
            arrived: Mutex::new(arrived),
        };
        (connection, driver)
    }
}

impl Connection for QuicheConnection {
    type Stream = QuicheStream;

    async fn open(&self) -> Outcome<QuicheStream> {
        let id = self.next.fetch_add(STRIDE, Ordering::Relaxed);
        let pipe = Arc::new(Pipe::default());
        self.commands
            .send(Command::Open(id, pipe.clone()))
            .map_err(|_| "the connection has ended")?;
        Ok(QuicheStream::new(id, pipe, self.commands.clone()))
    }

    async fn accept(&self) -> Option<QuicheStream> {
        self.accepted.lock().await.recv().await
    }

    async fn send_datagram(&self, data: Bytes) -> Outcome<()> {
        Ok(self.datagrams.send(data).await?)
    }

    async fn recv_datagram(&self) -> Option<usize> {
        self.arrived.lock().await.recv().await
    }

    async fn close(self) -> Outcome<()> {
        // A connection that has ended by itself is closed as well.
        let _ = self.commands.send(Command::Close);
        Ok(())
    }
}
