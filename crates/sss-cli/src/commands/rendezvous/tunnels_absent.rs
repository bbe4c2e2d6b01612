//! Without the feature `tls`, a registration server takes no tunnels.

use std::net::SocketAddr;

use sss::{Host, RendezvousServer};

use super::RendezvousArgs;
use crate::error::{Error, Exit};

/// Tunnels that are wanted: none can be.
#[derive(Clone, Copy)]
pub(super) enum Never {}

/// Nothing.
///
/// # Errors
/// If some are wanted.
pub(super) fn wanted(args: &RendezvousArgs) -> Result<Option<Never>, Error> {
    match (args.tls, &args.tls_cert, &args.tls_key) {
        (None, None, None) => Ok(None),
        _ => {
            let next = "build it with the feature `tls`, or leave --tls away";
            Err(Error::new(Exit::Usage, "this program was built without TLS", next))
        }
    }
}

/// The server as it is.
pub(super) fn with(server: RendezvousServer, _: Option<Never>) -> RendezvousServer {
    server
}

/// None.
pub(super) fn address(_: &Host) -> Option<SocketAddr> {
    None
}

/// None.
pub(super) fn port(_: &Host) -> Option<u16> {
    None
}

/// None.
pub(super) fn open(_: &Host) -> u64 {
    0
}

/// Nothing.
pub(super) fn text(_: &Host) -> String {
    String::new()
}
