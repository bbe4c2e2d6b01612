//! What applications do with streams.

use std::collections::BTreeMap;
use std::task::Poll;

use sss_proto::{DatagramOptions, ListenMode, ReadOutcome};
use sss_wire::Code;

use super::*;

/// Streams of one application at most: those beyond are let go.
const MAX_STREAMS: usize = 16;

/// How far a stream is.
#[derive(Clone, Copy, Default)]
struct Progress {
    written: u64,
    read: u64,
    has_marks: bool,
}

/// The streams that an application holds.
#[derive(Default)]
pub(super) struct Streams {
    list: Vec<StreamId>,
    progress: BTreeMap<StreamId, Progress>,
}

/// Bytes after which what is written to a stream comes again.
const PERIOD: usize = 251;

/// What is written to every stream, from any offset in its first period on, as much as is written at once.
static PATTERN: [u8; PERIOD + 25_600] = {
    let mut bytes = [0; PERIOD + 25_600];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = (i % PERIOD) as u8;
        i += 1;
    }
    bytes
};

/// The bytes at an offset of every stream, [`PERIOD`] of them and more.
fn pattern(offset: u64) -> &'static [u8] {
    &PATTERN[(offset % PERIOD as u64) as usize..]
}

impl Streams {
    pub(super) fn add(&mut self, stream: StreamId) {
        self.list.push(stream);
    }

    fn pick(&self, program: &mut Program<'_>) -> Option<StreamId> {
        self.list.get(program.below(self.list.len())).copied()
    }

    /// Accepts what there is to accept.
    pub(super) fn on_event(&mut self, host: &mut Host, listener: ListenerId, event: &Event) {
        if let Event::Acceptable(_) = event {
            while let Some((stream, _)) = host.accept(listener) {
                if self.list.len() < MAX_STREAMS {
                    self.add(stream);
                } else {
                    host.stream(stream).release();
                }
            }
        }
    }

    /// Reads from a stream; what an honest peer wrote is as it was written.
    fn read(&mut self, host: &mut Host, now: Instant, stream: StreamId, max: usize, is_honest: bool) -> bool {
        let Poll::Ready(Ok(ReadOutcome::Chunk(bytes))) = host.stream(stream).poll_read(now, max) else {
            return false;
        };
        assert!(bytes.len() <= max, "more was read than was asked for");
        let progress = self.progress.entry(stream).or_default();
        for piece in bytes.chunks(PATTERN.len() - PERIOD) {
            let is_as_written = pattern(progress.read).starts_with(piece);
            assert!(!is_honest || is_as_written, "other bytes than were written");
            progress.read += piece.len() as u64;
        }
        !bytes.is_empty()
    }

    pub(super) fn read_all(&mut self, host: &mut Host, now: Instant, is_honest: bool) {
        for stream in self.list.clone() {
            while self.read(host, now, stream, 65_536, is_honest) {}
        }
    }

    fn write(&mut self, host: &mut Host, stream: StreamId, len: usize) {
        let progress = self.progress.entry(stream).or_default();
        let data = &pattern(progress.written)[..len];
        if let Poll::Ready(Ok(taken)) = host.stream(stream).poll_write(data) {
            assert!(taken <= len, "more was taken than there was");
            progress.written += taken as u64;
        }
    }

    fn forget(&mut self, stream: StreamId) {
        self.list.retain(|held| *held != stream);
        self.progress.remove(&stream);
    }
}

impl World {
    pub(super) fn application(&mut self, instruction: u8, n: usize, program: &mut Program<'_>) {
        match instruction {
            0 => self.connect(n),
            1 => self.end(n, program),
            2 => self.ask(n),
            _ => {
                let node = &mut self.nodes[n];
                if let Some(stream) = node.streams.pick(program) {
                    match instruction {
                        3..=15 => node.transfer(instruction, stream, self.now, self.is_honest, program),
                        16..=24 => node.branch(instruction, stream, program),
                        25..=33 => node.wait(instruction, stream),
                        34..=45 => node.datagram(instruction, stream, self.now, program),
                        _ => node.give_up(instruction, stream, program),
                    }
                }
            }
        }
    }

    fn end(&mut self, n: usize, program: &mut Program<'_>) {
        let how = program.byte();
        let Some(peer) = self.peer(n) else { return };
        match how & 3 {
            0 => drop(self.nodes[n].host.abandon(self.now, peer)),
            1 => self.nodes[n].host.shutdown(self.now),
            _ => self.nodes[n]
                .host
                .disconnect(self.now, peer, Code::app(u32::from(how)), "enough"),
        }
    }

