//! This host's own attempt to make a channel to the peer: the first of a tree, or one more (MIG-10 to MIG-13).

use std::collections::VecDeque;
use std::net::SocketAddr;

use sss_wire::params::Earlier;
use sss_wire::{ChannelId, Code, long};

use super::{Context, Peer};
use crate::channel::Channel;
use crate::error::{DropReason, NegotiationError};
use crate::io::Datagram;
use crate::negotiation::{Initiation, Schedule};
use crate::seen::Sightings;
use crate::time::Instant;

/// Why a channel is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// There is no tree yet.
    First,
    /// The carrier does not work, or there is none.
    Trouble,
    /// The address of this host changed.
    Move,
    /// The carrier is old.
    Renewal,
}

/// An attempt under way.
pub(super) struct Attempt {
    pub(super) initiation: Initiation,
    pub(super) purpose: Purpose,
    /// Once INITIATE was made.
    pub(super) early: Option<Early>,
    /// The attempt before, whose INITIATE was not answered, and which has sent early data (NEG-24).
    pub(super) earlier: Option<Box<Attempt>>,
}

/// The channel of an attempt that has sent INITIATE.
pub(super) struct Early {
    pub(super) channel: Box<Channel>,
    pub(super) local_id: ChannelId,
}

impl Attempt {
    /// The channel on which early data of a new tree is sent.
    pub(super) fn early_carrier(&mut self) -> Option<&mut Channel> {
        let carries = self.purpose == Purpose::First && self.earlier.is_none();
        let early = self.early.as_mut().filter(|_| carries)?;
        Some(&mut early.channel)
    }

    /// This attempt, or the one before.
    pub(super) fn named(&self, attempt: &[u8; 8]) -> Option<&Self> {
        if self.initiation.attempt() == attempt {
            return Some(self);
        }
        self.earlier.as_ref()?.named(attempt)
    }

    /// What INITIATE says of the one before.
    pub(super) fn earlier_setting(&self) -> Option<Earlier> {
        let initiation = &self.earlier.as_ref()?.initiation;
        Some(Earlier {
            attempt: *initiation.attempt(),
            cookie: initiation.cookie()?.to_vec(),
        })
    }

    pub(super) fn next_timer(&self) -> Instant {
        let resend = self.initiation.next_timer();
        let carries = self.purpose == Purpose::First && self.earlier.is_none();
        let channel = self.early.as_ref().filter(|_| carries);
        channel
            .and_then(|e| e.channel.next_timer())
            .map_or(resend, |at| at.min(resend))
    }
}

impl Peer {
    /// Begins an attempt to reach the peer.
    ///
    /// # Errors
    /// If no address is known, or the EID cannot be used.
    pub(super) fn attempt(&mut self, context: &mut Context<'_>, purpose: Purpose) -> Result<(), NegotiationError> {
        let addresses = self.addresses();
        if addresses.is_empty() {
            return Err(NegotiationError::NoAddress);
        }
        let schedule = match purpose {
            Purpose::First => Schedule::first(context.own.config.connect_timeout),
            _ => Schedule::again(self.mobility.trouble_since().unwrap_or(context.now)),
        };
        let own = &mut *context.own;
        let initiation = Initiation::new(
            context.now,
            &self.eid,
            addresses,
            schedule,
            &own.config.suites,
            &mut own.rng,
        )?;
        self.attempt = Some(Box::new(Attempt {
            initiation,
            purpose,
            early: None,
            earlier: None,
        }));
        self.names_changed = true;
        Ok(())
    }

    /// INITIATE was not answered: another attempt begins with HELLO. What is known of the first one is kept, because it
    /// may have been accepted after all (NEG-24).
    pub(super) fn begin_again(&mut self, context: &mut Context<'_>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let own = &mut *context.own;
        let next = attempt.initiation.next(context.now, &own.config.suites, &mut own.rng);
        let purpose = attempt.purpose;
        self.names_changed = true;
        match next {
            Ok(initiation) => {
                let mut attempt = attempt;
                // Of those that sent no early data nothing need be known.
                let earlier = attempt.earlier.take().unwrap_or(attempt);
                self.attempt = Some(Box::new(Attempt {
                    initiation,
                    purpose,
                    early: None,
                    earlier: Some(earlier),
                }));
            }
            // The EID was good enough before.
            Err(error) => self.fail(error.into()),
        }
    }

