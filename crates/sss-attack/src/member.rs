//! Hosts that are registered with a server, and write what they send there by hand.

use std::net::{SocketAddr, UdpSocket};
use std::task::Poll;
use std::time::{Duration, Instant};

use sss::Eid;
use sss_crypto::{Generator, StaticKey};
use sss_proto::{Config, Host, ReadOutcome, StreamId};
use sss_reach::Rendezvous;
use sss_reach::keys::{From, LeaseKey};
use sss_wire::reach::bodies::{Connect, Found, Lease, MappedPort, Notify, Presence, Way};
use sss_wire::reach::records::{MAX_RECORD, Register, Registered, Request, Visibility};
use sss_wire::reach::{Kind, PROTOCOL, Packet};
use sss_wire::services::SERVICE;

use crate::driven::Driven;
use crate::error::{AttackError, random};
use crate::greeting::Greeting;
use crate::tally::Tally;
use crate::target::Target;

/// Time for which registration is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time for which an answer is waited for in it.
const TURN: Duration = Duration::from_millis(5);
/// Longest datagram that is read.
const LONGEST: usize = 2048;

/// A host that is registered.
pub(crate) struct Member {
    pub(crate) eid: Eid,
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    key: LeaseKey,
    boot: [u8; 8],
    /// A token for the address of the socket.
    token: Vec<u8>,
    counter: u64,
    rng: Generator,
}

/// News from the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// The way to a host that this one has asked for.
    Found(Way),
    /// Somebody calls.
    Notify(Way),
}

impl Member {
    /// A host with a new identity, registered as one that may be found.
    ///
    /// # Errors
    /// The server does not take it, or this program has no sockets or no entropy.
    pub(crate) fn register(server: &Target, tally: &Tally) -> Result<Self, AttackError> {
        tally.peer();
        let socket = UdpSocket::bind(server.source(0, 1))?;
        socket.set_read_timeout(Some(TURN))?;
        let host = Host::new(Config::default(), StaticKey::from_bytes(random()?), random()?);
        let eid = host.eid();
        let mut driven = Driven::new(host, Rendezvous::default(), socket, Instant::now());
        let register = Register {
            instance: random()?,
            visibility: Visibility::Known,
            ..Register::default()
        };
        let registered = ask(&mut driven, server, register).ok_or(AttackError::NotRegistered(server.address))?;
        let socket = driven.socket().try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            eid,
            socket,
            server: server.address,
            key: LeaseKey::new(registered.key),
            boot: registered.boot,
            token: registered.tokens.into_iter().next().unwrap_or_default(),
            counter: 0,
            rng: Generator::new(&random()?),
        })
    }

    /// LEASE, with a token for the address of the socket.
    pub(crate) fn lease(&mut self, mapped: MappedPort) -> Vec<u8> {
        self.counter += 1;
        let lease = Lease {
            boot: self.boot,
            counter: self.counter,
            rtt: 0,
            presence: Presence::Found,
            is_veiled: false,
            answer: None,
            mapped,
        };
        self.key.lease(&lease, &self.token, &mut self.rng)
    }

    /// CONNECT and LEG.
    pub(crate) fn connect(&mut self, callee: &Eid, introduction: [u8; 8], greeting: &Greeting) -> [Vec<u8>; 2] {
        self.counter += 1;
        let connect = Connect {
            boot: self.boot,
            counter: self.counter,
            rtt: 0,
            introduction,
            eid: *callee,
            hello: &greeting.hello,
        };
        let (key, token) = (&self.key, Some(&self.token[..]));
        let connect = key.seal(Kind::Connect, token, &mut self.rng, |_| connect.encode());
        [connect, key.leg(From::Host, &introduction, &greeting.key)]
    }

    /// Sends a packet to the server.
    pub(crate) fn send(&self, packet: &[u8], tally: &Tally) {
        if self.socket.send_to(packet, self.server).is_ok() {
            tally.sent(packet.len());
        }
    }

    /// The next packet that has come: its news, if it has any.
    pub(crate) fn receive(&self, tally: &Tally) -> Option<Option<News>> {
        let mut packet = [0; LONGEST];
        let n = self.socket.recv(&mut packet).ok()?;
        tally.answered(n);
        Some(self.read(packet.get(..n).unwrap_or_default()))
    }

    fn read(&self, packet: &[u8]) -> Option<News> {
        let Ok(Packet::Sealed(sealed)) = Packet::parse(packet) else {
            return None;
        };
        let plaintext = self.key.open(&sealed)?;
        match sealed.kind {
            Kind::Found => {
                let found = Found::decode(&plaintext).ok()?;
                found.outcome.ok().map(News::Found)
            }
            Kind::Notify => Notify::decode(&plaintext).ok().map(|notify| News::Notify(notify.way)),
            _ => None,
        }
    }
}

/// Asks the server for a lease, on a stream.
fn ask(driven: &mut Driven, server: &Target, register: Register) -> Option<Registered> {
    let (now, until) = (driven.now(), Instant::now() + PATIENCE);
    let to = [server.address.into()];
    let stream = driven.host.connect(now, server.eid, (SERVICE, PROTOCOL), &to).ok()?;
    let record = Request::Register(register).encode();
    driven.host.stream(stream).write_record(&record).ok()?;
    let (mut answer, mut datagram) = (Vec::new(), [0; LONGEST]);
    while Instant::now() < until {
        driven.flush(|to| to);
        match driven.socket().recv_from(&mut datagram) {
            Ok((n, from)) => driven.take(datagram.get(..n)?, from),
            Err(_) => driven.tick(),
        }
        if read(driven, stream, &mut answer)? {
            // What the host owes goes out, the acknowledgement too.
            driven.flush(|to| to);
            return Registered::decode(&answer).ok()?.ok();
        }
    }
    None
}

/// Reads a record as far as it has come, and returns whether all of it has. `None`: none will.
fn read(driven: &mut Driven, stream: StreamId, answer: &mut Vec<u8>) -> Option<bool> {
    let now = driven.now();
    loop {
        match driven.host.stream(stream).poll_read(now, MAX_RECORD) {
            Poll::Pending => return Some(false),
            Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => answer.extend_from_slice(&bytes),
            Poll::Ready(Ok(ReadOutcome::Mark)) => return Some(true),
            Poll::Ready(_) => return None,
        }
    }
}
