//! Running `sss`, serving directories, making and comparing trees.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// No command may take longer.
const LIMIT: Duration = Duration::from_secs(100);

/// A user with a configuration directory of its own, and room for files.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new directory.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_sss"))
    }

    /// Another program, as this user.
    pub(crate) fn command_of(&self, program: &str) -> Command {
        heed_interrupts();
        let mut command = Command::new(program);
        command
            .env("HOME", self.0.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env_remove("SSS_SERVER")
            .env_remove("SSS_TURN");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        let mut command = self.command();
        command.args(args);
        Ran::wait(command.spawn().unwrap())
    }

    /// Serves a directory on the loopback address.
    pub(crate) fn serve(&self, dir: &Path, args: &[&str]) -> Serving {
        self.serve_at("127.0.0.1:0", dir, args)
    }

    /// Serves a directory at an address.
    pub(crate) fn serve_at(&self, address: &str, dir: &Path, args: &[&str]) -> Serving {
        let mut command = self.command();
        command
            .arg("serve")
            .arg(dir)
            .args(["--bind", address])
            .args(access(args))
            .args(args)
            .stderr(Stdio::inherit());
        Serving::start(command.spawn().unwrap())
    }
}

/// Lets programs that are started end by SIGINT, also where the tests were started with SIGINT ignored, as a shell
/// starts what it runs in the background: a program that is executed inherits that, but no handler, in place of which
/// it has the default.
pub(crate) fn heed_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status");
        if !status.is_ok_and(|status| ignores_interrupts(&status)) {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let _inside = runtime.enter();
        // The handler stays when nobody waits for the signal any more.
        drop(signal(SignalKind::interrupt()).unwrap());
    });
}

/// Returns whether a process with this proc_pid_status(5) ignores SIGINT.
pub(crate) fn ignores_interrupts(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (Signal::INT.as_raw() - 1) != 0)
}

/// Everybody is served, unless the test is about that.
fn access(args: &[&str]) -> Option<&'static str> {
    let is_chosen = args
        .iter()
        .any(|arg| ["--allow", "--public", "--ticket", "--ticket-file"].contains(arg));
    (!is_chosen).then_some("--public")
}

/// A process that serves; killed when dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) target: String,
}

impl Serving {
    pub(crate) fn start(mut child: Child) -> Self {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let target = line
            .strip_prefix("listening ")
            .unwrap_or_else(|| panic!("first line: {line:?}"))
            .trim()
            .to_owned();
        Self { child, target }
    }

    /// A process that says to a file, as JSON, where it listens.
    pub(crate) fn start_into(mut child: Child, file: &Path) -> Self {
        let begun = Instant::now();
        let target = loop {
            let said = fs::read_to_string(file).unwrap();
            if let Some((line, _)) = said.split_once('\n') {
                let fact: Value = serde_json::from_str(line).unwrap();
                break fact["target"].as_str().unwrap().to_owned();
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < LIMIT, "{ended:?}: {said:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { child, target }
    }

    pub(crate) fn eid(&self) -> &str {
        self.target.split_once('@').unwrap().0
    }

    pub(crate) fn address(&self) -> &str {
        self.target.split_once('@').unwrap().1
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.target)
    }

    /// Stops it, or lets it go on: to its peers it is as if it were cut off from the network.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        let signal = if is_frozen { Signal::STOP } else { Signal::CONT };
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Returns how many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Returns how many bytes of memory it uses.
    pub(crate) fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// Returns how many bytes of memory it used at most.
    pub(crate) fn peak_memory(&self) -> usize {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// Tells it to end, and returns with which code it did.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a finished process left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn wait(mut child: Child) -> Self {
        let read = |from: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut from) = from {
                    from.read_to_end(&mut bytes).unwrap();
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let out = read(child.stdout.take().map(|s| Box::new(s) as _));
        let err = read(child.stderr.take().map(|s| Box::new(s) as _));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LIMIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("took too long; said:\n{}\n{}", out.join().unwrap(), err.join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let ran = Self {
            code: status.code(),
            out: out.join().unwrap(),
            err: err.join().unwrap(),
        };
        // Whatever a test is about: what is said to scripts is documented.
        crate::json_table::check(&ran.out);
        ran
    }

    /// It must have ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }

    /// Its errors must say all this.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in:\n{}", self.err);
        }
        self
    }

