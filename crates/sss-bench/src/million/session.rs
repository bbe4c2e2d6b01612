//! The tie to the other process: a top-level stream, and questions on substreams of it.

use std::str::FromStr as _;

use sss::{Eid, Host, Stream};

use super::SERVICE;
use super::holder::Ask;
use crate::outcome::Outcome;
use crate::setup::{Address, REQUEST};
use crate::usage::Snapshot;

/// Resources that both processes use at a moment; `work` is how many streams the host knows.
pub(super) struct Usage {
    pub(super) client: Snapshot,
    pub(super) server: Snapshot,
}

impl Usage {
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            client: self.client.since(&earlier.client),
            server: self.server.since(&earlier.server),
        }
    }
}

/// A top-level stream, below which everything happens.
pub(super) struct Session {
    pub(super) top: Stream,
}

impl Session {
    /// Connects to the process at an address.
    pub(super) async fn connect(address: &Address) -> Outcome<Self> {
        let eid = Eid::from_str(std::str::from_utf8(&address.credential)?)?;
        let host = Host::builder().bind("127.0.0.1:0").build().await?;
        let (service, protocol) = SERVICE;
        let top = host.connect(eid, service, protocol).hint(address.socket).await?;
        Ok(Self { top })
    }

    /// One exchange on a substream of the top-level stream.
    pub(super) async fn ask(&self, what: Ask) -> Outcome<bytes::Bytes> {
        exchange(&self.top, what).await
    }

    /// Asks what both processes use now.
    pub(super) async fn usage(&self) -> Outcome<Usage> {
        let server = serde_json::from_slice(&self.ask(Ask::Usage).await?)?;
        let client = Snapshot::take(self.top.peer().stream_count() as u64)?;
        Ok(Usage { client, server })
    }
}

/// One exchange on a new substream.
pub(super) async fn exchange(parent: &Stream, what: Ask) -> Outcome<bytes::Bytes> {
    let mut stream = parent.open_substream()?;
    let mut request = [0; REQUEST];
    request[0] = what.byte();
    stream.write_all(&request).await?;
    stream.finish()?;
    Ok(stream.read_to_end(4096).await?)
}
