//! Measurements with plain UDP sockets: how a router maps and filters, and whether two hosts get through to each other.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::node::Node;
use crate::site::Kind;

/// Longest wait for a packet that should come.
const PATIENCE: Duration = Duration::from_secs(4);

/// Time between two packets of a host that tries to get through.
const STEP: Duration = Duration::from_millis(40);

/// A router's choice of the outer port (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Address and port are the host's own.
    None,
    /// One port for all destinations.
    EndpointIndependent,
    /// One port for each address.
    AddressDependent,
    /// One port for each address and port.
    AddressAndPortDependent,
}

/// Senders whose packets reach a host that has a mapping (RFC 4787, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// Everyone.
    EndpointIndependent,
    /// Addresses that were sent to.
    AddressDependent,
    /// Addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// The behaviour of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Choice of ports.
    pub mapping: Mapping,
    /// Set if the outer port is that of the host.
    pub keeps_port: bool,
    /// Choice of senders.
    pub filtering: Filtering,
    /// Set if a packet that comes before the host has sent to its sender makes it send from another port.
    pub moves: bool,
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapping = match self.mapping {
            Mapping::None => "none",
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "by address",
            Mapping::AddressAndPortDependent => "by address and port",
        };
        let filtering = match self.filtering {
            Filtering::EndpointIndependent => "none",
            Filtering::AddressDependent => "by address",
            Filtering::AddressAndPortDependent => "by address and port",
        };
        let port = if self.keeps_port { "kept" } else { "changed" };
        write!(f, "mapping {mapping}, port {port}, filtering {filtering}")?;
        f.write_str(if self.moves { ", moved by an early packet" } else { "" })
    }
}

impl Kind {
    /// The behaviour that a router of this kind should have; `None` if there is no IPv4 to have one.
    pub fn behaviour(self) -> Option<Behaviour> {
        use Filtering as F;
        use Mapping as M;
        let (mapping, keeps_port, filtering) = match self {
            Self::Open => (M::None, true, F::EndpointIndependent),
            Self::Prc | Self::PrcAccept => (M::EndpointIndependent, true, F::AddressAndPortDependent),
            Self::FullCone | Self::Dmz => (M::EndpointIndependent, true, F::EndpointIndependent),
            Self::Restricted => (M::EndpointIndependent, true, F::AddressDependent),
            Self::EimRandom => (M::EndpointIndependent, false, F::AddressAndPortDependent),
            Self::Symmetric => (M::AddressAndPortDependent, false, F::AddressAndPortDependent),
            Self::NoIpv4 => return None,
        };
        Some(Behaviour {
            mapping,
            keeps_port,
            filtering,
            moves: self == Self::PrcAccept,
        })
    }
}

/// Sockets of a server: two ports at each of two addresses.
struct Server([[UdpSocket; 2]; 2]);

