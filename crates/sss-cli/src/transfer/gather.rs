//! GATHER: many small files on their way out of the server, on one stream, within the server's limits.
//!
//! Files are read whole, as many at once as make up a piece, and are closed before the piece is sent. A request that is
//! called to pause takes back what has not left of the piece, and keeps a hash of it. When the rest has left, the files
//! are read again, and have to be the same. Pieces are short at first, as those of FETCH are.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags};
use sss_files::{Gathered, Names, Refusal, RelPath, Status};

use super::exchange::{Exchange, TransferError};
use super::fetch::{CERTAIN, FIRST, MORSEL, QUICK, paced};
use super::leaving::left;
use super::limits::Claim;
use super::manifest::attributes;
use super::send::{changed, check_size, unreadable};
use super::served::Serving;
use crate::transfer::safe_path::Root;

/// Longest head of a file, and longest refusal.
const HEAD: usize = 1536;

/// Files that a peer asked for.
pub(crate) struct Gather<'c> {
    pub(crate) root: Arc<Root>,
    /// Directory that the names are relative to.
    pub(crate) path: RelPath,
    pub(crate) names: Arc<Names>,
    pub(crate) claim: &'c Claim,
}

/// Position in the answer.
struct Course {
    /// Number of files that are behind.
    done: usize,
    /// Length of the next piece.
    length: usize,
    begun: Option<Begun>,
}

/// A piece of which the beginning is in the stream.
struct Begun {
    /// Number of files in it, bytes of it, and those that are in the stream.
    files: usize,
    length: usize,
    written: usize,
    hash: blake3::Hash,
}

/// Files as they are sent.
struct Piece {
    bytes: Vec<u8>,
    /// Bytes of each, and the reason why it is not sent.
    files: Vec<(u64, Option<Refusal>)>,
}

impl Gather<'_> {
    /// Answers, until everything is in the stream. What became of each file is noted in `serving`.
    ///
    /// # Errors
    /// If a file that was sent in part changes, or the peer does not want it. What was begun is reset then.
    pub(crate) async fn answer(&self, exchange: &mut Exchange, serving: &mut Serving) -> Result<(), TransferError> {
        let done = self.send(exchange, serving).await;
        if let Err(TransferError::Refused(refusal)) = &done
            && exchange.has_said_something()
        {
            exchange.reset(refusal);
        }
        done
    }

    async fn send(&self, exchange: &mut Exchange, serving: &mut Serving) -> Result<(), TransferError> {
        let mut course = Course::new();
        while course.done < self.names.len() {
            let room = self.claim.room(course.room()).await;
            self.claim.resumed();
            let piece = tokio::select! {
                piece = self.piece(&course) => piece?,
                () = self.claim.called_to_pause() => {
                    drop(room);
                    self.claim.paused();
                    continue;
                }
            };
            self.claim.resumed();
            let Piece { bytes, files } = piece;
            let (length, written) = (bytes.len(), course.written());
            let is_last = course.done.saturating_add(files.len()) >= self.names.len();
            let bytes = room.hold(bytes);
            exchange.send(bytes.slice(written.min(length)..)).await?;
            let begun = Instant::now();
            let is_certain = is_last && course.done == 0 && written == 0 && length <= CERTAIN;
            let has_left = is_certain || left(exchange, self.claim).await?;
            self.claim.note_slow(begun.elapsed() > QUICK);
            if !has_left {
                let back = usize::try_from(exchange.take_back(MORSEL)).unwrap_or(length);
                course.pause(files.len(), &bytes, length.saturating_sub(back));
                drop(bytes);
                self.claim.paused();
                exchange.sent().await?;
                continue;
            }
            course.next(files.len(), paced(course.length, begun.elapsed()));
            files
                .into_iter()
                .for_each(|(bytes, refusal)| serving.note_file(bytes, refusal));
        }
        exchange.finish()
    }

    /// Reads the next piece, or the one that was begun again.
    async fn piece(&self, course: &Course) -> Result<Piece, Refusal> {
        let descriptor = self.claim.descriptor(1).await;
        let (root, path, names) = (self.root.clone(), self.path.clone(), self.names.clone());
        let (done, most, length) = (course.done, course.files(), course.length());
        let read = move || Piece::read(&root, &path, names.iter().skip(done).take(most), length);
        let piece = self.claim.opening(read).await?;
        drop(descriptor);
        match &course.begun {
            Some(begun) if begun.length != piece.bytes.len() || begun.hash != blake3::hash(&piece.bytes) => {
                Err(changed())
            }
            _ => Ok(piece),
        }
    }
}

