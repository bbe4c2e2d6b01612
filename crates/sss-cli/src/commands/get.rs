//! `sss get`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use sss_files::{Attributes, DEPTH_ALL, Entry, Kind, Options, PROTOCOL, Refusal, RelPath, SERVICE, Status, printable};

use crate::cli::{ConnectArgs, StoreArgs};
use crate::commands::{is_closed, verdict};
use crate::connector::{Connection, Connector, find_all};
use crate::dry_run::{DryRun, There, below, local};
use crate::error::{Error, Exit, SAME_NAME};
use crate::output::{Output, note_printed};
use crate::progress::Progress;
use crate::target::Target;
use crate::transfer::directories::open_destination;
use crate::transfer::download::{Download, Listing};
use crate::transfer::exchange::TransferError;
use crate::transfer::filter::{Exclude, Sieve};
use crate::transfer::io_pool;
use crate::transfer::pipe::{Unpiped, to_stdout};
use crate::transfer::rate::{Limiter, Rate};
use crate::transfer::remote_glob::{Matches, expand};
use crate::transfer::safe_path::Root;
use crate::transfer::session::Session;
use crate::transfer::tally::Tally;

/// Fetch files and trees
#[derive(Debug, Args)]
#[command(override_usage = "sss get [OPTIONS] <SRC>... [DEST]")]
#[command(after_help = "\
Examples:
  sss get EID@192.0.2.7 photos            all that is served becomes ./photos
  sss get EID@nas.example/2026            the tree 2026 becomes ./2026
  sss get EID@192.0.2.7/a/notes.txt /tmp  the file becomes /tmp/notes.txt
  sss get 192.0.2.7 photos --trust        trust who is there, and remember
  sss get nas/a nas/b '10.0.0.7/*.jpg' .  several go into a directory
  sss get nas/log - | grep error          to standard output
  sss get @/2026 --ticket nas.ticket      a ticket that nobody else sees

