//! The reference model: what applications may see, given what applications did.
//!
//! A *flow* is one direction of a stream: a number, the bytes and record marks that its writer handed over, and how it ended. A flow's
//! bytes are its number (8 bytes) and then a pattern of number and position, so any byte that is misplaced,
//! missing, doubled or of another stream shows. A mark takes the position of a byte. An *end* is what one host's application holds of a stream: the flow that
//! it writes, and the flow that it reads, known once the number was read.
//!
//! A datagram is a number and a pattern too, see `model/messages.rs`.
//!
//! The model knows nothing about packets: only what each side did, and so what the other may see of it.

mod deaf;
mod messages;
mod pattern;
mod records;
mod released;
mod trees;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use sss_proto::CloseReason;
use sss_wire::Code;

use crate::world::HostIndex;

use messages::Messages;
use trees::Trees;

pub use deaf::Deaf;
pub use pattern::fill;
pub(crate) use records::FIRST_MARK;

/// The number of a flow; its first 8 bytes.
pub type FlowId = u64;

/// An end of a stream, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndId(pub usize);

/// What is not as it must be.
pub type Check = Result<(), String>;

/// How a stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By this end, towards a service that exists.
    TopLevel,
    /// By this end, towards a service that does not exist.
    NoService,
    /// By this end, towards a service that speaks another protocol.
    NoProtocol,
    /// By this end, as a child of another stream.
    Substream,
    /// By the peer.
    Accepted,
}

/// One direction of a stream.
#[derive(Clone, Debug)]
struct Flow {
    writer: EndId,
    reader: Option<EndId>,
    /// Positions handed over: bytes and marks.
    written: u64,
    /// Where the marks are.
    marks: BTreeSet<u64>,
    is_finished: bool,
    reset: Option<Code>,
    /// Let go of without being finished.
    is_dropped: bool,
    /// The writer was told that nobody wants the data.
    is_stopped: bool,
}

/// One host's view of a stream.
#[derive(Clone, Debug)]
struct End {
    host: HostIndex,
    peer: HostIndex,
    parent: Option<EndId>,
    opening: Opening,
    out: FlowId,
    /// The flow read, once it is known.
    input: Option<FlowId>,
    head: Vec<u8>,
    read: u64,
    reading: Reading,
    stop: Option<Code>,
    is_released: bool,
    is_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Open,
    /// The end was seen.
    Ended,
    /// A reset was seen.
    Reset,
}

/// What was handed over and seen so far by all applications of a world.
#[derive(Clone, Debug, Default)]
pub struct Model {
    flows: BTreeMap<FlowId, Flow>,
    ends: Vec<End>,
    /// Who gave each of the codes, which are all different.
    codes: BTreeMap<u64, EndId>,
    trees: Trees,
    /// Channels that an application closed: (smaller host, larger host), and how often.
    closed: BTreeMap<(HostIndex, HostIndex), u32>,
    bytes_read: u64,
    marks_read: u64,
    messages: Messages,
}

/// What an application does.
impl Model {
    /// An application holds a new end of a stream.
    pub fn open(&mut self, host: HostIndex, peer: HostIndex, parent: Option<EndId>, opening: Opening) -> EndId {
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
    pub fn output(&self, end: EndId) -> (FlowId, u64) {
        let out = self.ends[end.0].out;
        (out, self.flows[&out].written)
    }

    /// Who reads the flow that the end writes, once that is known.
    pub fn reader_of(&self, end: EndId) -> Option<EndId> {
        self.flows[&self.ends[end.0].out].reader
    }

    /// The core took `n` more bytes.
    pub fn wrote(&mut self, end: EndId, n: usize) {
        self.flow_of(end).written += n as u64;
    }

    /// The end's flow was finished.
    pub fn finished(&mut self, end: EndId) {
        self.flow_of(end).is_finished = true;
    }

    /// The end is going to reset its flow, with the code returned.
    pub fn reset(&mut self, end: EndId) -> Code {
        let code = self.new_code(end);
        self.flow_of(end).reset.get_or_insert(code);
        code
    }

    /// The end is going to stop the flow that it reads, with the code returned.
    pub fn stop(&mut self, end: EndId) -> Code {
        let code = self.new_code(end);
        self.ends[end.0].stop.get_or_insert(code);
        code
    }

    /// The application lets go of the end.
    pub fn released(&mut self, end: EndId) {
        self.ends[end.0].is_released = true;
        let flow = self.flow_of(end);
        if !flow.is_finished && flow.reset.is_none() {
            flow.is_dropped = true;
        }
    }

    /// An application closes the channel between two hosts.
    pub fn closed(&mut self, a: HostIndex, b: HostIndex) {
        *self.closed.entry((a.min(b), a.max(b))).or_default() += 1;
    }

    /// Bytes that readers got, all together.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn flow_of(&mut self, end: EndId) -> &mut Flow {
        let out = self.ends[end.0].out;
        self.flows.get_mut(&out).expect("every end has its flow")
    }

