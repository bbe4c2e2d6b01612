//! The content of one file on its way out: read and hashed one segment ahead of the network.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use rustix::fs::{Dev, FileType, Mode, OFlags, Stat};
use sss_files::{Attributes, Prefix, Refusal, RelPath, Status, Verdict, put_varint};

use super::exchange::{Exchange, SEGMENT, TransferError};
use super::io_pool::{self, Job};
use super::manifest::attributes;
use super::part_file::hash_file;
use crate::transfer::safe_path::Root;

/// A file being sent.
pub(crate) struct Source {
    file: File,
    position: Position,
}

/// Everything about a file being sent but the file itself: with it, the file can be closed and opened again.
#[derive(Clone)]
pub(crate) struct Position {
    /// Device and number: it is still the same file.
    identity: (Dev, u64),
    /// As they were when it was opened first.
    attributes: Attributes,
    /// 2 KiB, of which a request that waits holds one; none where nothing is behind.
    hasher: Option<Box<blake3::Hasher>>,
    left: u64,
}

/// Bytes to send, and the source if there are more.
pub(crate) struct Segment {
    bytes: Vec<u8>,
    /// Position where content starts in the file, and how much of it is in this segment.
    start: u64,
    content: u64,
    next: Option<Source>,
}

impl Source {
    /// Opens a regular file.
    ///
    /// # Errors
    /// WRONG_KIND if it is none; else what the operating system says.
    pub(crate) fn open(root: &Root, path: &RelPath) -> Result<Self, Refusal> {
        let (above, name) = root.place(path)?;
        // NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(above, name, flags, Mode::empty()).map_err(io::Error::from)?;
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Refusal::new(Status::WrongKind, "is a directory")),
            _ => return Err(Refusal::new(Status::WrongKind, "not a regular file")),
        }
        let file = File::from(file);
        check_size(&file, &stat)?;
        Ok(Self::at_beginning(file, &stat, attributes(&stat)))
    }

    /// Reads an open file from its beginning, and says that it has these attributes.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn of(mut file: File, attributes: Attributes) -> io::Result<Self> {
        file.rewind()?;
        let stat = rustix::fs::fstat(&file)?;
        Ok(Self::at_beginning(file, &stat, attributes))
    }

    fn at_beginning(file: File, stat: &Stat, attributes: Attributes) -> Self {
        let position = Position {
            identity: (stat.st_dev, stat.st_ino),
            attributes,
            hasher: None,
            left: attributes.size,
        };
        Self { file, position }
    }

    /// Opens a file again, and goes on where it was.
    ///
    /// # Errors
    /// CHANGED if it is not the same, or not as it was; else as [`Self::open`].
    pub(crate) fn reopen(root: &Root, path: &RelPath, position: Position) -> Result<Self, Refusal> {
        let mut source = match Self::open(root, path) {
            Err(refusal) if matches!(refusal.status, Status::NotFound | Status::WrongKind | Status::BadPath) => {
                return Err(changed());
            }
            other => other?,
        };
        let now = &source.position;
        if (now.identity, now.attributes) != (position.identity, position.attributes) {
            return Err(changed());
        }
        let to = SeekFrom::Start(position.offset());
        source.file.seek(to).map_err(unreadable)?;
        source.position = position;
        Ok(source)
    }

    /// Size, mode and time, as they were when it was opened.
    pub(crate) fn attributes(&self) -> Attributes {
        self.position.attributes
    }

    /// Position where it is now.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// The first segment: what comes before content, and content from where `have` ends, or from the beginning if the
    /// file begins otherwise (FIL-7).
    pub(crate) fn first_segment(mut self, have: Option<Prefix>) -> io::Result<Segment> {
        let start = self.skip(have)?;
        let mut bytes = Vec::with_capacity(128_usize.saturating_add(self.next_len()));
        put_varint(&mut bytes, start);
        self.fill(bytes, SEGMENT)
    }

    /// Goes behind a prefix that is the same here. Where the content to send starts.
    fn skip(&mut self, have: Option<Prefix>) -> io::Result<u64> {
        let Some(have) = have.filter(|have| have.len <= self.position.attributes.size) else {
            return Ok(0);
        };
        self.hash(have.len)?;
        if self.position.is_behind(&have) {
            return Ok(have.len);
        }
        self.position.restart();
        io::Seek::rewind(&mut self.file)?;
        Ok(0)
    }

    /// Hashes the next `len` bytes, or as many as there are, without sending them.
    fn hash(&mut self, len: u64) -> io::Result<()> {
        let read = hash_file(&mut self.file, len, self.position.hasher())?;
        self.position.left = self.position.left.saturating_sub(read);
        Ok(())
    }

    /// Goes `len` bytes on without sending them: where it is then.
    ///
    /// # Errors
    /// CHANGED if there are not as many; else what the operating system says.
    pub(crate) fn hashed(mut self, len: u64) -> Result<Position, Refusal> {
        let end = self.position.offset().saturating_add(len);
        self.hash(len).map_err(unreadable)?;
        if self.position.offset() < end {
            return Err(changed());
        }
        Ok(self.position)
    }

    fn next_len(&self) -> usize {
        usize::try_from(self.position.left).unwrap_or(SEGMENT).min(SEGMENT)
    }

    /// Appends the next segment of content, of at most `most` bytes, and the verdict after the last.
    pub(crate) fn fill(mut self, mut bytes: Vec<u8>, most: usize) -> io::Result<Segment> {
        let before = bytes.len();
        let want = self.next_len().min(most);
        let read = (&mut self.file).take(want as u64).read_to_end(&mut bytes)?;
        if read < want {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter"));
        }
        let start = self.position.offset();
        self.position.hasher().update(bytes.get(before..).unwrap_or_default());
        self.position.left = self.position.left.saturating_sub(read as u64);
        let next = if self.position.left == 0 {
            self.verdict()?.encode(&mut bytes);
            None
        } else {
            Some(self)
        };
        Ok(Segment {
            bytes,
            start,
            content: read as u64,
            next,
        })
    }

    fn verdict(&self) -> io::Result<Verdict> {
        let now = attributes(&rustix::fs::fstat(&self.file)?);
        let begun = &self.position.attributes;
        if (now.size, now.mtime) == (begun.size, begun.mtime) {
            return Ok(Verdict(Ok(self.position.hash())));
        }
        Ok(Verdict(Err(changed())))
    }
}

