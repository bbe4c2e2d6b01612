//! The other process: takes streams and holds them, until it is told to let go.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;

use sss::{Host, Stream};
use tokio::task::{LocalSet, spawn_local};

use super::SERVICE;
use super::closing::{finish, let_go};
use crate::outcome::Outcome;
use crate::setup::{Address, REQUEST};
use crate::usage::Snapshot;

/// Kind of a stream, as its first byte says.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// It has children of any kind.
    Trunk,
    /// It has one child, and counts.
    Link,
    /// It has none, and counts.
    Leaf,
}

impl Kind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Trunk => b'T',
            Self::Link => b'K',
            Self::Leaf => b'L',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Trunk, Self::Link, Self::Leaf]
            .into_iter()
            .find(|k| k.byte() == byte)
    }
}

/// Request, as its first byte says.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// Nothing but a response.
    Call,
    /// Asks what this process uses.
    Usage,
    /// That the streams that are held are finished, and read to their ends.
    Finish,
    /// That they are dropped.
    Drop,
}

impl Ask {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Call => b'C',
            Self::Usage => b'U',
            Self::Finish => b'F',
            Self::Drop => b'D',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Call, Self::Usage, Self::Finish, Self::Drop]
            .into_iter()
            .find(|ask| ask.byte() == byte)
    }
}

/// Streams that are held.
type Held = Rc<RefCell<Vec<Stream>>>;

/// Serves until its input ends.
pub(crate) fn hold() -> Outcome<()> {
    std::thread::spawn(|| {
        // Nothing comes: the end of the input is the end of the measurement.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve())
}

async fn serve() -> Outcome<()> {
    // A million, and those that warm it up, are more than a peer may have by default.
    let builder = Host::builder().bind("127.0.0.1:0").max_streams(1 << 24, 1 << 24);
    let host = builder.build().await?;
    let server = host.listen(SERVICE.0, SERVICE.1)?;
    let address = Address {
        socket: host.local_addr(),
        credential: host.eid().to_string().into_bytes(),
    };
    let mut line = serde_json::to_vec(&address)?;
    line.push(b'\n');
    let mut output = std::io::stdout().lock();
    output.write_all(&line)?;
    output.flush()?;
    let (top, _) = server.accept().await?;
    take(top, Held::default()).await;
    Ok(())
}

/// Takes the children of a stream until the peer ends it, and does what each asks for.
async fn take(stream: Stream, held: Held) {
    let (mut stream, mut end) = stream.split();
    // Nothing is sent on it.
    if stream.finish().is_err() {
        return;
    }
    // The byte that said what it is was read before; the next thing to be read is its end.
    loop {
        let child = tokio::select! {
            child = stream.accept_substream() => child,
            _ = end.read_chunk(1) => return,
        };
        let Ok(Some(mut child)) = child else {
            return;
        };
        let mut first = [0];
        if child.read_exact(&mut first).await.is_err() {
            continue;
        }
        let held = Rc::clone(&held);
        match Kind::of(first[0]) {
            Some(Kind::Leaf) if child.write_all(b"!").await.is_ok() => held.borrow_mut().push(child),
            Some(Kind::Leaf) => {}
            Some(Kind::Link) => drop(spawn_local(follow(child, held))),
            Some(Kind::Trunk) => drop(spawn_local(Box::pin(take(child, held)))),
            None => drop(spawn_local(answer(first[0], child, held))),
        }
    }
}

/// Takes a chain of streams below one another.
async fn follow(mut stream: Stream, held: Held) -> Outcome<()> {
    loop {
        stream.write_all(b"!").await?;
        let Some(mut child) = stream.accept_substream().await? else {
            return Ok(());
        };
        held.borrow_mut().push(stream);
        let mut first = [0];
        child.read_exact(&mut first).await?;
        if let Some(Kind::Leaf) = Kind::of(first[0]) {
            child.write_all(b"!").await?;
            held.borrow_mut().push(child);
            return Ok(());
        }
        stream = child;
    }
}

async fn answer(what: u8, mut stream: Stream, held: Held) -> Outcome<()> {
    stream.read_to_end(REQUEST).await?;
    match Ask::of(what) {
        Some(Ask::Call) => stream.write_all(&[0x5a; REQUEST]).await?,
        Some(Ask::Usage) => {
            let usage = Snapshot::take(stream.peer().stream_count() as u64)?;
            stream.write_all(&serde_json::to_vec(&usage)?).await?;
        }
        Some(Ask::Finish) => drop(spawn_local(finish(held.take()))),
        Some(Ask::Drop) => drop(spawn_local(let_go(held.take()))),
        None => return Err(format!("what is {what:?}?").into()),
    }
    stream.finish()?;
    Ok(())
}
