//! `sss put`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use sss_files::{Attributes, DEPTH_ALL, Entry, Kind, Options, PROTOCOL, RelPath, SERVICE, Status, printable};

use crate::cli::{ConnectArgs, StoreArgs, target};
use crate::commands::{is_closed, verdict};
use crate::connector::{Connection, Connector, metadata};
use crate::dry_run::{DryRun, There};
use crate::error::{Error, Exit};
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::target::Target;
use crate::transfer::directories::new_file_mode;
use crate::transfer::download::Listing;
use crate::transfer::exchange::TransferError;
use crate::transfer::filter::{Exclude, Sieve};
use crate::transfer::io_pool;
use crate::transfer::manifest::{Walk, attributes};
use crate::transfer::rate::{Limiter, Rate};
use crate::transfer::remote_glob::Gathered;
use crate::transfer::safe_path::Root;
use crate::transfer::session::Session;
use crate::transfer::tally::Tally;
use crate::transfer::upload::{Origin, Upload};

/// Entries looked at together.
const BATCH: usize = 256;

/// Send files and trees
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss put notes.txt EID@192.0.2.7        becomes notes.txt in what is served
  sss put photos EID@192.0.2.7/backup/   becomes backup/photos
  sss put photos EID@192.0.2.7/pictures  becomes pictures
  sss put . EID@192.0.2.7                what is in . goes into what is served
  sss put *.jpg notes nas/backup         several go into a directory
  pg_dump db | sss put - nas/dumps/db    standard input becomes a file

