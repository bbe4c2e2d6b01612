//! Paths with patterns, as the server has names for them.

use sss::Stream;
use sss_files::{DEPTH_ALL, Entry, Kind, Refusal, RelPath, Status};

use super::download::Listing;
use super::exchange::TransferError;
use super::filter::PathPattern;

/// Entries that match a pattern, with paths relative to `base`, in ascending order.
#[derive(Debug)]
pub(crate) struct Matches {
    pub(crate) base: RelPath,
    pub(crate) entries: Vec<Entry>,
}

/// Finds what a path with a pattern means. `None`: it has no pattern, or there is something of exactly that name.
///
/// # Errors
/// NOT_FOUND if nothing matches; whatever keeps the server from listing.
pub(crate) async fn expand(session: &Stream, path: &RelPath) -> Result<Option<Matches>, TransferError> {
    let wrong = |why: String| Refusal::new(Status::BadPath, format!("{path} is no pattern: {why}"));
    // A name may have the characters of a pattern: then it is that what is meant.
    let pattern = match PathPattern::of(path) {
        Ok(None) => return Ok(None),
        other if is_there(session, path).await? => return other.map(|_| None).or(Ok(None)),
        other => other.map_err(wrong)?,
    };
    let Some(pattern) = pattern else { return Ok(None) };
    let depth = u8::try_from(pattern.depth()).ok().filter(|depth| *depth < DEPTH_ALL);
    let depth = depth.ok_or_else(|| wrong("it has too many levels".to_owned()))?;
    let mut listing = Listing::ask(session, pattern.base.clone(), depth).await?;
    let mut entries = Vec::new();
    loop {
        let batch = listing.batch().await?;
        if batch.is_empty() {
            break;
        }
        entries.extend(batch.into_iter().filter(|entry| pattern.matches(&entry.path)));
    }
    if entries.is_empty() {
        return Err(Refusal::new(Status::NotFound, format!("nothing matches {path}")).into());
    }
    Ok(Some(Matches {
        base: pattern.base,
        entries,
    }))
}

async fn is_there(session: &Stream, path: &RelPath) -> Result<bool, TransferError> {
    match Listing::ask(session, path.clone(), 0).await {
        Ok(mut listing) => {
            while !listing.batch().await?.is_empty() {}
            Ok(true)
        }
        Err(TransferError::Refused(refusal)) if refusal.status == Status::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Matches {
    /// Trees, each to be transferred by itself, and all else, by the directory that it is in: the paths are relative to
    /// that.
    pub(crate) fn split(self) -> (Vec<RelPath>, Vec<(RelPath, Vec<Entry>)>) {
        let (mut trees, mut others): (_, Vec<(RelPath, Vec<Entry>)>) = (Vec::new(), Vec::new());
        for mut entry in self.entries {
            let path = self.base.join(&entry.path);
            if let Kind::Directory(_) = entry.kind {
                trees.push(path);
                continue;
            }
            let above = path.split().map_or(&b""[..], |(above, _)| above);
            let (Ok(above), Ok(name)) = (RelPath::parse(above), RelPath::parse(path.name())) else {
                continue;
            };
            entry.path = name;
            match others.last_mut() {
                Some((last, entries)) if *last == above => entries.push(entry),
                _ => others.push((above, vec![entry])),
            }
        }
        (trees, others)
    }
}
