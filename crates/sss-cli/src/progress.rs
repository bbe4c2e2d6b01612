//! Display of a transfer while it goes on: a bar on a terminal, a line now and then elsewhere, JSON lines for
//! machines.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::error::advice;
use crate::output::{Output, json_path, rate, size};
use crate::transfer::tally::{Failure, Tally};

const BAR: &str = "{bar:30} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}";
/// Between two looks of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines, where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Shows a tally until it is finished or dropped.
pub(crate) struct Progress {
    shown: Shown,
    ticker: JoinHandle<()>,
}

#[derive(Clone)]
struct Shown {
    tally: Arc<Tally>,
    output: Output,
    bar: Option<ProgressBar>,
    begun: Instant,
}

impl Progress {
    /// Begins to show.
    pub(crate) fn start(tally: Arc<Tally>, output: Output) -> Self {
        let is_terminal = !output.is_json() && std::io::stderr().is_terminal();
        let shown = Shown {
            tally,
            output,
            bar: is_terminal.then(bar),
            begun: Instant::now(),
        };
        let ticker = tokio::spawn(shown.clone().tick());
        Self { shown, ticker }
    }

    /// Shows what was not shown yet, and says how it ended. `verb`: `received` or `sent`.
    pub(crate) fn finish(self, verb: &str) {
        self.shown.failures();
        if let Some(bar) = &self.shown.bar {
            bar.finish_and_clear();
        }
        self.shown.summary(verb);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ticker.abort();
        self.shown.failures();
        if let Some(bar) = &self.shown.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    // The template is a constant: were it wrong, the default style would do.
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

impl Shown {
    async fn tick(self) {
        let interval = if self.bar.is_some() {
            BAR_INTERVAL
        } else {
            LINE_INTERVAL
        };
        let mut ticks = tokio::time::interval(interval);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.failures();
            match &self.bar {
                Some(bar) => self.draw(bar),
                None => self.line(),
            }
        }
    }

    fn draw(&self, bar: &ProgressBar) {
        let tally = &self.tally;
        bar.set_length(tally.bytes_found.get());
        bar.set_position(tally.bytes_moved.get().saturating_add(tally.bytes_kept.get()));
        bar.set_message(self.files());
    }

    /// `17 of 400 files`, with a `+` while more are found.
    fn files(&self) -> String {
        let tally = &self.tally;
        let done = tally.files_moved.get().saturating_add(tally.files_kept.get());
        let more = if tally.all_found.load(Ordering::Relaxed) {
            ""
        } else {
            "+"
        };
        format!("{done} of {}{more} files", tally.files_found.get())
    }

    fn line(&self) {
        let moved = self.tally.bytes_moved.get();
        let time = self.begun.elapsed();
        if self.output.is_json() {
            self.output.fact("", &self.facts("progress"));
        } else {
            self.output
                .note(format!("{}, {}, {}", self.files(), size(moved), rate(moved, time)));
        }
    }

    fn failures(&self) {
        for text in self.tally.take_notes() {
            match &self.bar {
                _ if self.output.is_json() => self.output.fact("", &json!({"event": "note", "text": text})),
                Some(bar) => bar.suspend(|| self.output.note(format!("sss: {text}"))),
                None => self.output.note(format!("sss: {text}")),
            }
        }
        for Failure { path, refusal } in self.tally.take_failures() {
            if self.output.is_json() {
                let fact = json!({
                    "event": "failed",
                    "path": json_path(path.as_bytes()),
                    "status": refusal.status.to_string(),
                    "error": refusal.text,
                    "next": advice(refusal.status),
                });
                self.output.fact("", &fact);
                continue;
            }
            let text = format!("sss: {path}: {}\n  -> {}", refusal.text, advice(refusal.status));
            match &self.bar {
                Some(bar) => bar.suspend(|| self.output.note(&text)),
                None => self.output.note(&text),
            }
        }
    }

    fn summary(&self, verb: &str) {
        let tally = &self.tally;
        let moved = tally.bytes_moved.get();
        let time = self.begun.elapsed();
        let seconds = time.as_secs_f64();
        let mut text = match tally.files_moved.get() {
            0 => format!("{verb} nothing, in {seconds:.1} s"),
            files => format!(
                "{verb} {files} files, {} in {seconds:.1} s ({}), every one verified",
                size(moved),
                rate(moved, time)
            ),
        };
        let kept = [
            (tally.files_kept.get(), "were there already"),
            (tally.skipped.get(), "are no files and were left out"),
        ];
        for (count, what) in kept {
            if count > 0 {
                text.push_str(&format!("; {count} {what}"));
            }
        }
        if tally.failed() > 0 {
            text.push_str(&format!("; {} FAILED", tally.failed()));
        }
        self.output.fact(text, &self.facts("done"));
    }

    fn facts(&self, event: &str) -> serde_json::Value {
        let tally = &self.tally;
        json!({
            "event": event,
            "files_found": tally.files_found.get(),
            "bytes_found": tally.bytes_found.get(),
            "files_moved": tally.files_moved.get(),
            "bytes_moved": tally.bytes_moved.get(),
            "files_kept": tally.files_kept.get(),
            "bytes_kept": tally.bytes_kept.get(),
            "directories": tally.directories.get(),
            "links": tally.links.get(),
            "left_out": tally.skipped.get(),
            "failed": tally.failed(),
            "seconds": self.begun.elapsed().as_secs_f64(),
        })
    }
}
