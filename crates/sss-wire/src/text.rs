//! Text: on the wire, and for people.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The longest beginning of `text` of at most `max` bytes that is whole characters.
pub fn truncate_text(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Text of a peer for people: whatever is not seen as itself is escaped, as in Rust's literals. That are control
/// characters, line breaks included, invisible characters, those that change the direction of what follows, spaces
/// other than the usual one, and code points without a meaning; and backslashes, so that two texts never look alike.
///
/// ```
/// assert_eq!(sss_wire::printable("fine, häßlich"), "fine, häßlich");
/// assert_eq!(sss_wire::printable("\x1b[2J\n"), "\\u{1b}[2J\\n");
/// assert_eq!(sss_wire::printable("fdp\u{202e}exe"), "fdp\\u{202e}exe");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c != '\\' && is_printable(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        if c != '\\' && is_printable(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    Cow::Owned(out)
}

/// Returns whether a character is seen as itself. Marks that belong to the letter before them are.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // Of the first character of a text, the standard library escapes also marks that belong to one before it.
    let mut pair = [b'x', 0, 0, 0, 0];
    let len = pair.get_mut(1..).map_or(0, |rest| c.encode_utf8(rest).len());
    let pair = pair.get(..len.saturating_add(1)).unwrap_or_default();
    let is_shown = std::str::from_utf8(pair).is_ok_and(|pair| pair.escape_debug().nth(1) != Some('\\'));
    is_shown && !is_blank(c)
}

/// Characters that show nothing, though they are letters, marks or symbols.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{1d159}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// A time for people: `10 s`, `2.5 s`, `25 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds > 0.0 && seconds < 0.1 {
            return write!(f, "{} ms", shortest(seconds * 1000.0));
        }
        let shown = if seconds < 100.0 {
            shortest(seconds)
        } else {
            format!("{seconds:.0}")
        };
        write!(f, "{shown} s")
    }
}

/// With one digit behind the point, or none if that is 0.
fn shortest(number: f64) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_as_itself_is_escaped() {
        for plain in ["", "a b", "häßlich", "a\u{308}", "名前", "שלום", "नमस्ते", "💾", "~!'\""] {
            assert_eq!(printable(plain), plain);
        }
        let hidden = [
            "\0",
            "\x07",
            "\x1b",
            "\n",
            "\r",
            "\t",
            "\x7f",
            "\u{80}",
            "\u{9b}",
            "\u{a0}",
            "\u{ad}",
            "\u{34f}",
            "\u{61c}",
            "\u{115f}",
            "\u{1160}",
            "\u{180e}",
            "\u{2000}",
            "\u{200b}",
            "\u{200d}",
            "\u{200e}",
            "\u{200f}",
            "\u{2028}",
            "\u{2029}",
            "\u{202a}",
            "\u{202e}",
            "\u{202f}",
            "\u{2060}",
            "\u{2066}",
            "\u{2069}",
            "\u{2800}",
            "\u{3000}",
            "\u{3164}",
            "\u{e000}",
            "\u{fe0f}",
            "\u{feff}",
            "\u{ffa0}",
            "\u{fff9}",
            "\u{ffff}",
            "\u{e0001}",
            "\u{e0100}",
            "\u{10ffff}",
        ];
        for text in hidden {
            let shown = printable(text);
            assert!(shown.starts_with('\\') && shown.is_ascii(), "{shown:?}");
        }
        assert_eq!(printable("a\\n\n"), "a\\\\n\\n");
    }

    #[test]
    fn times_are_short() {
        let shown = |us| Seconds(Duration::from_micros(us)).to_string();
        assert_eq!(shown(10_008_629), "10 s");
        assert_eq!(shown(2_500_000), "2.5 s");
        assert_eq!(shown(25_000), "25 ms");
        assert_eq!(shown(0), "0 s");
        assert_eq!(shown(123_456_789), "123 s");
    }
}
