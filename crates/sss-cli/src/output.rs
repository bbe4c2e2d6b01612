//! Output of the tool: facts on standard output, the rest on standard error. Whoever closed the other end is not our
//! concern; a disk that is full is.
//!
//! Text of a peer becomes printable where it is put into a sentence, by `printable` of the libraries or the `Display`
//! of their errors. Whatever is forgotten there is escaped here, on its way out; but here a line break is one.

use std::fmt::Write as _;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use sss::is_printable;
use sss_files::{Mtime, printable};
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::error::{Error, Exit, plain};
use crate::interrupt;
use crate::screen;
use crate::ticket::Ticket;

/// Reason why standard output takes nothing.
static FAILURE: OnceLock<Error> = OnceLock::new();
/// Nobody reads standard output any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Text for people, or JSON lines for machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// JSON lines if `json` is set.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Returns whether machines read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Returns whether nobody reads the facts any more, so that a command that only tells facts may end.
    pub(crate) fn is_closed(self) -> bool {
        CLOSED.load(Ordering::Relaxed)
    }

    /// One fact: `text` for people or `json` for machines.
    pub(crate) fn fact(self, text: impl AsRef<str>, json: &Value) {
        if self.json {
            line(&machine_line(json));
        } else {
            line(&escaped(text.as_ref()));
        }
    }

    /// As [`Self::fact`], of words that may be broken into lines.
    pub(crate) fn prose(self, text: impl AsRef<str>, json: &Value) {
        self.fact(wrapped(text.as_ref(), screen::output_width(), 2), json);
    }

    /// As [`Self::prose`], but for people on standard error.
    pub(crate) fn prose_aside(self, text: impl AsRef<str>, json: &Value) {
        if self.json {
            line(&machine_line(json));
        } else {
            let text = wrapped(text.as_ref(), screen::error_width(), 2);
            screen::error_text(&format!("{}\n", escaped(&text)));
        }
    }

    /// For machines only.
    pub(crate) fn machine(self, facts: &[Value]) {
        if self.json {
            let lines: Vec<String> = facts.iter().map(machine_line).collect();
            line(&lines.join("\n"));
        }
    }

    /// For people only. Words that may be broken into lines.
    pub(crate) fn text(self, text: impl AsRef<str>) {
        if !self.json {
            line(&escaped(&wrapped(text.as_ref(), screen::output_width(), 2)));
        }
    }

    /// For people only, on standard error. Words that may be broken into lines.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            let text = wrapped(text.as_ref(), screen::error_width(), 2);
            screen::error_text(&format!("{}\n", escaped(&text)));
        }
    }

    /// Prints why the command failed. If machines cannot be told, people are.
    pub(crate) fn error(self, error: &Error) {
        if self.json && FAILURE.get().is_none() {
            line(&Ticket::hidden_in(&machine_line(&error.json())));
        }
        if !self.json || FAILURE.get().is_some() {
            let text = Ticket::hidden_in(&format!("sss: {error}"));
            let text = wrapped(&text, screen::error_width(), 5);
            screen::error_line(&escaped(&text));
        }
    }
}

/// Returns why standard output takes nothing, if that is so.
pub(crate) fn failure() -> Option<Error> {
    FAILURE.get().cloned()
}

/// Notes what became of something printed to standard output. If it fails, the command is asked to end.
pub(crate) fn note_printed(printed: io::Result<()>) {
    match printed {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => CLOSED.store(true, Ordering::Relaxed),
        Err(error) => {
            let what = format!("cannot write to standard output: {}", plain(&error));
            let next = "free some space there, or send the output elsewhere";
            // The first reason is the one to tell.
            let _ = FAILURE.set(Error::new(Exit::Failed, what, next));
            interrupt::request();
        }
    }
}

fn line(line: &str) {
    note_printed(screen::output_text(&format!("{line}\n")));
}

