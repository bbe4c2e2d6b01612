//! Target and means of an attack.

use clap::Args;
use sss_files::{RelPath, Request};

use crate::error::AttackError;
use crate::target::Target;

/// Target of an attack, and its means.
#[derive(Args, Clone, Debug)]
pub struct Victim {
    /// The host, as `sss serve` prints it: EID@ADDRESS:PORT.
    pub target: Target,
    /// A file there, for attacks that ask for one.
    #[arg(long, default_value = "file")]
    pub path: String,
    /// Packets a second of a flood, at most.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u32,
}

impl Victim {
    /// The request for the file.
    pub(crate) fn request(&self) -> Result<Vec<u8>, AttackError> {
        let path = RelPath::parse(self.path.as_bytes())?;
        Ok(Request::Fetch { path, have: None }.encode())
    }
}
