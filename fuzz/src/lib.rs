//! What must hold for arbitrary bytes: one function for each fuzz target.
//!
//! The workspace's tests include the modules too, to replay the seeds in `corpus/`.

pub mod files;
pub mod host;
pub mod wire;
