//! Tunnels of TLS that a registration server takes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use sss::{Host, RendezvousServer, TlsLimits, TlsServer};

use super::RendezvousArgs;
use crate::error::Error;
use crate::identity::check_is_file;
use crate::output::count;
use crate::transfer::limits::descriptors::descriptors_to_give;

/// Tunnels as the arguments want them.
///
/// # Errors
/// If the certificate or its key cannot be read.
pub(super) fn wanted(args: &RendezvousArgs) -> Result<Option<TlsServer>, Error> {
    let Some(address) = args.tls else {
        return Ok(None);
    };
    let default = TlsLimits::default();
    let limits = TlsLimits {
        // A host is heard at least once in a lease.
        idle: default.idle.max(std::time::Duration::from_secs(args.lease.into()) * 2),
        tunnels: default.tunnels.min(descriptors()),
        ..default
    };
    let tls = TlsServer::new(address).limits(limits);
    Ok(Some(match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => tls.certificate(read(certificate)?, read(key)?),
        _ => tls,
    }))
}

/// Asks the system for as many descriptors as this process may have, and says how many tunnels may use: each has one.
fn descriptors() -> u32 {
    u32::try_from(descriptors_to_give()).unwrap_or(u32::MAX).max(1)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    check_is_file(path)?;
    fs::read(path).map_err(|error| Error::local(path, "read", &error))
}

/// The server, with tunnels.
pub(super) fn with(server: RendezvousServer, tls: Option<TlsServer>) -> RendezvousServer {
    match tls {
        Some(tls) => server.tls(tls),
        None => server,
    }
}

/// The address where they are taken.
pub(super) fn address(host: &Host) -> Option<SocketAddr> {
    host.tls_addr()
}

/// Its port.
pub(super) fn port(host: &Host) -> Option<u16> {
    host.tls_addr().map(|address| address.port())
}

/// The number of those that are open.
pub(super) fn open(host: &Host) -> u64 {
    host.tunnel_stats().open
}

/// Words about them, if they are taken.
pub(super) fn text(host: &Host) -> String {
    let stats = host.tunnel_stats();
    match host.tls_addr() {
        None => String::new(),
        Some(_) => format!(
            "; {} over TLS, {} refused, {} gave way, {} failed",
            count(stats.open, "tunnel"),
            stats.refused,
            stats.gave_way,
            stats.failed
        ),
    }
}
