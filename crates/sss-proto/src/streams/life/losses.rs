//! Losses of streams that nobody held any more (STR-51).
//!
//! Streams that the application has finished and let go of still count: if the peer stops one before all has arrived,
//! that is noted at its parent, from where it moves up as streams are retired.

use sss_wire::Code;

use super::cause;
use crate::streams::tree::ends::Ending;
use crate::streams::tree::extras::Losses;
use crate::streams::tree::node::Flags;
use crate::streams::tree::table::Table;

/// The peer has stopped a stream before all of it had arrived.
pub(crate) fn note_stopped(table: &mut Table, index: u32) {
    let node = &table[index];
    if node.has(Flags::HELD) || node.is_datagram() {
        return;
    }
    let parent = node.place.parent;
    let (code, reason) = cause::reset_says(table, index).unwrap_or((Code::NONE, ""));
    let first = Ending::new(code, reason);
    add(table, parent, Losses { streams: 1, first });
}

/// A stream is about to be retired: what was lost below it is known at its parent from now on.
pub(crate) fn pass_on(table: &mut Table, index: u32) {
    let losses = table[index].extras.as_mut().and_then(|e| e.losses.take());
    if let Some(losses) = losses {
        add(table, table[index].place.parent, *losses);
    }
}

fn add(table: &mut Table, index: u32, more: Losses) {
    match &mut table[index].extras_mut().losses {
        Some(losses) => losses.streams = losses.streams.saturating_add(more.streams),
        none => *none = Some(Box::new(more)),
    }
}
