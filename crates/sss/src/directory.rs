//! The directory that several registration servers share, in Redis (RCH-44, RCH-45).
//!
//! One task for each server that has one takes the core's orders, as many at once as there are, and brings the answers.
//! If Redis is away it tries again, after longer and longer pauses, and the core knows that it is. Nothing of what it
//! says is believed here: the core reads it.

pub(crate) mod desk;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, cmd, pipe};
use sss_reach::server::{self, DirectoryAnswer, DirectoryOrder, MAX_LISTED};
use sss_wire::Eid;
use sss_wire::reach::records::Search;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::shared::Shared;

/// Time for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pauses between tries to connect: the first, which doubles, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause after which Redis is asked whether it is there, if there is nothing else to ask.
const LOOK: Duration = Duration::from_secs(2);
/// Orders that are carried out at once.
const MAX_AT_ONCE: usize = 256;
/// Bytes of an entry that are read: more than any has.
const MAX_ENTRY: isize = 4096;
/// Removes an entry if it is still one of this server.
const REMOVE: &str = "if redis.call('GETRANGE', KEYS[1], 0, string.len(ARGV[1]) - 1) == ARGV[1] then \
                      return redis.call('DEL', KEYS[1]) else return 0 end";

/// A directory in Redis, by which several registration servers find each other's hosts.
#[derive(Clone)]
#[must_use = "it does nothing until it is given to RendezvousServer::redis"]
pub struct RedisDirectory {
    client: Client,
    public: Option<SocketAddr>,
}

/// Reason why a directory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address of a Redis server: {0}")]
pub struct RedisUrlError(String);

impl RedisDirectory {
    /// A directory at a URL such as `redis://192.0.2.1:6379/0` or `redis+unix:///run/redis.sock`, with name and
    /// password if they are needed. Nothing is encrypted: it is for a network that the servers trust.
    ///
    /// # Errors
    /// If it is no such URL.
    pub fn new(url: &str) -> Result<Self, RedisUrlError> {
        let client = Client::open(url).map_err(|error| RedisUrlError(error.to_string()))?;
        Ok(Self { client, public: None })
    }

    /// Sets the address where hosts reach this server. Default: the first of
    /// [`Host::local_addrs`](crate::Host::local_addrs).
    pub fn public(mut self, address: SocketAddr) -> Self {
        self.public = Some(address);
        self
    }

    /// The place where Redis is, without name and password.
    pub fn place(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

impl fmt::Debug for RedisDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisDirectory").field(&self.place()).finish()
    }
}

/// Begins to use the directory. `addresses` are those of the host.
pub(crate) fn start(shared: &Arc<Shared>, directory: RedisDirectory, addresses: &[SocketAddr]) {
    let Some(public) = directory.public.or(addresses.first().copied()) else {
        return;
    };
    let orders = Arc::new(Notify::new());
    shared.directory.open(&orders);
    shared.drive(|inner, _| inner.rendezvous.open_directory(&inner.core, public));
    let place = directory.place();
    let task = Task {
        shared: Arc::downgrade(shared),
        orders,
        place,
    };
    tokio::spawn(task.run(directory.client));
}

/// The host is gone.
struct Gone;

struct Task {
    shared: Weak<Shared>,
    orders: Arc<Notify>,
    place: String,
}

impl Task {
    async fn run(self, client: Client) {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let (mut pause, mut is_told) = (PAUSES.0, false);
        loop {
            let why = match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(mut connection) => match ping(&mut connection).await {
                    Ok(()) => {
                        tracing::info!(place = %self.place, "the directory answers");
                        (pause, is_told) = (PAUSES.0, false);
                        match self.serve(connection).await {
                            Ok(why) => why,
                            Err(Gone) => return,
                        }
                    }
                    Err(why) => why,
                },
                Err(why) => why,
            };
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!(place = %self.place, %why, "the directory does not answer, trying on");
            }
            if self.tell(vec![DirectoryAnswer::Down]).is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Carries orders out, until Redis does not answer any more: returns why.
    async fn serve(&self, mut connection: MultiplexedConnection) -> Result<RedisError, Gone> {
        self.tell(vec![DirectoryAnswer::Up])?;
        loop {
            let orders = self.take()?;
            if orders.is_empty() {
                if tokio::time::timeout(LOOK, self.orders.notified()).await.is_err()
                    && let Err(why) = ping(&mut connection).await
                {
                    return Ok(why);
                }
                continue;
            }
            let mut tasks = JoinSet::new();
            for order in orders {
                tasks.spawn(obey(connection.clone(), order));
            }
            let mut answers = Vec::new();
            while let Some(done) = tasks.join_next().await {
                match done {
                    Ok(Ok(answer)) => answers.extend(answer),
                    Ok(Err(why)) if is_away(&why) => return Ok(why),
                    // What it does not want to tell, it does not know.
                    Ok(Err(why)) => tracing::debug!(%why, "the directory refuses"),
                    Err(_) => {}
                }
            }
            self.tell(answers)?;
        }
    }

