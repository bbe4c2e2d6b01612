//! No cryptography: arithmetic that has its interfaces, and costs little, for fuzzing with `--cfg fuzzing`.
//!
//! A fuzzer reaches what is behind authentication many thousand times a second. Both sides of a handshake agree, what
//! was changed does not open, different inputs give different outputs with overwhelming chance; and nothing is secret.

use core::fmt;

use zeroize::Zeroizing;

use super::{
    Aead, AeadAlgorithm, Agreement, KEM_CIPHERTEXT, KEM_KEY, KEM_SEED, Kem, Mask, MaskAlgorithm, Provider, Secret32,
    TAG,
};
use crate::error::AuthError;

/// Bytes that the hash takes in at once.
const BLOCK: usize = 64;

/// Nothing of it is secure.
pub(crate) struct Mock;

impl Provider for Mock {
    type KeyPair = KeyPair;
    type AeadKey = AeadKey;
    type MaskKey = MaskKey;
    type KemPair = KemPair;

    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        Mix::new(1).of(parts).bytes()
    }

    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        Mix::new(2).of(&[key]).of(parts).bytes()
    }

    fn hkdf_expand(prk: &[u8], info: &[&[u8]], out: &mut [u8]) {
        Mix::new(3).of(&[prk]).of(info).xor_into(out.as_mut_zeroed());
    }

    fn hkdf(salt: &[u8], ikm: &[u8], out: &mut [u8]) {
        Mix::new(4).of(&[salt]).of(&[ikm]).xor_into(out.as_mut_zeroed());
    }

    fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
        a == b
    }
}

/// Random numbers of a host: arithmetic as well, of which nothing is forgotten.
pub struct Generator(Mix);

impl Generator {
    /// A generator that knows 32 bytes.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(Mix::new(11).of(&[seed]))
    }

    /// Mixes in more.
    pub fn mix(&mut self, entropy: &[u8; 32]) {
        self.0 = self.0.of(&[entropy]);
    }

    /// Draws random bytes: most are drawn as single words.
    #[inline]
    pub fn fill(&mut self, out: &mut [u8]) {
        if let Ok(out) = <&mut [u8; 4]>::try_from(&mut *out) {
            *out = (self.0.next() as u32).to_le_bytes();
        } else {
            self.0.xor_into(out.as_mut_zeroed());
            self.0 = self.0.of(&[]);
        }
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").finish_non_exhaustive()
    }
}

trait AsMutZeroed {
    fn as_mut_zeroed(&mut self) -> &mut Self;
}

impl AsMutZeroed for [u8] {
    fn as_mut_zeroed(&mut self) -> &mut Self {
        self.fill(0);
        self
    }
}

/// A hash of 64 bits, and the bytes that splitmix64 makes of it (G. Steele, D. Lea, C. Flood, 2014).
#[derive(Clone, Copy)]
struct Mix {
    state: u64,
    /// Bytes that do not fill a word yet, and their number.
    word: u64,
    filled: u32,
}

impl Mix {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    /// So that zeros are not nothing.
    const SALT: u64 = 0xd1b5_4a32_d192_ed03;

    fn new(purpose: u64) -> Self {
        Self {
            state: purpose.wrapping_mul(Self::GAMMA),
            word: 0,
            filled: 0,
        }
    }

    /// Takes in the concatenation of parts, and that it ends here.
    fn of(mut self, parts: &[&[u8]]) -> Self {
        let mut len = 0_u64;
        for part in parts {
            len = len.wrapping_add(part.len() as u64);
            self.take(part);
        }
        let (word, filled) = (self.word, self.filled);
        (self.word, self.filled) = (0, 0);
        self.step(word);
        self.state = (self.state ^ len.wrapping_shl(8) ^ u64::from(filled)).wrapping_mul(Self::GAMMA);
        self.state ^= self.state >> 32;
        self
    }

    fn take(&mut self, bytes: &[u8]) {
        let (words, tail) = if self.filled == 0 {
            let (blocks, rest) = bytes.as_chunks::<BLOCK>();
            blocks.iter().for_each(|block| self.block(block));
            let (words, tail) = rest.as_chunks::<8>();
            words.iter().for_each(|word| self.step(u64::from_le_bytes(*word)));
            (&[][..], tail)
        } else {
            bytes.as_chunks::<8>()
        };
        words.iter().for_each(|word| self.piece(u64::from_le_bytes(*word), 8));
        if !tail.is_empty() {
            self.piece(few(tail), tail.len() as u32);
        }
    }

    /// Takes in some bytes of a word, eight at most: behind those that are there, of which there are fewer than eight.
    fn piece(&mut self, bytes: u64, count: u32) {
        let shift = self.filled.wrapping_mul(8);
        self.word |= bytes.wrapping_shl(shift);
        self.filled = self.filled.wrapping_add(count);
        if self.filled >= 8 {
            self.step(self.word);
            // What the word had no room for: nothing, if it was empty.
            self.word = bytes.checked_shr(64_u32.wrapping_sub(shift)).unwrap_or(0);
            self.filled = self.filled.wrapping_sub(8);
        }
    }

