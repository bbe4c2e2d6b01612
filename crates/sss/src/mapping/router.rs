//! The router that is to let a port in: the one on the way to everybody else, by IPv4 and by IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use sss_proto::AddressScope;

use crate::driver::addresses;

/// A host, and the router of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) router: Ipv4Addr,
    /// Address of this machine towards the router, and the port of the host.
    pub(super) inside: SocketAddr,
}

/// A host with a global IPv6 address, and the router of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceSix {
    pub(super) router: Ipv6Addr,
    /// Interface to the router.
    pub(super) scope: u32,
    /// The global address from which this machine sends to other networks, and the port of the host.
    pub(super) inside: SocketAddr,
}

/// The routers, for a host that is bound to this address. Found without sending anything. `None` where there is none,
/// or none that would reach that address.
pub(super) async fn find(bound: SocketAddr) -> (Option<Place>, Option<PlaceSix>) {
    tokio::join!(find_four(bound), find_six(bound))
}

/// The router of IPv6. Hosts without a global address need none to let them in.
async fn find_six(bound: SocketAddr) -> Option<PlaceSix> {
    let Some(IpAddr::V6(here)) = addresses::preferred_sources()[1] else {
        return None;
    };
    let takes = match bound.ip() {
        IpAddr::V6(ip) => ip.is_unspecified() || ip == here,
        IpAddr::V4(_) => false,
    };
    if !takes || AddressScope::from(IpAddr::V6(here)) != AddressScope::Global {
        return None;
    }
    let interfaces = tokio::task::spawn_blocking(netdev::get_interfaces).await.ok()?;
    let has_it = |one: &&netdev::Interface| one.ipv6.iter().any(|network| network.addr() == here);
    let interface = interfaces.iter().find(has_it)?;
    let router = *interface.gateway.as_ref()?.ipv6.first()?;
    (!router.is_unspecified() && !router.is_multicast()).then(|| PlaceSix {
        router,
        scope: interface.index,
        inside: SocketAddr::new(here.into(), bound.port()),
    })
}

/// The router, for a host that is bound to this address. Found without sending anything. `None` if there is none, or
/// none that would reach that address.
async fn find_four(bound: SocketAddr) -> Option<Place> {
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
