//! Whoever sits between a client and an honest server, and a stranger who knows the client's port: what both send to
//! the client is made up, but for the server's own packets, which arrive too.

use std::net::{SocketAddr, UdpSocket};

use clap::Args;
use sss::Eid;
use sss_wire::constants::VERSION;
use sss_wire::long::{self, Long};
use sss_wire::short;

use crate::error::{AttackError, random};
use crate::pace::{PAUSE, Pace, Span};
use crate::relay::forgeries;
use crate::strangers::answers;
use crate::tally::Tally;
use crate::target::{self, Target};

/// Rounds of forgeries before each packet of the server that belongs to a negotiation.
const ROUNDS: usize = 5;
/// Datagrams that are taken in at once.
const MOST: usize = 256;
/// Longest datagram.
const LONGEST: usize = 65_536;

/// Means of somebody between a client and its server.
#[derive(Args, Clone, Debug)]
pub struct Spot {
    /// The honest server: EID@ADDRESS:PORT.
    pub target: Target,
    /// Address to listen at for the client, of the loopback or of 198.18.0.0/15.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = target::parse_closed)]
    pub bind: SocketAddr,
    /// Packets a second of the stranger's flood, at most.
    #[arg(long, default_value_t = 5000)]
    pub rate: u32,
}

/// Somebody between clients and their server. One client is attacked at a time: the latest.
pub(crate) struct Between {
    front: UdpSocket,
    back: UdpSocket,
    stranger: UdpSocket,
    target: Target,
    rate: u32,
    client: Option<SocketAddr>,
    /// The client's attempt, once it is known.
    attempt: [u8; 8],
    /// The beginning of the latest short packet of the server.
    short: Vec<u8>,
    turn: usize,
}

impl Between {
    /// A place before a server.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) fn new(spot: &Spot) -> Result<Self, AttackError> {
        let bind = |address: SocketAddr| -> Result<UdpSocket, AttackError> {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            front: bind(spot.bind)?,
            back: bind(spot.target.source(0, 1))?,
            stranger: bind(SocketAddr::new(spot.bind.ip(), 0))?,
            target: spot.target,
            rate: spot.rate,
            client: None,
            attempt: [0; 8],
            short: Vec::new(),
            turn: 0,
        })
    }

    /// The server, at the address at which clients are to look for it.
    ///
    /// # Errors
    /// The system does not tell the address.
    pub(crate) fn target(&self) -> Result<Target, AttackError> {
        Ok(Target {
            eid: self.target.eid,
            address: self.front.local_addr()?,
        })
    }

    /// Is there for as long as this goes on.
    ///
    /// # Errors
    /// There is no entropy.
    pub(crate) fn run(mut self, span: &Span, tally: &Tally) -> Result<(), AttackError> {
        let (mut pace, mut packet) = (Pace::new(self.rate), vec![0; LONGEST]);
        while !span.is_over() {
            let mut is_calm = true;
            for _ in 0..MOST {
                let Ok((n, from)) = self.front.recv_from(&mut packet) else {
                    break;
                };
                is_calm = false;
                self.up(packet.get(..n).unwrap_or_default(), from);
            }
            for _ in 0..MOST {
                let Ok((n, from)) = self.back.recv_from(&mut packet) else {
                    break;
                };
                is_calm = false;
                if from == self.target.address {
                    self.down(packet.get(..n).unwrap_or_default(), tally)?;
                }
            }
            if let Some(client) = self.client {
                for _ in 0..pace.burst() {
                    self.strange(client, tally)?;
                }
            }
            self.read_answers(&mut packet, tally);
            if is_calm {
                std::thread::sleep(PAUSE / 4);
            }
        }
        Ok(())
    }

    /// Passes a packet of the client on.
    fn up(&mut self, packet: &[u8], from: SocketAddr) {
        self.client = Some(from);
        if let Ok(long) = Long::parse(packet) {
            self.attempt = *long.attempt();
        }
        let _ = self.back.send_to(packet, self.target.address);
    }

    /// Passes a packet of the server on, behind forgeries of it.
    fn down(&mut self, packet: &[u8], tally: &Tally) -> Result<(), AttackError> {
        let Some(client) = self.client else { return Ok(()) };
        let is_short = packet.first().is_some_and(|first| first & 0xc0 == short::FIXED);
        let rounds = if is_short { 1 } else { ROUNDS };
        for _ in 0..rounds {
            for forgery in forgeries(packet) {
                send(&self.front, &forgery, client, tally);
            }
        }
        if is_short {
            self.short = packet.to_vec();
        } else {
            for _ in 0..ROUNDS {
                self.made_up()?
                    .iter()
                    .for_each(|forgery| send(&self.front, forgery, client, tally));
            }
        }
        // What the system has no room for is lost, as in networks.
        let _ = self.front.send_to(packet, client);
        Ok(())
    }

    /// Answers to the attempt of the client, in the server's name and in another's.
    fn made_up(&self) -> Result<Vec<Vec<u8>>, AttackError> {
        let mut packets = answers(&self.target.eid);
        packets.push(long::probe_reply(&self.attempt, &Eid::from_public_key(&random()?)));
        packets.push(long::version(&self.attempt, &[VERSION, VERSION + 1]));
        for packet in &mut packets {
            let fields = packet.iter_mut().skip(5).zip(self.attempt);
            fields.for_each(|(to, from)| *to = from);
        }
        // A token that nobody gave.
        packets.push(long::retry(VERSION, &self.attempt, &random()?));
        Ok(packets)
    }

    /// Sends what a stranger can make up: questions who is there, greetings, garbage, possible resets, and answers.
    fn strange(&mut self, client: SocketAddr, tally: &Tally) -> Result<(), AttackError> {
        self.turn = self.turn.wrapping_add(1);
        let noise: [u8; 64] = random()?;
        let packet = match self.turn % 6 {
            0 => long::probe(&random()?),
            1 => long::hello(VERSION, &random()?, &[0; 16], &[9; long::HELLO_SIZE - 29]),
            2 => noise.to_vec(),
            // The client's channel id, which is in clear, and nothing else that is true.
            3 => self.short.iter().take(6).chain(&noise).copied().collect(),
            4 => [&[short::FIXED], &noise[..]].concat(),
            _ => self.made_up()?.swap_remove(self.turn / 6 % 9),
        };
        send(&self.stranger, &packet, client, tally);
        Ok(())
    }

    /// Notes what a client answers to strangers: it is to say nothing of itself, and may send stateless resets.
    fn read_answers(&self, packet: &mut [u8], tally: &Tally) {
        for _ in 0..MOST {
            let Ok(n) = self.stranger.recv(packet) else { return };
            tally.answered(n);
            if packet.first().is_some_and(|first| first & 0x80 != 0) {
                tally.taken();
            }
        }
    }
}

fn send(socket: &UdpSocket, packet: &[u8], to: SocketAddr, tally: &Tally) {
    if socket.send_to(packet, to).is_ok() {
        tally.sent(packet.len());
    }
}
