//! Frames other than STREAM and DATAGRAM that wait to be sent.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use sss_wire::Code;

use super::delivery::{Delivery, Item};
use super::questions::{Open, Questions};
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::rare::Rare;
use crate::streams::tree::node::{Flags, Node};
use crate::streams::tree::queue::KeyQueue;
use crate::streams::tree::table::Table;
use crate::token::Topic;

/// Refusals that are not acknowledged, at most. A peer that keeps to its credit cannot cause so many.
const MAX_REFUSALS: usize = 65_536;

/// Frames that are to be sent before any STREAM frame (FRM-2). It takes memory only while there is, or was of late,
/// something.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queues: Rare<Queues>,
    /// Questions without an answer: whether streams were read to their ends, and whether more can come on streams.
    watching: Open,
    awaiting: Open,
}

/// Contents of an outbox without memory.
static NOTHING: Queues = Queues::new();

/// Queues of what is to be sent, in the order in which it is.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) refusals: Refusals,
    /// Streams with RESET or STOP due. A stream is in it at most once.
    pub(crate) ends: KeyQueue,
    /// Questions whether streams were read to their ends, and answers.
    pub(crate) watches: Questions,
    /// Questions whether more can come on streams, and answers.
    pub(crate) awaits: Questions,
    pub(crate) open_credits: KeyQueue,
    pub(crate) credits: KeyQueue,
    pub(crate) priorities: KeyQueue,
}

impl Deref for Outbox {
    type Target = Queues;

