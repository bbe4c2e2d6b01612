//! Patterns: which entries of a tree are left out, and which names of a directory are meant.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use sss_files::{Entry, Kind, Patterns, Refusal, RelPath, Status};

/// A pattern of names or of paths, such as `*.o`, `/target`, `cache/` or `docs/**/*.pdf`.
#[derive(Clone, Debug)]
pub(crate) struct Exclude {
    text: String,
    glob: GlobMatcher,
    /// It is about the last name of a path, wherever that is; else about the path from the source on.
    is_of_names: bool,
    only_directories: bool,
}

impl FromStr for Exclude {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, only_directories) = match text.strip_suffix('/') {
            Some(pattern) => (pattern, true),
            None => (text, false),
        };
        let is_of_names = !pattern.contains('/');
        let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
        if pattern.is_empty() {
            return Err("an empty pattern matches nothing".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            glob: glob(pattern)?,
            is_of_names,
            only_directories,
        })
    }
}

/// A pattern in which `*`, `?` and `[..]` match no slash, and `**` matches any number of directories.
fn glob(pattern: &str) -> Result<GlobMatcher, String> {
    let built = GlobBuilder::new(pattern).literal_separator(true).build();
    Ok(built.map_err(|error| error.kind().to_string())?.compile_matcher())
}

impl Exclude {
    fn matches(&self, entry: &Entry) -> bool {
        let text = if self.is_of_names {
            entry.path.name()
        } else {
            entry.path.as_bytes()
        };
        let is_meant = !self.only_directories || matches!(entry.kind, Kind::Directory(_));
        is_meant && self.glob.is_match(OsStr::from_bytes(text))
    }
}

/// A choice of entries that pass by in the order of FIL-6: with a directory, all that is below it is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sieve {
    excludes: Arc<[Exclude]>,
    /// The directory that was left out last.
    left_out: Option<RelPath>,
}

impl Sieve {
    /// Leaves out what any of these matches.
    pub(crate) fn new(excludes: &[Exclude]) -> Self {
        Self {
            excludes: excludes.into(),
            left_out: None,
        }
    }

    /// Leaves out what a peer says.
    ///
    /// # Errors
    /// BAD_REQUEST if one of the patterns is none.
    pub(crate) fn asked_for(patterns: &Patterns) -> Result<Self, Refusal> {
        let exclude = |text: &str| {
            let parsed = text.parse();
            parsed.map_err(|why: String| Refusal::new(Status::BadRequest, format!("{text} is no pattern: {why}")))
        };
        let excludes = patterns.iter().map(exclude).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(&excludes))
    }

    /// Patterns of what a peer may leave out. What it does not leave out comes, and does not pass.
    pub(crate) fn patterns(&self) -> Patterns {
        Patterns::that_fit(self.excludes.iter().map(|exclude| exclude.text.as_str()))
    }

    /// Returns whether an entry is kept. What the source itself is always is.
    pub(crate) fn keeps(&mut self, entry: &Entry) -> bool {
        if self
            .left_out
            .as_ref()
            .is_some_and(|above| is_at_or_below(above, &entry.path))
        {
            return false;
        }
        if entry.path.is_root() || !self.excludes.iter().any(|exclude| exclude.matches(entry)) {
            return true;
        }
        if let Kind::Directory(_) = entry.kind {
            self.left_out = Some(entry.path.clone());
        }
        false
    }
}

