//! Ways to be rid of all streams, and how long each takes.

use std::fmt;
use std::time::{Duration, Instant};

use sss::Stream;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::SETTLE;
use super::holder::Ask;
use super::session::{Session, Usage};
use super::shape::Tree;
use crate::outcome::Outcome;

/// Streams that a task ends before others get their turn.
const AT_ONCE: usize = 64;
/// Time between two questions how many are left.
const INTERVAL: Duration = Duration::from_millis(10);
/// A measurement that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Way in which both sides end their streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Each is finished, read to its end and acknowledged.
    Finish,
    /// Each is let go of, unfinished.
    Drop,
    /// The client resets the uppermost with all that is below it.
    Reset,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Finish, Self::Drop, Self::Reset];
    pub(super) const LAST: Self = Self::Reset;
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finish => "finished, read and acknowledged",
            Self::Drop => "dropped unfinished",
            Self::Reset => "reset as a tree",
        })
    }
}

/// Time that it took to be rid of all streams, the longest that a question to the other process took meanwhile, and
/// what memory is more than it was before there were any.
pub(super) struct Closing {
    pub(super) way: Way,
    pub(super) took: Duration,
    pub(super) slowest: Duration,
    pub(super) kept: Kept,
}

/// Resident memory in bytes.
pub(super) struct Kept {
    pub(super) client: u64,
    pub(super) server: u64,
}

impl Session {
    /// Ends all streams of a tree, and waits until neither host knows any of them.
    pub(super) async fn close(&self, tree: Tree, way: Way, before: &Usage) -> Outcome<Closing> {
        let (groups, mut trunk) = tree.into_streams()?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        match way {
            Way::Finish => {
                self.ask(Ask::Finish).await?;
                for group in groups {
                    tasks.spawn_local(finish(group));
                }
                tasks.spawn_local(finish(trunk));
            }
            Way::Drop => {
                self.ask(Ask::Drop).await?;
                for group in groups {
                    tasks.spawn_local(let_go(group));
                }
                tasks.spawn_local(let_go(trunk));
            }
            Way::Reset => {
                if let Some(top) = trunk.first_mut() {
                    top.reset_tree(0);
                }
                self.ask(Ask::Drop).await?;
                for group in groups {
                    tasks.spawn_local(let_go(group));
                }
                tasks.spawn_local(let_go(trunk));
            }
        }
        let slowest = self.wait_until_gone(begun).await?;
        let took = begun.elapsed();
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        sleep(SETTLE).await;
        let now = self.usage().await?.since(before);
        let kept = Kept {
            client: now.client.rss,
            server: now.server.rss,
        };
        Ok(Closing {
            way,
            took,
            slowest,
            kept,
        })
    }

    /// Waits until nothing but the session itself is left at both hosts.
    async fn wait_until_gone(&self, begun: Instant) -> Outcome<Duration> {
        let (mut slowest, mut left) = (Duration::ZERO, (0, 0));
        while begun.elapsed() < PATIENCE {
            let asked = Instant::now();
            let usage = self.usage().await?;
            slowest = slowest.max(asked.elapsed());
            // The session, and the question itself.
            if usage.client.work <= 2 && usage.server.work <= 2 {
                return Ok(slowest);
            }
            left = (usage.client.work, usage.server.work);
            sleep(INTERVAL).await;
        }
        let (client, server) = left;
        Err(format!("{client} streams of the client and {server} of the server are left").into())
    }
}

/// Finishes streams, and waits until each is read and acknowledged.
pub(super) async fn finish(mut streams: Vec<Stream>) -> Outcome<()> {
    for some in streams.chunks_mut(AT_ONCE) {
        for stream in some {
            stream.finish()?;
        }
        yield_now().await;
    }
    while let Some(mut stream) = streams.pop() {
        if stream.read_chunk(1).await?.is_some() {
            return Err("more data than was expected".into());
        }
        stream.drained().await?;
    }
    Ok(())
}

/// Drops streams.
pub(super) async fn let_go(mut streams: Vec<Stream>) -> Outcome<()> {
    while !streams.is_empty() {
        streams.truncate(streams.len().saturating_sub(AT_ONCE));
        yield_now().await;
    }
    Ok(())
}
