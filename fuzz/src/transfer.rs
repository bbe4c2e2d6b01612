//! The modules of the tool that write what is received.

#[path = "../../crates/sss-cli/src/transfer/directories.rs"]
pub(crate) mod directories;
#[path = "../../crates/sss-cli/src/transfer/filter.rs"]
mod filter;
#[path = "../../crates/sss-cli/src/transfer/manifest.rs"]
mod manifest;
#[path = "../../crates/sss-cli/src/transfer/part_file.rs"]
pub(crate) mod part_file;
#[path = "../../crates/sss-cli/src/transfer/safe_path.rs"]
pub(crate) mod safe_path;
