//! Down: frames for the peer, into a packet, in the order of FRM-2.
//!
//! 1. refusals, RESET and STOP; 2. CREDIT; 3. PRIORITY; 4. STREAM, in scheduler order; a stream whose INIT is not
//!    acknowledged is preceded by INIT of its ancestors (STR-6).
//!
//! If something is left over that does not fit, the packet is filled up with PADDING, so that the packets of a
//! segmented send are equally long (CHN-10).

use std::ops::Range;

use sss_wire::constants::MAX_DEPTH;
use sss_wire::frame::{Credit, Init, OpenCredit, Reset, Scope, Stop, StreamHeader};

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::life::cause;
use super::node::{Flags, Opener, ROOT};
use super::state::SendState;
use crate::packet::PacketWriter;
use crate::token::{StreamFlags, Token};

/// Data that is no more than this is not split to fill the end of a packet.
const UNSPLIT: u64 = 256;
/// How many waiters are woken at a time: about what a packet holds.
const WAKE: usize = 32;
/// Longest CREDIT.
const CREDIT_LEN: usize = 17;
/// Longest OPEN_CREDIT.
const OPEN_CREDIT_LEN: usize = 25;

/// What became of an attempt to write a STREAM frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Written, with so many bytes.
    Sent(usize),
    /// The packet has no room for it.
    Full,
    /// It waits.
    Blocked(Blocked),
    /// There is nothing to send.
    Idle,
    /// Written, with so many bytes, and the stream is no more: a datagram without state.
    Over(usize),
}

/// What keeps a stream from sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Its own limit.
    Window,
    /// No account has room for opening it, or this stream, which is to be opened before it.
    Opening(u32),
}

/// What a STREAM frame is to carry.
#[derive(Debug)]
struct Plan {
    range: Range<u64>,
    /// Whether it is sent again.
    is_again: bool,
    /// Whether the limit allowed no more.
    is_limited: bool,
}

/// A STREAM frame that was written.
struct Written {
    range: Range<u64>,
    flags: StreamFlags,
    bytes: usize,
}

impl Streams {
    /// Whether there is something to send: control frames, or data with credit. Takes constant time.
    ///
    /// It may turn out that what seemed to have credit has none left; then [`Self::fill`] writes nothing, once.
    pub(crate) fn wants(&self) -> bool {
        let is_idle = self.outbox.is_idle() && !self.scheduler.has_active() && !self.is_grant_due();
        !is_idle && self.failed.is_none() && self.attachment.has_role()
    }

    /// Fills the packet with as much as fits.
    pub(crate) fn fill(&mut self, packet: &mut PacketWriter<'_>) {
        if self.failed.is_some() || !self.attachment.has_role() {
            return;
        }
        self.walk();
        self.announced.clear();
        self.grant_datagrams();
        self.scheduler.set_quantum(packet.remaining());
        let is_done = self.write_refusals(packet)
            && self.write_ends(packet)
            && self.write_questions(packet)
            && self.write_open_credits(packet)
            && self.write_credits(packet)
            && self.write_priorities(packet)
            && self.write_streams(packet);
        if !is_done && !packet.is_empty() {
            let rest = packet.remaining();
            packet.quiet().zeros(rest);
        }
    }

    /// Refusals of streams that were never kept (STR-7, STR-58). Like the other steps, returns whether everything did
    /// fit.
    fn write_refusals(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        while let Some((lsid, code)) = self.outbox.refusals.front() {
            let reset = Reset {
                lsid,
                scope: Scope::Stream,
                code,
                final_size: 0,
                reason: "",
            };
            let stop = Stop { lsid, code, reason: "" };
            if reset.encoded_len() + stop.encoded_len() > packet.remaining() {
                return false;
            }
            reset.encode(packet.eliciting());
            stop.encode(packet.eliciting());
            packet.remember(Token::Refusal { lsid });
            self.outbox.refusals.pop();
        }
        true
    }

    fn write_ends(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        while let Some(key) = self.outbox.ends.front() {
            if let Some(index) = self.table.find(key) {
                if !self.write_reset(index, packet) || !self.write_stop(index, packet) {
                    return false;
                }
                self.table[index].clear(Flags::IN_ENDS);
            }
            self.outbox.ends.pop();
        }
        true
    }

