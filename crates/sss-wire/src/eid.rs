//! Endpoint identifiers (OVR-3).

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use thiserror::Error;

#[cfg(feature = "serde")]
mod serde;

/// The human-readable part of the text form.
const HRP: &str = "sss";
/// Beginning of every text form.
const PREFIX: &str = "sss1";
/// Characters of the text form.
const TEXT_LEN: usize = 63;
/// The type of an EID that holds a public key.
const TYPE_KEY: u8 = 1;
/// The characters of bech32 (BIP 173).
const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// The name of a host: a type byte and its X25519 public key, 33 bytes.
///
/// The text form, read by [`FromStr`] and written by [`Display`](fmt::Display), is bech32m (BIP 350) with the
/// human-readable part `sss`: 63 characters. Upper case is accepted, lower case is written. Every EID has one text
/// form in lower case and every text form names one EID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Eid([u8; 33]);

/// Reason why a text or bytes are not an EID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EidError {
    /// It does not begin with `sss1`.
    #[error("an EID begins with {PREFIX:?}, and has {TEXT_LEN} characters: this is something else")]
    Prefix,
    /// There is white space before or behind it.
    #[error("there is white space before the EID, or behind it: leave that out")]
    Blank,
    /// It has a character that no EID has.
    #[error("the character {0:?} (number {1}) occurs in no EID")]
    Character(char, usize),
    /// It mixes upper and lower case.
    #[error("an EID is written in lower case only, or in upper case only")]
    MixedCase,
    /// It is too short or too long.
    #[error("an EID has {TEXT_LEN} characters, this has {0}: was it copied completely?")]
    Length(usize),
    /// The checksum is wrong.
    #[error("the checksum of the EID is wrong: at least one character was changed")]
    Checksum,
    /// The bits that fill up the last character are not zero.
    #[error("the EID is not in its only valid form: its unused bits are not zero")]
    Padding,
    /// It is of a type that this version does not know.
    #[error("the EID is of type {0:#04x}, which this version does not know: only type 0x01, a public key")]
    Type(u8),
}

impl Eid {
    /// The EID of the host with this X25519 public key.
    pub fn from_public_key(key: &[u8; 32]) -> Self {
        let mut bytes = [TYPE_KEY; 33];
        if let Some(to) = bytes.last_chunk_mut() {
            *to = *key;
        }
        Self(bytes)
    }

    /// The EID with these bytes.
    ///
    /// # Errors
    /// [`EidError::Type`] if the first byte is not 1.
    pub fn from_bytes(bytes: &[u8; 33]) -> Result<Self, EidError> {
        match bytes {
            [TYPE_KEY, ..] => Ok(Self(*bytes)),
            [other, ..] => Err(EidError::Type(*other)),
        }
    }

    /// The X25519 public key.
    pub fn public_key(&self) -> &[u8; 32] {
        let [_, key @ ..] = &self.0;
        key
    }

    /// All 33 bytes.
    pub fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }
}

impl fmt::Display for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hrp = Hrp::parse(HRP).map_err(|_| fmt::Error)?;
        bech32::encode_lower_to_fmt::<Bech32m, _>(f, hrp, &self.0).map_err(|_| fmt::Error)
    }
}

/// The first characters only.
impl fmt::Debug for Eid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        write!(f, "Eid({}..)", text.get(..16).unwrap_or(&text))
    }
}

impl FromStr for Eid {
    type Err = EidError;

    fn from_str(text: &str) -> Result<Self, EidError> {
        check_text(text)?;
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| EidError::Checksum)?;
        checked.validate_segwit_padding().map_err(|_| EidError::Padding)?;
        let mut bytes = [0; 33];
        for (to, byte) in bytes.iter_mut().zip(checked.byte_iter()) {
            *to = byte;
        }
        Self::from_bytes(&bytes)
    }
}

/// Checks what can be said about a text before its checksum is looked at, so that each mistake has its own message.
fn check_text(text: &str) -> Result<(), EidError> {
    if text.trim().len() != text.len() {
        return Err(EidError::Blank);
    }
    let begins_well = text.get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX));
    if !begins_well {
        return Err(EidError::Prefix);
    }
    for (i, c) in text.chars().enumerate().skip(PREFIX.len()) {
        if !ALPHABET.contains(c.to_ascii_lowercase()) {
            return Err(EidError::Character(c, i.saturating_add(1)));
        }
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) && text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(EidError::MixedCase);
    }
    if text.len() != TEXT_LEN {
        return Err(EidError::Length(text.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [0x42; 32];

    fn text() -> String {
        Eid::from_public_key(&KEY).to_string()
    }

    fn error(text: &str) -> EidError {
        text.parse::<Eid>().unwrap_err()
    }

    #[test]
    fn text_form_comes_back() {
        let eid = Eid::from_public_key(&KEY);
        assert_eq!(text().len(), TEXT_LEN);
        assert_eq!(text().parse(), Ok(eid));
        assert_eq!(text().to_uppercase().parse(), Ok(eid));
        assert_eq!(eid.public_key(), &KEY);
        assert_eq!(eid.as_bytes()[0], 1);
    }

    #[test]
    fn debug_is_short() {
        let debug = format!("{:?}", Eid::from_public_key(&KEY));
        assert_eq!(debug, format!("Eid({}..)", &text()[..16]));
    }

    #[test]
    fn every_mistake_has_a_message_that_helps() {
        let text = text();
        assert_eq!(error("example.org:80"), EidError::Prefix);
        assert_eq!(error(&text.replacen("sss1", "bc1q", 1)), EidError::Prefix);
        assert_eq!(error("sß"), EidError::Prefix);
        assert_eq!(
            error(&text.replacen(&text[10..11], "b", 1)).to_string(),
            "the character 'b' (number 11) occurs in no EID"
        );
        assert_eq!(
            error(&text[..62]).to_string(),
            "an EID has 63 characters, this has 62: was it copied completely?"
        );
        for blank in [
            format!("{text}\n"),
            format!(" {text}"),
            format!("\t{text} "),
            " ".to_owned(),
        ] {
            assert_eq!(error(&blank), EidError::Blank, "{blank:?}");
        }
        assert_eq!(error(""), EidError::Prefix);
        let within = format!("{} {}", &text[..20], &text[20..]);
        assert_eq!(error(&within), EidError::Character(' ', 21));
        assert_eq!(error(&text.replacen("sss", "SSS", 1)), EidError::MixedCase);
        let swapped = format!(
            "{}{}{}",
            &text[..30],
            if &text[30..31] == "q" { "p" } else { "q" },
            &text[31..]
        );
        assert_eq!(error(&swapped), EidError::Checksum);
        assert_eq!(Eid::from_bytes(&[2; 33]), Err(EidError::Type(2)));
    }
}
