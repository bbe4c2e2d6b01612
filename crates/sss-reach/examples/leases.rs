//! The cost of many registrations for a server: memory for each, and time on one core for what hosts ask; without
//! sockets, and once with a socket on loopback.
//!
//! `cargo run --release -p sss-reach --example leases -- 100000`

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant as Clock};

use sss_crypto::Generator;
use sss_proto::Instant;
use sss_reach::keys::LeaseKey;
use sss_reach::server::{Quotas, Registrar, ServerConfig};
use sss_wire::Eid;
use sss_wire::reach::Kind;
use sss_wire::reach::bodies::{Connect, Lease, MappedPort, Presence};
use sss_wire::reach::records::{Register, Registered, Request, Visibility};

/// Packets and questions that are measured.
const MEASURED: u32 = 50_000;
/// Room for an answer to REGISTER, in bytes.
const ANSWER: usize = 512;
/// LEASEs in a second that 100,000 hosts send, each one in 20 s.
const LEASES: f64 = 5_000.0;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A registered host.
struct Host {
    eid: Eid,
    at: SocketAddr,
    registered: Registered,
    counter: u64,
}

fn main() -> Outcome<()> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let quotas = Quotas {
        leases: usize::MAX,
        ..Quotas::default()
    };
    let config = ServerConfig {
        quotas,
        ..ServerConfig::default()
    };
    let mut server = Registrar::new(now(0), config, &[7; 32], &[8; 32]);
    let mut rng = Generator::new(&[9; 32]);

    let mut hosts = register_all(&mut server, count)?;
    // All hosts, one after another, as often as that takes.
    let order = (0..MEASURED).map(|n| (n.wrapping_mul(7919) % count) as usize);
    let order: Vec<usize> = order.collect();
    lease(&mut server, &mut hosts, &order, &mut rng)?;
    lease_by_socket(&mut server, &mut hosts, &order, &mut rng)?;
    look_up(&mut server, &hosts, &order)?;
    connect(&mut server, &mut hosts, &order, &mut rng)?;
    println!("{:?}", server.stats());
    Ok(())
}

fn register_all(server: &mut Registrar, count: u32) -> Outcome<Vec<Host>> {
    // Hosts are kept elsewhere, and count for nothing: room for them is there before.
    let mut hosts = Vec::with_capacity(count as usize);
    let records = (0..count).map(|n| (n, register(n))).collect::<Vec<_>>();
    let mut answers = vec![1; count as usize * ANSWER];
    let mut times = Times(vec![Duration::MAX; count as usize]);
    times.0.clear();
    let before = resident()?;
    for ((n, record), answer) in records.iter().zip(answers.chunks_mut(ANSWER)) {
        let (eid, at) = (eid(*n), address(*n));
        let registered = times.of(|| server.request(now(0), (&eid, at), record))?;
        for (to, from) in answer.iter_mut().zip(registered) {
            *to = from;
        }
    }
    let bytes = resident()?.saturating_sub(before);
    for (n, answer) in (0..count).zip(answers.chunks(ANSWER)) {
        let registered = Registered::decode(answer)?.map_err(|unfound| format!("{:?}", unfound.status))?;
        let (eid, at) = (eid(n), address(n));
        hosts.push(Host {
            eid,
            at,
            registered,
            counter: 0,
        });
    }
    println!("{count} leases: {} bytes each", bytes / u64::from(count));
    times.report("REGISTER");
    Ok(hosts)
}

fn lease(server: &mut Registrar, hosts: &mut [Host], order: &[usize], rng: &mut Generator) -> Outcome<()> {
    let mut times = Times::default();
    for at in order {
        let host = hosts.get_mut(*at).ok_or("no host")?;
        let packet = host.lease(rng)?;
        times
            .of(|| {
                let taken = server.packet(now(1_000), host.at, &packet);
                taken.map(|()| server.poll_transmit())
            })
            .map_err(|dropped| format!("{dropped:?}"))?;
    }
    share(times.report("LEASE"));
    Ok(())
}

/// The same with a datagram in and one out for each, in two system calls: what a driver does besides is not in it.
fn lease_by_socket(server: &mut Registrar, hosts: &mut [Host], order: &[usize], rng: &mut Generator) -> Outcome<()> {
    let [own, others] = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    own.connect(others.local_addr()?)?;
    others.connect(own.local_addr()?)?;
    let mut times = Times::default();
    let mut buf = [0; 2048];
    for at in order {
        let host = hosts.get_mut(*at).ok_or("no host")?;
        others.send(&host.lease(rng)?)?;
        let sent = times.of(|| {
            let n = own.recv(&mut buf)?;
            let taken = server.packet(now(1_500), host.at, buf.get(..n).unwrap_or_default());
            let (_, answer) = server.poll_transmit().ok_or_else(|| format!("{taken:?}"))?;
            Outcome::Ok(own.send(&answer)?)
        });
        sent?;
        others.recv(&mut buf)?;
    }
    share(times.report("LEASE, by a socket"));
    Ok(())
}

