//! A relay between a host of this program and the target, which does to packets what no host does.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sss_wire::long::Kind;
use sss_wire::short;
use tokio::net::UdpSocket;

use crate::tally::Tally;
use crate::target::Target;

/// Copies of a forged INITIATE.
const FORGERIES: u16 = 100;
/// Copies of a repeated packet.
const COPIES: u16 = 10;
/// Time between two moves.
const STAY: Duration = Duration::from_millis(20);
/// Longest datagram.
const LONGEST: usize = 65_536;

/// Manner in which a relay does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// INITIATEs arrive with other payloads only, many times.
    Forge,
    /// Nothing goes to the target any more once it sent so many bytes.
    Cut,
    /// Each packet to the target comes again, also from another address.
    Repeat,
    /// Packets come from other addresses all the time.
    Move,
    /// Before each packet come forgeries that look as it does: damaged, cut, and such as could be resets.
    Damage,
    /// Each packet of the target comes back to it as well.
    Reflect,
    /// Each fourth short packet comes from the address of somebody who knows nothing of it. These alone are counted.
    Spoof,
}

/// Counts what still comes from a target to somebody who is not there any more.
pub(crate) async fn listen_on(socket: UdpSocket, tally: Tally) {
    let mut packet = vec![0; LONGEST];
    loop {
        if let Ok((n, _)) = socket.recv_from(&mut packet).await {
            tally.unheard(n);
        }
    }
}

/// Packets that look like this one, from outside: with a bit changed, cut, and as long as a stateless reset.
pub(crate) fn forgeries(packet: &[u8]) -> [Vec<u8>; 3] {
    let (mut changed, mut reset) = (packet.to_vec(), packet.to_vec());
    // The last byte is a random one.
    let at = packet.last().map_or(0, |last| usize::from(*last));
    if let Some(byte) = changed.get_mut(at % packet.len().max(1)) {
        *byte ^= 1 << (at % 8);
    }
    // Behind the first byte and the channel id, which are in clear, there may be anything.
    reset.resize(48, 0);
    reset.iter_mut().skip(5).for_each(|byte| *byte = byte.wrapping_add(7));
    let cut = packet.iter().take(packet.len() / 2).copied().collect();
    [changed, cut, reset]
}

/// A relay for one host.
pub(crate) struct Relay {
    front: UdpSocket,
    fault: Fault,
    target: Target,
    tally: Tally,
}

/// Bytes of the target after which a relay cuts it off.
const ENOUGH: usize = 20_000;

impl Relay {
    pub(crate) async fn new(fault: Fault, target: Target, tally: &Tally) -> io::Result<Self> {
        let front = UdpSocket::bind(target.source(0, 1)).await?;
        let tally = tally.clone();
        Ok(Self {
            front,
            fault,
            target,
            tally,
        })
    }

    /// The address to which the host has to send.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        let mut address = self.front.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Ok(address)
    }

    /// Relays until it is dropped, or cuts both off from each other: then this is the socket that the target sends to.
    pub(crate) async fn run(self) -> io::Result<UdpSocket> {
        let (mut up, mut down) = (vec![0; LONGEST], vec![0; LONGEST]);
        let mut client = None;
        let mut moves = 1;
        let mut back = UdpSocket::bind(self.target.source(67, moves)).await?;
        let other = UdpSocket::bind(self.target.source(68, 1)).await?;
        let (mut since, mut received) = (Instant::now(), 0);
        let mut aside = vec![0; LONGEST];
        loop {
            tokio::select! {
                packet = self.front.recv_from(&mut up) => {
                    let Ok((n, from)) = packet else { continue };
                    client = Some(from);
                    if self.fault == Fault::Move && since.elapsed() >= STAY {
                        moves = moves.checked_add(1).unwrap_or(1);
                        back = UdpSocket::bind(self.target.source(67, moves)).await?;
                        since = Instant::now();
                    }
                    if let Some(packet) = up.get_mut(..n) {
                        self.forward(packet, &back, &other).await;
                    }
                }
                packet = other.recv_from(&mut aside) => {
                    if let Ok((n, _)) = packet {
                        self.tally.unheard(n);
                    }
                }
                packet = back.recv_from(&mut down) => {
                    let Ok((n, from)) = packet else { continue };
                    if from != self.target.address {
                        continue;
                    }
                    self.tally.answered(n);
                    received += n;
                    if let Some(packet) = down.get(..n).filter(|_| self.fault == Fault::Reflect) {
                        self.send(packet, &back).await;
                    }
                    if self.fault == Fault::Cut && received > ENOUGH {
                        return Ok(back);
                    }
                    if let (Some(client), Some(packet)) = (client, down.get(..n)) {
                        let _ = self.front.send_to(packet, client).await;
                    }
                }
            }
        }
    }

    async fn forward(&self, packet: &mut [u8], back: &UdpSocket, other: &UdpSocket) {
        let is_initiate = packet.first() == Some(&(Kind::Initiate as u8));
        let is_short = packet.first().is_some_and(|first| first & 0xc0 == short::FIXED);
        match self.fault {
            Fault::Forge if is_initiate => {
                for n in 0..FORGERIES {
                    // Cookie and attempt are true; the tag is not.
                    if let Some(last) = packet.last_mut() {
                        *last = last.wrapping_add(1);
                    }
                    self.send(packet, if n % 2 == 0 { back } else { other }).await;
                }
            }
            Fault::Repeat => {
                for n in 0..COPIES {
                    self.send(packet, if n % 2 == 0 { back } else { other }).await;
                }
            }
            Fault::Damage => {
                for forgery in forgeries(packet) {
                    self.send(&forgery, back).await;
                }
                self.send(packet, back).await;
            }
            // The last byte is a random one.
            Fault::Spoof if is_short && packet.last().is_some_and(|last| last % 4 == 0) => {
                self.send(packet, other).await
            }
            Fault::Spoof => {
                let _ = back.send_to(packet, self.target.address).await;
            }
            Fault::Forge | Fault::Cut | Fault::Move | Fault::Reflect => self.send(packet, back).await,
        }
    }

    async fn send(&self, packet: &[u8], socket: &UdpSocket) {
        // What the system has no room for is lost, as in networks.
        if socket.send_to(packet, self.target.address).await.is_ok() {
            self.tally.sent(packet.len());
        }
    }
}