    /// Begins to reach the peer for the first time.
    ///
    /// # Errors
    /// If no address is given, or the EID cannot be used.
    pub(crate) fn negotiate(
        &mut self,
        context: &mut Context<'_>,
        hints: &[SocketAddr],
    ) -> Result<(), NegotiationError> {
        self.mobility.add_hints(hints);
        self.attempt(context, Purpose::First)
    }

    /// Where the peer may be: where it was last, and where the application says.
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.links.carrier().map(|l| l.channel.remote()).into_iter().collect();
        for address in self.mobility.hints() {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// The addresses remembered.
    pub(crate) fn hints(&self) -> &[SocketAddr] {
        self.mobility.hints()
    }

    /// Addresses at which the peer may be. They are tried at once by an attempt under way, and, if the peer does not
    /// answer where it was, by a new one.
    pub(crate) fn add_hints(&mut self, now: Instant, hints: &[SocketAddr]) {
        if !self.mobility.add_hints(hints) {
            return;
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.initiation.add_addresses(now, hints);
        }
        self.mobility.on_hint();
    }

    /// NEG-27: asks who is at the addresses from which no COOKIE came.
    pub(super) fn probe_unanswered(&self, outbox: &mut VecDeque<Datagram>) {
        let Some(attempt) = self.attempt.as_ref().filter(|a| a.initiation.is_unanswered()) else {
            return;
        };
        let bytes = long::probe(attempt.initiation.attempt());
        outbox.extend(attempt.initiation.addresses().iter().map(|remote| Datagram {
            remote: *remote,
            bytes: bytes.clone(),
        }));
    }

    /// Gives up the first attempt if nobody waits for it; whether it did.
    pub(crate) fn abandon(&mut self, now: Instant) -> bool {
        if !self.is_negotiating() || !self.streams.is_unused() || self.streams.has_undelivered() {
            return false;
        }
        self.close(now, Code::NONE, "the attempt was given up");
        true
    }

    /// Whether the peer is looked for at an address.
    pub(crate) fn is_tried_at(&self, address: SocketAddr) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|a| a.initiation.addresses().contains(&address))
    }

    /// Why the first attempt would fail now.
    pub(crate) fn negotiation_failure(&self, now: Instant, sightings: &Sightings) -> Option<NegotiationError> {
        let attempt = self.attempt.as_ref().filter(|a| a.purpose == Purpose::First)?;
        Some(attempt.initiation.failure(now, sightings))
    }

    /// The attempt has come to nothing.
    pub(super) fn give_up_attempt(&mut self) {
        let Some(mut attempt) = self.attempt.take() else {
            return;
        };
        self.names_changed = true;
        let mut first = attempt.earlier.take().unwrap_or(attempt);
        if let Some(channel) = first.early_carrier() {
            channel.abandon(&mut self.fates);
            self.settle_fates();
        }
    }

    /// RETRY for the attempt.
    ///
    /// # Errors
    /// If it is not expected.
    pub(crate) fn on_retry(&mut self, version: u32, token: &[u8; 16]) -> Result<&[u8], DropReason> {
        match &mut self.attempt {
            Some(attempt) if attempt.early.is_none() => attempt.initiation.on_retry(version, token),
            _ => Err(DropReason::UnknownAttempt),
        }
    }

    /// VERSION for the attempt.
    ///
    /// # Errors
    /// If it is not expected.
    pub(crate) fn on_version(&mut self, versions: Vec<u32>) -> Result<(), DropReason> {
        match &mut self.attempt {
            Some(attempt) if attempt.early.is_none() => attempt.initiation.on_version(versions),
            _ => Err(DropReason::UnknownAttempt),
        }
    }
}