impl Position {
    /// The head of an answer to FETCH: what comes before content.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = vec![Status::Ok as u8];
        self.attributes.encode(&mut head);
        put_varint(&mut head, self.offset());
        head
    }

    fn hasher(&mut self) -> &mut blake3::Hasher {
        self.hasher.get_or_insert_default()
    }

    /// The hash of what is behind.
    fn hash(&self) -> blake3::Hash {
        let hasher = self.hasher.as_ref();
        hasher.map_or_else(|| blake3::hash(&[]), |hasher| hasher.finalize())
    }

    /// Returns the number of bytes of the file that are behind.
    pub(crate) fn offset(&self) -> u64 {
        self.attributes.size.saturating_sub(self.left)
    }

    /// Returns the number of bytes of the file that are to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Returns the size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.attributes.size
    }

    /// The part that is behind, as the peer is told of it. `None`: nothing.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        let len = self.offset();
        (len > 0).then(|| Prefix { len, hash: self.hash() })
    }

    /// Returns whether what is behind is what `have` says.
    pub(crate) fn is_behind(&self, have: &Prefix) -> bool {
        self.offset() == have.len && self.hash() == have.hash
    }

    /// Goes back to the beginning.
    pub(crate) fn restart(&mut self) {
        self.hasher = None;
        self.left = self.attributes.size;
    }
}

impl Segment {
    /// The bytes, and the source if there are more.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Option<Source>) {
        (self.bytes, self.next)
    }

    /// Returns where in the file its content starts.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Sends it and all that follow, then says that nothing more comes. `sent` is told of content as it is handed to
    /// the transport.
    ///
    /// # Errors
    /// If the peer no longer wants it, the channel is lost, or the file cannot be read on: then the stream is reset.
    pub(crate) async fn send(self, exchange: &mut Exchange, sent: impl Fn(u64)) -> Result<(), TransferError> {
        let mut segment = self;
        loop {
            let ahead: Option<Job<_>> = segment.next.map(|source| io_pool::start(|| source.next_segment()));
            exchange.send(segment.bytes).await?;
            sent(segment.content);
            let Some(ahead) = ahead else {
                return exchange.finish();
            };
            segment = ahead.result().await.map_err(|error| {
                let refusal = unreadable(error);
                exchange.reset(&refusal);
                refusal
            })?;
        }
    }
}

impl Source {
    fn next_segment(self) -> io::Result<Segment> {
        let bytes = Vec::with_capacity(64_usize.saturating_add(self.next_len()));
        self.fill(bytes, SEGMENT)
    }
}

