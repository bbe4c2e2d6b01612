//! Ports that routers let in for hosts: where echoes go, and what proves a port (RCH-25, RCH-26).

use std::net::SocketAddr;

use sss_proto::Link;
use sss_wire::reach::bodies::MappedPort;

use crate::path::Path;

/// The way to the mapped port, if an echo is to be sent there: it is of the very address that LEASE has come from.
pub(super) fn echo_to(from: Path, mapped: MappedPort) -> Option<Path> {
    let address = from.link.address().filter(|_| mapped.wants_echo && mapped.port != 0)?;
    let link = Link::Udp(SocketAddr::new(address.ip(), mapped.port));
    Some(Path { link, ..from })
}

/// Returns whether a token that names this address proves the port that a host names: it was sent there, and nowhere
/// else.
pub(super) fn is_proven(from: Path, port: Option<u16>, token_of: SocketAddr) -> bool {
    let named = port.filter(|port| *port != 0).zip(from.link.address());
    named.is_some_and(|(port, from)| token_of == SocketAddr::new(from.ip(), port))
}
