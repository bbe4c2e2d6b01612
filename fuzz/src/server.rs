//! The serving side of the tool's file protocol: the tool's server, and a client that asks for what the input says, over
//! two hosts of this process.
//!
//! The input is a program of the client, with instructions of one byte and their arguments behind them. Whatever it
//! asks for, the server changes nothing outside of its directory, tells nothing of what is there, and serves whoever
//! comes afterwards.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sss::{DriverMode, Host, Stream};
use sss_files::{
    Attributes, Entry, Greeting, Kind, Mtime, Names, Options, PROTOCOL, Patterns, Prefix, Refusal, RelPath, Request,
    SERVICE, Status, Traits, Verdict, put_varint,
};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::sandbox::{OUTSIDE, Program, Sandbox};
use crate::ticket::Secret;
use crate::transfer::safe_path::Root;
use crate::transfer::served::Served;
use crate::transfer::server::{FileService, Terms};

/// Instructions of one input at most.
const MAX_STEPS: usize = 64;
/// Requests, and sessions, under way at most.
const MAX_REQUESTS: usize = 16;
/// Bytes of an answer that are read at most.
const MAX_ANSWER: usize = 1 << 21;
/// Time for which answers are waited for: a server may let a request wait for another one.
const MOST: Duration = Duration::from_millis(50);
/// Time in which an honest client is answered afterwards, on a machine with other work.
const HONEST: Duration = Duration::from_secs(30);
/// Bytes that there may be in a directory that has a quota.
const QUOTA: u64 = 200_000;
/// Bytes that clients have to show where there is a secret.
const SECRET: [u8; Secret::LEN] = [7; Secret::LEN];

/// Paths that are often named.
const PATHS: [&[u8]; 16] = [
    b"",
    b"f",
    b"d",
    b"d/f",
    b"l",
    b"l/f",
    b"l/new",
    b"k",
    b"n",
    b"new",
    b"new/f",
    b"d/l",
    b"d/e/h",
    b"../out/f",
    b"/etc/passwd",
    b".f.sss-part",
];

/// Two hosts that know each other.
struct Stage {
    client: Host,
    server: Host,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(2).build().expect("a runtime")
}

/// Serves a directory to a client that asks for what the input says.
pub fn file_server(data: &[u8]) {
    let sandbox = Sandbox::new();
    STAGE.with_borrow_mut(|stage| stage.get_or_insert_with(Stage::new).run(data, &sandbox));
    sandbox.check();
}

impl Stage {
    fn new() -> Self {
        // Their drivers outlive the runtime of an input, which ends with all that was begun for it.
        let host = async || {
            let builder = Host::builder().bind("127.0.0.1:0").driver(DriverMode::Dedicated);
            builder.build().await.expect("a host")
        };
        let (client, server) = runtime().block_on(async { (host().await, host().await) });
        Self { client, server }
    }