    /// RESET, if it is due; as long as INIT is not acknowledged, behind INIT (STR-8).
    fn write_reset(&mut self, index: u32, packet: &mut PacketWriter<'_>) -> bool {
        if !self.table[index].is_due(Item::Reset) {
            return true;
        }
        if !self.table[index].is_known() {
            let before = self
                .write_ancestors(index, packet)
                .or_else(|| self.write_init(index, packet));
            if before.is_some() {
                return false;
            }
        }
        let node = &self.table[index];
        let Some((code, reason)) = cause::reset_says(&self.table, index) else {
            return true;
        };
        let is_tree = self.table[index].resets_tree();
        let frame = Reset {
            lsid: self.lsid(index),
            scope: if is_tree { Scope::Tree } else { Scope::Stream },
            code,
            final_size: node.send.sent,
            reason,
        };
        if frame.encoded_len() > packet.remaining() {
            return false;
        }
        frame.encode(packet.eliciting());
        let key = self.table.key(index);
        packet.remember(if is_tree {
            Token::TreeReset(key)
        } else {
            Token::Reset(key)
        });
        self.table[index].set_delivery(Item::Reset, Delivery::InFlight);
        true
    }

    fn write_stop(&mut self, index: u32, packet: &mut PacketWriter<'_>) -> bool {
        let node = &self.table[index];
        if !node.is_due(Item::Stop) || !node.is_known() {
            return true;
        }
        let Some((code, reason)) = cause::stop_says(&self.table, index) else {
            return true;
        };
        let lsid = self.lsid(index);
        let frame = Stop { lsid, code, reason };
        if frame.encoded_len() > packet.remaining() {
            return false;
        }
        frame.encode(packet.eliciting());
        packet.remember(Token::Stop(self.table.key(index)));
        self.table[index].set_delivery(Item::Stop, Delivery::InFlight);
        true
    }

    fn write_credits(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        while let Some(key) = self.outbox.credits.front() {
            if packet.remaining() < CREDIT_LEN {
                return false;
            }
            self.outbox.credits.pop();
            let Some(index) = self.table.find(key) else {
                continue;
            };
            if !self.table[index].is_due(Item::Credit) {
                continue;
            }
            self.table[index].set_delivery(Item::Credit, Delivery::InFlight);
            let lsid = self.lsid(index);
            // STR-38: the limit of a datagram has its last value already.
            let limit = if self.table[index].has(Flags::DATAGRAM) {
                self.table[index].recv.limit
            } else {
                self.grant(index)
            };
            self.table[index].clear(Flags::UNTOLD);
            Credit { lsid, limit }.encode(packet.eliciting());
            packet.remember(Token::Credit { key, limit });
        }
        true
    }

    fn write_open_credits(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        while let Some(key) = self.outbox.open_credits.front() {
            if packet.remaining() < OPEN_CREDIT_LEN {
                return false;
            }
            self.outbox.open_credits.pop();
            let Some(index) = self.table.find(key) else {
                continue;
            };
            if !self.table[index].is_due(Item::OpenCredit) {
                continue;
            }
            self.table[index].set_delivery(Item::OpenCredit, Delivery::InFlight);
            let lsid = self.lsid(index);
            let (limit, datagrams) = self.grant_openings(index);
            OpenCredit { lsid, limit, datagrams }.encode(packet.eliciting());
            packet.remember(Token::OpenCredit { key, limit });
        }
        true
    }

    fn write_streams(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        self.wake(WAKE);
        self.note_packet_start(packet);
        loop {
            let Some(index) = self.scheduler.pick(&self.table) else {
                if self.wake(WAKE) {
                    continue;
                }
                return true;
            };
            match self.write_stream(index, packet) {
                Outcome::Sent(bytes) => self.scheduler.charge(&self.table, index, bytes),
                Outcome::Full => return false,
                Outcome::Blocked(Blocked::Window) => self.table[index].set(Flags::WAITING),
                Outcome::Blocked(Blocked::Opening(first)) => self.wait_to_open(index, first),
                Outcome::Idle => self.scheduler.deactivate(&mut self.table, index),
                Outcome::Over(bytes) => {
                    self.scheduler.charge(&self.table, index, bytes);
                    self.end_datagram(index);
                    continue;
                }
            }
            if !self.table[index].is_sendable() {
                self.scheduler.deactivate(&mut self.table, index);
            }
        }
    }

