//! Words by which hosts find each other on the local network (RCH-33 to RCH-36): names and tags. To send and read the
//! messages of mDNS is a driver's matter.

use std::fmt::Write as _;
use std::time::Duration;

use sss_crypto::{constant_time_eq, schedule};
use sss_wire::Eid;

/// Service type (RFC 6763) of hosts.
pub const SERVICE: &str = "_sss._udp.local";
/// Attribute of the tag.
pub const TAG_KEY: &str = "t";
/// Time after which a host that nobody knows of is not on the local network.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a name's random number, and of a tag.
pub const LEN: usize = 16;

/// Random number by which a host is named on one link: another on each, and after each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; LEN]);

/// Sign by which those who know a host's EID recognise it, and nobody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; LEN]);

impl Tag {
    /// The tag of a host under a name (RCH-34).
    pub fn new(eid: &Eid, nonce: &Nonce) -> Self {
        let mac = schedule::hkdf_extract(&nonce.0, &[b"sss mdns", eid.as_bytes()]);
        Self(mac.first_chunk().copied().unwrap_or_default())
    }

    /// Returns whether it is that of a host under a name.
    pub fn is_of(&self, eid: &Eid, nonce: &Nonce) -> bool {
        constant_time_eq(&Self::new(eid, nonce).0, &self.0)
    }

    /// The value of the attribute.
    pub fn to_text(self) -> String {
        hex(&self.0)
    }

    /// Reads the value of the attribute.
    pub fn parse(text: &[u8]) -> Option<Self> {
        of_hex(text).map(Self)
    }
}

impl Nonce {
    /// The first label of the instance, and of the host.
    pub fn to_text(self) -> String {
        hex(&self.0)
    }

    /// Reads the first label of an instance. Capitals are the same: names of DNS know no difference.
    pub fn parse(label: &[u8]) -> Option<Self> {
        of_hex(label).map(Self)
    }
}

fn hex(bytes: &[u8; LEN]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn of_hex(text: &[u8]) -> Option<[u8; LEN]> {
    if text.len() != 2 * LEN {
        return None;
    }
    let digit = |at: usize| {
        char::from(*text.get(at)?)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    };
    let mut bytes = [0; LEN];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * n)? << 4 | digit(2 * n + 1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eid(n: u8) -> Eid {
        Eid::from_public_key(&[n; 32])
    }

    // spec: RCH-34
    #[test]
    fn threat_43_a_tag_is_known_to_who_knows_the_eid_and_is_another_for_each_name() {
        let (one, other) = (Nonce([1; LEN]), Nonce([2; LEN]));
        assert!(Tag::new(&eid(1), &one).is_of(&eid(1), &one));
        assert!(!Tag::new(&eid(1), &one).is_of(&eid(2), &one));
        assert_ne!(Tag::new(&eid(1), &one), Tag::new(&eid(1), &other));
        assert_ne!(Tag::new(&eid(1), &one), Tag::new(&eid(2), &one));
    }

    // spec: RCH-34
    #[test]
    fn names_and_tags_are_32_hexadecimal_digits_and_nothing_else() {
        let tag = Tag::new(&eid(1), &Nonce([0xab; LEN]));
        assert_eq!(Tag::parse(tag.to_text().as_bytes()), Some(tag));
        assert_eq!(Nonce::parse(&[b'A'; 32]), Some(Nonce([0xaa; LEN])));
        for bad in [
            &b""[..],
            &[b'a'; 31],
            &[b'a'; 33],
            &[b'g'; 32],
            &[0xff; 32],
            "\u{660}".repeat(16).as_bytes(),
        ] {
            assert_eq!(Tag::parse(bad), None, "{bad:?}");
        }
    }
}
