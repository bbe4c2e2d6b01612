//! Tokens, and the keys of leases: what a server need not remember (RCH-5, RCH-6).

use std::net::SocketAddr;
use std::time::Duration;

use sss_crypto::cookie::CookieKey;
use sss_crypto::{Generator, schedule};
use sss_proto::Instant;
use sss_wire::{Eid, Reader, reach};
use zeroize::Zeroizing;

use super::leases::Instance;
use crate::keys::LeaseKey;

/// Version of the layout of tokens.
const LAYOUT: u8 = 2;
/// Length of a nonce in bytes.
const NONCE: usize = 12;
/// Associated data.
const PURPOSE: &[u8] = b"sss token";

/// The server's secret, by which tokens are sealed and lease keys are made.
pub(super) struct Tokens {
    secret: Zeroizing<[u8; 32]>,
    sealing: CookieKey,
    /// The time when the present run began, and a name for it.
    run: (Instant, [u8; 2]),
}

/// Contents of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) eid: Eid,
    pub(super) instance: [u8; 8],
    /// The address that the token was sent to.
    pub(super) address: SocketAddr,
}

impl Bearer {
    /// The run of the host.
    pub(super) fn instance(&self) -> Instance {
        Instance {
            eid: self.eid,
            name: self.instance,
        }
    }
}

impl Tokens {
    /// Those of a run that begins now.
    pub(super) fn new(now: Instant, secret: &[u8; 32], boot: &[u8; 8]) -> Self {
        let [high, low, ..] = *boot;
        let mut key = Zeroizing::new([0; 32]);
        schedule::label(secret, "tokens", b"", &mut *key);
        Self {
            secret: Zeroizing::new(*secret),
            sealing: CookieKey::new(*key),
            run: (now, [high, low]),
        }
    }

    /// The key of a lease.
    pub(super) fn lease_key(&self, instance: &Instance) -> LeaseKey {
        let context = [&instance.eid.public_key()[..], &instance.name].concat();
        let mut key = [0; 32];
        schedule::label(&*self.secret, "lease", &context, &mut key);
        LeaseKey::new(key)
    }

    /// A token for the address, made now.
    pub(super) fn issue(&self, now: Instant, bearer: &Bearer, rng: &mut Generator) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rng.fill(&mut nonce);
        let address = reach::address_bytes(bearer.address);
        let (began, run) = self.run;
        let made = u32::try_from(now.since(began).as_secs()).unwrap_or(u32::MAX);
        let made = made.to_be_bytes();
        let plain = [&bearer.eid.public_key()[..], &bearer.instance, &address, &run, &made].concat();
        let sealed = self.sealing.seal(nonce, PURPOSE, &plain);
        [&[LAYOUT], &nonce[..], &sealed].concat()
    }

    /// Reads a token, and tells when it was made: one of an earlier run at the beginning of this one. `None` if this
    /// server did not make it.
    pub(super) fn open(&self, token: &[u8]) -> Option<(Bearer, Instant)> {
        let mut reader = Reader::new(token);
        if reader.u8().ok()? != LAYOUT {
            return None;
        }
        let nonce = reader.array().ok()?;
        let plain = self.sealing.open(nonce, PURPOSE, reader.rest()).ok()?;
        let mut reader = Reader::new(&plain);
        let bearer = Bearer {
            eid: Eid::from_public_key(&reader.array().ok()?),
            instance: reader.array().ok()?,
            address: reach::address(&mut reader).ok()?,
        };
        let (run, made) = (reader.array().ok()?, reader.u32().ok()?);
        let (began, present) = self.run;
        let after = if run == present { made } else { 0 };
        Some((bearer, began + Duration::from_secs(u64::from(after))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-5, RCH-6
    #[test]
    fn a_token_is_read_by_its_server_alone_and_never_repeats() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let run = |secret, boot| Tokens::new(at(100), &[secret; 32], &[boot; 8]);
        let (tokens, other) = (run(1, 1), run(2, 1));
        let mut rng = Generator::new(&[3; 32]);
        let bearer = Bearer {
            eid: Eid::from_public_key(&[4; 32]),
            instance: [5; 8],
            address: "192.0.2.1:7".parse().unwrap(),
        };
        let token = tokens.issue(at(107), &bearer, &mut rng);
        assert!(token.len() <= reach::MAX_TOKEN, "{}", token.len());
        assert_eq!(tokens.open(&token), Some((bearer, at(107))));
        assert_eq!(other.open(&token), None);
        let again = tokens.issue(at(107), &bearer, &mut rng);
        let same = token.iter().zip(&again).filter(|(a, b)| a == b).count();
        assert!(same < 10, "{same} bytes are the same");
        // The secret outlives the server's run.
        assert_eq!(run(1, 9).open(&token), Some((bearer, at(100))));
        let key = |bearer: &Bearer| *tokens.lease_key(&bearer.instance()).reveal();
        let another = Bearer {
            instance: [6; 8],
            ..bearer
        };
        assert_ne!(key(&bearer), key(&another));
        assert_eq!(key(&bearer), *run(1, 9).lease_key(&bearer.instance()).reveal());
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert_eq!(tokens.open(&changed), None, "byte {at}");
        }
        assert_eq!(tokens.open(&[]), None);
    }
}