    /// Writes a STREAM frame with what the stream is to send next.
    fn write_stream(&mut self, index: u32, packet: &mut PacketWriter<'_>) -> Outcome {
        let node = &self.table[index];
        if node.has(Flags::DATAGRAM)
            && !node.has(Flags::ANNOUNCED)
            && let Some(outcome) = self.write_datagram(index, packet)
        {
            return outcome;
        }
        if !self.table[index].is_known()
            && let Some(outcome) = self.write_ancestors(index, packet)
        {
            return outcome;
        }
        if let Err(blocked) = self.prepare(index) {
            return Outcome::Blocked(blocked);
        }
        let plan = match self.plan(index) {
            Ok(plan) => plan,
            Err(outcome) => return outcome,
        };
        let Some(written) = self.encode(index, &plan, packet) else {
            return Outcome::Full;
        };
        let bytes = written.bytes;
        let was_whole = written.range.end == plan.range.end;
        self.note_sent(index, written, plan.is_again, packet);
        if plan.is_limited && was_whole {
            self.table[index].set(Flags::WAITING);
        }
        Outcome::Sent(bytes)
    }

    /// Decides what INIT of a stream that was not announced says, if there is room to open it.
    fn prepare(&mut self, index: u32) -> Result<(), Blocked> {
        if self.table[index].has(Flags::ANNOUNCED) {
            return Ok(());
        }
        let opening = self.table.opening(index);
        let opening = opening.ok_or(Blocked::Opening(index))?;
        self.table[index].set_opening(opening);
        if !self.table[index].has(Flags::DATAGRAM) {
            self.choose_credit(index);
        }
        Ok(())
    }

    /// STR-6: INIT of each ancestor that the peer is not known to know, unless this packet has it already.
    pub(super) fn write_ancestors(&mut self, index: u32, packet: &mut PacketWriter<'_>) -> Option<Outcome> {
        let mut chain = [ROOT; MAX_DEPTH as usize];
        let mut len = 0;
        let mut at = self.table[index].place.parent;
        while !self.table[at].is_known()
            && let Some(slot) = chain.get_mut(len)
        {
            *slot = at;
            len += 1;
            at = self.table[at].place.parent;
        }
        chain.iter().take(len).rev().find_map(|at| self.write_init(*at, packet))
    }

    /// INIT alone, unless this packet has it already. `Some` if that was not possible.
    fn write_init(&mut self, index: u32, packet: &mut PacketWriter<'_>) -> Option<Outcome> {
        if self.announced.contains(&index) {
            return None;
        }
        if let Err(blocked) = self.prepare(index) {
            return Some(Outcome::Blocked(blocked));
        }
        let plan = Plan {
            range: 0..0,
            is_again: true,
            is_limited: false,
        };
        let Some(written) = self.encode(index, &plan, packet) else {
            return Some(Outcome::Full);
        };
        self.note_sent(index, written, true, packet);
        None
    }

    /// What the stream is to send next: what was lost, then new data, as far as credit goes, then FIN or INIT alone.
    fn plan(&self, index: u32) -> Result<Plan, Outcome> {
        let node = &self.table[index];
        let carries_data = node.status.send.carries_data();
        let lost = node.send.buf.as_ref().and_then(|b| b.next_lost());
        if let Some(range) = lost.filter(|_| carries_data) {
            return Ok(Plan {
                range,
                is_again: true,
                is_limited: false,
            });
        }
        let start = node.send.sent;
        let unsent = if carries_data { node.send.unsent() } else { 0 };
        if unsent == 0 && node.has(Flags::ANNOUNCED) {
            let is_due = node.is_due(Item::Init) || (carries_data && node.is_due(Item::Fin));
            let plan = Plan {
                range: start..start,
                is_again: false,
                is_limited: false,
            };
            return if is_due { Ok(plan) } else { Err(Outcome::Idle) };
        }
        let n = unsent.min(node.send_room());
        if n == 0 && !node.is_due(Item::Init) {
            return Err(Outcome::Blocked(Blocked::Window));
        }
        Ok(Plan {
            range: start..start + n,
            is_again: false,
            is_limited: n < unsent,
        })
    }

