//! Moves packets between a tunnel and the core, until one of them ends.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use sss_proto::{Batch, Ecn, Input, Instant, Link, TunnelId};
use sss_wire::reach::tunnel::{FRAME_HEADER, next_frame};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant as Time, timeout, timeout_at};

use super::guests::Pulse;
use crate::shared::{Inner, Shared};
use crate::tunnels::Queue;

/// Bytes that are read at once.
const CHUNK: usize = 32 << 10;
/// Packets that the core is given while the host is locked once: of the smallest, a chunk has thousands.
const MAX_BATCH: usize = 64;
/// Time for which the other end may take nothing.
const MAX_STALL: Duration = Duration::from_secs(30);
/// Bytes that the system takes before they can be sent: more would only wait there, where it cannot be dropped.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 32 << 10;

/// Reason why a tunnel ends.
#[derive(Debug, Error)]
pub(super) enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other end has closed it")]
    Closed,
    #[error("it carries what is no packet")]
    Malformed,
    #[error("nothing came for too long")]
    Idle,
    #[error("the other end takes nothing")]
    Stalled,
    #[error("the host is gone")]
    HostGone,
}

/// A tunnel in the table of a host. It is not there any more when this is dropped.
pub(super) struct Entry {
    shared: Weak<Shared>,
    id: TunnelId,
    queue: Arc<Queue>,
}

/// Duty of a server that has a tunnel: it looks whether packets come.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    /// Note of when they came.
    pub(super) pulse: &'a Pulse,
    /// Time for which none may come.
    pub(super) idle: Duration,
}

impl Entry {
    /// Adds a tunnel, and lets it be told of. `None` if the host is gone.
    pub(super) fn new(shared: &Weak<Shared>, tell: impl FnOnce(&mut Inner, Instant, TunnelId)) -> Option<Self> {
        let queue = Arc::new(Queue::default());
        let host = shared.upgrade()?;
        let id = host.feed(|inner, now| {
            let id = inner.tunnels.open(Arc::clone(&queue));
            tell(inner, now, id);
            id
        });
        let shared = Weak::clone(shared);
        Some(Self { shared, id, queue })
    }

    /// Carries packets both ways.
    pub(super) async fn carry<S: AsyncRead + AsyncWrite>(&self, stream: S, watch: Option<Watch<'_>>) -> End {
        let (reader, writer) = tokio::io::split(stream);
        let ended = tokio::select! {
            ended = self.read(reader, watch) => ended,
            ended = self.write(writer) => ended,
        };
        let Err(end) = ended;
        if let Some(host) = self.shared.upgrade() {
            host.feed(|inner, _| match end {
                End::Malformed => inner.tunnels.stats.malformed += 1,
                End::Idle | End::Stalled => inner.tunnels.stats.idle += 1,
                End::Io(_) | End::Closed | End::HostGone => {}
            });
        }
        end
    }

    async fn read(
        &self,
        mut reader: impl AsyncRead + Unpin,
        watch: Option<Watch<'_>>,
    ) -> Result<std::convert::Infallible, End> {
        let mut bytes = BytesMut::new();
        let mut latest = Time::now();
        let beat = |at: Time| watch.iter().for_each(|watch| watch.pulse.beat(at.into_std()));
        beat(latest);
        loop {
            bytes.reserve(CHUNK);
            let read = reader.read_buf(&mut bytes);
            let n = match watch {
                Some(watch) => timeout_at(latest + watch.idle, read).await.map_err(|_| End::Idle)??,
                None => read.await?,
            };
            if n == 0 {
                return Err(End::Closed);
            }
            loop {
                let (packets, is_sound) = next_batch(&mut bytes);
                let count = packets.len();
                // Part of a packet is none: who sends a byte now and then is idle.
                if count > 0 {
                    self.feed(packets)?;
                    latest = Time::now();
                    beat(latest);
                }
                match is_sound {
                    false => return Err(End::Malformed),
                    true if count < MAX_BATCH => break,
                    // Others have their turn.
                    true => tokio::task::yield_now().await,
                }
            }
        }
    }

    async fn write(&self, mut writer: impl AsyncWrite + Unpin) -> Result<std::convert::Infallible, End> {
        loop {
            let frames = self.queue.take().await;
            let write = async {
                writer.write_all(&frames).await?;
                writer.flush().await
            };
            timeout(MAX_STALL, write).await.map_err(|_| End::Stalled)??;
        }
    }

    /// Gives packets to the core.
    fn feed(&self, packets: Vec<BytesMut>) -> Result<(), End> {
        let host = self.shared.upgrade().ok_or(End::HostGone)?;
        host.feed(|inner, now| {
            inner.tunnels.stats.received += packets.len() as u64;
            for packet in packets {
                self.feed_one(inner, now, &packet);
            }
        });
        Ok(())
    }

