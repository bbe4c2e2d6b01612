//! The receiving side of the tool's file protocol, as far as it has to do with the network: a download from a server
//! that says what the input says, over two hosts of this process.
//!
//! The input is a program of the server, with instructions of one byte and their arguments behind them. Each request is
//! answered from where the program is; once it has ended, answers are nothing but an end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sss::{Host, Server, Stream};
use sss_files::{
    Attributes, Cursor, DEPTH_ALL, Entry, Gathered, Kind, Options, PROTOCOL, Refusal, RelPath, Request, SERVICE,
    Status, Traits, Verdict, put_varint,
};
use tokio::runtime::Runtime;

use super::sandbox::{Program, Sandbox};
use crate::transfer::download::{Download, Listing};
use crate::transfer::exchange::TransferError;
use crate::transfer::safe_path::Root;
use crate::transfer::session::Session;
use crate::transfer::tally::Tally;

/// Answers to requests, substreams that nobody asked for included, at most.
const MAX_ANSWERS: usize = 32;
/// Instructions of one answer at most.
const MAX_STEPS: usize = 64;
/// Time for the whole, after which the user loses patience: a server may say BUSY for ever.
const MOST: Duration = Duration::from_millis(300);

/// Paths that are often named.
const PATHS: [&[u8]; 12] = [
    b"",
    b"f",
    b"d",
    b"d/f",
    b"d/g",
    b"l",
    b"l/new",
    b"new",
    b"new/f",
    b"../out/f",
    b"/etc/x",
    b"d/e/h",
];

/// Two hosts that know each other.
struct Stage {
    runtime: Runtime,
    client: Host,
    hostile: Host,
    server: Server,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

impl Stage {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(2).build().expect("a runtime");
        let host = || Host::builder().bind("127.0.0.1:0").build();
        let (client, hostile) = runtime.block_on(async { (host().await, host().await) });
        let (client, hostile) = (client.expect("a host"), hostile.expect("another host"));
        let server = runtime.block_on(async { hostile.listen(SERVICE, PROTOCOL).expect("the first of its name") });
        Self {
            runtime,
            client,
            hostile,
            server,
        }
    }

    async fn run(&self, data: &[u8], sandbox: &Sandbox) {
        let mut program = Program::new(data);
        let settings = program.byte();
        let mut options = Options::empty();
        options.set(Options::REPLACE, settings & 1 != 0);
        options.set(Options::NO_PERMS, settings & 2 != 0);
        options.set(Options::TREE, settings & 4 == 0);
        let local = if settings & 8 == 0 { &b""[..] } else { b"new" };
        let tally = Arc::new(Tally::default());
        let downloaded = async {
            let connect = self.client.connect(self.hostile.eid(), SERVICE, PROTOCOL);
            let session = connect.hint(self.hostile.local_addr()).await;
            let session = session.expect("it is on this machine");
            let session = Arc::new(Session::new(session, None));
            let mut listing = Listing::ask(&session, RelPath::default(), DEPTH_ALL).await?;
            let first = listing.first().await?;
            let download = Download {
                session,
                remote: RelPath::default(),
                root: Arc::new(Root::open(&sandbox.inside()).expect("it is there")),
                local: RelPath::parse(local).expect("a path"),
                options,
                tally: tally.clone(),
                limit: None,
            };
            download.run(first, listing).await
        };
        let served = async {
            if let Ok((session, _)) = self.server.accept().await {
                Hostile::new(program).serve(session).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = tokio::time::timeout(MOST, downloaded) => {
                // What the user is told is harmless.
                if let Ok(Err(error)) = ended {
                    let text = error.to_string();
                    assert!(!text.contains(char::is_control), "{text:?}");
                    assert!(!matches!(error, TransferError::Pattern(_)), "nobody asked for a pattern");
                }
            }
            () = served => {}
        }
        for failure in tally.take_failures() {
            let text = format!("{} {}", failure.path, failure.refusal);
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}

/// A server, and how far its program is.
struct Hostile<'a> {
    program: Program<'a>,
    /// Sizes of files, as they were told last.
    sizes: HashMap<Vec<u8>, u64>,
    answers: usize,
}

/// An answer under way.
struct Answer {
    stream: Stream,
    out: Vec<u8>,
    hasher: blake3::Hasher,
}

impl<'a> Hostile<'a> {
    fn new(program: Program<'a>) -> Self {
        Self {
            program,
            sizes: HashMap::new(),
            answers: 0,
        }
    }

    /// Answers one request after the other.
    async fn serve(&mut self, session: Stream) {
        while self.answers < MAX_ANSWERS {
            let Ok(Some(mut stream)) = session.accept_substream().await else {
                return;
            };
            let asked = stream.read_to_end(1 << 16).await.unwrap_or_default();
            let request = Request::decode(&mut Cursor::new(&asked));
            assert!(request.is_ok(), "a client that asks for {asked:?}");
            self.answers += 1;
            if self.answer(&session, stream, request.ok()).await.is_none() {
                return;
            }
        }
    }

    /// Answers a request; `None` at the end of the session.
    async fn answer(&mut self, session: &Stream, stream: Stream, request: Option<Request>) -> Option<()> {
        let mut answer = Answer {
            stream,
            out: Vec::new(),
            hasher: blake3::Hasher::new(),
        };
        for _ in 0..MAX_STEPS {
            match self.program.byte() % 24 {
                0 => break,
                1 => answer.flush().await,
                2 => {
                    answer.stream.reset(u32::from(self.program.byte() % 20));
                    return Some(());
                }
                // Nobody asked for this one.
                3 => {
                    if let Ok(mut unasked) = session.open_substream() {
                        let _ = unasked.write_all(self.bytes()).await;
                        if let Ok(mut below) = answer.stream.open_substream() {
                            let _ = below.write_all(b"below").await;
                        }
                    }
                }
                4 => return None,
                5 => answer.stream.stop(u32::from(self.program.byte() % 20)),
                6..=9 => {
                    let request = request.as_ref()?;
                    self.right(&mut answer.out, request);
                    break;
                }
                instruction => self.say(instruction, &mut answer),
            }
        }
        answer.flush().await;
        let _ = answer.stream.finish();
        Some(())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.program.byte() & 63);
        self.program.bytes(len)
    }

    /// A path, in the wire form.
    fn path(&mut self) -> Vec<u8> {
        let which = self.program.byte();
        match PATHS.get(usize::from(which)) {
            Some(path) => path.to_vec(),
            None => self.program.bytes(usize::from(which & 31)).to_vec(),
        }
    }

    /// A size, as a rule a small one.
    fn size(&mut self) -> u64 {
        match self.program.byte() {
            255 => u64::MAX >> 2,
            254 => 300_000,
            253 => 65_537,
            size => size.into(),
        }
    }

    fn attributes(&mut self) -> Attributes {
        let size = self.size();
        let how = self.program.byte();
        Attributes {
            size,
            mode: u32::from(how) << 1,
            mtime: Default::default(),
            traits: if how & 1 == 0 { Traits::empty() } else { Traits::HOLES },
        }
    }

    /// A part of an answer.
    fn say(&mut self, instruction: u8, answer: &mut Answer) {
        let out = &mut answer.out;
        match instruction {
            10 => out.push(Status::Ok as u8),
            11 => out.extend_from_slice(self.bytes()),
            12 => {
                out.push(self.program.byte() % 24);
                let text = self.bytes();
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text);
            }
            13..=15 => {
                let kind = self.program.byte() % 6;
                let path = self.path();
                out.push(kind);
                put_varint(out, path.len() as u64);
                out.extend_from_slice(&path);
                let attributes = self.attributes();
                attributes.encode(out);
                if kind == 3 {
                    let target = self.path();
                    put_varint(out, target.len() as u64);
                    out.extend_from_slice(&target);
                }
                self.sizes.insert(path, attributes.size);
            }
            16 => {
                out.push(Status::Ok as u8);
                self.attributes().encode(out);
                put_varint(out, self.program.byte().into());
            }
            17 | 18 => content(self.size().min(1 << 20), &mut answer.hasher, out),
            19 => Verdict(Ok(answer.hasher.finalize())).encode(out),
            20 => Verdict(Ok(blake3::Hash::from_bytes([self.program.byte(); 32]))).encode(out),
            21 => Gathered(Ok((self.attributes(), answer.hasher.finalize()))).encode(out),
            // The beginning of what is there already.
            22 => out.extend_from_slice(b"as it was"),
            _ => put_varint(out, self.size()),
        }
    }

