//! Keys of a lease (RCH-6), and what is sealed and authenticated with them.

use std::fmt;

use sss_crypto::cookie::CookieKey;
use sss_crypto::{Generator, constant_time_eq, mac16, schedule};
use sss_wire::reach::bodies::{Lease, LeaseOk};
use sss_wire::reach::{self, Kind, Leg, Punch, Sealed};
use zeroize::Zeroizing;

/// The secret that a host and a server share as long as the host is registered. Wiped when dropped.
#[derive(Clone)]
pub struct LeaseKey(Zeroizing<[u8; 32]>);

/// Direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The registered host has sent it.
    Host,
    /// The server has.
    Server,
}

impl From {
    /// The sender of packets of this kind.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Lease | Kind::Connect => Self::Host,
            _ => Self::Server,
        }
    }

    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Host => ("host", "host mac"),
            Self::Server => ("server", "server mac"),
        }
    }
}

impl LeaseKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes: for REGISTERED alone.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    fn label(&self, name: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        schedule::label(&*self.0, name, b"", &mut *key);
        key
    }

    fn sealing(&self, from: From) -> CookieKey {
        CookieKey::new(*self.label(from.labels().0))
    }

    /// Makes a packet. `token` is for LEASE and CONNECT; `plaintext` is given the number of bytes before it.
    pub fn seal(
        &self,
        kind: Kind,
        token: Option<&[u8]>,
        rng: &mut Generator,
        plaintext: impl FnOnce(usize) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut id = [0; 8];
        rng.fill(&mut id);
        let mut packet = reach::header(kind, &id, token);
        let plaintext = plaintext(packet.len());
        let sealed = self.sealing(From::of(kind)).seal(nonce(&id), &packet, &plaintext);
        packet.extend_from_slice(&sealed);
        packet
    }

    /// LEASE.
    pub fn lease(&self, lease: &Lease, token: &[u8], rng: &mut Generator) -> Vec<u8> {
        self.seal(Kind::Lease, Some(token), rng, |header| {
            lease.encode(reach::lease_plaintext(header))
        })
    }

    /// LEASE_OK.
    pub fn lease_ok(&self, ok: &LeaseOk, rng: &mut Generator) -> Vec<u8> {
        self.seal(Kind::LeaseOk, None, rng, |header| {
            ok.encode(reach::lease_plaintext(header))
        })
    }

    /// Opens a packet. `None` if it was not sealed with this key, or was changed.
    pub fn open(&self, packet: &Sealed<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let key = self.sealing(From::of(packet.kind));
        let plaintext = key.open(nonce(packet.id), packet.header, packet.sealed).ok()?;
        Some(Zeroizing::new(plaintext))
    }

    /// LEG, as this side sends it.
    pub fn leg(&self, from: From, introduction: &[u8; 8], key: &[u8; sss_wire::long::KEM_KEY]) -> Vec<u8> {
        let mut packet = reach::leg_without_mac(introduction, key);
        let mac = mac16(&*self.label(from.labels().1), &[&packet]);
        packet.extend_from_slice(&mac);
        packet
    }

    /// Returns whether a LEG is genuine.
    pub fn is_genuine(&self, from: From, leg: &Leg<'_>) -> bool {
        let mac = mac16(&*self.label(from.labels().1), &[leg.authed]);
        constant_time_eq(&mac, leg.mac)
    }
}

/// The name of the PUNCHes of an introduction, the same for both hosts (RCH-7).
pub fn punch_name(punch_key: &[u8; 32]) -> [u8; 8] {
    let mut name = [0; 8];
    schedule::label(punch_key, "punch", b"", &mut name);
    name
}

/// PUNCH, or its answer (RCH-7).
pub fn punch(is_answer: bool, introduction: &[u8; 8], nonce: &[u8; 16], punch_key: &[u8; 32]) -> Vec<u8> {
    let mut packet = reach::punch_without_mac(is_answer, introduction, nonce);
    let mac = mac16(punch_key, &[&packet]);
    packet.extend_from_slice(&mac);
    packet
}

/// Returns whether a PUNCH is genuine.
pub fn is_genuine_punch(punch: &Punch<'_>, punch_key: &[u8; 32]) -> bool {
    constant_time_eq(&mac16(punch_key, &[punch.authed]), punch.mac)
}

fn nonce(id: &[u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(to) = nonce.first_chunk_mut() {
        *to = *id;
    }
    nonce
}

impl fmt::Debug for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sss_wire::reach::Packet;
    use sss_wire::reach::bodies::{MappedPort, Presence};

    fn sealed(packet: &[u8]) -> Sealed<'_> {
        match Packet::parse(packet).unwrap() {
            Packet::Sealed(sealed) => sealed,
            other => panic!("{other:?}"),
        }
    }

    // spec: RCH-6, RCH-7
    #[test]
    fn a_packet_opens_with_the_key_of_its_lease_in_its_direction_alone() {
        let (key, other) = (LeaseKey::new([1; 32]), LeaseKey::new([2; 32]));
        let mut rng = Generator::new(&[3; 32]);
        let lease = Lease {
            boot: [4; 8],
            counter: 5,
            rtt: 6,
            presence: Presence::Found,
            is_veiled: true,
            answer: None,
            mapped: MappedPort::default(),
        };
        let packet = key.lease(&lease, &[7; 87], &mut rng);
        assert_eq!(packet.len(), reach::LEASE_SIZE);
        let opened = key.open(&sealed(&packet)).unwrap();
        assert_eq!(Lease::decode(&opened), Ok(lease));
        assert_eq!(other.open(&sealed(&packet)), None);
        let again = key.lease(&lease, &[7; 87], &mut rng);
        assert_ne!(packet[101..], again[101..], "nothing sealed repeats");
        for at in 5..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            if let Ok(Packet::Sealed(sealed)) = Packet::parse(&changed) {
                assert_eq!(key.open(&sealed), None, "byte {at}");
            }
        }
        let mut turned = key.seal(Kind::Found, None, &mut rng, |_| vec![0; 13]);
        assert!(key.open(&sealed(&turned)).is_some());
        turned[0] = Kind::Notify as u8;
        assert_eq!(key.open(&sealed(&turned)), None, "the type is bound");
    }

    // spec: RCH-11, RCH-12
    #[test]
    fn legs_and_punches_are_authenticated() {
        let key = LeaseKey::new([1; 32]);
        let leg = key.leg(From::Host, &[2; 8], &[3; 1184]);
        let Packet::Leg(read) = Packet::parse(&leg).unwrap() else {
            panic!("a LEG");
        };
        assert!(key.is_genuine(From::Host, &read));
        assert!(!key.is_genuine(From::Server, &read));
        assert!(!LeaseKey::new([9; 32]).is_genuine(From::Host, &read));

        let punched = punch(false, &[4; 8], &[5; 16], &[6; 32]);
        let Packet::Punch(read) = Packet::parse(&punched).unwrap() else {
            panic!("a PUNCH");
        };
        assert!(is_genuine_punch(&read, &[6; 32]) && !read.is_answer);
        assert!(!is_genuine_punch(&read, &[7; 32]));
        let mut turned = punched.clone();
        turned[0] = Kind::PunchAnswer as u8;
        let Packet::Punch(read) = Packet::parse(&turned).unwrap() else {
            panic!("a PUNCH");
        };
        assert!(!is_genuine_punch(&read, &[6; 32]), "a question is no answer");
    }
}
