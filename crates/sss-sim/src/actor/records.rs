//! Writing records.

use rand::RngExt;
use sss_proto::WriteError;

use super::{Actors, EndId};
use crate::model::{FIRST_MARK, fill};
use crate::world::World;

/// The largest record: more than a stream's window, and than is written ahead otherwise.
const LARGEST: u64 = 600 << 10;

/// Way in which an application writes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// As bytes.
    Plain,
    /// As records, and bytes between them, which become a part of the next record or are left without a mark.
    Records,
}

impl Actors {
    /// Writes a record, or ends one; false if that has to wait. `None` if it is to be bytes instead.
    pub(super) fn write_record(&mut self, world: &mut World, id: EndId) -> Option<bool> {
        let (flow, offset) = self.model.output(id);
        let end = &self.ends[id.0];
        let how = self.rng.random_range(0..4);
        if end.writer == Writer::Plain || offset < FIRST_MARK || how == 0 {
            return None;
        }
        let (host, stream) = (end.host, end.stream);
        // The goal counts marks as it counts bytes.
        let most = (end.goal - offset - 1).min(LARGEST);
        let bits = self.rng.random_range(0.0..20.0);
        let len = if how == 1 {
            0
        } else {
            (2f64.powf(bits) as u64 - 1).min(most)
        };
        let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
        fill(flow, offset, &mut data);
        let result = world.call(host, |h, _| {
            if h.stream(stream).poll_writable()?.is_pending() {
                return Ok(false);
            }
            match how {
                1 => h.stream(stream).write_mark()?,
                2 => h.stream(stream).write_record(&data)?,
                _ => h.stream(stream).write_record_bytes(data.into())?,
            }
            Ok::<_, WriteError>(true)
        });
        world.note(format_args!(
            "h{} record {id:?} {len} at {offset} -> {result:?}",
            host.0
        ));
        match &result {
            Ok(true) => {
                self.model.wrote(id, usize::try_from(len).unwrap_or(0));
                self.model.marked(id);
            }
            Ok(false) => {}
            Err(error) => self.cannot_write(id, error),
        }
        Some(result == Ok(true))
    }
}
