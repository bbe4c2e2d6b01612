//! Places where a host may be: an address, or a name that is looked up, and a port.

use std::fmt;
use std::net::SocketAddr;

use sss::Hint;

/// Longest name, in bytes.
const MAX_NAME: usize = 253;

/// Place where a host may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// A name for the system's resolver, in lower case.
    Name(String, u16),
}

impl Place {
    /// A name and a port. `None` if this is no name that a resolver is asked for, or port 0.
    pub(crate) fn name(name: &str, port: u16) -> Option<Self> {
        let characters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(characters) && !name.starts_with('.');
        (is_name && port != 0).then(|| Self::Name(name.to_ascii_lowercase(), port))
    }
}

impl From<&Place> for Hint {
    fn from(place: &Place) -> Self {
        match place {
            Place::Address(address) => (*address).into(),
            Place::Name(name, port) => (name.as_str(), *port).into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_a_resolver_is_asked_for() {
        assert_eq!(Place::name("Host.Example", 7).unwrap().to_string(), "host.example:7");
        let long = "a".repeat(MAX_NAME + 1);
        for bad in ["", ".", ".a", "a b", "a@b", "a:b", "[a]", "ä", "a\n", long.as_str()] {
            assert_eq!(Place::name(bad, 7), None, "{bad:?}");
        }
        assert_eq!(Place::name("host", 0), None);
    }
}
