//! Directory that several servers share: which of them knows a host (RCH-44, RCH-45). What keeps it is a driver's
//! matter, and nothing of what comes from there is believed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::Instant;
use sss_wire::reach::bodies::Elsewhere;
use sss_wire::reach::records::{MAX_RECORD, Register, Request, Search, Visibility};
use sss_wire::reach::{self, address_bytes};
use sss_wire::{Eid, Malformed, Reader};

use super::leases::Instance;

/// Time for which an entry of the directory lasts, unless it is renewed.
pub const LIFE: Duration = Duration::from_secs(180);
/// Time after which the entry of a host is renewed, when it leases the next time.
const RENEWAL: Duration = Duration::from_secs(60);
/// The shortest time between two entries of a host.
const PACE: Duration = Duration::from_secs(1);
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time for which an answer is remembered.
const MEMORY: Duration = Duration::from_secs(1);
/// Questions that are under way or remembered, at most.
const MAX_QUESTIONS: usize = 4096;
/// Orders that wait, at most.
const MAX_ORDERS: usize = 4096;
/// Callers that wait for an answer, at most.
const MAX_CALLERS: usize = 4096;
/// Hosts of a list that are read, at most.
pub const MAX_LISTED: usize = 256;
/// Version of an entry's layout.
const VERSION: u8 = 1;

/// Something that is to be done in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryOrder {
    /// The entry of a host is wanted: [`DirectoryAnswer::Found`].
    Find(Eid),
    /// The hosts under a word are wanted, as of RCH-4: [`DirectoryAnswer::Listed`].
    List(Search),
    /// The entry of a host, for [`LIFE`]. It is to be listed under these words.
    Put {
        /// The host.
        eid: Eid,
        /// The entry.
        entry: Vec<u8>,
        /// Words, without repetitions.
        words: Vec<String>,
    },
    /// The entry of a host is no more, if it is still one that begins so.
    Remove {
        /// The host.
        eid: Eid,
        /// The beginning of entries of this server.
        begin: Vec<u8>,
    },
}

/// Statement of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryAnswer {
    /// It is there, and knows nothing perhaps.
    Up,
    /// It is not there: what was asked is not answered any more.
    Down,
    /// The entry of a host, if there is one.
    Found(Eid, Option<Vec<u8>>),
    /// Hosts under a word, with their entries, in the order of their EIDs; and whether there are more behind them.
    Listed(Search, Vec<(Eid, Vec<u8>)>, bool),
}

/// Counters of a server's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryStats {
    /// Set if there is one.
    pub is_used: bool,
    /// Set if it answers.
    pub is_up: bool,
    /// Questions that it was asked.
    pub asked: u64,
    /// Callers that were sent to another server.
    pub referred: u64,
    /// Questions that got no answer, or were not asked since it was away or too many were under way.
    pub unanswered: u64,
    /// Entries that were no such, and were not believed.
    pub malformed: u64,
    /// Entries of hosts that were written.
    pub written: u64,
}

/// An entry: the server that knows a host, and what the host says of itself there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at: Elsewhere,
    pub(super) register: Register,
}

impl Record {
    /// The beginning of all entries of a server.
    fn begin(at: &Elsewhere) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(at.server.as_bytes());
        out.extend_from_slice(&address_bytes(at.address));
        out
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Self::begin(&self.at);
        out.extend(Request::Register(self.register.clone()).encode());
        out
    }

    fn decode(entry: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(entry);
        if reader.u8()? != VERSION {
            return Err(Malformed("an entry of another version"));
        }
        let eid = reader.array::<33>()?;
        let server = Eid::from_bytes(&eid).map_err(|_| Malformed("an EID of an unknown type"))?;
        let address = reach::address(&mut reader)?;
        let rest = reader.rest();
        if rest.len() > MAX_RECORD || !sss_proto::is_usable(&address.into()) {
            return Err(Malformed("an entry that leads nowhere, or is too long"));
        }
        match Request::decode(rest)? {
            Request::Register(register) if is_statement(&register) => Ok(Self {
                at: Elsewhere { server, address },
                register,
            }),
            _ => Err(Malformed("an entry of no host")),
        }
    }

    /// Returns whether its host is listed under a word.
    fn is_under(&self, word: &str) -> bool {
        let mut words = self.register.words.split(' ');
        self.register.visibility == Visibility::Listed && words.any(|listed| listed == word)
    }
}

