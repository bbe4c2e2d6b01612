//! Sites: hosts in a LAN, and the router and firewall between them and the public network.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The ways in which a router treats IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No NAT and no firewall: hosts have public addresses.
    Open,
    /// A usual home router: masquerade, and a stateful firewall.
    Prc,
    /// As `Prc`, but what is for the router itself reaches it.
    PrcAccept,
    /// A mapping lets everyone in.
    FullCone,
    /// A mapping lets addresses in that were sent to.
    Restricted,
    /// One mapping for all destinations, with a random port.
    EimRandom,
    /// A random port for each destination.
    Symmetric,
    /// As `Prc`, and what nothing else is for goes to the first host.
    Dmz,
    /// No IPv4 at all.
    NoIpv4,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Prc,
        Self::PrcAccept,
        Self::FullCone,
        Self::Restricted,
        Self::EimRandom,
        Self::Symmetric,
        Self::Dmz,
        Self::NoIpv4,
    ];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Prc => "prc",
            Self::PrcAccept => "prc-accept",
            Self::FullCone => "fullcone",
            Self::Restricted => "restricted",
            Self::EimRandom => "eimrand",
            Self::Symmetric => "sym",
            Self::Dmz => "dmz",
            Self::NoIpv4 => "no-ipv4",
        }
    }

    /// The behaviour, in a line.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Open => "no NAT, no firewall: the hosts have public addresses",
            Self::Prc => "home router: masquerade, port kept; only answers from where was sent to get in",
            Self::PrcAccept => "as prc, but its input is open: a packet that comes too early takes the mapping away",
            Self::FullCone => "port kept; everyone may send to a mapping",
            Self::Restricted => "port kept; every port of an address that was sent to may send to a mapping",
            Self::EimRandom => "one random port for all destinations; filters as prc",
            Self::Symmetric => "a random port for each destination; filters as prc",
            Self::Dmz => "as prc; whatever else comes from outside goes to the first host",
            Self::NoIpv4 => "no IPv4; of use with ipv6=",
        }
    }

    /// Set if it changes addresses.
    pub(crate) fn translates(self) -> bool {
        !matches!(self, Self::Open | Self::NoIpv4)
    }
}

/// The ways in which a site has IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipv6 {
    /// None.
    #[default]
    None,
    /// Routed, and no firewall.
    Open,
    /// Routed; only answers get in.
    Stateful,
    /// Hosts have addresses and a route; nothing gets through, and nothing says so.
    Broken,
}

/// Firewalls besides the router's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firewall {
    /// None.
    #[default]
    None,
    /// No UDP, silently.
    UdpDropped,
    /// No UDP, and hosts are told (ICMP: administratively prohibited).
    UdpRejected,
    /// UDP to port 443 alone (and 53); everything else but UDP passes.
    Udp443,
    /// TCP to port 443 alone.
    Tcp443,
    /// IP packets of more than so many bytes vanish, and nothing says so.
    Longer(u16),
}

/// A LAN with its router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The router.
    pub kind: Kind,
    /// A provider's NAT between the router and the public network.
    pub cgn: Option<Kind>,
    /// IPv6.
    pub ipv6: Ipv6,
    /// A firewall in the router.
    pub firewall: Firewall,
    /// Hosts in the LAN, from 1 to 5.
    pub hosts: usize,
}

impl Site {
    /// A site with one host behind a router of this kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            cgn: None,
            ipv6: Ipv6::None,
            firewall: Firewall::None,
            hosts: 1,
        }
    }
}

impl From<Kind> for Site {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

/// Words that may stand behind the kind of a site, for people.
pub const OPTIONS: &str = "  cgn[=KIND]           a provider's NAT in front, eimrand unless given: double NAT
  ipv6=open            IPv6 without a firewall
  ipv6=stateful        IPv6, only answers get in
  ipv6=broken          IPv6 addresses and a route, and nothing gets through
  firewall=no-udp      UDP is dropped silently
  firewall=reject-udp  UDP is rejected: hosts are told
  firewall=udp443      no UDP but to port 443 (and 53)
  firewall=tcp443      nothing but TCP to port 443
  firewall=max1300     IP packets of more than 1300 bytes (or another number) vanish
  hosts=2              hosts in the LAN, at most 5";

impl FromStr for Site {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',');
        let mut site = Self::new(kind(parts.next().unwrap_or_default())?);
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (key, value) {
                ("cgn", "") => site.cgn = Some(Kind::EimRandom),
                ("cgn", name) => site.cgn = Some(kind(name)?),
                ("ipv6", "none") => site.ipv6 = Ipv6::None,
                ("ipv6", "open") => site.ipv6 = Ipv6::Open,
                ("ipv6", "stateful") => site.ipv6 = Ipv6::Stateful,
                ("ipv6", "broken") => site.ipv6 = Ipv6::Broken,
                ("firewall", name) => site.firewall = name.parse()?,
                ("hosts", number) => site.hosts = number.parse().map_err(|_| unknown(part))?,
                _ => return Err(unknown(part)),
            }
        }
        site.check()?;
        Ok(site)
    }
}

