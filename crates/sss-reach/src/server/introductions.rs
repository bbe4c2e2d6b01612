//! Introductions: two hosts are told of each other (RCH-11, RCH-12).

use std::collections::BTreeSet;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sss_proto::{Instant, Network};
use sss_wire::Eid;
use sss_wire::long::KEM_KEY;
use sss_wire::reach::bodies::{Status, Way};

use super::crowds::Crowds;
use super::leases::Instance;
use super::rate::{Bucket, MEMORY, Rate};

/// Time for which an introduction is kept, and what its pair has used up.
const LIFE: Duration = MEMORY;
/// Time after which a callee that has not answered counts as unreachable: NOTIFY was repeated with each CONNECT by
/// then.
const PATIENCE: Duration = Duration::from_secs(6);
/// The times of NOTIFY, after CONNECT, in milliseconds.
const NOTICES: [u64; 4] = [0, 100, 300, 700];
/// LEGs of one introduction that are sent on as they come, at most.
const MAX_LEGS: usize = 4;
/// Longest time for which a host is told to hold direct packets back.
const MAX_HOLD: Duration = Duration::from_secs(2);
/// Introductions at a time.
const MAX: usize = 16_384;

/// Introductions under way.
#[derive(Default)]
pub(super) struct Introductions {
    /// By the caller's name for them.
    all: HashMap<[u8; 8], Introduction, RandomState>,
    /// The caller's name, by the callee's.
    for_callee: HashMap<[u8; 8], [u8; 8], RandomState>,
    pairs: HashMap<(Eid, Eid), Bucket, RandomState>,
    crowds: Crowds,
    /// Each introduction once.
    timers: BTreeSet<(Instant, [u8; 8])>,
}

/// A caller: which run of a host, and where.
type Calling = (Instance, Network);

/// One introduction.
pub(super) struct Introduction {
    pub(super) caller: Instance,
    pub(super) callee: Instance,
    /// The network of the caller.
    network: Network,
    /// Its name for the callee.
    pub(super) name: [u8; 8],
    /// The way to the caller.
    pub(super) way: Way,
    pub(super) hello: Vec<u8>,
    pub(super) leg: Option<Box<[u8; KEM_KEY]>>,
    /// The number of LEGs that were sent on as they came.
    legs: usize,
    began: Instant,
    /// The time of the CONNECT that NOTIFYs are counted from.
    asked: Instant,
    notices: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    /// The caller was told that the callee has refused.
    Refused,
    /// The caller was told that nobody answers.
    GivenUp,
}

/// Step that is to be taken for an introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The callee is to be told.
    Notify,
    /// The caller is to be told that the callee does not answer.
    GiveUp,
}

impl Introductions {
    /// The introduction that a caller has this name for.
    pub(super) fn get(&self, name: &[u8; 8]) -> Option<&Introduction> {
        self.all.get(name)
    }

    /// The part of what a host may be told of at once that may be used up for this caller ([`Crowds::part`]).
    pub(super) fn part(&self, now: Instant, callee: &Eid, caller: (Eid, Network)) -> u16 {
        self.crowds.part(now, callee, caller)
    }

    /// Returns whether one more of the pair may begin.
    pub(super) fn may_begin(&self, now: Instant, pair: (Eid, Eid), rate: Rate) -> bool {
        let used = self.pairs.get(&pair).copied().unwrap_or_default();
        self.all.len() < MAX && used.has_room(now, rate)
    }

    /// Begins an introduction, in place of one that has this name, and counts it for the pair. NOTIFY is due at once.
    pub(super) fn begin(&mut self, now: Instant, name: [u8; 8], introduction: Introduction, rate: Rate) {
        self.end(now, &name);
        let (caller, callee) = introduction.pair();
        self.pairs.entry((caller, callee)).or_default().take(now, rate);
        self.crowds.note(now, callee, (caller, introduction.network));
        self.for_callee.insert(introduction.name, name);
        self.timers.insert((introduction.next_timer(), name));
        self.all.insert(name, introduction);
    }

    /// CONNECT has come again: if nobody has answered, the callee is told again. Returns whether it is to be told once
    /// more although it has answered: where there is LEG, that tells it.
    pub(super) fn ask_again(&mut self, now: Instant, name: &[u8; 8]) -> bool {
        let mut is_repeated = false;
        self.change(name, |introduction| {
            if introduction.state == State::Waiting && introduction.next_notice().is_none() {
                introduction.asked = now;
                introduction.notices = 0;
            }
            let is_answered = introduction.state == State::Answered;
            is_repeated = is_answered && introduction.leg.is_none() && introduction.legs < MAX_LEGS;
            introduction.legs = introduction.legs.saturating_add(usize::from(is_repeated));
        });
        is_repeated
    }

    /// The caller's key has come with CONNECT: it goes with NOTIFY.
    pub(super) fn put_leg(&mut self, name: &[u8; 8], key: &[u8; KEM_KEY]) {
        if let Some(introduction) = self.all.get_mut(name) {
            introduction.leg.get_or_insert_with(|| Box::new(*key));
        }
    }

