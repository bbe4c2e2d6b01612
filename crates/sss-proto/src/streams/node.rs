//! One stream: what is kept as long as it lives. An idle stream has nothing but this.

use std::sync::Arc;

use super::budget::Budget;
use super::credit::Account;
use super::datagrams::Mailbox;
use super::delivery::Lost;
use super::family::Kin;
use super::frames::delivery::{Delivery, Item};
use super::life::cause::{Cause, Direction, Ends};
use super::listen::Listen;
use super::names::Names;
use super::queue::KeyQueue;
use super::recv::RecvBuf;
use super::schedule::Slot;
use super::send::SendBuf;
use super::state::{RecvState, SendState};
use super::watch::Watch;
use crate::interest::Interest;

/// The root's slot.
pub(super) const ROOT: u32 = 0;
/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// A stream with more children than this keeps what few streams have.
const MANY_CHILDREN: u32 = 32;

/// A stream of the tree.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) status: Status,
    pub(super) sched: Sched,
    pub(super) ordinal: u64,
    /// Names of a top-level stream.
    pub(super) names: Option<Arc<Names>>,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    pub(super) account: Option<Box<Account>>,
    pub(super) rare: Option<Box<Rare>>,
}

/// Who opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Opener {
    Own,
    Peer,
}

/// Where a stream is in the tree.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: u32,
    pub(super) kin: Kin,
    /// Set by the table.
    pub(super) generation: u32,
    pub(super) depth: u8,
    pub(super) opener: Opener,
    /// The level at which its subtree competes with its siblings.
    pub(super) level: i8,
    /// How many levels above its parent the stream is that was charged for opening it.
    pub(super) lender: u8,
}

/// The states of both directions, and everything that is yes or no.
#[derive(Debug)]
pub(super) struct Status {
    /// The flags, of which there are 48 at most, in what the states leave of eight bytes.
    low: u32,
    high: u16,
    pub(super) send: SendState,
    pub(super) recv: RecvState,
}

impl Status {
    fn flags(&self) -> Flags {
        Flags(u64::from(self.high) << 32 | u64::from(self.low))
    }

    fn set_flags(&mut self, Flags(bits): Flags) {
        self.low = bits as u32;
        self.high = (bits >> 32) as u16;
    }
}

/// What the scheduler knows of a stream.
#[derive(Debug)]
pub(super) struct Sched {
    /// The entry of the chain that it is on, while there is something to send there or below.
    pub(super) slot: Slot,
    /// Its rings, while several compete there.
    pub(super) below: Slot,
}

/// The sending direction.
#[derive(Debug)]
pub(super) struct SendHalf {
    /// Highest offset sent.
    pub(super) sent: u64,
    /// What the peer grants.
    pub(super) limit: u64,
    /// Only while there is something to be sent or acknowledged.
    pub(super) buf: Option<Box<SendBuf>>,
}

impl SendHalf {
    /// Offset behind the last byte written.
    pub(super) fn end(&self) -> u64 {
        self.buf.as_ref().map_or(self.sent, |b| b.end())
    }

    /// Bytes written and never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.end() - self.sent
    }

    /// Bytes written and not acknowledged.
    pub(super) fn unacked(&self) -> u64 {
        self.buf.as_ref().map_or(0, |b| b.len())
    }

    /// Offset up to which everything is acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.buf.as_ref().map_or(self.sent, |b| b.acked())
    }

    pub(super) fn is_acked(&self) -> bool {
        self.buf.as_ref().is_none_or(|b| b.is_acked())
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(super) struct RecvHalf {
    /// Highest offset received; the final size once it is known.
    pub(super) received: u64,
    /// Offset up to which bytes were read or discarded.
    pub(super) read: u64,
    /// What the peer was granted.
    pub(super) limit: u64,
    /// Only while there is something to be read or missing.
    pub(super) buf: Option<Box<RecvBuf>>,
}

impl RecvHalf {
    /// Bytes received, or skipped by a RESET, and not read.
    pub(super) fn unread(&self) -> u64 {
        self.received - self.read
    }

    /// The first byte that is missing.
    pub(super) fn next(&self) -> u64 {
        self.buf.as_ref().map_or(self.read, |b| b.next())
    }
}

/// What few streams have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Children announced by the peer and not accepted.
    pub(super) backlog: KeyQueue,
    /// How the directions ended.
    pub(super) ends: Ends,
    pub(super) listen: Listen,
    /// Streams below that were not delivered, and that nobody held.
    pub(super) lost: Option<Box<Lost>>,
    /// Whether the peer's application has read what this host sends.
    pub(super) watch: Watch,
    pub(super) requests: Requests,
    /// Limits the windows of the stream and those below.
    pub(super) budget: Option<Budget>,
    /// Datagrams that wait here, or wait to be sent.
    mailbox: Option<Box<Mailbox>>,
}

impl Rare {
    pub(super) fn mailbox_mut(&mut self) -> &mut Mailbox {
        self.mailbox.get_or_insert_default()
    }

