//! `--dry-run`: the effects of a transfer, told and not done.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::json;
use sss_files::{Attributes, Entry, Kind, Refusal, RelPath, Status, part_name, printable};

use crate::error::{Error, Exit};
use crate::output::{Output, count, json_path, size};
use crate::transfer::directories::obstacle;
use crate::transfer::manifest::attributes;
use crate::transfer::tally::{Failure, Tally};

/// Something that a transfer would do with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Move the content of a file.
    Transfer,
    /// Compare a file that is there, and move its content if it differs.
    Compare,
    /// Put it in the place of what is there.
    Replace,
    /// Make a directory.
    Make,
    /// Make a symbolic link.
    Link,
    /// Nothing: it is there.
    Keep,
    /// Nothing: it is no file.
    LeaveOut,
    /// Nothing: something else is there.
    Blocked,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Compare => "compare",
            Self::Replace => "replace",
            Self::Make => "make",
            Self::Link => "link",
            Self::Keep => "keep",
            Self::LeaveOut => "leave out",
            Self::Blocked => "blocked",
        }
    }
}

/// Something at a place, as it is now.
pub(crate) struct There {
    pub(crate) kind: Kind,
    /// It can be replaced by a file or by a link.
    pub(crate) makes_way: bool,
}

/// Tells what would be done, and counts.
pub(crate) struct DryRun {
    output: Output,
    replace: bool,
    /// Directory in whose place something else is, and whether that stays: what is found below it does not count.
    instead: Option<(Vec<u8>, bool)>,
    files: u64,
    bytes: u64,
    kept: u64,
    failed: u64,
}

impl DryRun {
    /// Nothing yet. `replace`: what differs would be replaced.
    pub(crate) fn new(replace: bool, output: Output) -> Self {
        Self {
            output,
            replace,
            instead: None,
            files: 0,
            bytes: 0,
            kept: 0,
            failed: 0,
        }
    }

    /// Tells what would become of an entry at a place: what is at the place now is `there`.
    pub(crate) fn tell(&mut self, at: &[u8], entry: &Entry, there: Option<&There>) {
        if let Kind::Unreadable(refusal) = &entry.kind {
            return self.unreadable(at, refusal);
        }
        let there = match &self.instead {
            Some((above, true)) if is_below(at, above) => {
                return self.fail(
                    at,
                    &Refusal::new(Status::Exists, "something else is where its directory is to be"),
                );
            }
            Some((above, false)) if is_below(at, above) => None,
            _ => there,
        };
        let action = action(&entry.kind, there, self.replace);
        if matches!(entry.kind, Kind::Directory(_)) && matches!(action, Action::Blocked | Action::Replace) {
            self.instead = Some((at.to_vec(), action == Action::Blocked));
        }
        let bytes = match &entry.kind {
            Kind::File(attributes) => attributes.size,
            _ => 0,
        };
        match action {
            Action::Blocked => return self.fail(at, &Refusal::new(Status::Exists, "something else is there")),
            Action::Keep => self.kept = self.kept.saturating_add(1),
            Action::Transfer | Action::Compare | Action::Replace if matches!(entry.kind, Kind::File(_)) => {
                self.files = self.files.saturating_add(1);
                self.bytes = self.bytes.saturating_add(bytes);
            }
            _ => {}
        }
        let fact = json!({"event": "would", "action": action.name(), "path": json_path(at), "size": bytes});
        let text = format!("would {:9} {}", action.name(), printable(at));
        // What is there already is of no interest to people.
        if self.output.is_json() || action != Action::Keep {
            self.output.fact(text, &fact);
        }
    }

    /// Tells of what the source says about something that cannot be read: that some is left out is no failure.
    fn unreadable(&mut self, at: &[u8], refusal: &Refusal) {
        if refusal.status != Status::Unfinished {
            return self.fail(at, refusal);
        }
        let text = format!("{}: {refusal}", printable(at));
        if self.output.is_json() {
            self.output.fact("", &json!({"event": "note", "text": text}));
        } else {
            self.output.note(text);
        }
    }

