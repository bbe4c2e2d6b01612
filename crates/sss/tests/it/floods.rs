//! Floods of HELLOs on real sockets (threat 2 of the table in docs/security.md).
//!
//! The figures of docs/experiments/floods.md are those of `figures`, which CI does not run.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sss::{DriverMode, Host, Server, Stream};
use sss_wire::long::{self, Long};

use crate::common::within;

/// HELLOs a second.
pub(crate) const RATE: u32 = 50_000;
/// Pauses of the flood in a second.
const TICKS: u32 = 500;
/// HELLOs with one token, before another one is taken.
const USES: usize = 8;

/// Senders of a flood.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flood {
    /// So many networks whose addresses are made up: nobody reads what is sent there.
    Spoofed(u8),
    /// So many networks that prove their addresses, and use each token as often as it is good for.
    Proven(u8),
    /// One address that has one token, and no other.
    OneToken,
}

/// A flood under way.
pub(crate) struct Flooder {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// One address of a flood.
struct Source {
    socket: UdpSocket,
    tokens: Vec<([u8; 8], [u8; 16])>,
    next: u64,
}

impl Source {
    fn new(net: u8, host: u8) -> Self {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::new(127, net, host, 1), 0)).expect("all of 127/8 is here");
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            tokens: Vec::new(),
            next: u64::from(host) << 40,
        }
    }

    /// Sends one HELLO, with a token if it was given one.
    fn send(&mut self, flood: Flood, packet: &mut [u8], to: SocketAddr) {
        self.next += 1;
        let turn = usize::try_from(self.next).unwrap_or(0);
        let known = match flood {
            Flood::Spoofed(_) => None,
            Flood::OneToken => self.tokens.first().copied(),
            // One HELLO in so many asks for the next one.
            Flood::Proven(_) if turn.is_multiple_of(USES + 1) => None,
            Flood::Proven(_) => self.tokens.last().copied(),
        };
        let (attempt, token) = known.unwrap_or((self.next.to_be_bytes(), [0; 16]));
        packet[5..13].copy_from_slice(&attempt);
        packet[13..29].copy_from_slice(&token);
        let _ = self.socket.send_to(packet, to);
    }

    /// Takes the tokens that have come.
    fn read(&mut self, packet: &mut [u8]) {
        while let Ok(n) = self.socket.recv(packet) {
            if let Ok(Long::Retry(retry)) = Long::parse(&packet[..n]) {
                self.tokens.push((*retry.attempt, *retry.token));
            }
        }
        let old = self.tokens.len().saturating_sub(64);
        self.tokens.drain(..old);
    }
}

