//! Floods of packets that are written by hand, from whoever knows an address and nothing else.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sss_wire::Eid;
use sss_wire::constants::VERSION;
use sss_wire::long::{self, KEM_KEY, Long};

use crate::error::AttackError;
use crate::pace::{PAUSE, Pace};
use crate::tally::Tally;
use crate::victim::Victim;

/// Addresses of a flood, where there are so many.
const SOURCES: u16 = 250;
/// HELLOs with one token, before another one is taken.
const USES: u64 = 8;
/// Tokens that a source keeps.
const TOKENS: usize = 64;
/// Bytes of a PROBE that is shorter than its answer would be.
const SHORT: usize = long::PROBE_REPLY_SIZE - 1;
/// Longest packet of random bytes that nobody answers: a stateless reset would not be smaller (PRT-12).
const BRIEF: usize = 40;
/// Sources of random bytes of which one sends such packets alone.
const BRIEF_ONE_OF: u16 = 5;
/// First byte of no packet.
const NOTHING: u8 = 0;
/// Longest packet of random bytes.
const LONGEST: usize = 1400;

/// Packets of a flood.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flood {
    /// HELLOs without tokens: whoever makes up addresses has none.
    Spoofed,
    /// HELLOs with tokens.
    Proven,
    /// HELLO_Ks with tokens, and keys that can be encapsulated for.
    Legs,
    /// Questions who is there, of which each second is shorter than the answer.
    Probes,
    /// Answers to what nobody asked, each kind in its turn.
    Answers,
    /// Random bytes behind each first byte.
    Garbage,
}

/// Answers of each kind as a host gives them, but that nothing in them opens.
pub(crate) fn answers(eid: &Eid) -> Vec<Vec<u8>> {
    let (attempt, bytes) = ([0; 8], [9; 200]);
    let message = [9; 32 + 100];
    let mut cookie = long::cookie_without_mac(VERSION, &attempt, &message, &bytes);
    let mut cookie_k = long::cookie_k_without_mac(VERSION, &attempt, &[9; long::KEM_CIPHERTEXT], &[9; 90]);
    for packet in [&mut cookie, &mut cookie_k] {
        packet.extend_from_slice(&[9; 16]);
    }
    vec![
        cookie,
        cookie_k,
        long::accept(VERSION, &attempt, &[9; 32], &bytes),
        long::retry(VERSION, &attempt, &[9; 16]),
        long::version(&attempt, &[VERSION + 1]),
        long::probe_reply(&attempt, eid),
    ]
}

impl Flood {
    /// The packet that is sent, but for attempt and token.
    fn packet(self) -> Vec<u8> {
        let (attempt, token) = ([0; 8], [0; 16]);
        match self {
            // All 12-bit numbers of this key are below the modulus of ML-KEM, so that it is no wrong one.
            Self::Legs => long::hello_k(VERSION, &attempt, &token, &[7; 16], &[9; KEM_KEY]),
            Self::Probes => long::probe(&attempt),
            Self::Spoofed | Self::Proven | Self::Garbage | Self::Answers => {
                long::hello(VERSION, &attempt, &token, &[9; long::HELLO_SIZE - 29])
            }
        }
    }
}

struct Source {
    socket: UdpSocket,
    tokens: Vec<([u8; 8], [u8; 16])>,
    next: u64,
    /// Set if no packet of it is to be answered.
    is_brief: bool,
}

impl Source {
    fn new(victim: &Victim, host: u16, flood: Flood) -> io::Result<Self> {
        let socket = UdpSocket::bind(victim.target.source(66, host))?;
        socket.set_nonblocking(true)?;
        let (tokens, next) = (Vec::new(), u64::from(host) << 40);
        Ok(Self {
            socket,
            tokens,
            next,
            is_brief: matches!(flood, Flood::Garbage) && host.is_multiple_of(BRIEF_ONE_OF),
        })
    }

    fn hello(&mut self, flood: Flood, packet: &mut [u8]) {
        self.next += 1;
        // One HELLO in so many asks for the next token.
        let is_proven = matches!(flood, Flood::Proven | Flood::Legs) && !self.next.is_multiple_of(USES + 1);
        let known = self.tokens.last().copied().filter(|_| is_proven);
        let (attempt, token) = known.unwrap_or((self.next.to_be_bytes(), [0; 16]));
        let fields = attempt.iter().chain(&token);
        packet.iter_mut().skip(5).zip(fields).for_each(|(to, from)| *to = *from);
    }

