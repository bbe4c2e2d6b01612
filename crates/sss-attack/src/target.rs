//! Hosts that may be attacked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use sss::Eid;

/// A host of this machine, or of a network for tests: 198.18.0.0/15 (RFC 2544).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) eid: Eid,
    pub(crate) address: SocketAddr,
}

/// Reason why something is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It has another form.
    #[error("a target is EID@ADDRESS:PORT, as `sss serve` prints it")]
    Form,
    /// It may be another's.
    #[error(
        "{0} is not attacked: only addresses of this machine are, and 198.18.0.0/15. Run the server here, or in a \
         network namespace with addresses of that network"
    )]
    NotOwn(IpAddr),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (eid, address) = text.split_once('@').ok_or(TargetError::Form)?;
        let eid = eid.parse().map_err(|_| TargetError::Form)?;
        let address: SocketAddr = address.parse().map_err(|_| TargetError::Form)?;
        let ip = address.ip().to_canonical();
        if is_own(ip) {
            Ok(Self { eid, address })
        } else {
            Err(TargetError::NotOwn(ip))
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.eid, self.address)
    }
}

/// An address to which nobody else can come: of the loopback, or of a network for tests.
pub(crate) fn parse_closed(text: &str) -> Result<SocketAddr, TargetError> {
    let address: SocketAddr = text.parse().map_err(|_| TargetError::Form)?;
    let ip = address.ip().to_canonical();
    if ip.is_loopback() || is_of_test_network(ip) {
        Ok(address)
    } else {
        Err(TargetError::NotOwn(ip))
    }
}

/// Checks an address that clients of a server at `server` are to be told of: it is of the loopback, or of a network for
/// tests. Where the server is in such a network itself, as in a network namespace, those too that mean nobody in the
/// Internet.
///
/// # Errors
/// [`TargetError::NotOwn`] if it may be another's.
pub(crate) fn check_named(server: SocketAddr, address: SocketAddr) -> Result<(), TargetError> {
    let ip = address.ip().to_canonical();
    let is_local = match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast(),
    };
    let is_closed = is_of_test_network(server.ip().to_canonical());
    if ip.is_loopback() || is_of_test_network(ip) || is_closed && is_local {
        Ok(())
    } else {
        Err(TargetError::NotOwn(ip))
    }
}

fn is_of_test_network(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if matches!(v4.octets(), [198, 18 | 19, ..]))
}

/// Returns whether nobody else can be at an address.
fn is_own(ip: IpAddr) -> bool {
    if ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    ip.is_loopback() || is_of_test_network(ip) || is_of_this_machine(ip)
}

/// The system binds sockets to its own addresses and to broadcast ones, and connects to the latter only when told to.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok_and(|socket| socket.connect((ip, 9)).is_ok())
}

impl Target {
    /// An address of this machine to attack from: one of many in 127/8 if the target is there.
    pub(crate) fn source(&self, network: u8, host: u16) -> SocketAddr {
        let [high, low] = host.to_be_bytes();
        let ip = match self.address.ip() {
            IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::new(127, network, high, low.max(1)).into(),
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(v6) if v6.is_loopback() => IpAddr::V6(v6),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(ip, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Target, TargetError> {
        let eid = Eid::from_public_key(&[7; 32]);
        format!("{eid}@{address}").parse()
    }

    #[test]
    fn others_are_never_attacked() {
        for address in [
            "127.0.0.1:1",
            "127.9.8.7:1",
            "198.18.0.1:1",
            "198.19.255.1:1",
            "[::1]:1",
        ] {
            assert!(parse(address).is_ok(), "{address}");
        }
        for address in [
            "192.0.2.1:1",
            "198.20.0.1:1",
            "8.8.8.8:1",
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "[2001:db8::1]:1",
            "[::ffff:192.0.2.1]:1",
            "[::]:1",
            "[ff02::1]:1",
        ] {
            assert!(matches!(parse(address), Err(TargetError::NotOwn(_))), "{address}");
        }
        assert_eq!(parse_closed("127.0.0.1:0"), Ok(([127, 0, 0, 1], 0).into()));
        assert!(matches!(parse_closed("0.0.0.0:0"), Err(TargetError::NotOwn(_))));
        let named = |server: &str, ip: &str| check_named(server.parse().unwrap(), format!("{ip}:9").parse().unwrap());
        for (ip, is_named) in [
            ("127.0.0.1", true),
            ("198.18.3.4", true),
            ("10.0.0.1", false),
            ("224.0.0.1", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(named("127.0.0.1:1", ip).is_ok(), is_named, "{ip}");
        }
        for (ip, is_named) in [
            ("10.0.0.1", true),
            ("[fe80::1]", true),
            ("224.0.0.1", true),
            ("8.8.8.8", false),
        ] {
            assert_eq!(named("198.18.0.1:1", ip).is_ok(), is_named, "{ip}");
        }
        assert_eq!(parse("localhost:1"), Err(TargetError::Form));
        assert_eq!("127.0.0.1:1".parse::<Target>(), Err(TargetError::Form));
    }
}
