//! The limit: datagrams sealed in place, sent and received in batches, opened in place, and nothing else. It knows one
//! client and one stream, tells how much has arrived so that socket buffers do not overflow, repeats nothing, and ends
//! with an error when a datagram is missing.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::tcp::Only;
use crate::outcome::Outcome;
use crate::setup::{Address, MTU, Settings, Setup, Workload};
use crate::transport::{Connection, Dialer, Listener, Stream, Transport};
use crate::tuning;

/// Bytes of a UDP payload in `bulk-natural`: one datagram for each call.
const NATURAL: usize = 65_000;
/// Bytes of all segments of one call: what fits into an IP packet.
const CALL: usize = 65_507;
const SEGMENTS: usize = 64;
const KEY: usize = 32;
const TAG: usize = 16;
/// Bytes of a datagram that tells how many have arrived. Sealed ones are longer.
const CREDIT: usize = 8;
const HELLO: &[u8] = b"hello";

/// Sealed datagrams.
pub(crate) struct Raw;

impl Transport for Raw {
    const LIBRARY: &'static str = "raw";
    const PACKAGES: &'static [&'static str] = &["quinn-udp", "aws-lc-rs", "tokio"];
    type Listener = RawListener;
    type Dialer = RawDialer;

    fn excludes(workload: Workload, _: Settings) -> Option<&'static str> {
        let is_bulk = matches!(workload, Workload::Bulk | Workload::BulkNatural);
        (!is_bulk).then_some("it moves bytes and does nothing else")
    }

    async fn listen(setup: &Setup) -> Outcome<(RawListener, Address)> {
        let mut credential = vec![0; KEY];
        aws_lc_rs::rand::fill(&mut credential)?;
        let socket = open(setup)?;
        let address = Address {
            socket: socket.local_addr()?,
            credential: credential.clone(),
        };
        let ends = Ends::of(setup, &credential, Side::Server)?;
        Ok((RawListener(Some((socket, ends))), address))
    }

    async fn dialer(setup: &Setup, address: &Address) -> Outcome<RawDialer> {
        Ok(RawDialer {
            setup: setup.clone(),
            server: address.clone(),
        })
    }
}

fn open(setup: &Setup) -> Outcome<UdpSocket> {
    let socket = tuning::socket(setup)?;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket)?)
}

/// The server's socket, until its one client has come.
pub(crate) struct RawListener(Option<(UdpSocket, Ends)>);

impl Listener for RawListener {
    type Connection = Only<RawStream>;
    type Incoming = RawStream;

    async fn accept(&mut self) -> Outcome<RawStream> {
        let Some((socket, ends)) = self.0.take() else {
            return std::future::pending().await;
        };
        let mut hello = [0; HELLO.len()];
        let (_, client) = socket.recv_from(&mut hello).await?;
        socket.connect(client).await?;
        RawStream::of(socket, client, ends)
    }

    async fn establish(stream: RawStream) -> Outcome<Only<RawStream>> {
        Ok(Only::of(stream))
    }
}

/// Parts that the client needs for a stream.
pub(crate) struct RawDialer {
    setup: Setup,
    server: Address,
}

impl Dialer for RawDialer {
    type Connection = Only<RawStream>;

    async fn dial(&self) -> Outcome<Only<RawStream>> {
        let socket = open(&self.setup)?;
        socket.connect(self.server.socket).await?;
        socket.send(HELLO).await?;
        let ends = Ends::of(&self.setup, &self.server.credential, Side::Client)?;
        Ok(Only::of(RawStream::of(socket, self.server.socket, ends)?))
    }

    async fn sibling(&self) -> Outcome<Self> {
        Err("it knows one client".into())
    }
}

impl Connection for Only<RawStream> {
    type Stream = RawStream;

    async fn open(&self) -> Outcome<RawStream> {
        Ok(self.take().ok_or("it has one stream")?)
    }

