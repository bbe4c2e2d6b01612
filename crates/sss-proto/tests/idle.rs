//! What a host keeps of channels on which nothing moves. One test alone, because it counts the bytes of the whole
//! process.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use peak_alloc::PeakAlloc;
use sss_crypto::StaticKey;
use sss_proto::{
    Batch, Config, Ecn, Host, Input, Instant, Link, ListenerId, Output, ReadOutcome, StreamId, TransmitBuf,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const SERVICE: (&str, &str) = ("test", "1");
const SERVER: usize = 0;
/// Bytes that a channel may take at a host that it has made no request of.
const LIMIT: isize = 3800;

/// Hosts, of which the first is the server, and what it keeps.
struct Net {
    hosts: Vec<Host>,
    listener: ListenerId,
    now: Instant,
    buf: TransmitBuf,
    /// Bytes that the server holds.
    kept: isize,
}

fn address(n: usize) -> SocketAddr {
    let [.., a, b] = (n as u32).to_be_bytes();
    SocketAddr::from(([10, 0, a, b], 4000))
}

impl Net {
    fn new(clients: usize) -> Self {
        let host = |n: usize| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&n.to_be_bytes());
            Host::new(Config::default(), StaticKey::from_bytes(seed), seed)
        };
        let mut hosts: Vec<_> = (0..=clients).map(host).collect();
        let listener = hosts[SERVER].listen(SERVICE.0, SERVICE.1).unwrap();
        Self {
            hosts,
            listener,
            now: Instant::from_nanos(1_000_000_000),
            buf: TransmitBuf::new(1),
            kept: 0,
        }
    }

    /// Calls a host, and counts what the server keeps of that.
    fn with<R>(&mut self, n: usize, f: impl FnOnce(&mut Host, Instant) -> R) -> R {
        let before = MEMORY.current_usage();
        let result = f(&mut self.hosts[n], self.now);
        if n == SERVER {
            self.kept += MEMORY.current_usage() as isize - before as isize;
        }
        result
    }

    /// Carries packets between a client and the server for so long.
    fn run(&mut self, client: usize, time: Duration) {
        let end = self.now + time;
        let mut data = BytesMut::with_capacity(2048);
        while self.now < end {
            let mut wake = end;
            for (from, to) in [(client, SERVER), (SERVER, client)] {
                loop {
                    let mut buf = std::mem::replace(&mut self.buf, TransmitBuf::new(1));
                    let output = self.with(from, |host, now| host.poll(now, &mut buf));
                    self.buf = buf;
                    match output {
                        Output::Transmit(_) => {}
                        Output::Event(_) => continue,
                        Output::Wake(at) => {
                            wake = at.into_iter().chain([wake]).min().unwrap_or(wake);
                            break;
                        }
                    }
                    data.clear();
                    data.extend_from_slice(self.buf.filled());
                    let batch = Batch {
                        stride: data.len(),
                        data: &mut data,
                        lent: &mut None,
                        link: Link::Udp(address(from)),
                        local: None,
                        ecn: Ecn::NotEct,
                    };
                    self.with(to, |host, now| host.handle(now, Input::Datagrams(batch)));
                    wake = self.now;
                }
            }
            if wake > self.now {
                self.now = wake.min(end);
                for n in [client, SERVER] {
                    self.with(n, |host, now| host.handle(now, Input::Tick));
                }
            }
        }
    }

    /// Connects a client, which asks for something and gets an answer. Both let go of the stream.
    fn transact(&mut self, client: usize) {
        let (eid, route, now) = (self.hosts[SERVER].eid(), address(SERVER).into(), self.now);
        let asking = self.hosts[client].connect(now, eid, SERVICE, &[route]).unwrap();
        write(&mut self.hosts[client], asking);
        self.run(client, Duration::from_millis(5));
        let listener = self.listener;
        let answering = self.with(SERVER, |host, now| {
            let (stream, _) = host.accept(listener).unwrap();
            assert!(read(host, now, stream) > 0);
            write(host, stream);
            stream
        });
        self.run(client, Duration::from_millis(5));
        assert!(read(&mut self.hosts[client], self.now, asking) > 0);
        self.hosts[client].stream(asking).release();
        self.with(SERVER, |host, _| host.stream(answering).release());
        self.run(client, Duration::from_millis(100));
        assert_eq!(self.hosts[SERVER].stream_count(answering.peer()), 0);
    }
}

fn write(host: &mut Host, stream: StreamId) {
    assert!(host.stream(stream).poll_write(&[3; 100]).is_ready());
    host.stream(stream).finish().unwrap();
}

/// Reads a stream to its end; returns how many bytes came.
fn read(host: &mut Host, now: Instant, stream: StreamId) -> usize {
    let mut bytes = 0;
    while let Poll::Ready(outcome) = host.stream(stream).poll_read(now, usize::MAX) {
        match outcome.unwrap() {
            ReadOutcome::Chunk(chunk) => bytes += chunk.len(),
            ReadOutcome::Mark => {}
            ReadOutcome::End => break,
        }
    }
    bytes
}

// Beside what is counted here are the contexts of the cryptographic library, which a channel that rests has none of:
// `a_channel_that_rests_keeps_no_expanded_keys`.
#[test]
fn a_channel_on_which_nothing_moves_takes_little() {
    const FEW: usize = 56;
    const MANY: usize = 224;
    let mut net = Net::new(MANY);
    let mut kept = [0; 2];
    for client in 1..=MANY {
        net.transact(client);
        net.run(client, Duration::from_millis(300));
        if let Some(at) = [FEW, MANY].iter().position(|n| *n == client) {
            kept[at] = net.kept;
        }
    }
    let each = (kept[1] - kept[0]) / (MANY - FEW) as isize;
    assert!(each <= LIMIT, "{each} bytes");
}
