//! The router that is to let a port in: the one on the way to everybody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::driver::addresses;

/// A host, and the router of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) router: Ipv4Addr,
    /// Address of this machine towards the router, and the port of the host.
    pub(super) inside: SocketAddr,
}

/// The router, for a host that is bound to this address. Found without sending anything. `None` if there is none, or
/// none that would reach that address.
pub(super) async fn find(bound: SocketAddr) -> Option<Place> {
    let found = tokio::task::spawn_blocking(netdev::get_default_interface).await;
    let router = *found.ok()?.ok()?.gateway?.ipv4.first()?;
    let here = source(router)?;
    let bound = addresses::canonical(bound);
    let takes = match bound.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip == here,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    let is_usable = takes && !router.is_unspecified() && !here.is_loopback();
    is_usable.then(|| Place {
        router,
        inside: SocketAddr::new(here.into(), bound.port()),
    })
}

/// The address from which packets to the router leave.
fn source(router: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent by that.
    socket.connect((router, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}
