//! Messages of TURN (RFC 8656): messages of STUN (RFC 8489) with methods and attributes of their own, written and read
//! by the crate `stun-types`; and data of channels, which is no message.
//!
//! What is read is a slice of the packet, and nothing in it is believed: lengths are checked, attributes that are not
//! known are passed over, and of each the first counts.

use std::net::SocketAddr;

use stun_types::attribute::{Attribute as _, AttributeType, ErrorCode, MessageIntegrity, RawAttribute, XorSocketAddr};
pub(super) use stun_types::message::MessageClass as Class;
use stun_types::message::{
    self as stun, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, MessageHeader, MessageType, MessageWrite,
    MessageWriteVec, TransactionId,
};

/// Bytes before the attributes.
pub(super) const HEADER: usize = MessageHeader::LENGTH;
/// Bytes before the data of a channel.
pub(super) const CHANNEL_HEADER: usize = 4;
/// Numbers that channels may have.
pub(super) const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// Longest message that is read, in bytes. None that is of use is as long; and `stun-types` reckons in 16 bits where a
/// MESSAGE-INTEGRITY ends, which overflows near 64 KiB.
const MAX_MESSAGE: usize = 16 << 10;
/// Bytes before the value of an attribute.
const ATTRIBUTE_HEADER: usize = 4;
/// Length of MESSAGE-INTEGRITY with its header.
const INTEGRITY: usize = 24;

/// Name of a request, repeated in its answer: random, so that nobody off the path can answer.
pub(super) type Transaction = [u8; 12];

/// Methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Allocate = 3,
    Refresh = 4,
    Send = 6,
    Data = 7,
    CreatePermission = 8,
    ChannelBind = 9,
}

/// Attributes that are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Username = 0x0006,
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
    const ALL: [Self; 6] = [
        Self::Allocate,
        Self::Refresh,
        Self::Send,
        Self::Data,
        Self::CreatePermission,
        Self::ChannelBind,
    ];
}

impl Attribute {
    fn kind(self) -> AttributeType {
        AttributeType::new(self as u16)
    }
}

/// Key of long-term credentials. It has no `Debug` form, since that of what is in it shows the key.
pub(super) struct Key(IntegrityKey);

/// Key that follows from a user's password, as a server of that realm has it. Characters beyond ASCII are taken as they
/// are.
pub(super) fn key(user: &str, realm: &str, password: &str) -> Key {
    let credentials = LongTermKeyCredentials::new(user.to_owned(), password.to_owned(), realm.to_owned());
    Key(credentials.make_key(IntegrityAlgorithm::Sha1))
}

/// A message that is being written.
pub(super) struct Writer {
    message: MessageWriteVec,
    transaction: TransactionId,
}

impl Writer {
    pub(super) fn new(method: Method, class: Class, transaction: Transaction) -> Self {
        let kind = MessageType::from_class_method(class, stun::Method::new(method as u16));
        let mut number = [0; 16];
        if let Some(last) = number.last_chunk_mut() {
            *last = transaction;
        }
        let transaction = u128::from_be_bytes(number).into();
        let message = stun::Message::builder(kind, transaction, MessageWriteVec::with_capacity(128));
        Self { message, transaction }
    }

    /// Adds an attribute, of at most 65,535 bytes.
    pub(super) fn put(mut self, attribute: Attribute, value: &[u8]) -> Self {
        let attribute = RawAttribute::new(attribute.kind(), value);
        self.message.push_attribute_unchecked(&attribute);
        self
    }

    /// Adds an address, as XOR-PEER-ADDRESS and XOR-RELAYED-ADDRESS have it.
    pub(super) fn put_address(mut self, attribute: Attribute, address: SocketAddr) -> Self {
        let address = XorSocketAddr::new(address, self.transaction);
        let attribute = address.to_raw(attribute.kind());
        self.message.push_attribute_unchecked(&attribute);
        self
    }

