//! Networks: addresses that begin alike.

use std::net::IpAddr;

/// A network, as `198.18.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Prefix {
    pub(crate) fn new(address: impl Into<IpAddr>, length: u8) -> Self {
        let address = address.into();
        Self { address, length }
    }

    /// The network of one address.
    pub(crate) fn of(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32u32.saturating_sub(self.length.into());
                (u64::from(own.to_bits()) >> shift) == (u64::from(other.to_bits()) >> shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128u32.saturating_sub(self.length.into());
                let top = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                top(own.to_bits()) == top(other.to_bits())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_network_alone() {
        let contains = |net: &str, length, address: &str| {
            Prefix::new(net.parse::<IpAddr>().unwrap(), length).contains(address.parse().unwrap())
        };
        assert!(contains("198.18.1.0", 24, "198.18.1.77"));
        assert!(!contains("198.18.1.0", 24, "198.18.2.77"));
        assert!(contains("0.0.0.0", 0, "1.2.3.4"));
        assert!(!contains("0.0.0.0", 0, "::1"));
        assert!(contains("2001:2:0:100::", 56, "2001:2:0:101::2"));
        assert!(!contains("2001:2:0:100::", 56, "2001:2:0:201::2"));
        assert!(contains("::", 0, "2001::"));
    }
}
