//! A registration server that means no good: it says of its clients that they are at the addresses of somebody else,
//! and tells them of callers that nobody is behind.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clap::Args;
use sss::Eid;
use sss_crypto::cookie::CookieKey;
use sss_crypto::{Generator, StaticKey, schedule};
use sss_proto::{Config, Host};
use sss_reach::keys::{From, LeaseKey};
use sss_reach::server::{RelayLimits, ServerConfig};
use sss_reach::{Rendezvous, RendezvousConfig, Serve};
use sss_wire::Reader;
use sss_wire::reach::bodies::{Connect, Found, Notify, Way};
use sss_wire::reach::{Kind, Packet, Sealed};

use crate::driven::{Driven, since};
use crate::error::{AttackError, random};
use crate::greeting::Greeting;
use crate::pace::{PAUSE, Pace, Span};
use crate::tally::Tally;
use crate::target::{self, Target};

/// Datagrams that are taken in at once.
const MOST: usize = 256;
/// Longest datagram that is read.
const LONGEST: usize = 2048;
/// Clients that are lied to, at most.
const CLIENTS: usize = 64;
/// Ports that clients are said to have begin here.
const FIRST_PORT: u16 = 20_000;
/// Time for which a client that has asked for an introduction is told of ways to it.
const ASKS: Duration = Duration::from_secs(10);

/// Means of a registration server that lies.
#[derive(Args, Clone, Debug)]
pub struct Lies {
    /// Address to listen at, of the loopback or of 198.18.0.0/15.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = target::parse_closed)]
    pub bind: SocketAddr,
    /// Addresses at which callers are said to be, in turn; hosts that have registered are said to be at the first.
    #[arg(long = "name", required = true)]
    pub names: Vec<SocketAddr>,
    /// Addresses that callers are made to name as those of their own network.
    #[arg(long = "candidate")]
    pub candidates: Vec<SocketAddr>,
    /// Callers that each client is told of in a second.
    #[arg(long, default_value_t = 0)]
    pub callers: u32,
    /// Ways that each client which asks for a host is told of in a second.
    #[arg(long, default_value_t = 0)]
    pub ways: u32,
}

/// A registration server that lies.
pub(crate) struct Liar {
    driven: Driven,
    eid: Eid,
    secret: Secret,
    lies: Lies,
    /// Clients, by their true addresses.
    clients: BTreeMap<SocketAddr, Client>,
    /// The places where all are said to be that have sent something, and the other way round.
    places: (BTreeMap<SocketAddr, SocketAddr>, BTreeMap<SocketAddr, SocketAddr>),
    rng: Generator,
    turn: usize,
}

/// A host that has a lease.
struct Client {
    eid: Eid,
    key: LeaseKey,
    boot: [u8; 8],
    /// The introduction that it has asked for, and when.
    asked: Option<([u8; 8], Instant)>,
}

/// The secret of a server, by which it reads tokens and makes keys of leases.
struct Secret {
    secret: [u8; 32],
    tokens: CookieKey,
}

impl Secret {
    fn new(secret: [u8; 32]) -> Self {
        let mut key = [0; 32];
        schedule::label(&secret, "tokens", b"", &mut key);
        let tokens = CookieKey::new(key);
        Self { secret, tokens }
    }

    /// The host that a token is of, and the key of its lease.
    fn open(&self, token: &[u8]) -> Option<(Eid, LeaseKey)> {
        let mut reader = Reader::new(token);
        let _layout = reader.u8().ok()?;
        let nonce = reader.array().ok()?;
        let plain = self.tokens.open(nonce, b"sss token", reader.rest()).ok()?;
        let mut reader = Reader::new(&plain);
        let (public, instance): ([u8; 32], [u8; 8]) = (reader.array().ok()?, reader.array().ok()?);
        let mut key = [0; 32];
        schedule::label(&self.secret, "lease", &[&public[..], &instance].concat(), &mut key);
        Some((Eid::from_public_key(&public), LeaseKey::new(key)))
    }
}

impl Liar {
    /// A server with a new identity, which relays.
    ///
    /// # Errors
    /// The address cannot be had, there is no entropy, or what is to be named may be another's.
    pub(crate) fn new(lies: &Lies) -> Result<Self, AttackError> {
        for address in lies.names.iter().chain(&lies.candidates) {
            target::check_named(lies.bind, *address)?;
        }
        let socket = UdpSocket::bind(lies.bind)?;
        socket.set_nonblocking(true)?;
        let (begun, secret) = (Instant::now(), random()?);
        let mut config = Config::default();
        config.seeks = true;
        let mut host = Host::new(config, StaticKey::from_bytes(random()?), random()?);
        let serve = Serve {
            config: ServerConfig {
                relay: Some(RelayLimits::default()),
                ..ServerConfig::default()
            },
            secret,
            is_restart: false,
        };
        let config = RendezvousConfig {
            serve: Some(serve),
            ..RendezvousConfig::default()
        };
        let rendezvous = Rendezvous::new(since(begun), config, &mut host, &random()?)
            .map_err(|_| std::io::Error::other("a host that serves already"))?;
        Ok(Self {
            eid: host.eid(),
            driven: Driven::new(host, rendezvous, socket, begun),
            secret: Secret::new(secret),
            lies: lies.clone(),
            clients: BTreeMap::new(),
            places: (BTreeMap::new(), BTreeMap::new()),
            rng: Generator::new(&random()?),
            turn: 0,
        })
    }

