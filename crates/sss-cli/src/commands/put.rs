//! `sss put`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sss::Stream;
use sss_files::{DEPTH_ALL, Kind, Options, PROTOCOL, RelPath, SERVICE, Status};

use crate::cli::{ConnectArgs, target};
use crate::commands::verdict;
use crate::connector::{Connection, Connector, metadata};
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::progress::Progress;
use crate::target::Target;
use crate::transfer::download::Listing;
use crate::transfer::exchange::TransferError;
use crate::transfer::manifest::Walk;
use crate::transfer::safe_path::Root;
use crate::transfer::tally::Tally;
use crate::transfer::upload::Upload;

/// Send a file or a tree
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss put notes.txt EID@192.0.2.7        becomes notes.txt in what is served
  sss put photos EID@192.0.2.7/backup/   becomes backup/photos
  sss put photos EID@192.0.2.7/pictures  becomes pictures
  sss put . EID@192.0.2.7                what is in . goes into what is served

The server must allow it (`sss serve --write`). Run the same command again to
resume.")]
pub(crate) struct PutArgs {
    /// The file or directory to send
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// Destination: HOST or EID@HOST, and a path there. HOST is a name or an address, with :PORT if it is not 7757
    #[arg(value_name = "HOST[/PATH]", value_parser = target())]
    pub(crate) dest: Target,
    /// Replace files that are there and differ
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Sends a file or a tree.
pub(crate) async fn run(args: PutArgs, output: Output) -> Result<(), Error> {
    let source = Source::find(&args.source)?;
    let root = Arc::new(source.open()?);
    let walk = Walk::new(&root, &source.name, DEPTH_ALL).map_err(|error| Error::local(&args.source, "read", &error))?;
    let connector = Connector::new(args.connect, output).await?;
    let connection = connector.connect(&args.dest, SERVICE, PROTOCOL).await?;
    let (host, mut session) = (connection.host, connection.stream);
    let work = async {
        let remote = place(&mut session, &args.dest, &source, args.force).await?;
        let tally = Arc::new(Tally::default());
        let progress = Progress::start(tally.clone(), output);
        let upload = Upload {
            session: Arc::new(session),
            root,
            options: source.options(args.force),
            local: source.name,
            remote,
            tally: tally.clone(),
        };
        upload.run(walk).await?;
        progress.finish("sent");
        verdict(&tally)
    };
    Connection::run(host, work).await
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
    fn find(path: &PathBuf) -> Result<Self, Error> {
        let is_directory = metadata(path)?.is_dir() || path.is_dir() && path.as_os_str().as_bytes().ends_with(b"/");
        let called = path.file_name().map_or(&b""[..], OsStr::as_bytes).to_vec();
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

    fn options(&self, force: bool) -> Options {
        let replace = if force { Options::REPLACE } else { Options::empty() };
        let tree = if self.is_directory {
            Options::TREE
        } else {
            Options::empty()
        };
        replace | tree
    }

    fn open(&self) -> Result<Root, Error> {
        Root::open(&self.directory).map_err(|error| Error::local(&self.directory, "read", &error))
    }
}

/// Finds where it goes: into the path if that is, or is written as, a directory and what is sent is a file; else it
/// becomes the path.
async fn place(session: &mut Stream, dest: &Target, source: &Source, force: bool) -> Result<RelPath, Error> {
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

async fn kind_of(session: &mut Stream, path: &RelPath) -> Result<Option<Kind>, Error> {
    match Listing::begin(session, path.clone(), 0).await {
        Ok(mut listing) => {
            let first = listing.first().await?;
            listing.batch().await?;
            Ok(Some(first.kind))
        }
        Err(TransferError::Refused(refusal)) if refusal.status == Status::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
