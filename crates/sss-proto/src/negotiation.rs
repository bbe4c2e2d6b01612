//! Negotiation: how two hosts agree on the keys of a channel (docs/spec/negotiation.md).
//!
//! `Initiation` is the initiator's side of one attempt, `Responder` the responder's side of all of them. Neither sends
//! anything: they return the bytes.

mod accept;
mod channel_ids;
mod cookie;
mod initiator;
mod load;
pub(crate) mod responder;

pub(crate) use accept::{AcceptKeys, close_frame, refusal};
pub(crate) use channel_ids::ChannelIds;
pub(crate) use initiator::{Agreed, Initiation, InitiatorStep, Schedule};
pub(crate) use responder::{Proven, Refusal, Responder, Standing};

use sss_crypto::Suite;

/// The versions this host speaks, best first.
pub(crate) const VERSIONS: &[u32] = &[sss_wire::constants::VERSION];

/// The Noise prologue (NEG-4).
fn prologue(version: u32, attempt: &[u8; 8]) -> [u8; 28] {
    let mut prologue = [0; 28];
    let (label, rest) = prologue.split_at_mut(16);
    label.copy_from_slice(b"SSS negotiation ");
    let (v, a) = rest.split_at_mut(4);
    v.copy_from_slice(&version.to_be_bytes());
    a.copy_from_slice(attempt);
    prologue
}

/// The suite of a wire number, if this host knows it.
pub(crate) fn suite_from_wire(suite: sss_wire::Suite) -> Suite {
    match suite {
        sss_wire::Suite::ChaCha20Poly1305 => Suite::ChaCha20Poly1305,
        sss_wire::Suite::Aes256Gcm => Suite::Aes256Gcm,
    }
}

/// The wire number of a suite.
pub(crate) fn suite_to_wire(suite: Suite) -> sss_wire::Suite {
    match suite {
        Suite::ChaCha20Poly1305 => sss_wire::Suite::ChaCha20Poly1305,
        Suite::Aes256Gcm => sss_wire::Suite::Aes256Gcm,
    }
}