    /// The server as a target of clients.
    ///
    /// # Errors
    /// The system does not tell the address.
    pub(crate) fn target(&self) -> Result<Target, AttackError> {
        Ok(Target {
            eid: self.eid,
            address: self.driven.socket().local_addr()?,
        })
    }

    /// Serves for as long as this goes on.
    ///
    /// # Errors
    /// There is no entropy.
    pub(crate) fn run(mut self, span: &Span, tally: &Tally) -> Result<(), AttackError> {
        let [mut callers, mut ways] = [self.lies.callers, self.lies.ways].map(Pace::new);
        let mut packet = [0; LONGEST];
        while !span.is_over() {
            for _ in 0..MOST {
                let Ok((n, from)) = self.driven.socket().recv_from(&mut packet) else {
                    break;
                };
                tally.answered(n);
                let packet = packet.get(..n).unwrap_or_default();
                self.learn(packet, from, tally);
                let place = self.place(from);
                self.driven.take(packet, place);
            }
            self.driven.tick();
            let true_places = &self.places.1;
            self.driven.flush(|to| true_places.get(&to).copied().unwrap_or(to));
            for _ in 0..callers.burst() {
                self.lie(tally, |client, way, (candidates, rng)| {
                    client.notify(way, candidates, rng)
                })?;
            }
            for _ in 0..ways.burst() {
                self.lie(tally, |client, way, (_, rng)| Ok(client.found(way, rng)))?;
            }
            std::thread::sleep(PAUSE);
        }
        // Those too that have called each other.
        let introduced = self.driven.introduced();
        (0..introduced).for_each(|_| tally.introduced());
        Ok(())
    }

    /// The place where somebody is said to be.
    fn place(&mut self, from: SocketAddr) -> SocketAddr {
        let (places, true_places) = &mut self.places;
        let (known, first) = (places.len(), self.lies.names.first().copied().unwrap_or(from));
        *places.entry(from).or_insert_with(|| {
            let port = FIRST_PORT.saturating_add(u16::try_from(known).unwrap_or(u16::MAX));
            let place = SocketAddr::new(first.ip(), port);
            true_places.insert(place, from);
            place
        })
    }

    /// Learns the key of a client from what it has sent.
    fn learn(&mut self, packet: &[u8], from: SocketAddr, tally: &Tally) {
        if let Ok(Packet::Sealed(sealed)) = Packet::parse(packet) {
            self.learn_of(&sealed, from, tally);
        }
    }

    fn learn_of(&mut self, sealed: &Sealed<'_>, from: SocketAddr, tally: &Tally) -> Option<()> {
        let (eid, key) = self.secret.open(sealed.token)?;
        let plaintext = key.open(sealed)?;
        // LEASE and CONNECT begin with it.
        let boot = *plaintext.first_chunk()?;
        if !self.clients.contains_key(&from) {
            if self.clients.len() >= CLIENTS {
                return None;
            }
            tally.peer();
        }
        let asked = self.clients.get(&from).and_then(|client| client.asked);
        let asked = match sealed.kind {
            Kind::Connect => Some((Connect::decode(&plaintext).ok()?.introduction, Instant::now())),
            _ => asked,
        };
        let client = Client { eid, key, boot, asked };
        self.clients.insert(from, client);
        Some(())
    }

    /// Tells each client of a way to the next address, in these words.
    fn lie(
        &mut self,
        tally: &Tally,
        say: impl Fn(&Client, Way, (&[SocketAddr], &mut Generator)) -> Result<Vec<Vec<u8>>, AttackError>,
    ) -> Result<(), AttackError> {
        self.turn = self.turn.wrapping_add(1);
        let names = &self.lies.names;
        let Some(address) = names
            .get(self.turn.checked_rem(names.len()).unwrap_or_default())
            .copied()
        else {
            return Ok(());
        };
        for (at, client) in &self.clients {
            let way = Way {
                address,
                mapped: address.port().saturating_add(1),
                handle: 0,
                punch_key: random()?,
                hold: 0,
            };
            let packets = say(client, way, (&self.lies.candidates, &mut self.rng))?;
            for packet in &packets {
                if self.driven.socket().send_to(packet, *at).is_ok() {
                    tally.sent(packet.len());
                }
            }
            if !packets.is_empty() {
                tally.introduced();
            }
        }
        Ok(())
    }
}

impl Client {
    /// NOTIFY and LEG of a caller that nobody is behind.
    fn notify(&self, way: Way, candidates: &[SocketAddr], rng: &mut Generator) -> Result<Vec<Vec<u8>>, AttackError> {
        let (introduction, greeting) = (random()?, Greeting::new(&self.eid, candidates)?);
        let notify = Notify {
            boot: self.boot,
            introduction,
            way,
            hello: &greeting.hello,
        };
        let packet = self.key.seal(Kind::Notify, None, rng, |_| notify.encode());
        Ok(vec![packet, self.key.leg(From::Server, &introduction, &greeting.key)])
    }

    /// FOUND, if it has asked for a host.
    fn found(&self, way: Way, rng: &mut Generator) -> Vec<Vec<u8>> {
        let asked = self.asked.filter(|(_, at)| at.elapsed() < ASKS);
        let found = asked.map(|(introduction, _)| Found {
            introduction,
            outcome: Ok(way),
        });
        let packets = found
            .into_iter()
            .map(|found| self.key.seal(Kind::Found, None, rng, |_| found.encode()));
        packets.collect()
    }
}