impl Course {
    fn new() -> Self {
        Self {
            done: 0,
            length: FIRST,
            begun: None,
        }
    }

    /// Room for the piece.
    fn room(&self) -> usize {
        let largest = HEAD.saturating_add(Names::LARGEST_FILE as usize);
        match &self.begun {
            Some(begun) => begun.length,
            None => self.length.saturating_add(largest),
        }
    }

    /// Number of its files at most.
    fn files(&self) -> usize {
        self.begun.as_ref().map_or(usize::MAX, |begun| begun.files)
    }

    /// Bytes after which it has no more files.
    fn length(&self) -> usize {
        self.begun.as_ref().map_or(self.length, |begun| begun.length)
    }

    /// Number of its bytes that are in the stream.
    fn written(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.written)
    }

    fn pause(&mut self, files: usize, piece: &[u8], written: usize) {
        self.begun = Some(Begun {
            files,
            length: piece.len(),
            written,
            hash: blake3::hash(piece),
        });
    }

    /// The piece has left.
    fn next(&mut self, files: usize, length: usize) {
        *self = Self {
            done: self.done.saturating_add(files),
            length,
            begun: None,
        };
    }
}

impl Piece {
    /// Reads files until there are `length` bytes.
    ///
    /// # Errors
    /// If there is no descriptor for the first.
    fn read(
        root: &Root,
        above: &RelPath,
        names: impl Iterator<Item = RelPath>,
        length: usize,
    ) -> Result<Self, Refusal> {
        let mut piece = Self {
            bytes: Vec::with_capacity(length),
            files: Vec::new(),
        };
        for name in names {
            if piece.bytes.len() >= length {
                break;
            }
            let before = piece.bytes.len();
            let refusal = append(root, above, &name, &mut piece.bytes).err();
            if let Some(refusal) = &refusal {
                piece.bytes.truncate(before);
                match refusal.is_shortage() {
                    true if piece.files.is_empty() => return Err(refusal.clone()),
                    true => break,
                    false => refusal.encode(&mut piece.bytes),
                }
            }
            let bytes = piece.bytes.len().saturating_sub(before);
            piece.files.push((bytes as u64, refusal));
        }
        if piece.bytes.len() < piece.bytes.capacity() / 2 {
            piece.bytes.shrink_to_fit();
        }
        Ok(piece)
    }
}

/// Appends a file, with what goes before it.
fn append(root: &Root, above: &RelPath, name: &RelPath, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let path = RelPath::parse(above.join(name).as_bytes());
    let path = path.map_err(|error| Refusal::new(Status::BadPath, error.to_string()))?;
    let (directory, name) = root.place(&path)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(io::Error::from)?);
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::new(Status::WrongKind, "not a regular file"));
    }
    check_size(&file, &stat)?;
    let (before, attributes_before) = (out.len(), attributes(&stat));
    let size = usize::try_from(attributes_before.size).unwrap_or(usize::MAX);
    if attributes_before.size > Names::LARGEST_FILE {
        let text = "it is larger than files that are sent with others: it is to be fetched by itself";
        return Err(Refusal::new(Status::Changed, text));
    }
    let head = |hash, out: &mut Vec<u8>| Gathered(Ok((attributes_before, hash))).encode(out);
    // The hash is known when the content is there.
    head(blake3::Hash::from_bytes([0; 32]), out);
    let content = out.len();
    out.resize(content.saturating_add(size), 0);
    let bytes = out.get_mut(content..).unwrap_or_default();
    file.read_exact(bytes).map_err(unreadable)?;
    let hash = blake3::hash(bytes);
    let now = attributes(&rustix::fs::fstat(&file).map_err(io::Error::from)?);
    if (now.size, now.mtime) != (attributes_before.size, attributes_before.mtime) {
        return Err(changed());
    }
    let mut true_head = Vec::with_capacity(content.saturating_sub(before));
    head(hash, &mut true_head);
    if let Some(place) = out.get_mut(before..content) {
        place.copy_from_slice(&true_head);
    }
    Ok(())
}
