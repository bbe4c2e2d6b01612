//! Paths that cannot lead outside (FIL-3, FIL-5).

use std::fmt::{self, Write as _};

use thiserror::Error;

/// Longest path, in bytes (FIL-3).
pub const MAX_PATH: usize = 4096;
/// Longest name of a file, in bytes.
const MAX_NAME: usize = 255;
/// Beginning of the name of a temporary file (FIL-5).
const PART_BEFORE: &[u8] = b".";
/// End of the name of a temporary file (FIL-5).
const PART_AFTER: &[u8] = b".sss-part";

/// A path below some root, as bytes divided by `/`. Empty: the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

/// Reason why bytes are not a [`RelPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// Longer than [`MAX_PATH`].
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// A component of more than 255 bytes.
    #[error("the path has a name longer than {MAX_NAME} bytes")]
    NameTooLong,
    /// A slash with nothing before or after it.
    #[error("the path is absolute, ends with a slash or has two in a row")]
    EmptyName,
    /// A component `.` or `..`.
    #[error("the path has a component . or .., which could lead outside of the directory")]
    Dots,
    /// A byte 0.
    #[error("the path has a NUL byte")]
    Nul,
    /// The name of a temporary file (FIL-5).
    #[error("names like .NAME.sss-part are those of unfinished files")]
    Partial,
}

impl RelPath {
    /// The path with these bytes.
    ///
    /// # Errors
    /// If it breaks FIL-3 or FIL-5.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if bytes.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        bytes.split(|b| *b == b'/').try_for_each(check_name)?;
        Ok(Self(bytes.to_vec()))
    }

    /// Returns whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory it is in and its name there. `None` for the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(split_last(&self.0))
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        split_last(&self.0).1
    }

    /// `other` below this path.
    pub fn join(&self, other: &Self) -> Self {
        match (self.is_root(), other.is_root()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self([self.as_bytes(), other.as_bytes()].join(&b'/')),
        }
    }

    /// The directories above, the outermost first, without the root and without the path itself.
    pub fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().filter(|(_, b)| **b == b'/');
        slashes.filter_map(|(at, _)| self.0.get(..at))
    }
}

/// For people, as [`printable`].
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        f.write_str(&printable(&self.0))
    }
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        b"" => Err(PathError::EmptyName),
        b"." | b".." => Err(PathError::Dots),
        name if name.len() > MAX_NAME => Err(PathError::NameTooLong),
        name if is_part_name(name) => Err(PathError::Partial),
        _ => Ok(()),
    }
}

/// The directory in which a path is, and its name there. Both are empty for the empty path.
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (b"", path),
    }
}

/// Returns whether a name is one that temporary files have (FIL-5).
pub fn is_part_name(name: &[u8]) -> bool {
    name.starts_with(PART_BEFORE) && name.ends_with(PART_AFTER)
}

/// The temporary name of `name` (FIL-10).
pub fn part_name(name: &[u8]) -> Vec<u8> {
    let whole = [PART_BEFORE, name, PART_AFTER].concat();
    if whole.len() <= MAX_NAME {
        return whole;
    }
    let hash = blake3::hash(name).to_hex();
    let digits = hash.as_bytes().get(..32).unwrap_or_default();
    [PART_BEFORE, digits, PART_AFTER].concat()
}

/// Bytes for people: what is not UTF-8 is escaped, and what [`sss_wire::printable`] escapes.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&sss_wire::printable(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &[u8]) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[test]
    fn only_paths_that_stay_below_are_taken() {
        for good in [
            &b""[..],
            b"a",
            b"a/b",
            b"...",
            b"a/..b/c.",
            b"\xff",
            b" ",
            b"-",
            b"a\\b",
            b"x.sss-part",
        ] {
            assert_eq!(path(good).as_bytes(), good);
        }
        let long = [b'x'; 256];
        let cases: [(&[u8], PathError); 10] = [
            (b"/", PathError::EmptyName),
            (b"/a", PathError::EmptyName),
            (b"a/", PathError::EmptyName),
            (b"a//b", PathError::EmptyName),
            (b"..", PathError::Dots),
            (b"a/../b", PathError::Dots),
            (b"./a", PathError::Dots),
            (b"a\0", PathError::Nul),
            (b"a/.b.sss-part", PathError::Partial),
            (&long, PathError::NameTooLong),
        ];
        for (bad, error) in cases {
            assert_eq!(RelPath::parse(bad), Err(error));
        }
        assert_eq!(RelPath::parse(&b"a/".repeat(2100)), Err(PathError::TooLong));
    }

    #[test]
    fn temporary_names_are_names_and_long_ones_are_shortened() {
        let name = part_name(&[b'x'; 255]);
        assert!(name.len() < 64 && is_part_name(&name));
        assert_ne!(name, part_name(&[b'y'; 255]));
        assert_eq!(part_name(b"a"), b".a.sss-part");
        assert!(!is_part_name(b"a.sss-part") && !is_part_name(b".a"));
    }

    #[test]
    fn joining_and_splitting() {
        assert_eq!(path(b"a").join(&path(b"b/c")), path(b"a/b/c"));
        assert_eq!(path(b"").join(&path(b"b")), path(b"b"));
        assert_eq!(path(b"a").join(&path(b"")), path(b"a"));
        assert_eq!(path(b"a/b/c").split(), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(path(b"").split(), None);
        assert_eq!(path(b"a/b/c").ancestors().collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        assert_eq!(path(b"a").ancestors().count(), 0);
    }

    #[test]
    fn names_are_shown_without_surprises() {
        assert_eq!(printable("häßlich name".as_bytes()), "häßlich name");
        assert_eq!(printable(b"a\xffb\x1b[0m\n"), "a\\xffb\\u{1b}[0m\\n");
        assert_eq!(printable(b"back\\slash"), "back\\\\slash");
        assert_eq!(
            printable("fdp.\u{202e}exe\u{200b}".as_bytes()),
            "fdp.\\u{202e}exe\\u{200b}"
        );
    }
}
