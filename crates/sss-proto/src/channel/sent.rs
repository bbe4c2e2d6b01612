//! Packets that were sent and are not settled: a ring of records indexed by sequence number, and one of their tokens.
//!
//! Every record is *outstanding* until it is acknowledged or lost. Settled records leave at the front, so that the
//! front is always the oldest outstanding packet, and finding what is lost never looks at what is not.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::fate::Fate;
use crate::rare::Rare;
use crate::time::Instant;
use crate::token::Token;

/// Skipped numbers that are remembered.
const MAX_SKIPPED: usize = 16;
/// Records kept when the oldest needs no acknowledgement: its own may never come.
const MAX_QUIET: usize = 64;

/// Properties of a sent packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// It must be acknowledged.
    pub(super) const ELICITING: Self = Self(1);
    /// Its bytes count as in flight, and its loss is a sign of congestion.
    pub(super) const COUNTED: Self = Self(2);
    /// It was marked ECT(0).
    pub(super) const MARKED: Self = Self(4);
    /// It is a path MTU probe.
    pub(super) const MTU_PROBE: Self = Self(8);
    /// Its tokens were given out as lost although it is not: a probe timeout repeated them.
    const REPEATED: Self = Self(16);

    pub(super) fn with(self, other: Self, condition: bool) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outstanding,
    Acked,
    Lost,
    /// The number was never sent (CHN-6).
    Skipped,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    sent: Instant,
    /// Place of its first token in the token ring, counted from the channel's beginning, wrapping.
    first_token: u32,
    tokens: u16,
    /// Its length in bytes, while it is outstanding. Afterwards so many records behind it are known to be settled too,
    /// and need not be looked at.
    size: u16,
    flags: Flags,
    state: State,
}

/// A packet, as it left or as its fate became known.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentPacket {
    pub(super) seq: u64,
    pub(super) sent: Instant,
    pub(super) size: u16,
    pub(super) flags: Flags,
}

/// Takes the tokens of settled packets.
pub(super) struct Sink<'a> {
    pub(super) fates: &'a mut Vec<Fate>,
    /// Highest number named by one of our acknowledgements that has itself been acknowledged.
    pub(super) ack_acked: Option<u64>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(fates: &'a mut Vec<Fate>) -> Self {
        Self { fates, ack_acked: None }
    }

    fn settle(&mut self, token: Token, acked: bool) {
        match token {
            Token::Ack { largest } => {
                if acked {
                    self.ack_acked = self.ack_acked.max(Some(largest));
                }
            }
            // The record's own flags and the path's timer say what there is to know.
            Token::MtuProbe { .. } => {}
            token => self.fates.push(Fate { token, acked }),
        }
    }
}

/// The rule by which a packet counts as lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossRule {
    pub(super) largest_acked: u64,
    /// Distance in numbers from the largest acknowledged at which a packet is lost.
    pub(super) threshold: u64,
    /// The present.
    pub(super) now: Instant,
    /// The age at which a packet is lost.
    pub(super) age: Duration,
}

/// An acknowledgement named a number that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeverSent;

/// The packets sent on a channel that are not settled.
#[derive(Debug, Default)]
pub(super) struct SentRing {
    records: VecDeque<Record>,
    tokens: VecDeque<Token>,
    /// Number of the first record.
    base: u64,
    /// Place of the first token, wrapping.
    token_base: u32,
    largest_acked: Option<u64>,
    skipped: Rare<VecDeque<u64>>,
    outstanding: usize,
    eliciting: usize,
    in_flight: u64,
    /// The time when the latest packet was sent that was acknowledged.
    was_there: Instant,
    /// Records that acknowledgements made it look at.
    #[cfg(test)]
    steps: usize,
}

impl SentRing {
    /// The number of the next packet.
    pub(super) fn next(&self) -> u64 {
        self.base + self.records.len() as u64
    }

    /// All packets before this number are settled.
    pub(super) fn oldest(&self) -> u64 {
        self.base
    }

    pub(super) fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    /// Returns since when the peer is known to have been there: when the latest packet was sent that it acknowledged.
    pub(super) fn was_there(&self) -> Instant {
        self.was_there
    }

    /// Bytes in flight that congestion control counts.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Returns how many packets that must be acknowledged are outstanding.
    pub(super) fn eliciting(&self) -> usize {
        self.eliciting
    }

    /// Returns whether a packet that must be acknowledged is outstanding.
    pub(super) fn has_eliciting(&self) -> bool {
        self.eliciting > 0
    }

    /// Returns when the oldest packet was sent that must be acknowledged and is outstanding.
    pub(super) fn oldest_eliciting(&self) -> Option<Instant> {
        if !self.has_eliciting() {
            return None;
        }
        let is_it = |record: &&Record| record.state == State::Outstanding && record.flags.has(Flags::ELICITING);
        self.records.iter().find(is_it).map(|record| record.sent)
    }

