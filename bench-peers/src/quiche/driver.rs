//! Work of a connection's task for its streams, between receiving and sending.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_quiche::metrics::Metrics;
use tokio_quiche::quic::{HandshakeInfo, QuicheConnection as Core};
use tokio_quiche::quiche::Error;
use tokio_quiche::{ApplicationOverQuic, QuicResult};

use super::DATAGRAMS;
use super::pipe::{Pipe, QuicheStream};

/// Bytes read from a stream at once.
const PIECE: usize = 64 << 10;

/// Wish of the application.
pub(crate) enum Command {
    /// A new stream.
    Open(u64, Arc<Pipe>),
    /// Bytes to be sent on a stream.
    Send(u64, Bytes),
    /// The end of a stream's sending direction.
    Finish(u64),
    /// There is room again for what arrives on a stream.
    Resume(u64),
    /// The end of the connection.
    Close,
}

/// One stream as its connection's task sees it.
struct Local {
    pipe: Arc<Pipe>,
    unsent: VecDeque<Bytes>,
    /// The application sends no more.
    finished: bool,
    /// The connection knows.
    end_sent: bool,
    end_arrived: bool,
}

impl Local {
    fn new(pipe: Arc<Pipe>) -> Self {
        Self {
            pipe,
            unsent: VecDeque::new(),
            finished: false,
            end_sent: false,
            end_arrived: false,
        }
    }
}

/// All streams of a connection.
pub(super) struct Driver {
    is_server: bool,
    commands: mpsc::UnboundedReceiver<Command>,
    /// For streams of the other side; it does not keep the connection alive.
    sender: mpsc::WeakUnboundedSender<Command>,
    /// Commands taken and not carried out.
    taken: Option<Command>,
    /// The application has let go of the connection, or has closed it.
    ended: bool,
    accept: mpsc::UnboundedSender<QuicheStream>,
    datagrams: mpsc::Receiver<Bytes>,
    datagram: Option<Bytes>,
    arrive: mpsc::Sender<usize>,
    streams: HashMap<u64, Local>,
    /// Streams with something unsent, in turn.
    pending: VecDeque<u64>,
    buffer: BytesMut,
    piece: Vec<u8>,
}

