//! Settings that do not go together.

use super::HostBuilder;
use crate::error::BuildError;
#[cfg(feature = "port-mapping")]
use crate::mapping::PortMapping;
#[cfg(feature = "mdns")]
use crate::mdns::Mdns;
#[cfg(feature = "stun")]
use crate::stun;

/// Shards of one host, at most.
const MAX_SHARDS: usize = 128;

impl HostBuilder {
    pub(super) fn check(&self) -> Result<(), BuildError> {
        self.config.check()?;
        self.check_lan_only()?;
        self.check_relay_only()?;
        self.check_stun()?;
        #[cfg(feature = "turn")]
        crate::turn::check(&self.wishes.turn)?;
        Ok(())
    }

    /// RCH-37
    fn check_lan_only(&self) -> Result<(), BuildError> {
        if !self.config.lan_only {
            return Ok(());
        }
        #[cfg(feature = "port-mapping")]
        if self.port_mapping != PortMapping::Off {
            return Err(BuildError::LanOnly("its router asked for a port"));
        }
        #[cfg(feature = "stun")]
        if !self.stun.is_empty() {
            return Err(BuildError::LanOnly("a STUN server"));
        }
        #[cfg(feature = "turn")]
        if !self.wishes.turn.is_empty() {
            return Err(BuildError::LanOnly("a TURN server"));
        }
        match self.wishes.has_servers() {
            true => Err(BuildError::LanOnly("a registration server")),
            false => Ok(()),
        }
    }

    /// RCH-40
    fn check_relay_only(&self) -> Result<(), BuildError> {
        if !self.config.relay_only {
            return Ok(());
        }
        #[cfg(feature = "port-mapping")]
        if self.port_mapping != PortMapping::Off {
            return Err(BuildError::RelayOnly("ask its router for a port"));
        }
        #[cfg(feature = "stun")]
        if !self.stun.is_empty() {
            return Err(BuildError::RelayOnly("ask STUN servers where it is"));
        }
        #[cfg(feature = "mdns")]
        if self.mdns != Mdns::Off {
            return Err(BuildError::RelayOnly("use mDNS"));
        }
        match self.wishes.serve {
            Some(_) => Err(BuildError::RelayOnly("be a registration server")),
            None => Ok(()),
        }
    }

    /// NEG-42
    pub(super) fn check_sharded(&self, count: usize) -> Result<(), BuildError> {
        if !(1..=MAX_SHARDS).contains(&count) {
            return Err(BuildError::Shards("has from 1 to 128 of them"));
        }
        if cfg!(not(target_os = "linux")) && count > 1 {
            return Err(BuildError::Shards(
                "needs Linux, whose kernel puts each datagram into the socket of its shard",
            ));
        }
        if self.wishes.serve.is_some() || self.wishes.is_any() || self.wishes.has_servers() {
            return Err(BuildError::Shards("cannot be a registration server, or use one"));
        }
        if self.new_port_on_move {
            return Err(BuildError::Shards("takes no other port"));
        }
        #[cfg(feature = "port-mapping")]
        if self.port_mapping != PortMapping::Off {
            return Err(BuildError::Shards("does not ask its router for a port"));
        }
        #[cfg(feature = "mdns")]
        if self.mdns != Mdns::Off {
            return Err(BuildError::Shards("does not use mDNS"));
        }
        #[cfg(feature = "stun")]
        if !self.stun.is_empty() {
            return Err(BuildError::Shards("does not ask STUN servers where it is"));
        }
        Ok(())
    }

    /// RCH-52
    fn check_stun(&self) -> Result<(), BuildError> {
        #[cfg(feature = "stun")]
        if self.stun.len() > stun::MAX_SERVERS {
            return Err(BuildError::TooManyStunServers);
        }
        Ok(())
    }
}
