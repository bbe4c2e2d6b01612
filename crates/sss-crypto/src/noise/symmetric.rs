//! The symmetric state of Noise (sections 5.1 and 5.2), for one pattern's needs.

use zeroize::Zeroizing;

use super::Split;
use crate::error::AuthError;
use crate::provider::{Aead, AeadAlgorithm, AeadKey, Library, Provider, Secret32, TAG};

/// The name of the protocol. Of exactly 32 bytes, it is the first hash and the first chaining key itself.
const PROTOCOL: &[u8; 32] = b"Noise_XK_25519_ChaChaPoly_SHA256";

/// Chaining key, hash, and the cipher state.
///
/// The cipher key is unset (zero) until the first `mix_key`; XK encrypts nothing before.
#[derive(Clone)]
pub(super) struct SymmetricState {
    ck: Secret32,
    h: Secret32,
    k: Secret32,
    /// Number of messages that `k` has sealed.
    n: u64,
    /// True once the secret of the post-quantum leg was taken in.
    has_leg: bool,
}

impl SymmetricState {
    /// The state after the prologue and the pre-message, the responder's static public key.
    pub(super) fn new(prologue: &[u8], responder_static: &[u8; 32]) -> Self {
        let mut state = Self::from_parts(*PROTOCOL, *PROTOCOL, [0; 32], 0);
        state.mix_hash(prologue);
        state.mix_hash(responder_static);
        state
    }

    /// The state of its parts, as [`Self::parts`] gave them, and the number of messages sealed under `k`.
    pub(super) fn from_parts(ck: [u8; 32], h: [u8; 32], k: [u8; 32], n: u64) -> Self {
        Self {
            ck: Zeroizing::new(ck),
            h: Zeroizing::new(h),
            k: Zeroizing::new(k),
            n,
            has_leg: false,
        }
    }

    /// Chaining key, hash and cipher key.
    pub(super) fn parts(&self) -> [&[u8; 32]; 3] {
        [&self.ck, &self.h, &self.k]
    }

    pub(super) fn chaining_key(&self) -> &[u8; 32] {
        &self.ck
    }

    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        *self.h = Library::sha256(&[&*self.h, data]);
    }

    pub(super) fn mix_key(&mut self, shared: &Secret32) {
        [self.ck, self.k] = hkdf(&self.ck, &**shared);
        self.n = 0;
    }

    /// `MixKeyAndHash` (section 5.2): takes in a secret that is in no message, and binds the hash to it too.
    pub(super) fn mix_key_and_hash(&mut self, secret: &[u8; 32]) {
        let [ck, h, k] = hkdf(&self.ck, secret);
        (self.ck, self.k) = (ck, k);
        self.n = 0;
        self.mix_hash(&*h);
        self.has_leg = true;
    }

    /// Appends `plaintext`, sealed, to `out`.
    pub(super) fn encrypt_and_hash(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(plaintext);
        out.extend_from_slice(&[0; TAG]);
        let sealed = out.get_mut(start..).unwrap_or_default();
        self.cipher().seal(self.next_nonce(), &*self.h, sealed);
        self.mix_hash(sealed);
    }

    /// Opens `sealed`. After an error the state is of no use.
    pub(super) fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, AuthError> {
        let mut plaintext = sealed.to_vec();
        let len = self.cipher().open(self.next_nonce(), &*self.h, &mut plaintext)?;
        plaintext.truncate(len);
        self.mix_hash(sealed);
        Ok(plaintext)
    }

    pub(super) fn split(&self) -> Split {
        let [k1, k2] = hkdf(&self.ck, b"");
        Split {
            k1,
            k2,
            h: self.h.clone(),
            has_leg: self.has_leg,
        }
    }

    fn cipher(&self) -> AeadKey {
        AeadKey::new(AeadAlgorithm::ChaCha20Poly1305, &self.k)
    }

    /// The nonce of ChaChaPoly (section 12.3): 4 zero bytes, then the counter, little-endian.
    fn next_nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        for (byte, n) in nonce.iter_mut().skip(4).zip(self.n.to_le_bytes()) {
            *byte = n;
        }
        self.n = self.n.wrapping_add(1);
        nonce
    }
}

/// HKDF of Noise (section 4.3) with two outputs, or three: that of RFC 5869 with an empty info.
fn hkdf<const N: usize>(chaining_key: &Secret32, ikm: &[u8]) -> [Secret32; N] {
    let mut all = Zeroizing::new([[0; 32]; N]);
    Library::hkdf(&**chaining_key, ikm, all.as_flattened_mut());
    let mut outputs = std::array::from_fn(|_| Zeroizing::new([0; 32]));
    for (to, from) in outputs.iter_mut().zip(all.iter()) {
        to.copy_from_slice(from);
    }
    outputs
}