    /// What an honest server would say.
    fn right(&mut self, out: &mut Vec<u8>, request: &Request) {
        let size = |sizes: &HashMap<Vec<u8>, u64>, path: &RelPath| {
            let size = sizes.get(path.as_bytes()).copied().unwrap_or(5);
            Attributes {
                size: size.min(1 << 20),
                mode: 0o644,
                ..Attributes::default()
            }
        };
        match request {
            Request::List { .. } => {
                out.push(Status::Ok as u8);
                for (path, len) in [
                    ("", None),
                    ("a", Some(5)),
                    ("b", None),
                    ("b/c", Some(300_000)),
                    ("e", Some(9)),
                ] {
                    let path = RelPath::parse(path.as_bytes()).expect("a path");
                    self.sizes.extend(len.map(|len| (path.as_bytes().to_vec(), len)));
                    let mut attributes = size(&self.sizes, &path);
                    attributes.mode = 0o755;
                    let kind = if len.is_some() {
                        Kind::File(attributes)
                    } else {
                        Kind::Directory(attributes)
                    };
                    Entry { path, kind }.encode(out);
                }
            }
            Request::Fetch { path, have } => {
                let attributes = size(&self.sizes, path);
                let start = have.map_or(0, |have| have.len.min(attributes.size));
                out.push(Status::Ok as u8);
                attributes.encode(out);
                put_varint(out, start);
                let mut hasher = blake3::Hasher::new();
                content(attributes.size - start, &mut hasher, out);
                Verdict(Ok(hasher.finalize())).encode(out);
            }
            Request::Gather { names, .. } => {
                for path in names.iter() {
                    let (attributes, mut hasher, mut text) =
                        (size(&self.sizes, &path), blake3::Hasher::new(), Vec::new());
                    content(attributes.size, &mut hasher, &mut text);
                    Gathered(Ok((attributes, hasher.finalize()))).encode(out);
                    out.extend_from_slice(&text);
                }
            }
            _ => Refusal::new(Status::BadRequest, "").encode(out),
        }
    }
}

impl Answer {
    /// Sends what was said so far; what the client does not take is lost.
    async fn flush(&mut self) {
        let _ = self.stream.write_all(&std::mem::take(&mut self.out)).await;
    }
}

/// Some content of a file.
fn content(size: u64, hasher: &mut blake3::Hasher, out: &mut Vec<u8>) {
    let before = out.len();
    out.extend((0..size).map(|i| (i % 251) as u8));
    hasher.update(&out[before..]);
}

/// Downloads from a server that says what the input says. Nothing happens outside of where it goes, and nothing waits
/// for ever.
pub fn file_exchange(data: &[u8]) {
    let sandbox = Sandbox::new();
    STAGE.with_borrow_mut(|stage| {
        let stage = stage.get_or_insert_with(Stage::new);
        stage.runtime.block_on(stage.run(data, &sandbox));
    });
    sandbox.check();
}
