//! State of a host's use of STUN: what its servers see, and the questions that wait for an answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sss_proto::{AddressScope, Route, is_usable};
use tokio::sync::oneshot;

use crate::desk::{Desk, HostsDesk};

/// The first byte of all answers to Binding requests, of success and of error (RFC 8489, section 5). No packet of this
/// protocol begins with it (PRT-7).
const ANSWER: u8 = 0x01;
/// The fixed value in each message of STUN.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Lengths of an answer that is looked at, in bytes: a header alone, and what a path takes of which nothing is known.
const LENGTHS: std::ops::RangeInclusive<usize> = 20..=1280;

/// Knowledge of the STUN servers that a host asks, as of now (RCH-52).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StunReport {
    /// The servers, in the order in which they were named: each once, or once by IPv4 and once by IPv6.
    pub servers: Vec<StunServer>,
}

/// STUN server that a host asks, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StunServer {
    /// Place of the server, as it was given.
    pub server: String,
    /// Address at which it is asked. `None` as long as its name is not found.
    pub at: Option<SocketAddr>,
    /// Outcome, as of the latest question that has come to its end.
    pub state: StunState,
    /// Place in the order in which servers were named.
    pub(super) number: usize,
}

/// Outcome of asking a STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StunState {
    /// Nothing has come of it yet.
    Asking,
    /// Its name is not found; the words of the resolver, for people.
    Unresolved(String),
    /// It says that this host is seen at `address`. Nobody vouches for that (RCH-54).
    Sees {
        /// Address of this host, as the server sees it.
        address: SocketAddr,
        /// Time from the latest question to the answer.
        rtt: Duration,
    },
    /// It does not answer.
    Silent,
    /// It does not want to answer; its words, for people.
    Refused(String),
    /// Its answer cannot be understood, or names an address that cannot be this host's; for people.
    Useless(String),
}

impl StunState {
    /// Returns whether no question has come to its end.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Asking)
    }
}

impl StunReport {
    pub(super) fn of(servers: &[String]) -> Self {
        let servers = servers.iter().enumerate().map(|(number, server)| StunServer {
            server: server.clone(),
            at: None,
            state: StunState::Asking,
            number,
        });
        Self {
            servers: servers.collect(),
        }
    }

    /// Notes what came of asking a server at an address, or of looking for that.
    pub(super) fn note(&mut self, (number, at): (usize, Option<SocketAddr>), state: StunState) {
        let is_it = |one: &StunServer| one.number == number && one.at == at;
        let is_unplaced = |one: &StunServer| one.number == number && (one.at.is_none() || at.is_none());
        let known = self.servers.iter().position(is_it);
        if let Some(one) = known
            .or_else(|| self.servers.iter().position(is_unplaced))
            .and_then(|index| self.servers.get_mut(index))
        {
            (one.at, one.state) = (at, state);
            return;
        }
        let Some(last) = self.servers.iter().rposition(|one| one.number == number) else {
            return;
        };
        let server = self.servers.get(last).map(|one| one.server.clone());
        self.servers.insert(
            last + 1,
            StunServer {
                server: server.unwrap_or_default(),
                at,
                state,
                number,
            },
        );
    }

    /// The servers that have told where they see this host: their addresses, and what each sees.
    pub fn seen(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.servers.iter().filter_map(|one| match one.state {
            StunState::Sees { address, .. } => Some((one.at?, address)),
            _ => None,
        })
    }

    /// Addresses that others may try, beside this machine's `own`: what is seen from outside, at most one of IPv4 and
    /// one of IPv6, where all servers that have told see the same (RCH-54).
    pub fn outside(&self, own: &[SocketAddr]) -> Vec<SocketAddr> {
        let families = [true, false].map(|is_ipv4| {
            let mut seen = self.seen().map(|(_, address)| address);
            let first = seen.by_ref().find(|address| address.is_ipv4() == is_ipv4)?;
            let mut others = seen.filter(|address| address.is_ipv4() == is_ipv4);
            (!own.contains(&first) && others.all(|other| other == first)).then_some(first)
        });
        families.into_iter().flatten().collect()
    }

