//! Levels of streams (STR-22 to STR-25): set here, or asked for by the receiver with PRIORITY.

use sss_wire::frame::Priority;

use super::Streams;
use super::frames::delivery::{Delivery, Item};
use super::node::Asked;
use crate::error::ProtocolError;
use crate::ids::StreamKey;
use crate::packet::PacketWriter;
use crate::token::Token;

impl Streams {
    /// Gives a stream another level among its siblings, for what this host sends of it and below it. Data that was
    /// written before is included (STR-23).
    pub(crate) fn set_priority(&mut self, key: StreamKey, level: i8) {
        if let Some(index) = self.held(key) {
            self.scheduler.set_level(&mut self.table, index, level);
        }
    }

    /// Asks the peer to give a stream another level, for what the peer sends of it and below it (STR-24).
    pub(crate) fn request_priority(&mut self, key: StreamKey, level: i8) {
        let Some(index) = self.held(key).filter(|_| self.failed.is_none()) else {
            return;
        };
        let asked = &mut self.table[index].rare_mut().requests.asked;
        *asked = Some(Asked {
            level,
            serial: asked.map_or(0, |before| before.serial + 1),
            delivery: asked.map_or(Delivery::Idle, |before| before.delivery),
        });
        self.outbox.put(&mut self.table, index, Item::Priority);
    }

    pub(super) fn write_priorities(&mut self, packet: &mut PacketWriter<'_>) -> bool {
        while let Some(key) = self.outbox.priorities.front() {
            if let Some(index) = self.table.find(key) {
                let asked = self.table[index].rare.as_ref().and_then(|r| r.requests.asked);
                if let Some(Asked { level, serial, .. }) = asked {
                    let frame = Priority {
                        lsid: self.lsid(index),
                        serial,
                        level,
                    };
                    if frame.encoded_len() > packet.remaining() {
                        return false;
                    }
                    frame.encode(packet.eliciting());
                    packet.remember(Token::Priority { key, serial });
                }
                self.table[index].set_delivery(Item::Priority, Delivery::InFlight);
            }
            self.outbox.priorities.pop();
        }
        true
    }

    /// A packet with PRIORITY was lost (STR-25).
    pub(super) fn on_priority_lost(&mut self, key: StreamKey, serial: u64) {
        let Some(index) = self.table.find(key) else {
            return;
        };
        let asked = self.table[index].rare.as_ref().and_then(|r| r.requests.asked);
        if asked.is_some_and(|a| a.serial == serial) {
            self.outbox.put(&mut self.table, index, Item::Priority);
        }
    }

    /// PRIORITY.
    ///
    /// # Errors
    /// If the peer broke a rule.
    pub(crate) fn on_priority(&mut self, frame: &Priority) -> Result<(), ProtocolError> {
        let Some(index) = self.known(frame.lsid)? else {
            return Ok(());
        };
        let rare = self.table[index].rare_mut();
        // STR-24
        if rare.requests.answered.is_none_or(|last| frame.serial > last) {
            rare.requests.answered = Some(frame.serial);
            self.scheduler.set_level(&mut self.table, index, frame.level);
        }
        Ok(())
    }
}