fn is_at_or_below(above: &RelPath, path: &RelPath) -> bool {
    let rest = path.as_bytes().strip_prefix(above.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A path with patterns in it, such as `photos/2026-*/*.jpg`.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    /// The names before the first pattern.
    pub(crate) base: RelPath,
    /// One for each name behind that: whether it may match a name that begins with a dot, and the pattern.
    names: Vec<(bool, GlobMatcher)>,
}

impl PathPattern {
    /// The pattern that a path may be meant as. `None`: it has none.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
    pub(crate) fn of(path: &RelPath) -> Result<Option<Self>, String> {
        let names: Vec<&[u8]> = path.as_bytes().split(|b| *b == b'/').collect();
        let is_pattern = |name: &&[u8]| name.iter().any(|b| matches!(b, b'*' | b'?' | b'['));
        let Some(first) = names.iter().position(is_pattern) else {
            return Ok(None);
        };
        let (before, patterns) = names.split_at(first);
        let base = RelPath::parse(&before.join(&b'/')).map_err(|error| error.to_string())?;
        let names = patterns.iter().map(|name| {
            let text = str::from_utf8(name).map_err(|_| "a pattern is written in UTF-8".to_owned())?;
            Ok((text.starts_with('.'), glob(text)?))
        });
        Ok(Some(Self {
            base,
            names: names.collect::<Result<_, String>>()?,
        }))
    }

    /// Number of levels below the base at which matches are.
    pub(crate) fn depth(&self) -> usize {
        self.names.len()
    }

    /// Returns whether a path, relative to the base, matches. As in shells, what begins with a dot is matched only by
    /// what begins with a dot.
    pub(crate) fn matches(&self, path: &RelPath) -> bool {
        let found: Vec<&[u8]> = path.as_bytes().split(|b| *b == b'/').collect();
        let all = |((hidden, glob), name): (&(bool, GlobMatcher), &&[u8])| {
            (*hidden || !name.starts_with(b".")) && glob.is_match(OsStr::from_bytes(name))
        };
        !path.is_root() && found.len() == self.names.len() && self.names.iter().zip(&found).all(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sss_files::Attributes;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn kept(excludes: &[&str], tree: &[&str]) -> Vec<String> {
        let excludes: Vec<Exclude> = excludes.iter().map(|text| text.parse().unwrap()).collect();
        let mut sieve = Sieve::new(&excludes);
        let entry = |text: &&str| Entry {
            path: path(text.trim_end_matches('/')),
            kind: if text.is_empty() || text.ends_with('/') {
                Kind::Directory(Attributes::default())
            } else {
                Kind::File(Attributes::default())
            },
        };
        let kept = tree.iter().filter(|text| sieve.keeps(&entry(text)));
        kept.map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_excluded_is_left_out_with_all_below_it() {
        let tree = [
            "",
            "a/",
            "a/b.o",
            "a/cache/",
            "a/cache/x",
            "cache",
            "cache2",
            "d.o",
            "docs/",
            "docs/p/",
            "docs/p/q.pdf",
        ];
        let expect = |excludes: &[&str], gone: &[&str]| {
            let rest: Vec<_> = tree
                .iter()
                .filter(|t| !gone.contains(t))
                .map(|t| (*t).to_owned())
                .collect();
            assert_eq!(kept(excludes, &tree), rest, "{excludes:?}");
        };
        expect(&[], &[]);
        expect(&["*.o"], &["a/b.o", "d.o"]);
        expect(&["/*.o"], &["d.o"]);
        expect(&["a/*.o"], &["a/b.o"]);
        expect(&["cache"], &["a/cache/", "a/cache/x", "cache"]);
        expect(&["cache/"], &["a/cache/", "a/cache/x"]);
        expect(&["/cache"], &["cache"]);
        expect(&["docs/**/*.pdf"], &["docs/p/q.pdf"]);
        expect(&["[ad]", "cache?"], &["a/", "a/b.o", "a/cache/", "a/cache/x", "cache2"]);
        expect(&["*"], &tree[1..]);
        for bad in ["", "/", "["] {
            assert!(bad.parse::<Exclude>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_names_as_in_shells() {
        assert!(PathPattern::of(&path("a/b")).unwrap().is_none());
        assert!(PathPattern::of(&path("a/[b")).is_err());
        let pattern = PathPattern::of(&path("a/b/*.jpg")).unwrap().unwrap();
        assert_eq!((pattern.base.as_bytes(), pattern.depth()), (&b"a/b"[..], 1));
        for (name, is_match) in [
            ("x.jpg", true),
            (".jpg", false),
            (".x.jpg", false),
            ("x.jpeg", false),
            ("x/y.jpg", false),
        ] {
            assert_eq!(pattern.matches(&path(name)), is_match, "{name}");
        }
        let pattern = PathPattern::of(&path("*/.[a-c]?")).unwrap().unwrap();
        assert!(pattern.base.is_root());
        for (name, is_match) in [("d/.ax", true), ("d/.dx", false), (".d/.ax", false), ("d", false)] {
            assert_eq!(pattern.matches(&path(name)), is_match, "{name}");
        }
        let odd = RelPath::parse(b"\xff.jpg").unwrap();
        assert!(PathPattern::of(&path("*.jpg")).unwrap().unwrap().matches(&odd));
    }
}
