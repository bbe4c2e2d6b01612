//! Records: bytes that belong together (STR-27 to STR-31). The end of each is marked.

use std::task::Poll;

use bytes::Bytes;

use super::Streams;
use super::send::SendBuf;
use crate::error::WriteError;
use crate::ids::StreamKey;

impl Streams {
    /// Ready when there is room for at least one byte.
    ///
    /// # Errors
    /// If the direction has ended.
    pub(crate) fn poll_writable(&mut self, key: StreamKey) -> Poll<Result<(), WriteError>> {
        let index = self.writable(key)?;
        self.poll_room(index, 1).map(|_| Ok(()))
    }

    /// Ends a record: what was written since the last mark is one.
    ///
    /// The mark is taken whether there is room for it or not, so that a record is never left without its end; the
    /// caller waits for [`Self::poll_writable`] before.
    ///
    /// # Errors
    /// If the direction has ended.
    pub(crate) fn write_mark(&mut self, key: StreamKey) -> Result<(), WriteError> {
        let index = self.writable(key)?;
        self.append(index, SendBuf::push_mark);
        self.touch(index);
        Ok(())
    }

    /// Appends a copy of `record`, and its mark. All of it is taken, whether there is room for it or not; the caller
    /// waits for [`Self::poll_writable`] before.
    ///
    /// # Errors
    /// If the direction has ended. Then nothing was taken.
    pub(crate) fn write_record(&mut self, key: StreamKey, record: &[u8]) -> Result<(), WriteError> {
        let index = self.writable(key)?;
        self.append(index, |buf| {
            buf.push(record);
            buf.push_mark();
        });
        self.touch(index);
        Ok(())
    }

    /// As [`Self::write_record`], without a copy, unless the record is short.
    ///
    /// # Errors
    /// If the direction has ended. Then nothing was taken.
    pub(crate) fn write_record_bytes(&mut self, key: StreamKey, record: Bytes) -> Result<(), WriteError> {
        let index = self.writable(key)?;
        self.append(index, |buf| {
            if !record.is_empty() {
                buf.push_bytes(record);
            }
            buf.push_mark();
        });
        self.touch(index);
        Ok(())
    }
}