    /// Records a packet under the next number, with the tokens of its frames.
    pub(super) fn push(&mut self, sent: Instant, size: u16, flags: Flags, tokens: &[Token]) {
        let first_token = self.token_base.wrapping_add(self.tokens.len() as u32);
        self.records.push_back(Record {
            sent,
            first_token,
            tokens: tokens.len().min(usize::from(u16::MAX)) as u16,
            size,
            flags,
            state: State::Outstanding,
        });
        for token in tokens.iter().take(usize::from(u16::MAX)) {
            self.tokens.push_back(*token);
        }
        self.outstanding += 1;
        self.eliciting += usize::from(flags.has(Flags::ELICITING));
        if flags.has(Flags::COUNTED) {
            self.in_flight += u64::from(size);
        }
        while self.records.len() > MAX_QUIET && self.drop_quiet_front() {}
    }

    /// Leaves a number out (CHN-6).
    pub(super) fn skip(&mut self) {
        let next = self.next();
        let skipped = self.skipped.make();
        if skipped.len() == MAX_SKIPPED {
            skipped.pop_front();
        }
        skipped.push_back(next);
        self.records.push_back(Record {
            sent: Instant::default(),
            first_token: self.token_base.wrapping_add(self.tokens.len() as u32),
            tokens: 0,
            size: 0,
            flags: Flags::default(),
            state: State::Skipped,
        });
    }

    /// The numbers that were left out lately.
    fn skipped(&self) -> impl Iterator<Item = &u64> {
        self.skipped.get().into_iter().flatten()
    }

    /// Forgets the oldest record if it is one whose acknowledgement nobody waits for.
    fn drop_quiet_front(&mut self) -> bool {
        let quiet = |r: &Record| r.state == State::Outstanding && !r.flags.has(Flags::ELICITING);
        if !self.records.front().is_some_and(quiet) {
            return false;
        }
        self.outstanding -= 1;
        self.pop_records(1);
        self.pop_settled();
        true
    }

    /// Removes the first `count` records, and their tokens.
    fn pop_records(&mut self, count: usize) {
        let tokens = match self.records.get(count) {
            Some(next) => next.first_token.wrapping_sub(self.token_base) as usize,
            None => self.tokens.len(),
        };
        self.records.drain(..count);
        self.base += count as u64;
        self.tokens.drain(..tokens);
        self.token_base = self.token_base.wrapping_add(tokens as u32);
    }

    fn pop_settled(&mut self) {
        let settled = self
            .records
            .iter()
            .take_while(|r| r.state != State::Outstanding)
            .count();
        if settled > 0 {
            self.pop_records(settled);
        }
    }

    /// Returns whether the range may be acknowledged at all (CHN-6).
    pub(super) fn check(&self, range: &RangeInclusive<u64>) -> Result<(), NeverSent> {
        let is_near = |skipped: &VecDeque<u64>| skipped.back().is_some_and(|s| s >= range.start());
        let near = self.skipped.get().filter(|skipped| is_near(skipped));
        let never = *range.end() >= self.next() || near.is_some_and(|near| near.iter().any(|s| range.contains(s)));
        if never { Err(NeverSent) } else { Ok(()) }
    }

    /// Outstanding packets with numbers below the largest acknowledged one.
    fn holes(&self) -> usize {
        let Some(largest) = self.largest_acked else {
            return 0;
        };
        let above = self.next().saturating_sub(largest.max(self.base.saturating_sub(1)) + 1);
        let skipped = self.skipped().filter(|&&s| s > largest && s >= self.base).count();
        (self.outstanding + skipped).saturating_sub(above as usize)
    }

    /// Settles the packets of a checked range as acknowledged, and tells each one that was outstanding.
    pub(super) fn ack(&mut self, range: &RangeInclusive<u64>, sink: &mut Sink<'_>, mut tell: impl FnMut(&SentPacket)) {
        let (mut low, high) = ((*range.start()).max(self.base), *range.end());
        if let Some(largest) = self.largest_acked
            && self.holes() == 0
        {
            low = low.max(largest + 1);
        }
        if low > high || high >= self.next() {
            return;
        }
        let first = (low - self.base) as usize;
        let last = (high - self.base) as usize;
        // Tokens of packets next to each other lie next to each other.
        let mut run = 0..0;
        let mut at = first;
        while at <= last {
            let Some(record) = self.records.get_mut(at) else {
                break;
            };
            let mut next = at + 1;
            if record.state == State::Outstanding {
                record.state = State::Acked;
                self.was_there = self.was_there.max(record.sent);
                self.outstanding -= 1;
                self.eliciting -= usize::from(record.flags.has(Flags::ELICITING));
                if record.flags.has(Flags::COUNTED) {
                    self.in_flight -= u64::from(record.size);
                }
                let tokens = record.token_range(self.token_base);
                if tokens.start != run.end {
                    settle(&self.tokens, &run, sink);
                    run.start = tokens.start;
                }
                run.end = tokens.end;
                tell(&record.seen(self.base + at as u64));
            } else {
                next += usize::from(record.size);
            }
            // All from here to the end of the range are settled now: whoever says so again causes no work.
            record.size = u16::try_from(last - at).unwrap_or(u16::MAX);
            at = next;
            #[cfg(test)]
            {
                self.steps += 1;
            }
        }
        settle(&self.tokens, &run, sink);
    }

