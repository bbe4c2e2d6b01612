//! Without the feature `redis`, a registration server shares no directory.

use sss::{Host, RendezvousServer};

use super::RendezvousArgs;
use crate::error::{Error, Exit};
use crate::output::Output;

/// A directory that is wanted: none can be.
#[derive(Clone)]
pub(super) enum Never {}

/// Nothing.
///
/// # Errors
/// If one is wanted.
pub(super) async fn wanted(args: &RendezvousArgs) -> Result<Option<Never>, Error> {
    match args.redis {
        None => Ok(None),
        Some(_) => {
            let next = "build it with the feature `redis`, or leave --redis away";
            Err(Error::new(Exit::Usage, "this program was built without Redis", next))
        }
    }
}

/// The server as it is.
pub(super) fn with(server: RendezvousServer, _: Option<Never>) -> RendezvousServer {
    server
}

/// Nothing.
pub(super) async fn watch(_: Host, _: Option<Never>, _: Output) {}
