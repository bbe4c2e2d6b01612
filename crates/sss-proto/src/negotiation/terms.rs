//! Terms of a negotiation that both sides know: versions, the prologue, suites and their numbers, and KEMs.

use std::net::SocketAddr;

use sss_crypto::Suite;
use sss_wire::Kem;
use sss_wire::params::{CookieParams, HelloParams};

use crate::config::{Config, PostQuantum};
use crate::error::NegotiationError;

/// The versions this host speaks, best first.
pub(crate) const VERSIONS: &[u32] = &[sss_wire::constants::VERSION];

/// The Noise prologue (NEG-4).
pub(super) fn prologue(version: u32, attempt: &[u8; 8]) -> [u8; 28] {
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

/// The KEMs that a host offers, and accepts, best first (NEG-29).
pub(crate) fn kems(policy: PostQuantum) -> &'static [Kem] {
    match policy {
        PostQuantum::Required => &[Kem::MlKem768],
        PostQuantum::Preferred => &[Kem::MlKem768, Kem::None],
        PostQuantum::Off => &[Kem::None],
    }
}

/// Offer of an initiator, with addresses at which it may be reached within its own network.
pub(super) fn offer(config: &Config, candidates: &[SocketAddr]) -> HelloParams {
    HelloParams {
        versions: VERSIONS.to_vec(),
        suites: config.suites.iter().map(|suite| suite_to_wire(*suite)).collect(),
        kems: kems(config.post_quantum).to_vec(),
        candidates: candidates.to_vec(),
    }
}

/// The error if a better version than `used` is spoken by both (NEG-8).
pub(super) fn version_fraud(used: u32, ours: &[u32], params: &CookieParams) -> Option<NegotiationError> {
    let best = params.versions.iter().find(|v| ours.contains(v));
    (best != Some(&used)).then(|| NegotiationError::Version {
        theirs: params.versions.clone(),
        ours: ours.to_vec(),
    })
}

/// The error of a host with this policy when the peer's is the opposite (NEG-29).
pub(super) fn kem_error(ours: PostQuantum) -> NegotiationError {
    match ours {
        PostQuantum::Off => NegotiationError::PostQuantumOff,
        _ => NegotiationError::PostQuantumMissing,
    }
}