    #[cfg(test)]
    pub(super) fn mailbox_ref(&self) -> Option<&Mailbox> {
        self.mailbox.as_deref()
    }

    /// Whether nothing of it differs from what a stream begins with.
    fn is_unused(&self) -> bool {
        let queues = self.backlog.is_empty() && self.listen.is_unused();
        let levels = self.requests.asked.is_none() && self.requests.answered.is_none();
        let deliveries = self.lost.is_none() && self.watch.is_unused() && self.mailbox.is_none();
        queues && self.ends.is_unused() && levels && deliveries && self.budget.is_none()
    }
}

/// Requests for another level.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// What was asked of the peer last with PRIORITY.
    pub(super) asked: Option<Asked>,
    /// The highest serial of PRIORITY from the peer.
    pub(super) answered: Option<u64>,
}

/// A request for another level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) level: i8,
    pub(super) serial: u64,
    pub(super) delivery: Delivery,
}

impl Node {
    /// A stream without data.
    pub(super) fn new(parent: u32, depth: u8, opener: Opener, names: Option<Arc<Names>>) -> Self {
        Self {
            place: Place {
                parent,
                kin: Kin::ALONE,
                generation: 0,
                depth,
                opener,
                level: 0,
                lender: 0,
            },
            status: Status {
                low: 0,
                high: 0,
                send: SendState::Open,
                recv: RecvState::Open,
            },
            sched: Sched {
                slot: Slot::NONE,
                below: Slot::NONE,
            },
            ordinal: 0,
            names,
            send: SendHalf {
                sent: 0,
                limit: 0,
                buf: None,
            },
            recv: RecvHalf {
                received: 0,
                read: 0,
                limit: 0,
                buf: None,
            },
            account: None,
            rare: None,
        }
    }

    pub(super) fn has(&self, flag: Flags) -> bool {
        self.status.flags().has(flag)
    }

    pub(super) fn set(&mut self, flag: Flags) {
        self.status.set_flags(self.status.flags().with(flag));
    }

    pub(super) fn clear(&mut self, flag: Flags) {
        self.status.set_flags(Flags(self.status.flags().0 & !flag.0));
    }

    /// Clears a flag; returns whether it was set.
    pub(super) fn take(&mut self, flag: Flags) -> bool {
        let was = self.has(flag);
        self.clear(flag);
        was
    }

    /// How far something has come that the peer must be told.
    pub(super) fn delivery(&self, item: Item) -> Delivery {
        let rare = self.rare.as_ref();
        match item {
            Item::Watch => rare.map_or(Delivery::Idle, |r| r.watch.delivery),
            Item::Priority => rare
                .and_then(|r| r.requests.asked)
                .map_or(Delivery::Idle, |a| a.delivery),
            _ => Delivery::from_bits(self.status.flags().0 >> Flags::delivery_shift(item)),
        }
    }

    pub(super) fn set_delivery(&mut self, item: Item, delivery: Delivery) {
        match item {
            Item::Watch => self.rare_mut().watch.delivery = delivery,
            Item::Priority => {
                if let Some(asked) = &mut self.rare_mut().requests.asked {
                    asked.delivery = delivery;
                }
            }
            _ => {
                let shift = Flags::delivery_shift(item);
                let others = self.status.flags().0 & !(3 << shift);
                self.status.set_flags(Flags(others | delivery.bits() << shift));
            }
        }
    }

    /// What ended a direction early.
    pub(super) fn cause(&self, direction: Direction) -> Cause {
        Cause::from_bits(self.status.flags().0 >> Flags::cause_shift(direction))
    }

    pub(super) fn set_cause(&mut self, direction: Direction, cause: Cause) {
        let shift = Flags::cause_shift(direction);
        let others = self.status.flags().0 & !(7 << shift);
        self.status.set_flags(Flags(others | cause.bits() << shift));
    }

    /// Whether something is to be sent, for the first time or again.
    pub(super) fn is_due(&self, item: Item) -> bool {
        self.delivery(item) == Delivery::Due
    }

    /// Whether the peer is known to know the stream: its INIT has arrived.
    pub(super) fn is_known(&self) -> bool {
        self.delivery(Item::Init) == Delivery::Acked
    }

    /// A packet with it was acknowledged; `is_latest` tells whether it had the latest value.
    pub(super) fn on_acked(&mut self, item: Item, is_latest: bool) {
        self.set_delivery(item, self.delivery(item).after_acked(is_latest));
    }

    /// A packet with it was lost, whose value is always the latest.
    pub(super) fn on_lost(&mut self, item: Item) {
        self.set_delivery(item, self.delivery(item).after_lost(true));
    }

    /// Limits the windows of the stream and those below.
    pub(super) fn budget(&self) -> Option<Budget> {
        self.rare.as_ref().and_then(|r| r.budget)
    }

    /// Gives back what few streams have, if nothing of it is in use. A stream with many children keeps it: it may soon
    /// need it again, and beside its children it is little.
    pub(super) fn give_back_rare(&mut self) {
        let is_unused = self.rare.as_ref().is_some_and(|r| r.is_unused());
        if is_unused && self.children() <= MANY_CHILDREN {
            self.rare = None;
        }
    }

