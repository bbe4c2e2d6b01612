//! An emulated link between real sockets: datagrams wait for the rate of a bottleneck, then for the delay of the path.
//!
//! One socket faces the client, one the server. For each direction a thread receives and says when each datagram is to
//! leave, and a thread waits for that moment and sends it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;

/// Time after which a thread looks again whether the link is still wanted.
const PATIENCE: Duration = Duration::from_millis(200);

/// One direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direction {
    /// Bits per second; none: as fast as can be.
    pub(crate) rate: Option<u64>,
    pub(crate) delay: Duration,
    /// Bytes that wait for the rate, at most.
    pub(crate) queue: usize,
}

/// A link to a server. It ends when this is dropped.
pub(crate) struct Link {
    address: SocketAddr,
    down: Arc<Bottleneck>,
    /// Threads end when this is gone.
    _alive: Arc<()>,
}

/// Time at which the bottleneck is done with what it holds.
struct Bottleneck {
    direction: Direction,
    free_at: Mutex<Instant>,
}

impl Bottleneck {
    fn new(direction: Direction) -> Arc<Self> {
        Arc::new(Self {
            direction,
            free_at: Mutex::new(Instant::now()),
        })
    }

    /// Returns when a datagram of so many bytes arrives at the other end. `None` if there is no room for it.
    fn admit(&self, bytes: usize) -> Option<Instant> {
        let now = Instant::now();
        let Some(rate) = self.direction.rate else {
            return Some(now + self.direction.delay);
        };
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = free_at.saturating_duration_since(now);
        let held = waiting.as_secs_f64() * rate as f64 / 8.0;
        if held + bytes as f64 > self.direction.queue as f64 + bytes as f64 {
            return None;
        }
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        *free_at = now + waiting + takes;
        Some(*free_at + self.direction.delay)
    }
}

/// A datagram, and when it arrives.
type Travelling = (Instant, Vec<u8>);

impl Link {
    /// A link between whoever sends to [`Self::address`] first and `server`.
    pub(crate) fn start(server: SocketAddr, up: Direction, down: Direction) -> Outcome<Self> {
        let front = socket()?;
        let back = socket()?;
        back.connect(server)?;
        let address = front.local_addr()?;
        let alive = Arc::new(());
        let client: Arc<OnceLock<SocketAddr>> = Arc::default();
        let (up, down) = (Bottleneck::new(up), Bottleneck::new(down));

        let (to_server, from_client) = mpsc::channel();
        let (receiving, sending) = (front.try_clone()?, back.try_clone()?);
        let known = Arc::clone(&client);
        let bottleneck = Arc::clone(&up);
        let wanted = Arc::downgrade(&alive);
        thread::spawn(move || {
            while wanted.strong_count() > 0 {
                receive(&bottleneck, &to_server, |buf| {
                    let (len, from) = receiving.recv_from(buf)?;
                    known.get_or_init(|| from);
                    Ok(len)
                });
            }
        });
        thread::spawn(move || deliver(&from_client, |bytes| sending.send(bytes)));

        let (to_client, from_server) = mpsc::channel();
        let bottleneck = Arc::clone(&down);
        let wanted = Arc::downgrade(&alive);
        thread::spawn(move || {
            while wanted.strong_count() > 0 {
                receive(&bottleneck, &to_client, |buf| back.recv(buf));
            }
        });
        thread::spawn(move || {
            deliver(&from_server, |bytes| match client.get() {
                Some(client) => front.send_to(bytes, client),
                None => Ok(0),
            });
        });
        Ok(Self {
            address,
            down,
            _alive: alive,
        })
    }

    /// Returns where the server is, as seen by the client.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how long a datagram towards the client would wait now.
    pub(crate) fn backlog(&self) -> Duration {
        let free_at = self.down.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        free_at.saturating_duration_since(Instant::now())
    }
}

fn socket() -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Takes in one datagram, if one comes.
fn receive(
    bottleneck: &Bottleneck,
    out: &Sender<Travelling>,
    receive: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
) {
    let mut buf = [0; 65_536];
    // A time-out, or a port that is not open at the moment: nothing has come.
    if let Ok(len) = receive(&mut buf)
        && let Some(at) = bottleneck.admit(len)
        && let Some(bytes) = buf.get(..len)
    {
        // The other thread lives as long as this one.
        let _ = out.send((at, bytes.to_vec()));
    }
}

fn deliver(incoming: &Receiver<Travelling>, send: impl Fn(&[u8]) -> std::io::Result<usize>) {
    for (at, bytes) in incoming {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // What cannot be sent is lost, as on any link.
        let _ = send(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bottleneck_has_a_rate_a_delay_and_a_queue() {
        let delay = Duration::from_millis(500);
        let bottleneck = Bottleneck::new(Direction {
            rate: Some(80_000),
            delay,
            queue: 2000,
        });
        let start = Instant::now();
        let arrivals: Vec<_> = (0..5).map(|_| bottleneck.admit(1000)).collect();
        // One under way, and two that wait.
        assert_eq!(arrivals.iter().flatten().count(), 3, "{arrivals:?}");
        for (n, at) in arrivals.into_iter().flatten().enumerate() {
            let expected = delay + Duration::from_millis(100) * (n as u32 + 1);
            let after = at - start;
            assert!(
                after >= expected && after < expected + Duration::from_millis(90),
                "{after:?}"
            );
        }
    }

    #[test]
    fn datagrams_pass_both_ways() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let direction = Direction {
            rate: None,
            delay: Duration::from_millis(5),
            queue: 1 << 20,
        };
        let link = Link::start(server.local_addr().unwrap(), direction, direction).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let start = Instant::now();
        client.send_to(b"there", link.address()).unwrap();
        let mut buf = [0; 100];
        let (len, from) = server.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"there");
        server.send_to(b"and back", from).unwrap();
        let (len, _) = client.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"and back");
        assert!(start.elapsed() >= Duration::from_millis(10));
        assert_eq!(link.backlog(), Duration::ZERO);
    }
}
