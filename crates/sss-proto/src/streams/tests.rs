//! Two trees joined by a wire that can lose, repeat and reorder packets.

mod accounts;
mod budget;
mod credit;
mod data;
mod datagrams;
mod delivery;
mod ends;
mod fairness;
mod hostile;
mod idle;
mod inside;
mod listen;
mod opening;
mod priority;
mod progress;
mod random;
mod records;
mod released;
mod start;
mod subtree;
mod unheard;
mod waits;
mod watch;

use std::task::Poll;

use bytes::Bytes;
use sss_wire::Code;
use sss_wire::constants::{OPEN_ROOM, STREAM_BORROW, STREAM_WINDOW};
use sss_wire::frame::{Credit, Frame, Init, InitKind, Reset, Scope, Stop, Stream};

use super::tree::lsids::Found;
use super::tree::node::Flags;
use super::{Length, ReadOutcome, StreamEvent, Streams};
use crate::config::{StreamsConfig, WindowConfig};
use crate::error::{CloseReason, ProtocolError, ReadError, WriteError};
use crate::ids::{PeerId, StreamId, StreamKey};
use crate::packet::PacketWriter;
use crate::role::Role;
use crate::testing::{STREAM, ToFrame, frames_of, packet_of};
use crate::time::Instant;

/// Result of a read.
type Polled = Poll<Result<ReadOutcome, ReadError>>;
use crate::token::{Token, Topic};

/// Room for frames in a packet of a common path.
const ROOM: usize = 1400;

/// A packet under way, and what its sender remembers.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    bytes: Bytes,
    tokens: Vec<Token>,
}

impl Packet {
    fn frames(&self) -> Vec<Frame<'_>> {
        frames_of(&self.bytes)
    }

    fn streams(&self) -> Vec<Stream<'_>> {
        let stream = |frame| match frame {
            Frame::Stream(stream) => Some(stream),
            _ => None,
        };
        self.frames().into_iter().filter_map(stream).collect()
    }
}

/// A stream as a host would name it.
fn named(key: StreamKey) -> StreamId {
    let (index, generation) = (0, 0);
    let peer = PeerId { index, generation };
    StreamId { peer, key }
}

impl Streams {
    fn info(&self, key: StreamKey) -> Option<super::StreamInfo> {
        self.describe(key, named)
    }

    fn test(role: Role, root: u64) -> Self {
        let mut streams = Self::new(StreamsConfig {
            window: WindowConfig {
                root,
                start: STREAM_BORROW,
                ..WindowConfig::default()
            },
            seed: 7,
        });
        streams.set_role(role);
        streams
    }

    /// The next packet, if there is something to send.
    fn packet(&mut self, room: usize) -> Option<Packet> {
        let mut space = vec![0; room];
        let mut tokens = Vec::new();
        let mut writer = PacketWriter::new(&mut space, &mut tokens);
        self.walk();
        self.fill(&mut writer, Length::Fixed(0));
        let len = writer.len();
        assert!(len == 0 || writer.is_ack_eliciting());
        space.truncate(len);
        let bytes = Bytes::from(space);
        (len > 0).then_some(Packet { bytes, tokens })
    }

    fn take(&mut self, packet: &Packet) -> Result<(), ProtocolError> {
        self.take_frames(&packet.bytes)
    }

    /// Takes the frames of a packet.
    fn take_frames(&mut self, packet: &Bytes) -> Result<(), ProtocolError> {
        for frame in frames_of(packet) {
            self.on_frame(&frame, packet)?;
        }
        Ok(())
    }

    /// Takes a frame that a peer made up.
    fn forged(&mut self, frame: &Frame<'_>) -> Result<(), ProtocolError> {
        self.take_frames(&packet_of(std::slice::from_ref(frame)))
    }

    fn acked(&mut self, packet: &Packet) {
        packet.tokens.iter().for_each(|t| self.on_acked(*t));
    }

    fn lost(&mut self, packet: &Packet) {
        packet.tokens.iter().for_each(|t| self.on_lost(*t));
    }

