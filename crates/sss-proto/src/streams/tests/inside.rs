//! A look inside, and a hand on what a channel or a peer would do.

use std::time::Duration;

use sss_wire::frame::OpenCredit;
use sss_wire::params::Settings;

use super::*;
use crate::channel::Outlook;
use crate::config::StreamLimits;
use crate::streams::flow::budget::HostBudget;
use crate::streams::flow::gauge::{Left, Tuning};
use crate::streams::flow::openings;
use crate::streams::frames::credit;
use crate::streams::life::backlog;
use crate::streams::report::waits;
use crate::streams::tree::index::ROOT;

impl Streams {
    /// The peer's SETTINGS, as far as they grant openings. What a stream may borrow is what it was.
    pub(super) fn grant_root(&mut self, root_credit: u64) -> Result<(), ProtocolError> {
        self.set_peer_settings(&Settings {
            root_credit,
            max_message: self.max_datagram(),
            ..Settings::default()
        })
    }

    /// The peer's SETTINGS, as far as they say what a stream may borrow.
    pub(super) fn set_peer_start(&mut self, stream_borrow: u64) {
        self.set_peer_settings(&Settings {
            root_credit: sss_wire::constants::MIN_ROOT_CREDIT,
            stream_borrow,
            max_message: self.max_datagram(),
            ..Settings::default()
        })
        .unwrap();
    }

    /// Lets streams of the peer borrow so much.
    pub(super) fn set_start(&mut self, bytes: u64) {
        self.life.flow.windows.set_start(bytes);
    }

    /// A path that loses so much, whose round-trip time is as it was.
    pub(super) fn set_loss(&mut self, loss: u32, one_way: Duration) {
        self.life.ledger.set_path(loss, one_way);
    }

    pub(super) fn set_outlook(&mut self, outlook: Outlook) {
        self.life.ledger.set_outlook(outlook);
    }

    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.life.flow.set_rtt(rtt);
    }

    pub(super) fn set_peer_max_message(&mut self, bytes: u64) {
        self.life.ledger.set_peer_max(bytes);
    }

    pub(super) fn share_budget(&mut self, budget: HostBudget) {
        self.set_host(budget, StreamLimits::default());
    }

    pub(super) fn set_limits(&mut self, limits: StreamLimits) {
        self.life.flow.set_limits(limits);
    }

    pub(super) fn on_credit(&mut self, lsid: u64, limit: u64) -> Result<(), ProtocolError> {
        self.forged(&Frame::Credit(Credit { lsid, limit }))
    }

    pub(super) fn on_open_credit(&mut self, lsid: u64, limit: u64, datagrams: u64) -> Result<(), ProtocolError> {
        self.forged(&Frame::OpenCredit(OpenCredit { lsid, limit, datagrams }))
    }

    pub(super) fn waits(&self, index: u32, name: impl Fn(StreamKey) -> StreamId) -> Option<waits::Waits> {
        waits::waits(&self.life, index, name)
    }

    pub(super) fn find(&self, lsid: u64) -> Found {
        self.life.tree.locate(lsid)
    }

    pub(super) fn lsid(&self, index: u32) -> u64 {
        self.life.tree.lsid(index)
    }

    /// Returns whether there is room to open a stream.
    pub(super) fn can_open(&self, index: u32) -> bool {
        openings::has_room(&self.life.tree.table, index)
    }

    pub(super) fn raise_limit(&mut self, index: u32, limit: u64) {
        credit::raise(&mut self.life, index, limit);
    }

    /// Lets this host send whatever it has.
    pub(super) fn lift_limits(&mut self) {
        for index in 0..self.life.tree.table.slots() {
            let Some(node) = self.life.tree.table.get(index) else {
                continue;
            };
            if node.account.is_some() {
                self.life
                    .flow
                    .raise_openings(&mut self.life.tree.table, index, 1 << 60, 0);
            }
            if self.life.tree[index].has(Flags::ANNOUNCED) {
                self.life.on_known(index);
                self.raise_limit(index, 1 << 60);
            }
        }
    }

    /// Returns what the windows of this host have from the budgets.
    pub(super) fn spent(&self) -> u64 {
        self.life.flow.windows.spent()
    }

    /// Returns what of that the root's openings account has.
    pub(super) fn root_extra(&self) -> u64 {
        let root = self.life.tree[ROOT].account.as_ref();
        root.and_then(|a| a.backing.tuning()).map_or(0, Tuning::extra)
    }

    /// Returns what the budgets of subtrees leave for the windows of a stream.
    pub(super) fn budget_left(&self, index: u32) -> Left {
        self.life.flow.budget_left(&self.life.tree.table, index)
    }

    /// Returns how many streams have a budget of their own.
    pub(super) fn budgets(&self) -> usize {
        self.life.flow.budgets()
    }

    pub(super) fn limit_budget(&mut self, bytes: u64) {
        self.life.flow.windows.limit_budget(bytes);
    }

    /// Lets the peer send so much more of a stream that is not accepted.
    pub(super) fn lend_more(&mut self, index: u32, bytes: u64) {
        let lender = openings::lender(&self.life.tree.table, index);
        self.life.tree[index].recv.limit += bytes;
        self.life.tree[lender].account_mut().backing.lend_more(bytes);
    }

    /// Lets the peer open as much as it likes below a stream.
    pub(super) fn widen(&mut self, index: u32) {
        self.life.tree[index].account_mut().backing.widen();
    }

    /// Returns what of an account this host takes to be charged for streams that wait, and for datagrams.
    pub(super) fn believed_waiting(&self, index: u32) -> (u64, u64) {
        let account = self.life.tree[index].account.as_ref();
        account.map_or((0, 0), |a| a.lent.believed_waiting())
    }

    /// Checks what each stream bears for those that wait below it.
    pub(super) fn check_costs(&self, what: &str) {
        backlog::check_costs(&self.life.tree.table, what);
    }

    /// Returns whether a datagram waits on a stream for the application, or has not arrived whole.
    pub(super) fn has_arrived(&self, index: u32) -> bool {
        let mailbox = self.life.tree[index].extras.as_ref().and_then(|e| e.mailbox_ref());
        mailbox.is_some_and(|m| !m.inbox.is_empty() || m.arriving > 0)
    }
}