/// Returns whether it says what others are to know, and nothing else.
fn is_statement(register: &Register) -> bool {
    let is_bare = register.instance == [0; 8] && !register.is_veiled && !register.follows;
    is_bare && register.visibility != Visibility::Hidden
}

/// Returns whether an entry is one of a host that is listed under a word.
pub fn is_listed_under(entry: &[u8], word: &str) -> bool {
    Record::decode(entry).is_ok_and(|record| record.is_under(word))
}

/// Answer to a question, as far as there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// It is under way.
    Wait,
    /// There is none.
    Unavailable,
    Known(T),
}

/// Hosts under a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) hosts: Vec<(Eid, String)>,
    /// The last of those that were looked at, if there are more behind it.
    pub(super) end: Option<Eid>,
}

type ListName = (String, Option<Eid>);

#[derive(Clone, PartialEq, Eq)]
enum Question {
    Of(Eid),
    Under(ListName),
}

/// An entry that was written.
#[derive(Clone, Copy)]
struct Written {
    at: Instant,
    /// The host has said something else since.
    is_old: bool,
}

/// The server's end of the directory.
pub(super) struct Directory {
    own: Elsewhere,
    orders: VecDeque<DirectoryOrder>,
    found: HashMap<Eid, (Answer<Option<Elsewhere>>, Instant), RandomState>,
    lists: BTreeMap<ListName, (Answer<Listed>, Instant)>,
    /// Questions, and when their answers are due or forgotten.
    due: VecDeque<(Instant, Question)>,
    /// The time when each host's entry was written.
    written: HashMap<Eid, Written, RandomState>,
    /// Entries that were written, and when they are over.
    ends: VecDeque<(Instant, Eid)>,
    /// Hosts whose entries are to be written since the directory has come back.
    pub(super) backlog: Vec<Eid>,
    /// Callers that wait to hear of a host.
    callers: VecDeque<(Eid, Instance, [u8; 8])>,
    /// Something was answered that somebody may wait for.
    has_news: bool,
    pub(super) stats: DirectoryStats,
}

impl Directory {
    /// A directory that is not there yet, of a server with this EID and public address.
    pub(super) fn new(own: Elsewhere) -> Self {
        let stats = DirectoryStats {
            is_used: true,
            ..DirectoryStats::default()
        };
        Self {
            own,
            orders: VecDeque::new(),
            found: HashMap::default(),
            lists: BTreeMap::new(),
            due: VecDeque::new(),
            written: HashMap::default(),
            ends: VecDeque::new(),
            backlog: Vec::new(),
            callers: VecDeque::new(),
            has_news: false,
            stats,
        }
    }

    /// Returns whether a host was asked for of late.
    pub(super) fn remembers(&self, eid: &Eid) -> bool {
        self.found.contains_key(eid)
    }

    /// The other server that knows a host.
    pub(super) fn find(&mut self, now: Instant, eid: &Eid) -> Answer<Option<Elsewhere>> {
        if let Some((answer, _)) = self.found.get(eid) {
            return answer.clone();
        }
        let answer = match self.ask(DirectoryOrder::Find(*eid)) {
            true => Answer::Wait,
            false => return Answer::Unavailable,
        };
        let until = now + PATIENCE;
        self.found.insert(*eid, (answer.clone(), until));
        self.due.push_back((until, Question::Of(*eid)));
        answer
    }

    /// Hosts under a word.
    pub(super) fn list(&mut self, now: Instant, search: &Search) -> Answer<Listed> {
        let name = (search.word.clone(), search.after);
        if let Some((answer, _)) = self.lists.get(&name) {
            return answer.clone();
        }
        if !self.ask(DirectoryOrder::List(search.clone())) {
            return Answer::Unavailable;
        }
        let until = now + PATIENCE;
        self.lists.insert(name.clone(), (Answer::Wait, until));
        self.due.push_back((until, Question::Under(name)));
        Answer::Wait
    }