    /// The JSON lines.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// The JSON line of an event.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> Value {
        let found = self.json().into_iter().find(|fact| fact["event"] == name);
        found.unwrap_or_else(|| panic!("no {name:?} in:\n{}", self.out))
    }
}

/// What a tree holds, by path.
pub(crate) type Shape = BTreeMap<OsString, Thing>;

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    File {
        mode: u32,
        mtime: SystemTime,
        hash: blake3::Hash,
        len: u64,
    },
    Directory {
        mode: u32,
        mtime: SystemTime,
    },
    Link(PathBuf, SystemTime),
}

impl std::fmt::Debug for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { mode, len, hash, .. } => write!(f, "file {mode:o} {len} {}", &hash.to_hex()[..8]),
            Self::Directory { mode, .. } => write!(f, "directory {mode:o}"),
            Self::Link(to, _) => write!(f, "link to {}", to.display()),
        }
    }
}

/// Everything below a directory, without the directory itself. What a host at work renames meanwhile is left out.
pub(crate) fn shape(dir: &Path) -> Shape {
    let mut shape = Shape::new();
    collect(dir, Path::new(""), &mut shape);
    shape
}

fn collect(root: &Path, below: &Path, shape: &mut Shape) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        let meta = match fs::symlink_metadata(root.join(&path)) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let (mode, mtime) = (meta.mode() & 0o777, meta.modified().unwrap());
        let thing = if meta.is_dir() {
            collect(root, &path, shape);
            Thing::Directory { mode, mtime }
        } else if meta.is_symlink() {
            Thing::Link(fs::read_link(root.join(&path)).unwrap(), mtime)
        } else {
            let content = match fs::read(root.join(&path)) {
                Ok(content) => content,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let (hash, len) = (blake3::hash(&content), content.len() as u64);
            Thing::File { mode, mtime, hash, len }
        };
        shape.insert(path.into_os_string(), thing);
    }
}

/// Two trees must be the same in every respect.
#[track_caller]
pub(crate) fn assert_same(expected: &Path, actual: &Path) {
    let (expected, actual) = (shape(expected), shape(actual));
    let missing: Vec<_> = expected
        .iter()
        .filter(|(path, thing)| actual.get(*path) != Some(thing))
        .collect();
    let surplus: Vec<_> = actual
        .iter()
        .filter(|(path, thing)| expected.get(*path) != Some(thing))
        .collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "expected: {missing:?}\nactual: {surplus:?}"
    );
}

/// Bytes that look random but depend on the seed only.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_be_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A tree with everything that is hard about trees.
pub(crate) fn odd_tree(dir: &Path) {
    fs::create_dir_all(dir.join("empty")).unwrap();
    fs::create_dir_all(dir.join("a/b/c/d/e")).unwrap();
    fs::write(dir.join("zero"), "").unwrap();
    fs::write(dir.join("a/b/c/d/e/deep"), "deep").unwrap();
    for (i, len) in [1, 100, 65_535, 65_536, 262_143, 262_144, 262_145, 3_000_000]
        .into_iter()
        .enumerate()
    {
        fs::write(dir.join(format!("size-{len}")), noise(i as u64, len)).unwrap();
    }
    let names: [&[u8]; 9] = [
        b"\xff\xfe\x80",
        b"new\nline",
        b" ",
        b"-rf",
        b"a\\b",
        b"...",
        b"\x1b[31m",
        b"*?",
        "ä☃".as_bytes(),
    ];
    for name in names {
        fs::write(dir.join(OsString::from_vec(name.to_vec())), name).unwrap();
    }
    fs::write(dir.join(OsStr::from_bytes(&[b'x'; 255])), "long").unwrap();
    symlink("a/b", dir.join("to-directory")).unwrap();
    symlink("../outside/nothing", dir.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), dir.join("to-odd")).unwrap();
    symlink("/etc/passwd", dir.join("absolute")).unwrap();
    for (name, mode) in [
        ("zero", 0o400),
        ("size-1", 0o755),
        ("size-100", 0o600),
        ("a/b", 0o555),
        ("empty", 0o700),
    ] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let times = [
        ("size-1", 1_000_000_000_u64, 1),
        ("size-100", 0, 0),
        ("a/b/c", 999_999_999, 999_999_999),
    ];
    for (name, seconds, nanoseconds) in times {
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        fs::File::open(dir.join(name)).unwrap().set_modified(time).unwrap();
    }
}

/// Whether the tests run as root, who may do what others may not.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