The server must allow it (`sss serve --write`). Run the same command again to
resume. What is kept is as `sss get --help` says.")]
pub(crate) struct PutArgs {
    /// The files and directories to send; - for standard input, which becomes PATH
    #[arg(value_name = "SRC", required = true, num_args = 1..)]
    pub(crate) sources: Vec<PathBuf>,
    /// Destination: HOST, EID@HOST, EID if a server finds it, a ticket, or @ for that of --ticket, and a path there.
    /// HOST is a name or an address, with :PORT if it is not 7757
    #[arg(value_name = "HOST[/PATH]", value_parser = target(), required = true)]
    pub(crate) dest: Target,
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

/// Sends files and trees.
pub(crate) async fn run(args: PutArgs, output: Output) -> Result<(), Error> {
    let options = args.store.options();
    // What cannot be read is said before anybody is asked.
    let (sources, jobs) = match &args.sources[..] {
        [one] if one == Path::new("-") => {
            let spool = interrupt::or(spool(&args.dest)).await?;
            (vec![Source::unnamed()], vec![spool_job(spool, options)?])
        }
        paths => {
            let sources = paths.iter().map(Source::find).collect::<Result<Vec<_>, _>>()?;
            let jobs = jobs(&sources, options, &Sieve::new(&args.exclude))?;
            (sources, jobs)
        }
    };
    let limit = args.limit_rate.map(Limiter::new).map(Arc::new);
    let connector = Connector::new(args.connect, output)?;
    let connection = connector.connect(&args.dest, SERVICE, PROTOCOL).await?;
    let (host, session) = (connection.host, connection.session);
    let work = async {
        let places = match &sources[..] {
            [source] => vec![place(&session, &args.dest, source, args.store.force).await?],
            _ => room(&session, &args.dest, &jobs).await?,
        };
        let tally = Arc::new(Tally::default());
        if args.dry_run {
            let mut dry_run = DryRun::new(args.store.force, output);
            for (job, remote) in jobs.into_iter().zip(places) {
                would_put(&mut dry_run, &session, (job, remote)).await?;
            }
            return dry_run.finish(&tally);
        }
        let progress = Progress::start(tally.clone(), output);
        for (job, remote) in jobs.into_iter().zip(places) {
            tally.all_found.store(false, Ordering::Relaxed);
            let upload = Upload {
                session: session.clone(),
                from: job.from,
                options: job.options,
                local: job.local,
                remote,
                tally: tally.clone(),
                limit: limit.clone(),
            };
            upload.run(job.entries).await?;
        }
        progress.finish("sent");
        verdict(&tally)
    };
    Connection::run(host, work).await
}

/// Tells what would become of the entries, by what the server has now.
async fn would_put(
    dry_run: &mut DryRun,
    session: &Session,
    (job, remote): (Job, RelPath),
) -> Result<(), TransferError> {
    let is_tree = job.options.contains(Options::TREE);
    let there = listed(session, &remote, if is_tree { DEPTH_ALL } else { 1 }).await?;
    let mut entries = job.entries;
    loop {
        let batch;
        (batch, entries) = io_pool::run(move || (entries.by_ref().take(BATCH).collect::<Vec<_>>(), entries)).await;
        if batch.is_empty() {
            return Ok(());
        }
        for entry in &batch {
            let at = remote.join(&entry.path);
            dry_run.tell(at.as_bytes(), entry, there_at(&there, entry.path.as_bytes()).as_ref());
        }
    }
}

/// Finds what the server has at a path. Its links may lead to devices, which it does not say.
fn there_at(there: &BTreeMap<Vec<u8>, Kind>, path: &[u8]) -> Option<There> {
    let kind = there.get(path)?.clone();
    let prefix = if path.is_empty() {
        Vec::new()
    } else {
        [path, b"/"].concat()
    };
    let next = there
        .range::<[u8], _>((Bound::Excluded(prefix.as_slice()), Bound::Unbounded))
        .next();
    let is_empty = next.is_none_or(|(next, _)| !next.starts_with(&prefix));
    let makes_way = match kind {
        Kind::File(_) | Kind::Link(..) => true,
        Kind::Directory(_) => is_empty,
        Kind::Other(_) | Kind::Unreadable(_) => false,
    };
    Some(There { kind, makes_way })
}

/// Lists what is at a path of the server and below it.
async fn listed(session: &Session, path: &RelPath, depth: u8) -> Result<BTreeMap<Vec<u8>, Kind>, TransferError> {
    let mut there = Gathered::default();
    let mut listing = match Listing::ask(session, path.clone(), depth).await {
        Err(TransferError::Refused(refusal)) if refusal.status == Status::NotFound => return Ok(BTreeMap::new()),
        listing => listing?,
    };
    loop {
        let batch = listing.batch().await?;
        if batch.is_empty() {
            return Ok(by_path(there.entries));
        }
        there.add(batch)?;
    }
}

fn by_path(entries: Vec<Entry>) -> BTreeMap<Vec<u8>, Kind> {
    let mut there = BTreeMap::new();
    for Entry { path, kind } in entries {
        let mut path = path.as_bytes().to_vec();
        // What is told of a directory beside it says that there is something in it, of no name that could be sent.
        if there.contains_key(&path) {
            path.extend_from_slice(b"/.");
        }
        there.insert(path, kind);
    }
    there
}

/// Entries of one directory of this side that go to one place.
struct Job {
    from: Origin,
    local: RelPath,
    /// Its name, if it is one source. Empty: it goes into the destination itself.
    called: Vec<u8>,
    options: Options,
    entries: Box<dyn Iterator<Item = Entry> + Send>,
}

/// The work that there is: files of one directory together, each tree by itself.
///
/// # Errors
/// If a source cannot be read, or two have the same name.
fn jobs(sources: &[Source], chosen: Options, sieve: &Sieve) -> Result<Vec<Job>, Error> {
    let is_one = sources.len() == 1;
    let kept: Vec<&Source> = sources.iter().filter(|source| is_one || source.passes(sieve)).collect();
    let mut names = BTreeSet::new();
    let mut jobs: Vec<Job> = Vec::new();
    for together in kept.chunk_by(|a, b| !a.is_directory && !b.is_directory && a.directory == b.directory) {
        let Some(first) = together.first() else { continue };
        let root = Arc::new(first.open()?);
        let mut walks = Vec::new();
        for source in together {
            if !is_one && !source.called.is_empty() && !names.insert(source.called.clone()) {
                let what = format!("two sources are called {}", printable(&source.called));
                return Err(Error::new(
                    Exit::Failed,
                    what,
                    "send them one by one, to different places",
                ));
            }
            walks.push((source.name.clone(), source.walk(&root)?.sieved(sieve.clone())));
        }
        let is_alone = is_one || first.is_directory;
        jobs.push(Job {
            from: Origin::Directory(root),
            local: if is_alone {
                first.name.clone()
            } else {
                RelPath::default()
            },
            called: if is_alone { first.called.clone() } else { Vec::new() },
            options: first.options(chosen),
            entries: match walks.pop() {
                Some((_, walk)) if is_alone => Box::new(walk),
                last => Box::new(walks.into_iter().chain(last).flat_map(|(name, walk)| named(name, walk))),
            },
        });
    }
    Ok(jobs)
}

/// The entries of a source, by their paths in the directory that the source is in.
fn named(name: RelPath, walk: Walk) -> impl Iterator<Item = Entry> {
    walk.map(move |mut entry| {
        entry.path = name.join(&entry.path);
        entry
    })
}

/// Finds where several sources go: into the path, which must be a directory if it is there.
async fn room(session: &Session, dest: &Target, jobs: &[Job]) -> Result<Vec<RelPath>, Error> {
    if kind_of(session, &dest.path)
        .await?
        .is_some_and(|kind| !matches!(kind, Kind::Directory(_)))
    {
        let what = format!("{} is no directory, and several sources go into one", dest.path);
        return Err(Error::new(Exit::Failed, what, "name a directory in PATH"));
    }
    let place = |job: &Job| {
        let named = RelPath::parse(&job.called).map(|name| dest.path.join(&name));
        named.map_err(|error| Error::new(Exit::Failed, error.to_string(), "name the file in PATH"))
    };
    jobs.iter().map(place).collect()
}

/// Takes all of standard input, and keeps it in a file that has no name, so that nothing is left whatever becomes of
/// this process: a server is told the size of a file first.
async fn spool(dest: &Target) -> Result<File, Error> {
    if dest.path.is_root() || dest.is_directory {
        let what = "what comes from standard input has no name";
        return Err(Error::new(Exit::Usage, what, "give it one, as in HOST/PATH/NAME"));
    }
    if is_closed(io::stdin()) {
        let what = "standard input is closed";
        return Err(Error::new(
            Exit::Usage,
            what,
            "send something there, as in: echo text | sss put - HOST/NAME",
        ));
    }
    io_pool::run(|| {
        let filled = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut io::stdin().lock(), &mut file)?;
            Ok(file)
        };
        filled().map_err(spool_failed)
    })
    .await
}

