//! Places where a host may be: an address, or a name that is looked up, and a port.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sss::{Eid, Hint, NoInterface};
use thiserror::Error;

/// The UDP port of `sss serve`, and of a host that is named without one. It and the 15 behind it are registered for
/// nothing (docs/book/cli.md tells why this one).
pub(crate) const DEFAULT_PORT: u16 = 7757;
/// Longest name, in bytes.
const MAX_NAME: usize = 253;
/// Longest part of a name, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;
/// Bytes of `_sss.`, which stands before a name that the DNS is asked about.
const BEFORE_NAME: usize = 5;
/// Longest name of a network interface, in bytes.
const MAX_ZONE: usize = 15;

/// Advises what to do about a name that cannot be looked up.
pub(crate) const CHECK_NAME: &str = "check the name, or give the IP address";
/// Advises what to do about an address to which nothing can be sent.
pub(crate) const CHECK_ADDRESS: &str = "check the address, and that --bind is of the same kind: IPv4, or [::] for both";
/// Advises what to do about an interface that this machine does not have.
pub(crate) const NAME_INTERFACE: &str = "write the name of this machine's interface to that link behind the %";

/// Place where a host may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// An address that means something on one link only, and the interface of this machine to that link.
    Scoped(Ipv6Addr, String, u16),
    /// A name for the system's resolver, in lower case.
    Name(String, u16),
}

/// Reason why a text is not a [`Place`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum PlaceError {
    #[error(
        "{0:?} is no host: write it like nas.example, 192.0.2.7, 192.0.2.7:{DEFAULT_PORT} or [2001:db8::7]:{DEFAULT_PORT}"
    )]
    Host(String),
    #[error("{0:?} is no port: it is a number from 1 to 65535. A path is divided from the host by /, as in nas/path")]
    Port(String),
    #[error("the port is missing behind {0:?}")]
    NoPort(String),
    #[error("write IPv6 addresses in brackets, like [2001:db8::7] or [2001:db8::7]:{DEFAULT_PORT}, and not {0:?}")]
    Brackets(String),
    #[error("{0} is an address of one link only: name this machine's interface to it, as in [{0}%eth0]")]
    NoZone(Ipv6Addr),
    #[error("{0} is an EID only: where the host is stands behind it, as in EID@nas.example or EID@192.0.2.7")]
    OnlyEid(Eid),
}

