//! The primitives for snow: of the library that is not under test, when there is one.

use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

#[cfg(not(feature = "rustcrypto"))]
use crate::provider::Library as Other;
#[cfg(feature = "rustcrypto")]
use crate::provider::RustCrypto as Other;
use crate::provider::{Aead, AeadAlgorithm, Agreement, Provider};

pub(super) struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Nothing))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(X25519::default()))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Sha256::default()))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(ChaChaPoly::default()))
    }
}

/// No randomness: all keys are given.
struct Nothing;

impl Random for Nothing {
    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::Rng)
    }
}

#[derive(Default)]
struct X25519 {
    secret: [u8; 32],
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret = secret.try_into().unwrap();
        self.public = *<Other as Provider>::KeyPair::new(&self.secret).public();
    }

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
        Err(Error::Rng)
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let shared = <Other as Provider>::KeyPair::new(&self.secret).agree(public[..32].try_into().unwrap());
        out[..32].copy_from_slice(&*shared.map_err(|_| Error::Dh)?);
        Ok(())
    }
}

#[derive(Default)]
struct Sha256(Vec<u8>);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.clear();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&Other::sha256(&[&self.0]));
    }
}

#[derive(Default)]
struct ChaChaPoly([u8; 32]);

impl ChaChaPoly {
    fn key(&self) -> <Other as Provider>::AeadKey {
        Aead::new(AeadAlgorithm::ChaCha20Poly1305, &self.0)
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        nonce
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = *key;
    }

    fn encrypt(&self, counter: u64, aad: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let len = text.len() + 16;
        out[..text.len()].copy_from_slice(text);
        self.key().seal(Self::nonce(counter), aad, &mut out[..len]);
        len
    }

    fn decrypt(&self, counter: u64, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let mut text = sealed.to_vec();
        let opened = self.key().open(Self::nonce(counter), aad, &mut text);
        let len = opened.map_err(|_| Error::Decrypt)?;
        out[..len].copy_from_slice(&text[..len]);
        Ok(len)
    }
}
