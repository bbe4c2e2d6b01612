//! One stream: what is kept as long as it lives. An idle stream has nothing but this.

use std::sync::Arc;

use super::ends::{Cause, Direction, Ending};
use super::extras::Extras;
use crate::ids::StreamKey;
use crate::interest::Interest;
use crate::padding::Padding;
use crate::streams::data::half::{RecvHalf, SendHalf};
use crate::streams::flow::account::Account;
use crate::streams::frames::delivery::{Delivery, Item};
use crate::streams::life::state::{RecvInput, RecvState, SendInput, SendState};
use crate::streams::messages::mailbox::Mailbox;
use crate::streams::schedule::Slot;
use crate::streams::tree::family::Siblings;
use crate::streams::tree::names::Names;

/// A stream with more children than this keeps what few streams have.
const MANY_CHILDREN: u32 = 32;

/// A stream of the tree.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) status: Status,
    pub(crate) sched: Sched,
    pub(crate) ordinal: u64,
    /// Names of a top-level stream.
    pub(crate) names: Option<Arc<Names>>,
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    pub(crate) account: Option<Box<Account>>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// A top-level stream that the peer opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) key: StreamKey,
    pub(crate) service: Vec<u8>,
    pub(crate) protocol: Vec<u8>,
}

impl Incoming {
    /// A stream by its names.
    pub(in crate::streams) fn of(key: StreamKey, node: &Node) -> Option<Self> {
        let names = node.names.as_deref()?;
        Some(Self {
            key,
            service: names.service().to_vec(),
            protocol: names.protocol().to_vec(),
        })
    }
}

/// Opener of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Opener {
    Own,
    Peer,
}

/// Place of a stream in the tree.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) parent: u32,
    pub(crate) siblings: Siblings,
    /// Set by the table.
    pub(crate) generation: u32,
    pub(crate) depth: u8,
    pub(crate) opener: Opener,
    /// The level at which its subtree competes with its siblings.
    pub(crate) level: i8,
    /// The number of levels above its parent the stream is that was charged for opening it.
    pub(crate) lender: u8,
}

/// The states of both directions, and everything that is yes or no.
#[derive(Debug)]
pub(crate) struct Status {
    /// The flags, of which there are 48 at most, in what the states leave of eight bytes.
    low: u32,
    high: u16,
    pub(crate) send: SendState,
    pub(crate) recv: RecvState,
}

impl Status {
    #[inline]
    fn flags(&self) -> Flags {
        Flags(u64::from(self.high) << 32 | u64::from(self.low))
    }

    #[inline]
    fn set_flags(&mut self, Flags(bits): Flags) {
        self.low = bits as u32;
        self.high = (bits >> 32) as u16;
    }
}

/// State of a stream in the scheduler.
#[derive(Debug)]
pub(crate) struct Sched {
    /// The entry of the chain that it is on, while there is something to send there or below.
    pub(crate) slot: Slot,
    /// Its rings, while several compete there.
    pub(crate) below: Slot,
}

impl Node {
    /// A stream without data.
    pub(crate) fn new(parent: u32, depth: u8, opener: Opener, names: Option<Arc<Names>>) -> Self {
        Self {
            place: Place {
                parent,
                siblings: Siblings::ALONE,
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
            extras: None,
        }
    }

    /// A stream that the peer has opened, and so knows.
    pub(crate) fn of_peer(parent: u32, depth: u8, ordinal: u64, names: Option<Arc<Names>>) -> Self {
        let mut node = Self::new(parent, depth, Opener::Peer, names);
        node.ordinal = ordinal;
        node.set(Flags::ANNOUNCED);
        node.set_delivery(Item::Init, Delivery::Acked);
        node
    }

    #[inline]
    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.status.flags().has(flag)
    }

    #[inline]
    pub(crate) fn set(&mut self, flag: Flags) {
        self.status.set_flags(self.status.flags().with(flag));
    }

