//! Messages of STUN (RFC 8489) and TURN (RFC 8656): how they are written and read.
//!
//! What is read is a slice of the packet, and nothing in it is believed: lengths are checked, attributes that are not
//! known are passed over, and of each the first counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use zeroize::Zeroizing;

/// Bytes before the attributes.
pub(super) const HEADER: usize = 20;
/// Bytes before the data of a channel.
pub(super) const CHANNEL_HEADER: usize = 4;
/// Numbers that channels may have.
pub(super) const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

const MAGIC: u32 = 0x2112_a442;
/// Length of MESSAGE-INTEGRITY with its header.
const INTEGRITY: usize = 24;

/// Name of a request, repeated in its answer: random, so that nobody off the path can answer.
pub(super) type Transaction = [u8; 12];

/// Key of long-term credentials.
pub(super) type Key = Zeroizing<[u8; 16]>;

/// Methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Allocate,
    Refresh,
    Send,
    Data,
    CreatePermission,
    ChannelBind,
}

/// Class of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// Attributes that are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Username = 0x0006,
    Integrity = 0x0008,
    ErrorCode = 0x0009,
    ChannelNumber = 0x000c,
    Lifetime = 0x000d,
    PeerAddress = 0x0012,
    Data = 0x0013,
    Realm = 0x0014,
    Nonce = 0x0015,
    RelayedAddress = 0x0016,
    RequestedTransport = 0x0019,
}

impl Method {
    const ALL: [(Self, u16); 6] = [
        (Self::Allocate, 3),
        (Self::Refresh, 4),
        (Self::Send, 6),
        (Self::Data, 7),
        (Self::CreatePermission, 8),
        (Self::ChannelBind, 9),
    ];

    fn number(self) -> u16 {
        Self::ALL
            .iter()
            .find(|(method, _)| *method == self)
            .map_or(0, |(_, number)| *number)
    }
}

impl Class {
    fn bits(self) -> u16 {
        match self {
            Self::Request => 0,
            Self::Indication => 0x010,
            Self::Success => 0x100,
            Self::Error => 0x110,
        }
    }

    fn of(kind: u16) -> Self {
        match (kind & 0x100 != 0, kind & 0x010 != 0) {
            (false, false) => Self::Request,
            (false, true) => Self::Indication,
            (true, false) => Self::Success,
            (true, true) => Self::Error,
        }
    }
}

/// Key that follows from a user's password, as a server of that realm has it. Characters beyond ASCII are taken as they
/// are.
pub(super) fn key(user: &str, realm: &[u8], password: &str) -> Key {
    let mut hash = Md5::new();
    hash.update(user.as_bytes());
    hash.update(b":");
    hash.update(realm);
    hash.update(b":");
    hash.update(password.as_bytes());
    Zeroizing::new(hash.finalize().into())
}

/// A message that is being written.
pub(super) struct Writer {
    bytes: Vec<u8>,
    transaction: Transaction,
}

impl Writer {
    pub(super) fn new(method: Method, class: Class, transaction: Transaction) -> Self {
        let mut bytes = Vec::with_capacity(128);
        // No method that is used has bits beyond the lowest four, so that those of the class are nowhere between.
        bytes.extend_from_slice(&(method.number() | class.bits()).to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC.to_be_bytes());
        bytes.extend_from_slice(&transaction);
        Self { bytes, transaction }
    }

    /// Adds an attribute.
    pub(super) fn put(mut self, attribute: Attribute, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&(attribute as u16).to_be_bytes());
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an address, as XOR-PEER-ADDRESS and XOR-RELAYED-ADDRESS have it.
    pub(super) fn put_address(self, attribute: Attribute, address: SocketAddr) -> Self {
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend_from_slice(&(address.port() ^ (MAGIC >> 16) as u16).to_be_bytes());
        let mask = mask(&self.transaction);
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        value.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
        self.put(attribute, &value)
    }

    /// The message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.set_len(0);
        self.bytes
    }

    /// The message, with MESSAGE-INTEGRITY under that key.
    pub(super) fn seal(mut self, key: &Key) -> Vec<u8> {
        self.set_len(INTEGRITY);
        let mac = mac(key, &self.bytes).finalize().into_bytes();
        self.put(Attribute::Integrity, &mac).bytes
    }

    fn set_len(&mut self, more: usize) {
        let len = u16::try_from((self.bytes.len() + more).saturating_sub(HEADER)).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(2..4) {
            field.copy_from_slice(&len.to_be_bytes());
        }
    }
}

fn mac(key: &Key, bytes: &[u8]) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(&**key).unwrap_or_else(|_| Hmac::<Sha1>::new(&Default::default()));
    mac.update(bytes);
    mac
}

