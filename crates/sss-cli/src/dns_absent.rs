//! Without the feature `dns`, no host is named in the DNS.

use std::time::Duration;

use clap::Args;

use crate::error::{Error, Exit};
use crate::target::Target;

/// No arguments.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DnsArgs {}

/// The target, if it is not named in the DNS.
///
/// # Errors
/// If it is.
pub(crate) async fn resolved(target: Target, _: DnsArgs, _: Duration) -> Result<Target, Error> {
    match &target.name {
        None => Ok(target),
        Some(name) => {
            let what = format!("this sss was built without the feature `dns`, and cannot ask about {name}");
            Err(Error::new(
                Exit::Usage,
                what,
                "give EID@HOST, or build it with that feature",
            ))
        }
    }
}