    /// Tells what would fail.
    pub(crate) fn fail(&mut self, at: &[u8], refusal: &Refusal) {
        self.failed = self.failed.saturating_add(1);
        let fact = json!({
            "event": "would",
            "action": "fail",
            "path": json_path(at),
            "size": 0,
            "error": refusal.text,
        });
        self.output
            .fact(format!("would fail      {}: {refusal}", printable(at)), &fact);
    }

    /// Tells the sums, and what failed by itself.
    ///
    /// # Errors
    /// If something would fail.
    pub(crate) fn finish(mut self, tally: &Tally) -> Result<(), Error> {
        for Failure { path, refusal } in tally.take_failures() {
            self.fail(path.as_bytes(), &refusal);
        }
        let text = format!(
            "nothing was done; this would move {}, at most {}; {} there already; {} would fail",
            count(self.files, "file"),
            size(self.bytes),
            self.kept,
            self.failed
        );
        let fact = json!({
            "event": "would_in_all",
            "files": self.files,
            "bytes": self.bytes,
            "kept": self.kept,
            "failed": self.failed,
        });
        self.output.prose(text, &fact);
        if self.failed == 0 {
            return Ok(());
        }
        let next =
            "see above; --force replaces what is in the way, but for devices, and directories that are not empty";
        Err(Error::new(Exit::Failed, format!("{} would fail", self.failed), next))
    }
}

fn action(source: &Kind, there: Option<&There>, replace: bool) -> Action {
    let otherwise = if replace { Action::Replace } else { Action::Blocked };
    let Some(There { kind, makes_way }) = there else {
        return match source {
            Kind::Other(_) | Kind::Unreadable(_) => Action::LeaveOut,
            Kind::File(_) => Action::Transfer,
            Kind::Directory(_) => Action::Make,
            Kind::Link(..) => Action::Link,
        };
    };
    match (source, kind) {
        (Kind::Other(_) | Kind::Unreadable(_), _) => Action::LeaveOut,
        (Kind::File(new), Kind::File(old)) => by_attributes(new, old, otherwise),
        (Kind::Directory(_), Kind::Directory(_)) => Action::Keep,
        (Kind::Link(_, new), Kind::Link(_, old)) if new == old => Action::Keep,
        (_, Kind::Other(_) | Kind::Unreadable(_)) => Action::Blocked,
        (Kind::Directory(_), _) | (Kind::Link(..), Kind::Link(..)) => otherwise,
        _ if *makes_way => otherwise,
        _ => Action::Blocked,
    }
}

fn is_below(at: &[u8], above: &[u8]) -> bool {
    let rest = at.strip_prefix(above);
    rest.is_some_and(|rest| above.is_empty() || rest.starts_with(b"/"))
}

fn by_attributes(new: &Attributes, old: &Attributes, otherwise: Action) -> Action {
    if new.size != old.size {
        otherwise
    } else if new.mtime == old.mtime || new.size == 0 {
        Action::Keep
    } else {
        Action::Compare
    }
}

/// Looks what is at a path of this side. `None`: nothing.
pub(crate) fn local(path: &Path) -> Option<There> {
    let stat = match rustix::fs::lstat(path) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return temporary(path),
        Err(rustix::io::Errno::NOTDIR) => return None,
        Err(error) => {
            return Some(There {
                kind: Kind::Unreadable(std::io::Error::from(error).into()),
                makes_way: false,
            });
        }
    };
    Some(There {
        makes_way: makes_way(path, &stat),
        kind: kind(path, &stat),
    })
}

/// Looks whether something that is never touched has the temporary name of what is to be at a path (FIL-22).
fn temporary(path: &Path) -> Option<There> {
    use rustix::fs::FileType;
    let name = OsString::from_vec(part_name(path.file_name()?.as_bytes()));
    let stat = rustix::fs::lstat(path.with_file_name(name)).ok()?;
    let is_taken_over = matches!(
        FileType::from_raw_mode(stat.st_mode),
        FileType::RegularFile | FileType::Symlink
    );
    (!is_taken_over).then(|| There {
        kind: Kind::Other(attributes(&stat)),
        makes_way: false,
    })
}