    /// The message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.message.finish()
    }

    /// The message, with MESSAGE-INTEGRITY under that key.
    pub(super) fn seal(mut self, key: &Key) -> Vec<u8> {
        // Not by `add_message_integrity_with_key`: it shows the key to whoever logs at the level of traces.
        self.message.push_attribute_unchecked(&MessageIntegrity::new([0; 20]));
        if let Some((before, attribute)) = self.message.mut_data().split_last_chunk_mut::<INTEGRITY>()
            && let Ok(mac) = MessageIntegrity::compute(&[before], &key.0)
            && let Some(value) = attribute.last_chunk_mut()
        {
            *value = mac;
        }
        self.finish()
    }
}

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) method: Method,
    pub(super) class: Class,
    pub(super) transaction: &'a Transaction,
    bytes: &'a [u8],
    stun: stun::Message<'a>,
}

impl<'a> Message<'a> {
    /// Reads one. `None` if it is none, or too long, or of a method that is not used.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = MessageHeader::from_bytes(bytes).ok()?;
        // What is behind its end would be read as attributes.
        let len = usize::from(header.data_length());
        if !len.is_multiple_of(4) || bytes.len() != HEADER + len || bytes.len() > MAX_MESSAGE {
            return None;
        }
        let stun = stun::Message::from_bytes(bytes).ok()?;
        let number = stun.method().value();
        let method = Method::ALL.into_iter().find(|method| *method as u16 == number)?;
        Some(Self {
            method,
            class: stun.class(),
            transaction: bytes.get(8..)?.first_chunk()?,
            bytes,
            stun,
        })
    }

    /// The value of an attribute: the first, and none behind MESSAGE-INTEGRITY, which nothing protects there.
    pub(super) fn get(&self, attribute: Attribute) -> Option<&'a [u8]> {
        let (at, found) = self.stun.raw_attribute_and_offset(attribute.kind())?;
        self.bytes.get(at + ATTRIBUTE_HEADER..)?.get(..found.length().into())
    }

    /// The value of an attribute that is a number of 32 bits.
    pub(super) fn number(&self, attribute: Attribute) -> Option<u32> {
        self.get(attribute)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// The code and the words of an error.
    pub(super) fn error(&self) -> Option<(u16, String)> {
        let error = self.stun.attribute::<ErrorCode>().ok()?;
        Some((error.code(), error.reason().to_owned()))
    }

    /// The value of an attribute that is an address.
    pub(super) fn address(&self, attribute: Attribute) -> Option<SocketAddr> {
        let found = self.stun.raw_attribute(attribute.kind())?;
        let address = XorSocketAddr::from_raw(&found).ok()?;
        Some(address.addr(self.stun.transaction_id()))
    }

    /// Returns whether it was made by somebody who knows the key.
    pub(super) fn is_genuine(&self, key: &Key) -> bool {
        self.stun.validate_integrity_with_key(&key.0).is_ok()
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

    impl Writer {
        /// Adds an error, as servers tell it.
        pub(in crate::turn) fn put_error(mut self, code: u16, words: &str) -> Self {
            self.message
                .push_attribute_unchecked(&ErrorCode::new(code, words).unwrap());
            self
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// A message whose method is not used (Binding): read as Allocate, but for the MAC.
    fn of_any_method(bytes: &[u8]) -> Message<'_> {
        Message {
            method: Method::Allocate,
            class: Class::Request,
            transaction: bytes[8..].first_chunk().unwrap(),
            bytes,
            stun: stun::Message::from_bytes(bytes).unwrap(),
        }
    }

    #[test]
    fn integrity_is_that_of_the_vectors_of_rfc_5769() {
        let mut packet = bytes(VECTOR);
        let user = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let key = key(user, "example.org", "TheMatrIX");
        let message = of_any_method(&packet);
        assert_eq!(message.get(Attribute::Username), Some(user.as_bytes()));
        assert_eq!(message.get(Attribute::Realm), Some(&b"example.org"[..]));
        assert!(message.is_genuine(&key));
        packet[30] ^= 1;
        assert!(!of_any_method(&packet).is_genuine(&key));
    }

    #[test]
    fn what_is_written_is_read_and_nothing_behind_the_mac_counts() {
        let key = key("u", "r", "p");
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
        let key = key("u", "r", "p");
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
    fn threat_46_an_answer_is_none_or_harmless_however_it_is_cut_or_changed() {
        let key = key("u", "r", "p");
        let answer = Writer::new(Method::Allocate, Class::Success, [7; 12])
            .put_address(Attribute::RelayedAddress, "[2001:db8::9]:7".parse().unwrap())
            .put(Attribute::Lifetime, &600_u32.to_be_bytes())
            .seal(&key);
        let error = Writer::new(Method::Allocate, Class::Error, [7; 12]).put_error(401, "Unauthorized");
        let error = error.put(Attribute::Realm, b"r").put(Attribute::Nonce, b"n").seal(&key);
        for whole in [answer, error] {
            assert!(Message::parse(&whole).unwrap().is_genuine(&key));
            for cut in 0..whole.len() {
                assert!(Message::parse(&whole[..cut]).is_none(), "{cut}");
                // Where its length says that it ends there.
                let mut short = whole[..cut].to_vec();
                if let (Some(len), Some(field)) = (cut.checked_sub(HEADER), short.get_mut(2..4)) {
                    field.copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
                }
                assert!(!is_taken(&short, &key), "{cut}");
            }
            let longer = [&whole[..], &[0, 13, 0, 4, 0, 0, 0, 1]].concat();
            assert!(Message::parse(&longer).is_none(), "more than its length says");
            for n in 0..whole.len() * 8 {
                let mut changed = whole.clone();
                changed[n / 8] ^= 1 << (n % 8);
                assert!(!is_taken(&changed, &key), "{n}");
            }
        }
    }

    /// Reads all that there is in a packet, and returns whether it is a message under that key.
    fn is_taken(packet: &[u8], key: &Key) -> bool {
        let Some(message) = Message::parse(packet) else {
            return false;
        };
        let _ = (message.error(), message.number(Attribute::Lifetime));
        for attribute in [Attribute::RelayedAddress, Attribute::Realm, Attribute::Nonce] {
            let _ = (message.get(attribute), message.address(attribute));
        }
        message.is_genuine(key)
    }

    // spec: RCH-50
    #[test]
    fn threat_46_what_is_too_long_is_no_message_and_what_is_as_long_as_may_be_is_read() {
        let key = key("u", "r", "p");
        let of = |len: usize| {
            Writer::new(Method::Data, Class::Indication, [7; 12])
                .put(Attribute::Data, &vec![9; len])
                .seal(&key)
        };
        let most = MAX_MESSAGE - HEADER - ATTRIBUTE_HEADER - INTEGRITY;
        assert!(is_taken(&of(most), &key));
        // The first: its length is all that there is of a number of 16 bits.
        for len in [0xfffc - ATTRIBUTE_HEADER - INTEGRITY, most + 1] {
            assert!(!is_taken(&of(len), &key), "{len}");
        }
    }

    // spec: RCH-50
    #[test]
    fn threat_46_a_key_and_its_password_are_in_no_trace() {
        let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let shown = Log(std::sync::Arc::clone(&log));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_writer(move || shown.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let key = key("u", "r", "a password");
            let message = Writer::new(Method::Refresh, Class::Success, [7; 12]).seal(&key);
            assert!(is_taken(&message, &key));
        });
        let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert!(log.contains("MessageIntegrity::compute"), "{log}");
        // The last: so begins the key, as an array.
        for secret in ["password", "IntegrityKey", "132, 146, 20, 22"] {
            assert!(!log.contains(secret), "{log}");
        }
    }

    #[derive(Clone)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
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