    /// The caller's LEG has come. Returns the introduction if it is to be sent on at once: the callee has heard of the
    /// rest. A caller that repeats it has no answer yet, even if the callee has answered NOTIFY: it may be lost.
    pub(super) fn on_leg(&mut self, name: &[u8; 8], key: &[u8; KEM_KEY]) -> Option<&Introduction> {
        let introduction = self.all.get_mut(name)?;
        introduction.leg.get_or_insert_with(|| Box::new(*key));
        let may_send = introduction.notices > 0 && introduction.legs < MAX_LEGS;
        if !may_send || introduction.state == State::GivenUp {
            return None;
        }
        introduction.legs = introduction.legs.saturating_add(1);
        Some(introduction)
    }

    /// The callee has answered. Returns the introduction.
    pub(super) fn on_answer(
        &mut self,
        callee: &Instance,
        (name, is_refused): (&[u8; 8], bool),
    ) -> Option<([u8; 8], &Introduction)> {
        let name = *self.for_callee.get(name)?;
        self.all
            .get(&name)
            .filter(|introduction| introduction.callee == *callee)?;
        let state = if is_refused { State::Refused } else { State::Answered };
        self.change(&name, |introduction| introduction.state = state);
        self.all.get(&name).map(|introduction| (name, introduction))
    }

    /// The next step that is due, and the introduction of which name.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<([u8; 8], Due)> {
        while let Some((at, name)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, name));
            let introduction = self.all.get_mut(&name)?;
            if now >= introduction.began + LIFE {
                self.end(now, &name);
                continue;
            }
            let due = introduction.take_due(now);
            self.timers.insert((introduction.next_timer(), name));
            if let Some(due) = due {
                return Some((name, due));
            }
        }
        None
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    fn change(&mut self, name: &[u8; 8], change: impl FnOnce(&mut Introduction)) {
        if let Some(introduction) = self.all.get_mut(name) {
            self.timers.remove(&(introduction.next_timer(), *name));
            change(introduction);
            self.timers.insert((introduction.next_timer(), *name));
        }
    }

    fn end(&mut self, now: Instant, name: &[u8; 8]) {
        let Some(introduction) = self.all.remove(name) else {
            return;
        };
        self.timers.remove(&(introduction.next_timer(), *name));
        self.for_callee.remove(&introduction.name);
        // What an introduction has used up is there again when it is over.
        let pair = introduction.pair();
        if self.pairs.get(&pair).is_some_and(|used| used.is_full(now)) {
            self.pairs.remove(&pair);
        }
        self.crowds.expire(now, &pair.1);
    }
}

impl Introduction {
    pub(super) fn new(
        now: Instant,
        caller: Calling,
        callee: Instance,
        name: [u8; 8],
        way: Way,
        hello: Vec<u8>,
    ) -> Self {
        let (caller, network) = caller;
        Self {
            caller,
            callee,
            network,
            name,
            way,
            hello,
            leg: None,
            legs: 0,
            began: now,
            asked: now,
            notices: 0,
            state: State::Waiting,
        }
    }

    fn pair(&self) -> (Eid, Eid) {
        (self.caller.eid, self.callee.eid)
    }

    /// Returns whether the callee has heard of it.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered | State::Refused)
    }

    /// Returns why nothing comes of it, if the caller was told so: what has told it may be lost.
    pub(super) fn failure(&self) -> Option<Status> {
        match self.state {
            State::Waiting | State::Answered => None,
            State::Refused => Some(Status::Refused),
            State::GivenUp => Some(Status::Unreachable),
        }
    }

    fn next_notice(&self) -> Option<Instant> {
        let after = NOTICES.get(self.notices)?;
        Some(self.asked + Duration::from_millis(*after))
    }

    /// Takes what is due now that its time has come.
    fn take_due(&mut self, now: Instant) -> Option<Due> {
        if self.state != State::Waiting {
            return None;
        }
        if now < self.began + PATIENCE && self.next_notice().is_some() {
            self.notices = self.notices.saturating_add(1);
            return Some(Due::Notify);
        }
        self.state = State::GivenUp;
        Some(Due::GiveUp)
    }

    fn next_timer(&self) -> Instant {
        let end = self.began + LIFE;
        if self.state != State::Waiting {
            return end;
        }
        let give_up = self.began + PATIENCE;
        self.next_notice().unwrap_or(give_up).min(give_up).min(end)
    }
}

/// Time by which whoever hears first holds direct packets back, given both round-trip times to the server, in
/// microseconds.
pub(super) fn hold(own: u32, other: u32) -> u32 {
    if own == 0 || other == 0 {
        return 0;
    }
    let most = u32::try_from(MAX_HOLD.as_micros()).unwrap_or(u32::MAX);
    (other.saturating_sub(own) / 2).min(most)
}

#[cfg(test)]
impl Introductions {
    /// Returns whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
            && self.for_callee.is_empty()
            && self.pairs.is_empty()
            && self.timers.is_empty()
            && self.crowds.is_empty()
    }
}