impl Driver {
    pub(super) fn new(
        is_server: bool,
        (sender, commands): (mpsc::WeakUnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
        accept: mpsc::UnboundedSender<QuicheStream>,
        datagrams: mpsc::Receiver<Bytes>,
        arrive: mpsc::Sender<usize>,
    ) -> Self {
        Self {
            is_server,
            commands,
            sender,
            taken: None,
            ended: false,
            accept,
            datagrams,
            datagram: None,
            arrive,
            streams: HashMap::new(),
            pending: VecDeque::new(),
            buffer: BytesMut::new(),
            piece: vec![0; 2048],
        }
    }

    /// Carries out what the application wants.
    fn obey(&mut self, core: &mut Core, command: Command) {
        match command {
            Command::Open(id, pipe) => drop(self.streams.insert(id, Local::new(pipe))),
            Command::Send(id, data) => {
                if let Some(local) = self.streams.get_mut(&id) {
                    local.unsent.push_back(data);
                    self.wait(id);
                }
            }
            Command::Finish(id) => {
                if let Some(local) = self.streams.get_mut(&id) {
                    local.finished = true;
                    self.wait(id);
                }
            }
            Command::Resume(id) => self.read(core, id),
            Command::Close => self.close(core),
        }
    }

    fn close(&mut self, core: &mut Core) {
        self.ended = true;
        // An error says that it is closed already.
        let _ = core.close(true, 0, b"");
    }

    /// Puts a stream among those with something to send.
    fn wait(&mut self, id: u64) {
        if self.pending.back() != Some(&id) {
            self.pending.push_back(id);
        }
    }

    /// Gives all streams a turn that have something to send.
    fn write(&mut self, core: &mut Core) {
        for _ in 0..self.pending.len() {
            let Some(id) = self.pending.pop_front() else { return };
            let Some(local) = self.streams.get_mut(&id) else {
                continue;
            };
            if !flush(core, id, local) {
                self.pending.push_back(id);
            }
            self.forget(id);
        }
    }

    /// Reads all that a stream has, or as much as the application has room for.
    fn read(&mut self, core: &mut Core, id: u64) {
        if !self.streams.contains_key(&id) && !self.welcome(id) {
            return;
        }
        let Some(local) = self.streams.get_mut(&id) else {
            return;
        };
        while local.pipe.has_room() {
            self.buffer.reserve(PIECE);
            match core.stream_recv_buf(id, (&mut self.buffer).limit(PIECE)) {
                Ok((_, ended)) => {
                    local.end_arrived |= ended;
                    local.pipe.arrive(self.buffer.split().freeze(), ended);
                    if ended {
                        break;
                    }
                }
                Err(Error::Done) => break,
                Err(_) => {
                    local.end_arrived = true;
                    local.pipe.break_off();
                    break;
                }
            }
        }
        self.forget(id);
    }

    /// Takes a stream that the other side opened. False for one of ours that is over.
    fn welcome(&mut self, id: u64) -> bool {
        let from_server = id % 2 == 1;
        if from_server == self.is_server {
            return false;
        }
        let pipe = Arc::new(Pipe::default());
        let Some(sender) = self.sender.upgrade() else {
            return false;
        };
        self.streams.insert(id, Local::new(pipe.clone()));
        self.accept.send(QuicheStream::new(id, pipe, sender)).is_ok()
    }

    /// Lets go of a stream that has ended in both directions.
    fn forget(&mut self, id: u64) {
        if self
            .streams
            .get(&id)
            .is_some_and(|local| local.end_sent && local.end_arrived)
        {
            self.streams.remove(&id);
        }
    }

    fn send_datagrams(&mut self, core: &mut Core) {
        while core.dgram_send_queue_len() < DATAGRAMS {
            let Some(datagram) = self.datagram.take().or_else(|| self.datagrams.try_recv().ok()) else {
                return;
            };
            // The application counts what does not arrive.
            let _ = core.dgram_send(&datagram);
        }
    }
}

/// Sends what a stream has. False if something is left.
fn flush(core: &mut Core, id: u64, local: &mut Local) -> bool {
    while !local.unsent.is_empty() || (local.finished && !local.end_sent) {
        let next = local.unsent.pop_front().unwrap_or_default();
        let ends = local.finished && local.unsent.is_empty();
        match core.stream_send_zc(id, next.clone(), ends) {
            Ok((count, rest)) => {
                local.pipe.sent(count);
                if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
                    local.unsent.push_front(rest);
                    return false;
                }
                local.end_sent |= ends;
            }
            // Room, or the right to open one more, will come.
            Err(Error::Done | Error::StreamLimit) => {
                if !next.is_empty() {
                    local.unsent.push_front(next);
                }
                return false;
            }
            Err(_) => {
                local.unsent.clear();
                local.end_sent = true;
                local.pipe.break_off();
            }
        }
    }
    true
}

impl ApplicationOverQuic for Driver {
    fn on_conn_established(&mut self, _: &mut Core, _: &HandshakeInfo) -> QuicResult<()> {
        Ok(())
    }

    fn should_act(&self) -> bool {
        true
    }

    async fn wait_for_data(&mut self, core: &mut Core) -> QuicResult<()> {
        if self.taken.is_some() || self.datagram.is_some() {
            return Ok(());
        }
        let has_room = core.dgram_send_queue_len() < DATAGRAMS;
        tokio::select! {
            command = self.commands.recv(), if !self.ended => {
                self.taken = Some(command.unwrap_or(Command::Close));
            }
            Some(datagram) = self.datagrams.recv(), if has_room => self.datagram = Some(datagram),
            else => pending().await,
        }
        Ok(())
    }

    fn process_reads(&mut self, core: &mut Core) -> QuicResult<()> {
        while let Some(id) = core.stream_readable_next() {
            self.read(core, id);
        }
        while let Ok(count) = core.dgram_recv(&mut self.piece) {
            // An application that is not fast enough loses them.
            let _ = self.arrive.try_send(count);
        }
        Ok(())
    }

    fn process_writes(&mut self, core: &mut Core) -> QuicResult<()> {
        while let Some(command) = self.taken.take().or_else(|| self.commands.try_recv().ok()) {
            self.obey(core, command);
        }
        self.write(core);
        self.send_datagrams(core);
        Ok(())
    }

    fn on_conn_close<M: Metrics>(&mut self, _: &mut Core, _: &M, _: &QuicResult<()>) {
        for local in self.streams.values() {
            local.pipe.break_off();
        }
    }
}
