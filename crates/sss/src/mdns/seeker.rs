//! Hosts that are looked for: when it is asked for them, and which of those that are heard may be one (RCH-36).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_crypto::Generator;
use sss_wire::Eid;
use tokio::time::Instant;

use super::candidates::Candidates;
use super::message::Presence;

/// Times after which it is asked again, from the begin of a search.
const QUESTIONS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(7),
];
/// Time for which a host is looked for.
const SEARCH: Duration = Duration::from_secs(15);
/// The least time between two questions. One is for all that are looked for.
const PAUSE: Duration = Duration::from_millis(100);
/// Hosts that are looked for at a time.
const MAX_SOUGHT: usize = 256;
/// Tags that are tried in a second: each costs a hash for each host that is looked for.
const MAX_TRIALS: usize = 4096;

/// All that are looked for.
#[derive(Debug)]
pub(super) struct Seeker {
    rng: Generator,
    searches: Vec<Search>,
    latest_question: Option<Instant>,
    /// The second that is counted, and trials in it.
    trials: Option<(Instant, usize)>,
}

#[derive(Debug)]
struct Search {
    eid: Eid,
    began: Instant,
    /// Number of questions that were sent.
    asked: usize,
    candidates: Candidates,
}

/// Host that is heard: where the message came from, and what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    pub(super) from: SocketAddr,
    pub(super) presence: &'a Presence,
}

impl Seeker {
    /// Nobody is looked for. Which addresses are tried first is drawn from `seed`.
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self {
            rng: Generator::new(seed),
            searches: Vec::new(),
            latest_question: None,
            trials: None,
        }
    }

    /// Begins to look for a host, unless it is looked for already.
    pub(super) fn seek(&mut self, now: Instant, eid: Eid) {
        self.expire(now);
        if let Some(search) = self.searches.iter_mut().find(|search| search.eid == eid) {
            // Another attempt begins: it is told again who is found.
            *search = Search::new(now, eid);
            return;
        }
        if self.searches.len() >= MAX_SOUGHT {
            self.searches.remove(0);
        }
        self.searches.push(Search::new(now, eid));
    }

    fn expire(&mut self, now: Instant) {
        self.searches.retain(|search| now < search.began + SEARCH);
    }

    /// Returns whether nobody is looked for.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.searches.is_empty()
    }

    /// Returns whether it is to be asked now: and then, whether the answer may be for this host alone, as for those who
    /// have not asked before.
    pub(super) fn poll(&mut self, now: Instant) -> Option<bool> {
        if self.question_at().is_none_or(|at| at > now) {
            return None;
        }
        let mut is_first = false;
        for search in &mut self.searches {
            if search.question_at().is_some_and(|at| at <= now) {
                is_first |= search.asked == 0;
                search.asked += 1;
            }
        }
        self.latest_question = Some(now);
        Some(is_first)
    }

    fn question_at(&self) -> Option<Instant> {
        let next = self.searches.iter().filter_map(Search::question_at).min()?;
        Some(self.latest_question.map_or(next, |latest| next.max(latest + PAUSE)))
    }

    /// The time when [`Self::poll`] may have something, or a search ends.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let ends = self.searches.iter().map(|search| search.began + SEARCH);
        let waiting = self.searches.iter().filter_map(|search| search.candidates.next_timer());
        ends.chain(self.question_at()).chain(waiting).min()
    }

    /// The next of those that were heard that is to be tried, and whom it may be.
    pub(super) fn poll_found(&mut self, now: Instant) -> Option<(Eid, SocketAddr)> {
        let rng = &mut self.rng;
        self.searches
            .iter_mut()
            .find_map(|search| Some((search.eid, search.candidates.poll(now, rng)?)))
    }

    /// A host was heard. Returns those who are looked for that it may be and where it is to be tried now, with the
    /// address: that which the message came from, and no other.
    pub(super) fn on_presence(&mut self, now: Instant, heard: Heard<'_>) -> Vec<(Eid, SocketAddr)> {
        let Heard { from, presence } = heard;
        let mut at = from;
        at.set_port(presence.port);
        let mut found = Vec::new();
        if !self.may_try(now) {
            return found;
        }
        for search in &mut self.searches {
            let is_new = !search.candidates.has(&at) && presence.tag.is_of(&search.eid, &presence.nonce);
            if is_new && search.candidates.add(at, &mut self.rng) {
                found.push((search.eid, at));
            }
        }
        found
    }

    fn may_try(&mut self, now: Instant) -> bool {
        let (since, trials) = self.trials.get_or_insert((now, 0));
        if now >= *since + Duration::from_secs(1) {
            (*since, *trials) = (now, 0);
        }
        *trials += self.searches.len();
        *trials <= MAX_TRIALS
    }
}

