//! The tree of streams that a host shares with one peer (docs/spec/streams.md).
//!
//! [`Streams`] knows no channel, no address, no socket and no clock. What it is made of:
//!
//! - [`table`], [`node`] and [`family`]: the streams, and the lists of children; an idle stream is its node and an
//!   entry in [`attachment`], which maps LSIDs;
//! - [`state`]: the states of both directions; [`send`], [`recv`], [`reassembly`]: their bytes, while there are any;
//! - [`records`]: what the application does with records; [`marks`]: the marks that wait for a reader;
//! - [`progress`]: how far what was written has come;
//! - [`credit`], [`windows`] and [`budget`]: what may be sent, and what the peer may send; [`openings`], [`backing`]
//!   and [`openers`]: what may wait to be accepted;
//! - [`datagrams`]: messages of any size on a stream;
//! - `frames::questions`: what one host asks the other about a stream: [`watch`], whether it was read; [`released`],
//!   whether more can come;
//! - [`info`]: what can be asked about them; [`waits`]: what a stream waits for;
//! - [`schedule`]: whose turn it is, by the levels of [`priority`]; [`frames`]: what goes before data;
//! - [`listen`]: which children of the peer may wait to be accepted; [`answer`]: those that the host answers itself.
//!
//! ```text
//!  [app]  open, write, read ..        [up]  STREAM, RESET, STOP, CREDIT, PRIORITY, DATAGRAM
//!      \                              /
//!       +---> streams of the tree <--+----> next_event, take_incoming
//!      /                              \
//!  [down] fill a packet                 [fate] packet acknowledged or lost, channel ended
//! ```
//!
//! Going down, `fill` fills a packet in the order of FRM-2: refusals, RESET and STOP, CREDIT, PRIORITY, then STREAM in
//! scheduler order, and remembers a [`Token`](crate::token::Token) for each frame. A stream that has something to send
//! is known to the scheduler; one that waits for credit is not: if it waits to be opened, it is in a list of the stream
//! that would be charged.
//!
//! Events follow only after an operation answered "not yet".

mod answer;
mod app;
mod attachment;
mod backing;
mod budget;
mod credit;
mod datagrams;
mod delivery;
mod down;
mod family;
mod fate;
mod frames;
mod info;
mod life;
mod listen;
mod marks;
mod names;
mod node;
mod opened;
mod openers;
mod openings;
mod pool;
mod priority;
mod progress;
mod queue;
mod ranges;
mod reassembly;
mod records;
mod recv;
mod released;
mod retire;
mod schedule;
mod send;
mod state;
mod subtree;
mod table;
mod up;
mod waits;
mod watch;
mod windows;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use sss_wire::Code;
use sss_wire::constants::MIN_ROOT_CREDIT;

pub use app::ReadOutcome;
pub(crate) use budget::HostBudget;
pub use datagrams::{DatagramOptions, DatagramStats};
pub use delivery::SubtreeDelivery;
pub use info::{StreamInfo, SubtreeInfo, TreeNode};
pub use listen::ListenMode;
pub use state::{RecvState, SendState};
pub use waits::{AcceptedBy, OpeningRoom, Waits};

use crate::config::WindowConfig;
use crate::error::{CloseReason, ProtocolError};
use crate::ids::{DatagramId, StreamKey};
use crate::interest::Interest;
use crate::io::DatagramFate;
use crate::role::Role;
use attachment::Attachment;
use backing::Backing;
use datagrams::Datagrams;
use frames::delivery::{Delivery, Item};
use frames::outbox::Outbox;
use names::NameCache;
use node::{Flags, NONE, Node, Opener};
use pool::Pool;
use schedule::Scheduler;
use send::SendBuf;
use subtree::Walks;
use table::Table;
use windows::Windows;

/// What a tree is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamsConfig {
    /// Limits of receive windows.
    pub(crate) window: WindowConfig,
    /// Seeds the map of LSIDs, so that a peer cannot choose colliding ones.
    pub(crate) seed: u64,
}

/// Something to be told to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEvent {
    /// What was waited for has come, or never will.
    Ready(StreamKey, Interest),
    /// What became of a datagram.
    DatagramSettled(DatagramId, DatagramFate),
}

/// The streams of one peer.
#[derive(Debug)]
pub(crate) struct Streams {
    table: Table,
    attachment: Attachment,
    scheduler: Scheduler,
    outbox: Outbox,
    walks: Walks,
    windows: Windows,
    datagrams: Datagrams,
    names: NameCache,
    pool: Pool,
    app: Waiting,
    /// Streams whose INIT is in the packet being written.
    announced: Vec<u32>,
    /// Why the channel ended.
    failed: Option<CloseReason>,
}

