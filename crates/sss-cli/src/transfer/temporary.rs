//! The temporary file of a file that comes into the server, open or at rest, and what becomes of it if its request ends
//! before it has its name.
//!
//! A request can end at any moment, also while a thread works for it. Whoever has the file then drops it: the request,
//! or the thread with the result that nobody waits for. What is dropped leaves behind what a later transfer can go on
//! with, and nothing else (FIL-10).

use bytes::Bytes;
use sss_files::Refusal;

use super::part_file::{Kept, PartFile};
use super::receive::Destination;

/// The temporary file, open.
pub(crate) struct Temporary {
    to: Destination,
    /// `None`: somebody else answers for it.
    part: Option<PartFile>,
}

/// The temporary file while nothing has it open.
pub(crate) struct Resting {
    to: Destination,
    /// `None`: somebody else answers for it.
    kept: Option<Kept>,
}

impl Temporary {
    /// Makes it, or opens it where it was left.
    ///
    /// # Errors
    /// Those of [`Destination::part_file_again`].
    pub(crate) fn open(to: Destination, kept: Option<Kept>) -> Result<Self, Refusal> {
        let part = Some(to.part_file_again(kept)?);
        Ok(Self { to, part })
    }

    /// Appends.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> Result<(), Refusal> {
        self.part.iter_mut().try_for_each(|part| part.write(chunks))?;
        Ok(())
    }

    /// Closes it. `None`: it was empty, and is removed.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn rest(mut self) -> Result<Option<Resting>, Refusal> {
        let kept = self.part.take().map(PartFile::keep).transpose()?.flatten();
        Ok(kept.map(|kept| Resting::new(self.to.clone(), kept)))
    }

    /// Writes the rest, and gives it its name.
    ///
    /// # Errors
    /// Those of [`Destination::complete`].
    pub(crate) fn complete(mut self, chunks: &[Bytes], hash: blake3::Hash) -> Result<(), Refusal> {
        let part = self.part.take();
        self.to.complete(part, chunks, hash)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is not continued goes by itself.
        let brought = self.part.take().filter(|_| self.to.is_brought());
        brought.into_iter().for_each(PartFile::discard);
    }
}

impl Resting {
    /// Of what was kept.
    pub(crate) fn new(to: Destination, kept: Kept) -> Self {
        Self { to, kept: Some(kept) }
    }

    /// Knowledge with which it is opened again.
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.kept.clone()
    }

    /// Leaves it to whoever has opened it.
    pub(crate) fn hand_over(mut self) {
        self.kept = None;
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.to.leave(kept);
        }
    }
}