fn spool_failed(error: io::Error) -> Error {
    Error::local(&std::env::temp_dir(), "keep standard input in", &error)
}

/// The work that there is with what came from standard input.
fn spool_job(file: File, options: Options) -> Result<Job, Error> {
    let stat = rustix::fs::fstat(&file).map_err(|error| spool_failed(error.into()))?;
    let attributes = Attributes {
        mode: new_file_mode(),
        ..attributes(&stat)
    };
    let entry = Entry {
        path: RelPath::default(),
        kind: Kind::File(attributes),
    };
    Ok(Job {
        from: Origin::File(Arc::new(file), attributes),
        local: RelPath::default(),
        called: Vec::new(),
        options,
        entries: Box::new(std::iter::once(entry)),
    })
}

/// Source of what is sent: `name` in `directory`, or the directory itself if the name is empty.
struct Source {
    directory: PathBuf,
    name: RelPath,
    /// Name at the other side, unless that is said. Empty: nothing in particular, such as `.`.
    called: Vec<u8>,
    is_directory: bool,
}

impl Source {
    /// Standard input. It becomes PATH, also where that is a directory: then it is told that it cannot.
    fn unnamed() -> Self {
        Self {
            directory: PathBuf::new(),
            name: RelPath::default(),
            called: Vec::new(),
            is_directory: false,
        }
    }

