//! The access log: a line for each request, on standard error, or as JSON.
//!
//! It is written by a thread of its own: whoever does not read it holds up nobody. What it cannot keep up with is
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};
use sss::Eid;
use sss_files::{Mtime, printable};

use crate::output::{Output, date, json_path, size};
use crate::transfer::served::{Log, Served};

/// Lines that may wait to be written.
const WAITING: usize = 8192;

/// Lines that are written together, beside the first.
const TOGETHER: usize = 127;

/// Begins to log.
pub(crate) fn start(output: Output) -> Log {
    let (sender, receiver) = sync_channel(WAITING);
    let missed = Arc::new(AtomicU64::new(0));
    let told = missed.clone();
    std::thread::spawn(move || write(&receiver, &told, output));
    Arc::new(move |served| {
        if sender.try_send(served).is_err() {
            missed.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// For a server whose requests are of no interest.
pub(crate) fn none() -> Log {
    Arc::new(|_| ())
}

fn write(lines: &Receiver<Served>, missed: &AtomicU64, output: Output) {
    let mut last = LastEid::default();
    while let Ok(first) = lines.recv() {
        // Those that have come meanwhile are written together.
        let together = std::iter::once(first).chain(lines.try_iter().take(TOGETHER));
        if output.is_json() {
            let facts: Vec<Value> = together.map(|served| fact(&served, last.text_of(served.eid))).collect();
            output.machine(&facts);
        } else {
            together.for_each(|served| output.note(text(&served, last.text_of(served.eid))));
        }
        let missed = missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            output.prose_aside(
                format!(
                    "{}  {missed} requests are not logged: there were too many at once",
                    now()
                ),
                &json!({"event": "not_logged", "requests": missed}),
            );
        }
    }
}

/// Text form of the EID that came last: it often comes again.
#[derive(Default)]
struct LastEid(Option<(Eid, String)>);

impl LastEid {
    fn text_of(&mut self, eid: Eid) -> &str {
        if self.0.as_ref().is_some_and(|(last, _)| *last != eid) {
            self.0 = None;
        }
        &self.0.get_or_insert_with(|| (eid, eid.to_string())).1
    }
}

fn fact(served: &Served, eid: &str) -> Value {
    let status = served
        .refusal
        .as_ref()
        .map_or_else(|| "Ok".to_owned(), |refusal| refusal.status.to_string());
    json!({
        "event": "request",
        "eid": eid,
        "address": served.address.map(|address| address.to_string()),
        "request": served.what,
        "path": json_path(served.path.as_bytes()),
        "sent": served.sent,
        "received": served.received,
        "seconds": served.time.as_secs_f64(),
        "status": status,
        "error": served.refusal.as_ref().map(|refusal| refusal.text.clone()),
    })
}

fn text(served: &Served, eid: &str) -> String {
    let path = served.path.as_bytes();
    let path = if path.is_empty() { "." } else { &printable(path) };
    let address = served.address.map(|address| format!(" {address}")).unwrap_or_default();
    let result = served.refusal.as_ref().map_or("ok", |refusal| refusal.text.as_str());
    format!(
        "{}  {eid}{address}  {} {path}  {}  {}",
        now(),
        served.what,
        size(served.sent.saturating_add(served.received)),
        printable(result.as_bytes())
    )
}

/// The time, for people.
fn now() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    date(Mtime {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: 0,
    })
}
