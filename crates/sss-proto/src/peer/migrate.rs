//! When a tree needs another channel, and which of its channels carries it (docs/spec/migration.md).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sss_wire::Code;
use sss_wire::constants::{HELLO_TIMEOUT, STALL_GRACE};

use super::attempt::Purpose;
use super::link::LinkId;
use super::{Context, Peer};
use crate::error::CloseReason;
use crate::io::{Event, LinkStatus};
use crate::role::Role;
use crate::time::Instant;

/// Addresses kept of a peer.
const MAX_HINTS: usize = 8;
/// How long after a failed attempt the next one begins, when the carrier works.
const RETRY: Duration = Duration::from_secs(10);
/// A failed renewal is tried again after this part of the interval, or after [`RETRY`].
const RENEWAL_RETRY: u32 = 4;

/// What the host wants (MIG-10, MIG-14). Zero: never renewed; not kept without a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) renew: Duration,
    pub(super) linger: Duration,
}

/// What is known about the way to the peer.
pub(super) struct Mobility {
    policy: Policy,
    /// Where the peer may be, the latest first.
    hints: Vec<SocketAddr>,
    status: LinkStatus,
    /// How often it was up, and then was not.
    outages: u64,
    /// When the carrier stopped working.
    trouble: Option<Instant>,
    /// Whether this host has moved, and no new channel was made since.
    moved: bool,
    /// No attempt begins before.
    retry_at: Instant,
    /// Whether an address was learned since the trouble began, and not tried yet.
    hinted: bool,
}

impl Mobility {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            hints: Vec::new(),
            status: LinkStatus::Up,
            outages: 0,
            trouble: None,
            moved: false,
            retry_at: Instant::default(),
            hinted: false,
        }
    }

    pub(super) fn hints(&self) -> &[SocketAddr] {
        &self.hints
    }

    pub(super) fn outages(&self) -> u64 {
        self.outages
    }

    pub(super) fn trouble_since(&self) -> Option<Instant> {
        self.trouble
    }

    /// Remembers addresses; returns whether there was a new one.
    pub(super) fn add_hints(&mut self, hints: &[SocketAddr]) -> bool {
        let mut is_new = false;
        for hint in hints {
            if !self.hints.contains(hint) {
                self.hints.insert(0, *hint);
                is_new = true;
            }
        }
        self.hints.truncate(MAX_HINTS);
        is_new
    }

    pub(super) fn retry_now(&mut self) {
        self.retry_at = Instant::default();
    }

    /// The application knows another address: in trouble, it is tried at once.
    pub(super) fn on_hint(&mut self) {
        self.hinted = self.trouble.is_some();
        self.retry_now();
    }
}

impl Peer {
    /// The state of the way to the peer.
    pub(crate) fn link_status(&self) -> LinkStatus {
        match &self.tree.ended {
            Some(reason) => LinkStatus::Down(reason.clone()),
            None => self.mobility.status.clone(),
        }
    }

    /// The addresses of this host have changed; `has_moved` tells whether the one used towards this peer has (MIG-13).
    pub(crate) fn on_network_change(&mut self, mut has_moved: impl FnMut(SocketAddr, Option<IpAddr>) -> bool) {
        let carrier = self.links.carrier().filter(|l| l.is_open());
        let path = carrier.map(|l| l.channel.path());
        let is_elsewhere = path.is_some_and(|path| has_moved(path.remote, path.local));
        self.mobility.moved |= is_elsewhere;
        if is_elsewhere || carrier.is_none() {
            self.mobility.retry_now();
        }
    }

    /// A channel was established: whether it carries the streams now is decided, and those it replaces go (MIG-6,
    /// MIG-8).
    pub(super) fn consider(&mut self, now: Instant, link: LinkId) {
        if !self.links.may_carry(link) || self.links.carrier_id() == Some(link) {
            return;
        }
        self.mobility.moved = false;
        self.carry(now, link);
    }

    /// Makes a channel the carrier, and closes those it replaces that are of no use.
    fn carry(&mut self, now: Instant, link: LinkId) {
        for replaced in self.links.carry(now, link) {
            self.retire_link(now, replaced);
        }
        self.review_status(now);
    }