    fn find(path: &PathBuf) -> Result<Self, Error> {
        let there = metadata(path)?;
        if there.is_symlink() && leads_to_a_stream(path) {
            let what = format!(
                "{} is a link to what is no file, such as a pipe",
                printable(path.as_os_str().as_bytes())
            );
            let next = "send what comes from it as standard input: sss put - HOST/NAME";
            return Err(Error::new(Exit::Failed, what, next));
        }
        let bytes = path.as_os_str().as_bytes();
        let is_directory = there.is_dir() || path.is_dir() && bytes.ends_with(b"/");
        // `DIR/.` is what is in it.
        let name = path.file_name().filter(|_| !bytes.ends_with(b"/."));
        let called = name.map_or(&b""[..], OsStr::as_bytes).to_vec();
        if is_directory {
            return Ok(Self {
                directory: path.clone(),
                name: RelPath::default(),
                called,
                is_directory,
            });
        }
        let name = RelPath::parse(&called).map_err(|error| {
            let what = format!("cannot send {}: {error}", path.display());
            Error::new(Exit::Failed, what, "give it another name")
        })?;
        let directory = path
            .parent()
            .filter(|d| !d.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Ok(Self {
            directory: directory.to_owned(),
            name,
            called,
            is_directory,
        })
    }

    /// Returns whether it is sent as one of several, as a shell may have named them all.
    fn passes(&self, sieve: &Sieve) -> bool {
        let attributes = Attributes::default();
        let kind = if self.is_directory {
            Kind::Directory(attributes)
        } else {
            Kind::File(attributes)
        };
        // What has no name for the protocol fails later.
        let path = RelPath::parse(&self.called).unwrap_or_default();
        sieve.clone().keeps(&Entry { path, kind })
    }

    fn options(&self, chosen: Options) -> Options {
        let tree = if self.is_directory {
            Options::TREE
        } else {
            Options::empty()
        };
        chosen | tree
    }

    fn walk(&self, root: &Arc<Root>) -> Result<Walk, Error> {
        let path = self.directory.join(OsStr::from_bytes(self.name.as_bytes()));
        Walk::new(root, &self.name, DEPTH_ALL).map_err(|error| Error::local(&path, "read", &error))
    }

    fn open(&self) -> Result<Root, Error> {
        Root::open(&self.directory).map_err(|error| Error::local(&self.directory, "read", &error))
    }
}

/// Returns whether a link, such as those that stand for standard input and for what a shell runs, leads to something
/// that is read and not copied.
fn leads_to_a_stream(link: &Path) -> bool {
    let is_stream = |there: std::fs::Metadata| !there.is_file() && !there.is_dir();
    std::fs::read_link(link).is_ok_and(|target| target.starts_with("/proc"))
        || std::fs::metadata(link).is_ok_and(is_stream)
}

/// Finds where it goes: into the path if that is, or is written as, a directory and what is sent is a file; else it
/// becomes the path.
async fn place(session: &Session, dest: &Target, source: &Source, force: bool) -> Result<RelPath, Error> {
    // Asked in any case: it also tells whether there is such a service.
    let there = kind_of(session, &dest.path).await?;
    let is_directory = matches!(there, Some(Kind::Directory(_)));
    let into = dest.path.is_root() || dest.is_directory || !source.is_directory && is_directory;
    if source.is_directory && !into && !force && there.is_some_and(|kind| !matches!(kind, Kind::Directory(_))) {
        let what = format!("{} is no directory, and cannot become one", dest.path);
        let next = "name another PATH, or give --force to replace what is there";
        return Err(Error::new(Exit::Failed, what, next));
    }
    if !into || source.called.is_empty() {
        return Ok(dest.path.clone());
    }
    let named = RelPath::parse(&source.called).map(|name| dest.path.join(&name));
    named.map_err(|error| Error::new(Exit::Failed, error.to_string(), "name the file in PATH"))
}

async fn kind_of(session: &Session, path: &RelPath) -> Result<Option<Kind>, Error> {
    match Listing::ask(session, path.clone(), 0).await {
        Ok(mut listing) => {
            let first = listing.first().await?;
            listing.batch().await?;
            Ok(Some(first.kind))
        }
        Err(TransferError::Refused(refusal)) if refusal.status == Status::NotFound => Ok(None),
        Err(error) => Err(Error::remote(path, error)),
    }
}