/// Bytes that addresses are masked with.
fn mask(transaction: &Transaction) -> impl Iterator<Item = u8> + '_ {
    MAGIC.to_be_bytes().into_iter().chain(transaction.iter().copied())
}

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) method: Method,
    pub(super) class: Class,
    pub(super) transaction: &'a Transaction,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads one. `None` if it is none, or of a method that is not used.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let kind = u16::from_be_bytes(*bytes.first_chunk()?);
        let len = usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?));
        let magic = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
        let transaction = bytes.get(8..)?.first_chunk()?;
        if magic != MAGIC || kind & 0xc000 != 0 || len % 4 != 0 || bytes.len() != HEADER + len {
            return None;
        }
        let number = kind & !0x110;
        let (method, _) = Method::ALL.iter().find(|(_, known)| *known == number)?;
        Some(Self {
            method: *method,
            class: Class::of(kind),
            transaction,
            bytes,
        })
    }

    /// The attributes, each with where it begins, up to the first that is cut off.
    fn attributes(&self) -> impl Iterator<Item = (usize, u16, &'a [u8])> {
        let bytes = self.bytes;
        let mut at = HEADER;
        std::iter::from_fn(move || {
            let begin = at;
            let kind = u16::from_be_bytes(*bytes.get(begin..)?.first_chunk()?);
            let len = usize::from(u16::from_be_bytes(*bytes.get(begin + 2..)?.first_chunk()?));
            let value = bytes.get(begin + 4..begin + 4 + len)?;
            at = begin + 4 + len.next_multiple_of(4);
            Some((begin, kind, value))
        })
    }

    /// The value of an attribute: the first, and none behind MESSAGE-INTEGRITY, which nothing protects there.
    pub(super) fn get(&self, attribute: Attribute) -> Option<&'a [u8]> {
        let protected = |(_, kind, _): &(usize, u16, &[u8])| *kind != Attribute::Integrity as u16;
        let mut all = self.attributes().take_while(protected);
        let found = all.find(|(_, kind, _)| *kind == attribute as u16);
        found.map(|(.., value)| value)
    }

    /// The value of an attribute that is a number of 32 bits.
    pub(super) fn number(&self, attribute: Attribute) -> Option<u32> {
        self.get(attribute)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// The code and the words of an error.
    pub(super) fn error(&self) -> Option<(u16, &'a [u8])> {
        let value = self.get(Attribute::ErrorCode)?;
        let [_, _, hundreds, rest] = *value.first_chunk()?;
        let code = u16::from(hundreds & 7) * 100 + u16::from(rest);
        Some((code, value.get(4..).unwrap_or_default()))
    }

    /// The value of an attribute that is an address.
    pub(super) fn address(&self, attribute: Attribute) -> Option<SocketAddr> {
        let value = self.get(attribute)?;
        let [_, family, high, low] = *value.first_chunk()?;
        let port = u16::from_be_bytes([high, low]) ^ (MAGIC >> 16) as u16;
        let masked = value.get(4..)?;
        let mut octets = [0; 16];
        for (octet, (masked, mask)) in octets.iter_mut().zip(masked.iter().zip(mask(self.transaction))) {
            *octet = masked ^ mask;
        }
        let ip = match (family, masked.len()) {
            (1, 4) => IpAddr::V4(Ipv4Addr::from(*octets.first_chunk::<4>()?)),
            (2, 16) => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// Returns whether it was made by somebody who knows the key.
    pub(super) fn is_genuine(&self, key: &Key) -> bool {
        let found = self
            .attributes()
            .find(|(_, kind, _)| *kind == Attribute::Integrity as u16);
        let Some((begin, _, value)) = found else {
            return false;
        };
        let Some(before) = self.bytes.get(..begin) else {
            return false;
        };
        // As it was when its length ended with this attribute.
        let len = u16::try_from(begin + INTEGRITY - HEADER).unwrap_or(u16::MAX);
        let mut head = before.to_vec();
        if let Some(field) = head.get_mut(2..4) {
            field.copy_from_slice(&len.to_be_bytes());
        }
        mac(key, &head).verify_slice(value).is_ok()
    }
}

/// Writes data for the peer of a channel: over TCP, the next message begins at a multiple of four.
pub(super) fn channel_data(number: u16, data: &[u8], is_padded: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHANNEL_HEADER + data.len().next_multiple_of(4));
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(data);
    if is_padded {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Reads data of a channel: its number, and where the data ends.
pub(super) fn read_channel_data(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let number = u16::from_be_bytes(*bytes.first_chunk()?);
    let len = usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?));
    let data = bytes.get(CHANNEL_HEADER..CHANNEL_HEADER + len)?;
    CHANNELS.contains(&number).then_some((number, data))
}

/// Error: what comes over TCP is neither a message nor data of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoMessage;

/// Returns how long what comes next over TCP is, as soon as that is known and all of it is there.
///
/// # Errors
/// If it is neither a message nor data of a channel: where another one begins is not known then.
pub(super) fn next_len(bytes: &[u8]) -> Result<Option<usize>, NoMessage> {
    let Some([first, _, high, low]) = bytes.first_chunk().copied() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let whole = match first {
        0..=0x3f => HEADER + len,
        0x40..=0x4f => CHANNEL_HEADER + len.next_multiple_of(4),
        _ => return Err(NoMessage),
    };
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The request of RFC 5769, section 2.4, with long-term credentials: its user name and password are no ASCII.
    const VECTOR: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000\
                          0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e\
                          6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn integrity_is_that_of_the_vectors_of_rfc_5769() {
        let mut packet = bytes(VECTOR);
        // Its method is Binding, which is not used: read as Allocate, but for the MAC.
        let user = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let key = key(user, b"example.org", "TheMatrIX");
        let message = Message {
            method: Method::Allocate,
            class: Class::Request,
            transaction: packet[8..].first_chunk().unwrap(),
            bytes: &packet,
        };
        assert_eq!(message.get(Attribute::Username), Some(user.as_bytes()));
        assert_eq!(message.get(Attribute::Realm), Some(&b"example.org"[..]));
        assert!(message.is_genuine(&key));
        packet[30] ^= 1;
        let forged = Message {
            method: Method::Allocate,
            class: Class::Request,
            transaction: packet[8..].first_chunk().unwrap(),
            bytes: &packet,
        };
        assert!(!forged.is_genuine(&key));
    }

    #[test]
    fn what_is_written_is_read_and_nothing_behind_the_mac_counts() {
        let key = key("u", b"r", "p");
        let at: [SocketAddr; 2] = ["192.0.2.1:32853".parse().unwrap(), "[2001:db8::9]:7".parse().unwrap()];
        for address in at {
            let message = Writer::new(Method::CreatePermission, Class::Request, [7; 12])
                .put(Attribute::Nonce, b"abc")
                .put_address(Attribute::PeerAddress, address)
                .seal(&key);
            let read = Message::parse(&message).unwrap();
            assert_eq!((read.method, read.class), (Method::CreatePermission, Class::Request));
            assert_eq!(read.transaction, &[7; 12]);
            assert_eq!(read.address(Attribute::PeerAddress), Some(address));
            assert_eq!(read.get(Attribute::Nonce), Some(&b"abc"[..]));
            assert!(read.is_genuine(&key));
            let mut longer = message.clone();
            longer.extend_from_slice(&[0, 13, 0, 4, 0, 0, 0, 1]);
            let len = u16::try_from(longer.len() - HEADER).unwrap();
            longer[2..4].copy_from_slice(&len.to_be_bytes());
            let read = Message::parse(&longer).unwrap();
            assert!(read.is_genuine(&key) && read.number(Attribute::Lifetime).is_none());
        }
    }

    // spec: RCH-50
    #[test]
    fn threat_46_what_is_no_message_is_none_however_it_is_cut_or_changed() {
        let key = key("u", b"r", "p");
        let whole = Writer::new(Method::Data, Class::Indication, [7; 12])
            .put_address(Attribute::PeerAddress, "192.0.2.1:32853".parse().unwrap())
            .put(Attribute::Data, &[9; 33])
            .finish();
        for cut in 0..whole.len() {
            assert!(Message::parse(&whole[..cut]).is_none(), "{cut}");
        }
        for n in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[n / 8] ^= 1 << (n % 8);
            if let Some(message) = Message::parse(&changed) {
                // Whatever it says, it is read without harm.
                let _ = (
                    message.error(),
                    message.is_genuine(&key),
                    message.number(Attribute::Lifetime),
                );
                assert!(message.get(Attribute::Data).is_none_or(|data| data.len() <= 36));
                let _ = message.address(Attribute::PeerAddress);
            }
        }
    }

    // spec: RCH-50
    #[test]
    fn over_tcp_what_comes_is_cut_where_it_ends() {
        let message = Writer::new(Method::Data, Class::Indication, [7; 12]).finish();
        let data = channel_data(0x4001, &[5; 6], true);
        assert_eq!(data.len(), 12);
        assert_eq!(read_channel_data(&data), Some((0x4001, &[5; 6][..])));
        let all = [&message[..], &data].concat();
        for len in 0..message.len() {
            assert_eq!(next_len(&all[..len]), Ok(None));
        }
        assert_eq!(next_len(&all), Ok(Some(HEADER)));
        assert_eq!(next_len(&all[HEADER..]), Ok(Some(12)));
        assert_eq!(next_len(&all[HEADER..all.len() - 1]), Ok(None));
        assert_eq!(next_len(&[0x50, 0, 0, 0]), Err(NoMessage));
        assert_eq!(read_channel_data(&[0x50, 0, 0, 0]), None);
    }
}