    async fn accept(&self) -> Option<RawStream> {
        self.take()
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// The keys of both directions, and the size of datagrams.
struct Ends {
    key: LessSafeKey,
    side: Side,
    datagram: usize,
}

impl Ends {
    fn of(setup: &Setup, key: &[u8], side: Side) -> Outcome<Self> {
        let datagram = match setup.workload {
            Workload::BulkNatural => NATURAL,
            _ => usize::from(MTU),
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
        Ok(Self { key, side, datagram })
    }

    /// The nonce of a datagram that this side sends, or receives.
    fn nonce(&self, number: u64, is_sent: bool) -> Nonce {
        let is_of_client = (self.side == Side::Client) == is_sent;
        let mut nonce = [u8::from(is_of_client); 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The stream, and the socket that it has to itself.
pub(crate) struct RawStream {
    socket: UdpSocket,
    state: UdpSocketState,
    peer: SocketAddr,
    ends: Ends,
    /// Datagrams of this side that may be on their way.
    window: u64,
    sent: u64,
    arrived_there: u64,
    arrived_here: u64,
    told: u64,
    is_over: bool,
    out: Vec<u8>,
    buffers: Vec<Vec<u8>>,
}

impl RawStream {
    fn of(socket: UdpSocket, peer: SocketAddr, ends: Ends) -> Outcome<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // The system counts its own bookkeeping, too, and both sides have buffers of the same size.
        let room = SockRef::from(&socket).recv_buffer_size()? / 2;
        Ok(Self {
            state,
            peer,
            window: u64::try_from((room / ends.datagram).max(1))?,
            ends,
            sent: 0,
            arrived_there: 0,
            arrived_here: 0,
            told: 0,
            is_over: false,
            out: Vec::with_capacity(CALL),
            buffers: (0..BATCH_SIZE).map(|_| vec![0; 1 << 16]).collect(),
            socket,
        })
    }

    /// Datagrams of a call.
    fn batch(&self) -> u64 {
        let most = (CALL / self.ends.datagram)
            .min(SEGMENTS)
            .min(self.state.max_gso_segments());
        most as u64
    }

    /// Seals a datagram behind those that wait to be sent together.
    fn seal(&mut self, data: &[u8]) -> Outcome<()> {
        let begin = self.out.len();
        self.out.extend_from_slice(data);
        let nonce = self.ends.nonce(self.sent, true);
        let body = &mut self.out[begin..];
        let tag = self.ends.key.seal_in_place_separate_tag(nonce, Aad::empty(), body)?;
        self.out.extend_from_slice(tag.as_ref());
        self.sent += 1;
        Ok(())
    }

    /// Sends what was sealed.
    async fn flush(&mut self) -> Outcome<()> {
        let transmit = Transmit {
            destination: self.peer,
            ecn: None,
            contents: &self.out,
            segment_size: (self.out.len() > self.ends.datagram).then_some(self.ends.datagram),
            src_ip: None,
        };
        let send = || self.state.try_send((&self.socket).into(), &transmit);
        self.socket.async_io(Interest::WRITABLE, send).await?;
        self.out.clear();
        Ok(())
    }

    /// Receives what has come; returns which parts of which buffers are datagrams.
    async fn receive(&mut self) -> Outcome<Vec<(usize, Range<usize>)>> {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let receive = || -> io::Result<usize> { self.state.recv((&self.socket).into(), &mut slices, &mut meta) };
        let count = self.socket.async_io(Interest::READABLE, receive).await?;
        let batches = meta.iter().take(count).enumerate();
        let datagrams = batches.flat_map(|(index, meta)| {
            let begins = (0..meta.len).step_by(meta.stride.max(1));
            begins.map(move |begin| (index, begin..(begin + meta.stride).min(meta.len)))
        });
        Ok(datagrams.collect())
    }

    /// Takes a datagram that has come: notes a credit; opens anything else, and returns its bytes.
    fn take(&mut self, (index, at): (usize, Range<usize>)) -> Outcome<Option<Range<usize>>> {
        let datagram = &mut self.buffers[index][at.clone()];
        if let Ok(credit) = <[u8; CREDIT]>::try_from(&*datagram) {
            self.arrived_there = self.arrived_there.max(u64::from_be_bytes(credit));
            return Ok(None);
        }
        let nonce = self.ends.nonce(self.arrived_here, false);
        let opened = self.ends.key.open_in_place(nonce, Aad::empty(), datagram);
        let len = opened
            .map_err(|_| "a datagram was lost or changed, and nothing is repeated here")?
            .len();
        self.arrived_here += 1;
        Ok(Some(at.start..at.start + len))
    }

    /// Tells the other side what has arrived, now and then.
    async fn tell(&mut self) -> Outcome<()> {
        if self.arrived_here - self.told >= self.window / 4 {
            self.told = self.arrived_here;
            self.socket.send(&self.told.to_be_bytes()).await?;
        }
        Ok(())
    }
}

impl Stream for RawStream {
    async fn send(&mut self, data: Bytes) -> Outcome<()> {
        let payload = self.ends.datagram - TAG;
        for call in data.chunks(payload * usize::try_from(self.batch())?) {
            while self.sent - self.arrived_there >= self.window {
                for datagram in self.receive().await? {
                    self.take(datagram)?;
                }
            }
            for piece in call.chunks(payload) {
                self.seal(piece)?;
            }
            self.flush().await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Outcome<()> {
        self.seal(&[])?;
        self.flush().await
    }

    async fn drain(&mut self) -> Outcome<usize> {
        let mut count = 0;
        while count == 0 && !self.is_over {
            for datagram in self.receive().await? {
                if let Some(opened) = self.take(datagram)? {
                    count += opened.len();
                    self.is_over |= opened.is_empty();
                }
            }
            self.tell().await?;
        }
        Ok(count)
    }

    async fn receive_exact(&mut self, buf: &mut [u8]) -> Outcome<()> {
        loop {
            for (index, at) in self.receive().await? {
                if let Some(opened) = self.take((index, at))? {
                    if opened.len() != buf.len() {
                        return Err(format!("{} bytes instead of {}", opened.len(), buf.len()).into());
                    }
                    buf.copy_from_slice(&self.buffers[index][opened]);
                    return Ok(());
                }
            }
        }
    }
}
