//! Display of a transfer while it goes on: a bar on a terminal, a line now and then elsewhere, JSON lines for
//! machines.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget};
use serde_json::json;
use sss::Seconds;
use tokio::task::JoinHandle;

use crate::error::advice_on;
use crate::output::{Output, count, json_path, rate, size};
use crate::screen;
use crate::transfer::tally::{Failure, Tally};

/// Columns of the bar at most; with less than the least there is none.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 8..=30;
/// Time without progress after which that is shown in place of the time that is left.
const QUIET: Duration = Duration::from_secs(3);
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
    has_bar: bool,
    begun: Instant,
}

impl Progress {
    /// Begins to show.
    pub(crate) fn start(tally: Arc<Tally>, output: Output) -> Self {
        let shown = Shown {
            tally,
            output,
            has_bar: !output.is_json() && screen::error_width().is_some(),
            begun: Instant::now(),
        };
        let ticker = tokio::spawn(shown.clone().tick());
        Self { shown, ticker }
    }

    /// Shows what was not shown yet, and says how it ended. `verb`: `received` or `sent`.
    pub(crate) fn finish(self, verb: &str) {
        self.shown.failures();
        screen::clear_bottom();
        self.shown.summary(verb);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ticker.abort();
        self.shown.failures();
        screen::clear_bottom();
    }
}

/// Line at the bottom of the terminal: how much there is of how much, how fast it is, and for how long it goes on.
struct Bar {
    /// Estimates the rate and the time left; it is not drawn.
    estimate: ProgressBar,
    /// Bytes at the last look, and since when there are not more.
    last: (u64, Instant),
    /// Rate and time left as of then: while nothing comes, nothing new is known of them.
    time: String,
}

impl Bar {
    fn new() -> Self {
        Self {
            estimate: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()),
            last: (0, Instant::now()),
            time: "just begun".to_owned(),
        }
    }

    fn line(&mut self, tally: &Tally, files: &str, width: usize) -> String {
        let (moved, total) = (tally.bytes_moved.get(), tally.bytes_found.get());
        let done = moved.saturating_add(tally.bytes_kept.get());
        // What was there already tells nothing of how fast the rest comes.
        self.estimate.set_length(total.saturating_sub(tally.bytes_kept.get()));
        self.estimate.set_position(moved);
        if self.last.0 != done {
            self.last = (done, Instant::now());
            self.time = match self.estimate.per_sec() as u64 {
                0 => "just begun".to_owned(),
                rate => format!("{}/s  {:#} left", size(rate), HumanDuration(self.estimate.eta())),
            };
        }
        let quiet = self.last.1.elapsed();
        let time = match quiet > QUIET {
            true => format!("nothing for {} s", quiet.as_secs()),
            false => self.time.clone(),
        };
        let words = format!("{}/{}  {time}  {files}", size(done), size(total));
        let room = width
            .saturating_sub(words.len())
            .saturating_sub(3)
            .min(*BAR_COLUMNS.end());
        if room < *BAR_COLUMNS.start() {
            return words;
        }
        let full = (u128::from(done) * room as u128 / u128::from(total.max(1))).min(room as u128) as usize;
        format!(
            "[{}{}] {words}",
            "#".repeat(full),
            "-".repeat(room.saturating_sub(full))
        )
    }
}