    #[inline]
    fn deref(&self) -> &Queues {
        self.queues.get().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Outbox {
    #[inline]
    fn deref_mut(&mut self) -> &mut Queues {
        self.queues.make_with(Queues::new)
    }
}

impl Outbox {
    /// Returns whether there is nothing to be sent.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        let open = (self.watching, self.awaiting);
        self.queues.get().is_none_or(|queues| queues.is_idle(open))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives back its memory, if nothing is under way.
    pub(crate) fn rest(&mut self) {
        self.queues.rest(Queues::is_unused);
    }

    fn open(&self, topic: Topic) -> Open {
        match topic {
            Topic::Consumed => self.watching,
            Topic::Released => self.awaiting,
        }
    }

    /// The questions of a kind without an answer.
    pub(super) fn open_mut(&mut self, topic: Topic) -> &mut Open {
        match topic {
            Topic::Consumed => &mut self.watching,
            Topic::Released => &mut self.awaiting,
        }
    }

    /// The stream about which the next question of a kind is, if one more may be open.
    pub(super) fn next_question(&self, topic: Topic) -> Option<StreamKey> {
        self.asked(topic).next_question(self.open(topic))
    }

    /// A question, WATCH or AWAIT, is answered, or nobody wants to know any more. Another may be asked.
    #[inline]
    pub(crate) fn close(&mut self, table: &mut Table, index: u32, question: Item, now: Delivery) {
        let node = &mut table[index];
        let before = node.delivery(question);
        if before == now {
            return;
        }
        node.set_delivery(question, now);
        if before == Delivery::InFlight {
            match question {
                Item::Watch => self.watching.close(),
                _ => self.awaiting.close(),
            }
        }
    }
}

impl Queues {
    const fn new() -> Self {
        Self {
            refusals: Refusals(Rare::new()),
            ends: KeyQueue::new(),
            watches: Questions::new(),
            awaits: Questions::new(),
            open_credits: KeyQueue::new(),
            credits: KeyQueue::new(),
            priorities: KeyQueue::new(),
        }
    }

    fn is_unused(&self) -> bool {
        let queues = [&self.ends, &self.open_credits, &self.credits, &self.priorities];
        queues.into_iter().all(KeyQueue::is_empty)
            && self.watches.is_unused()
            && self.awaits.is_unused()
            && self.refusals.is_unused()
    }

    #[inline]
    fn is_idle(&self, (watching, awaiting): (Open, Open)) -> bool {
        self.ends.is_empty()
            && self.credits.is_empty()
            && self.priorities.is_empty()
            && self.refusals.is_idle()
            && self.open_credits.is_empty()
            && self.watches.is_idle(watching)
            && self.awaits.is_idle(awaiting)
    }

    /// Something about a stream is to be sent, for the first time, again, or with another value. It waits in the node
    /// until it may be sent.
    pub(crate) fn put(&mut self, table: &mut Table, index: u32, item: Item) {
        let node = &mut table[index];
        let was_due = node.is_due(item);
        node.set_delivery(item, Delivery::Due);
        if !was_due || matches!(item, Item::Reset | Item::Stop) {
            self.queue(table, index, item);
        }
    }

    /// The questions of a kind, and the answers, to look at.
    pub(super) fn asked(&self, topic: Topic) -> &Questions {
        match topic {
            Topic::Consumed => &self.watches,
            Topic::Released => &self.awaits,
        }
    }

    /// The questions of a kind, and the answers.
    pub(super) fn questions(&mut self, topic: Topic) -> &mut Questions {
        match topic {
            Topic::Consumed => &mut self.watches,
            Topic::Released => &mut self.awaits,
        }
    }

    /// Asks the peer with WATCH or AWAIT, unless it was asked and has not answered.
    pub(crate) fn ask(&mut self, table: &mut Table, index: u32, question: Item) {
        if !table[index].delivery(question).is_open() {
            self.put(table, index, question);
        }
    }

    /// The peer knows a stream: what waited for that can go (STR-8).
    pub(crate) fn on_known(&mut self, table: &mut Table, index: u32) {
        self.queue(table, index, Item::Stop);
        for item in [Item::Priority, Item::Credit, Item::OpenCredit, Item::Watch, Item::Await] {
            if table[index].is_due(item) {
                self.queue(table, index, item);
            }
        }
    }

    /// INIT of a stream is in the packet: RESET may follow it.
    pub(crate) fn on_announced(&mut self, table: &mut Table, index: u32) {
        self.queue(table, index, Item::Reset);
    }

    /// Queues what is due, unless it has to wait: RESET for the stream to be announced, everything else for the peer to
    /// know the stream (STR-8).
    fn queue(&mut self, table: &mut Table, index: u32, item: Item) {
        let key = table.key(index);
        let node = &mut table[index];
        match item {
            Item::Reset | Item::Stop if has_ripe_end(node) && !node.has(Flags::IN_ENDS) => node.set(Flags::IN_ENDS),
            // INIT and FIN are in STREAM frames.
            Item::Reset | Item::Stop | Item::Init | Item::Fin => return,
            _ if !node.is_known() => return,
            _ => {}
        }
        let queue = match item {
            Item::Watch => &mut self.watches.due,
            Item::Await => &mut self.awaits.due,
            Item::OpenCredit => &mut self.open_credits,
            Item::Credit => &mut self.credits,
            Item::Priority => &mut self.priorities,
            _ => &mut self.ends,
        };
        let matters = |index: u32| match item {
            Item::Reset | Item::Stop => table[index].has(Flags::IN_ENDS),
            _ => table[index].is_due(item),
        };
        queue.push(key, |k| table.find(k).is_some_and(matters));
    }
}

/// Returns whether RESET or STOP can be sent.
fn has_ripe_end(node: &Node) -> bool {
    (node.is_due(Item::Reset) && node.has(Flags::ANNOUNCED)) || (node.is_due(Item::Stop) && node.is_known())
}

/// Refusals of streams that are not kept (STR-7, STR-58).
#[derive(Debug, Default)]
pub(crate) struct Refusals(Rare<Refused>);

#[derive(Debug, Default)]
struct Refused {
    /// LSIDs of those to be sent, for the first time or again.
    due: VecDeque<u64>,
    /// By LSID, the codes of those that are not known to have arrived.
    open: BTreeMap<u64, Code>,
}

impl Refusals {
    /// Returns whether there is nothing to be sent.
    #[inline]
    fn is_idle(&self) -> bool {
        self.0.get().is_none_or(|refused| refused.due.is_empty())
    }

    /// Queues the refusal of a stream that is not kept.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn put(&mut self, lsid: u64, code: Code) -> Result<(), ProtocolError> {
        let refused = self.0.make();
        if refused.open.len() >= MAX_REFUSALS {
            return Err(ProtocolError::new(Code::LIMIT, "too many streams that cannot be kept"));
        }
        refused.due.push_back(lsid);
        refused.open.insert(lsid, code);
        Ok(())
    }

    /// The first that is due, and its code.
    pub(crate) fn front(&self) -> Option<(u64, Code)> {
        let Refused { due, open } = self.0.get()?;
        let lsid = *due.front()?;
        let code = open.get(&lsid).copied().unwrap_or(Code::PARENT_GONE);
        Some((lsid, code))
    }

    /// The first was sent.
    pub(crate) fn pop(&mut self) {
        if let Some(refused) = self.0.get_mut() {
            refused.due.pop_front();
        }
    }

    /// Returns whether the refusal of a stream may not have arrived.
    pub(crate) fn is_open(&self, lsid: u64) -> bool {
        self.0.get().is_some_and(|refused| refused.open.contains_key(&lsid))
    }

    pub(crate) fn on_acked(&mut self, lsid: u64) {
        if let Some(refused) = self.0.get_mut() {
            refused.open.remove(&lsid);
        }
    }

    pub(crate) fn on_lost(&mut self, lsid: u64) {
        self.0.make().due.push_back(lsid);
    }

    /// Returns whether nothing is under way either.
    fn is_unused(&self) -> bool {
        let is_empty = |Refused { due, open }: &Refused| due.is_empty() && open.is_empty();
        self.0.get().is_none_or(is_empty)
    }
}

#[cfg(test)]
impl Outbox {
    /// Returns how much of what it takes a rest may give back.
    pub(crate) fn spare(&self) -> usize {
        usize::from(self.queues.get().is_some())
    }

