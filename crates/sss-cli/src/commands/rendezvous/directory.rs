//! The directory that several registration servers share, in Redis.

use std::time::Duration;

use sss::{Host, RedisDirectory, RendezvousServer};

use super::RendezvousArgs;
use crate::error::{Error, Exit};
use crate::output::Output;

/// Pause between looks at the directory.
const PAUSE: Duration = Duration::from_millis(500);

/// The directory that is wanted, if one is.
///
/// # Errors
/// If the URL is none, or the address of this server is not found.
pub(super) async fn wanted(args: &RendezvousArgs) -> Result<Option<RedisDirectory>, Error> {
    let Some(url) = &args.redis else {
        return Ok(None);
    };
    let directory = RedisDirectory::new(url).map_err(|error| {
        let next = "give it as redis://HOST:PORT or redis+unix:///PATH";
        Error::new(Exit::Usage, format!("--redis: {error}"), next)
    })?;
    let Some(place) = args.public_addr.first() else {
        return Ok(Some(directory));
    };
    let unresolved = |why: String| {
        let next = "give --public-addr as an IP address: others are sent there by it";
        Error::new(Exit::Failed, format!("{place}: {why}"), next)
    };
    let addresses = place.resolve().await.map_err(|error| unresolved(error.to_string()))?;
    let first = addresses
        .first()
        .ok_or_else(|| unresolved("it has no address".to_owned()))?;
    Ok(Some(directory.public(*first)))
}

/// The server, with its directory.
pub(super) fn with(server: RendezvousServer, directory: Option<RedisDirectory>) -> RendezvousServer {
    match directory {
        Some(directory) => server.redis(directory),
        None => server,
    }
}

/// Tells when the directory answers, and when it no longer does, for as long as the server is there.
pub(super) async fn watch(host: Host, directory: Option<RedisDirectory>, output: Output) {
    let Some(place) = directory.map(|directory| directory.place()) else {
        return;
    };
    let mut before = None;
    while !host.is_closed() {
        // It has a moment to answer first.
        tokio::time::sleep(PAUSE).await;
        let is_up = host.rendezvous_stats().is_some_and(|stats| stats.directory.is_up);
        if before.replace(is_up) != Some(is_up) {
            output.note(match is_up {
                true => format!("the directory at {place} answers: hosts of other servers are found"),
                false => format!("the directory at {place} does not answer, trying on: own hosts are found"),
            });
        }
    }
}