    /// Writes a frame with as much of the plan as fits. `None` if nothing does.
    fn encode(&self, index: u32, plan: &Plan, packet: &mut PacketWriter<'_>) -> Option<Written> {
        let node = &self.table[index];
        let before = packet.len();
        let wanted = plan.range.end - plan.range.start;
        // STR-28: a frame ends with the first mark.
        let mark = node.send.buf.as_ref().and_then(|b| b.next_mark(plan.range.start));
        let mark = mark.filter(|m| *m < plan.range.end);
        let is_finishing = node.status.send == SendState::Finishing;
        // An INIT alone names no offset.
        let is_bare = wanted == 0 && !(is_finishing && plan.range.end == node.send.end() && !plan.is_again);
        let mut header = StreamHeader {
            lsid: self.lsid(index),
            init: self.init(index),
            offset: if is_bare { 0 } else { plan.range.start },
            fin: false,
            mark: false,
        };
        let available = mark.unwrap_or(plan.range.end) - plan.range.start;
        let available = usize::try_from(available).unwrap_or(usize::MAX);
        let fit = header.fit(packet.remaining(), available)?;
        if fit.len < available && wanted <= UNSPLIT && before > 0 {
            return None;
        }
        header.mark = mark.is_some() && fit.len == available;
        let range = header.offset..header.offset + fit.len as u64 + u64::from(header.mark);
        header.fin = !is_bare && is_finishing && range.end == node.send.end();
        let out = packet.eliciting();
        header.encode(out, fit.len_field());
        if fit.len > 0
            && let Some(buf) = &node.send.buf
        {
            buf.copy(range.start, out.skip(fit.len));
        }
        let flag = |is_set, flag| if is_set { flag } else { StreamFlags::NONE };
        Some(Written {
            range,
            flags: flag(header.fin, StreamFlags::FIN).with(flag(header.init.is_some(), StreamFlags::INIT)),
            bytes: packet.len() - before,
        })
    }

    pub(super) fn init(&self, index: u32) -> Option<Init<'_>> {
        let node = &self.table[index];
        if node.is_known() {
            return None;
        }
        let (lender, borrow) = (node.place.lender, node.send.limit);
        Some(match &node.names {
            Some(names) => Init::top_level(&names.service, &names.protocol).with_credit(0, borrow, node.recv.limit),
            None if node.has(Flags::DATAGRAM) => {
                let size = self.datagram_size(index);
                Init::datagram(self.lsid(node.place.parent), size, 0).with_credit(lender, borrow, 0)
            }
            None => Init::substream(self.lsid(node.place.parent)).with_credit(lender, borrow, node.recv.limit),
        })
    }

    /// The stream's LSID; for one that is not announced yet, that which it has when it is announced next.
    pub(super) fn lsid(&self, index: u32) -> u64 {
        if index == ROOT {
            return 0;
        }
        let node = &self.table[index];
        let is_named = node.has(Flags::ANNOUNCED);
        let ordinal = if is_named { node.ordinal } else { self.attachment.next() };
        self.attachment.lsid(node.place.opener, ordinal)
    }

    /// Accounts for a frame.
    fn note_sent(&mut self, index: u32, written: Written, is_again: bool, packet: &mut PacketWriter<'_>) {
        let Written { range, flags, .. } = written;
        if flags.has(StreamFlags::INIT) {
            self.announce(index);
        }
        let node = &mut self.table[index];
        node.clear(Flags::UNTOLD);
        if flags.has(StreamFlags::FIN) {
            node.set_delivery(Item::Fin, Delivery::InFlight);
        }
        let len = range.end - range.start;
        if is_again {
            if let Some(buf) = &mut node.send.buf {
                buf.take_lost(&range);
            }
        } else if len > 0 {
            node.send.sent = range.end;
            self.pool.unsent -= len;
            if node.has(Flags::DATAGRAM) {
                self.unqueue_datagram(index, len);
            } else {
                self.notify_writable(index);
                self.notify_sent(index);
            }
        }
        packet.remember(Token::Stream {
            key: self.table.key(index),
            offset: range.start,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            flags,
        });
    }

    /// INIT is in the packet. At the first time, the stream gets its ordinal, and its opening is charged.
    fn announce(&mut self, index: u32) {
        self.announced.push(index);
        let node = &mut self.table[index];
        debug_assert!(node.place.opener == Opener::Own);
        node.set_delivery(Item::Init, Delivery::InFlight);
        if node.has(Flags::ANNOUNCED) {
            return;
        }
        node.set(Flags::ANNOUNCED);
        node.ordinal = self.attachment.next();
        // It may have waited, and another that comes after it not.
        node.clear(Flags::WOKEN);
        let has_waited = node.take(Flags::WAITING);
        let parent = node.place.parent;
        if node.has(Flags::TREE_RESET) {
            // It was to be forgotten, but a stream below needs it.
            self.table[parent].account_mut().unknown += 1;
        }
        self.attachment.announce(&self.table, index);
        self.charge_opening(index);
        self.outbox.openers.on_opened(self.table.key(index));
        if self.table[index].has(Flags::DATAGRAM) {
            self.on_datagram_announced(index);
        } else {
            self.note_birth(index);
        }
        if has_waited {
            self.touch(index);
        }
        self.outbox.on_announced(&mut self.table, index);
    }
}
