//! Offering a service, with all its protocols and what people should know of it.

use std::fmt;
use std::sync::Arc;

use sss_proto::{ListenError, Visibility};
use sss_wire::services::{ProtocolInfo, ServiceInfo};

use crate::server::Server;
use crate::shared::Handle;

/// A service about to be offered; see [`crate::Host::service`].
#[must_use = "nothing is offered until `listen` is called"]
pub struct ServiceBuilder {
    handle: Arc<Handle>,
    info: ServiceInfo,
    visibility: Visibility,
}

impl ServiceBuilder {
    pub(crate) fn new(handle: Arc<Handle>, name: &str) -> Self {
        let info = ServiceInfo::new(name, "", Vec::new());
        Self {
            handle,
            info,
            visibility: Visibility::Listed,
        }
    }

    /// Describes the service to people who ask what this host offers. At most 1024 bytes.
    pub fn describe(mut self, description: &str) -> Self {
        description.clone_into(&mut self.info.description);
        self
    }

    /// Adds a protocol that is spoken there, and what it is, for people; that may be empty, and has at most 1024 bytes.
    pub fn protocol(mut self, name: &str, description: &str) -> Self {
        self.info.protocols.push(ProtocolInfo::new(name, description));
        self
    }

    /// Leaves the service out when peers ask what this host offers. It can be connected to all the same: that is no
    /// protection.
    pub fn hidden(mut self) -> Self {
        self.visibility = Visibility::Hidden;
        self
    }

    /// Offers it for as long as the server exists.
    ///
    /// # Errors
    /// If this host already offers one of the pairs of service and protocol, no protocol was given, the name of the
    /// service is the reserved `sss`, a name is empty or longer than 255 bytes, or a description longer than 1024.
    /// Then nothing is offered. Nor is it if the host was closed, or has failed.
    pub fn listen(self) -> Result<Server, ListenError> {
        let id = self.handle.call(|inner, _| {
            inner.phase.check()?;
            inner.core.offer(&self.info, self.visibility)
        })?;
        Ok(Server::new(self.handle, id, &self.info))
    }
}

impl fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder")
            .field("info", &self.info)
            .field("visibility", &self.visibility)
            .finish_non_exhaustive()
    }
}
