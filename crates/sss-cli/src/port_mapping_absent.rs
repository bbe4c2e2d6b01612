//! Without the feature `port-mapping`, no router is asked for anything, and there is no switch for it.

use clap::Args;
use serde_json::Value;
use sss::{Host, HostBuilder};

use crate::output::Output;

/// No arguments.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MappingArgs {}

impl MappingArgs {
    /// Returns whether it is on: never.
    pub(crate) fn is_on(self) -> bool {
        false
    }

    /// The host as it is.
    pub(crate) fn apply(self, builder: HostBuilder) -> HostBuilder {
        builder
    }
}

/// Findings about a router: there are none.
pub(crate) struct Examined {
    words: String,
    /// Words about the router of IPv6.
    pinhole: Option<String>,
    pub(crate) advice: Vec<String>,
    pub(crate) fact: Value,
}

impl Examined {
    /// The findings with their names.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pinhole = self.pinhole.iter().map(|words| ("pinhole", words.as_str()));
        [("mapping", self.words.as_str())].into_iter().chain(pinhole)
    }
}

/// Does not wait.
pub(crate) async fn settled(_: &Host) {}

/// Nothing was asked.
pub(crate) fn examined(_: &Host) -> Option<Examined> {
    None
}

/// Tells nothing.
pub(crate) async fn watch(_: Host, _: Output) {}
