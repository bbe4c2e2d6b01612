//! Limits of a registration server.

use std::time::Duration;

use super::Rate;

/// Limits of a registration server (RCH-3).
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Duration of a lease.
    pub ttl: Duration,
    /// Leases of all.
    pub leases: usize,
    /// Leases of one IPv4 address or IPv6 /64.
    pub each_network: u32,
    /// LOOKUPs and SEARCHes of a host, and echoes that are sent to its mapped port.
    pub lookups: Rate,
    /// Introductions that a host may ask for.
    pub calls: Rate,
    /// Introductions of one host to one other.
    pub pairs: Rate,
    /// Introductions that a host may be told of.
    pub notices: Rate,
    /// Entries in an answer to SEARCH.
    pub entries: u8,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            leases: 1 << 20,
            each_network: 256,
            lookups: Rate::new(10, 10),
            calls: Rate::new(5, 50),
            // Of one caller, the callee remembers all (RCH-13).
            pairs: Rate::new(3, 30),
            notices: Rate::new(20, 20),
            entries: 100,
        }
    }
}