    fn new_code(&mut self, end: EndId) -> Code {
        let code = self.next_code();
        self.codes.insert(code.value(), end);
        code
    }

    /// A code that was not used before.
    fn next_code(&self) -> Code {
        let used = self.codes.len() + self.trees.resets();
        Code::app(u32::try_from(used).unwrap_or(u32::MAX))
    }
}

/// What an application sees.
impl Model {
    /// Bytes came in on the end.
    ///
    /// # Errors
    /// If they are not the next bytes of the flow.
    pub fn saw_data(&mut self, end: EndId, data: &[u8]) -> Check {
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
    fn identify(&mut self, end: EndId, id: FlowId) -> Check {
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
    pub fn saw_end(&mut self, end: EndId) -> Check {
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

    /// The end was told that the flow it reads was reset.
    ///
    /// # Errors
    /// If the writer did nothing that explains it.
    pub fn saw_reset(&mut self, end: EndId, code: Code) -> Check {
        self.ends[end.0].reading = Reading::Reset;
        if self.is_refusal(end, code)? || self.is_cut_with(end, code) {
            return Ok(());
        }
        if self.ends[end.0].input.is_none() {
            match self.codes.get(&code.value()) {
                Some(writer) => self.identify(end, self.ends[writer.0].out)?,
                None if code == Code::DROPPED => return self.check_some_dropped(end),
                None => {}
            }
        }
        let flow = self.ends[end.0].input.and_then(|id| self.flows.get(&id));
        let by_code = |f: &Flow| f.reset == Some(code) || (f.is_dropped && code == Code::DROPPED);
        if flow.is_some_and(by_code) {
            Ok(())
        } else {
            Err(format!(
                "{end:?} sees a reset with {code} that its writer did not make: {flow:?}"
            ))
        }
    }

    fn check_some_dropped(&self, end: EndId) -> Check {
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

    /// The end was told that the peer does not want its flow.
    ///
    /// # Errors
    /// If the reader did nothing that explains it.
    pub fn saw_stop(&mut self, end: EndId, code: Code) -> Check {
        self.flow_of(end).is_stopped = true;
        if self.is_refusal(end, code)? || self.is_cut_with(end, code) {
            return Ok(());
        }
        let state = &self.ends[end.0];
        let by = |reader: &End| reader.stop == Some(code) || (reader.is_released && code == Code::UNREAD);
        let explained = match self.flows[&state.out].reader {
            Some(reader) => by(&self.ends[reader.0]),
            None => {
                let mut ends = self.ends.iter();
                ends.any(|e| e.input.is_none() && (e.host, e.peer) == (state.peer, state.host) && by(e))
            }
        };
        if explained {
            Ok(())
        } else {
            Err(format!("{end:?} is stopped with {code}, which its reader did not do"))
        }
    }

    /// The end, or the host's channel to the peer, was lost.
    ///
    /// # Errors
    /// If nobody closed a channel between the two hosts.
    pub fn saw_loss(&self, host: HostIndex, peer: HostIndex, reason: &CloseReason) -> Check {
        if self.is_closed(host, peer) {
            return Ok(());
        }
        Err(format!("h{} lost its channel to h{}: {reason}", host.0, peer.0))
    }

    /// Whether a channel between two hosts was ever closed by an application.
    pub fn is_closed(&self, a: HostIndex, b: HostIndex) -> bool {
        self.closed.contains_key(&(a.min(b), a.max(b)))
    }
}