fn kind(path: &Path, stat: &rustix::fs::Stat) -> Kind {
    use rustix::fs::FileType;
    let attributes = attributes(stat);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File(attributes),
        FileType::Directory => Kind::Directory(attributes),
        FileType::Symlink => {
            let target = std::fs::read_link(path).unwrap_or_default();
            Kind::Link(attributes, target.as_os_str().as_bytes().to_vec())
        }
        _ => Kind::Other(attributes),
    }
}

/// As the transfer itself finds out.
fn makes_way(path: &Path, stat: &rustix::fs::Stat) -> bool {
    let Some(name) = path.file_name() else { return false };
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = std::fs::File::open(above.unwrap_or(Path::new("."))).map(OwnedFd::from);
    let found = above.and_then(|above| obstacle(&above, name.as_bytes(), stat));
    found.is_ok_and(|obstacle| obstacle.is_none())
}

/// A path below a directory of this side.
pub(crate) fn below(directory: &Path, path: &RelPath) -> PathBuf {
    if path.is_root() {
        return directory.to_owned();
    }
    directory.join(OsStr::from_bytes(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sss_files::Mtime;

    #[test]
    fn what_would_be_done_follows_from_what_is_there() {
        let attributes = |size, seconds| Attributes {
            size,
            mode: 0o644,
            mtime: Mtime {
                seconds,
                nanoseconds: 0,
            },
            traits: sss_files::Traits::empty(),
        };
        let file = |size, seconds| Kind::File(attributes(size, seconds));
        let directory = || Kind::Directory(attributes(0, 0));
        let link = |to: &[u8]| Kind::Link(attributes(0, 0), to.to_vec());
        let other = || Kind::Other(attributes(0, 0));
        let empty = || Some((directory(), true));
        let full = || Some((directory(), false));
        for (new, old, without, with_force) in [
            (file(3, 1), None, Action::Transfer, Action::Transfer),
            (file(3, 1), Some((file(3, 1), true)), Action::Keep, Action::Keep),
            (file(3, 1), Some((file(3, 2), true)), Action::Compare, Action::Compare),
            (file(3, 1), Some((file(4, 1), true)), Action::Blocked, Action::Replace),
            (file(3, 1), full(), Action::Blocked, Action::Blocked),
            (file(3, 1), empty(), Action::Blocked, Action::Replace),
            (file(3, 1), Some((link(b"x"), true)), Action::Blocked, Action::Replace),
            (file(3, 1), Some((link(b"x"), false)), Action::Blocked, Action::Blocked),
            (file(3, 1), Some((other(), false)), Action::Blocked, Action::Blocked),
            (directory(), None, Action::Make, Action::Make),
            (directory(), full(), Action::Keep, Action::Keep),
            (directory(), Some((file(3, 1), true)), Action::Blocked, Action::Replace),
            (directory(), Some((link(b"x"), false)), Action::Blocked, Action::Replace),
            (directory(), Some((other(), false)), Action::Blocked, Action::Blocked),
            (link(b"a"), None, Action::Link, Action::Link),
            (link(b"a"), Some((link(b"a"), true)), Action::Keep, Action::Keep),
            (link(b"a"), Some((link(b"b"), false)), Action::Blocked, Action::Replace),
            (link(b"a"), Some((file(3, 1), true)), Action::Blocked, Action::Replace),
            (link(b"a"), empty(), Action::Blocked, Action::Replace),
            (link(b"a"), full(), Action::Blocked, Action::Blocked),
            (other(), None, Action::LeaveOut, Action::LeaveOut),
            (other(), full(), Action::LeaveOut, Action::LeaveOut),
        ] {
            let text = format!("{new:?} at {old:?}");
            let there = old.map(|(kind, makes_way)| There { kind, makes_way });
            assert_eq!(action(&new, there.as_ref(), false), without, "{text}");
            assert_eq!(action(&new, there.as_ref(), true), with_force, "{text}");
        }
    }
}
