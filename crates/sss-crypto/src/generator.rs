//! Random numbers, of which nobody who reads this memory later learns those that were drawn before.
//!
//! Fast key erasure (D. J. Bernstein, "Fast-key-erasure random-number generators", 2017): each block of the generator
//! is the keystream of a key that is used once; its first 32 bytes are the next key, the rest is given out, and what
//! was given out is wiped.

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::provider::{Aead, AeadAlgorithm, AeadKey, Library, Provider, Secret32, TAG};

/// Random bytes that one key makes.
const BLOCK: usize = 480;

/// A random number generator of a host. It makes none of its own entropy: what it is given is all that it has.
pub struct Generator {
    key: Secret32,
    /// Random bytes; those before `used` are wiped.
    block: Zeroizing<[u8; BLOCK]>,
    used: usize,
}

impl Generator {
    /// A generator that knows nothing but 32 bytes that nobody can guess.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: Zeroizing::new(*seed),
            block: Zeroizing::new([0; BLOCK]),
            used: BLOCK,
        }
    }

    /// Mixes in fresh entropy. What is drawn from now on is known to nobody who does not know both this and what the
    /// generator was; what it had in store is gone.
    pub fn mix(&mut self, entropy: &[u8; 32]) {
        self.key = Zeroizing::new(Library::hmac(&*self.key, &[entropy]));
        self.block.zeroize();
        self.used = BLOCK;
    }

    /// Draws random bytes.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used >= BLOCK {
                self.refill();
            }
            let rest = self.block.get_mut(self.used..).unwrap_or_default();
            let count = rest.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            for (to, from) in now.iter_mut().zip(rest) {
                *to = *from;
                from.zeroize();
            }
            out = later;
            self.used = self.used.saturating_add(count);
        }
    }

    /// The keystream of a key that is used for nothing else: ChaCha20, as its AEAD has it (RFC 8439).
    fn refill(&mut self) {
        let mut stream = Zeroizing::new([0; 32 + BLOCK + TAG]);
        AeadKey::new(AeadAlgorithm::ChaCha20Poly1305, &self.key).seal([0; 12], &[], &mut *stream);
        let (key, rest) = stream.split_at(32);
        self.key.copy_from_slice(key);
        for (to, from) in self.block.iter_mut().zip(rest) {
            *to = *from;
        }
        self.used = 0;
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(generator: &mut Generator, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        generator.fill(&mut out);
        out
    }

    fn copy(of: &Generator) -> Generator {
        Generator {
            key: of.key.clone(),
            block: of.block.clone(),
            used: of.used,
        }
    }

    #[test]
    fn the_pieces_in_which_it_is_drawn_change_nothing() {
        let whole = drawn(&mut Generator::new(&[7; 32]), 3000);
        let mut pieces = Generator::new(&[7; 32]);
        let mut out = Vec::new();
        for count in [1, 31, 32, 400, 480, 481, 1000, 575] {
            out.extend(drawn(&mut pieces, count));
        }
        assert_eq!(out, whole);
        assert_ne!(drawn(&mut Generator::new(&[8; 32]), 3000), whole);
        let ones: u32 = whole.iter().map(|b| b.count_ones()).sum();
        assert!((11_500..12_500).contains(&ones), "{ones} of 24,000 bits");
    }

    // RFC 8439, appendix A.1, vector 2: the keystream of the zero key and nonce, from block 1 on.
    #[test]
    fn the_first_block_is_the_keystream_of_the_rfc() {
        let mut generator = Generator::new(&[0; 32]);
        generator.refill();
        let expected = crate::testing::hex(
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        );
        assert_eq!(*generator.key, expected[..32]);
        assert_eq!(generator.block[..32], expected[32..]);
    }

    #[test]
    fn threat_37_whoever_reads_it_learns_nothing_that_was_drawn_before() {
        let mut generator = Generator::new(&[7; 32]);
        let before = drawn(&mut generator, 1000);
        let mut read = copy(&generator);
        let memory = [&read.key[..], &read.block[..]].concat();
        for piece in before.windows(8) {
            assert!(
                !memory.windows(8).any(|bytes| bytes == piece),
                "what was given out is wiped"
            );
        }
        let after = drawn(&mut read, 100_000);
        assert!(
            !after
                .windows(8)
                .any(|bytes| bytes == &before[..8] || bytes == &before[992..])
        );
    }

    #[test]
    fn threat_37_copies_part_as_soon_as_fresh_entropy_comes() {
        let mut one = Generator::new(&[7; 32]);
        drawn(&mut one, 100);
        let mut other = copy(&one);
        assert_eq!(drawn(&mut copy(&one), 8), drawn(&mut copy(&other), 8));
        one.mix(&[1; 32]);
        other.mix(&[2; 32]);
        let (one, other) = (drawn(&mut one, 1000), drawn(&mut other, 1000));
        assert!(!one.windows(8).any(|bytes| other.windows(8).any(|o| o == bytes)));
    }

    #[test]
    fn secrets_are_wiped() {
        let Generator { key, block, used: _ } = Generator::new(&[7; 32]);
        crate::testing::is_wiped(&key);
        crate::testing::is_wiped(&block);
    }
}
