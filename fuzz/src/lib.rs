//! What must hold for arbitrary bytes: one function for each fuzz target.
//!
//! The workspace's tests include the modules too, to replay the seeds in `corpus/`.

pub mod files;
pub mod host;
mod kept;
pub mod pairs;
pub mod receiver;
#[expect(dead_code, reason = "the tool does more with them")]
#[rustfmt::skip]
mod transfer;
pub mod wire;