    fn run(&self, data: &[u8], sandbox: &Sandbox) {
        let mut program = Program::new(data);
        let settings = program.byte();
        let is_locked = settings & 4 != 0;
        let told: Arc<Mutex<Vec<Served>>> = Arc::default();
        let log = told.clone();
        let terms = Terms {
            writable: settings & 1 == 0,
            quota: (settings & 2 != 0).then_some(QUOTA),
            secret: is_locked.then(|| Secret::from_bytes(SECRET)),
            log: Arc::new(move |served| log.lock().expect("nobody panics").push(served)),
        };
        let root = Root::open(&sandbox.inside()).expect("it is there");
        let service = FileService::new(root, terms).expect("it can be read");
        let runtime = runtime();
        let answers = runtime.block_on(async {
            let listening = self.server.listen(SERVICE, PROTOCOL).expect("the last one has ended");
            let serving = tokio::spawn(service.serve(listening));
            let mut hostile = Hostile {
                stage: self,
                program,
                // Who does not know the secret can only guess.
                secret: (settings & 8 == 0).then_some(SECRET),
                sessions: Vec::new(),
                requests: Vec::new(),
            };
            hostile.run().await;
            let answers = hostile.answers().await;
            self.is_served().await;
            serving.abort();
            let _ = serving.await;
            answers
        });
        // What has begun on the disk ends before it is looked at.
        runtime.shutdown_timeout(HONEST);
        let knows = !is_locked || settings & 8 == 0;
        for bytes in &answers {
            check_answer(bytes, data, &sandbox.inside());
            assert!(
                knows || bytes.first() != Some(&(Status::Ok as u8)),
                "let in without the secret"
            );
        }
        for served in told.lock().expect("nobody panics").drain(..) {
            let refusal = served.refusal.map(|refusal| refusal.to_string());
            let text = format!("{} {}", served.path, refusal.unwrap_or_default());
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    async fn session(&self) -> Stream {
        let connecting = self.client.connect(self.server.eid(), SERVICE, PROTOCOL);
        let connecting = timeout(HONEST, connecting.hint(self.server.local_addr()).into_future()).await;
        connecting.expect("it answers").expect("it is on this machine")
    }

    /// An honest client is told what there is.
    async fn is_served(&self) {
        let listed = async {
            let mut session = self.session().await;
            let greeting = Greeting { secret: Some(&SECRET) };
            session
                .write_all(&greeting.encode())
                .await
                .expect("a greeting is heard");
            let mut request = session.open_substream().expect("there are few");
            let list = Request::List {
                path: RelPath::default(),
                depth: 0,
                without: Patterns::default(),
            };
            request.write_all(&list.encode()).await.expect("a request is heard");
            request.finish().expect("it was not before");
            request.read_to_end(MAX_ANSWER).await.expect("an answer")
        };
        let listed = timeout(HONEST, listed)
            .await
            .expect("an honest client is served in time");
        assert_eq!(listed.first(), Some(&(Status::Ok as u8)), "{listed:?}");
    }
}

/// Answers tell nothing of what is outside, nor where the directory is.
fn check_answer(bytes: &[u8], data: &[u8], inside: &Path) {
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(
        !has(bytes, OUTSIDE) || has(data, OUTSIDE),
        "it has told what is outside"
    );
    assert!(
        !has(bytes, inside.as_os_str().as_encoded_bytes()),
        "it has told where it is"
    );
}

/// Says something, as far as the server takes it: it may read on, refuse, or let it wait.
async fn say(stream: Option<&mut Stream>, bytes: &[u8]) {
    if let Some(stream) = stream {
        let _ = timeout(MOST, stream.write_all(bytes)).await;
    }
}

/// A client, and how far its program is.
struct Hostile<'a> {
    stage: &'a Stage,
    program: Program<'a>,
    secret: Option<[u8; Secret::LEN]>,
    sessions: Vec<Stream>,
    /// Requests whose answers are to be read.
    requests: Vec<Stream>,
}

impl<'a> Hostile<'a> {
    async fn run(&mut self) {
        self.begin().await;
        for _ in 0..MAX_STEPS {
            if self.program.is_at_end() {
                return;
            }
            match self.program.byte() % 16 {
                0 => self.begin().await,
                1 => drop(self.sessions.pop()),
                2 => drop(self.requests.pop()),
                3 => {
                    let bytes = self.bytes();
                    say(self.sessions.last_mut(), bytes).await;
                }
                4 => self.with_request(|request| drop(request.finish())),
                5 => self.with_request(|request| request.reset(3)),
                6 => self.with_request(|request| request.stop(3)),
                7 => {
                    let bytes = self.bytes();
                    say(self.requests.last_mut(), bytes).await;
                }
                8 => {
                    let bytes = self.bytes();
                    let below = self.requests.last().map(Stream::open_substream);
                    say(below.and_then(Result::ok).as_mut(), bytes).await;
                }
                instruction => self.request(instruction).await,
            }
        }
    }

    /// Opens a session, and greets, as a rule.
    async fn begin(&mut self) {
        let how = self.program.byte();
        if self.sessions.len() >= MAX_REQUESTS {
            return;
        }
        let mut session = self.stage.session().await;
        if how != 1 {
            let secret = self.secret.as_ref().map(|secret| &secret[..]);
            let _ = session.write_all(&Greeting { secret }.encode()).await;
        }
        self.sessions.push(session);
    }

    fn with_request(&mut self, act: impl FnOnce(&mut Stream)) {
        if let Some(request) = self.requests.last_mut() {
            act(request);
        }
    }