impl Flooder {
    pub(crate) fn start(flood: Flood, to: SocketAddr, rate: u32) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let run = move || {
            let mut sources: Vec<Source> = match flood {
                Flood::Spoofed(networks) => (0..networks).map(|n| Source::new(66, n)).collect(),
                Flood::Proven(networks) => (0..networks).map(|n| Source::new(77, n)).collect(),
                Flood::OneToken => vec![Source::new(77, 0)],
            };
            let (mut packet, mut answer) = (
                long::hello(1, &[0; 8], &[0; 16], &[9; long::HELLO_SIZE - 29]),
                [0; 2048],
            );
            let (begun, mut at) = (Instant::now(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let due = begun.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000;
                // What the machine had no time for is not made up for.
                let mut burst = due.saturating_sub(u128::from(count.load(Ordering::Relaxed)));
                burst = burst.min(u128::from(4 * rate / TICKS));
                for _ in 0..burst {
                    at = (at + 1) % sources.len();
                    sources[at].send(flood, &mut packet, to);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if !matches!(flood, Flood::Spoofed(_)) {
                    sources.iter_mut().for_each(|source| source.read(&mut answer));
                }
                std::thread::sleep(Duration::from_secs(1) / TICKS);
            }
        };
        Self {
            stop,
            sent,
            thread: Some(std::thread::spawn(run)),
        }
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket whose datagrams are read, and nothing else.
struct Drain {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Drain {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !is_over.load(Ordering::Relaxed) {
                let _ = socket.recv_from(&mut datagram);
            }
        });
        Self { address, stop }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Two hosts, one of which sends to the other all the time.
pub(crate) struct Transfer {
    pub(crate) server: Host,
    /// Bytes that have arrived.
    pub(crate) arrived: Arc<AtomicU64>,
    _client: Host,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// To the host that is flooded.
    In,
    /// From it.
    Out,
}

/// Bytes a second that one host wants to send to the other; as many as go if `None`.
pub(crate) type Demand = Option<u32>;

/// Sends to whoever reads.
async fn feed(mut stream: Stream, demand: Demand) {
    let (begun, mut written) = (Instant::now(), 0.0);
    while stream.write_all(&[7; 65_536]).await.is_ok() {
        written += 65_536.0;
        if let Some(demand) = demand {
            let due = begun + Duration::from_secs_f64(written / f64::from(demand));
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

impl Transfer {
    pub(crate) async fn start(way: Way, demand: Demand) -> Self {
        let host = |address: &str| Host::builder().bind(address).driver(DriverMode::Dedicated).build();
        let (server, client) = (host("127.0.0.1:0").await.unwrap(), host("127.0.0.2:0").await.unwrap());
        let listener = server.listen("transfer", "1").unwrap();
        let ours = client.connect(server.eid(), "transfer", "1").hint(server.local_addr());
        let mut ours = ours.await.unwrap();
        ours.write_all(b"!").await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let arrived = Arc::new(AtomicU64::new(0));
        let (from, mut to) = match way {
            Way::In => (ours, theirs),
            Way::Out => (theirs, ours),
        };
        let count = Arc::clone(&arrived);
        tokio::spawn(feed(from, demand));
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = to.read_chunk(1 << 20).await {
                count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        });
        tokio::spawn(echo(server.listen("echo", "1").unwrap()));
        Self {
            server,
            arrived,
            _client: client,
        }
    }

    /// Bytes a second, for so long.
    async fn goodput(&self, time: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.arrived.load(Ordering::Relaxed));
        tokio::time::sleep(time).await;
        let bytes = self.arrived.load(Ordering::Relaxed) - before;
        bytes as f64 / begun.elapsed().as_secs_f64()
    }
}

async fn echo(server: Server) {
    while let Ok((mut stream, _)) = server.accept().await {
        tokio::spawn(async move {
            let said = stream.read_chunk(100).await;
            if let Ok(Some(said)) = said
                && stream.write_chunk(said).await.is_ok()
            {
                let _ = stream.finish();
                let _ = stream.drained().await;
            }
        });
    }
}

/// A host of a network of its own connects, and is answered.
pub(crate) async fn newcomer(server: &Host, network: u8) -> Result<Duration, String> {
    let address = format!("127.{}.{network}.1:0", 100);
    let host = Host::builder()
        .bind(&address)
        .build()
        .await
        .map_err(|e| e.to_string())?;
    let begun = Instant::now();
    let connecting = host.connect(server.eid(), "echo", "1").hint(server.local_addr());
    let mut stream: Stream = connecting.await.map_err(|e| e.to_string())?;
    stream.write_all(b"hello").await.map_err(|e| e.to_string())?;
    let answer = stream.read_chunk(100).await.map_err(|e| e.to_string())?;
    match answer {
        Some(answer) if &answer[..] == b"hello" => Ok(begun.elapsed()),
        other => Err(format!("{other:?}")),
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime can be made").block_on(future)
}

// Threat 2. Who gets in, and whether a transfer goes on; how fast is for `figures` to say, on a quiet machine.
// spec: NEG-36, NEG-37, NEG-39
#[test]
fn threat_02_newcomers_get_in_and_transfers_go_on_while_a_host_is_flooded() {
    for flood in [Flood::Spoofed(250), Flood::Proven(1), Flood::OneToken] {
        block_on(within(100, async {
            let transfer = Transfer::start(Way::In, None).await;
            let flooder = Flooder::start(flood, transfer.server.local_addr(), RATE / 5);
            while flooder.sent.load(Ordering::Relaxed) < 3000 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let before = transfer.arrived.load(Ordering::Relaxed);
            for network in 0..3 {
                newcomer(&transfer.server, network).await.expect("it gets in");
            }
            while transfer.arrived.load(Ordering::Relaxed) < before + (4 << 20) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Measures goodput while the flood goes elsewhere and while it comes here, by turns, and how newcomers fare.
async fn measure(flood: Flood, way: Way, demand: Demand, rounds: u32) {
    let (transfer, drain) = (Transfer::start(way, demand).await, Drain::start());
    let (mut elsewhere, mut here, mut times, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let (mut sent, mut time) = (0, Duration::ZERO);
    transfer.goodput(Duration::from_secs(2)).await;
    for round in 0..rounds {
        for (to, results) in [
            (drain.address, &mut elsewhere),
            (transfer.server.local_addr(), &mut here),
        ] {
            let begun = Instant::now();
            let flooder = Flooder::start(flood, to, RATE);
            tokio::time::sleep(Duration::from_millis(1000)).await;
            results.push(transfer.goodput(Duration::from_secs(3)).await);
            if to != drain.address {
                for n in 0..5 {
                    match newcomer(&transfer.server, u8::try_from(round * 5 + n).unwrap()).await {
                        Ok(time) => times.push(time.as_secs_f64() * 1000.0),
                        Err(error) => {
                            eprintln!("{error}");
                            failed += 1;
                        }
                    }
                }
            }
            sent += flooder.sent.load(Ordering::Relaxed);
            time += begun.elapsed();
        }
    }
    let (elsewhere, here) = (median(elsewhere) / 1e6, median(here) / 1e6);
    let slowest = times.iter().copied().fold(0.0, f64::max);
    println!(
        "| {flood:?} | {way:?} | {} | {:.0} | {elsewhere:.0} | {here:.0} | {:.0} % | {:.0} | {slowest:.0} | {failed} |",
        demand.map_or("all that goes".to_owned(), |demand| format!("{}", demand / 1_000_000)),
        sent as f64 / time.as_secs_f64(),
        100.0 * here / elsewhere,
        median(times),
    );
}

/// Prints the table of docs/experiments/floods.md; of its rows, those that begin with `SSS_ROW` if that is set, such as
/// `Spoofed(250) In None`.
#[test]
#[ignore = "takes minutes, and means something on a quiet machine only"]
fn figures() {
    let only = std::env::var("SSS_ROW").unwrap_or_default();
    println!(
        "| flood | bytes go | MB/s wanted | HELLO/s | MB/s, flood elsewhere | here | of it | newcomer, median ms | \
         slowest | failed |"
    );
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let floods = [
        Flood::Spoofed(250),
        Flood::OneToken,
        Flood::Proven(1),
        Flood::Proven(64),
    ];
    for demand in [Some(100_000_000), None] {
        for way in [Way::In, Way::Out] {
            for flood in floods {
                if format!("{flood:?} {way:?} {demand:?}").starts_with(&only) {
                    block_on(measure(flood, way, demand, 3));
                }
            }
        }
    }
}