    #[inline]
    pub(crate) fn clear(&mut self, flag: Flags) {
        self.status.set_flags(Flags(self.status.flags().0 & !flag.0));
    }

    /// Clears a flag; returns whether it was set.
    #[inline]
    pub(crate) fn take(&mut self, flag: Flags) -> bool {
        let was = self.has(flag);
        self.clear(flag);
        was
    }

    /// Returns how far something has come that the peer must be told.
    #[inline]
    pub(crate) fn delivery(&self, item: Item) -> Delivery {
        let extras = self.extras.as_ref();
        match item {
            Item::Watch => extras.map_or(Delivery::Idle, |r| r.watch.delivery),
            Item::Priority => extras
                .and_then(|r| r.requests.asked)
                .map_or(Delivery::Idle, |a| a.delivery),
            _ => Delivery::from_bits(self.status.flags().0 >> Flags::delivery_shift(item)),
        }
    }

    #[inline]
    pub(crate) fn set_delivery(&mut self, item: Item, delivery: Delivery) {
        match item {
            Item::Watch => self.extras_mut().watch.delivery = delivery,
            Item::Priority => {
                if let Some(asked) = &mut self.extras_mut().requests.asked {
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

    /// A direction has ended early. `ending` is what is to be remembered beyond the cause.
    #[inline]
    pub(crate) fn end(&mut self, direction: Direction, cause: Cause, ending: Option<Ending>) {
        self.set_cause(direction, cause);
        if ending.is_some() {
            let ends = &mut self.extras_mut().ends;
            match direction {
                Direction::Sending => ends.sending = ending,
                Direction::Receiving => ends.receiving = ending,
            }
        }
    }

    /// Returns what ended a direction early.
    #[inline]
    pub(crate) fn cause(&self, direction: Direction) -> Cause {
        Cause::from_bits(self.status.flags().0 >> Flags::cause_shift(direction))
    }

    #[inline]
    pub(crate) fn set_cause(&mut self, direction: Direction, cause: Cause) {
        let shift = Flags::cause_shift(direction);
        let others = self.status.flags().0 & !(7 << shift);
        self.status.set_flags(Flags(others | cause.bits() << shift));
    }

    /// Returns whether something is to be sent, for the first time or again.
    #[inline]
    pub(crate) fn is_due(&self, item: Item) -> bool {
        self.delivery(item) == Delivery::Due
    }

    /// Returns whether the peer is known to know the stream: its INIT has arrived.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.delivery(Item::Init) == Delivery::Acked
    }

    /// Padding of packets with something of it.
    #[inline]
    pub(crate) fn padding(&self) -> Padding {
        self.extras.as_ref().map_or(Padding::None, |extras| extras.padding)
    }

    pub(crate) fn set_padding(&mut self, padding: Padding) {
        if padding != self.padding() {
            self.extras_mut().padding = padding;
        }
    }

    /// A packet with it was acknowledged; `is_latest` tells whether it had the latest value.
    #[inline]
    pub(crate) fn on_acked(&mut self, item: Item, is_latest: bool) {
        self.set_delivery(item, self.delivery(item).after_acked(is_latest));
    }

    /// A packet with it was lost, whose value is always the latest.
    #[inline]
    pub(crate) fn on_lost(&mut self, item: Item) {
        self.set_delivery(item, self.delivery(item).after_lost(true));
    }

    /// Gives back what few streams have, if nothing of it is in use. A stream with many children keeps it: it may soon
    /// need it again, and beside its children it is little.
    pub(crate) fn give_back_extras(&mut self) {
        let is_unused = self.extras.as_ref().is_some_and(|r| r.is_unused());
        if is_unused && self.children() <= MANY_CHILDREN {
            self.extras = None;
        }
    }

    /// Returns what it has of datagrams, if it ever had any.
    pub(crate) fn mailbox(&mut self) -> Option<&mut Mailbox> {
        self.extras.as_mut()?.mailbox.as_deref_mut()
    }

    /// Bytes of datagrams of this host on the stream that are no nodes of the tree yet (STR-81).
    pub(crate) fn bytes_in_line(&self) -> u64 {
        let mailbox = self.extras.as_ref().and_then(|extras| extras.mailbox.as_ref());
        mailbox.map_or(0, |mailbox| mailbox.lines.bytes())
    }

    /// Returns whether datagrams of this host on the stream went without state, and are not known to have arrived or to
    /// be lost.
    pub(crate) fn has_datagrams_flying(&self) -> bool {
        let mailbox = self.extras.as_ref().and_then(|r| r.mailbox.as_ref());
        mailbox.is_some_and(|m| m.is_flying())
    }

    /// Changes the state of the sending direction. Returns whether that changed something.
    #[inline]
    pub(crate) fn advance_send(&mut self, input: SendInput) -> bool {
        let after = self.status.send.after(input);
        self.status.send = after.unwrap_or(self.status.send);
        after.is_some()
    }

    /// Changes the state of the receiving direction. Returns whether that changed something.
    #[inline]
    pub(crate) fn advance_recv(&mut self, input: RecvInput) -> bool {
        let after = self.status.recv.after(input);
        self.status.recv = after.unwrap_or(self.status.recv);
        after.is_some()
    }

    /// Returns whether it is a datagram: a stream of kind 2.
    #[inline]
    pub(crate) fn is_datagram(&self) -> bool {
        self.has(Flags::DATAGRAM)
    }

    pub(crate) fn account_mut(&mut self) -> &mut Account {
        self.account.get_or_insert_default()
    }

    /// Children that are not retired.
    #[inline]
    pub(crate) fn children(&self) -> u32 {
        self.account.as_ref().map_or(0, |a| a.children)
    }

    /// Returns whether the application holds it, or may yet.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.has(Flags::HELD) || self.has(Flags::UNACCEPTED)
    }

    /// Returns whether the application has finished the sending direction.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.send, SendState::Finishing | SendState::Done)
    }

    /// Returns what the application waits for.
    #[inline]
    pub(crate) fn interests(&self) -> impl Iterator<Item = Interest> + use<> {
        let flags = self.status.flags();
        let waits = flags.0 & Flags::all_interests().0 != 0;
        let all = if waits { &Interest::ALL[..] } else { &[] };
        all.iter().copied().filter(move |i| flags.has(Flags::waits_for(*i)))
    }

    pub(crate) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Returns whether all that there is was sent, the end included, and nothing of it is known to be lost.
    pub(crate) fn is_all_sent(&self) -> bool {
        let is_lost = self.send.buf.as_ref().is_some_and(|b| b.next_lost().is_some());
        self.has(Flags::ANNOUNCED) && self.send.unsent() == 0 && !self.is_due(Item::Fin) && !is_lost
    }

    /// Returns whether a new frame has something to carry: what was lost, INIT, FIN, or new data that does not wait for
    /// credit.
    #[inline]
    pub(crate) fn is_sendable(&self) -> bool {
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
pub(crate) struct Flags(u64);

/// Declares the properties, one bit each.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub(crate) const $name: Self = Self(1 << $bit);)*
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

    /// Returns where the two bits of an item begin.
    #[inline]
    const fn delivery_shift(item: Item) -> u8 {
        Self::DELIVERIES + 2 * item as u8
    }

    /// Returns where the three bits of a cause begin.
    #[inline]
    const fn cause_shift(direction: Direction) -> u8 {
        Self::CAUSES + 3 * direction as u8
    }

    /// The application waits for it.
    #[inline]
    pub(crate) const fn waits_for(interest: Interest) -> Self {
        Self(1 << (Self::INTERESTS + interest as u8))
    }

    /// Everything that the application can wait for.
    #[inline]
    pub(crate) const fn all_interests() -> Self {
        Self(((1 << Interest::ALL.len()) - 1) << Self::INTERESTS)
    }

    #[inline]
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[inline]
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
