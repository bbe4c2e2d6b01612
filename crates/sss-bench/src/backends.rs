//! The transports, one file each.

pub(crate) mod quinn;
pub(crate) mod sss;
mod tls;
pub(crate) mod yamux;