    /// Everything that a host can be asked.
    fn ask(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        for (peer, _) in node.host.peers() {
            let info = node.host.channel_info(peer);
            assert!(info.is_none_or(|info| !format!("{info:?}").is_empty()));
            let _ = (node.host.peer_stats(peer), node.host.datagram_stats(peer));
            let _ = (node.host.close_reason(peer), node.host.negotiation_failure(now, peer));
            let _ = (node.host.link_status(peer), node.host.max_datagram_size(peer));
            assert_eq!(node.host.tree(peer).is_empty(), node.host.stream_count(peer) == 0);
        }
        for stream in node.streams.list.clone() {
            let _ = (node.host.stream_info(stream), node.host.subtree_info(stream));
            let _ = (node.host.delivery(stream), node.host.undelivered(stream));
        }
    }
}

impl Node {
    fn transfer(
        &mut self,
        instruction: u8,
        stream: StreamId,
        now: Instant,
        is_honest: bool,
        program: &mut Program<'_>,
    ) {
        let host = &mut self.host;
        match instruction {
            3..=5 => self.streams.write(host, stream, program.below(256)),
            6 => self.streams.write(host, stream, program.below(256) * 100),
            7..=8 => drop(self.streams.read(host, now, stream, program.below(256) * 8, is_honest)),
            9 => while self.streams.read(host, now, stream, 65_536, is_honest) {},
            10..=11 => drop(host.stream(stream).finish()),
            12 | 13 => {
                self.streams.progress.entry(stream).or_default().has_marks = true;
                let mut view = host.stream(stream);
                // A record of nothing: what it holds would not follow the pattern.
                let _ = if instruction == 12 {
                    view.write_mark()
                } else {
                    view.write_record(b"")
                };
            }
            14 => {
                let budget = u64::from(program.byte()) * 1000;
                host.stream(stream).set_budget(Some(budget).filter(|bytes| *bytes > 0));
            }
            _ => {
                let level = program.byte() as i8;
                host.stream(stream).set_priority(level);
                host.stream(stream).request_priority(level);
            }
        }
    }

    fn branch(&mut self, instruction: u8, stream: StreamId, program: &mut Program<'_>) {
        match instruction {
            16..=18 => {
                if self.streams.list.len() < MAX_STREAMS
                    && let Ok(child) = self.host.stream(stream).open_substream()
                {
                    self.streams.add(child);
                }
            }
            19..=22 => {
                if let Poll::Ready(Ok(Some(child))) = self.host.stream(stream).poll_accept_substream() {
                    self.streams.add(child);
                }
            }
            _ => {
                let mode = match program.byte() {
                    0 => ListenMode::Reject,
                    1 => ListenMode::Unlimited,
                    2 => ListenMode::Inherit,
                    limit => ListenMode::Limit(u64::from(limit) * 100),
                };
                self.host.stream(stream).set_listen_mode(mode);
            }
        }
    }

    fn wait(&mut self, instruction: u8, stream: StreamId) {
        let mut view = self.host.stream(stream);
        match instruction {
            25 => drop(view.poll_writable()),
            26 => drop(view.poll_sent()),
            27 => drop(view.poll_acknowledged()),
            28 => drop(view.poll_drained()),
            29 => drop(view.poll_consumed()),
            30 => drop(view.poll_flushed(u64::MAX)),
            _ => drop(view.poll_accept_substream()),
        }
    }

    fn datagram(&mut self, instruction: u8, stream: StreamId, now: Instant, program: &mut Program<'_>) {
        if instruction >= 42 {
            let _ = self.host.stream(stream).poll_recv_datagram(now);
            return;
        }
        let how = program.byte();
        let data = Bytes::from(vec![how; program.below(256) << (how & 7)]);
        let options = DatagramOptions::default().with(|options| {
            options.reliable = how & 8 != 0;
            options.deadline = (how & 16 != 0).then_some(Duration::from_millis(50));
            options.tracked = how & 32 != 0;
            options.priority = (how >> 6) as i8;
        });
        let _ = self.host.stream(stream).send_datagram(now, &data, &options);
    }

    fn give_up(&mut self, instruction: u8, stream: StreamId, program: &mut Program<'_>) {
        let code = Code::app(u32::from(program.byte()));
        let mut view = self.host.stream(stream);
        match instruction & 7 {
            0 => view.reset(code, "reset"),
            1 => view.reset_tree(code, "reset tree"),
            2 | 3 => view.stop(code, "stop"),
            4 => {
                view.finish().unwrap_or_default();
                view.release();
                self.streams.forget(stream);
            }
            5 => {
                let keep = u64::from(program.byte());
                let progress = self.streams.progress.entry(stream).or_default();
                // A mark counts as a byte: how many of them are taken back is not told.
                if !progress.has_marks {
                    progress.written -= view.take_back(keep);
                }
            }
            _ => {
                view.release();
                self.streams.forget(stream);
            }
        }
    }
}