    fn events(&mut self) -> Vec<StreamEvent> {
        std::iter::from_fn(|| self.next_event()).collect()
    }

    /// Takes the next top-level stream.
    fn accept_any(&mut self) -> Option<StreamKey> {
        let key = self.take_incoming()?.key;
        self.accept_top_level(key).then_some(key)
    }

    /// The next child, if there is one.
    fn accept_substream(&mut self, parent: StreamKey) -> Result<Option<StreamKey>, CloseReason> {
        match self.poll_accept_substream(parent) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => Ok(None),
        }
    }

    /// The next datagram, if there is one.
    fn recv_datagram(&mut self, now: Instant, key: StreamKey) -> Result<Option<Bytes>, ReadError> {
        match self.poll_recv_datagram(now, key) {
            Poll::Ready(received) => received,
            Poll::Pending => Ok(None),
        }
    }

    fn read(&mut self, key: StreamKey, max: usize) -> Polled {
        self.poll_read(Instant::default(), key, max)
            .map_ok(|(outcome, _)| outcome)
    }

    fn read_now(&mut self, key: StreamKey) -> Polled {
        self.read(key, usize::MAX)
    }

    /// Writes what there is room for, which may be nothing.
    fn write(&mut self, key: StreamKey, data: &[u8]) -> Result<usize, WriteError> {
        match self.poll_write(key, data) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(0),
        }
    }

    fn write_chunk(&mut self, key: StreamKey, chunk: &mut Bytes) -> Result<usize, WriteError> {
        match self.poll_write_chunk(key, chunk) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(0),
        }
    }

    /// Everything that can be read, and what came then.
    fn read_all(&mut self, key: StreamKey) -> (Vec<u8>, Polled) {
        let mut all = Vec::new();
        loop {
            match self.read_now(key) {
                Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) => all.extend_from_slice(&bytes),
                other => return (all, other),
            }
        }
    }

    fn write_all(&mut self, key: StreamKey, data: &[u8]) {
        assert_eq!(self.write(key, data), Ok(data.len()));
    }

    /// Returns what this host has charged to the account of a stream.
    fn lent(&self, index: u32) -> u64 {
        self.life.tree.table[index]
            .account
            .as_ref()
            .map_or(0, |a| a.lent.charged())
    }

    /// Returns what the peer has charged to it, what of that is consumed, and the limit.
    fn backing(&self, index: u32) -> (u64, u64, u64) {
        let account = self.life.tree.table[index].account.as_ref();
        account.map_or((0, 0, OPEN_ROOM), |a| {
            let gauge = a.backing.gauge();
            (gauge.charge, gauge.consumed, gauge.limit)
        })
    }

    /// Nothing is left of what was: no queue, no count.
    fn check_unused(&self, what: &str) {
        assert!(
            self.life.flow.openers.is_unused(&self.life.tree.table),
            "{what}: {:?}",
            self.life.flow.openers
        );
        assert!(self.life.ledger.is_unused(), "{what}");
        assert_eq!(self.life.flow.peer_streams(), 0, "{what}");
        let open = (
            self.life.outbox.open_count(Topic::Consumed),
            self.life.outbox.open_count(Topic::Released),
        );
        assert_eq!(open, (0, 0), "{what}");
        assert!(
            self.life.tree.table[0]
                .account
                .as_ref()
                .is_none_or(|a| a.lent.is_unused()),
            "{what}"
        );
    }

    fn lsid_of(&self, key: StreamKey) -> u64 {
        self.lsid(self.life.tree.table.find(key).expect("a live stream"))
    }
}

/// Two hosts and a perfect wire.
struct Pair {
    a: Streams,
    b: Streams,
}

impl Pair {
    fn new() -> Self {
        Self::with_root(1 << 20)
    }

    fn with_root(root: u64) -> Self {
        let mut a = Streams::test(Role::Initiator, root);
        let mut b = Streams::test(Role::Responder, root);
        a.grant_root(root).unwrap();
        b.grant_root(root).unwrap();
        Self { a, b }
    }