Every file is verified by BLAKE3 and appears under its name only when it is
complete. Run the same command again to resume: what is there already is kept,
and a file that was interrupted goes on where it was. Names, modes, times,
links and holes are kept; owners are not, and of several hard links each
becomes a file of its own (that is said at the end).")]
pub(crate) struct GetArgs {
    /// Sources, each HOST, EID@HOST, EID if a server finds it, a ticket, or @ for that of --ticket, and a path there;
    /// and, unless there is one word only, the destination. HOST is a name or an address, with :PORT if it is not 7757.
    /// The last name of a path may be a pattern, such as '*.jpg'. Destination: a file or directory, or - for standard
    /// output [default: the last name of the path, or .]
    #[arg(value_name = "SRC", required = true, num_args = 1..)]
    pub(crate) places: Vec<OsString>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Leave out what has such a name, or, with a / in it, such a path below the source, such as '*.o', cache/, /target
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<Exclude>,
    /// Move at most so many bytes per second, such as 500K or 2M (K: 1024)
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub(crate) limit_rate: Option<Rate>,
    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Fetches files and trees.
pub(crate) async fn run(args: GetArgs, output: Output) -> Result<(), Error> {
    let (sources, dest) = split(&args.places)?;
    if dest.as_deref() == Some(Path::new("-")) {
        return to_standard_output(&sources, args, output).await;
    }
    let mut getting = Getting::new(&args, sources.len() > 1, dest)?;
    getting.dry_run = args.dry_run.then(|| DryRun::new(args.store.force, output));
    let mut progress = None;
    let hosts: Vec<&[Target]> = sources.chunk_by(Target::is_same_host).collect();
    let firsts: Vec<&Target> = hosts.iter().filter_map(|sources| sources.first()).collect();
    let found = find_all(&firsts, &args.connect, output).await?;
    let (mut unreached, are_several) = (0, hosts.len() > 1);
    for ((sources, first), found) in hosts.into_iter().zip(firsts).zip(found) {
        let connector = Connector::limited(args.connect.clone(), args.limit_rate, output)?;
        let connected = match found {
            Ok(found) => connector.connect_to((first, found), SERVICE, PROTOCOL).await,
            Err(error) => Err(error),
        };
        let connection = match connected {
            Err(error) if are_several && error.exit == Exit::Unreachable => {
                output.note(format!("{}: {error}", first.place()));
                unreached += 1;
                continue;
            }
            connected => connected?,
        };
        if !args.dry_run {
            progress.get_or_insert_with(|| Progress::start(getting.tally.clone(), output));
        }
        let session = connection.session;
        Connection::run(connection.host, async {
            for source in sources {
                getting.get(&session, source).await?;
            }
            Ok(())
        })
        .await?;
    }
    if let Some(dry_run) = getting.dry_run {
        dry_run.finish(&getting.tally)?;
        return all_reached(unreached);
    }
    if let Some(progress) = progress {
        progress.finish("received");
    }
    verdict(&getting.tally)?;
    all_reached(unreached)
}

/// Error for hosts that were not reached, where there were others.
fn all_reached(unreached: usize) -> Result<(), Error> {
    let what = match unreached {
        0 => return Ok(()),
        1 => "1 of the hosts was not reached".to_owned(),
        _ => format!("{unreached} of the hosts were not reached"),
    };
    let next = "see the messages above; the same command again fetches what is missing";
    Err(Error::new(Exit::Unreachable, what, next))
}

/// The sources, and the destination if there is one: the last word, unless it is the only one.
fn split(places: &[OsString]) -> Result<(Vec<Target>, Option<PathBuf>), Error> {
    let (sources, dest) = match places {
        [sources @ .., dest] if !sources.is_empty() => (sources, Some(dest)),
        sources => (sources, None),
    };
    let usage = |what: String, next: &str| Error::new(Exit::Usage, what, next);
    if let Some(dest) = dest
        && Target::parse(dest)
            .is_ok_and(|target| target.eid.is_some() || target.name.is_some() || target.needs_ticket())
    {
        let what = format!(
            "{} is a source, and stands where the destination stands",
            printable(dest.as_bytes())
        );
        return Err(usage(what, "name a directory behind the sources, such as ."));
    }
    let target = |text: &OsString| {
        let parsed = Target::parse(text);
        parsed.map_err(|error| {
            usage(
                format!("{}: {error}", printable(text.as_bytes())),
                "`sss get --help` has examples",
            )
        })
    };
    let sources = sources.iter().map(target).collect::<Result<_, Error>>()?;
    Ok((sources, dest.map(PathBuf::from)))
}

async fn to_standard_output(sources: &[Target], args: GetArgs, output: Output) -> Result<(), Error> {
    if args.dry_run {
        let what = "--dry-run tells what would become of files, and standard output is none";
        return Err(Error::new(Exit::Usage, what, "leave one of them away"));
    }
    if output.is_json() {
        let what = "--json and the content of files cannot both go to standard output";
        return Err(Error::new(Exit::Usage, what, "leave --json away, or name a file"));
    }
    if is_closed(std::io::stdout()) {
        let what = "standard output is closed";
        return Err(Error::new(
            Exit::Usage,
            what,
            "name a file, or send it somewhere, as in: sss get HOST/NAME - | less",
        ));
    }
    let limit = args.limit_rate.map(Limiter::new).map(Arc::new);
    let found = find_all(&sources.iter().collect::<Vec<_>>(), &args.connect, output).await?;
    for (source, found) in sources.iter().zip(found) {
        let connector = Connector::limited(args.connect.clone(), args.limit_rate, output)?;
        let connection = connector.connect_to((source, found?), SERVICE, PROTOCOL).await?;
        Connection::run(connection.host, async {
            for path in paths_of(&connection.session, &source.path).await? {
                match to_stdout(&connection.session, path.clone(), limit.as_ref()).await {
                    Ok(_) => {}
                    Err(Unpiped::Transfer(error)) => return Err(of_output(&path, error)),
                    Err(Unpiped::Output(error)) => {
                        note_printed(Err(error));
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
        .await?;
        // Whoever reads it has enough.
        if output.is_closed() {
            break;
        }
    }
    Ok(())
}

/// Error of a path that does not go to standard output.
fn of_output(path: &RelPath, error: TransferError) -> Error {
    let is_of_another_kind = matches!(&error, TransferError::Refused(refusal) if refusal.status == Status::WrongKind);
    let error = Error::remote(path, error);
    match is_of_another_kind {
        true => error.advising("name a file of it, or a directory to copy it into: standard output takes files alone"),
        false => error,
    }
}

/// The paths that are meant: several, in order, if it is a pattern.
async fn paths_of(session: &Session, path: &RelPath) -> Result<Vec<RelPath>, Error> {
    match expand(session, path).await {
        Ok(None) => Ok(vec![path.clone()]),
        Ok(Some(Matches { base, entries })) => Ok(entries.iter().map(|entry| base.join(&entry.path)).collect()),
        Err(error) => Err(Error::remote(path, error)),
    }
}

/// Transfers to this side, of one command.
struct Getting {
    dest: Option<PathBuf>,
    /// Each source goes into the destination, under its own name.
    into: bool,
    options: Options,
    excludes: Vec<Exclude>,
    /// Names that sources have got in the destination.
    names: BTreeSet<Vec<u8>>,
    tally: Arc<Tally>,
    limit: Option<Arc<Limiter>>,
    dry_run: Option<DryRun>,
}

impl Getting {
    fn new(args: &GetArgs, into: bool, dest: Option<PathBuf>) -> Result<Self, Error> {
        let new = Self {
            dest,
            into,
            options: Options::TREE | args.store.options(),
            excludes: args.exclude.clone(),
            names: BTreeSet::new(),
            tally: Arc::new(Tally::default()),
            limit: args.limit_rate.map(Limiter::new).map(Arc::new),
            dry_run: None,
        };
        if into {
            new.room()?;
        }
        Ok(new)
    }

    /// The directory that several sources go into.
    fn room(&self) -> Result<&Path, Error> {
        let dest = self.dest.as_deref().unwrap_or(Path::new("."));
        if dest.exists() && !dest.is_dir() {
            let what = format!("{} is no directory, and several sources go into one", dest.display());
            return Err(Error::new(Exit::Failed, what, "name a directory as the destination"));
        }
        Ok(dest)
    }

    async fn get(&mut self, session: &Arc<Session>, source: &Target) -> Result<(), Error> {
        let matches = expand(session, &source.path).await;
        match self.survived(&source.path, matches)? {
            None => Ok(()),
            Some(None) => self.get_one(session, &source.path, self.into).await,
            Some(Some(matches)) => self.get_matches(session, matches).await,
        }
    }

    /// With several sources, what is wrong with one of them does not end the others.
    fn survived<T>(&self, path: &RelPath, result: Result<T, TransferError>) -> Result<Option<T>, Error> {
        match result {
            Err(TransferError::Refused(refusal)) if self.into => {
                self.tally.fail(path.clone(), refusal);
                Ok(None)
            }
            Err(error) => Err(Error::remote(path, error)),
            Ok(done) => Ok(Some(done)),
        }
    }

    /// Notes the name that a source gets in the destination. False if another has it.
    fn is_new_name(&mut self, path: &RelPath) -> bool {
        let is_new = path.name().is_empty() || self.names.insert(path.name().to_vec());
        if !is_new {
            self.tally.fail(path.clone(), Refusal::new(Status::Exists, SAME_NAME));
        }
        is_new
    }

    async fn get_one(&mut self, session: &Arc<Session>, path: &RelPath, into: bool) -> Result<(), Error> {
        if into && !self.is_new_name(path) {
            return Ok(());
        }
        let listing = Listing::ask_for_some(session, path.clone(), DEPTH_ALL, Sieve::new(&self.excludes)).await;
        let Some(mut listing) = self.survived(path, listing)? else {
            return Ok(());
        };
        let first = listing.first().await?;
        let dest = self.dest.as_deref();
        let to = Place::choose(path, &first, dest, into)?;
        self.download(session, (path.clone(), to), first, listing).await
    }

    async fn get_matches(&mut self, session: &Arc<Session>, mut matches: Matches) -> Result<(), Error> {
        let mut sieve = Sieve::new(&self.excludes);
        matches.entries.retain(|entry| sieve.keeps(entry));
        let dest = self.room()?.to_owned();
        let (trees, others) = matches.split();
        for (above, mut entries) in others {
            entries.retain(|entry| self.is_new_name(&above.join(&entry.path)));
            if entries.is_empty() {
                continue;
            }
            let to = Place {
                directory: dest.clone(),
                name: RelPath::default(),
            };
            let mut listing = Listing::of(entries);
            let first = listing.first().await?;
            self.download(session, (above, to), first, listing).await?;
        }
        for tree in trees {
            self.get_one(session, &tree, true).await?;
        }
        Ok(())
    }

    async fn download(
        &mut self,
        session: &Arc<Session>,
        (remote, to): (RelPath, Place),
        first: Entry,
        listing: Listing,
    ) -> Result<(), Error> {
        if let Some(dry_run) = &mut self.dry_run {
            return would_get(dry_run, &to, first, listing).await;
        }
        self.tally.all_found.store(false, Ordering::Relaxed);
        let download = Download {
            session: session.clone(),
            root: Arc::new(to.open()?),
            local: to.name,
            options: self.options,
            tally: self.tally.clone(),
            limit: self.limit.clone(),
            remote: remote.clone(),
        };
        let done = download.run(first, listing).await;
        self.survived(&remote, done).map(drop)
    }
}

/// Tells what would become of the entries, by what is at their places now.
async fn would_get(dry_run: &mut DryRun, to: &Place, first: Entry, mut listing: Listing) -> Result<(), Error> {
    let mut entries = vec![first];
    while !entries.is_empty() {
        let (directory, name) = (to.directory.clone(), to.name.clone());
        let looked = io_pool::run(move || {
            let look = |entry: Entry| {
                let path = name.join(&entry.path);
                let at = below(&directory, &path);
                let there = if path.is_root() { destination(&at)? } else { local(&at) };
                Ok((there, at, entry))
            };
            entries.into_iter().map(look).collect::<Result<Vec<_>, Error>>()
        });
        for (there, at, entry) in looked.await? {
            dry_run.tell(at.as_os_str().as_bytes(), &entry, there.as_ref());
        }
        entries = listing.batch().await?;
    }
    Ok(())
}

/// Looks what is where a whole tree is to be: what the user names may be a link to a directory, and nothing else is
/// ever replaced by the tree.
fn destination(path: &Path) -> Result<Option<There>, Error> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => Ok(Some(There {
            kind: Kind::Directory(Attributes::default()),
            makes_way: false,
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => {
            let error = other.err().unwrap_or(ErrorKind::NotADirectory.into());
            Err(Error::local(path, "write to", &error))
        }
    }
}

/// Place where what was asked for is to be put.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    /// Below the directory; empty if it becomes the directory itself.
    name: RelPath,
}

impl Place {
    /// A tree becomes `dest`; anything else becomes `dest`, or goes into it if that is a directory. With `into`, all
    /// that has a name goes into it.
    fn choose(path: &RelPath, first: &Entry, dest: Option<&Path>, into: bool) -> Result<Self, Error> {
        let name = path.name();
        if let Kind::Directory(_) = first.kind {
            let by_name = if name.is_empty() {
                Path::new(".")
            } else {
                Path::new(OsStr::from_bytes(name))
            };
            let directory = match dest {
                Some(dest) if into && !name.is_empty() => dest.join(by_name),
                dest => dest.unwrap_or(by_name).to_owned(),
            };
            return Ok(Self {
                directory,
                name: RelPath::default(),
            });
        }
        let dest = dest.unwrap_or(Path::new("."));
        if into || dest.is_dir() || dest.as_os_str().as_bytes().ends_with(b"/") {
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
        let place = Place::choose(&target.path, &first, dest, false).unwrap();
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
