//! Moves packets between a TURN server and the core, over UDP or TCP, until the allocation is lost or given back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use sss_proto::{Batch, Ecn, Input, Link, TurnId};
use sss_reach::Allocated;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::allocation::{Allocation, News};
use super::message::next_len;
use super::table::{Queue, TurnError, TurnState, Wish};
use super::{GIVING_BACK, TurnServer, TurnTransport, unwanted};
use crate::shared::Shared;

/// Bytes of what is read at once, at most.
const CHUNK: usize = 64 << 10;
/// Longest datagram that is taken in whole: one that is longer is cut, and then no message.
const MAX_DATAGRAM: usize = 4096;
/// Bytes that wait for a connection of TCP to take them, at most.
const MAX_WAITING: usize = 256 << 10;
/// Bytes of socket buffer asked for.
const BUFFERS: usize = 1 << 20;
/// Packets that the core is given while the host is locked once.
const MAX_BATCH: usize = 64;
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Time for a name to be found, and for a connection to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// Way to the server.
enum Io {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        read: BytesMut,
        write: BytesMut,
    },
}

/// An allocation that is there, and the way to its server.
pub(super) struct Session {
    /// The number of the server among those of the host.
    pub(super) n: usize,
    at: SocketAddr,
    relayed: SocketAddr,
    allocation: Allocation,
    io: Io,
}

/// Packets that have come from peers.
type Packets = Vec<(SocketAddr, BytesMut)>;

/// End of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Lost,
    /// Nothing came through it, and it is given back.
    Mute,
    GivenBack,
}

impl Io {
    async fn open(transport: TurnTransport, at: SocketAddr) -> io::Result<Self> {
        match transport {
            TurnTransport::Udp => {
                let any: SocketAddr = match at {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any).await?;
                // As much as the system lets have.
                let _ = SockRef::from(&socket).set_recv_buffer_size(BUFFERS);
                let _ = SockRef::from(&socket).set_send_buffer_size(BUFFERS);
                // Nothing from elsewhere comes in, and the system says if nobody takes packets there.
                socket.connect(at).await?;
                Ok(Self::Udp(socket))
            }
            TurnTransport::Tcp => {
                let connected = timeout(PATIENCE, TcpStream::connect(at)).await;
                let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                let _ = stream.set_nodelay(true);
                let (read, write) = (BytesMut::new(), BytesMut::new());
                Ok(Self::Tcp { stream, read, write })
            }
        }
    }