    /// The next answer, for an attempt that nobody made.
    fn answer(&mut self, answers: &[Vec<u8>], packet: &mut Vec<u8>) {
        self.next += 1;
        packet.clear();
        packet.extend(answers.get(self.next as usize % answers.len()).into_iter().flatten());
        let attempt = self.next.to_be_bytes();
        packet.iter_mut().skip(5).zip(attempt).for_each(|(to, from)| *to = from);
    }

    /// Takes the answers that have come, and their tokens.
    fn read(&mut self, tally: &Tally) {
        let mut packet = [0; 2048];
        while let Ok(n) = self.socket.recv(&mut packet) {
            tally.answered(n);
            if self.is_brief {
                tally.taken();
            }
            if let Some(Ok(Long::Retry(retry))) = packet.get(..n).map(Long::parse) {
                self.tokens.push((*retry.attempt, *retry.token));
            }
        }
        let old = self.tokens.len().saturating_sub(TOKENS);
        self.tokens.drain(..old);
    }

    /// Bytes of the present packet that are sent.
    fn length(&self, flood: Flood, packet: &[u8]) -> usize {
        let is_short = matches!(flood, Flood::Probes) && self.next.is_multiple_of(2);
        match () {
            () if is_short => SHORT,
            () if self.is_brief => packet.len().min(BRIEF),
            () => packet.len(),
        }
    }

    fn send(&self, packet: &[u8], to: SocketAddr, tally: &Tally) {
        // What the system has no room for is not sent: so are floods.
        if self.socket.send_to(packet, to).is_ok() {
            tally.sent(packet.len());
        }
    }
}

/// Random bytes, of which pieces are sent behind each first byte.
struct Garbage {
    noise: Vec<u8>,
    turn: usize,
}

impl Garbage {
    fn new() -> Self {
        let mut noise = vec![0; 64 * LONGEST];
        // Without entropy, zeros are garbage as well.
        let _ = getrandom::fill(&mut noise);
        Self { noise, turn: 0 }
    }

    fn next(&mut self, packet: &mut Vec<u8>) {
        self.turn = self.turn.wrapping_add(7919);
        let at = self.turn % (self.noise.len() - LONGEST);
        let len = 1 + self.turn % LONGEST;
        packet.clear();
        packet.extend(self.noise.iter().skip(at).take(len));
        // Half of them have the first byte and version of a long packet.
        if self.turn.is_multiple_of(2) {
            let first = u8::try_from(0x80 + self.turn / 2 % 12).unwrap_or(0x80);
            let head = [first, 0, 0, 0, 1];
            packet.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        }
        if is_question(packet)
            && let Some(first) = packet.first_mut()
        {
            *first = NOTHING;
        }
    }
}

/// Returns whether a packet is one that a host answers by right: chance makes such ones too, of random bytes that are
/// as many as those of PROBE, or of HELLO of another version.
fn is_question(packet: &[u8]) -> bool {
    matches!(
        Long::parse(packet),
        Ok(Long::Probe(_) | Long::Hello(_) | Long::HelloK(_))
    )
}

/// Floods the target for so long.
pub(crate) fn run(flood: Flood, victim: &Victim, time: Duration, tally: &Tally) -> Result<(), AttackError> {
    let sources: io::Result<Vec<Source>> = (1..=SOURCES).map(|host| Source::new(victim, host, flood)).collect();
    let mut sources = sources?;
    let mut packet = flood.packet();
    let mut garbage = Garbage::new();
    let answers = answers(&victim.target.eid);
    let (begun, mut pace, mut at) = (Instant::now(), Pace::new(victim.rate), 0);
    while begun.elapsed() < time {
        for _ in 0..pace.burst() {
            at = (at + 1) % sources.len();
            let Some(source) = sources.get_mut(at) else { continue };
            match flood {
                Flood::Garbage => garbage.next(&mut packet),
                Flood::Answers => source.answer(&answers, &mut packet),
                Flood::Spoofed | Flood::Proven | Flood::Legs | Flood::Probes => source.hello(flood, &mut packet),
            }
            let len = source.length(flood, &packet);
            source.send(packet.get(..len).unwrap_or_default(), victim.target.address, tally);
        }
        sources.iter_mut().for_each(|source| source.read(tally));
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chance makes them once in 40 runs: the bytes here are such that it would in each.
    #[test]
    fn garbage_asks_for_nothing_that_a_host_answers_by_right() {
        for first in 0..=255 {
            let mut garbage = Garbage {
                noise: vec![first; 64 * LONGEST],
                turn: 0,
            };
            let mut packet = Vec::new();
            for _ in 0..64 * LONGEST {
                garbage.next(&mut packet);
                assert!(!is_question(&packet), "{packet:?}");
            }
        }
    }
}
