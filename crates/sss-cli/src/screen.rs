//! Standard output and standard error, which may be one terminal, with a line at its bottom that says how far a
//! command has come. Whatever is printed goes above that line.

use std::io::{self, IsTerminal, Write};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Moves to the beginning of the line, and erases it.
const ERASE: &str = "\r\x1b[K";
/// Columns that the line at the bottom leaves free: for `^C`, which a terminal shows where the cursor is, and the
/// cursor itself. In the last column a terminal begins another line.
const MARGIN: usize = 4;
/// Columns of a terminal that does not say how many it has.
const USUAL_WIDTH: usize = 80;

/// Answers whether each of the two is a terminal that understands [`ERASE`].
static OUTPUT_ERASES: LazyLock<bool> = LazyLock::new(|| erases(&io::stdout()));
static ERROR_ERASES: LazyLock<bool> = LazyLock::new(|| erases(&io::stderr()));

fn erases(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Returns whether standard error is a terminal that shows colours to somebody who wants them.
pub(crate) fn has_colours() -> bool {
    *ERROR_ERASES && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Beginning of a line: between two lines a terminal may have shown `^C` where the cursor is.
fn beginning(erases: bool) -> &'static str {
    if erases { ERASE } else { "" }
}

/// The line at the bottom; empty: there is none.
static BOTTOM: Mutex<String> = Mutex::new(String::new());

/// Returns how many columns standard error has, if it is a terminal.
pub(crate) fn error_width() -> Option<usize> {
    width_of(io::stderr())
}

/// Returns how many columns standard output has, if it is a terminal.
pub(crate) fn output_width() -> Option<usize> {
    width_of(io::stdout())
}

fn width_of(stream: impl IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    stream.is_terminal().then(|| {
        let size = rustix::termios::tcgetwinsize(stream).ok();
        let columns = size.map(|size| usize::from(size.ws_col));
        columns.filter(|columns| *columns > 0).unwrap_or(USUAL_WIDTH)
    })
}

/// Columns that the line at the bottom may have, if there is a terminal.
pub(crate) fn bottom_width() -> Option<usize> {
    let width = error_width().filter(|_| *ERROR_ERASES);
    width.map(|width| width.saturating_sub(MARGIN))
}

/// Shows another line at the bottom of the terminal, of ASCII characters; what does not fit is cut.
pub(crate) fn set_bottom(line: &str) {
    let Some(width) = bottom_width() else { return };
    let line = line.get(..width).unwrap_or(line);
    let mut bottom = BOTTOM.lock().unwrap_or_else(PoisonError::into_inner);
    line.clone_into(&mut bottom);
    // A terminal that is gone needs no line.
    let _ = io::stderr().lock().write_all(format!("{ERASE}{line}").as_bytes());
}

/// Removes the line at the bottom.
pub(crate) fn clear_bottom() {
    let mut bottom = BOTTOM.lock().unwrap_or_else(PoisonError::into_inner);
    if !bottom.is_empty() {
        bottom.clear();
        let _ = io::stderr().lock().write_all(ERASE.as_bytes());
    }
}

/// Prints to standard error, above the line at the bottom. There is nobody to tell that it failed.
pub(crate) fn error_text(text: &str) {
    let _ = above(io::stderr(), *ERROR_ERASES, text);
}

/// Prints a last line to standard error, in place of the line at the bottom.
pub(crate) fn error_line(line: &str) {
    clear_bottom();
    error_text(&format!("{line}\n"));
}

/// Prints to standard output, above the line at the bottom.
///
/// # Errors
/// What the operating system says.
pub(crate) fn output_text(text: &str) -> io::Result<()> {
    above(io::stdout(), *OUTPUT_ERASES, text)
}

fn above(mut stream: impl Write, erases: bool, text: &str) -> io::Result<()> {
    let bottom = BOTTOM.lock().unwrap_or_else(PoisonError::into_inner);
    if !bottom.is_empty() {
        let _ = io::stderr().lock().write_all(ERASE.as_bytes());
    }
    let text = format!("{}{text}", beginning(erases));
    let printed = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    if !bottom.is_empty() {
        let _ = io::stderr().lock().write_all(bottom.as_bytes());
    }
    printed
}

/// Standard error for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        error_text(&String::from_utf8_lossy(buf));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