    fn ask(&mut self, order: DirectoryOrder) -> bool {
        let questions = self.found.len().saturating_add(self.lists.len());
        let may = self.stats.is_up && questions < MAX_QUESTIONS && self.order(order);
        match may {
            true => self.stats.asked = self.stats.asked.saturating_add(1),
            false => self.stats.unanswered = self.stats.unanswered.saturating_add(1),
        }
        may
    }

    fn order(&mut self, order: DirectoryOrder) -> bool {
        let has_room = self.orders.len() < MAX_ORDERS;
        if has_room {
            self.orders.push_back(order);
        }
        has_room
    }

    /// A caller is told as soon as it is known where the host is. It asks again if there are too many.
    pub(super) fn note_caller(&mut self, callee: Eid, caller: Instance, introduction: [u8; 8]) {
        let waits = |other: &(Eid, Instance, [u8; 8])| *other == (callee, caller, introduction);
        if self.callers.len() < MAX_CALLERS && !self.callers.iter().any(waits) {
            self.callers.push_back((callee, caller, introduction));
        }
    }

    /// The callers that wait for nothing any more.
    pub(super) fn take_callers(&mut self) -> Vec<(Eid, Instance, [u8; 8])> {
        let found = &self.found;
        let waits = |callee: &Eid| matches!(found.get(callee), Some((Answer::Wait, _)));
        let (waiting, done) = self.callers.drain(..).partition(|(callee, ..)| waits(callee));
        self.callers = waiting;
        let done: VecDeque<_> = done;
        done.into()
    }

    /// Returns whether something was answered since this was asked.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// The next order.
    pub(super) fn poll_order(&mut self) -> Option<DirectoryOrder> {
        self.orders.pop_front()
    }

    pub(super) fn has_orders(&self) -> bool {
        !self.orders.is_empty() || !self.backlog.is_empty()
    }

    /// Returns whether the entry of a host is to be written, since it leases; at once, if what it says is new.
    pub(super) fn is_due(&mut self, now: Instant, eid: &Eid, is_new: bool) -> bool {
        if !self.stats.is_up {
            return false;
        }
        let Some(written) = self.written.get_mut(eid) else {
            return true;
        };
        // What comes too soon is written with the next LEASE.
        written.is_old |= is_new;
        now >= written.at + if written.is_old { PACE } else { RENEWAL }
    }

    /// Writes the entry of a host.
    pub(super) fn put(&mut self, now: Instant, eid: Eid, register: Register) {
        let words = match register.visibility {
            Visibility::Listed => words(&register.words),
            _ => Vec::new(),
        };
        let record = Record { at: self.own, register };
        let entry = record.encode();
        if self.order(DirectoryOrder::Put { eid, entry, words }) {
            self.stats.written = self.stats.written.saturating_add(1);
            let written = Written { at: now, is_old: false };
            self.written.insert(eid, written);
            self.ends.push_back((now + LIFE, eid));
        }
    }

    /// The host is not here any more.
    pub(super) fn remove(&mut self, eid: &Eid) {
        if self.written.remove(eid).is_some() {
            let begin = Record::begin(&self.own);
            self.order(DirectoryOrder::Remove { eid: *eid, begin });
        }
    }

    /// Takes an answer in.
    pub(super) fn on_answer(&mut self, now: Instant, answer: DirectoryAnswer) {
        self.has_news = true;
        match answer {
            DirectoryAnswer::Up => {
                self.stats.is_up = true;
                self.written.clear();
                self.ends.clear();
            }
            DirectoryAnswer::Down => {
                self.stats.is_up = false;
                self.orders.clear();
                self.backlog.clear();
                let found = self.found.values_mut().filter(|(answer, _)| *answer == Answer::Wait);
                let lost = found.map(|(answer, _)| *answer = Answer::Unavailable).count();
                let lists = self.lists.values_mut().filter(|(answer, _)| *answer == Answer::Wait);
                let lost = lost + lists.map(|(answer, _)| *answer = Answer::Unavailable).count();
                self.stats.unanswered = self.stats.unanswered.saturating_add(lost as u64);
            }
            DirectoryAnswer::Found(eid, entry) => {
                let other = entry.and_then(|entry| self.read(&entry)).map(|record| record.at);
                let other = other.filter(|at| at.server != self.own.server);
                if let Some((answer @ Answer::Wait, until)) = self.found.get_mut(&eid) {
                    (*answer, *until) = (Answer::Known(other), now + MEMORY);
                    self.due.push_back((*until, Question::Of(eid)));
                }
            }
            DirectoryAnswer::Listed(search, hosts, has_more) => self.on_listed(now, search, hosts, has_more),
        }
    }

