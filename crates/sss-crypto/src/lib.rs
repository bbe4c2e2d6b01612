//! Cryptography of Structured Secure Streams: the Noise XK handshake, the key schedule and packet protection.
//!
//! This crate knows keys and no layout: it is given the parts of a packet and never looks for them. It makes no
//! entropy, the caller gives it, so that everything here is a function of its input. It is the only crate
//! that touches the cryptographic libraries, and within it only the module `provider` does. With the feature `hostile`
//! there is an initiator that breaks rules, for attacks on one's own hosts.
//!
//! | module | what | specification |
//! |---|---|---|
//! | [`noise`] | `Noise_XK_25519_ChaChaPoly_SHA256`, one type per step | negotiation.md |
//! | [`schedule`] | from the handshake's result to the secrets of a channel | protection.md, "Key schedule" |
//! | [`packet`] | sealing and opening packets, masking their headers | protection.md, "Short packets" |
//! | [`kem`] | the post-quantum leg: ML-KEM-768 | negotiation.md, "The post-quantum leg" |
//! | [`Generator`] | random numbers that cannot be made again | |
//! | [`cookie`] | the responder's state in the initiator's hands | negotiation.md, NEG-9 |

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod cookie;
mod error;
#[cfg(not(fuzzing))]
mod generator;
pub mod kem;
mod key;
mod mac;
pub mod noise;
pub mod packet;
mod provider;
pub mod schedule;
mod suite;
#[cfg(test)]
mod testing;

pub use error::AuthError;
#[cfg(not(fuzzing))]
pub use generator::Generator;
pub use key::StaticKey;
pub use mac::{constant_time_eq, mac_halves, mac16};
#[cfg(fuzzing)]
pub use provider::Generator;
pub use suite::Suite;
