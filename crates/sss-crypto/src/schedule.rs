//! The key schedule: from the result of the handshake to the secrets of a channel (protection.md, "Key schedule").

use core::fmt;

use zeroize::Zeroizing;

use crate::noise::Split;
use crate::provider::{Library, Provider, Secret32};

/// `Label(secret, label, context, out.len())` of the specification: HKDF-Expand (RFC 5869) with SHA-256 and an info
/// that names the purpose, as in RFC 8446 section 7.1.
///
/// `secret` must be secret and uniformly random, 32 bytes or more.
///
/// # Panics
/// `label` has more than 251, `context` more than 255, or `out` more than 8160 bytes. They are meant to be constants of
/// the program.
pub fn label(secret: &[u8], label: &str, context: &[u8], out: &mut [u8]) {
    assert!(
        label.len() <= 251 && context.len() <= 255 && out.len() <= 8160,
        "lengths of a label"
    );
    let n = u16::try_from(out.len()).unwrap_or_default().to_be_bytes();
    let label_len = [u8::try_from(label.len().saturating_add(4)).unwrap_or_default()];
    let context_len = [u8::try_from(context.len()).unwrap_or_default()];
    let info: [&[u8]; 6] = [&n, &label_len, b"sss ", label.as_bytes(), &context_len, context];
    Library::hkdf_expand(secret, &info, out);
}

/// HKDF-Extract (RFC 5869 section 2.2) with SHA-256. `ikm` is the concatenation of the parts.
pub fn hkdf_extract(salt: &[u8], ikm: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Library::hmac(salt, ikm))
}

fn label32(secret: &[u8], name: &str, context: &[u8]) -> Secret32 {
    let mut out = Zeroizing::new([0; 32]);
    label(secret, name, context, &mut *out);
    out
}

/// The secret of one direction and one generation of keys. Wiped when dropped.
#[derive(Clone)]
pub struct Secret(Secret32);

/// In constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        Library::constant_time_eq(&*self.0, &*other.0)
    }
}

impl Eq for Secret {}

impl Secret {
    /// The secret of 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes: whoever sees them reads all packets of this generation and of later ones. For key logs only.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    /// The secret of the next generation of the same direction. It tells nothing about this one.
    pub fn next(&self) -> Self {
        Self(label32(&*self.0, "update", b""))
    }

    /// The key and the initialization vector of the AEAD.
    pub(crate) fn key_and_iv(&self) -> (Secret32, Zeroizing<[u8; 12]>) {
        let mut iv = Zeroizing::new([0; 12]);
        label(&*self.0, "iv", b"", &mut *iv);
        (label32(&*self.0, "key", b""), iv)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Secrets that are known once INITIATE was made: the secrets that need no contribution of ACCEPT.
#[derive(Clone, Debug)]
pub struct EarlySecrets {
    /// Generation 0 of the initiator: it seals what follows INITIATE before ACCEPT has come.
    pub initiator: Secret,
    headers: HeaderSecrets,
    has_leg: bool,
}

impl EarlySecrets {
    /// Derives them from the result of the handshake.
    pub fn from(split: &Split) -> Self {
        let h = &split.h[..];
        Self {
            initiator: Secret(label32(&*split.k1, "gen 0", h)),
            headers: HeaderSecrets::derive(split),
            has_leg: split.has_leg,
        }
    }

    /// Returns whether the handshake had the post-quantum leg.
    pub fn is_post_quantum(&self) -> bool {
        self.has_leg
    }

    /// Key of the header masks of the initiator's packets, of every generation.
    pub fn initiator_header(&self) -> &[u8; 32] {
        &self.headers.initiator
    }

    /// Key of the header masks of the responder's packets, of every generation.
    pub fn responder_header(&self) -> &[u8; 32] {
        &self.headers.responder
    }
}

/// The keys of header masks.
#[derive(Clone)]
struct HeaderSecrets {
    initiator: Secret32,
    responder: Secret32,
}

impl HeaderSecrets {
    fn derive(split: &Split) -> Self {
        Self {
            initiator: label32(&*split.k1, "hp", &*split.h),
            responder: label32(&*split.k2, "hp", &*split.h),
        }
    }
}

impl fmt::Debug for HeaderSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderSecrets(..)")
    }
}

/// The secrets of an established channel.
#[derive(Clone, Debug)]
pub struct ChannelSecrets {
    /// Generation 1 of the initiator.
    pub initiator: Secret,
    /// Generation 1 of the responder.
    pub responder: Secret,
    headers: HeaderSecrets,
    /// Id of the half of the channel that the initiator sends on. Not secret.
    pub half_initiator: [u8; 16],
    /// Id of the half of the channel that the responder sends on. Not secret.
    pub half_responder: [u8; 16],
}

impl ChannelSecrets {
    /// Derives them from the result of the handshake and the nonce in ACCEPT.
    pub fn derive(split: &Split, n_r: &[u8; 32]) -> Self {
        let h = &split.h[..];
        let master = hkdf_extract(n_r, &[&*split.k1, &*split.k2]);
        let half = |name| {
            let mut id = [0; 16];
            label(&*master, name, h, &mut id);
            id
        };
        Self {
            initiator: Secret(label32(&*master, "gen 1 i", h)),
            responder: Secret(label32(&*master, "gen 1 r", h)),
            headers: HeaderSecrets::derive(split),
            half_initiator: half("half i"),
            half_responder: half("half r"),
        }
    }

    /// Key of the header masks of the initiator's packets, of every generation.
    pub fn initiator_header(&self) -> &[u8; 32] {
        &self.headers.initiator
    }

    /// Key of the header masks of the responder's packets, of every generation.
    pub fn responder_header(&self) -> &[u8; 32] {
        &self.headers.responder
    }
}

#[cfg(test)]
mod tests;
