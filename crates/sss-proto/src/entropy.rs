//! Randomness of a host: drawn from a generator that forgets, into which fresh entropy is mixed for each negotiation.

use std::convert::Infallible;
use std::fmt;

use rand::TryRng;
use sss_crypto::Generator;
use zeroize::Zeroizing;

/// Source of bytes that nobody can guess, outside of simulations that of the operating system.
///
/// It is asked once when a host is made, and again for each negotiation that the host begins or answers. So whoever
/// reads the memory of a host cannot find out what it drew before; and of a host that was copied, as a snapshot of a
/// virtual machine or by `fork`, no two copies have the same keys. A source that has failed leaves the bytes as they
/// are: the host goes on with what it drew from it before.
pub struct Entropy(Box<Source>);

type Source = dyn FnMut(&mut [u8; 32]) + Send;

impl Entropy {
    /// A source that fills what it is given. It must not block for long, and must not use the host.
    pub fn new(source: impl FnMut(&mut [u8; 32]) + Send + 'static) -> Self {
        Self(Box::new(source))
    }
}

/// For simulations and tests: everything follows from these bytes.
impl From<[u8; 32]> for Entropy {
    fn from(seed: [u8; 32]) -> Self {
        Self::new(move |out| *out = seed)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entropy").finish_non_exhaustive()
    }
}

/// The random numbers of a host.
pub(crate) struct Randomness {
    generator: Generator,
    entropy: Entropy,
}

impl Randomness {
    pub(crate) fn new(mut entropy: Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        (entropy.0)(&mut seed);
        Self {
            generator: Generator::new(&seed),
            entropy,
        }
    }

    /// Mixes fresh entropy in: a negotiation begins, or is answered.
    pub(crate) fn refresh(&mut self) -> &mut Self {
        let mut fresh = Zeroizing::new([0; 32]);
        (self.entropy.0)(&mut fresh);
        self.generator.mix(&fresh);
        self
    }
}

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.generator.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.generator.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.generator.fill(out);
        Ok(())
    }
}
