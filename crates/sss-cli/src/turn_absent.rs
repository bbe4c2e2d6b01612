//! Without the feature `turn`, there are no TURN servers, and there is no switch for them.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use sss::{Host, HostBuilder, Route};

use crate::error::Error;
use crate::output::Output;

/// No arguments.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TurnArgs {}

impl TurnArgs {
    /// The command line names none.
    pub(crate) fn is_given(&self) -> bool {
        false
    }

    /// None are known.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
    pub(crate) fn known(&self) -> Result<Vec<()>, Error> {
        Ok(Vec::new())
    }

    /// The host as it is.
    pub(crate) fn apply(&self, builder: HostBuilder) -> HostBuilder {
        builder
    }
}

/// No error shows one.
pub(crate) fn misplaced(_: &str, _: impl Iterator<Item = OsString>) -> Option<Error> {
    None
}

/// The error as it is.
pub(crate) fn named_in(error: Error, _: &Host) -> Error {
    error
}

/// There is nothing to tell.
pub(crate) async fn watch(_: Host, _: Output, _: Option<Duration>) {}

/// No route goes by one.
pub(crate) fn server_of(_: &Host, _: Route) -> Option<String> {
    None
}

/// Does not wait.
pub(crate) async fn settled(_: &Host) {}

/// Findings about a server: there are none.
pub(crate) struct Examined {
    pub(crate) words: String,
    pub(crate) advice: Option<String>,
    pub(crate) fact: Value,
}

/// Nothing was asked.
pub(crate) fn examined(_: &Host) -> Vec<Examined> {
    Vec::new()
}
