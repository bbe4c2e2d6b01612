//! STUN (RFC 8489): asks servers where they see this host, from the host's own socket, and keeps what its NAT has made
//! of that.
//!
//! One task for each host that names servers, with one below it for each server and family of addresses:
//!
//! 1. *look up* the server, if it is a name;
//! 2. *ask* it: the driver sends, and gives what comes back to the question that waits for it ([`desk::Questions`]);
//! 3. *read* the answer, and tell what came of it;
//! 4. *wait* for less time than a NAT keeps a mapping, and ask again; longer where nobody answers.
//!
//! All of it begins anew when the network of this machine changes.

pub(crate) mod desk;
mod message;

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::desk::Desk;
use crate::driver::addresses;
use crate::hint::{self, Hint};
use crate::redaction::HostTag;
use crate::shared::Shared;
use desk::{Questions, StunDesk, StunReport, StunState, TransactionId};

/// Servers of a host, at most.
pub(crate) const MAX_SERVERS: usize = 4;
/// The first pause before a question is repeated; it doubles (RFC 8489, section 6.2.1).
const FIRST_REPEAT: Duration = Duration::from_millis(500);
/// Number of times that a question is sent.
const TIMES: u32 = 7;
/// Time for an answer after the last time.
const LAST: Duration = Duration::from_secs(8);
/// Time after which a server that has answered is asked again, at least: NATs keep a mapping for 30 s or more.
const KEEP: Duration = Duration::from_secs(20);
/// Time that is added to it at random, at most, in milliseconds.
const KEEP_MORE: u64 = 5000;
/// The first pause after nothing has come of a server, and the longest; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// Begins to ask servers for a host, on the present runtime.
pub(crate) fn start(shared: &Arc<Shared>, servers: Vec<Hint>) {
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let host = StunDesk::new(&names);
    let (desk, questions) = (Arc::clone(host.desk()), Arc::clone(host.questions()));
    shared.set_stun(host);
    let asker = Asker {
        shared: Arc::downgrade(shared),
        tag: HostTag::of(&shared.eid()),
        desk,
        questions,
    };
    tokio::spawn(asker.run(servers, names));
}

/// Means to ask.
#[derive(Clone)]
struct Asker {
    shared: Weak<Shared>,
    tag: HostTag,
    desk: Arc<Desk<StunReport>>,
    questions: Arc<Questions>,
}

impl Asker {
    async fn run(self, servers: Vec<Hint>, names: Vec<String>) {
        let desk = Arc::clone(&self.desk);
        loop {
            let mut asking = JoinSet::new();
            for (number, server) in servers.iter().enumerate() {
                asking.spawn(self.clone().keep(number, server.clone()));
            }
            tokio::select! {
                () = desk.closing() => break,
                () = desk.changed() => {
                    desk.update(|report| *report = StunReport::of(&names));
                }
            }
        }
        desk.end();
    }

    /// Looks a server up, and asks it by each family for as long as the host is there.
    async fn keep(self, number: usize, server: Hint) {
        let mut pause = PAUSES.0;
        let addresses = loop {
            match self.look_up(&server).await {
                None => return,
                Some(Ok(addresses)) => break addresses,
                Some(Err(why)) => self.tell((number, None), StunState::Unresolved(why)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        };
        let of = |is_ipv4: bool| addresses.iter().copied().find(|at| at.is_ipv4() == is_ipv4);
        let by_family = |first: Option<SocketAddr>| {
            let (asker, server) = (self.clone(), server.clone());
            async move {
                if let Some(first) = first {
                    asker.keep_at((number, server), first).await;
                }
            }
        };
        tokio::join!(by_family(of(true)), by_family(of(false)));
    }

    /// Addresses of a server, of which those that this machine has a way to count, if there are such. `None`: the host
    /// is gone.
    async fn look_up(&self, server: &Hint) -> Option<Result<Vec<SocketAddr>, String>> {
        let local = self.shared.upgrade()?.local_addr();
        let mut found = match server.clone().split() {
            Ok(address) => vec![address],
            Err(name) => {
                let (found, mut failed) = hint::look_up(&[name], local).await;
                match failed.pop() {
                    Some(failed) if found.is_empty() => return Some(Err(message::said(&failed.why))),
                    _ => found,
                }
            }
        };
        if found.iter().any(|at| addresses::has_way(*at)) {
            found.retain(|at| addresses::has_way(*at));
        }
        Some(Ok(found))
    }

    /// Asks a server at an address of one family, again and again.
    async fn keep_at(&self, (number, server): (usize, Hint), mut at: SocketAddr) {
        let mut pause = PAUSES.0;
        loop {
            let Some(state) = self.ask(at).await else {
                return;
            };
            let is_seen = matches!(state, StunState::Sees { .. });
            self.tell((number, Some(at)), state);
            if is_seen {
                pause = PAUSES.0;
                sleep(KEEP + Duration::from_millis(random() % KEEP_MORE)).await;
                continue;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
            // It may have moved.
            let Some(Ok(found)) = self.look_up(&server).await else {
                continue;
            };
            let moved = found.iter().find(|other| other.is_ipv4() == at.is_ipv4());
            if let Some(moved) = moved.filter(|moved| **moved != at) {
                at = *moved;
                self.desk.update(|report| {
                    report
                        .servers
                        .iter_mut()
                        .filter(|one| one.number == number && one.at.is_some_and(|old| old.is_ipv4() == at.is_ipv4()))
                        .for_each(|one| one.at = Some(at));
                });
            }
        }
    }

    /// Asks once, which takes 39.5 s at most. `None`: the host is gone.
    async fn ask(&self, at: SocketAddr) -> Option<StunState> {
        let mut id = TransactionId::default();
        getrandom::fill(&mut id).ok()?;
        let question = message::request(id);
        let mut answer = self.questions.ask(at, id);
        let mut pause = FIRST_REPEAT;
        for time in 1..=TIMES {
            let shared = self.shared.upgrade()?;
            let sent = Instant::now();
            shared.feed(|inner, _| inner.send_beside(at, question.clone()));
            drop(shared);
            let patience = match time {
                TIMES => LAST,
                _ => pause,
            };
            pause *= 2;
            if let Ok(answer) = timeout(patience, &mut answer).await {
                let (answer, rtt) = (answer.ok()?, sent.elapsed());
                // Another crate reads it.
                let read = tokio::spawn(async move { message::read(at, &answer) }).await;
                let read = read.unwrap_or_else(|error| Err(StunState::Useless(message::said(&error.to_string()))));
                return Some(match read {
                    Ok(address) => StunState::Sees { address, rtt },
                    Err(state) => state,
                });
            }
        }
        Some(StunState::Silent)
    }

    fn tell(&self, of: (usize, Option<SocketAddr>), state: StunState) {
        let shared = self.shared.upgrade();
        let own = shared.map_or_else(Vec::new, |shared| addresses::usable(shared.local_addr()));
        let mut told = (Vec::new(), Vec::new());
        self.desk.update(|report| {
            told.0 = report.outside(&own);
            report.note(of, state);
            told.1 = report.outside(&own);
        });
        if told.0 != told.1 {
            tracing::info!(host = %self.tag, addresses = told.1.len(), "what STUN servers see of this host has changed");
        }
    }
}

/// A random number; 0 where the system gives none.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests;