    /// Takes in what is always whole, and that it ends here: words need not wait for one another.
    fn of_whole(mut self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            let word = |i: usize, turn: u32| {
                let word = u64::from_le_bytes(block.as_chunks::<8>().0.get(i).copied().unwrap_or_default());
                word.wrapping_mul(Self::GAMMA).rotate_left(turn)
            };
            let even = word(0, 3) ^ word(2, 17) ^ word(4, 31) ^ word(6, 47);
            let odd = word(1, 11) ^ word(3, 23) ^ word(5, 41) ^ word(7, 59);
            self.step(even.wrapping_add(odd));
        }
        self.of(&[rest])
    }

    /// Eight words in one go: a fuzzer watches each turn of a loop.
    fn block(&mut self, block: &[u8; BLOCK]) {
        let word = |i: usize| u64::from_le_bytes(block.as_chunks::<8>().0.get(i).copied().unwrap_or_default());
        self.step(word(0));
        self.step(word(1));
        self.step(word(2));
        self.step(word(3));
        self.step(word(4));
        self.step(word(5));
        self.step(word(6));
        self.step(word(7));
    }

    /// The products of words need not wait for one another.
    fn step(&mut self, word: u64) {
        self.state = self
            .state
            .rotate_left(29)
            .wrapping_add((word ^ Self::SALT).wrapping_mul(Self::GAMMA));
    }

    fn xor_into(mut self, out: &mut [u8]) {
        let (words, tail) = out.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_le_bytes(*word) ^ self.next()).to_le_bytes();
        }
        let last = self.next().to_le_bytes();
        tail.iter_mut().zip(last).for_each(|(out, byte)| *out ^= byte);
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::GAMMA);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes<const N: usize>(self) -> [u8; N] {
        let mut out = [0; N];
        self.xor_into(&mut out);
        out
    }
}

/// Up to seven bytes as the lower ones of a word, without a loop: pieces that overlap say the same.
fn few(bytes: &[u8]) -> u64 {
    let shift = |piece: u64, len: usize| piece.wrapping_shl((bytes.len().wrapping_sub(len) as u32).wrapping_mul(8));
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) | shift(u64::from(u32::from_le_bytes(*last)), 4)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*first)) | shift(u64::from(u16::from_le_bytes(*last)), 2)
    } else {
        bytes.first().copied().unwrap_or(0).into()
    }
}

/// The public key is the secret with some bits turned; what two agree on is of both public keys.
pub(crate) struct KeyPair([u8; 32]);

impl Agreement for KeyPair {
    fn new(secret: &[u8; 32]) -> Self {
        Self(secret.map(|byte| byte ^ 0x5a))
    }

    fn public(&self) -> &[u8; 32] {
        &self.0
    }

    fn agree(&self, peer: &[u8; 32]) -> Result<Secret32, AuthError> {
        if *peer == [0; 32] {
            return Err(AuthError);
        }
        let (less, more) = (self.0.min(*peer), self.0.max(*peer));
        Ok(Zeroizing::new(Mix::new(5).of(&[&less]).of(&[&more]).bytes()))
    }
}

pub(crate) struct AeadKey(Mix);

impl Aead for AeadKey {
    fn new(algorithm: AeadAlgorithm, key: &[u8; 32]) -> Self {
        Self(Mix::new(6).of(&[&[algorithm as u8], key]))
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) {
        let key = self.0.of(&[&nonce]);
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG>() else {
            return;
        };
        key.xor_into(text);
        *tag = key.of(&[aad]).of_whole(text).bytes();
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> Result<usize, AuthError> {
        let key = self.0.of(&[&nonce]);
        let (text, tag) = buf.split_last_chunk_mut::<TAG>().ok_or(AuthError)?;
        if !Mock::constant_time_eq(tag, &key.of(&[aad]).of_whole(text).bytes::<TAG>()) {
            return Err(AuthError);
        }
        key.xor_into(text);
        Ok(text.len())
    }
}

pub(crate) struct MaskKey(Mix);

impl Mask for MaskKey {
    fn new(algorithm: MaskAlgorithm, key: &[u8; 32]) -> Self {
        Self(Mix::new(7).of(&[&[algorithm as u8], key]))
    }

    fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        self.0.of(&[sample]).bytes()
    }
}

pub(crate) struct KemPair([u8; KEM_KEY]);

impl Kem for KemPair {
    fn new(seed: &[u8; KEM_SEED]) -> Self {
        Self(Mix::new(8).of(&[seed]).bytes())
    }

    fn public(&self) -> &[u8; KEM_KEY] {
        &self.0
    }

    fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT]) -> Secret32 {
        Zeroizing::new(Mix::new(9).of(&[&self.0]).of(&[ciphertext]).bytes())
    }

    fn encapsulate(public: &[u8; KEM_KEY], m: &[u8; 32]) -> Result<([u8; KEM_CIPHERTEXT], Secret32), AuthError> {
        // Some keys must be bad ones.
        if public.starts_with(&[0xff; 3]) {
            return Err(AuthError);
        }
        let ciphertext = Mix::new(10).of(&[m]).bytes();
        let shared = Mix::new(9).of(&[public]).of(&[&ciphertext]).bytes();
        Ok((ciphertext, Zeroizing::new(shared)))
    }
}