    /// Closes a channel that was replaced; what it has outstanding is sent again.
    pub(super) fn retire_link(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.channel.abandon(&mut self.fates);
            link.channel.close(now, Code::REPLACED, "");
            link.acceptance = None;
            link.reset_token = None;
            self.names_changed = true;
        }
        self.links.unload(id);
        self.settle_fates();
    }

    /// A channel has ended, but not the tree (MIG-7, MIG-14).
    pub(super) fn lose_link(&mut self, now: Instant, id: LinkId, reason: CloseReason) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        link.channel.abandon(&mut self.fates);
        let remote = link.channel.remote();
        self.settle_fates();
        self.names_changed = true;
        self.mobility.add_hints(&[remote]);
        let was_carrier = self.links.remove(id);
        self.after_loss(now, was_carrier, reason);
    }

    /// The peer has closed a channel as replaced.
    pub(super) fn on_replaced(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.channel.abandon(&mut self.fates);
            link.channel.on_close(now);
            link.acceptance = None;
            link.reset_token = None;
            let remote = link.channel.remote();
            self.mobility.add_hints(&[remote]);
        }
        self.settle_fates();
        self.names_changed = true;
        let was_carrier = self.links.unload(id);
        self.after_loss(now, was_carrier, CloseReason::Replaced);
    }

    fn after_loss(&mut self, now: Instant, was_carrier: bool, reason: CloseReason) {
        if !was_carrier {
            return;
        }
        if let Some(next) = self.links.successor() {
            return self.carry(now, next);
        }
        // The peer may have streams of which this host does not know yet, unless it has lost its state.
        let is_pointless = self.streams.len() == 0 && reason == CloseReason::PeerRestarted;
        if self.mobility.policy.linger.is_zero() || is_pointless {
            return self.fail(reason);
        }
        self.mobility.trouble.get_or_insert(now);
        self.mobility.retry_now();
        self.set_status(LinkStatus::Down(reason));
    }

    fn set_status(&mut self, status: LinkStatus) {
        if self.mobility.status != status && self.tree.ended.is_none() {
            self.mobility.outages += u64::from(self.mobility.status == LinkStatus::Up);
            self.mobility.status = status.clone();
            self.events.push_back(Event::Link(self.id, status));
        }
    }

    /// Compares the carrier with what was last told (MIG-11).
    pub(super) fn review_status(&mut self, now: Instant) {
        let Some(carrier) = self.links.carrier().filter(|l| l.is_open()) else {
            return;
        };
        if carrier.channel.is_stalled() {
            self.mobility.trouble.get_or_insert(now);
            return self.set_status(LinkStatus::Stalled);
        }
        if self.mobility.trouble.take().is_some() || self.mobility.status != LinkStatus::Up {
            self.set_status(LinkStatus::Up);
            let is_needless = |a: &super::attempt::Attempt| a.purpose == Purpose::Trouble && a.early.is_none();
            if self.attempt.as_ref().is_some_and(|a| is_needless(a)) {
                self.give_up_attempt();
            }
        }
    }

    /// Whether the way to the peer is to be reviewed after a packet.
    pub(super) fn is_troubled(&self) -> bool {
        self.mobility.trouble.is_some()
    }

    /// When and why the next attempt begins.
    fn attempt_due(&self) -> Option<(Instant, Purpose)> {
        if self.tree.id.is_none() || self.tree.ended.is_some() || self.attempt.is_some() {
            return None;
        }
        let first = if self.tree.is_confirmed {
            self.mobility.retry_at
        } else {
            self.mobility.retry_at.max(self.tree.began + HELLO_TIMEOUT)
        };
        let not_before = |at: Instant| at.max(first);
        if self.mobility.moved {
            return Some((not_before(Instant::default()), Purpose::Move));
        }
        let Some(carrier) = self.links.carrier().filter(|l| l.is_open()) else {
            let is_wanted = self.streams.len() > 0;
            return is_wanted.then(|| (not_before(Instant::default()), Purpose::Trouble));
        };
        if let Some(since) = self.mobility.trouble {
            // A hint that came since is tried at once.
            let grace = if self.mobility.hinted {
                Duration::ZERO
            } else {
                STALL_GRACE
            };
            return Some((not_before(since + grace), Purpose::Trouble));
        }
        let renew = self.mobility.policy.renew;
        if renew.is_zero() || self.streams.len() == 0 {
            return None;
        }
        let age = match carrier.origin.role {
            Role::Initiator => renew,
            Role::Responder => renew + renew / 4,
        };
        Some((not_before(carrier.origin.made + age), Purpose::Renewal))
    }

    /// When [`Self::review`] is to be called.
    pub(super) fn next_review(&self) -> Option<Instant> {
        if self.tree.ended.is_some() {
            return None;
        }
        let attempt = self.attempt_due().map(|(at, _)| at);
        let times = [attempt, self.links.next_retirement(), self.linger_end()];
        times.into_iter().flatten().min()
    }

    fn linger_end(&self) -> Option<Instant> {
        let is_detached = self.tree.id.is_some() && !self.links.has_open();
        let since = self.mobility.trouble.filter(|_| is_detached)?;
        Some(since + self.mobility.policy.linger)
    }

    /// Does what is due: replaced channels go, an attempt begins, or the streams are given up.
    pub(super) fn review(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.review_status(now);
        while let Some(due) = self.links.due(now) {
            self.retire_link(now, due);
        }
        if self.linger_end().is_some_and(|at| at <= now) {
            return self.fail(self.reason_of_silence(now));
        }
        if let Some((at, purpose)) = self.attempt_due()
            && at <= now
        {
            self.mobility.hinted = false;
            // Without an address the peer has to come by itself.
            let _ = self.attempt(context, purpose);
            self.mobility.retry_at = now + self.retry_after(purpose);
        }
    }

    fn reason_of_silence(&self, now: Instant) -> CloseReason {
        match &self.mobility.status {
            LinkStatus::Down(reason @ CloseReason::PeerRestarted) => reason.clone(),
            _ => CloseReason::Idle(self.mobility.trouble.map_or(Duration::ZERO, |since| now.since(since))),
        }
    }

    fn retry_after(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Renewal => RETRY.min(self.mobility.policy.renew / RENEWAL_RETRY),
            Purpose::Move => Duration::from_secs(1),
            _ => Duration::from_millis(250),
        }
    }
}