/// Makes sure that a file that says it is empty is empty: those of `/proc` and the like are not.
///
/// # Errors
/// IO if it is not; else what the operating system says.
pub(crate) fn check_size(file: &File, stat: &Stat) -> Result<(), Refusal> {
    if stat.st_size == 0 && file.read_at(&mut [0], 0)? > 0 {
        let text = "it has content and says that it is empty, as files of /proc do: send what `cat` says of it";
        return Err(Refusal::new(Status::Io, text));
    }
    Ok(())
}

/// The file is not as it was when its transfer began.
pub(crate) fn changed() -> Refusal {
    Refusal::new(Status::Changed, "the file was changed while it was read")
}

/// Explains why content could not be read on.
pub(crate) fn unreadable(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => changed(),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use sss_files::Cursor;

    /// All segments of what follows STORE, decoded.
    fn whole(root: &Root, path: &str, have: Option<Prefix>) -> (u64, Vec<u8>, Verdict) {
        let source = Source::open(root, &RelPath::parse(path.as_bytes()).unwrap()).unwrap();
        let size = source.attributes().size;
        let mut segment = source.first_segment(have).unwrap();
        let mut bytes = std::mem::take(&mut segment.bytes);
        while let Some(source) = segment.next.take() {
            segment = source.next_segment().unwrap();
            bytes.append(&mut segment.bytes);
        }
        let mut cursor = Cursor::new(&bytes);
        let start = cursor.varint().unwrap();
        let content = (size - start) as usize;
        let at = bytes.len() - cursor.remaining();
        let mut rest = Cursor::new(&bytes[at + content..]);
        let verdict = Verdict::decode(&mut rest).unwrap();
        assert_eq!(rest.remaining(), 0);
        (start, bytes[at..at + content].to_vec(), verdict)
    }

    fn prefix(content: &[u8]) -> Prefix {
        Prefix {
            len: content.len() as u64,
            hash: blake3::hash(content),
        }
    }

    #[test]
    fn content_of_any_length_is_sent_with_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for len in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 17] {
            let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            fs::write(dir.path().join("f"), &data).unwrap();
            let (start, content, verdict) = whole(&root, "f", None);
            assert_eq!(start, 0);
            assert!(content == data, "{len} bytes");
            assert_eq!(verdict.0, Ok(blake3::hash(&data)));
        }
    }

    #[test]
    fn a_true_prefix_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let data = vec![7; 2 * SEGMENT];
        fs::write(dir.path().join("f"), &data).unwrap();
        for len in [1, SEGMENT, SEGMENT + 5, 2 * SEGMENT] {
            let (start, content, verdict) = whole(&root, "f", Some(prefix(&data[..len])));
            assert_eq!((start as usize, content.len()), (len, data.len() - len));
            assert_eq!(verdict.0, Ok(blake3::hash(&data)));
        }
        for wrong in [prefix(b"other"), prefix(&vec![7; 2 * SEGMENT + 1])] {
            let (start, content, verdict) = whole(&root, "f", Some(wrong));
            assert_eq!((start, content.len()), (0, data.len()));
            assert_eq!(verdict.0, Ok(blake3::hash(&data)));
        }
    }

    #[test]
    fn a_file_that_changes_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![1; 2 * SEGMENT]).unwrap();
        let name = RelPath::parse(b"f").unwrap();

        let segment = Source::open(&root, &name).unwrap().first_segment(None).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"more")
            .unwrap();
        let last = segment.next.unwrap().next_segment().unwrap();
        let verdict = Verdict::decode(&mut Cursor::new(&last.bytes[SEGMENT..])).unwrap();
        assert_eq!(verdict.0.unwrap_err().status, Status::Changed);

        let segment = Source::open(&root, &name).unwrap().first_segment(None).unwrap();
        fs::write(&path, "short").unwrap();
        let error = segment.next.unwrap().next_segment().err().unwrap();
        assert_eq!(unreadable(error).status, Status::Changed);
    }

    #[test]
    fn only_regular_files_are_sources() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let status = |name: &str| {
            let path = RelPath::parse(name.as_bytes()).unwrap();
            Source::open(&root, &path).err().map(|r| r.status)
        };
        assert_eq!(status("f"), None);
        assert_eq!(status("d"), Some(Status::WrongKind));
        assert_eq!(status("l"), Some(Status::BadPath));
        assert_eq!(status("none"), Some(Status::NotFound));
        assert_eq!(status(""), Some(Status::WrongKind));
    }
}