    /// Ends the processing of an acknowledgement whose highest number is `largest`.
    pub(super) fn acked_through(&mut self, largest: u64) {
        self.largest_acked = self.largest_acked.max(Some(largest));
        self.pop_settled();
    }

    /// Settles as lost what the rule says is lost. Returns the moment at which the oldest that remains below the
    /// largest acknowledged number was sent.
    ///
    /// `tell` also hears whether a packet between this loss and the one before was acknowledged.
    pub(super) fn detect_lost(
        &mut self,
        rule: LossRule,
        sink: &mut Sink<'_>,
        mut tell: impl FnMut(&SentPacket, bool),
    ) -> Option<Instant> {
        let end = rule
            .largest_acked
            .saturating_sub(self.base)
            .min(self.records.len() as u64) as usize;
        let mut oldest_left = None;
        let mut acked_between = false;
        let skipped = self.skipped.get();
        for (seq, record) in (self.base..).zip(self.records.range_mut(..end)) {
            match record.state {
                State::Acked => acked_between = true,
                State::Lost | State::Skipped => {}
                State::Outstanding => {
                    let between = seq..rule.largest_acked;
                    let skipped = skipped.into_iter().flatten();
                    let skipped = skipped.filter(|s| between.contains(s)).count() as u64;
                    let distance = rule.largest_acked - seq - skipped;
                    if distance < rule.threshold && record.sent + rule.age > rule.now {
                        oldest_left = Some(record.sent);
                        break;
                    }
                    record.state = State::Lost;
                    self.outstanding -= 1;
                    self.eliciting -= usize::from(record.flags.has(Flags::ELICITING));
                    if record.flags.has(Flags::COUNTED) {
                        self.in_flight -= u64::from(record.size);
                    }
                    if !record.flags.has(Flags::REPEATED) {
                        for token in self.tokens.range(record.token_range(self.token_base)) {
                            sink.settle(*token, false);
                        }
                    }
                    tell(&record.seen(seq), acked_between);
                    record.size = 0;
                    acked_between = false;
                }
            }
        }
        self.pop_settled();
        oldest_left
    }

    /// Gives out the tokens of the oldest `packets` outstanding packets as lost, although they may still arrive
    /// (REC-4).
    pub(super) fn repeat_oldest(&mut self, packets: usize, sink: &mut Sink<'_>) {
        let repeatable = |r: &&mut Record| {
            r.state == State::Outstanding
                && r.flags.has(Flags::ELICITING)
                && !r.flags.has(Flags::REPEATED)
                && !r.flags.has(Flags::MTU_PROBE)
        };
        for record in self.records.iter_mut().filter(repeatable).take(packets) {
            record.flags = record.flags.with(Flags::REPEATED, true);
            for token in self.tokens.range(record.token_range(self.token_base)) {
                sink.settle(*token, false);
            }
        }
    }

    /// Gives out all tokens as lost: the channel is given up.
    pub(super) fn abandon(&mut self, sink: &mut Sink<'_>) {
        self.repeat_oldest(usize::MAX, sink);
        self.base = self.next();
        *self = Self {
            base: self.base,
            largest_acked: self.largest_acked,
            was_there: self.was_there,
            ..Self::default()
        };
    }

    /// Nothing that is outstanding counts for congestion control any more: it travels on another path.
    pub(super) fn uncount(&mut self) {
        for record in &mut self.records {
            record.flags = record.flags.without(Flags::COUNTED);
        }
        self.in_flight = 0;
    }

    /// Gives memory back that a busy time needed.
    pub(super) fn shrink(&mut self) {
        self.records.shrink_to_fit();
        self.tokens.shrink_to_fit();
    }
}

fn settle(tokens: &VecDeque<Token>, range: &Range<usize>, sink: &mut Sink<'_>) {
    for token in tokens.range(range.clone()) {
        sink.settle(*token, true);
    }
}

impl Record {
    /// Returns where its tokens are in the ring whose first token is at `token_base`.
    fn token_range(&self, token_base: u32) -> Range<usize> {
        let start = self.first_token.wrapping_sub(token_base) as usize;
        start..start + usize::from(self.tokens)
    }

    fn seen(&self, seq: u64) -> SentPacket {
        SentPacket {
            seq,
            sent: self.sent,
            size: self.size,
            flags: self.flags,
        }
    }
}

#[cfg(test)]
impl SentRing {
    /// Records and tokens for which there is room.
    pub(super) fn room(&self) -> usize {
        self.records.capacity() + self.tokens.capacity()
    }
}

#[cfg(test)]
mod tests;
