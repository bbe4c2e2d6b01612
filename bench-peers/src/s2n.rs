//! QUIC by s2n-quic, over rustls and aws-lc-rs as quinn is.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;

use bytes::Bytes;
use s2n_quic::client::Connect;
use s2n_quic::connection::{BidirectionalStreamAcceptor, Handle};
use s2n_quic::provider::datagram::default::{Endpoint as Datagrams, Receiver, Sender};
use s2n_quic::provider::io::tokio::Provider as Io;
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::tls::rustls;
use s2n_quic::stream::BidirectionalStream;
use s2n_quic::{Client, Server};
use sss_bench::tls::{self, Cryptography};
use sss_bench::tuning::{self, SOCKET_BUFFER, WINDOW};
use sss_bench::{Address, Connection, Dialer, Listener, MTU, Outcome, Settings, Setup, Stream, Transport, Workload};
use tokio::sync::Mutex;

/// Headers of IPv4 and UDP: its MTU counts them.
const HEADERS: u16 = 28;
/// UDP payload of `bulk-natural`: jumbo frames are the largest that it is made for.
const NATURAL_MTU: u16 = 8900;
/// Chunks taken from a stream in one call.
const CHUNKS: usize = 32;
/// Datagrams that wait on either side, tuned: a megabyte, as others have by default.
const DATAGRAMS: usize = 1024;

/// s2n-quic over rustls.
pub(crate) struct S2n;

impl Transport for S2n {
    const LIBRARY: &'static str = "s2n-quic";
    const PACKAGES: &'static [&'static str] = &["s2n-quic", "s2n-quic-transport", "rustls", "aws-lc-rs"];
    type Listener = S2nListener;
    type Dialer = S2nDialer;

    fn excludes(workload: Workload, settings: Settings) -> Option<&'static str> {
        match (workload, settings) {
            (Workload::BulkNatural, Settings::Default) => Some("its default MTU is 1500"),
            (Workload::IdleStreams | Workload::IdleStreams100k, Settings::Default) => {
                Some("its default stream limit is lower")
            }
            (Workload::Datagrams | Workload::DatagramsMany, Settings::Default) => Some("its sender stalls with its default queue of 200"),
            _ => None,
        }
    }

    async fn listen(setup: &Setup) -> Outcome<(Self::Listener, Address)> {
        let (tls, credential) = tls::server(setup, Cryptography::AwsLc)?;
        let builder = Server::builder()
            .with_tls(rustls::Server::from(tls))?
            .with_io(io(setup)?)?
            .with_limits(limits(setup)?)?;
        let server = match datagrams(setup)? {
            Some(datagrams) => builder.with_datagram(datagrams)?.start()?,
            None => builder.start()?,
        };
        let socket = server.local_addr()?;
        Ok((S2nListener(server), Address { socket, credential }))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<Self::Dialer> {
        let tls = tls::client(setup, Cryptography::AwsLc, &address.credential)?;
        let builder = Client::builder()
            .with_tls(rustls::Client::from(tls))?
            .with_io(io(setup)?)?
            .with_limits(limits(setup)?)?;
        let client = match datagrams(setup)? {
            Some(datagrams) => builder.with_datagram(datagrams)?.start()?,
            None => builder.start()?,
        };
        Ok(S2nDialer {
            client,
            server: address.socket,
        })
    }
}

fn io(setup: &Setup) -> Outcome<Io> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut io = Io::builder().with_receive_address(address)?;
    if setup.settings.is_tuned() {
        let natural = setup.workload == Workload::BulkNatural;
        let mtu = HEADERS + if natural { NATURAL_MTU } else { MTU };
        io = io
            .with_send_buffer_size(SOCKET_BUFFER)?
            .with_recv_buffer_size(SOCKET_BUFFER)?
            .with_max_mtu(mtu)?
            .with_initial_mtu(mtu)?
            .with_base_mtu(mtu)?;
    }
    Ok(io.build()?)
}

fn limits(setup: &Setup) -> Outcome<Limits> {
    let limits = Limits::new();
    if !setup.settings.is_tuned() {
        return Ok(limits);
    }
    let streams = u64::from(tuning::stream_limit(setup)?);
    Ok(limits
        .with_data_window(u64::from(WINDOW))?
        .with_bidirectional_local_data_window(u64::from(WINDOW))?
        .with_bidirectional_remote_data_window(u64::from(WINDOW))?
        .with_max_open_local_bidirectional_streams(streams)?
        .with_max_open_remote_bidirectional_streams(streams)?
        .with_max_send_buffer_size(WINDOW)?)
}