    fn feed_one(&self, inner: &mut Inner, now: Instant, packet: &[u8]) {
        // With memory of its own: a slice that somebody keeps keeps no more than that.
        let mut data = BytesMut::from(packet);
        let batch = Batch {
            stride: data.len(),
            data: &mut data,
            lent: &mut None,
            link: Link::Tunnel(self.id),
            local: None,
            ecn: Ecn::NotEct,
        };
        inner.handle(now, Input::Datagrams(batch));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(host) = self.shared.upgrade() {
            host.feed(|inner, _| inner.tunnels.close(self.id));
        }
    }
}

/// Takes out packets that have come as a whole: [`MAX_BATCH`] at most, and whether what follows them may be a frame.
fn next_batch(bytes: &mut BytesMut) -> (Vec<BytesMut>, bool) {
    let mut packets = Vec::new();
    while packets.len() < MAX_BATCH {
        match next_frame(bytes) {
            Ok(Some(len)) => {
                bytes.advance(FRAME_HEADER);
                packets.push(bytes.split_to(len));
            }
            Ok(None) => break,
            Err(_) => return (packets, false),
        }
    }
    (packets, true)
}

/// Sets a connection up for packets, which are not to wait for each other. What cannot be set only costs time.
pub(super) fn set_up(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::host::Host;

    /// The other end of a tunnel, and what it comes to.
    async fn tunnel(idle: Duration) -> (Host, DuplexStream, JoinHandle<End>) {
        let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
        let (here, there) = duplex(1 << 16);
        let entry = Entry::new(&Arc::downgrade(host.shared()), |_, _, _| {}).unwrap();
        let carried = tokio::spawn(async move {
            let pulse = &Pulse::default();
            entry.carry(here, Some(Watch { pulse, idle })).await
        });
        (host, there, carried)
    }

    // spec: RCH-22
    #[tokio::test]
    async fn threat_40_packets_are_taken_in_whatever_parts_they_come_and_what_is_none_ends_the_tunnel() {
        let (host, mut there, carried) = tunnel(Duration::from_secs(60)).await;
        for byte in [0, 3, 0xff, 7, 7, 0, 1] {
            there.write_all(&[byte]).await.unwrap();
        }
        there.write_all(&[0x40, 0, 2, 1, 2]).await.unwrap();
        while host.tunnel_stats().received < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(host.tunnel_stats().open, 1);
        there.write_all(&[0xff, 0xff, 1]).await.unwrap();
        assert!(matches!(carried.await.unwrap(), End::Malformed));
        let stats = host.tunnel_stats();
        assert_eq!((stats.malformed, stats.open, stats.received), (1, 0, 3));
        assert!(host.stats().datagrams_received >= 3);
    }

    // spec: RCH-22
    #[tokio::test]
    async fn threat_40_the_smallest_packets_do_not_keep_a_host_locked_for_long() {
        let mut bytes = BytesMut::from(&[0, 1, 0x40].repeat(10_000)[..]);
        let batches = std::iter::repeat_with(|| next_batch(&mut bytes)).take_while(|(packets, _)| !packets.is_empty());
        let sizes: Vec<_> = batches.map(|(packets, _)| packets.len()).collect();
        assert!(sizes.iter().all(|n| *n <= 64), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 10_000);
        // None is left behind.
        let (host, mut there, _carried) = tunnel(Duration::from_secs(60)).await;
        there.write_all(&[0, 1, 0x40].repeat(10_000)).await.unwrap();
        while host.tunnel_stats().received < 10_000 {
            tokio::task::yield_now().await;
        }
    }

    // spec: RCH-22
    #[tokio::test]
    async fn threat_40_who_sends_a_byte_now_and_then_is_idle() {
        let (host, mut there, carried) = tunnel(Duration::from_millis(300)).await;
        there.write_all(&[0, 1, 0x40, 0, 200]).await.unwrap();
        while !carried.is_finished() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = there.write_all(&[0]).await;
        }
        assert!(matches!(carried.await.unwrap(), End::Idle));
        assert_eq!(host.tunnel_stats().idle, 1);
        drop(host);
    }

    // spec: RCH-22
    #[tokio::test]
    async fn threat_40_a_tunnel_that_takes_nothing_holds_no_more_than_its_queue() {
        let (host, there, _carried) = tunnel(Duration::from_secs(60)).await;
        let id = TunnelId(1);
        host.shared().feed(|inner, _| {
            for _ in 0..10_000 {
                inner.tunnels.send(id, &[1; 1000], 1000);
            }
        });
        let stats = host.tunnel_stats();
        assert!(stats.sent * 1002 <= 256 << 10, "{stats:?}");
        assert_eq!(stats.sent + stats.dropped, 10_000);
        drop(there);
    }
}
