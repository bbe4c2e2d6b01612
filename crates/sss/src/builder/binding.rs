//! The address that a host binds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::driver::socket;
use crate::error::BuildError;

/// Reads the address that a host is to bind.
///
/// # Errors
/// If it is none, or one of many hosts.
pub(super) fn parse(text: &str) -> Result<SocketAddr, BuildError> {
    let parsed = text.trim().parse::<SocketAddr>();
    let address = parsed.map_err(|_| BuildError::BadAddress {
        address: text.to_owned(),
    })?;
    let ip = address.ip().to_canonical();
    // Systems bind them all the same, and nothing that leaves from there is answered.
    match ip.is_multicast() || ip == Ipv4Addr::BROADCAST {
        true => Err(BuildError::OfMany { address }),
        false => Ok(address),
    }
}

/// Binds any free port.
pub(super) fn bind_default(buffers: usize) -> Result<socket::Bound, BuildError> {
    any_port(|address| socket::bind(address, buffers))
}

/// Binds any free port of all addresses, or of those of IPv4 where there is no IPv6.
pub(super) fn any_port<T>(bind: impl Fn(SocketAddr) -> Result<T, BuildError>) -> Result<T, BuildError> {
    let any = |ip: IpAddr| bind(SocketAddr::new(ip, 0));
    any(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_address_is_shown_with_an_example() {
        for text in ["", "4433", "localhost:1", "1.2.3.4", "::1:5:", "1.2.3.4:99999"] {
            let error = parse(text).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains(text) && shown.contains("0.0.0.0:4433"), "{shown}");
        }
        assert!(parse(" [::1]:7 ").is_ok());
    }

    #[test]
    fn an_address_of_many_hosts_is_not_bound() {
        for text in [
            "255.255.255.255:0",
            "224.0.0.251:0",
            "[ff02::1]:0",
            "[::ffff:239.1.2.3]:5",
        ] {
            let parsed = parse(text);
            let of_many = matches!(parsed, Err(BuildError::OfMany { address }) if address.to_string() == text);
            assert!(of_many, "{text}");
        }
    }
}
