//! EIDs in files and messages of applications: as text where people read it, as bytes elsewhere.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::Eid;

/// Bytes of an EID.
const LEN: usize = 33;

impl Serialize for Eid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(self.as_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Eid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Text)
        } else {
            deserializer.deserialize_bytes(Binary)
        }
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Eid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an EID: 63 characters that begin with sss1")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Eid, E> {
        text.parse().map_err(E::custom)
    }
}

struct Binary;

impl<'de> Visitor<'de> for Binary {
    type Value = Eid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an EID: {LEN} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Eid, E> {
        let bytes = <&[u8; LEN]>::try_from(bytes).map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Eid::from_bytes(bytes).map_err(E::custom)
    }

    /// Formats without a type for bytes give them one by one.
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Eid, A::Error> {
        let mut bytes = [0; LEN];
        for (at, to) in bytes.iter_mut().enumerate() {
            let byte = sequence.next_element()?;
            *to = byte.ok_or_else(|| de::Error::invalid_length(at, &self))?;
        }
        if sequence.next_element::<u8>()?.is_some() {
            return Err(de::Error::invalid_length(LEN.saturating_add(1), &self));
        }
        Eid::from_bytes(&bytes).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_test::{Configure, Token, assert_de_tokens, assert_de_tokens_error, assert_tokens};

    use super::*;

    fn eid() -> Eid {
        Eid::from_public_key(&[0x42; 32])
    }

    #[test]
    fn people_read_text() {
        let text: &'static str = eid().to_string().leak();
        assert_tokens(&eid().readable(), &[Token::Str(text)]);
        assert_de_tokens(&eid().readable(), &[Token::String(text.to_uppercase().leak())]);
        let json = serde_json::to_string(&[eid()]).unwrap();
        assert_eq!(json, format!("[\"{text}\"]"));
        assert_eq!(serde_json::from_str::<[Eid; 1]>(&json).unwrap(), [eid()]);
        let error = serde_json::from_str::<Eid>(&json.replace("sss1", "sss2")[1..json.len() - 1]).unwrap_err();
        assert!(error.to_string().contains("begins with"), "{error}");
    }

    #[test]
    fn machines_read_bytes() {
        let bytes: &'static [u8] = eid().as_bytes().to_vec().leak();
        assert_tokens(&eid().compact(), &[Token::Bytes(bytes)]);
        assert_de_tokens(&eid().compact(), &[Token::ByteBuf(bytes)]);
        let sequence = |bytes: &[u8]| {
            let all = bytes.iter().map(|b| Token::U8(*b));
            let begin = [Token::Seq { len: None }];
            begin.into_iter().chain(all).chain([Token::SeqEnd]).collect::<Vec<_>>()
        };
        assert_de_tokens(&eid().compact(), &sequence(bytes));
        for wrong in [&bytes[..32], &[bytes, &[1]].concat(), &[]] {
            let expected = format!("invalid length {}, expected an EID: 33 bytes", wrong.len());
            let wrong: &'static [u8] = wrong.to_vec().leak();
            type Compact = serde_test::Compact<Eid>;
            assert_de_tokens_error::<Compact>(&[Token::Bytes(wrong)], &expected);
        }
        let mut other = bytes.to_vec();
        other[0] = 9;
        let expected = super::super::EidError::Type(9).to_string();
        assert_de_tokens_error::<serde_test::Compact<Eid>>(&[Token::Bytes(other.leak())], &expected);
    }
}