    /// Makes a request; a whole one, unless the program says how long it is.
    async fn request(&mut self, instruction: u8) {
        let mut said = Vec::new();
        match instruction {
            9 => said.extend_from_slice(self.bytes()),
            10 => {
                let (path, depth) = (self.path(), self.program.byte());
                let pattern = String::from_utf8_lossy(self.bytes()).into_owned();
                let without = Patterns::that_fit((!pattern.is_empty()).then_some(&pattern[..]));
                said = Request::List { path, depth, without }.encode();
            }
            11 => {
                let path = self.path();
                let have = match self.program.byte() {
                    0 => None,
                    len => Some(Prefix {
                        len: len.into(),
                        hash: blake3::hash(b"as it was"),
                    }),
                };
                said = Request::Fetch { path, have }.encode();
            }
            12 => {
                let (path, mut names) = (self.path(), Names::default());
                for _ in 0..self.program.byte() % 8 {
                    names.push(&self.path());
                }
                said = Request::Gather { path, names }.encode();
            }
            13 | 14 => self.store(&mut said),
            _ => self.make(&mut said),
        }
        let how = self.program.byte();
        if how & 1 != 0 {
            said.truncate(usize::from(how));
        }
        let session = self.sessions.last();
        let Some(Ok(mut request)) = session.map(Stream::open_substream) else {
            return;
        };
        say(Some(&mut request), &said).await;
        if how & 2 == 0 {
            let _ = request.finish();
        }
        if self.requests.len() < MAX_REQUESTS {
            self.requests.push(request);
        }
    }

    /// STORE, with some content and a hash, of which each may be wrong.
    fn store(&mut self, said: &mut Vec<u8>) {
        let (path, options) = (self.path(), self.options());
        let attributes = self.attributes();
        let how = self.program.byte();
        said.extend(
            Request::Store {
                path,
                options,
                attributes,
            }
            .encode(),
        );
        let start = u64::from(how >> 4);
        put_varint(said, start);
        let more = u64::from(how & 1);
        let size = attributes.size.saturating_sub(start).saturating_add(more).min(1 << 20);
        let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        said.extend_from_slice(&content);
        let hash = if how & 2 == 0 {
            blake3::hash(&content)
        } else {
            blake3::Hash::from_bytes([how; 32])
        };
        match how & 4 {
            0 => Verdict(Ok(hash)).encode(said),
            _ => Verdict(Err(Refusal::new(Status::Changed, "\u{1b}[2J"))).encode(said),
        }
    }

    /// MAKE, with some directories and links.
    fn make(&mut self, said: &mut Vec<u8>) {
        let (path, options) = (self.path(), self.options());
        said.extend(Request::Make { path, options }.encode());
        for _ in 0..self.program.byte() % 8 {
            let (path, attributes) = (self.path(), self.attributes());
            let kind = match self.program.byte() % 4 {
                0 => Kind::Link(attributes, self.wire_path().to_vec()),
                1 => Kind::File(attributes),
                _ => Kind::Directory(attributes),
            };
            Entry { path, kind }.encode(said);
        }
    }

    /// Reads what was answered, up to a bound, in a while.
    async fn answers(mut self) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        let reading = async {
            for request in &mut self.requests {
                // Who says nothing more is not waited for.
                let _ = request.finish();
                answers.push(Vec::new());
                let answer = answers.last_mut().expect("it was just put there");
                while let Ok(Some(chunk)) = request.read_chunk(1 << 16).await {
                    answer.extend_from_slice(&chunk);
                    if answer.len() > MAX_ANSWER {
                        break;
                    }
                }
            }
        };
        let _ = timeout(MOST, reading).await;
        answers
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.program.byte() & 63);
        self.program.bytes(len)
    }

    fn wire_path(&mut self) -> &'a [u8] {
        let which = self.program.byte();
        match PATHS.get(usize::from(which)) {
            Some(path) => path,
            None => self.program.bytes(usize::from(which & 31)),
        }
    }

    /// A path, the root in place of what is none: other requests have those in their bytes.
    fn path(&mut self) -> RelPath {
        RelPath::parse(self.wire_path()).unwrap_or_default()
    }

    fn options(&mut self) -> Options {
        Options::from_bits_truncate(self.program.byte())
    }

    fn attributes(&mut self) -> Attributes {
        let (size, how) = (self.program.byte(), self.program.byte());
        Attributes {
            size: match size {
                255 => u64::MAX >> 2,
                254 => 300_000,
                253 => 65_537,
                size => size.into(),
            },
            mode: u32::from(how) << 1,
            mtime: Mtime::default(),
            traits: if how & 1 == 0 { Traits::empty() } else { Traits::HOLES },
        }
    }
}