/// Datagrams are off unless an endpoint asks for them.
fn datagrams(setup: &Setup) -> Outcome<Option<Datagrams>> {
    if !setup.workload.is_datagrams() {
        return Ok(None);
    }
    let mut builder = Datagrams::builder();
    if setup.settings.is_tuned() {
        builder = builder.with_send_capacity(DATAGRAMS)?.with_recv_capacity(DATAGRAMS)?;
    }
    Ok(Some(builder.build()?))
}

/// The server's endpoint.
pub(crate) struct S2nListener(Server);

impl Listener for S2nListener {
    type Connection = S2nConnection;
    /// Its handshake is complete.
    type Incoming = s2n_quic::Connection;

    async fn accept(&mut self) -> Outcome<Self::Incoming> {
        self.0.accept().await.ok_or_else(|| "the endpoint was closed".into())
    }

    async fn establish(incoming: Self::Incoming) -> Outcome<Self::Connection> {
        Ok(S2nConnection::of(incoming))
    }
}

/// The client's endpoint: one socket for all connections.
pub(crate) struct S2nDialer {
    client: Client,
    server: SocketAddr,
}

impl Dialer for S2nDialer {
    type Connection = S2nConnection;

    async fn dial(&self) -> Outcome<Self::Connection> {
        let connect = Connect::new(self.server).with_server_name(tls::NAME);
        Ok(S2nConnection::of(self.client.connect(connect).await?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Ok(Self {
            client: self.client.clone(),
            server: self.server,
        })
    }
}

/// One QUIC connection.
pub(crate) struct S2nConnection {
    handle: Handle,
    accepted: Mutex<BidirectionalStreamAcceptor>,
}

impl S2nConnection {
    fn of(connection: s2n_quic::Connection) -> Self {
        let (handle, acceptor) = connection.split();
        let (accepted, _) = acceptor.split();
        Self {
            handle,
            accepted: Mutex::new(accepted),
        }
    }
}

impl Connection for S2nConnection {
    type Stream = S2nStream;

    async fn open(&self) -> Outcome<Self::Stream> {
        Ok(S2nStream(self.handle.clone().open_bidirectional_stream().await?))
    }

    async fn accept(&self) -> Option<Self::Stream> {
        let accepted = self.accepted.lock().await.accept_bidirectional_stream().await;
        Some(S2nStream(accepted.ok()??))
    }

    async fn send_datagram(&self, mut data: Bytes) -> Outcome<()> {
        poll_fn(|cx| {
            let polled = self
                .handle
                .datagram_mut(|sender: &mut Sender| sender.poll_send_datagram(&mut data, cx));
            match polled {
                Ok(polled) => polled.map_err(|error| error.to_string().into()),
                Err(error) => Poll::Ready(Err(error.to_string().into())),
            }
        })
        .await
    }

    async fn recv_datagram(&self) -> Option<usize> {
        poll_fn(|cx| {
            let polled = self
                .handle
                .datagram_mut(|receiver: &mut Receiver| receiver.poll_recv_datagram(cx));
            match polled {
                Ok(polled) => polled.map(|received| received.ok().map(|datagram| datagram.len())),
                Err(_) => Poll::Ready(None),
            }
        })
        .await
    }

    async fn close(self) -> Outcome<()> {
        self.handle.close(0_u32.into());
        Ok(())
    }
}

/// A bidirectional stream.
pub(crate) struct S2nStream(BidirectionalStream);

impl Stream for S2nStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        Ok(self.0.send(data).await?)
    }

    async fn finish(&mut self) -> Outcome<()> {
        Ok(self.0.finish()?)
    }

    async fn drain(&mut self) -> Outcome<usize> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let (count, _) = self.0.receive_vectored(&mut chunks).await?;
        Ok(chunks.iter().take(count).map(Bytes::len).sum())
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        use tokio::io::AsyncReadExt as _;
        self.0.read_exact(buf).await?;
        Ok(())
    }
}
