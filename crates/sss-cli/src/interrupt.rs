//! The signals that end the program: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is closed) unless whoever began
//! it wants that to be ignored, as `nohup` does.
//!
//! They are awaited on a thread of their own, because the one that runs commands may be busy or stuck: in a walk of
//! the disk, in a pipe that nobody reads. The first signal asks the command to end, and gives it a moment for that. A
//! second signal, or the end of the moment, ends the process whatever it does; work on other threads, such as hashing,
//! is abandoned then. What is on the disk is such that this does no harm.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, Exit};
use crate::screen;

/// Time that a command has to end by itself. With what it takes to end the process it stays below a second.
const GRACE: Duration = Duration::from_millis(700);
/// Time for the last words, if the terminal takes them.
const LAST_WORDS: Duration = Duration::from_millis(100);

static REQUESTED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::channel(false).0);

/// Advice for after an interruption.
static NEXT: OnceLock<&str> = OnceLock::new();

/// Set if the command runs until it is told to end.
static IS_SERVICE: AtomicBool = AtomicBool::new(false);

/// The command runs until it is told to end: a signal is no interruption of it, and it has done what it was to do even
/// if its farewells take too long.
pub(crate) fn is_awaited() {
    IS_SERVICE.store(true, Ordering::Relaxed);
}

/// Begins to wait for signals. `next`: what to do after one.
///
/// # Errors
/// If the operating system gives no thread, or nothing to wait with.
pub(crate) fn start(next: &'static str) -> io::Result<()> {
    // It is called once.
    let _ = NEXT.set(next);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_hangup_ignored() {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
        }
    };
    let wait = async move {
        signals.next().await;
        request();
        // Whether it is the time that ends or another signal that comes: there is nothing more to wait for.
        let _ = tokio::time::timeout(GRACE, signals.next()).await;
        end();
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// Asks the program to end, as a signal does.
pub(crate) fn request() {
    REQUESTED.send_replace(true);
}

/// Waits until the program is asked to end; for ever, if it is not.
///
/// Cancel safe.
pub(crate) async fn requested() {
    // The sender is never dropped.
    let _ = REQUESTED.subscribe().wait_for(|requested| *requested).await;
}

/// Returns whether the program was asked to end.
pub(crate) fn is_requested() -> bool {
    *REQUESTED.borrow()
}

/// Does `work`, unless the program is asked to end.
///
/// # Errors
/// Those of the work, or that it was interrupted.
pub(crate) async fn or<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = requested() => Err(error()),
        result = work => result,
    }
}

/// The command was interrupted.
pub(crate) fn error() -> Error {
    let next = NEXT.get().copied().unwrap_or("run the same command again");
    Error::new(Exit::Interrupted, "interrupted", next)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hung_up(self.hangup.as_mut()) => {}
        }
    }
}

async fn hung_up(hangup: Option<&mut Signal>) -> Option<()> {
    match hangup {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns whether SIGHUP is ignored, or nobody can say: `SigIgn` of proc_pid_status(5).
fn is_hangup_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return true;
    };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask & 1 == 1)
}

/// Ends the process. Another thread may hold the terminal, and the terminal may hold that thread.
fn end() -> ! {
    if IS_SERVICE.load(Ordering::Relaxed) {
        std::process::exit(Exit::Done as i32);
    }
    let (said, heard) = std::sync::mpsc::channel();
    let words = move || {
        screen::error_line(&format!("sss: {}", error()));
        let _ = said.send(());
    };
    // Without a thread nothing is said.
    let _ = std::thread::Builder::new().spawn(words);
    let _ = heard.recv_timeout(LAST_WORDS);
    std::process::exit(Exit::Interrupted as i32)
}
