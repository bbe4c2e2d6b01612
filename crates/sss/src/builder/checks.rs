//! Settings that do not go together.

use super::HostBuilder;
use crate::error::BuildError;
#[cfg(feature = "port-mapping")]
use crate::mapping::PortMapping;
#[cfg(feature = "mdns")]
use crate::mdns::Mdns;
#[cfg(feature = "stun")]
use crate::stun;

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

    /// RCH-52
    fn check_stun(&self) -> Result<(), BuildError> {
        #[cfg(feature = "stun")]
        if self.stun.len() > stun::MAX_SERVERS {
            return Err(BuildError::TooManyStunServers);
        }
        Ok(())
    }
}
