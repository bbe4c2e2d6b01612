//! All that the interfaces of a node send and receive, as the kernel shows it to packet sockets (packet(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RawProtocol, RecvFlags, SocketType, recv, socket, sockopt};
use sss_lab::Node;

use super::world::Failure;

/// Packet that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Ports of UDP, if it is that.
    pub(crate) ports: Option<(u16, u16)>,
    pub(crate) bytes: Vec<u8>,
}

/// Capture that is under way.
pub(crate) struct Capture {
    is_over: Arc<AtomicBool>,
    reader: JoinHandle<Vec<Packet>>,
}

impl Capture {
    /// Begins to capture.
    ///
    /// # Errors
    /// If the system refuses it.
    pub(crate) fn start(node: &Node) -> Result<Self, Failure> {
        let fd = node.enter(open)??;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let reader = std::thread::spawn(move || {
            let (mut packets, mut frame) = (Vec::new(), vec![0; 1 << 16]);
            loop {
                match recv(&fd, &mut frame[..], RecvFlags::empty()) {
                    Ok((len, _)) => packets.extend(parse(&frame[..len])),
                    // Nothing more has come for a while.
                    Err(_) if over.load(Ordering::Relaxed) => return packets,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { is_over, reader })
    }

    /// All IP packets.
    pub(crate) fn stop(self) -> Vec<Packet> {
        self.is_over.store(true, Ordering::Relaxed);
        self.reader.join().expect("the reader")
    }
}

fn open() -> rustix::io::Result<OwnedFd> {
    // ETH_P_ALL, in the order of the network.
    let all = RawProtocol::new(u32::from(3_u16.to_be())).map(Protocol::from_raw);
    let fd = socket(AddressFamily::PACKET, SocketType::RAW, all)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))?;
    sockopt::set_socket_recv_buffer_size(&fd, 8 << 20)?;
    Ok(fd)
}

/// Reads a frame of Ethernet. `None`: it is no IP.
fn parse(frame: &[u8]) -> Option<Packet> {
    let (kind, ip) = (frame.get(12..14)?, frame.get(14..)?);
    let (source, destination, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) = match kind {
        [0x08, 0x00] => {
            let at = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
            let header = usize::from(ip.first()? & 15) * 4;
            (at(12)?.into(), at(16)?.into(), *ip.get(9)?, ip.get(header..)?)
        }
        [0x86, 0xdd] => {
            let at = |at: usize| Some(Ipv6Addr::from(*ip.get(at..)?.first_chunk::<16>()?));
            (at(8)?.into(), at(24)?.into(), *ip.get(6)?, ip.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk()?));
    Some(Packet {
        source,
        destination,
        ports: if protocol == 17 { port(0).zip(port(2)) } else { None },
        bytes: ip.to_vec(),
    })
}

impl Packet {
    /// The bytes that UDP carries, if it is that.
    pub(crate) fn payload(&self) -> &[u8] {
        let header = match self.source {
            IpAddr::V4(_) => usize::from(self.bytes[0] & 15) * 4,
            IpAddr::V6(_) => 40,
        };
        self.bytes.get(header + 8..).unwrap_or_default()
    }

    /// Returns whether it is of mDNS.
    #[cfg(feature = "mdns")]
    pub(crate) fn is_mdns(&self) -> bool {
        self.ports.is_some_and(|(from, to)| from == 5353 || to == 5353)
    }

    /// Returns whether its bytes are somewhere in it.
    pub(crate) fn has(&self, needle: &[u8]) -> bool {
        let windows = self.bytes.windows(needle.len());
        windows.into_iter().any(|window| window.eq_ignore_ascii_case(needle))
    }
}
