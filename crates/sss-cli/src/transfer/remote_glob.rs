//! Paths with patterns, as the server has names for them.

use sss_files::{DEPTH_ALL, Entry, Kind, Refusal, RelPath, Status};

use super::download::Listing;
use super::exchange::TransferError;
use super::filter::PathPattern;
use super::session::Session;

/// Entries that match a pattern, with paths relative to `base`, in ascending order.
#[derive(Debug)]
pub(crate) struct Matches {
    pub(crate) base: RelPath,
    pub(crate) entries: Vec<Entry>,
}

/// Entries of a peer that are kept together, and the memory that they take.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) entries: Vec<Entry>,
    bytes: usize,
}

impl Gathered {
    /// Most memory that is kept for entries, in bytes: of some 500,000, if their names are short.
    const MOST: usize = 128 << 20;

    /// Adds entries.
    ///
    /// # Errors
    /// If they take more memory than is given to a peer.
    pub(crate) fn add(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), Refusal> {
        for entry in entries {
            let text = match &entry.kind {
                Kind::Link(_, target) => target.len(),
                Kind::Unreadable(refusal) => refusal.text.len(),
                _ => 0,
            };
            let bytes = size_of::<Entry>().saturating_mul(2);
            let bytes = bytes.saturating_add(entry.path.as_bytes().len()).saturating_add(text);
            self.bytes = self.bytes.saturating_add(bytes);
            if self.bytes > Self::MOST {
                let text = "the server names too many files at once: give a smaller tree, or a narrower pattern";
                return Err(Refusal::new(Status::Io, text));
            }
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// Finds what a path with a pattern means. `None`: it has no pattern, or there is something of exactly that name.
///
/// # Errors
/// NOT_FOUND if nothing matches; whatever keeps the server from listing.
pub(crate) async fn expand(session: &Session, path: &RelPath) -> Result<Option<Matches>, TransferError> {
    let wrong = TransferError::Pattern;
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
    let mut gathered = Gathered::default();
    loop {
        let batch = listing.batch().await?;
        if batch.is_empty() {
            break;
        }
        let matching = batch.into_iter().filter(|entry| pattern.matches(&entry.path));
        gathered.add(matching)?;
    }
    let entries = gathered.entries;
    if entries.is_empty() {
        return Err(Refusal::new(Status::NotFound, "nothing matches this pattern").into());
    }
    Ok(Some(Matches {
        base: pattern.base,
        entries,
    }))
}

async fn is_there(session: &Session, path: &RelPath) -> Result<bool, TransferError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use sss_files::Attributes;

    #[test]
    fn a_server_cannot_make_us_keep_more_than_is_given_to_it() {
        let link = |path: &str, target: usize| Entry {
            path: RelPath::parse(path.as_bytes()).unwrap(),
            kind: Kind::Link(Attributes::default(), vec![b'x'; target]),
        };
        let short = std::iter::repeat_with(|| link("name", 4));
        let mut gathered = Gathered::default();
        gathered.add(short.take(300_000)).unwrap();
        assert_eq!(gathered.entries.len(), 300_000);
        let endless = std::iter::repeat_with(|| link("name", 4096));
        let refusal = Gathered::default().add(endless.take(1_000_000)).unwrap_err();
        assert!(refusal.text.contains("too many"), "{refusal}");
    }
}
