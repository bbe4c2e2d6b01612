//! Places where a host may be: addresses, and names that are looked up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use tokio::task::JoinSet;

use crate::driver::addresses;
use crate::interface::NoInterface;

/// Addresses of one name that are tried, at most.
const MAX_PER_NAME: usize = 8;

/// Place where a host may be: an address, or a name with a port, such as `example.org:4433`.
///
/// Made from what one has at hand: a [`SocketAddr`], a pair of an [`IpAddr`] or a name and a port, or text. Text is an
/// address if it can be read as one, else a name. A name is looked up by the operating system's resolver each time a
/// stream is to be opened, and all its addresses that this host's socket can reach are tried at once, the first 8 if
/// there are more.
///
/// A name says where to look, and is not believed: whoever answers must hold the key of the EID.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hint(Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Address(SocketAddr),
    Name(String),
}

/// A hint that was of no use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnresolvedName {
    /// The name, as it was given, or the address.
    pub name: String,
    /// Words of the resolver, or what is wrong with the name; for people.
    pub why: String,
}

impl UnresolvedName {
    pub(crate) fn new(name: &str, why: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            why: why.into(),
        }
    }
}

impl fmt::Display for UnresolvedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.name, self.why)
    }
}

impl Hint {
    /// The address, or else the name.
    pub(crate) fn split(self) -> Result<SocketAddr, String> {
        match self.0 {
            Kind::Address(address) => Ok(addresses::canonical(address)),
            Kind::Name(name) => Err(name),
        }
    }
}

impl From<SocketAddr> for Hint {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Address(address))
    }
}

impl From<(IpAddr, u16)> for Hint {
    fn from(address: (IpAddr, u16)) -> Self {
        Self(Kind::Address(address.into()))
    }
}

impl From<(&str, u16)> for Hint {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => (ip, port).into(),
            Err(_) => Self(Kind::Name(format!("{host}:{port}"))),
        }
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        let text = text.trim();
        match text.parse() {
            Ok(address) => Self(Kind::Address(address)),
            Err(_) => Self(Kind::Name(text.to_owned())),
        }
    }
}

impl From<&String> for Hint {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Address(address) => address.fmt(f),
            Kind::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Debug for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hint({self})")
    }
}

/// Returns why a host whose socket is bound to `local` can send nothing to an address, whatever the network is. `None`
/// if it may be able to.
pub(crate) fn useless(address: SocketAddr, local: SocketAddr) -> Option<&'static str> {
    let ip = address.ip().to_canonical();
    let has_no_interface = |address: SocketAddrV6| {
        let is_of_link = |ip: &Ipv6Addr| ip.is_unicast_link_local();
        let is_bound_there = matches!(local.ip(), IpAddr::V6(local) if is_of_link(&local));
        // Others choose an interface by themselves.
        cfg!(target_os = "linux") && address.scope_id() == 0 && is_of_link(address.ip()) && !is_bound_there
    };
    match address {
        _ if address.port() == 0 => Some("port 0 is no port of a host"),
        _ if ip.is_multicast() || ip == Ipv4Addr::BROADCAST => Some("that is an address of many hosts"),
        _ if ip.is_ipv6() && local.ip().to_canonical().is_ipv4() => Some("this host is bound to an IPv4 address"),
        SocketAddr::V6(v6) if has_no_interface(v6) => {
            Some("its interface is missing: write it like [fe80::1%eth0]:4433")
        }
        _ => None,
    }
}

/// Returns whether a hint that was of no use is an address, about which nobody is asked.
pub(crate) fn is_address(name: &str) -> bool {
    is_scoped(name) || name.parse::<SocketAddr>().is_ok()
}

/// Returns whether a name is an IPv6 address and the interface to its link, such as `fe80::1%eth0`: nobody has to be
/// asked where that is.
pub(crate) fn is_scoped(name: &str) -> bool {
    interface(name).is_some()
}

/// The interface that such an address names.
fn interface(name: &str) -> Option<&str> {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let (ip, zone) = host.trim_matches(['[', ']']).split_once('%')?;
    (ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty()).then_some(zone)
}

/// Looks up all names at once. Gives the addresses that a socket bound to `local` can reach, each once, and the names
/// that were of no use, in their order.
pub(crate) async fn look_up(names: &[String], local: SocketAddr) -> (Vec<SocketAddr>, Vec<UnresolvedName>) {
    let mut lookups = JoinSet::new();
    for (at, name) in names.iter().cloned().enumerate() {
        lookups.spawn(async move { (at, look_up_one(&name, local).await) });
    }
    let mut answers = lookups.join_all().await;
    answers.sort_unstable_by_key(|(at, _)| *at);
    let (mut addresses, mut unresolved) = (Vec::new(), Vec::new());
    for (_, answer) in answers {
        match answer {
            Ok(found) => addresses.extend(found),
            Err(name) => unresolved.push(name),
        }
    }
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    (addresses, unresolved)
}