    /// Waits until something has come, or more can be sent of what waits. Cancel safe.
    async fn ready(&self) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.readable().await,
            Self::Tcp { stream, write, .. } if write.is_empty() => stream.readable().await,
            Self::Tcp { stream, .. } => {
                tokio::select! {
                    ready = stream.readable() => ready,
                    ready = stream.writable() => ready,
                }
            }
        }
    }

    /// The next packet of UDP, or message of TCP, if one has come.
    fn next(&mut self, scratch: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        match self {
            Self::Udp(socket) => {
                scratch.resize(MAX_DATAGRAM, 0);
                let received = unless_blocked(socket.try_recv(scratch))?;
                Ok(received.map(|len| scratch.split_to(len)))
            }
            Self::Tcp { stream, read, .. } => loop {
                let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
                if let Some(len) = next_len(read).map_err(malformed)? {
                    return Ok(Some(read.split_to(len)));
                }
                read.reserve(CHUNK);
                match unless_blocked(stream.try_read_buf(read))? {
                    None => return Ok(None),
                    Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(_) => {}
                }
            },
        }
    }

    /// Sends a packet. False if there is no room.
    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        match self {
            Self::Udp(socket) => Ok(unless_blocked(socket.try_send(packet))?.is_some()),
            Self::Tcp { write, .. } if write.len() + packet.len() > MAX_WAITING => Ok(false),
            Self::Tcp { write, .. } => {
                write.extend_from_slice(packet);
                Ok(true)
            }
        }
    }

    /// Hands on what waits, as far as it is taken.
    fn flush(&mut self) -> io::Result<()> {
        let Self::Tcp { stream, write, .. } = self else {
            return Ok(());
        };
        while !write.is_empty() {
            match unless_blocked(stream.try_write(write))? {
                Some(len) => write.advance(len),
                None => break,
            }
        }
        Ok(())
    }

    fn is_datagrams(&self) -> bool {
        matches!(self, Self::Udp(_))
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The addresses of a place.
async fn look_up(place: &str) -> Result<Vec<SocketAddr>, TurnError> {
    let found = timeout(PATIENCE, tokio::net::lookup_host(place)).await;
    let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let addresses = found.map_err(|error| TurnError::Unresolved(error.to_string()))?;
    Ok(addresses.take(MAX_ADDRESSES).collect())
}

impl Session {
    /// Gets an allocation from a server, the host's `n`th.
    pub(super) async fn open(n: usize, server: Arc<TurnServer>) -> Result<Self, TurnError> {
        let mut why = TurnError::Unresolved("it has no address".to_owned());
        for at in look_up(&server.place).await? {
            let io = match Io::open(server.transport, at).await {
                Ok(io) => io,
                Err(error) => {
                    why = TurnError::Unreachable(error.to_string());
                    continue;
                }
            };
            let allocation = Allocation::new(now(), Arc::clone(&server), at);
            let mut session = Self {
                n,
                at,
                relayed: at,
                allocation,
                io,
            };
            match session.allocated().await {
                Ok(relayed) => return Ok(Self { relayed, ..session }),
                Err(other) => why = other,
            }
        }
        Err(why)
    }

    async fn allocated(&mut self) -> Result<SocketAddr, TurnError> {
        let mut packets = Packets::new();
        loop {
            match self.allocation.poll_news() {
                Some(News::Open(relayed)) => return Ok(relayed),
                Some(News::Gone(why)) => return Err(why),
                Some(News::Ended) | None => {}
            }
            self.step(&mut packets).await?;
        }
    }

    /// Sends what is to be sent, and waits until something has come, or a timer has: that is dealt with.
    async fn step(&mut self, packets: &mut Packets) -> Result<(), TurnError> {
        self.send()?;
        let at = self.allocation.next_timer();
        let at = at.map_or_else(|| Instant::now() + PATIENCE, Instant::from_std);
        tokio::select! {
            ready = self.io.ready() => {
                ready.map_err(closed)?;
                self.receive(packets)
            }
            () = sleep_until(at) => {
                self.allocation.on_timer(now());
                Ok(())
            }
        }
    }

    fn send(&mut self) -> Result<(), TurnError> {
        while let Some(packet) = self.allocation.poll_transmit() {
            match self.io.send(&packet) {
                Ok(true) => {}
                Ok(false) => self.allocation.stats.dropped += 1,
                // Of UDP, an error is what a router or the system has said of a packet before.
                Err(_) if self.io.is_datagrams() => self.allocation.on_unreachable(now()),
                Err(error) => return Err(closed(error)),
            }
        }
        self.io.flush().map_err(closed)
    }

    fn receive(&mut self, packets: &mut Packets) -> Result<(), TurnError> {
        let now = now();
        let mut scratch = BytesMut::new();
        while packets.len() < MAX_BATCH {
            match self.io.next(&mut scratch) {
                Ok(None) => break,
                Ok(Some(bytes)) => {
                    if let Some((peer, data)) = self.allocation.receive(now, &bytes) {
                        packets.push((peer, BytesMut::from(data)));
                    }
                }
                Err(_) if self.io.is_datagrams() => {
                    self.allocation.on_unreachable(now);
                    break;
                }
                Err(error) => return Err(closed(error)),
            }
        }
        Ok(())
    }

    /// Carries packets both ways, as long as an allocation is wanted.
    pub(super) async fn carry(mut self, shared: &Weak<Shared>, wishes: &mut watch::Receiver<Wish>) -> End {
        let Some(host) = shared.upgrade() else {
            self.give_back().await;
            return End::GivenBack;
        };
        let (n, at, relayed) = (self.n, self.at, self.relayed);
        let (id, queue) = host.feed(|inner, now| {
            let (id, queue) = inner.turns.begin(n, (at, relayed));
            let allocated = Allocated { id, relayed };
            inner.rendezvous.on_turn_opened(now, &mut inner.core, allocated);
            (id, queue)
        });
        drop(host);
        tracing::debug!(%at, %relayed, "a TURN server has given an allocation");
        let ended = self.run((shared, id), &queue, wishes).await;
        let stats = std::mem::take(&mut self.allocation.stats);
        if let Some(host) = shared.upgrade() {
            host.feed(|inner, now| {
                inner.turns.end(id);
                inner.turns.count(n, stats);
                inner.turns.on_state(
                    n,
                    match &ended {
                        Ok(()) => TurnState::Idle,
                        Err(why) => TurnState::Failed(why.clone()),
                    },
                );
                inner.rendezvous.on_turn_lost(now, &mut inner.core, id);
            });
        }
        match ended {
            Ok(()) => {
                self.give_back().await;
                End::GivenBack
            }
            Err(TurnError::Mute) => {
                tracing::debug!(%at, "nothing comes through the allocation at the TURN server");
                self.give_back().await;
                End::Mute
            }
            Err(why) => {
                tracing::debug!(%at, %why, "the allocation at the TURN server is lost");
                End::Lost
            }
        }
    }

    async fn run(
        &mut self,
        (shared, id): (&Weak<Shared>, TurnId),
        queue: &Queue,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Result<(), TurnError> {
        let mut packets = Packets::new();
        loop {
            match self.allocation.poll_news() {
                Some(News::Gone(why)) => return Err(why),
                Some(News::Open(_) | News::Ended) | None => {}
            }
            tokio::select! {
                () = unwanted(wishes) => return Ok(()),
                taken = queue.take() => {
                    self.allocation.stats.dropped += taken.dropped;
                    if taken.is_mute {
                        return Err(TurnError::Mute);
                    }
                    if taken.has_moved {
                        self.allocation.on_network_change(now());
                    }
                    for (to, packet) in taken.packets {
                        self.allocation.send(now(), to, &packet);
                        self.send()?;
                    }
                }
                step = self.step(&mut packets) => step?,
            }
            if !packets.is_empty() && !feed((shared, id), &mut packets) {
                return Ok(());
            }
            let stats = std::mem::take(&mut self.allocation.stats);
            if stats != Default::default()
                && let Some(host) = shared.upgrade()
            {
                host.feed(|inner, _| inner.turns.count(self.n, stats));
            }
        }
    }

    /// Gives the allocation back. Does not wait for long.
    pub(super) async fn give_back(mut self) {
        self.allocation.end(now());
        let ended = async {
            let mut packets = Packets::new();
            while !matches!(self.allocation.poll_news(), Some(News::Ended)) {
                if self.step(&mut packets).await.is_err() {
                    return;
                }
                packets.clear();
            }
        };
        let _ = timeout(GIVING_BACK, ended).await;
    }
}

/// Gives packets to the core. False if the host is gone.
fn feed((shared, id): (&Weak<Shared>, TurnId), packets: &mut Packets) -> bool {
    let Some(host) = shared.upgrade() else {
        return false;
    };
    host.feed(|inner, now| {
        for (peer, mut data) in packets.drain(..) {
            let batch = Batch {
                stride: data.len(),
                data: &mut data,
                lent: &mut None,
                link: Link::Turn(id, peer),
                local: None,
                ecn: Ecn::NotEct,
            };
            inner.handle(now, Input::Datagrams(batch));
        }
    });
    true
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn closed(error: io::Error) -> TurnError {
    TurnError::Closed(error.to_string())
}

/// The time, as tests may set it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