    /// Returns whether servers see this host at different addresses or ports of one family: the NAT takes another for
    /// each peer, or one of the servers lies. Then what they see is of no use to others.
    pub fn is_contradictory(&self) -> bool {
        [true, false].into_iter().any(|is_ipv4| {
            let seen = self.seen().map(|(_, address)| address);
            let mut seen = seen.filter(|address| address.is_ipv4() == is_ipv4);
            let first = seen.next();
            seen.any(|other| Some(other) != first)
        })
    }

    /// Returns whether a server has not been asked to the end yet.
    pub fn is_pending(&self) -> bool {
        self.servers.iter().any(|one| one.state.is_pending())
    }
}

/// Checks what a server says against where it is: an address of one host, and none that is nearer than the server
/// (MIG-22, RCH-14).
pub(super) fn is_credible(server: SocketAddr, seen: SocketAddr) -> bool {
    is_usable(&Route::from(seen)) && AddressScope::from(seen.ip()) >= AddressScope::from(server.ip())
}

/// Number of a question, which its answer repeats.
pub(super) type TransactionId = [u8; 12];

/// Questions that wait for an answer. The driver looks at what has come by them.
#[derive(Default)]
pub(crate) struct Questions(Mutex<Vec<Question>>);

struct Question {
    to: SocketAddr,
    id: TransactionId,
    answer: oneshot::Sender<Vec<u8>>,
}

impl Questions {
    /// Notes a question. What is received is its answer; dropping that forgets the question.
    pub(super) fn ask(&self, to: SocketAddr, id: TransactionId) -> oneshot::Receiver<Vec<u8>> {
        let (answer, taken) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.retain(|question| !question.answer.is_closed());
        waiting.push(Question { to, id, answer });
        taken
    }

    /// Returns whether a datagram may be an answer, by its first byte alone.
    pub(crate) fn may_take(first: u8) -> bool {
        first == ANSWER
    }