fn share(mean: Duration) {
    let share = mean.as_secs_f64() * LEASES * 100.0;
    println!("{LEASES} LEASEs a second: {share:.1} % of a core");
}

fn look_up(server: &mut Registrar, hosts: &[Host], order: &[usize]) -> Outcome<()> {
    let mut times = Times::default();
    for (n, at) in order.iter().enumerate() {
        let host = hosts.get(*at).ok_or("no host")?;
        let other = hosts.get(n % hosts.len()).ok_or("no host")?;
        let record = Request::Lookup(other.eid).encode();
        let answer = times.of(|| server.request(now(2_000 + n as u64), (&host.eid, host.at), &record))?;
        if answer.first() != Some(&0) {
            return Err("a LOOKUP was refused".into());
        }
    }
    times.report("LOOKUP");
    Ok(())
}

fn connect(server: &mut Registrar, hosts: &mut [Host], order: &[usize], rng: &mut Generator) -> Outcome<()> {
    let mut times = Times::default();
    for (n, at) in order.iter().take(10_000).enumerate() {
        let other = hosts.get(n % hosts.len()).ok_or("no host")?.eid;
        let host = hosts.get_mut(*at).ok_or("no host")?;
        let (packet, from) = (host.connect(other, n as u64, rng)?, host.at);
        times
            .of(|| {
                let taken = server.packet(now(3_000), from, &packet);
                taken.map(|()| while server.poll_transmit().is_some() {})
            })
            .map_err(|dropped| format!("{dropped:?}"))?;
    }
    times.report("CONNECT, with FOUND and NOTIFY");
    Ok(())
}

fn now(ms: u64) -> Instant {
    Instant::from_nanos((1_000_000 + ms) * 1_000_000)
}

fn eid(n: u32) -> Eid {
    let mut key = [0; 32];
    Generator::new(&[1; 32]).fill(&mut key);
    for (to, from) in key.iter_mut().zip(n.to_be_bytes()) {
        *to = from;
    }
    Eid::from_public_key(&key)
}

fn address(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 | n), 7757))
}

fn register(n: u32) -> Vec<u8> {
    let mut instance = [3; 8];
    for (to, from) in instance.iter_mut().zip(n.to_be_bytes()) {
        *to = from;
    }
    let register = Register {
        instance,
        visibility: Visibility::Known,
        ..Register::default()
    };
    Request::Register(register).encode()
}

impl Host {
    fn token(&self) -> Outcome<&[u8]> {
        Ok(self.registered.tokens.last().ok_or("no token")?)
    }

    fn lease(&mut self, rng: &mut Generator) -> Outcome<Vec<u8>> {
        self.counter += 1;
        let lease = Lease {
            boot: self.registered.boot,
            counter: self.counter,
            rtt: 20_000,
            presence: Presence::Found,
            is_veiled: false,
            answer: None,
            mapped: MappedPort::default(),
        };
        Ok(LeaseKey::new(self.registered.key).lease(&lease, self.token()?, rng))
    }

    fn connect(&mut self, eid: Eid, name: u64, rng: &mut Generator) -> Outcome<Vec<u8>> {
        self.counter += 1;
        let connect = Connect {
            boot: self.registered.boot,
            counter: self.counter,
            rtt: 20_000,
            introduction: (name + 1).to_be_bytes(),
            eid,
            hello: &[5; 120],
        };
        let key = LeaseKey::new(self.registered.key);
        Ok(key.seal(Kind::Connect, Some(self.token()?), rng, |_| connect.encode()))
    }
}

/// Bytes of memory that this process has.
fn resident() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

/// Times that something took.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn of<T>(&mut self, deed: impl FnOnce() -> T) -> T {
        let began = Clock::now();
        let outcome = deed();
        self.0.push(began.elapsed());
        outcome
    }

    /// Prints them, and returns the mean.
    fn report(mut self, name: &str) -> Duration {
        self.0.sort_unstable();
        let at = |share: usize| self.0.get(self.0.len() * share / 1000).copied().unwrap_or_default();
        let mean = self.0.iter().sum::<Duration>() / u32::try_from(self.0.len()).unwrap_or(1).max(1);
        println!(
            "{name}: {:.0} a second; mean {mean:?}, median {:?}, p99 {:?}, p99.9 {:?}",
            1.0 / mean.as_secs_f64(),
            at(500),
            at(990),
            at(999)
        );
        mean
    }
}