impl Server {
    fn new(server: &Node, six: bool) -> Result<Self, Error> {
        let addresses: Vec<IpAddr> = server
            .addresses
            .iter()
            .copied()
            .filter(|a| a.is_ipv6() == six)
            .collect();
        let [first, second] = addresses[..] else {
            return Err(Error::Impossible(format!(
                "{} has no two addresses of a family",
                server.name
            )));
        };
        let bind = |address: IpAddr| -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((address, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let all = || -> io::Result<Self> {
            let pair = |address| Ok::<_, io::Error>([bind(address)?, bind(address)?]);
            Ok(Self([pair(first)?, pair(second)?]))
        };
        server.enter(all)?.map_err(Error::system("sockets of a server"))
    }
}

/// A socket of a host with a port of its own.
fn host_socket(host: &Node, six: bool) -> Result<UdpSocket, Error> {
    let any: IpAddr = if six {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let bind = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    host.enter(bind)?.map_err(Error::system("a socket of a host"))
}

/// The address under which a socket of a server sees a host's; `None` if nothing arrives.
fn seen(host: &UdpSocket, server: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    let to = server.local_addr()?;
    // A firewall that rejects says so here: it is silence like any other.
    if host.send_to(b"who am I", to).is_err() {
        return Ok(None);
    }
    receive(server).map(|packet| packet.map(|(_, from)| from))
}

/// A packet and its sender, if one comes in time.
fn receive(socket: &UdpSocket) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut buffer = [0; 64];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Ok(Some((buffer[..length].to_vec(), from))),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        // ICMP for a packet that was sent before.
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::PermissionDenied
    )
}

/// Tells whether a packet of `stranger` reaches a host's socket, to which packets of `friend` come for certain. The
/// friend's follows the stranger's on the same way: no time has to be waited for one that does not come.
fn reaches(host: &UdpSocket, outer: SocketAddr, stranger: &UdpSocket, friend: &UdpSocket) -> io::Result<Option<bool>> {
    stranger.send_to(b"stranger", outer)?;
    friend.send_to(b"friend", outer)?;
    let mut has_come = false;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match receive(host)? {
            Some((packet, _)) if packet == b"stranger" => has_come = true,
            Some((packet, _)) if packet == b"friend" => return Ok(Some(has_come)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Measures how the routers between a host and a server behave, in IPv4 or in IPv6; `None` if nothing comes through.
///
/// # Errors
///
/// [`Error::System`] if sockets cannot be made or used.
pub fn classify(host: &Node, server: &Node, six: bool) -> Result<Option<Behaviour>, Error> {
    let failed = |error| Error::system(format!("measuring at {}", host.name()))(error);
    let Server([[s1p, s1q], [s2p, s2q]]) = Server::new(server, six)?;
    let socket = host_socket(host, six)?;
    let own = socket.local_addr().map_err(failed)?.port();
    let address = if six {
        host.ipv6().map(IpAddr::from)
    } else {
        host.ipv4().map(IpAddr::from)
    };
    let mut outers = Vec::new();
    for server in [&s1p, &s1q, &s2p] {
        match seen(&socket, server).map_err(failed)? {
            Some(outer) => outers.push(outer),
            None => return Ok(None),
        }
    }
    let mapping = match outers[..] {
        [a, b, c] if a == b && b == c && Some(a.ip()) == address => Mapping::None,
        [a, b, c] if a == b && b == c => Mapping::EndpointIndependent,
        [a, b, _] if a == b => Mapping::AddressDependent,
        _ => Mapping::AddressAndPortDependent,
    };
    let socket = host_socket(host, six)?;
    let Some(outer) = seen(&socket, &s1p).map_err(failed)? else {
        return Ok(None);
    };
    let filtering = match reaches(&socket, outer, &s2q, &s1p).map_err(failed)? {
        None => return Ok(None),
        Some(true) => Filtering::EndpointIndependent,
        Some(false) => match reaches(&socket, outer, &s1q, &s1p).map_err(failed)? {
            None => return Ok(None),
            Some(true) => Filtering::AddressDependent,
            Some(false) => Filtering::AddressAndPortDependent,
        },
    };
    // The stranger at s2q has come early, or just now. A mapping by destination is another anyway.
    let later = seen(&socket, &s2q).map_err(failed)?;
    Ok(Some(Behaviour {
        mapping,
        keeps_port: outers.iter().all(|outer| outer.port() == own),
        filtering,
        moves: mapping == Mapping::EndpointIndependent && later != Some(outer),
    }))
}

/// The outcome of an attempt to get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Punched {
    /// Time from the later side's first packet until both had heard each other's answer; `None` if they did not.
    pub after: Option<Duration>,
    /// Set if one had to answer to an address that the server had not told it.
    pub is_elsewhere: bool,
}

/// Lets two hosts that know each other's outer addresses send to each other, the second a while after the first. Each
/// sends also to where packets really come from.
///
/// # Errors
///
/// [`Error::System`] if sockets cannot be made or used.
pub fn punch(first: &Node, second: &Node, server: &Node, later: Duration) -> Result<Punched, Error> {
    let failed = |error| Error::system(format!("{} to {}", first.name(), second.name()))(error);
    let mut sides = [Side::new(first, server)?, Side::new(second, server)?];
    let [outer, other] = [sides[0].outer, sides[1].outer];
    sides[0].targets.push(other);
    sides[1].targets.push(outer);
    let begun = Instant::now();
    while begun.elapsed() < later + PATIENCE {
        let now = begun.elapsed();
        sides[0].send();
        if now >= later {
            sides[1].send();
        }
        let next = Instant::now() + STEP;
        while Instant::now() < next {
            for side in &mut sides {
                side.listen().map_err(failed)?;
            }
        }
        if sides.iter().all(|side| side.is_heard) {
            return Ok(Punched {
                after: Some(begun.elapsed().saturating_sub(later)),
                is_elsewhere: sides.iter().any(|side| side.targets.len() > 1),
            });
        }
    }
    Ok(Punched {
        after: None,
        is_elsewhere: false,
    })
}

/// One of two that try to get through.
struct Side {
    socket: UdpSocket,
    outer: SocketAddr,
    targets: Vec<SocketAddr>,
    /// Set if a packet of the other has come.
    hears: bool,
    /// Set if the other has said that it hears.
    is_heard: bool,
}

impl Side {
    fn new(host: &Node, server: &Node) -> Result<Self, Error> {
        let failed = |error| Error::system(format!("measuring at {}", host.name()))(error);
        let Server([[s1, _], _]) = Server::new(server, false)?;
        let socket = host_socket(host, false)?;
        let outer = seen(&socket, &s1).map_err(failed)?;
        let outer = outer.ok_or_else(|| Error::Impossible(format!("no UDP from {} to the server", host.name())))?;
        socket
            .set_read_timeout(Some(Duration::from_millis(2)))
            .map_err(failed)?;
        Ok(Self {
            socket,
            outer,
            targets: Vec::new(),
            hears: false,
            is_heard: false,
        })
    }

    fn send(&self) {
        let packet: &[u8] = if self.hears { b"I hear you" } else { b"hello" };
        for target in &self.targets {
            // Unreachable, for now.
            let _ = self.socket.send_to(packet, target);
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        if let Some((packet, from)) = receive(&self.socket)? {
            self.hears = true;
            self.is_heard |= packet == b"I hear you";
            if !self.targets.contains(&from) {
                self.targets.push(from);
            }
        }
        Ok(())
    }
}