impl Search {
    fn new(began: Instant, eid: Eid) -> Self {
        Self {
            eid,
            began,
            asked: 0,
            candidates: Candidates::new(began),
        }
    }

    fn question_at(&self) -> Option<Instant> {
        QUESTIONS.get(self.asked).map(|after| self.began + *after)
    }
}

/// Messages that are read: some of each sender, and no more of all.
#[derive(Debug)]
pub(super) struct Intake {
    since: Instant,
    all: usize,
    of: Vec<(IpAddr, usize)>,
}

impl Intake {
    /// Messages that are read in a second, of all senders and of one; and senders that are told apart.
    const MAX: usize = 1000;
    const MAX_OF_ONE: usize = 100;
    const MAX_SENDERS: usize = 64;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            all: 0,
            of: Vec::new(),
        }
    }

    /// Returns whether a message is to be read.
    pub(super) fn takes(&mut self, now: Instant, from: IpAddr) -> bool {
        if now >= self.since + Duration::from_secs(1) {
            *self = Self::new(now);
        }
        if self.all >= Self::MAX {
            return false;
        }
        let at = self.of.iter().position(|(other, _)| *other == from);
        let at = at.or_else(|| {
            let has_room = self.of.len() < Self::MAX_SENDERS;
            has_room.then(|| self.of.push((from, 0)))?;
            self.of.len().checked_sub(1)
        });
        if let Some((_, messages)) = at.and_then(|at| self.of.get_mut(at)) {
            if *messages >= Self::MAX_OF_ONE {
                return false;
            }
            *messages += 1;
        }
        self.all += 1;
        true
    }

    /// The time until which nothing more is read.
    pub(super) fn full_until(&self) -> Option<Instant> {
        (self.all >= Self::MAX).then(|| self.since + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use sss_reach::mdns::{LEN, Nonce, Tag};

    use super::super::candidates;
    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    fn presence(of: &Eid, n: u8) -> Presence {
        let nonce = Nonce([n; LEN]);
        Presence {
            nonce,
            tag: Tag::new(of, &nonce),
            port: 7757,
        }
    }

    fn from(n: u8) -> SocketAddr {
        ([192, 168, 7, n], 5353).into()
    }

    fn heard(seeker: &mut Seeker, now: Instant, n: u8, presence: &Presence) -> Vec<(Eid, SocketAddr)> {
        seeker.on_presence(
            now,
            Heard {
                from: from(n),
                presence,
            },
        )
    }

    fn questions(seeker: &mut Seeker, begin: Instant) -> Vec<(u64, bool)> {
        let mut asked = Vec::new();
        for ms in 0..20_000 {
            if let Some(is_first) = seeker.poll(begin + Duration::from_millis(ms)) {
                asked.push((ms, is_first));
            }
        }
        asked
    }

    // spec: RCH-36
    #[test]
    fn it_is_asked_four_times_and_never_when_nobody_is_looked_for() {
        let begin = Instant::now();
        let mut seeker = Seeker::new(&[1; 32]);
        assert_eq!(questions(&mut seeker, begin), []);
        assert_eq!(seeker.next_timer(), None);
        seeker.seek(begin, eid(1));
        assert_eq!(
            questions(&mut seeker, begin),
            [(0, true), (1000, false), (3000, false), (7000, false)]
        );
        assert!(!seeker.is_idle(begin + Duration::from_secs(14)));
        assert!(seeker.is_idle(begin + Duration::from_secs(15)));
    }

    #[test]
    fn one_question_is_for_all_that_are_looked_for() {
        let begin = Instant::now();
        let mut seeker = Seeker::new(&[1; 32]);
        for round in 0..50_u64 {
            for n in 0..=255 {
                seeker.seek(begin + Duration::from_millis(round), eid(n));
            }
        }
        let asked = questions(&mut seeker, begin);
        assert!(asked.len() <= 10, "{asked:?}");
        assert_eq!(seeker.searches.len(), MAX_SOUGHT);
    }

    #[test]
    fn the_latest_are_looked_for_where_there_are_too_many_and_questions_keep_their_distance() {
        let begin = Instant::now();
        let mut seeker = Seeker::new(&[1; 32]);
        let numbered = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let mut key = [0; 32];
            (key[0], key[1]) = (high, low);
            Eid::from_public_key(&key)
        };
        let mut asked = Vec::new();
        for ms in 0..1000_u64 {
            let now = begin + Duration::from_millis(ms);
            if ms < 300 {
                seeker.seek(now, numbered(u16::try_from(ms).unwrap()));
            }
            asked.extend(seeker.poll(now).map(|_| ms));
        }
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 100), "{asked:?}");
        assert!((3..=10).contains(&asked.len()), "{asked:?}");
        assert_eq!(seeker.searches.len(), MAX_SOUGHT);
        let sought = |n| seeker.searches.iter().any(|search| search.eid == numbered(n));
        assert!(sought(299) && sought(44) && !sought(43), "the first give way");
    }

    // spec: RCH-34, RCH-36
    #[test]
    fn a_host_is_found_where_its_message_came_from_and_nobody_else_is() {
        let now = Instant::now();
        let mut seeker = Seeker::new(&[1; 32]);
        seeker.seek(now, eid(1));
        assert_eq!(heard(&mut seeker, now, 2, &presence(&eid(2), 1)), []);
        let at = SocketAddr::from(([192, 168, 7, 2], 7757));
        assert_eq!(heard(&mut seeker, now, 2, &presence(&eid(1), 1)), [(eid(1), at)]);
        assert_eq!(heard(&mut seeker, now, 2, &presence(&eid(1), 2)), [], "it is told once");
        let v6: SocketAddr = "[fe80::2%3]:5353".parse().unwrap();
        let presence = presence(&eid(1), 1);
        let found = seeker.on_presence(
            now,
            Heard {
                from: v6,
                presence: &presence,
            },
        );
        assert_eq!(found, [(eid(1), "[fe80::2%3]:7757".parse().unwrap())]);
        seeker.seek(now, eid(1));
        assert_eq!(
            heard(&mut seeker, now, 2, &presence).len(),
            1,
            "another attempt is told too"
        );
    }

    // spec: RCH-36
    #[test]
    fn threat_43_who_copies_a_tag_makes_few_be_tried_and_keeps_the_true_one_out_for_seconds() {
        let begin = Instant::now();
        let mut seeker = Seeker::new(&[1; 32]);
        seeker.seek(begin, eid(1));
        let copied = presence(&eid(1), 1);
        let found: usize = (1..=20).map(|n| heard(&mut seeker, begin, n, &copied).len()).sum();
        assert_eq!(found, candidates::AT_ONCE);
        assert_eq!(heard(&mut seeker, begin, 21, &copied), [], "the true one waits");
        let mut later = Vec::new();
        for ms in 0..15_000 {
            let now = begin + Duration::from_millis(ms);
            later.extend(seeker.poll_found(now));
            assert!(seeker.next_timer().unwrap() <= now + Duration::from_secs(15));
        }
        let true_one = SocketAddr::from(([192, 168, 7, 21], 7757));
        assert!(later.contains(&(eid(1), true_one)), "{later:?}");
        assert_eq!(later.len(), 13, "each once");
        // Without end, it is two in a second.
        seeker.seek(begin, eid(1));
        (1..=250).for_each(|n| drop(heard(&mut seeker, begin, n, &copied)));
        let times = (0..15_000).map(|ms| begin + Duration::from_millis(ms));
        let tried = times.filter_map(|now| seeker.poll_found(now)).count();
        assert_eq!(tried, 29);
    }

    // spec: RCH-35
    #[test]
    fn threat_43_floods_of_answers_cost_a_bounded_number_of_trials() {
        let now = Instant::now();
        let mut seeker = Seeker::new(&[1; 32]);
        for n in 0..=255 {
            seeker.seek(now, eid(n));
        }
        let tried = (0..1000).filter(|_| seeker.may_try(now)).count();
        assert_eq!(tried, MAX_TRIALS / 256);
        assert!(seeker.may_try(now + Duration::from_secs(1)));
    }

    // spec: RCH-35
    #[test]
    fn threat_43_one_that_floods_leaves_room_for_others_and_all_together_are_bounded() {
        let now = Instant::now();
        let mut intake = Intake::new(now);
        let taken = |intake: &mut Intake, n: u8| (0..500).filter(|_| intake.takes(now, from(n).ip())).count();
        assert_eq!(taken(&mut intake, 1), Intake::MAX_OF_ONE);
        assert_eq!(taken(&mut intake, 2), Intake::MAX_OF_ONE);
        assert_eq!(intake.full_until(), None);
        let all: usize = (3..=250).map(|n| taken(&mut intake, n)).sum();
        assert_eq!(all, Intake::MAX - 2 * Intake::MAX_OF_ONE);
        assert!(intake.of.len() <= Intake::MAX_SENDERS);
        let later = now + Duration::from_secs(1);
        assert_eq!(intake.full_until(), Some(later));
        assert!(intake.takes(later, from(1).ip()));
        // Senders without end are not told apart without end.
        let mut intake = Intake::new(now);
        for n in 0..500_u16 {
            let [high, low] = n.to_be_bytes();
            assert!(intake.takes(now, [10, 0, high, low].into()));
        }
        assert_eq!(intake.of.len(), Intake::MAX_SENDERS);
    }
}