/// Returns why a text names no place where a host may be, whatever a resolver says.
fn unnamed(name: &str) -> Option<String> {
    const LIKE: &str = "write it like example.org:4433";
    // An address of IPv6 has colons, and a port only behind brackets.
    let is_bare = |text: &str| text.parse::<IpAddr>().is_ok() || (text.starts_with('[') && text.ends_with(']'));
    let Some((host, port)) = name.rsplit_once(':').filter(|_| !is_bare(name)) else {
        return Some(match name {
            "" => format!("it is empty: {LIKE}"),
            _ => format!("a port is missing: {LIKE}"),
        });
    };
    match port.parse::<u16>() {
        _ if host.is_empty() => Some(format!("a name or an address is missing: {LIKE}")),
        Ok(0) => Some("port 0 is no port of a host".to_owned()),
        Ok(_) => None,
        Err(_) if port.is_empty() => Some(format!("a port is missing: {LIKE}")),
        Err(_) => Some(format!(
            "{port:?} is no port, which is a number from 1 to 65535: {LIKE}"
        )),
    }
}

async fn look_up_one(name: &str, local: SocketAddr) -> Result<Vec<SocketAddr>, UnresolvedName> {
    let useless = |why: &str| Err(UnresolvedName::new(name, why));
    if let Some(why) = unnamed(name) {
        return useless(&why);
    }
    if let Some(Err(missing)) = interface(name).map(NoInterface::check) {
        return useless(&missing.to_string());
    }
    let found = match tokio::net::lookup_host(name).await {
        Ok(found) => found.map(addresses::canonical).collect::<Vec<_>>(),
        Err(error) => return useless(&error.to_string()),
    };
    let reachable = found.iter().filter(|to| local.is_ipv6() || to.is_ipv4());
    let reachable: Vec<_> = reachable.copied().take(MAX_PER_NAME).collect();
    match (found.is_empty(), reachable.is_empty()) {
        (true, _) => useless("it has no address"),
        (_, true) => useless("it has IPv6 addresses only, and this host is bound to an IPv4 address"),
        _ => Ok(reachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_as_an_address_is_one() {
        let address: SocketAddr = "[::1]:7".parse().unwrap();
        let all: [Hint; 6] = [
            address.into(),
            "[::1]:7".into(),
            " [::1]:7\n".into(),
            "[::1]:7".to_owned().into(),
            ("::1", 7).into(),
            (address.ip(), 7).into(),
        ];
        assert!(all.iter().all(|hint| hint.clone().split() == Ok(address)));
        assert_eq!(Hint::from(("host", 7)), Hint::from("host:7"));
        assert_eq!(Hint::from("host:7").split(), Err("host:7".to_owned()));
        assert_eq!(format!("{:?}", Hint::from("host:7")), "Hint(host:7)");
    }

    #[test]
    fn an_address_of_one_link_is_no_name_that_somebody_is_asked_about() {
        for scoped in ["fe80::1%eth0:7757", "[fe80::1%eth0]:7757", "fe80::1%2:1"] {
            assert!(is_scoped(scoped), "{scoped}");
        }
        for name in [
            "nas:7757",
            "fe80::1:7757",
            "nas%eth0:7757",
            "fe80::1%:7757",
            "%eth0:1",
            "",
        ] {
            assert!(!is_scoped(name), "{name}");
        }
    }

    #[tokio::test]
    async fn each_name_that_is_of_no_use_is_named_with_the_reason() {
        let (bad, words): (Vec<_>, Vec<_>) = [
            ("..:1", ""),
            ("localhost", "a port is missing: write it like example.org:4433"),
            ("localhost:", "a port is missing"),
            ("localhost:0", "port 0 is no port of a host"),
            (
                "localhost:70000",
                "\"70000\" is no port, which is a number from 1 to 65535",
            ),
            ("localhost:x", "\"x\" is no port"),
            ("localhost:-1", "\"-1\" is no port"),
            ("::1", "a port is missing"),
            ("[::1]", "a port is missing"),
            ("127.0.0.1", "a port is missing"),
            (":4433", "a name or an address is missing"),
            ("", "it is empty: write it like example.org:4433"),
        ]
        .into_iter()
        .unzip();
        let names: Vec<_> = ["localhost:9"].iter().chain(&bad).map(ToString::to_string).collect();
        let any = "0.0.0.0:0".parse().unwrap();
        let (addresses, unresolved) = look_up(&names, any).await;
        assert_eq!(addresses, ["127.0.0.1:9".parse().unwrap()]);
        let said: Vec<_> = unresolved.iter().map(|u| u.name.as_str()).collect();
        assert_eq!(said, &names[1..]);
        for (unresolved, words) in unresolved.iter().zip(words) {
            assert!(unresolved.why.contains(words), "{unresolved}");
        }
    }

    #[tokio::test]
    async fn addresses_are_given_once() {
        let names = ["localhost:9".to_owned(), "localhost:9".to_owned()];
        let (addresses, _) = look_up(&names, "[::]:0".parse().unwrap()).await;
        let mut once = addresses.clone();
        once.sort_unstable();
        once.dedup();
        assert!(!once.is_empty() && once.len() == addresses.len(), "{addresses:?}");
    }
}
