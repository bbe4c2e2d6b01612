//! Output of the tool: facts on standard output, the rest on standard error. Whoever closed the other end is not our
//! concern.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;
use sss_files::{Mtime, printable};

use crate::error::Error;

/// Text for people, or JSON lines for machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// JSON lines if `json` is set.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Returns whether machines read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One fact: `text` for people or `json` for machines.
    pub(crate) fn fact(self, text: impl AsRef<str>, json: &Value) {
        if self.json {
            self.line(&json.to_string());
        } else {
            self.line(text.as_ref());
        }
    }

    /// For people only.
    pub(crate) fn text(self, text: impl AsRef<str>) {
        if !self.json {
            self.line(text.as_ref());
        }
    }

    /// For people only, on standard error.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
        }
    }

    /// Prints why the command failed.
    pub(crate) fn error(self, error: &Error) {
        if self.json {
            self.line(&error.json().to_string());
        } else {
            let _ = writeln!(std::io::stderr(), "sss: {error}");
        }
    }

    fn line(self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
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
    fn sizes_and_rates() {
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(rate(2048, Duration::from_secs(2)), "1.00 KiB/s");
        assert!((milliseconds(Duration::from_micros(1234)) - 1.234).abs() < 1e-9);
    }
}