    fn take(&self) -> Result<Vec<DirectoryOrder>, Gone> {
        let shared = self.shared.upgrade().ok_or(Gone)?;
        Ok(shared.call(|inner, now| {
            let orders = std::iter::from_fn(|| inner.rendezvous.poll_directory_order(now));
            orders.take(MAX_AT_ONCE).collect()
        }))
    }

    fn tell(&self, answers: Vec<DirectoryAnswer>) -> Result<(), Gone> {
        let shared = self.shared.upgrade().ok_or(Gone)?;
        shared.call(|inner, now| {
            inner.rendezvous.on_directory(now, &mut inner.core, answers);
            inner.want_driver();
        });
        Ok(())
    }
}

async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    cmd("PING").query_async(connection).await
}

/// Returns whether the connection is of no use any more.
fn is_away(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

async fn obey(mut connection: MultiplexedConnection, order: DirectoryOrder) -> RedisResult<Option<DirectoryAnswer>> {
    match order {
        DirectoryOrder::Find(eid) => {
            let entry = entries(&mut connection, &[eid]).await.map(|mut entries| entries.pop());
            match entry {
                Err(error) if is_away(&error) => Err(error),
                entry => {
                    let entry = entry.ok().flatten().filter(|entry| !entry.is_empty());
                    Ok(Some(DirectoryAnswer::Found(eid, entry)))
                }
            }
        }
        DirectoryOrder::List(search) => list(&mut connection, search).await.map(Some),
        DirectoryOrder::Put { eid, entry, words } => {
            let life = server::LIFE.as_millis() as u64;
            let mut all = pipe();
            all.cmd("SET")
                .arg(of_host(&eid))
                .arg(entry)
                .arg("PX")
                .arg(life)
                .ignore();
            for word in words {
                let key = of_word(&word);
                all.cmd("ZADD").arg(&key).arg(0).arg(&eid.as_bytes()[..]).ignore();
                all.cmd("PEXPIRE").arg(&key).arg(life).ignore();
            }
            all.query_async::<()>(&mut connection).await?;
            Ok(None)
        }
        DirectoryOrder::Remove { eid, begin } => {
            let mut remove = cmd("EVAL");
            remove.arg(REMOVE).arg(1).arg(of_host(&eid)).arg(begin);
            remove.query_async::<()>(&mut connection).await?;
            Ok(None)
        }
    }
}

/// Hosts under a word. What is listed and not there any more, or not under that word, is removed.
async fn list(connection: &mut MultiplexedConnection, search: Search) -> RedisResult<DirectoryAnswer> {
    let key = of_word(&search.word);
    let after = match &search.after {
        Some(eid) => [b"(", &eid.as_bytes()[..]].concat(),
        None => b"-".to_vec(),
    };
    let count = usize::from(search.count).clamp(1, MAX_LISTED);
    let mut range = cmd("ZRANGEBYLEX");
    range.arg(&key).arg(after).arg("+").arg("LIMIT").arg(0).arg(count + 1);
    let mut members: Vec<Vec<u8>> = range.query_async(connection).await?;
    let has_more = members.len() > count;
    members.truncate(count);
    let (mut eids, mut gone) = (Vec::new(), Vec::new());
    for member in members {
        match <&[u8; 33]>::try_from(&member[..])
            .ok()
            .and_then(|bytes| Eid::from_bytes(bytes).ok())
        {
            Some(eid) => eids.push(eid),
            None => gone.push(member),
        }
    }
    let entries = entries(connection, &eids).await?;
    let last = eids.last().copied();
    let mut hosts = Vec::new();
    for (eid, entry) in eids.into_iter().zip(entries) {
        // The last one stays: it tells where the next page begins.
        match server::is_listed_under(&entry, &search.word) || (has_more && last == Some(eid)) {
            true => hosts.push((eid, entry)),
            false => gone.push(eid.as_bytes().to_vec()),
        }
    }
    if !gone.is_empty() {
        cmd("ZREM").arg(&key).arg(gone).query_async::<()>(connection).await?;
    }
    Ok(DirectoryAnswer::Listed(search, hosts, has_more))
}

/// The entries of hosts, in their order; nothing of a host that has none.
async fn entries(connection: &mut MultiplexedConnection, eids: &[Eid]) -> RedisResult<Vec<Vec<u8>>> {
    if eids.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = pipe();
    for eid in eids {
        all.cmd("GETRANGE").arg(of_host(eid)).arg(0).arg(MAX_ENTRY);
    }
    all.query_async(connection).await
}

fn of_host(eid: &Eid) -> String {
    format!("sss:h:{eid}")
}

fn of_word(word: &str) -> String {
    format!("sss:w:{word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let directory = RedisDirectory::new("redis://name:secret@192.0.2.1:6380/3").unwrap();
        assert_eq!(directory.place(), "192.0.2.1:6380");
        let shown = format!(
            "{directory:?} {:?}",
            RedisDirectory::new("http://name:secret@x").unwrap_err()
        );
        assert!(shown.contains("192.0.2.1:6380") && !shown.contains("secret"), "{shown}");
    }
}
