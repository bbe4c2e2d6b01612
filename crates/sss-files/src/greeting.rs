//! The first message of a session, from the client.

use crate::protocol::{Cursor, Stop, put_field, put_varint};

/// Longest greeting, in bytes (FIL-30).
pub const MAX_GREETING: usize = 1024;
/// Most fields.
const MAX_FIELDS: u64 = 64;
/// The type of the secret.
const SECRET: u64 = 1;

/// Words of a client about itself, before it asks for anything (FIL-30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greeting<'a> {
    /// The secret of its ticket, if it has one.
    pub secret: Option<&'a [u8]>,
}

impl<'a> Greeting<'a> {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.secret.is_some().into());
        if let Some(secret) = self.secret {
            put_field(&mut out, SECRET, secret);
        }
        out
    }

    /// Reads the wire form. Fields of other types are skipped.
    ///
    /// # Errors
    /// If it is not there completely, has two secrets, or can only become longer than a greeting is.
    pub fn decode(from: &mut Cursor<'a>) -> Result<Self, Stop> {
        let mut greeting = Self::default();
        let begin = from.remaining();
        let fields = from.varint()?;
        if fields > MAX_FIELDS {
            return Err(Stop::Malformed("a greeting of more than 64 fields"));
        }
        for _ in 0..fields {
            let (kind, value) = from.field(MAX_GREETING)?;
            if kind == SECRET && greeting.secret.replace(value).is_some() {
                return Err(Stop::Malformed("a greeting with two secrets"));
            }
        }
        if begin.saturating_sub(from.remaining()) > MAX_GREETING {
            return Err(Stop::Malformed("a greeting longer than 1024 bytes"));
        }
        Ok(greeting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_and_every_beginning_is_incomplete() {
        for secret in [None, Some(&[7_u8; 16][..])] {
            let bytes = Greeting { secret }.encode();
            assert_eq!(Greeting::decode(&mut Cursor::new(&bytes)), Ok(Greeting { secret }));
            for len in 0..bytes.len() {
                assert_eq!(Greeting::decode(&mut Cursor::new(&bytes[..len])), Err(Stop::Incomplete));
            }
        }
    }

    // spec: FIL-30
    #[test]
    fn unknown_fields_are_skipped_and_nonsense_is_not_taken() {
        let bytes = [3, 9, 2, 1, 1, 1, 2, 7, 8, 0x40, 99, 0];
        let greeting = Greeting::decode(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!(greeting.secret, Some(&[7, 8][..]));
        let long = [&[2, 9, 0x43, 0xff][..], &[0; 0x3ff], &[9, 0]].concat();
        for bad in [&[2, 1, 0, 1, 0][..], &[0x40, 65], &[1, 1, 0x44, 1], &long] {
            let result = Greeting::decode(&mut Cursor::new(bad));
            assert!(matches!(result, Err(Stop::Malformed(_))), "{bad:?}: {result:?}");
        }
    }
}
