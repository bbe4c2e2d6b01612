//! What must hold for arbitrary bytes: one function for each fuzz target.
//!
//! The workspace's tests include the modules too, to replay the seeds in `corpus/`.

#[cfg(feature = "tool")]
pub mod exchange;
pub mod files;
pub mod host;
#[cfg(feature = "tool")]
pub mod receiver;
#[cfg(feature = "tool")]
mod sandbox;
#[cfg(feature = "tool")]
pub mod server;
#[cfg(feature = "tool")]
mod ticket;
#[cfg(feature = "tool")]
#[expect(dead_code, reason = "the tool does more with them")]
#[path = "../../crates/sss-cli/src/transfer/mod.rs"]
#[rustfmt::skip]
mod transfer;
pub mod wire;
