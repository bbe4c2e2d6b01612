//! Records by which two hosts agree to guess each other's ports (RCH-29), on a stream of their own channel.

use crate::error::Malformed;
use crate::reader::Reader;

/// The protocol in which hosts agree, of the service [`SERVICE`](crate::services::SERVICE).
pub const PROTOCOL: &str = "spray/1";
/// Longest record, in bytes.
pub const MAX_RECORD: usize = 64;

/// Knowledge that a host has of its NAT: whether it gives the same outer port to packets for several destinations
/// (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mapping {
    /// Too few servers have told.
    #[default]
    Unknown = 0,
    /// One port for all.
    Same = 1,
    /// Another one for each.
    Other = 2,
}

/// Answer to ASK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// It is agreed on.
    Agreed = 0,
    /// The host does not do it.
    Off = 1,
    /// It was done towards that address within the hour, or too often towards others.
    Spent = 2,
    /// No server has named the other's address.
    NoAddress = 3,
    /// Both NATs guess no better than they are reached, or there is nothing to guess.
    Useless = 4,
    /// The host does it for somebody else just now.
    Busy = 5,
}

/// Ports that a NAT gives next, as far as they step evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The first one.
    pub next: u16,
    /// The step to the one after it.
    pub step: i16,
}

impl Steps {
    /// Largest step that is taken for one: what is farther apart may be so by chance.
    const LARGEST: u16 = 64;

    /// The steps of which these ports are the latest, if they are even.
    pub fn of([first, second, third]: [u16; 3]) -> Option<Self> {
        let (step, again) = (second.wrapping_sub(first), third.wrapping_sub(second));
        let step = step.cast_signed();
        let is_even = step == again.cast_signed() && step != 0 && step.unsigned_abs() <= Self::LARGEST;
        is_even.then(|| Self {
            next: third.wrapping_add_signed(step),
            step,
        })
    }
}

/// One of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// ASK: a host wants it, behind a NAT of that kind. The key is that of PUNCH.
    Ask(Mapping, [u8; 32]),
    /// ANSWER, and the kind of the other's NAT.
    Answer(Verdict, Mapping),
    /// READY: so many sockets are open, and, perhaps, the ports that they get outside.
    Ready(u16, Option<Steps>),
}

impl TryFrom<u8> for Mapping {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        let all = [Self::Unknown, Self::Same, Self::Other];
        let known = all.into_iter().find(|mapping| *mapping as u8 == byte);
        known.ok_or(Malformed("an unknown kind of mapping"))
    }
}

impl TryFrom<u8> for Verdict {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        let all = [
            Self::Agreed,
            Self::Off,
            Self::Spent,
            Self::NoAddress,
            Self::Useless,
            Self::Busy,
        ];
        let known = all.into_iter().find(|verdict| *verdict as u8 == byte);
        known.ok_or(Malformed("an unknown verdict"))
    }
}

impl Record {
    /// The record.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ask(mapping, key) => [&[1, *mapping as u8][..], key].concat(),
            Self::Answer(verdict, mapping) => vec![2, *verdict as u8, *mapping as u8],
            Self::Ready(sockets, steps) => {
                let (next, step) = steps.map_or((0, 0), |steps| (steps.next, steps.step));
                [
                    &[3][..],
                    &sockets.to_be_bytes(),
                    &next.to_be_bytes(),
                    &step.to_be_bytes(),
                ]
                .concat()
            }
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// If it is not as RCH-29 says.
    pub fn decode(record: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(record);
        let record = match reader.u8()? {
            1 => Self::Ask(reader.u8()?.try_into()?, reader.array()?),
            2 => Self::Answer(reader.u8()?.try_into()?, reader.u8()?.try_into()?),
            3 => {
                let (sockets, next) = (reader.u16()?, reader.u16()?);
                let step = i16::from_be_bytes(reader.array()?);
                Self::Ready(sockets, (step != 0).then_some(Steps { next, step }))
            }
            _ => return Err(Malformed("an unknown record")),
        };
        match reader.is_empty() {
            true => Ok(record),
            false => Err(Malformed("a record with something behind it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: RCH-32
    #[test]
    fn ports_that_step_evenly_foretell_the_next() {
        let steps = |ports| Steps::of(ports).map(|steps| (steps.next, steps.step));
        assert_eq!(steps([40_000, 40_001, 40_002]), Some((40_003, 1)));
        assert_eq!(steps([40_000, 39_998, 39_996]), Some((39_994, -2)));
        assert_eq!(steps([65_534, 65_535, 0]), Some((1, 1)));
        for uneven in [[7, 7, 7], [1, 2, 4], [1000, 2000, 3000], [1024, 60_000, 30_000]] {
            assert_eq!(steps(uneven), None);
        }
    }

    // spec: RCH-29
    #[test]
    fn records_are_read_as_they_are_written_and_nothing_else_is() {
        let steps = Some(Steps { next: 40_001, step: -2 });
        let all = [
            (Record::Ask(Mapping::Other, [7; 32]), 34),
            (Record::Answer(Verdict::Agreed, Mapping::Same), 3),
            (Record::Answer(Verdict::Busy, Mapping::Unknown), 3),
            (Record::Ready(256, None), 7),
            (Record::Ready(9, steps), 7),
        ];
        for (record, len) in all {
            let bytes = record.encode();
            assert_eq!((bytes.len(), Record::decode(&bytes)), (len, Ok(record)));
            assert!(bytes.len() <= MAX_RECORD);
            for cut in 0..len {
                assert!(Record::decode(&bytes[..cut]).is_err());
            }
            assert!(Record::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
        for bytes in [&[][..], &[0], &[4, 0, 0], &[2, 6, 0], &[2, 0, 3]] {
            assert!(Record::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
