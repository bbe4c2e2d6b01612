//! TCP + TLS 1.3 + yamux on tokio.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};
use yamux::{Config, Mode};

use crate::outcome::Outcome;
use crate::setup::{Address, Settings, Setup, Workload};
use crate::tls::{self, Cryptography};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};

/// Streams of a connection, tuned.
const STREAMS: usize = 1 << 20;
/// Bytes of the largest frame, tuned.
const FRAME: usize = 128 << 10;

/// yamux over TLS over TCP.
pub(crate) struct Yamux;

impl Transport for Yamux {
    const LIBRARY: &'static str = "yamux";
    const PACKAGES: &'static [&'static str] = &["yamux", "rustls", "aws-lc-rs", "tokio"];
    type Listener = YamuxListener;
    type Dialer = YamuxDialer;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match (workload, settings) {
            (Workload::BulkNatural, Settings::Default) => Some("the same as in bulk"),
            (Workload::IdleStreams | Workload::IdleStreams100k | Workload::Rpc1000, Settings::Default) => {
                Some("its default stream limit is lower")
            }
            (Workload::IdleStreams100k, Settings::Tuned) => Some("takes longer than the run may"),
            (Workload::Datagrams | Workload::DatagramsMany, _) => Some("TCP has no datagrams"),
            _ => None,
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (tls, credential) = tls::server(setup, Cryptography::AwsLc)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let socket = listener.local_addr()?;
        let listener = YamuxListener {
            listener,
            tls: TlsAcceptor::from(Arc::new(tls)),
            config: config(setup.settings),
        };
        Ok((listener, Address { socket, credential }))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let tls = tls::client(setup, Cryptography::AwsLc, &address.credential)?;
        Ok(YamuxDialer {
            server: address.socket,
            tls: TlsConnector::from(Arc::new(tls)),
            config: config(setup.settings),
        })
    }
}

fn config(settings: Settings) -> Config {
    let mut config = Config::default();
    if settings.is_tuned() {
        config
            .set_max_connection_receive_window(None)
            .set_max_num_streams(STREAMS)
            .set_split_send_size(FRAME);
    }
    config
}

/// The server's socket.
pub(crate) struct YamuxListener {
    listener: TcpListener,
    tls: TlsAcceptor,
    config: Config,
}

/// A TCP connection without TLS yet.
pub(crate) struct Incoming {
    socket: TcpStream,
    tls: TlsAcceptor,
    config: Config,
}

impl Listener for YamuxListener {
    type Connection = YamuxConnection;
    type Incoming = Incoming;

    async fn accept(&mut self) -> Outcome<Incoming> {
        let (socket, _) = self.listener.accept().await?;
        Ok(Incoming {
            socket,
            tls: self.tls.clone(),
            config: self.config.clone(),
        })
    }

    async fn establish(incoming: Incoming) -> Outcome<YamuxConnection> {
        incoming.socket.set_nodelay(true)?;
        let socket = incoming.tls.accept(incoming.socket).await?;
        Ok(YamuxConnection::start(socket.into(), incoming.config, Mode::Server))
    }
}

/// Parts that the client needs for a connection.
pub(crate) struct YamuxDialer {
    server: SocketAddr,
    tls: TlsConnector,
    config: Config,
}

impl Dialer for YamuxDialer {
    type Connection = YamuxConnection;

    async fn dial(&self) -> Outcome<YamuxConnection> {
        let socket = TcpStream::connect(self.server).await?;
        socket.set_nodelay(true)?;
        let socket = self.tls.connect(ServerName::try_from(tls::NAME)?, socket).await?;
        Ok(YamuxConnection::start(socket.into(), self.config.clone(), Mode::Client))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            server: self.server,
            tls: self.tls.clone(),
            config: self.config.clone(),
        })
    }
}

type Opened = oneshot::Sender<yamux::Result<yamux::Stream>>;

/// One connection: a handle to the task that owns it.
pub(crate) struct YamuxConnection {
    open: mpsc::UnboundedSender<Opened>,
    accepted: Mutex<mpsc::UnboundedReceiver<yamux::Stream>>,
    driver: AbortHandle,
}

impl YamuxConnection {
    fn start(socket: TlsStream<TcpStream>, config: Config, mode: Mode) -> Self {
        let (open, requests) = mpsc::unbounded_channel();
        let (inbound, accepted) = mpsc::unbounded_channel();
        let mut driver = Driver {
            connection: yamux::Connection::new(socket.compat(), config, mode),
            requests,
            waiting: None,
            inbound,
        };
        let task = tokio::spawn(poll_fn(move |cx| driver.poll(cx)));
        Self {
            open,
            accepted: Mutex::new(accepted),
            driver: task.abort_handle(),
        }
    }
}

impl Drop for YamuxConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection for YamuxConnection {
    type Stream = YamuxStream;

    async fn open(&self) -> Outcome<YamuxStream> {
        let (sender, opened) = oneshot::channel();
        self.open.send(sender).map_err(|_| "the connection has ended")?;
        Ok(YamuxStream(opened.await??))
    }

    async fn accept(&self) -> Option<YamuxStream> {
        Some(YamuxStream(self.accepted.lock().await.recv().await?))
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

/// Owns the connection: both of its poll functions want exclusive access.
struct Driver {
    connection: yamux::Connection<Compat<TlsStream<TcpStream>>>,
    requests: mpsc::UnboundedReceiver<Opened>,
    waiting: Option<Opened>,
    inbound: mpsc::UnboundedSender<yamux::Stream>,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_requests(cx);
        loop {
            match self.connection.poll_next_inbound(cx) {
                // A receiver that is gone only waits for this task to be aborted.
                Poll::Ready(Some(Ok(stream))) => drop(self.inbound.send(stream)),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.waiting.is_none() {
                match self.requests.poll_recv(cx) {
                    Poll::Ready(Some(request)) => self.waiting = Some(request),
                    Poll::Ready(None) | Poll::Pending => return,
                }
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(result) => {
                    if let Some(request) = self.waiting.take() {
                        drop(request.send(result));
                    }
                }
                Poll::Pending => return,
            }
        }
    }
}

/// A stream.
pub(crate) struct YamuxStream(yamux::Stream);

impl Stream for YamuxStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        Ok(self.0.write_all(&data).await?)
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(self.0.close().await?)
    }

    async fn drain(&mut self) -> Outcome<usize> {
        match self.0.next().await {
            Some(packet) => Ok(packet?.as_ref().len()),
            None => Ok(0),
        }
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        Ok(self.0.read_exact(buf).await?)
    }
}
