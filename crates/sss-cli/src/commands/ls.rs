//! `sss ls`.

use clap::Args;
use serde_json::{Value, json};
use sss_files::{Attributes, DEPTH_ALL, Entry, Kind, PROTOCOL, RelPath, SERVICE, Status, printable};

use crate::cli::{ConnectArgs, target};
use crate::connector::{Connection, Connector};
use crate::error::{Error, Exit, advice};
use crate::output::{Output, date, json_path};
use crate::target::Target;
use crate::transfer::download::Listing;
use crate::transfer::remote_glob::expand;
use crate::transfer::session::Session;

/// List what a host serves
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss ls EID@nas.example
  sss ls -r EID@192.0.2.7/2026 --json
  sss ls 'nas/photos/*.jpg'               a pattern, quoted")]
pub(crate) struct LsArgs {
    /// Directory or file to list: HOST, EID@HOST, EID if a server finds it, a ticket, or @ for that of --ticket, and a
    /// path there. HOST is a name or an address, with :PORT if it is not 7757
    #[arg(value_name = "HOST[/PATH]", value_parser = target())]
    pub(crate) target: Target,
    /// Everything below, too
    #[arg(short, long)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Lists what a host serves.
pub(crate) async fn run(args: LsArgs, output: Output) -> Result<(), Error> {
    let depth = if args.recursive { DEPTH_ALL } else { 1 };
    let connector = Connector::new(args.connect, output)?;
    let connection = connector.connect(&args.target, SERVICE, PROTOCOL).await?;
    Connection::run(
        connection.host,
        list(&connection.session, args.target.path, depth, output),
    )
    .await
}

async fn list(session: &Session, path: RelPath, depth: u8, output: Output) -> Result<(), Error> {
    let matches = expand(session, &path).await;
    let matches = matches.map_err(|error| Error::remote(&path, error))?;
    let Some(matches) = matches else {
        let listing = Listing::ask(session, path.clone(), depth).await;
        let mut listing = listing.map_err(|error| Error::remote(&path, error))?;
        let first = listing.first().await?;
        // Of a directory, its content is asked for; anything else is shown itself.
        let entries = if matches!(first.kind, Kind::Directory(_)) {
            listing.batch().await?
        } else {
            vec![first]
        };
        return verdict(show_all(entries, listing, (&RelPath::default(), path.name()), output).await?);
    };
    let mut unreadable = Unreadable::default();
    for Entry { path, kind } in matches.entries {
        let mut listing = Listing::of(Vec::new());
        if depth == DEPTH_ALL && matches!(kind, Kind::Directory(_)) {
            let above = matches.base.join(&path);
            let asked = Listing::ask(session, above.clone(), depth).await;
            listing = asked.map_err(|error| Error::remote(&above, error))?;
            // The directory itself.
            listing.first().await?;
        }
        let itself = Entry {
            path: RelPath::default(),
            kind,
        };
        let more = show_all(vec![itself], listing, (&path, b""), output).await?;
        unreadable.add(more);
    }
    verdict(unreadable)
}

/// Shows entries, and all that the listing still has, by their paths below the prefix; what has none by its name.
/// Returns which directories could not be read.
async fn show_all(
    mut entries: Vec<Entry>,
    mut listing: Listing,
    (prefix, name): (&RelPath, &[u8]),
    output: Output,
) -> Result<Unreadable, Error> {
    let mut unreadable = Unreadable::default();
    while !entries.is_empty() && !output.is_closed() {
        for mut entry in entries {
            if let Kind::Unreadable(refusal) = &entry.kind
                && refusal.status != Status::Unfinished
            {
                unreadable.add(Unreadable {
                    directories: 1,
                    why: Some(refusal.status),
                });
            }
            entry.path = prefix.join(&entry.path);
            show(&entry, name, output);
        }
        entries = listing.batch().await?;
    }
    Ok(unreadable)
}

/// Directories that could not be read, and why one of them could not.
#[derive(Clone, Copy, Debug, Default)]
struct Unreadable {
    directories: u64,
    why: Option<Status>,
}

impl Unreadable {
    fn add(&mut self, more: Self) {
        self.directories = self.directories.saturating_add(more.directories);
        self.why = self.why.or(more.why);
    }
}

fn verdict(unreadable: Unreadable) -> Result<(), Error> {
    let Some(status) = unreadable.why else {
        return Ok(());
    };
    let what = format!("{} could not be read", directories(unreadable.directories));
    let next = match status {
        Status::Denied => "change their permissions, on the side of the server",
        other => advice(other),
    };
    Err(Error::new(Exit::Failed, what, next))
}

fn directories(count: u64) -> String {
    match count {
        1 => "1 directory".to_owned(),
        more => format!("{more} directories"),
    }
}

fn show(entry: &Entry, base: &[u8], output: Output) {
    let path = if entry.path.is_root() {
        base
    } else {
        entry.path.as_bytes()
    };
    let name = if path.is_empty() { ".".into() } else { printable(path) };
    let text = match &entry.kind {
        Kind::File(a) => line('-', a, &name),
        Kind::Directory(a) => line('d', a, &format!("{name}/")),
        Kind::Link(a, target) => line('l', a, &format!("{name} -> {}", printable(target))),
        Kind::Other(a) => line('?', a, &name),
        Kind::Unreadable(refusal) => format!("!--------- {:>14} {:19} {name}: {refusal}", "", ""),
    };
    output.fact(text, &fact(entry, path));
}

fn line(kind: char, attributes: &Attributes, name: &str) -> String {
    let mut mode = String::from(kind);
    for bit in (0..9).rev() {
        let letter = ['x', 'w', 'r'].get(bit % 3).copied().unwrap_or('-');
        mode.push(if attributes.mode >> bit & 1 == 1 { letter } else { '-' });
    }
    format!("{mode} {:>14} {} {name}", attributes.size, date(attributes.mtime))
}

fn fact(entry: &Entry, path: &[u8]) -> Value {
    let mut fact = json!({ "event": "entry", "path": json_path(path) });
    let (kind, attributes) = match &entry.kind {
        Kind::File(a) => ("file", Some(a)),
        Kind::Directory(a) => ("directory", Some(a)),
        Kind::Link(a, target) => {
            fact["target"] = json_path(target);
            ("link", Some(a))
        }
        Kind::Other(a) => ("other", Some(a)),
        Kind::Unreadable(refusal) => {
            fact["error"] = refusal.text.clone().into();
            ("unreadable", None)
        }
    };
    fact["kind"] = kind.into();
    if let Some(attributes) = attributes {
        fact["size"] = attributes.size.into();
        fact["mode"] = format!("{:04o}", attributes.mode).into();
        fact["mtime"] = json!([attributes.mtime.seconds, attributes.mtime.nanoseconds]);
    }
    fact
}
