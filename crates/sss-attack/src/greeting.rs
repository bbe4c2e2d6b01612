//! Greetings of callers that nobody is behind.

use std::net::SocketAddr;

use sss::Eid;
use sss_crypto::StaticKey;
use sss_crypto::kem::DecapsulationKey;
use sss_crypto::noise::hostile::{ForgedKey, Forger};
use sss_wire::Kem;
use sss_wire::constants::VERSION;
use sss_wire::long::{self, KEM_KEY};
use sss_wire::params::HelloParams;

use crate::error::{AttackError, random};

/// A greeting as a registration server passes it on.
pub(crate) struct Greeting {
    /// A short HELLO.
    pub(crate) hello: Vec<u8>,
    /// The key of LEG.
    pub(crate) key: Box<[u8; KEM_KEY]>,
}

impl Greeting {
    /// One that the callee can read, and that names these addresses as the caller's own.
    ///
    /// # Errors
    /// There is no entropy.
    pub(crate) fn new(callee: &Eid, candidates: &[SocketAddr]) -> Result<Self, AttackError> {
        let attempt: [u8; 8] = random()?;
        let prologue = [&b"SSS negotiation "[..], &VERSION.to_be_bytes(), &attempt].concat();
        let params = HelloParams {
            versions: vec![VERSION],
            suites: vec![sss_wire::Suite::ChaCha20Poly1305],
            kems: vec![Kem::MlKem768],
            candidates: candidates.to_vec(),
        };
        let mut message = Vec::new();
        let e = ForgedKey::True(StaticKey::from_bytes(random()?));
        Forger::start(&prologue, callee.public_key(), e, &params.to_vec(), &mut message);
        let leg = DecapsulationKey::from_seed(random()?);
        Ok(Self {
            hello: long::short_hello(VERSION, &attempt, &message),
            key: Box::new(*leg.encapsulation_key()),
        })
    }
}