    /// Takes a datagram if it is the first answer to a question, from where that went (RCH-53). False: it is none.
    pub(crate) fn take(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let is_answer = datagram.first().copied().is_some_and(Self::may_take) && LENGTHS.contains(&datagram.len());
        let id = datagram.get(8..20).filter(|_| is_answer);
        let (Some(id), Some(cookie)) = (id, datagram.get(4..8)) else {
            return false;
        };
        if cookie != MAGIC_COOKIE {
            return false;
        }
        let mut waiting = self.lock();
        let asked = waiting
            .iter()
            .position(|question| question.to == from && question.id == id);
        let question = asked.map(|index| waiting.swap_remove(index));
        drop(waiting);
        question.is_some_and(|question| question.answer.send(datagram.to_vec()).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's end: its desk, and its questions.
pub(crate) struct StunDesk {
    desk: HostsDesk<StunReport>,
    questions: Arc<Questions>,
}

impl StunDesk {
    pub(super) fn new(servers: &[String]) -> Self {
        Self {
            desk: HostsDesk::new(StunReport::of(servers)),
            questions: Arc::default(),
        }
    }

    pub(crate) fn desk(&self) -> &Arc<Desk<StunReport>> {
        self.desk.desk()
    }

    pub(crate) fn questions(&self) -> &Arc<Questions> {
        &self.questions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn report(seen: &[(&str, &str)]) -> StunReport {
        let mut report = StunReport::of(&vec!["s".to_owned(); seen.len()]);
        for (number, (server, address)) in seen.iter().enumerate() {
            let state = StunState::Sees {
                address: at(address),
                rtt: Duration::ZERO,
            };
            report.note((number, Some(at(server))), state);
        }
        report
    }

    const ONE: &str = "192.0.2.1:3478";
    const TWO: &str = "192.0.2.2:3478";
    const SIX: &str = "[2001:db8::1]:3478";

    // spec: RCH-54
    #[test]
    fn threat_47_servers_that_contradict_each_other_name_nothing() {
        let own = [at("10.0.0.2:7757"), at("[2001:db8::9]:7757")];
        let outside = |seen: &[(&str, &str)]| report(seen).outside(&own);
        let seen = at("198.51.100.7:40112");
        assert_eq!(outside(&[(ONE, "198.51.100.7:40112")]), [seen]);
        assert_eq!(
            outside(&[(ONE, "198.51.100.7:40112"), (TWO, "198.51.100.7:40112")]),
            [seen]
        );
        for other in ["198.51.100.7:40113", "203.0.113.9:40112", "10.0.0.2:7757"] {
            let seen = [(ONE, "198.51.100.7:40112"), (TWO, other)];
            assert_eq!(outside(&seen), [], "{other}");
            assert!(report(&seen).is_contradictory(), "{other}");
        }
        // Its own address is known anyhow, and one family says nothing of the other.
        assert_eq!(outside(&[(ONE, "10.0.0.2:7757")]), []);
        let both = [(ONE, "198.51.100.7:40112"), (SIX, "[2001:db8::9]:7757")];
        assert_eq!(outside(&both), [seen]);
        assert!(!report(&both).is_contradictory());
    }

    // spec: RCH-54
    #[test]
    fn threat_47_what_is_seen_is_an_address_of_one_host_and_not_nearer_than_the_server() {
        for (server, seen) in [
            (ONE, "198.51.100.7:1"),
            ("10.0.0.1:3478", "10.0.0.9:1"),
            ("127.0.0.1:3478", "127.0.0.1:9"),
            ("[fe80::1]:3478", "[fe80::2]:9"),
            (SIX, "198.51.100.7:1"),
        ] {
            assert!(is_credible(at(server), at(seen)), "{server} {seen}");
        }
        for (server, seen) in [
            (ONE, "127.0.0.1:80"),
            (ONE, "192.168.1.1:80"),
            (ONE, "100.64.0.1:80"),
            (ONE, "169.254.1.1:80"),
            (ONE, "[fe80::1]:80"),
            ("10.0.0.1:3478", "127.0.0.1:80"),
            (ONE, "224.0.0.251:5353"),
            (ONE, "255.255.255.255:9"),
            (ONE, "0.0.0.0:9"),
            (ONE, "[ff02::fb]:5353"),
            (ONE, "[::]:9"),
            (ONE, "198.51.100.7:0"),
        ] {
            assert!(!is_credible(at(server), at(seen)), "{server} {seen}");
        }
    }

    // spec: RCH-53
    #[test]
    fn threat_47_an_answer_is_one_to_a_question_from_where_that_went() {
        let questions = Questions::default();
        let (server, id) = (at(ONE), [7; 12]);
        let mut taken = questions.ask(server, id);
        let answer = |first: u8, cookie: [u8; 4], id: TransactionId| {
            let mut bytes = vec![first, 1, 0, 0];
            bytes.extend(cookie);
            bytes.extend(id);
            bytes
        };
        let good = answer(1, MAGIC_COOKIE, id);
        for (from, datagram) in [
            (at(TWO), good.clone()),
            (at("192.0.2.1:3479"), good.clone()),
            (server, answer(1, MAGIC_COOKIE, [8; 12])),
            (server, answer(1, [0; 4], id)),
            (server, answer(0, MAGIC_COOKIE, id)),
            (server, good[..19].to_vec()),
            (server, [good.clone(), vec![0; 1261]].concat()),
            (server, Vec::new()),
        ] {
            assert!(!questions.take(from, &datagram), "{from} {datagram:?}");
        }
        assert!(taken.try_recv().is_err());
        assert!(questions.take(server, &good));
        assert_eq!(taken.try_recv().unwrap(), good);
        assert!(!questions.take(server, &good), "it was answered");
        drop(questions.ask(server, id));
        assert!(!questions.take(server, &good), "nobody waits for it");
    }

    #[test]
    fn a_server_has_a_line_for_each_family() {
        let mut report = StunReport::of(&["a".to_owned(), "b".to_owned()]);
        report.note((0, None), StunState::Unresolved("away".to_owned()));
        report.note((0, Some(at(ONE))), StunState::Silent);
        report.note((0, Some(at(SIX))), StunState::Silent);
        report.note((1, Some(at(TWO))), StunState::Silent);
        report.note((0, Some(at(ONE))), StunState::Asking);
        let shown: Vec<_> = report
            .servers
            .iter()
            .map(|one| (one.server.as_str(), one.at.unwrap(), one.state.is_pending()))
            .collect();
        assert_eq!(
            shown,
            [("a", at(ONE), true), ("a", at(SIX), false), ("b", at(TWO), false)]
        );
        assert!(report.is_pending());
    }
}