    /// Carries packets both ways until nobody has anything to send.
    fn run(&mut self) {
        while self.step() {}
    }

    /// One packet each way, received and acknowledged at once. Returns whether there was any.
    fn step(&mut self) -> bool {
        let from_a = self.a.packet(ROOM);
        if let Some(packet) = &from_a {
            self.b.take(packet).unwrap();
            self.a.acked(packet);
        }
        let from_b = self.b.packet(ROOM);
        if let Some(packet) = &from_b {
            self.a.take(packet).unwrap();
            self.b.acked(packet);
        }
        from_a.is_some() || from_b.is_some()
    }

    /// A top-level stream that both know.
    fn stream(&mut self) -> (StreamKey, StreamKey) {
        let a = self.a.open_top_level("svc", "v1").unwrap();
        self.run();
        let b = self.b.accept_any().unwrap();
        self.run();
        (a, b)
    }

    /// A child of a stream that both know.
    fn child(&mut self, (a, b): (StreamKey, StreamKey)) -> (StreamKey, StreamKey) {
        let a = self.a.open_substream(a).unwrap();
        self.run();
        let b = self.b.accept_substream(b).unwrap().unwrap();
        self.run();
        (a, b)
    }
}

/// A stream frame as a peer might make it up.
fn stream_frame<'a>(lsid: u64, init: Option<Init<'a>>, offset: u64, data: &'a [u8], fin: bool) -> Frame<'a> {
    Frame::Stream(Stream {
        lsid,
        init,
        offset,
        fin,
        data,
        ..STREAM
    })
}

fn top_level() -> Option<Init<'static>> {
    Some(Init::top_level(b"svc", b"v1").with_credit(0, STREAM_WINDOW, STREAM_BORROW))
}

/// INIT of a child of an accepted stream, or of one that is `levels` below one that is accepted.
fn child_of(parent: u64, levels: u8) -> Option<Init<'static>> {
    Some(Init::substream(parent).with_credit(levels, 100, STREAM_BORROW))
}

/// INIT of a child that borrows so much from the account so many levels up.
fn child_lent(parent: u64, lender: u8, borrow: u64) -> Option<Init<'static>> {
    Some(Init::substream(parent).with_credit(lender, borrow, STREAM_BORROW))
}

/// STREAM that says nothing but INIT.
fn announce<'a>(lsid: u64, init: Option<Init<'a>>) -> Stream<'a> {
    Stream { lsid, init, ..STREAM }
}

/// STREAM with data of a stream that is known.
fn data(lsid: u64, offset: u64, data: &[u8]) -> Stream<'_> {
    Stream {
        lsid,
        offset,
        data,
        ..STREAM
    }
}

/// The last STREAM of a stream that is known.
fn fin(lsid: u64, offset: u64, bytes: &[u8]) -> Stream<'_> {
    Stream {
        fin: true,
        ..data(lsid, offset, bytes)
    }
}

fn credit(lsid: u64, limit: u64) -> Credit {
    Credit { lsid, limit }
}

fn reset(lsid: u64, code: Code, final_size: u64) -> Reset<'static> {
    let (scope, reason) = (Scope::Stream, "");
    Reset {
        lsid,
        scope,
        code,
        final_size,
        reason,
    }
}

fn tree_reset(lsid: u64, code: Code, final_size: u64, reason: &str) -> Reset<'_> {
    Reset {
        scope: Scope::Tree,
        reason,
        ..reset(lsid, code, final_size)
    }
}

fn stop(lsid: u64, code: Code) -> Stop<'static> {
    Stop { lsid, code, reason: "" }
}

fn reset_frame(lsid: u64, final_size: u64) -> Frame<'static> {
    reset(lsid, Code::app(1), final_size).to_frame()
}

fn stop_frame(lsid: u64) -> Frame<'static> {
    stop(lsid, Code::app(1)).to_frame()
}
