//! Flows and their ends: what was written, and what of it was read.
//!
//! Nothing here knows why a flow ends early: that is told in `streams.rs`.

use std::collections::{BTreeMap, BTreeSet};

use sss_wire::Code;

use super::{Check, EndId, FlowId, Opening, pattern};
use crate::world::HostIndex;

/// The first position at which a flow may have a mark: its number comes before.
pub(crate) const FIRST_MARK: u64 = 8;

/// One direction of a stream.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) writer: EndId,
    pub(super) reader: Option<EndId>,
    /// Positions handed over: bytes and marks.
    pub(super) written: u64,
    /// Positions of the marks.
    pub(super) marks: BTreeSet<u64>,
    pub(super) is_finished: bool,
    pub(super) reset: Option<Code>,
    /// Let go of without being finished.
    pub(super) is_dropped: bool,
    /// The writer was told that nobody wants the data.
    pub(super) is_stopped: bool,
}

/// One host's view of a stream.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) host: HostIndex,
    pub(super) peer: HostIndex,
    pub(super) parent: Option<EndId>,
    pub(super) opening: Opening,
    pub(super) out: FlowId,
    /// The flow read, once it is known.
    pub(super) input: Option<FlowId>,
    pub(super) head: Vec<u8>,
    pub(super) read: u64,
    pub(super) reading: Reading,
    pub(super) stop: Option<Code>,
    pub(super) is_released: bool,
    pub(super) is_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Open,
    /// The end was seen.
    Ended,
    /// A reset was seen.
    Reset,
}

/// All flows of a world, and the ends of streams that write and read them.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows {
    pub(super) flows: BTreeMap<FlowId, Flow>,
    pub(super) ends: Vec<End>,
    bytes_read: u64,
    marks_read: u64,
}

impl Flows {
    /// An application holds a new end of a stream.
    pub(super) fn open(&mut self, host: HostIndex, peer: HostIndex, parent: Option<EndId>, opening: Opening) -> EndId {
        let id = EndId(self.ends.len());
        // Numbers that differ in many bits.
        let out = (id.0 as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.flows.insert(
            out,
            Flow {
                writer: id,
                reader: None,
                written: 0,
                marks: BTreeSet::new(),
                is_finished: false,
                reset: None,
                is_dropped: false,
                is_stopped: false,
            },
        );
        self.ends.push(End {
            host,
            peer,
            parent,
            opening,
            out,
            input: None,
            head: Vec::new(),
            read: 0,
            reading: Reading::Open,
            stop: None,
            is_released: false,
            is_refused: false,
        });
        id
    }

    /// The flow that the end writes, and how many positions of it were handed over.
    pub(super) fn output(&self, end: EndId) -> (FlowId, u64) {
        let out = self.ends[end.0].out;
        (out, self.flows[&out].written)
    }

    /// Returns who reads the flow that the end writes, once that is known.
    pub(super) fn reader_of(&self, end: EndId) -> Option<EndId> {
        self.flows[&self.ends[end.0].out].reader
    }

    /// The core took `n` more bytes.
    pub(super) fn wrote(&mut self, end: EndId, n: usize) {
        self.flow_of(end).written += n as u64;
    }

    /// The end's flow was finished.
    pub(super) fn finished(&mut self, end: EndId) {
        self.flow_of(end).is_finished = true;
    }

    /// The application lets go of the end.
    pub(super) fn released(&mut self, end: EndId) {
        self.ends[end.0].is_released = true;
        let flow = self.flow_of(end);
        if !flow.is_finished && flow.reset.is_none() {
            flow.is_dropped = true;
        }
    }

    pub(super) fn flow_of(&mut self, end: EndId) -> &mut Flow {
        let out = self.ends[end.0].out;
        self.flows.get_mut(&out).expect("every end has its flow")
    }

    /// Bytes came in on the end.
    ///
    /// # Errors
    /// If they are not the next bytes of the flow.
    pub(super) fn saw_data(&mut self, end: EndId, data: &[u8]) -> Check {
        let state = &mut self.ends[end.0];
        if state.reading != Reading::Open {
            return Err(format!("{end:?} reads {} bytes after its end", data.len()));
        }
        let offset = state.read;
        state.read += data.len() as u64;
        self.bytes_read += data.len() as u64;
        let missing = 8usize.saturating_sub(state.head.len());
        state.head.extend_from_slice(data.get(..missing).unwrap_or(data));
        if state.input.is_none()
            && let Ok(head) = <[u8; 8]>::try_from(state.head.as_slice())
        {
            self.identify(end, u64::from_be_bytes(head))?;
        }
        self.check_data(end, offset, data)
    }

    fn check_data(&self, end: EndId, offset: u64, data: &[u8]) -> Check {
        let state = &self.ends[end.0];
        let Some(id) = state.input else {
            return Ok(());
        };
        let flow = &self.flows[&id];
        if let Some(mark) = flow.marks.range(offset..state.read).next() {
            return Err(format!(
                "{end:?} reads {offset}..{} of flow {id:x}, over a mark at {mark}",
                state.read
            ));
        }
        let written = flow.written;
        if state.read > written {
            return Err(format!(
                "{end:?} reads up to {} of flow {id:x}, of which {written} were written",
                state.read
            ));
        }
        match pattern::mismatch(id, offset, data) {
            None => Ok(()),
            Some(at) => Err(format!("{end:?} reads a wrong byte at offset {at} of flow {id:x}")),
        }
    }

    /// The number of the flow is known: binds the two ends of the stream to each other, in both directions.
    pub(super) fn identify(&mut self, end: EndId, id: FlowId) -> Check {
        let Some(flow) = self.flows.get(&id) else {
            return Err(format!("{end:?} reads a flow {id:x} that does not exist"));
        };
        let other = flow.writer;
        let (mine, theirs) = (&self.ends[end.0], &self.ends[other.0]);
        if (theirs.host, theirs.peer) != (mine.peer, mine.host) {
            return Err(format!("{end:?} reads flow {id:x} of another pair of hosts"));
        }
        if (theirs.opening == Opening::Accepted) == (mine.opening == Opening::Accepted) {
            return Err(format!("{end:?} and {other:?} are on the same side of their streams"));
        }
        // STR-11, NEG-21: never twice, whatever became of the channels.
        let is_bound = flow.reader.is_some() || theirs.input.is_some() || self.flows[&mine.out].reader.is_some();
        if is_bound {
            let back = &self.flows[&mine.out];
            return Err(format!(
                "{end:?} reads flow {id:x} ({flow:?}, {theirs:?}), and writes {back:?}: another stream's"
            ));
        }
        let (forth, back) = (theirs.out, mine.out);
        self.bind(end, forth)?;
        self.bind(other, back)
    }

    fn bind(&mut self, reader: EndId, id: FlowId) -> Check {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.reader = Some(reader);
        }
        self.ends[reader.0].input = Some(id);
        match self.ends[reader.0].reading {
            Reading::Ended => self.check_end(reader),
            Reading::Open | Reading::Reset => Ok(()),
        }
    }

