//! What must hold for arbitrary bytes: one function for each fuzz target.
//!
//! The workspace's tests include the modules too, to replay the seeds in `corpus/`.

pub mod exchange;
pub mod files;
pub mod host;
pub mod receiver;
mod sandbox;
pub mod server;
mod ticket;
#[expect(dead_code, reason = "the tool does more with them")]
#[path = "../../crates/sss-cli/src/transfer/mod.rs"]
#[rustfmt::skip]
mod transfer;
pub mod wire;