impl Site {
    /// Checks what the type does not.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fault = match self.cgn {
            _ if !(1..=5).contains(&self.hosts) => "a site has 1 to 5 hosts",
            Some(cgn) if !cgn.translates() || cgn == Kind::Dmz => {
                "a provider's NAT (cgn) is one of prc, prc-accept, fullcone, restricted, eimrand, sym"
            }
            Some(_) if !self.kind.translates() => "hosts with public addresses, or none, have no provider's NAT (cgn)",
            _ => return Ok(()),
        };
        Err(Error::Description(fault.to_owned()))
    }
}

fn kind(name: &str) -> Result<Kind, Error> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        Error::Description(format!("{name:?} is no kind of router; there are {}", names.join(", ")))
    })
}

impl FromStr for Firewall {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "none" => Self::None,
            "no-udp" => Self::UdpDropped,
            "reject-udp" => Self::UdpRejected,
            "udp443" => Self::Udp443,
            "tcp443" => Self::Tcp443,
            _ => {
                let longest = name.strip_prefix("max").and_then(|bytes| bytes.parse().ok());
                let none = || format!("{name:?} is no firewall: none, no-udp, reject-udp, udp443, tcp443, max1300");
                Self::Longer(longest.ok_or_else(|| Error::Description(none()))?)
            }
        })
    }
}

fn unknown(part: &str) -> Error {
    Error::Description(format!(
        "{part:?} means nothing behind the kind of a router; there are\n{OPTIONS}"
    ))
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(cgn) = self.cgn {
            write!(f, ",cgn={}", cgn.name())?;
        }
        f.write_str(match self.ipv6 {
            Ipv6::None => "",
            Ipv6::Open => ",ipv6=open",
            Ipv6::Stateful => ",ipv6=stateful",
            Ipv6::Broken => ",ipv6=broken",
        })?;
        match self.firewall {
            Firewall::None => Ok(()),
            Firewall::UdpDropped => f.write_str(",firewall=no-udp"),
            Firewall::UdpRejected => f.write_str(",firewall=reject-udp"),
            Firewall::Udp443 => f.write_str(",firewall=udp443"),
            Firewall::Tcp443 => f.write_str(",firewall=tcp443"),
            Firewall::Longer(bytes) => write!(f, ",firewall=max{bytes}"),
        }?;
        if self.hosts == 1 {
            Ok(())
        } else {
            write!(f, ",hosts={}", self.hosts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_written_as_they_are_read() {
        for text in [
            "prc",
            "sym,cgn=prc,firewall=max1300",
            "no-ipv4,ipv6=stateful,hosts=2",
            "open,ipv6=broken,firewall=reject-udp",
            "prc,firewall=no-udp",
            "prc,firewall=udp443",
            "prc,ipv6=open,firewall=tcp443",
        ] {
            assert_eq!(text.parse::<Site>().unwrap().to_string(), text);
        }
        assert_eq!("prc,cgn".parse::<Site>().unwrap().cgn, Some(Kind::EimRandom));
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Site>().unwrap(), Site::new(kind));
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "nat",
            "prc,",
            "prc,cgn=dmz",
            "open,cgn",
            "prc,hosts=0",
            "prc,hosts=6",
            "prc,ipv6",
            "prc,firewall=max",
        ] {
            assert!(text.parse::<Site>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_option_that_is_shown_is_one() {
        for line in OPTIONS.lines() {
            let option = line.split_whitespace().next().unwrap().replace("[=KIND]", "=sym");
            format!("prc,{option}").parse::<Site>().unwrap();
        }
    }
}
