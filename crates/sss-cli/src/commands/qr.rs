//! QR codes of tickets, for screens.

use std::io::{self, IsTerminal};

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::Value;

use crate::error::{Error, Exit};
use crate::output::Output;
use crate::screen;

/// Shows a ticket as a QR code. A terminal gets half blocks: light ones, as most terminals show light text on dark.
/// Anything else gets `##` for each dark module, as for paper. Machines get nothing: they have the ticket.
///
/// # Errors
/// If it is too long for a QR code.
pub(crate) fn show(ticket: &str, output: Output) -> Result<(), Error> {
    if output.is_json() {
        return Ok(());
    }
    let code = code(ticket, io::stdout().is_terminal())?;
    let columns = code.lines().next().unwrap_or_default().chars().count();
    match screen::output_width().filter(|width| *width < columns) {
        Some(_) => output.note(format!("the QR code has {columns} columns: make the window wider")),
        None => output.fact(code, &Value::Null),
    }
    Ok(())
}

/// The rows of a QR code. Capitals take two thirds of the room (ISO/IEC 18004, 7.4.4), and mean the same (FIL-40).
fn code(ticket: &str, blocks: bool) -> Result<String, Error> {
    let capitals = ticket.to_ascii_uppercase();
    let code = QrCode::with_error_correction_level(&capitals, EcLevel::L).map_err(|error| {
        let what = format!("the ticket does not fit into a QR code: {error}");
        Error::new(
            Exit::Failed,
            what,
            "give it as text, or name fewer servers and addresses",
        )
    })?;
    Ok(match blocks {
        true => code
            .render::<Dense1x2>()
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .build(),
        false => code
            .render::<char>()
            .dark_color('#')
            .light_color(' ')
            .module_dimensions(2, 1)
            .build(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_shown_with_a_quiet_zone() {
        let ticket = format!("ssst1{}", "q".repeat(150));
        let rows = code(&ticket, false).unwrap();
        let rows: Vec<&str> = rows.lines().collect();
        // 4 light modules on each side (ISO/IEC 18004, 6.3.8), and the edge of a finder pattern.
        assert!(rows[..4].iter().all(|row| row.trim().is_empty()), "{rows:?}");
        assert!(
            rows[4].starts_with(&format!("{}{}  ", " ".repeat(8), "#".repeat(14))),
            "{}",
            rows[4]
        );
        assert_eq!(rows.len() * 2, rows[4].len());
        let blocks = code(&ticket, true).unwrap();
        assert_eq!(blocks.lines().count(), rows.len().div_ceil(2));
        assert!(code(&"q".repeat(5000), false).is_err());
    }
}