    /// The orderly end came on the end.
    ///
    /// # Errors
    /// If the flow was not finished there.
    pub(super) fn saw_end(&mut self, end: EndId) -> Check {
        self.ends[end.0].reading = Reading::Ended;
        self.check_end(end)
    }

    fn check_end(&self, end: EndId) -> Check {
        let state = &self.ends[end.0];
        let flow = match state.input {
            Some(id) => self.flows.get(&id),
            None => self.find_short(end),
        };
        match flow {
            Some(flow) if flow.is_finished && flow.written == state.read => Ok(()),
            _ => Err(format!("{end:?} ends at {}, its flow does not: {flow:?}", state.read)),
        }
    }

    /// A finished flow to the end's host that is too short to have its number in it. There may be several.
    fn find_short(&self, end: EndId) -> Option<&Flow> {
        let state = &self.ends[end.0];
        let fits = |(id, flow): &(&FlowId, &Flow)| {
            let writer = &self.ends[flow.writer.0];
            flow.is_finished
                && flow.reader.is_none()
                && flow.written == state.read
                && (writer.host, writer.peer) == (state.peer, state.host)
                && (writer.opening == Opening::Accepted) != (state.opening == Opening::Accepted)
                && id.to_be_bytes().starts_with(&state.head)
        };
        self.flows.iter().find(fits).map(|(_, flow)| flow)
    }

    pub(super) fn check_some_dropped(&self, end: EndId) -> Check {
        let state = &self.ends[end.0];
        let mut flows = self.flows.values();
        let exists = flows.any(|flow| {
            let writer = &self.ends[flow.writer.0];
            flow.is_dropped && (writer.host, writer.peer) == (state.peer, state.host)
        });
        if exists {
            Ok(())
        } else {
            Err(format!("{end:?} sees DROPPED, but nothing was dropped"))
        }
    }

    /// The core took a record mark, behind all that was written before.
    pub(super) fn marked(&mut self, end: EndId) {
        let flow = self.flow_of(end);
        flow.marks.insert(flow.written);
        flow.written += 1;
    }

