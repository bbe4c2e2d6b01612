//! Without the feature `stun`, no STUN server is asked, and there is no switch for it.

use std::net::SocketAddr;

use clap::Args;
use serde_json::Value;
use sss::{Host, HostBuilder};

use crate::output::Output;

/// Servers that a host asks, at most.
pub(crate) const MOST: usize = 0;

/// No arguments.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StunArgs {}

impl StunArgs {
    /// Returns whether some are asked: never.
    pub(crate) fn is_on(&self) -> bool {
        false
    }

    /// Number of servers: none.
    pub(crate) fn count(&self) -> usize {
        0
    }

    /// The file is not read.
    pub(crate) fn or_else<E>(&mut self, _: impl FnOnce() -> Result<Vec<StunPlace>, E>) -> Result<(), E> {
        Ok(())
    }

    /// The host as it is.
    pub(crate) fn apply(&self, builder: HostBuilder) -> HostBuilder {
        builder
    }
}

/// A STUN server: there is none.
pub(crate) struct StunPlace;

impl std::str::FromStr for StunPlace {
    type Err = String;

    fn from_str(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
}

/// Nobody has told of any.
pub(crate) fn outside(_: &Host) -> Vec<SocketAddr> {
    Vec::new()
}

/// Does not wait.
pub(crate) async fn settled(_: &Host) {}

/// Findings of STUN servers: there are none.
pub(crate) struct Examined {
    pub(crate) words: Vec<String>,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
}

/// Nobody was asked.
pub(crate) fn examined(_: &Host) -> Option<Examined> {
    None
}

/// Tells nothing.
pub(crate) fn tell(_: &Host, _: Output) {}

/// Tells nothing.
pub(crate) async fn tell_when_known(_: Host, _: Output) {}

/// Tells nothing.
pub(crate) async fn watch(_: Host, _: Output, _: impl FnMut(&[SocketAddr])) {}
