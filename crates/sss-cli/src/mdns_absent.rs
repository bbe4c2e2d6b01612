//! Without the feature `mdns`, nobody is looked for on the local network, and there is no switch for it.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use sss::{Eid, FoundBy, Host, HostBuilder, Route};

use crate::output::Output;

/// No arguments.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MdnsArgs {}

impl MdnsArgs {
    /// The host as it is.
    pub(crate) fn apply(self, builder: HostBuilder, _: &FoundBy) -> HostBuilder {
        builder
    }

    /// Nobody is looked for.
    pub(crate) fn is_on(self) -> bool {
        false
    }
}

/// Findings about the local network: there are none.
pub(crate) struct Examined {
    pub(crate) words: String,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
    /// Addresses where a host was heard that has the peer's tag.
    pub(crate) found: Vec<String>,
}

/// Nobody is asked.
pub(crate) async fn survey(_: &Host, _: Duration) -> Option<Duration> {
    None
}

/// Nobody was asked.
pub(crate) fn examined(_: &Host, _: Option<&Eid>, _: Option<Duration>) -> Option<Examined> {
    None
}

/// Nothing is to be said.
pub(crate) fn failed(_: &Host) -> Option<String> {
    None
}

/// Nobody was found.
pub(crate) fn has_found(_: &Host, _: &Eid, _: Route) -> bool {
    false
}

/// Tells nothing.
pub(crate) async fn watch(_: Host, _: Output) {}