impl Place {
    /// Reads `HOST[:PORT]`: HOST is a name, IPv4, or IPv6 in brackets, with `%INTERFACE` behind it if need be.
    ///
    /// # Errors
    /// Says what is wrong, and how it is written. A port that is missing is wrong if there is no `default`.
    pub(crate) fn parse(text: &str, default: Option<u16>) -> Result<Self, PlaceError> {
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => default,
        };
        let port = port.ok_or_else(|| match text.rsplit_once(':') {
            Some((_, port)) if !text.ends_with(']') => PlaceError::Port(port.to_owned()),
            _ => PlaceError::NoPort(text.to_owned()),
        })?;
        match host {
            HostText::InBrackets(inner) => Self::ipv6(inner, port).ok_or_else(|| PlaceError::Host(text.to_owned()))?,
            HostText::Plain(host) => match host.parse::<IpAddr>() {
                Ok(ip) => Ok(Self::Address((ip, port).into())),
                Err(_) => match host.parse() {
                    Ok(eid) => Err(PlaceError::OnlyEid(eid)),
                    Err(_) => Self::name(host, port).ok_or_else(|| PlaceError::Host(text.to_owned())),
                },
            },
        }
    }

    /// An IPv6 address, with an interface or without. `None` if it is none.
    fn ipv6(text: &str, port: u16) -> Option<Result<Self, PlaceError>> {
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone)),
            None => (text, None),
        };
        let ip: Ipv6Addr = ip.parse().ok()?;
        match zone {
            None if ip.is_unicast_link_local() => Some(Err(PlaceError::NoZone(ip))),
            None => Some(Ok(Self::Address(canonical((ip, port).into())))),
            Some(zone) => {
                let characters = |b: u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'/' | b']');
                let is_zone = (1..=MAX_ZONE).contains(&zone.len()) && zone.bytes().all(characters);
                is_zone.then(|| Ok(Self::Scoped(ip, zone.to_owned(), port)))
            }
        }
    }

    /// A name and a port. `None` if this is no name that a resolver is asked for, or port 0.
    pub(crate) fn name(name: &str, port: u16) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let characters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(characters) && !name.starts_with('.');
        // A last part of digits only is an IP address with a mistake: resolvers guess what it means.
        let is_number = name
            .rsplit('.')
            .next()
            .is_none_or(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (is_name && !is_number && port != 0).then(|| Self::Name(name.to_ascii_lowercase(), port))
    }

    /// A name with a record in the DNS, as it is compared: in lower case.
    pub(crate) fn resolvable(name: &str) -> Option<String> {
        let is_label =
            |label: &str| (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        match Self::name(name, DEFAULT_PORT)? {
            Self::Name(name, _) if name.len() <= MAX_NAME - BEFORE_NAME && name.split('.').all(is_label) => Some(name),
            _ => None,
        }
    }

    /// Returns whether no host is ever there: the address is that of nobody, or of many.
    pub(crate) fn is_nobodys(&self) -> bool {
        match self {
            Self::Address(address) => {
                let ip = address.ip().to_canonical();
                ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST
            }
            Self::Scoped(..) | Self::Name(..) => false,
        }
    }

    /// Returns whether it leads whoever goes there to the own machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().to_canonical().is_loopback(),
            Self::Scoped(ip, ..) => ip.is_loopback(),
            // RFC 6761, section 6.3.
            Self::Name(name, _) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// Returns whether the system's resolver has to be asked for it.
    pub(crate) fn is_name(&self) -> bool {
        matches!(self, Self::Name(..))
    }

    /// The host without its port, as it is written in messages and in the file of known hosts.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Address(address) => address.ip().to_string(),
            Self::Scoped(ip, zone, _) => format!("{ip}%{zone}"),
            Self::Name(name, _) => name.clone(),
        }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Scoped(_, _, port) | Self::Name(_, port) => *port,
        }
    }

    /// All addresses of it, by the system's resolver where it is a name.
    ///
    /// # Errors
    /// Those of the resolver, or that this machine has no such interface. There is at least one address otherwise.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Address(address) => return Ok(vec![*address]),
            Self::Scoped(_, zone, _) => NoInterface::check(zone).map_err(io::Error::other)?,
            Self::Name(..) => {}
        }
        let found: Vec<_> = tokio::net::lookup_host((self.host(), self.port()))
            .await?
            .map(canonical)
            .collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        }
        Ok(found)
    }
}

impl Place {
    /// Says that [`Self::resolve`] has failed, and what to do about it.
    pub(crate) fn unresolved(&self, why: &str) -> (String, &'static str) {
        match self {
            Self::Scoped(..) => (format!("cannot send to {self}: {why}"), NAME_INTERFACE),
            _ => (format!("cannot look up {}: {why}", self.host()), CHECK_NAME),
        }
    }
}

/// A host as it is written.
enum HostText<'a> {
    InBrackets(&'a str),
    Plain(&'a str),
}

fn split_port(text: &str) -> Result<(HostText<'_>, Option<&str>), PlaceError> {
    if let Some(inner) = text.strip_prefix('[') {
        let (inner, rest) = inner.split_once(']').ok_or_else(|| PlaceError::Host(text.to_owned()))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((HostText::InBrackets(inner), Some(port))),
            None if rest.is_empty() => Ok((HostText::InBrackets(inner), None)),
            None => Err(PlaceError::Host(text.to_owned())),
        };
    }
    match text.split_once(':') {
        None => Ok((HostText::Plain(text), None)),
        Some((_, port)) if port.contains(':') => Err(PlaceError::Brackets(text.to_owned())),
        Some((host, port)) => Ok((HostText::Plain(host), Some(port))),
    }
}

/// IPv4 as IPv4, so that an address is written in one way.
fn canonical(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    address.set_ip(address.ip().to_canonical());
    address
}

