//! One transfer, of SSS or of the kernel's TCP, from host b to host a.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_congestion;
use sss::{Congestion, Eid, Host};
use sss_lab::Node;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant as TokioInstant, timeout_at};

use super::Arrivals;
use crate::outcome::{Failure, Outcome};

static CHUNK: [u8; 64 << 10] = [0x5a; 64 << 10];
/// Between two small packets that measure what waits.
const PING: Duration = Duration::from_millis(20);
/// Bytes of one of them.
const SMALL: usize = 16;

/// Kind of transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    SssCubic,
    SssBbr,
    TcpCubic,
    TcpBbr,
}

/// Times of a transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Address at which it arrives.
    address: IpAddr,
    /// Start of the measurement.
    zero: Instant,
    /// Begin of the transfer, and the end of all.
    begin: Duration,
    end: Duration,
}

/// Outcome of a transfer.
pub(super) struct Ended {
    /// Time at which it began to connect.
    pub(super) begun: Duration,
    pub(super) arrivals: Arrivals,
}

/// Place that is connected to.
struct Place {
    address: SocketAddr,
    /// Of SSS.
    eid: Option<Eid>,
}

impl Sort {
    pub(super) const ALL: [Self; 4] = [Self::SssCubic, Self::TcpCubic, Self::SssBbr, Self::TcpBbr];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SssCubic => "SSS cubic",
            Self::SssBbr => "SSS BBR",
            Self::TcpCubic => "TCP cubic",
            Self::TcpBbr => "TCP BBR",
        }
    }

    /// The controller of SSS, or the kernel's name for that of TCP.
    fn controller(self) -> Result<Congestion, &'static str> {
        match self {
            Self::SssCubic => Ok(Congestion::Cubic),
            Self::SssBbr => Ok(Congestion::Bbr),
            Self::TcpCubic => Err("cubic"),
            Self::TcpBbr => Err("bbr"),
        }
    }
}

impl Plan {
    pub(super) fn new(address: IpAddr, length: Duration) -> Self {
        Self {
            address,
            zero: Instant::now() + Duration::from_millis(200),
            begin: Duration::ZERO,
            end: length,
        }
    }

    pub(super) fn later(self, begin: Duration) -> Self {
        Self { begin, ..self }
    }

    fn begins(&self) -> TokioInstant {
        (self.zero + self.begin).into()
    }

    fn ends(&self) -> TokioInstant {
        (self.zero + self.end).into()
    }
}

/// Runs a transfer: the receiver in one host, the sender in the other.
pub(super) fn run(sort: Sort, (receiver, sender): (&Node, &Node), plan: Plan) -> Outcome<Ended> {
    let (place, places) = mpsc::channel();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || receiver.enter(|| block(receive(sort, plan, place)))?);
        let sending = scope.spawn(move || {
            let place = places.recv().map_err(|_| "the receiver did not come up")?;
            sender.enter(|| block(send(sort, plan, place)))?
        });
        let sent = sending.join().unwrap_or_else(|_| Err("the sender panicked".into()));
        let received = receiving.join().unwrap_or_else(|_| Err("the receiver panicked".into()));
        // What the receiver says comes first: its end is why the sender has failed.
        let arrivals = received?;
        Ok(Ended { begun: sent?, arrivals })
    })
}

fn block<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

async fn receive(sort: Sort, plan: Plan, place: mpsc::Sender<Place>) -> Outcome<Arrivals> {
    let mut arrivals = Arrivals::default();
    let bind = SocketAddr::new(plan.address, 0);
    // The end of the time is the end of the transfer.
    let receiving = async {
        match sort.controller() {
            Ok(congestion) => {
                let host = Host::builder().bind(bind).congestion(congestion).build().await?;
                let server = host.listen("bench", "links/1")?;
                let (address, eid) = (host.local_addr(), Some(host.eid()));
                place.send(Place { address, eid })?;
                let (mut stream, _) = server.accept().await?;
                while let Some(chunk) = stream.read_chunk(CHUNK.len()).await? {
                    arrivals.note(plan.zero.elapsed(), chunk.len());
                }
            }
            Err(_) => {
                let listener = TcpListener::bind(bind).await?;
                let address = listener.local_addr()?;
                place.send(Place { address, eid: None })?;
                let (mut stream, _) = listener.accept().await?;
                let mut buffer = vec![0; CHUNK.len()];
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => break,
                        read => arrivals.note(plan.zero.elapsed(), read),
                    }
                }
            }
        }
        Err::<(), Failure>("the transfer ended before its time".into())
    };
    if let Ok(ended) = timeout_at(plan.ends(), receiving).await {
        ended?;
    }
    Ok(arrivals)
}

/// Sends until the end. Returns when it began to connect.
async fn send(sort: Sort, plan: Plan, place: Place) -> Outcome<Duration> {
    tokio::time::sleep_until(plan.begins()).await;
    let begun = plan.zero.elapsed();
    // A moment longer than is received, so that the end is not seen there.
    let until = plan.ends() + Duration::from_millis(200);
    let sending = async {
        match (sort.controller(), place.eid) {
            (Ok(congestion), Some(eid)) => {
                let builder = Host::builder().bind("0.0.0.0:0").congestion(congestion);
                let host = builder.build().await?;
                let mut stream = host.connect(eid, "bench", "links/1").hint(place.address).await?;
                loop {
                    stream.write_all(&CHUNK).await?;
                }
            }
            (Err(name), _) => {
                let socket = tokio::net::TcpSocket::new_v4()?;
                set_tcp_congestion(&socket, name)
                    .map_err(|e| format!("the kernel has no TCP {name} ({e}): modprobe tcp_{name}"))?;
                let mut stream: TcpStream = socket.connect(place.address).await?;
                loop {
                    stream.write_all(&CHUNK).await?;
                }
            }
            (Ok(_), None) => Err::<Infallible, Failure>("there is nobody to connect to".into()),
        }
    };
    match timeout_at(until, sending).await {
        // The receiver is gone when it is over.
        Ok(Err(_)) if TokioInstant::now() >= plan.ends() => Ok(begun),
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(never)) => match never {},
        Err(_) => Ok(begun),
    }
}

/// Sends small packets there and back, and returns how long they took.
pub(super) fn ping(here: &Node, there: &Node, plan: Plan) -> Outcome<Vec<Duration>> {
    let echo = here.enter(|| UdpSocket::bind((plan.address, 0)))??;
    let address = echo.local_addr()?;
    let socket = there.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    for socket in [&echo, &socket] {
        socket.set_read_timeout(Some(PING))?;
    }
    let over = || plan.zero.elapsed() > plan.end;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut packet = [0; SMALL];
            while !over() {
                if let Ok((_, from)) = echo.recv_from(&mut packet) {
                    // What is lost is not counted.
                    let _ = echo.send_to(&packet, from);
                }
            }
        });
        let mut times = Vec::new();
        let (mut next, mut packet) = (Instant::now(), [0; SMALL]);
        while !over() {
            if next <= Instant::now() {
                next += PING;
                let now = plan.zero.elapsed().as_nanos() as u64;
                if let Some(head) = packet.first_chunk_mut() {
                    *head = now.to_be_bytes();
                }
                let _ = socket.send_to(&packet, address);
            }
            if let (Ok(_), Some(head)) = (socket.recv(&mut packet), packet.first_chunk()) {
                let sent = Duration::from_nanos(u64::from_be_bytes(*head));
                if sent > super::WARM {
                    times.push(plan.zero.elapsed().saturating_sub(sent));
                }
            }
        }
        Ok(times)
    })
}