/// What waits for the application.
#[derive(Debug, Default)]
struct Waiting {
    /// Top-level streams that the peer opened.
    incoming: VecDeque<StreamKey>,
    events: VecDeque<StreamEvent>,
    /// Streams that the application holds.
    held: usize,
    /// Streams that say what happens to their children.
    modes: usize,
    /// Streams that the host answered itself, not all of which are retired.
    answers: Vec<StreamKey>,
}

impl Streams {
    /// A tree of nothing but the root.
    pub(crate) fn new(config: StreamsConfig) -> Self {
        let windows = Windows::new(config.window);
        let mut root = Node::new(NONE, 0, Opener::Own, None);
        root.set(Flags::HELD.with(Flags::ANNOUNCED));
        root.set_delivery(Item::Init, Delivery::Acked);
        root.account_mut().lent.set_limit(MIN_ROOT_CREDIT);
        root.account_mut().backing = Backing::with_window(windows.root());
        let mut table = Table::default();
        table.insert(root);
        let datagrams = Datagrams::new(&config.window, config.seed);
        Self {
            table,
            datagrams,
            attachment: Attachment::new(config.seed),
            scheduler: Scheduler::default(),
            outbox: Outbox::default(),
            walks: Walks::default(),
            windows,
            names: NameCache::default(),
            pool: Pool::default(),
            app: Waiting::default(),
            announced: Vec::new(),
            failed: None,
        }
    }

    /// This host's role on the channel, from which LSIDs follow. Until it is set, nothing is sent. It may change as
    /// long as no frame has arrived from the peer (NEG-18).
    pub(crate) fn set_role(&mut self, role: Role) {
        self.attachment.set_role(role);
    }

    /// The peer's SETTINGS.
    ///
    /// # Errors
    /// If `root_credit` is too small.
    pub(crate) fn set_peer_settings(&mut self, root_credit: u64) -> Result<(), ProtocolError> {
        if root_credit < MIN_ROOT_CREDIT {
            return Err(ProtocolError::new(Code::SETTINGS, "root_credit is below 65536"));
        }
        self.on_open_credit(0, root_credit, 0)
    }

    /// The channel's round-trip time, by which windows are tuned.
    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.windows.rtt = rtt;
    }

    /// How many streams there are, the root not counted.
    pub(crate) fn len(&self) -> usize {
        self.table.len() - 1
    }

    /// Bytes written and not sent, of all streams.
    pub(crate) fn unsent(&self) -> u64 {
        self.pool.unsent
    }

    /// Whether the application holds no stream.
    pub(crate) fn is_unused(&self) -> bool {
        self.app.held == 0
    }

    /// The next event for the application.
    pub(crate) fn next_event(&mut self) -> Option<StreamEvent> {
        loop {
            let event = self.app.events.pop_front()?;
            let is_held = |key| self.table.find(key).is_some_and(|i| self.table[i].has(Flags::HELD));
            match event {
                // The end of a stream is waited for also by those who do not hold it.
                StreamEvent::Ready(_, Interest::Drained) | StreamEvent::DatagramSettled(..) => return Some(event),
                StreamEvent::Ready(key, _) if is_held(key) => return Some(event),
                StreamEvent::Ready(..) => {}
            }
        }
    }

    /// Tells the application, if it waits for it.
    fn notify(&mut self, index: u32, interest: Interest) {
        if self.table[index].take(Flags::waits_for(interest)) {
            let key = self.table.key(index);
            self.app.events.push_back(StreamEvent::Ready(key, interest));
        }
    }

    /// Puts a stream in its turn if it has something to send.
    fn touch(&mut self, index: u32) {
        if self.table[index].is_sendable() {
            self.scheduler.activate(&mut self.table, index);
        }
    }

    /// Raises a limit that the peer grants.
    fn raise_limit(&mut self, index: u32, limit: u64) {
        let node = &mut self.table[index];
        if limit > node.send.limit {
            node.send.limit = limit;
            if node.has(Flags::ANNOUNCED) && node.take(Flags::WAITING) {
                self.touch(index);
            }
        }
    }

    /// Puts something behind what was written to a stream.
    fn append(&mut self, index: u32, write: impl FnOnce(&mut SendBuf)) {
        let send = &mut self.table[index].send;
        let pool = &mut self.pool;
        let buf = send.buf.get_or_insert_with(|| pool.send_buf(send.sent));
        let before = buf.end();
        write(buf);
        pool.unsent += buf.end() - before;
    }
}