    /// Returns how many questions of a kind are open.
    pub(crate) fn open_count(&self, topic: Topic) -> usize {
        self.open(topic).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outbox to which something was done, after a rest: whether it takes memory.
    fn rested(change: impl FnOnce(&mut Outbox)) -> (Outbox, bool) {
        let mut outbox = Outbox::default();
        change(&mut outbox);
        outbox.rest();
        let takes = outbox.queues.get().is_some();
        (outbox, takes)
    }

    #[test]
    fn an_outbox_keeps_what_is_under_way_and_nothing_else() {
        let key = StreamKey {
            index: 1,
            generation: 1,
        };
        let (outbox, takes) = rested(|outbox| outbox.refusals.put(9, Code::TOO_DEEP).unwrap());
        assert!(takes && outbox.refusals.front() == Some((9, Code::TOO_DEEP)));
        let sent = |outbox: &mut Outbox| {
            outbox.refusals.put(9, Code::TOO_DEEP).unwrap();
            outbox.refusals.pop();
        };
        let (mut outbox, takes) = rested(sent);
        assert!(takes && outbox.refusals.is_open(9));
        outbox.refusals.on_acked(9);
        outbox.rest();
        assert!(outbox.queues.get().is_none() && outbox.is_idle());
        let queues: [fn(&mut Queues) -> &mut KeyQueue; 6] = [
            |q| &mut q.ends,
            |q| &mut q.open_credits,
            |q| &mut q.credits,
            |q| &mut q.priorities,
            |q| &mut q.watches.due,
            |q| &mut q.awaits.due,
        ];
        for (n, queue) in queues.into_iter().enumerate() {
            let (mut outbox, takes) = rested(|outbox| queue(outbox).push(key, |_| true));
            assert!(takes && queue(&mut outbox).front() == Some(key), "{n}");
            queue(&mut outbox).pop();
            outbox.rest();
            assert!(outbox.queues.get().is_none(), "{n}");
        }
        for topic in [Topic::Consumed, Topic::Released] {
            let (mut outbox, takes) = rested(|outbox| outbox.open_mut(topic).note_asked());
            assert_eq!((takes, outbox.open_count(topic)), (false, 1));
            outbox.open_mut(topic).close();
            assert_eq!(outbox.open_count(topic), 0);
        }
        let questions: [fn(&mut Queues) -> &mut Questions; 2] = [|q| &mut q.watches, |q| &mut q.awaits];
        for questions in questions {
            let (mut outbox, takes) = rested(|outbox| questions(outbox).answer(4));
            assert!(takes && questions(&mut outbox).answers() == 1);
            questions(&mut outbox).pop_answer();
            outbox.rest();
            assert!(outbox.queues.get().is_none());
        }
    }

    // Threat 31: a peer opens streams that are refused, and acknowledges nothing.
    #[test]
    fn threat_31_refusals_that_nobody_acknowledges_are_bounded() {
        let mut refusals = Refusals::default();
        for lsid in 0..MAX_REFUSALS as u64 {
            assert_eq!(refusals.put(lsid, Code::TOO_DEEP), Ok(()));
            refusals.pop();
        }
        let error = refusals.put(1 << 40, Code::TOO_DEEP).unwrap_err();
        assert_eq!(error.code, Code::LIMIT);
        let Refused { due, open } = refusals.0.get().unwrap();
        assert_eq!((open.len(), due.len()), (MAX_REFUSALS, 0));
        refusals.on_acked(7);
        assert_eq!(refusals.put(1 << 40, Code::TOO_DEEP), Ok(()));
    }
}
