//! Files that are asked for together (FIL-45), and what is said of each.

use super::{Attributes, Cursor, Refusal, Stop, answer, put_bytes, put_varint};
use crate::path::RelPath;

/// Paths of files that are asked for together, in order: at most [`Names::MOST`], of at most [`Names::BYTES`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    count: usize,
    /// The paths, one behind the other, as they are sent.
    paths: Vec<u8>,
}

impl Names {
    /// Number of paths at most.
    pub const MOST: usize = 128;
    /// Bytes at most of all paths, their lengths included.
    pub const BYTES: usize = 8192;
    /// Largest file that is sent with others, in bytes.
    pub const LARGEST_FILE: u64 = 64 << 10;

    /// Adds a path, if there is room for it; returns whether there was.
    pub fn push(&mut self, path: &RelPath) -> bool {
        let before = self.paths.len();
        if self.count >= Self::MOST {
            return false;
        }
        put_bytes(&mut self.paths, path.as_bytes());
        if self.paths.len() > Self::BYTES {
            self.paths.truncate(before);
            return false;
        }
        self.count = self.count.saturating_add(1);
        true
    }

    /// Returns the number of paths.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there is no path.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates over the paths.
    pub fn iter(&self) -> impl Iterator<Item = RelPath> {
        let mut from = Cursor::new(&self.paths);
        // They were paths when they were put in.
        std::iter::from_fn(move || from.path().ok())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count as u64);
        out.extend_from_slice(&self.paths);
    }

    pub(super) fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        let count = from.varint()?;
        if count == 0 || count > Self::MOST as u64 {
            return Err(Stop::Malformed("no path, or more than 128"));
        }
        let mut names = Self::default();
        for _ in 0..count {
            if !names.push(&from.path()?) {
                return Err(Stop::Malformed("more than 8192 bytes of paths"));
            }
        }
        Ok(names)
    }
}

/// One file in the answer to GATHER, without the content, which follows; or the reason why it is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered(pub Result<(Attributes, blake3::Hash), Refusal>);

impl Gathered {
    /// Appends the wire form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Ok((attributes, hash)) => {
                out.push(super::Status::Ok as u8);
                attributes.encode(out);
                out.extend_from_slice(hash.as_bytes());
            }
            Err(refusal) => refusal.encode(out),
        }
    }

    /// Reads the wire form.
    pub fn decode(from: &mut Cursor<'_>) -> Result<Self, Stop> {
        if let Err(refusal) = answer(from)? {
            return Ok(Self(Err(refusal)));
        }
        let attributes = Attributes::decode(from)?;
        if attributes.size > Names::LARGEST_FILE {
            return Err(Stop::Malformed("a file of more than 64 KiB among others"));
        }
        Ok(Self(Ok((attributes, from.array()?.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    // spec: FIL-45
    #[test]
    fn there_are_no_more_paths_and_no_more_bytes_of_them_than_may_be() {
        let mut many = Names::default();
        let pushed = (0..200).filter(|n| many.push(&path(&n.to_string()))).count();
        assert_eq!((pushed, many.len()), (Names::MOST, Names::MOST));
        let mut long = Names::default();
        let long_path = path(&"x".repeat(198));
        // A length of two bytes goes before each.
        assert_eq!((0..200).filter(|_| long.push(&long_path)).count(), Names::BYTES / 200);
        assert!(long.push(&path("ab")) || Names::BYTES % 200 < 3);
        for names in [many, long] {
            let mut bytes = Vec::new();
            names.encode(&mut bytes);
            assert_eq!(Names::decode(&mut Cursor::new(&bytes)), Ok(names));
            for end in 0..bytes.len() {
                let cut = Names::decode(&mut Cursor::new(&bytes[..end]));
                assert_eq!(cut, Err(Stop::Incomplete));
            }
        }
        let refused = |bytes: &[u8]| matches!(Names::decode(&mut Cursor::new(bytes)), Err(Stop::Malformed(_)));
        assert!(refused(&[0]) && refused(&[0x40, 129]));
        let mut too_long = vec![3];
        for _ in 0..3 {
            put_bytes(&mut too_long, &b"y/".repeat(2000)[..3999]);
        }
        assert!(refused(&too_long));
    }

    // spec: FIL-45
    #[test]
    fn a_large_file_is_none_among_others() {
        let hash = blake3::hash(b"");
        for (size, is_one) in [(Names::LARGEST_FILE, true), (Names::LARGEST_FILE + 1, false)] {
            let attributes = Attributes {
                size,
                ..Attributes::default()
            };
            let (gathered, mut bytes) = (Gathered(Ok((attributes, hash))), Vec::new());
            gathered.encode(&mut bytes);
            assert_eq!(Gathered::decode(&mut Cursor::new(&bytes)).is_ok(), is_one);
        }
    }
}
