//! Sockets of mDNS: one of each family for all links, beside those of other programs of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::links::Link;
use super::message::MAX_MESSAGE;
use super::responder::Audience;

/// Port of mDNS.
pub(super) const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762, section 11: nobody forwards it.
const HOPS: u32 = 255;
/// Pause after an error of the system.
const PAUSE: Duration = Duration::from_millis(100);

/// One socket, and room for a message.
struct Listener {
    socket: UdpSocket,
    /// One byte more than is read: what fills it is too long.
    buf: Box<[u8; MAX_MESSAGE + 1]>,
}

/// The sockets, of the families that some link has.
pub(super) struct Sockets {
    v4: Option<Listener>,
    v6: Option<Listener>,
}

impl Sockets {
    /// Opens them, and joins the links' groups.
    ///
    /// # Errors
    /// If there is no link, or none of the groups can be joined.
    pub(super) fn open(links: &[Link]) -> io::Result<Self> {
        let mut failure = None;
        let mut open = |domain: Domain, has: fn(&Link) -> bool| {
            let opened = links.iter().any(has).then(|| Listener::open(domain, links));
            opened.and_then(|opened| opened.map_err(|error| failure = Some(error)).ok())
        };
        let v4 = open(Domain::IPV4, |link| !link.v4.is_empty());
        let v6 = open(Domain::IPV6, |link| link.v6.is_some());
        match (v4, v6) {
            (None, None) => {
                let none = || io::Error::other("this machine has no local network where the host takes packets");
                Err(failure.unwrap_or_else(none))
            }
            (v4, v6) => Ok(Self { v4, v6 }),
        }
    }

    /// Waits for the next message. Cancel safe.
    pub(super) async fn next(&mut self) -> (SocketAddr, &[u8]) {
        let Self { v4, v6 } = self;
        tokio::select! {
            got = receive(v4) => got,
            got = receive(v6) => got,
        }
    }

    /// Sends a message on a link. What cannot be sent is lost, as any datagram may be.
    pub(super) fn send(&self, link: &Link, to: Audience, message: &[u8]) {
        match to {
            Audience::One(address) => {
                let listener = if address.is_ipv4() { &self.v4 } else { &self.v6 };
                send(listener, address, message);
            }
            Audience::All => {
                for (own, _) in &link.v4 {
                    let set = |listener: &Listener| SockRef::from(&listener.socket).set_multicast_if_v4(own);
                    if self.v4.as_ref().is_some_and(|listener| set(listener).is_ok()) {
                        send(&self.v4, (GROUP_V4, PORT).into(), message);
                    }
                }
                if link.v6.is_some() {
                    send(
                        &self.v6,
                        SocketAddrV6::new(GROUP_V6, PORT, 0, link.index).into(),
                        message,
                    );
                }
            }
        }
    }
}

fn send(listener: &Option<Listener>, to: SocketAddr, message: &[u8]) {
    if let Some(listener) = listener
        && let Err(error) = SockRef::from(&listener.socket).send_to(message, &to.into())
    {
        tracing::debug!(%error, "a message of mDNS was not sent");
    }
}

async fn receive(listener: &mut Option<Listener>) -> (SocketAddr, &[u8]) {
    let Some(Listener { socket, buf }) = listener else {
        return std::future::pending().await;
    };
    loop {
        match socket.recv_from(&mut buf[..]).await {
            Ok((len, from)) => return (from, buf.get(..len).unwrap_or_default()),
            Err(error) => {
                tracing::debug!(%error, "no message of mDNS can be received");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Listener {
    fn open(domain: Domain, links: &[Link]) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        let any = if domain == Domain::IPV4 {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        } else {
            socket.set_only_v6(true)?;
            Ipv6Addr::UNSPECIFIED.into()
        };
        socket.bind(&SocketAddr::new(any, PORT).into())?;
        let join = if domain == Domain::IPV4 {
            socket.set_ttl_v4(HOPS)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            join_v4
        } else {
            socket.set_unicast_hops_v6(HOPS)?;
            socket.set_multicast_hops_v6(HOPS)?;
            join_v6
        };
        let joined: Vec<_> = links.iter().filter_map(|link| join(&socket, link)).collect();
        if let Some(error) = joined.into_iter().reduce(|one, other| one.and(Ok(())).or(other)) {
            error?;
        }
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            buf: Box::new([0; MAX_MESSAGE + 1]),
        })
    }
}

/// `None`: the link has no address of IPv4.
fn join_v4(socket: &Socket, link: &Link) -> Option<io::Result<()>> {
    let (own, _) = link.v4.first()?;
    Some(socket.join_multicast_v4(&GROUP_V4, own))
}

/// `None`: the link has no address of IPv6.
fn join_v6(socket: &Socket, link: &Link) -> Option<io::Result<()>> {
    link.v6.map(|_| socket.join_multicast_v6(&GROUP_V6, link.index))
}
