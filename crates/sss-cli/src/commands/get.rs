//! `sss get`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sss_files::{DEPTH_ALL, Entry, Kind, Options, PROTOCOL, RelPath, SERVICE};

use crate::cli::{ConnectArgs, target};
use crate::commands::verdict;
use crate::connector::{Connection, Connector};
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::progress::Progress;
use crate::target::Target;
use crate::transfer::directories::open_destination;
use crate::transfer::download::{Download, Listing};
use crate::transfer::safe_path::Root;
use crate::transfer::tally::Tally;

/// Fetch a file or a tree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss get EID@192.0.2.7 photos            all that is served becomes ./photos
  sss get EID@nas.example/2026            the tree 2026 becomes ./2026
  sss get EID@192.0.2.7/a/notes.txt /tmp  the file becomes /tmp/notes.txt
  sss get 192.0.2.7 photos --trust        trust who is there, and remember

Every file is verified by BLAKE3 and appears under its name only when it is
complete. Run the same command again to resume: what is there already is kept,
and a file that was interrupted goes on where it was.")]
pub(crate) struct GetArgs {
    /// Source: HOST or EID@HOST, and a path there. HOST is a name or an address, with :PORT if it is not 7757
    #[arg(value_name = "HOST[/PATH]", value_parser = target())]
    pub(crate) source: Target,
    /// Place to put it [default: the last name of PATH, or the current directory]
    pub(crate) dest: Option<PathBuf>,
    /// Replace files that are there and differ
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Fetches a file or a tree.
pub(crate) async fn run(args: GetArgs, output: Output) -> Result<(), Error> {
    let connector = Connector::new(args.connect, output).await?;
    let connection = connector.connect(&args.source, SERVICE, PROTOCOL).await?;
    let (host, mut session) = (connection.host, connection.stream);
    let work = async {
        let mut listing = Listing::begin(&mut session, args.source.path.clone(), DEPTH_ALL).await?;
        let first = listing.first().await?;
        let to = Place::choose(&args.source, &first, args.dest.as_deref())?;
        let tally = Arc::new(Tally::default());
        let progress = Progress::start(tally.clone(), output);
        let download = Download {
            session: Arc::new(session),
            remote: args.source.path.clone(),
            root: Arc::new(to.open()?),
            local: to.name,
            options: options(args.force),
            tally: tally.clone(),
        };
        download.run(first, listing).await?;
        progress.finish("received");
        verdict(&tally)
    };
    Connection::run(host, work).await
}

fn options(force: bool) -> Options {
    let replace = if force { Options::REPLACE } else { Options::empty() };
    Options::TREE | replace
}

/// Place where what was asked for is to be put.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    /// Below the directory; empty if it becomes the directory itself.
    name: RelPath,
}

impl Place {
    /// A tree becomes `dest`; anything else becomes `dest`, or goes into it if that is a directory.
    fn choose(source: &Target, first: &Entry, dest: Option<&Path>) -> Result<Self, Error> {
        let name = source.path.name();
        if let Kind::Directory(_) = first.kind {
            let by_name = if name.is_empty() {
                Path::new(".")
            } else {
                Path::new(OsStr::from_bytes(name))
            };
            return Ok(Self {
                directory: dest.unwrap_or(by_name).to_owned(),
                name: RelPath::default(),
            });
        }
        let dest = dest.unwrap_or(Path::new("."));
        if dest.is_dir() || dest.as_os_str().as_bytes().ends_with(b"/") {
            return Self::named(dest, name);
        }
        let directory = dest
            .parent()
            .filter(|d| !d.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Self::named(directory, dest.file_name().map_or(&b""[..], OsStr::as_bytes))
    }

    fn named(directory: &Path, name: &[u8]) -> Result<Self, Error> {
        let name = RelPath::parse(name)
            .ok()
            .filter(|name| !name.is_root())
            .ok_or_else(|| {
                let what = format!("{} is no name for a file", sss_files::printable(name));
                Error::new(Exit::Failed, what, "give DEST the name of a file or of a directory")
            })?;
        Ok(Self {
            directory: directory.to_owned(),
            name,
        })
    }

    /// Makes the directory if it is missing, and opens it.
    fn open(&self) -> Result<Root, Error> {
        let path = &self.directory;
        if self.name.is_root() {
            return open_destination(path).map_err(|error| Error::local(path, "write to", &error));
        }
        std::fs::create_dir_all(path).map_err(|error| Error::local(path, "make the directory", &error))?;
        Root::open(path).map_err(|error| Error::local(path, "write to", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sss_files::Attributes;

    fn choose(target: &str, directory: bool, dest: Option<&Path>) -> (String, String) {
        let target = Target::parse(OsStr::new(target)).unwrap();
        let attributes = Attributes::default();
        let first = Entry {
            path: RelPath::default(),
            kind: if directory {
                Kind::Directory(attributes)
            } else {
                Kind::File(attributes)
            },
        };
        let place = Place::choose(&target, &first, dest).unwrap();
        let name = if place.name.is_root() {
            String::new()
        } else {
            place.name.to_string()
        };
        (place.directory.display().to_string(), name)
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn a_tree_becomes_its_destination() {
        assert_eq!(choose("127.0.0.1:1", true, None), pair(".", ""));
        assert_eq!(choose("127.0.0.1:1/a/b", true, None), pair("b", ""));
        assert_eq!(
            choose("127.0.0.1:1/a/b", true, Some(Path::new("/x/y"))),
            pair("/x/y", "")
        );
    }

    #[test]
    fn a_file_goes_into_a_directory_or_becomes_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().display().to_string();
        assert_eq!(choose("127.0.0.1:1/a/f", false, None), pair(".", "f"));
        assert_eq!(choose("127.0.0.1:1/a/f", false, Some(dir.path())), pair(&there, "f"));
        let new = dir.path().join("g");
        assert_eq!(choose("127.0.0.1:1/a/f", false, Some(&new)), pair(&there, "g"));
        assert_eq!(
            choose("127.0.0.1:1/a/f", false, Some(Path::new("new/"))),
            pair("new/", "f")
        );
        assert_eq!(choose("127.0.0.1:1/a/f", false, Some(Path::new("g"))), pair(".", "g"));
    }
}