    fn on_listed(&mut self, now: Instant, search: Search, hosts: Vec<(Eid, Vec<u8>)>, has_more: bool) {
        let name = (search.word, search.after);
        let (mut listed, mut last) = (Listed::default(), name.1);
        let is_cut = has_more || hosts.len() > MAX_LISTED;
        for (eid, entry) in hosts.into_iter().take(MAX_LISTED) {
            // They are in order, and behind those that were asked for; else nothing is believed.
            if last.is_some_and(|last| eid <= last) {
                self.stats.malformed = self.stats.malformed.saturating_add(1);
                continue;
            }
            last = Some(eid);
            if let Some(record) = self.read(&entry).filter(|record| record.is_under(&name.0)) {
                listed.hosts.push((eid, record.register.profile));
            }
        }
        listed.end = last.filter(|_| is_cut);
        if let Some((answer @ Answer::Wait, until)) = self.lists.get_mut(&name) {
            (*answer, *until) = (Answer::Known(listed), now + MEMORY);
            self.due.push_back((*until, Question::Under(name)));
        }
    }

    fn read(&mut self, entry: &[u8]) -> Option<Record> {
        let record = Record::decode(entry).ok();
        self.stats.malformed = self.stats.malformed.saturating_add(u64::from(record.is_none()));
        record
    }

    /// Gives up what was not answered, and forgets what was.
    pub(super) fn on_timer(&mut self, now: Instant) {
        while let Some((_, question)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            let is_over = match &question {
                Question::Of(eid) => over(now, self.found.get_mut(eid)),
                Question::Under(name) => over(now, self.lists.get_mut(name)),
            };
            match (is_over, question) {
                // The answer is remembered as long as others: that there is none.
                (Over::GivenUp(until), question) => {
                    self.stats.unanswered = self.stats.unanswered.saturating_add(1);
                    self.has_news = true;
                    self.due.push_back((until, question));
                }
                (Over::Forgotten, Question::Of(eid)) => drop(self.found.remove(&eid)),
                (Over::Forgotten, Question::Under(name)) => drop(self.lists.remove(&name)),
                (Over::Not, _) => {}
            }
        }
        while let Some((_, eid)) = self.ends.pop_front_if(|(at, _)| *at <= now) {
            if self.written.get(&eid).is_some_and(|written| written.at + LIFE <= now) {
                self.written.remove(&eid);
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        let ends = self.ends.front().map(|(at, _)| *at);
        self.due.front().map(|(at, _)| *at).into_iter().chain(ends).min()
    }
}

enum Over {
    Not,
    GivenUp(Instant),
    Forgotten,
}

/// Fate of a question whose time may be over.
fn over<T: PartialEq>(now: Instant, question: Option<&mut (Answer<T>, Instant)>) -> Over {
    match question {
        Some((_, until)) if *until > now => Over::Not,
        Some((answer, until)) if *answer == Answer::Wait => {
            (*answer, *until) = (Answer::Unavailable, now + MEMORY);
            Over::GivenUp(*until)
        }
        _ => Over::Forgotten,
    }
}

/// Words, each once.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Address of a server for others.
pub(super) fn is_public(address: SocketAddr) -> bool {
    sss_proto::is_usable(&address.into())
}

#[cfg(test)]
mod tests;

#[cfg(test)]
impl Directory {
    /// Number of things that are kept.
    pub(super) fn len(&self) -> usize {
        self.found.len() + self.lists.len() + self.due.len() + self.orders.len() + self.callers.len()
    }
}