    /// What it has of datagrams, if it ever had any.
    pub(super) fn mailbox(&mut self) -> Option<&mut Mailbox> {
        self.rare.as_mut()?.mailbox.as_deref_mut()
    }

    /// Whether datagrams of this host on the stream went without state, and are not known to have arrived or to be
    /// lost.
    pub(super) fn has_datagrams_flying(&self) -> bool {
        let mailbox = self.rare.as_ref().and_then(|r| r.mailbox.as_ref());
        mailbox.is_some_and(|m| m.is_flying())
    }

    /// What the application waits for.
    pub(super) fn interests(&self) -> impl Iterator<Item = Interest> + use<> {
        let flags = self.status.flags();
        let waits = flags.0 & Flags::all_interests().0 != 0;
        let all = if waits { &Interest::ALL[..] } else { &[] };
        all.iter().copied().filter(move |i| flags.has(Flags::waits_for(*i)))
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether all that there is was sent, the end included, and nothing of it is known to be lost.
    pub(super) fn is_all_sent(&self) -> bool {
        let is_lost = self.send.buf.as_ref().is_some_and(|b| b.next_lost().is_some());
        self.has(Flags::ANNOUNCED) && self.send.unsent() == 0 && !self.is_due(Item::Fin) && !is_lost
    }

    /// Whether a new frame has something to carry: what was lost, INIT, FIN, or new data that does not wait for credit.
    pub(super) fn is_sendable(&self) -> bool {
        let waits = self.has(Flags::WAITING);
        if !self.has(Flags::ANNOUNCED) {
            return !waits && !self.has(Flags::TREE_RESET);
        }
        if self.is_due(Item::Init) {
            return true;
        }
        let unsent = self.send.unsent();
        self.status.send.carries_data()
            && (self.send.buf.as_ref().is_some_and(|b| b.next_lost().is_some())
                || (unsent > 0 && !waits)
                || (unsent == 0 && self.is_due(Item::Fin)))
    }
}

/// A set of properties of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u64);

/// Declares the properties, one bit each.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub(super) const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    /// The application has a handle to it.
    HELD = 0;
    /// It waits to be accepted.
    UNACCEPTED = 1;
    /// INIT was sent at least once, or received: it has an LSID and OPEN_COST was charged.
    ANNOUNCED = 2;
    /// The peer keeps nothing of it: nothing of it is charged to its ancestors.
    DETACHED = 3;
    /// The peer has retired it.
    PEER_GONE = 4;
    /// It has something to send.
    ACTIVE = 5;
    /// It waits for its limit to be raised, or for room to be opened.
    WAITING = 6;
    /// It waited to be opened, and has its turn.
    WOKEN = 7;
    /// It is a datagram: a stream of kind 2.
    DATAGRAM = 8;
    /// It was reset together with a stream above, or with those below.
    TREE_RESET = 9;
    /// The peer wants to be told when the receiving direction was read to its end.
    WATCHED = 10;
    /// The peer wants to be told when nothing more can come from this host on the stream.
    AWAITED = 11;
    /// The peer opens and sends nothing more on the stream.
    PEER_RELEASED = 12;
    /// This host opened it, and the peer is not known to have accepted or refused it.
    UNHEARD = 13;
    /// This host opened it, and the peer's application is not known to have held it.
    UNHELD = 14;
    /// The peer opened it, and the lender has not got back what that cost.
    CHARGED = 15;
    /// It was accepted, and the peer was told nothing of it since.
    UNTOLD = 16;
    /// Its first window is more than the smallest, and counted as that of a new stream.
    BORN = 17;
    /// It is in the queue of RESET and STOP.
    IN_ENDS = 18;
}

// They are kept in 48 bits.
const _: () = assert!(Flags::all_interests().0 < 1 << 48, "too many flags");

impl Flags {
    /// The first of the bits that tell how far what the peer must be told has come, two for each.
    const DELIVERIES: u8 = 19;
    /// The first of the bits that tell what ended the directions early, three for each.
    const CAUSES: u8 = Self::DELIVERIES + 2 * Item::IN_NODE;
    /// The first of the bits that tell what the application waits for.
    const INTERESTS: u8 = Self::CAUSES + 6;

    /// Where the two bits of an item begin.
    const fn delivery_shift(item: Item) -> u8 {
        Self::DELIVERIES + 2 * item as u8
    }

    /// Where the three bits of a cause begin.
    const fn cause_shift(direction: Direction) -> u8 {
        Self::CAUSES + 3 * direction as u8
    }

    /// The application waits for it.
    pub(super) const fn waits_for(interest: Interest) -> Self {
        Self(1 << (Self::INTERESTS + interest as u8))
    }

    /// Everything that the application can wait for.
    pub(super) const fn all_interests() -> Self {
        Self(((1 << Interest::ALL.len()) - 1) << Self::INTERESTS)
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