impl Shown {
    async fn tick(self) {
        let interval = if self.has_bar { BAR_INTERVAL } else { LINE_INTERVAL };
        let mut bar = Bar::new();
        let mut ticks = tokio::time::interval(interval);
        // Whoever was suspended says once how far it is.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.failures();
            match screen::bottom_width().filter(|_| self.has_bar) {
                Some(width) => screen::set_bottom(&bar.line(&self.tally, &self.files(), width)),
                None => self.line(),
            }
        }
    }

    /// `17/400 files`, with a `+` while more are found.
    fn files(&self) -> String {
        let tally = &self.tally;
        let done = tally.files_moved.get().saturating_add(tally.files_kept.get());
        let more = if tally.all_found.load(Ordering::Relaxed) {
            ""
        } else {
            "+"
        };
        let found = tally.files_found.get();
        let files = if found == 1 { "file" } else { "files" };
        format!("{done}/{found}{more} {files}")
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
            if self.output.is_json() {
                self.output.fact("", &json!({"event": "note", "text": text}));
            } else {
                self.output.note(format!("sss: {text}"));
            }
        }
        for Failure { path, refusal } in self.tally.take_failures() {
            if self.output.is_json() {
                let fact = json!({
                    "event": "failed",
                    "path": json_path(path.as_bytes()),
                    "status": refusal.status.to_string(),
                    "error": refusal.text,
                    "next": advice_on(&refusal),
                });
                self.output.fact("", &fact);
                continue;
            }
            self.output
                .note(format!("sss: {path}: {refusal}\n  -> {}", advice_on(&refusal)));
        }
        match self.tally.take_left_out() {
            0 => {}
            _ if self.output.is_json() => {}
            more => self.output.note(format!("sss: and {more} more, not told one by one")),
        }
    }

    fn summary(&self, verb: &str) {
        let tally = &self.tally;
        let moved = tally.bytes_moved.get();
        let time = self.begun.elapsed();
        let mut text = match (tally.files_moved.get(), tally.links.get()) {
            (0, 0) => format!("{verb} nothing, in {}", Seconds(time)),
            (0, _) => format!("{verb} no file, in {}", Seconds(time)),
            (files, _) => format!(
                "{verb} {}, {} in {} ({}), every one verified",
                count(files, "file"),
                size(moved),
                Seconds(time),
                rate(moved, time)
            ),
        };
        let kept = [
            (tally.links.get(), "symbolic link", "symbolic links"),
            (tally.files_kept.get(), "was there already", "were there already"),
            (
                tally.skipped.get(),
                "is no file and was left out",
                "are no files and were left out",
            ),
        ];
        for (number, one, many) in kept {
            match number {
                0 => {}
                1 => text.push_str(&format!("; 1 {one}")),
                _ => text.push_str(&format!("; {number} {many}")),
            }
        }
        if tally.failed() > 0 {
            text.push_str(&format!("; {} FAILED", tally.failed()));
        }
        self.output.prose(text, &self.facts("done"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_continued_counts_as_done_and_tells_nothing_of_the_rate() {
        let tally = Tally::default();
        tally.bytes_found.add(100 << 20);
        let attempt = tally.attempt();
        attempt.kept(75 << 20);
        let mut bar = Bar::new();
        let line = bar.line(&tally, "", 80);
        assert!(
            line.contains("75.00 MiB/100.00 MiB") && line.contains("just begun"),
            "{line}"
        );
        let full = line.chars().filter(|c| *c == '#').count();
        let empty = line.chars().filter(|c| *c == '-').count();
        assert!(full > 2 * empty && empty > 0, "{line}");
        assert_eq!((bar.estimate.length(), bar.estimate.position()), (Some(25 << 20), 0));
        attempt.moved(5 << 20);
        assert!(bar.line(&tally, "", 80).contains("80.00 MiB/100.00 MiB"));
        // While nothing more comes, nothing changes.
        std::thread::sleep(BAR_INTERVAL);
        attempt.moved(5 << 20);
        let line = bar.line(&tally, "", 80);
        assert!(line.contains("/s  "), "{line}");
        std::thread::sleep(BAR_INTERVAL * 8);
        assert_eq!(bar.line(&tally, "", 80), line);
        // Another attempt begins elsewhere.
        attempt.take_back();
        assert!(bar.line(&tally, "", 80).contains("0 B/100.00 MiB"));
        let attempt = tally.attempt();
        attempt.kept(99 << 20);
        attempt.kept_all(100 << 20);
        assert_eq!((tally.bytes_kept.get(), tally.files_kept.get()), (100 << 20, 1));
    }
}
