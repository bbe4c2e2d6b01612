use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

use sss::Eid;
use sss_files::{Attributes, Mtime, Options, RelPath, Traits};

use super::*;
use crate::transfer::limits::Limits;
use crate::transfer::limits::shares::Owner;
use crate::transfer::safe_path::Root;

const CONTENT: &[u8] = b"the beginning, and what is behind it";
const MTIME: Mtime = Mtime {
    seconds: 1_000_000_000,
    nanoseconds: 0,
};

/// Moment at which a request is dropped: when it waits for the `number`th time, or when it would go on then.
#[derive(Clone, Copy, Debug)]
struct Moment {
    number: u32,
    is_woken: bool,
}

impl Moment {
    /// All of them, in order.
    fn all() -> impl Iterator<Item = Self> {
        let both = |number| [false, true].map(|is_woken| Self { number, is_woken });
        (1..).flat_map(both)
    }

    /// Drops the request then. Returns whether it had come to its end before.
    async fn interrupts(self, request: impl Future<Output = ()>) -> bool {
        // Dropped after the request.
        let mut held = None;
        let (mut request, mut waits) = (pin!(request), 0);
        std::future::poll_fn(|cx| {
            if waits == self.number {
                return Poll::Ready(false);
            }
            held = Some(hold());
            if request.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            waits += 1;
            if waits == self.number && !self.is_woken {
                return Poll::Ready(false);
            }
            drop(held.take());
            Poll::Pending
        })
        .await
    }
}

/// Holds up what is begun with files, until it is dropped.
fn hold() -> std::sync::mpsc::Sender<()> {
    let (held, until) = std::sync::mpsc::channel();
    io_pool::start(move || until.recv().is_err());
    held
}

/// A runtime with one thread for blocking work, which is done in its order.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(1).build().unwrap()
}

async fn claim() -> Claim {
    let owner = Owner::of(Eid::from_public_key(&[1; 32]), None);
    Arc::new(Limits::new(2)).claim(owner).await
}

fn store<'c>(dir: &Path, size: u64, claim: &'c Claim) -> Store<'c> {
    let root = Arc::new(Root::open(dir).unwrap());
    let attributes = Attributes {
        size,
        mode: 0o600,
        mtime: MTIME,
        traits: Traits::empty(),
    };
    let to = Destination {
        root: root.clone(),
        path: RelPath::parse(b"f").unwrap(),
        attributes,
        options: Options::empty(),
        in_new_directory: false,
    };
    let quota = Arc::new(Quota::measure(&root, None).unwrap());
    Store { to, quota, claim }
}

/// Content comes in two pieces, and the request rests behind each of them.
async fn arrives(store: &Store<'_>, between: impl FnOnce()) {
    let (first, second) = CONTENT.split_at(13);
    let mut arrival = Arrival::new(store).await.unwrap();
    arrival.piece = first.into();
    arrival.write().await.unwrap();
    arrival.rest().await.unwrap();
    between();
    arrival.piece = second.into();
    arrival.write().await.unwrap();
    arrival.rest().await.unwrap();
}

/// Content under the temporary name once everything that was begun is done.
async fn left(dir: &Path) -> Option<Vec<u8>> {
    io_pool::run(|| ()).await;
    fs::read(dir.join(".f.sss-part")).ok()
}

// spec: FIL-10
#[test]
fn nothing_is_left_of_a_small_file_whenever_its_request_ends() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        for moment in Moment::all() {
            let claim = claim().await;
            let store = store(dir.path(), CONTENT.len() as u64, &claim);
            let has_ended = moment.interrupts(arrives(&store, || ())).await;
            assert_eq!(left(dir.path()).await, None, "{moment:?}");
            if has_ended {
                assert!(moment.number > 8, "it waited too seldom: {moment:?}");
                break;
            }
        }
    });
}

// spec: FIL-10
#[test]
fn what_has_come_of_a_large_file_is_left_unless_it_was_brought() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("f");
    let bring = || {
        fs::write(&there, vec![0; SEGMENT + 1]).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(MTIME.seconds as u64);
        fs::File::open(&there).unwrap().set_modified(time).unwrap();
    };
    for is_to_be_brought in [false, true] {
        let mut was_left = 0;
        runtime().block_on(async {
            for moment in Moment::all() {
                let claim = claim().await;
                let store = store(dir.path(), SEGMENT as u64 + 1, &claim);
                let rests = Cell::new(false);
                let between = || {
                    rests.set(true);
                    is_to_be_brought.then(bring);
                };
                let has_ended = moment.interrupts(arrives(&store, between)).await;
                let left = left(dir.path()).await;
                if rests.get() {
                    assert_eq!(left.is_some(), !is_to_be_brought, "{moment:?}");
                }
                if let Some(left) = left {
                    assert!(!left.is_empty() && CONTENT.starts_with(&left), "{moment:?}: {left:?}");
                    was_left += 1;
                    fs::remove_file(dir.path().join(".f.sss-part")).unwrap();
                }
                let _ = fs::remove_file(&there);
                if has_ended {
                    break;
                }
            }
        });
        assert!(was_left > 0, "it was always too early");
    }
}
