//! Frames about streams, one by one: how each is written, what it does when it comes, and what its acknowledgement or
//! loss does.
//!
//! - [`fill`]: fills a packet, the [`draft`], in the order of FRM-2 out of the [`outbox`], then in scheduler order;
//! - [`delivery`]: how far each frame that must arrive has come;
//! - [`stream`], [`init`], [`segment`], [`final_size`]: STREAM; [`reset`], [`stop`], [`credit`], [`open_credit`],
//!   [`priority`]; [`watch`] and [`released`], which are [`questions`] and [`answers`], and alike in [`asking`];
//!   [`refusal`]: RESET and STOP of streams that are not kept.

pub(super) mod answers;
pub(super) mod asking;
pub(super) mod credit;
pub(super) mod delivery;
pub(super) mod draft;
pub(super) mod fill;
pub(super) mod final_size;
pub(super) mod init;
pub(super) mod open_credit;
pub(super) mod outbox;
pub(super) mod priority;
pub(super) mod questions;
pub(super) mod refusal;
pub(super) mod released;
pub(super) mod reset;
pub(super) mod segment;
pub(super) mod stop;
pub(super) mod stream;
pub(super) mod subject;
pub(super) mod watch;

use bytes::Bytes;
use sss_wire::frame::Frame;

use super::life::Life;
use super::messages::{incoming, outgoing};
use crate::error::ProtocolError;
use crate::io::DatagramFate;
use crate::token::Token;

/// A frame from the peer about streams; others are ignored. `packet` holds the frame's data.
///
/// # Errors
/// If the peer broke a rule.
#[inline]
pub(super) fn on_frame(life: &mut Life, frame: &Frame<'_>, packet: &Bytes) -> Result<(), ProtocolError> {
    match frame {
        Frame::Stream(frame) => stream::on_frame(life, frame, packet),
        Frame::Datagram(frame) => incoming::on_frame(life, frame, packet),
        Frame::Reset(frame) => reset::on_frame(life, frame),
        Frame::Stop(frame) => stop::on_frame(life, frame),
        Frame::Credit(frame) => credit::on_frame(life, frame),
        Frame::OpenCredit(frame) => open_credit::on_frame(life, frame),
        Frame::Priority(frame) => priority::on_frame(life, frame),
        Frame::Watch(frame) => watch::on_frame(life, frame),
        Frame::Consumed(frame) => watch::on_answer(life, frame),
        Frame::Await(frame) => released::on_frame(life, frame),
        Frame::Released(frame) => released::on_answer(life, frame),
        // Of the channel.
        Frame::Padding | Frame::Ping | Frame::Ack(_) | Frame::Settings(_) | Frame::Close(_) => Ok(()),
        Frame::PathChallenge(_) | Frame::PathResponse(_) => Ok(()),
    }
}

/// The packet that carried the frame was acknowledged. Tokens that belong to others are ignored.
#[inline]
pub(super) fn on_acked(life: &mut Life, token: Token) {
    if life.failed.is_some() {
        return;
    }
    match token {
        Token::Stream { key, flags, .. } => stream::on_acked(life, key, token.range(), flags),
        Token::Reset(key) => reset::on_acked(life, key, false),
        Token::TreeReset(key) => reset::on_acked(life, key, true),
        Token::Stop(key) => stop::on_acked(life, key),
        Token::Credit { key, limit } => credit::on_acked(life, key, limit),
        Token::OpenCredit { key, limit, taken } => open_credit::on_acked(life, key, (limit, taken)),
        Token::Datagram(id) => life.ledger.on_flown(&mut life.events, id, DatagramFate::Delivered),
        Token::Stateless(key) => outgoing::on_landed(life, key),
        Token::Refusal { lsid } => life.outbox.refusals.on_acked(lsid),
        // These are settled by their answers, or need nothing.
        Token::Priority { .. } | Token::Question { .. } | Token::Answer { .. } => {}
        Token::Ack { .. } | Token::MtuProbe { .. } => {}
    }
}

/// The packet that carried the frame was lost; what it said is sent again, as far as it still holds (REC-5).
pub(super) fn on_lost(life: &mut Life, token: Token) {
    if life.failed.is_some() {
        return;
    }
    match token {
        Token::Stream { key, flags, .. } => stream::on_lost(life, key, token.range(), flags),
        Token::Reset(key) => reset::on_lost(life, key, false),
        Token::TreeReset(key) => reset::on_lost(life, key, true),
        Token::Stop(key) => stop::on_lost(life, key),
        Token::Credit { key, limit } => credit::on_lost(life, key, limit),
        Token::OpenCredit { key, limit, taken } => open_credit::on_lost(life, key, (limit, taken)),
        Token::Priority { key, serial } => priority::on_lost(life, key, serial),
        Token::Question { topic, key } => asking::on_lost(life, topic, key),
        Token::Answer { topic, lsid } => asking::on_answer_lost(life, topic, lsid),
        Token::Datagram(id) => life.ledger.on_flown(&mut life.events, id, DatagramFate::Lost),
        Token::Stateless(key) => outgoing::on_landed(life, key),
        Token::Refusal { lsid } => life.outbox.refusals.on_lost(lsid),
        Token::Ack { .. } | Token::MtuProbe { .. } => {}
    }
}