    /// A record mark came on the end.
    ///
    /// # Errors
    /// If the writer did not mark this position.
    pub(super) fn saw_mark(&mut self, end: EndId) -> Check {
        let state = &mut self.ends[end.0];
        let at = state.read;
        state.read += 1;
        if state.reading != Reading::Open {
            return Err(format!("{end:?} reads a mark after its end"));
        }
        let flow = state.input.and_then(|id| self.flows.get(&id));
        if flow.is_some_and(|f| f.marks.contains(&at)) {
            self.marks_read += 1;
            return Ok(());
        }
        Err(format!("{end:?} sees a mark at {at}, where nobody made one: {flow:?}"))
    }

    /// The end was told that all of its flow was read.
    ///
    /// # Errors
    /// If it was not.
    pub(super) fn saw_consumed(&self, end: EndId) -> Check {
        let writer = &self.ends[end.0];
        let flow = &self.flows[&writer.out];
        let has_read = |reader: &End| reader.read == flow.written && reader.reading != Reading::Reset;
        let is_read = match flow.reader {
            Some(reader) => has_read(&self.ends[reader.0]),
            None => {
                let mut ends = self.ends.iter();
                ends.any(|e| e.input.is_none() && (e.host, e.peer) == (writer.peer, writer.host) && has_read(e))
            }
        };
        match is_read && flow.is_finished {
            true => Ok(()),
            false => Err(format!("{end:?} is told that {flow:?} was read")),
        }
    }

    /// The end is told that nothing will be known of its flow, because it was given up.
    ///
    /// # Errors
    /// If it was not.
    pub(super) fn gave_up(&self, end: EndId) -> Check {
        let flow = &self.flows[&self.ends[end.0].out];
        match flow.reset.is_some() || flow.is_dropped {
            true => Ok(()),
            false => Err(format!("{end:?} is said to have given up {flow:?}")),
        }
    }

    /// The other end of the end's stream, if it is known.
    pub(super) fn opposite(&self, end: EndId) -> Option<EndId> {
        let input = self.ends[end.0].input?;
        self.flows.get(&input).map(|flow| flow.writer)
    }

    /// The end, and those of the same host above it.
    pub(super) fn lineage(&self, end: EndId) -> impl Iterator<Item = EndId> {
        std::iter::successors(Some(end), |at| self.ends[at.0].parent)
    }

    /// Returns whether two ends are those of one stream, or may be: before either has read enough to know.
    pub(super) fn may_be_opposite(&self, end: EndId, other: EndId) -> bool {
        let (a, b) = (&self.ends[end.0], &self.ends[other.0]);
        match (self.opposite(end), self.opposite(other)) {
            (None, None) => {
                let are_of_one_pair = (a.host, a.peer) == (b.peer, b.host);
                are_of_one_pair && (a.opening == Opening::Accepted) != (b.opening == Opening::Accepted)
            }
            (known, _) => known == Some(other),
        }
    }

    /// Returns whether it is an end of a host towards another, of which it is not known yet which flow it reads.
    pub(super) fn is_nameless(&self, end: EndId, host: HostIndex, peer: HostIndex) -> bool {
        let state = &self.ends[end.0];
        state.input.is_none() && (state.host, state.peer) == (host, peer)
    }

    /// Bytes that readers got, all together.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Record marks that readers got, all together.
    pub(super) fn marks_read(&self) -> u64 {
        self.marks_read
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Model, fill};
    use super::*;
    use crate::world::HostIndex;

    #[test]
    fn marks_are_where_they_were_made_and_nowhere_else() {
        let mut model = Model::default();
        let (a, b) = (HostIndex(0), HostIndex(1));
        let writer = model.open(a, b, None, Opening::TopLevel);
        let reader = model.open(b, a, None, Opening::Accepted);
        let mut data = vec![0; 21];
        fill(model.output(writer).0, 0, &mut data);
        model.wrote(writer, 10);
        model.marked(writer);
        model.marked(writer);
        model.wrote(writer, 9);
        model.finished(writer);
        model.saw_data(reader, &data[..10]).unwrap();
        assert!(
            model.clone().saw_data(reader, &data[10..11]).is_err(),
            "a byte for a mark"
        );
        model.saw_mark(reader).unwrap();
        assert!(
            model.clone().saw_data(reader, &data[12..21]).is_err(),
            "a mark left out"
        );
        model.saw_mark(reader).unwrap();
        assert!(model.clone().saw_mark(reader).is_err(), "a mark too many");
        assert!(
            model.clone().saw_data(reader, &data[10..19]).is_err(),
            "bytes that moved"
        );
        model.saw_data(reader, &data[12..21]).unwrap();
        model.saw_end(reader).unwrap();
        assert!(model.saw_mark(reader).is_err(), "after the end");
        assert_eq!(model.marks_read(), 2);
    }
}