impl From<&Place> for Hint {
    fn from(place: &Place) -> Self {
        match place {
            Place::Address(address) => (*address).into(),
            // As a name: the resolver knows the interfaces.
            Place::Scoped(_, _, port) | Place::Name(_, port) => (place.host().as_str(), *port).into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Scoped(ip, zone, port) => write!(f, "[{ip}%{zone}]:{port}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Place, PlaceError> {
        Place::parse(text, Some(DEFAULT_PORT))
    }

    #[test]
    fn hosts_are_names_and_addresses_and_ports_may_be_missing() {
        for (text, written, host) in [
            ("localhost", "localhost:7757", "localhost"),
            ("localhost:4433", "localhost:4433", "localhost"),
            ("NAS.Example.:1", "nas.example:1", "nas.example"),
            ("192.0.2.7", "192.0.2.7:7757", "192.0.2.7"),
            ("192.0.2.7:65535", "192.0.2.7:65535", "192.0.2.7"),
            ("[2001:db8::7]", "[2001:db8::7]:7757", "2001:db8::7"),
            ("[::1]:1", "[::1]:1", "::1"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7:1", "192.0.2.7"),
            ("[fe80::1%eth0]:4433", "[fe80::1%eth0]:4433", "fe80::1%eth0"),
            ("[fe80::1%3]", "[fe80::1%3]:7757", "fe80::1%3"),
        ] {
            let place = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((place.to_string().as_str(), place.host().as_str()), (written, host));
            assert_eq!(Place::parse(written, None), Ok(place), "it is read as it is written");
        }
        assert_eq!(Place::parse("nas", None), Err(PlaceError::NoPort("nas".to_owned())));
        assert_eq!(Place::parse("[::1]", None), Err(PlaceError::NoPort("[::1]".to_owned())));
    }

    #[test]
    fn what_is_wrong_is_said_with_an_example() {
        for bad in [
            "",
            "a b",
            ".",
            "..",
            "[::1",
            "[::1]x",
            "[x]:1",
            "[fe80::1%]",
            "[fe80::1%a/b]",
            "127.1",
            "1.2.3.256",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(matches!(error, PlaceError::Host(_)), "{bad}: {error}");
            assert!(error.to_string().contains("192.0.2.7:7757"), "{bad}: {error}");
        }
        for bad in ["nas:", "nas:0", "nas:70000", "nas:photos", "[::1]:x", "192.0.2.7:-1"] {
            let error = parse(bad).unwrap_err();
            assert!(matches!(error, PlaceError::Port(_)), "{bad}: {error}");
            assert!(error.to_string().contains("nas/path"), "{bad}: {error}");
        }
        assert!(matches!(parse("::1:4433"), Err(PlaceError::Brackets(_))));
        assert!(matches!(parse("[fe80::1]:1"), Err(PlaceError::NoZone(_))));
        let eid = Eid::from_public_key(&[7; 32]);
        assert_eq!(parse(&eid.to_string()), Err(PlaceError::OnlyEid(eid)));
    }

    #[test]
    fn names_are_those_that_a_resolver_is_asked_for() {
        assert_eq!(Place::name("Host.Example", 7).unwrap().to_string(), "host.example:7");
        let long = "a".repeat(MAX_NAME + 1);
        for bad in [
            "",
            ".",
            ".a",
            "a b",
            "a@b",
            "a:b",
            "[a]",
            "ä",
            "a\n",
            "7",
            "a.7",
            long.as_str(),
        ] {
            assert_eq!(Place::name(bad, 7), None, "{bad:?}");
        }
        assert_eq!(Place::name("host", 0), None);
    }

    #[tokio::test]
    async fn names_and_interfaces_are_looked_up() {
        assert!(
            parse("localhost:9")
                .unwrap()
                .resolve()
                .await
                .unwrap()
                .iter()
                .all(|a| a.ip().is_loopback())
        );
        let missing = parse("[fe80::1%no-such]").unwrap().resolve().await.unwrap_err();
        assert!(missing.to_string().contains("no interface no-such"), "{missing}");
        assert!(parse("no-such-host.invalid").unwrap().resolve().await.is_err());
    }
}
