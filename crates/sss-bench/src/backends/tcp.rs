//! TCP, and TCP + TLS 1.3, on tokio: one stream of bytes for each connection, as programs without streams have it.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::outcome::Outcome;
use crate::setup::{Address, Settings, Setup, Workload};
use crate::tls::{self, Cryptography};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};

/// Bytes read from a socket at once.
const READ: usize = 256 << 10;

/// Protection of what a TCP connection carries.
pub(crate) trait Layer: Send + Sync + 'static {
    const LIBRARY: &'static str;
    const PACKAGES: &'static [&'static str];
    const EXCHANGES_KEYS: bool;
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    type Server: Clone + Send + Sync + 'static;
    type Client: Clone + Send + Sync + 'static;

    /// Makes what the server needs, and what the client knows it by.
    fn server(setup: &Setup) -> Outcome<(Self::Server, Vec<u8>)>;
    fn client(setup: &Setup, credential: &[u8]) -> Outcome<Self::Client>;
    fn accept(server: Self::Server, socket: TcpStream) -> impl Future<Output = Outcome<Self::Socket>> + Send;
    fn connect(client: Self::Client, socket: TcpStream) -> impl Future<Output = Outcome<Self::Socket>> + Send;
}

/// Nothing: whoever is between the two reads and changes it.
pub(crate) struct Plain;

impl Layer for Plain {
    const LIBRARY: &'static str = "tcp";
    const PACKAGES: &'static [&'static str] = &["tokio"];
    const EXCHANGES_KEYS: bool = false;
    type Socket = TcpStream;
    type Server = ();
    type Client = ();

    fn server(_: &Setup) -> Outcome<((), Vec<u8>)> {
        Ok(((), Vec::new()))
    }

    fn client(_: &Setup, _: &[u8]) -> Outcome<()> {
        Ok(())
    }

    async fn accept((): (), socket: TcpStream) -> Outcome<TcpStream> {
        Ok(socket)
    }

    async fn connect((): (), socket: TcpStream) -> Outcome<TcpStream> {
        Ok(socket)
    }
}

/// TLS 1.3 by rustls with aws-lc-rs.
pub(crate) struct Tls;

impl Layer for Tls {
    const LIBRARY: &'static str = "tls";
    const PACKAGES: &'static [&'static str] = &["rustls", "aws-lc-rs", "tokio"];
    const EXCHANGES_KEYS: bool = true;
    type Socket = TlsStream<TcpStream>;
    type Server = TlsAcceptor;
    type Client = TlsConnector;

    fn server(setup: &Setup) -> Outcome<(TlsAcceptor, Vec<u8>)> {
        let (config, credential) = tls::server(setup, Cryptography::AwsLc)?;
        Ok((TlsAcceptor::from(Arc::new(config)), credential))
    }

    fn client(setup: &Setup, credential: &[u8]) -> Outcome<TlsConnector> {
        let config = tls::client(setup, Cryptography::AwsLc, credential)?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    async fn accept(server: TlsAcceptor, socket: TcpStream) -> Outcome<Self::Socket> {
        Ok(server.accept(socket).await?.into())
    }

    async fn connect(client: TlsConnector, socket: TcpStream) -> Outcome<Self::Socket> {
        Ok(client.connect(ServerName::try_from(tls::NAME)?, socket).await?.into())
    }
}

/// TCP below such a layer.
pub(crate) struct Tcp<L>(PhantomData<L>);

impl<L: Layer> Transport for Tcp<L> {
    const LIBRARY: &'static str = L::LIBRARY;
    const PACKAGES: &'static [&'static str] = L::PACKAGES;
    type Listener = Accepting<L>;
    type Dialer = Connecting<L>;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match workload {
            Workload::Bulk => None,
            Workload::BulkNatural if settings.is_tuned() => None,
            Workload::BulkNatural => Some("the same as in bulk"),
            Workload::Handshake | Workload::HandshakeClassical if L::EXCHANGES_KEYS => None,
            Workload::Handshake | Workload::HandshakeClassical => Some("it exchanges no keys"),
            workload if workload.is_datagrams() => Some("TCP has no datagrams"),
            _ => Some("a connection of it carries one stream"),
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (layer, credential) = L::server(setup)?;
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = Address {
            socket: socket.local_addr()?,
            credential,
        };
        Ok((Accepting { socket, layer }, address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        Ok(Connecting {
            server: address.socket,
            layer: L::client(setup, &address.credential)?,
        })
    }
}

/// The server's socket.
pub(crate) struct Accepting<L: Layer> {
    socket: TcpListener,
    layer: L::Server,
}

/// A TCP connection without its layer yet.
pub(crate) struct Incoming<L: Layer> {
    socket: TcpStream,
    layer: L::Server,
}

impl<L: Layer> Listener for Accepting<L> {
    type Connection = Only<L::Socket>;
    type Incoming = Incoming<L>;

    async fn accept(&mut self) -> Outcome<Incoming<L>> {
        let (socket, _) = self.socket.accept().await?;
        let layer = self.layer.clone();
        Ok(Incoming { socket, layer })
    }

    async fn establish(incoming: Incoming<L>) -> Outcome<Only<L::Socket>> {
        incoming.socket.set_nodelay(true)?;
        Ok(Only::of(L::accept(incoming.layer, incoming.socket).await?))
    }
}

/// Parts that the client needs for a connection.
pub(crate) struct Connecting<L: Layer> {
    server: SocketAddr,
    layer: L::Client,
}

impl<L: Layer> Dialer for Connecting<L> {
    type Connection = Only<L::Socket>;

    async fn dial(&self) -> Outcome<Only<L::Socket>> {
        let socket = TcpStream::connect(self.server).await?;
        socket.set_nodelay(true)?;
        Ok(Only::of(L::connect(self.layer.clone(), socket).await?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            server: self.server,
            layer: self.layer.clone(),
        })
    }
}

/// A connection: its only stream, until it is opened or accepted.
pub(crate) struct Only<S>(Mutex<Option<S>>);

impl<S> Only<S> {
    pub(super) fn of(stream: S) -> Self {
        Self(Mutex::new(Some(stream)))
    }

    pub(super) fn take(&self) -> Option<S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for Only<S> {
    type Stream = TcpBytes<S>;

    async fn open(&self) -> Outcome<TcpBytes<S>> {
        let socket = self.take().ok_or("a connection of it carries one stream")?;
        Ok(TcpBytes::of(socket))
    }

    async fn accept(&self) -> Option<TcpBytes<S>> {
        self.take().map(TcpBytes::of)
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

/// The stream of a connection.
pub(crate) struct TcpBytes<S> {
    socket: S,
    read: Box<[u8]>,
}

impl<S> TcpBytes<S> {
    fn of(socket: S) -> Self {
        let read = vec![0; READ].into();
        Self { socket, read }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for TcpBytes<S> {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        self.socket.write_all(&data).await?;
        Ok(self.socket.flush().await?)
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(self.socket.shutdown().await?)
    }

    async fn drain(&mut self) -> Outcome<usize> {
        Ok(self.socket.read(&mut self.read).await?)
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        self.socket.read_exact(buf).await?;
        Ok(())
    }
}