/// Text without what would surprise a terminal.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || is_printable(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// A JSON value in one line, which is the same value with and without a terminal, and does not surprise one.
fn machine_line(json: &Value) -> String {
    let text = json.to_string();
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Text in lines of at most `width` columns, those that are not the first of a line of `text` indented; no word is
/// broken, and one that needs the whole line, or more, is not indented. As it is, if there is no width.
pub(crate) fn wrapped(text: &str, width: Option<usize>, indent: usize) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let indent = " ".repeat(indent);
    let options = Options::new(width)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let rows = text.lines().flat_map(|line| textwrap::wrap(line, &options));
    let rows: Vec<String> = rows.map(|row| outdented(&row, width).to_owned()).collect();
    rows.join("\n")
}

/// Only a single word makes a row too wide.
fn outdented(row: &str, width: usize) -> &str {
    if textwrap::core::display_width(row) > width {
        row.trim_start()
    } else {
        row
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {one}{ending}")
}

/// A path in JSON: as text, and in hexadecimal digits if it is not UTF-8.
pub(crate) fn json_path(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "hex": hex(bytes), "shown": printable(bytes) }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Bytes per second over a time, for people.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let per_second = bytes as f64 / time.as_secs_f64().max(1e-6);
    format!("{}/s", size(per_second as u64))
}

/// Milliseconds with three digits behind the point.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// `2026-05-09 07:29:33` in UTC.
pub(crate) fn date(time: Mtime) -> String {
    let days = time.seconds.div_euclid(86_400);
    let second = time.seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
}

/// Year, month and day of a number of days since 1970 in the Gregorian calendar: counted in eras of 400 years that
/// begin on the first of March, so that the leap day is the last of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    const MARCH_0000_TO_1970: i64 = 719_468;
    let shifted = days.saturating_add(MARCH_0000_TO_1970);
    let (era, day) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + carry, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_json_are_text_where_they_can_be() {
        assert_eq!(json_path(b"a"), Value::from("a"));
        assert_eq!(json_path(b"\xffa")["hex"], "ff61");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let shown = |seconds| {
            date(Mtime {
                seconds,
                nanoseconds: 0,
            })
        };
        assert_eq!(shown(0), "1970-01-01 00:00:00");
        assert_eq!(shown(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(shown(1_778_311_773), "2026-05-09 07:29:33");
        assert_eq!(shown(-1), "1969-12-31 23:59:59");
        assert_eq!(shown(4_107_542_400), "2100-03-01 00:00:00");
    }

    #[test]
    fn nothing_surprises_a_terminal_and_machines_read_what_was_meant() {
        assert_eq!(escaped("a\nb\x1b[2J\u{9b}\u{202e}"), "a\nb\\u{1b}[2J\\u{9b}\\u{202e}");
        let value = serde_json::json!({"a": "\x1b\u{9b}\u{7f}\u{202e}\u{e0001}ä\n\""});
        let line = machine_line(&value);
        assert!(line.chars().all(is_printable), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn no_word_is_broken() {
        let eid = "s".repeat(63);
        let text = format!("sss: the host at 127.0.0.1:4433 is {eid}, not --the-one\n  -> next");
        let shown = wrapped(&text, Some(40), 5);
        let lines: Vec<&str> = shown.lines().collect();
        let expected = [
            "sss: the host at 127.0.0.1:4433 is",
            &format!("{eid},"),
            "     not --the-one",
            "  -> next",
        ];
        assert_eq!(lines, expected);
        assert_eq!(wrapped(&text, None, 5), text);
        // What is copied begins at the edge if it does not fit otherwise.
        let target = format!("{eid}@192.0.2.7:7757");
        for (width, shown) in [
            (83, format!("it is\n     {target}")),
            (82, format!("it is\n{target}")),
            (77, format!("it is\n{target}")),
        ] {
            assert_eq!(wrapped(&format!("it is {target}"), Some(width), 5), shown);
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [count(0, "file"), count(1, "file"), count(2, "file")],
            ["0 files", "1 file", "2 files"]
        );
    }

    #[test]
    fn sizes_and_rates() {
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(rate(2048, Duration::from_secs(2)), "1.00 KiB/s");
        assert!((milliseconds(Duration::from_micros(1234)) - 1.234).abs() < 1e-9);
    }
}
