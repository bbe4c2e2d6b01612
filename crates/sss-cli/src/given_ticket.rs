//! The ticket that `@` stands for: from a file or from the environment, so that neither the list of processes nor the
//! history of a shell shows it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Exit};
use crate::target::Target;
use crate::ticket::{Ticket, TicketError};
use crate::transfer::io_pool;

/// Variable of the environment that has a ticket.
const VARIABLE: &str = "SSS_TICKET";
/// Bytes of a file that are looked at.
const MOST: u64 = 64 << 10;

/// Puts the ticket that is given elsewhere, in a file if one is named, in the place of `@`.
///
/// # Errors
/// If the target needs a ticket and there is none, or needs none and a file is named; if others can read the file.
pub(crate) async fn completed(target: &Target, file: Option<&Path>) -> Result<Target, Error> {
    let target = target.clone();
    match (target.needs_ticket(), file) {
        (false, None) => Ok(target),
        (false, Some(_)) => {
            let what = format!("--ticket is given, and {target} does not need it");
            Err(usage(what, "write @ in place of the host, as in @/PATH"))
        }
        (true, Some(file)) => {
            let path = file.to_owned();
            let text = io_pool::run(move || read(&path)).await?;
            complete(target, &text, &file.display().to_string())
        }
        (true, None) => match std::env::var(VARIABLE) {
            Ok(text) => complete(target, &text, VARIABLE),
            Err(_) => {
                let what =
                    format!("@ stands for a ticket, and there is none: neither --ticket FILE nor {VARIABLE} is given");
                Err(usage(what, "give one of them"))
            }
        },
    }
}

fn usage(what: String, next: &str) -> Error {
    Error::new(Exit::Usage, what, next)
}

/// All that `sss serve` printed may be there: what counts is the first word that is meant to be a ticket.
fn complete(target: Target, text: &str, source: &str) -> Result<Target, Error> {
    let Some(word) = text.split_whitespace().find(|word| Ticket::is_meant_by(word)) else {
        let what = format!("there is no ticket in {source}");
        return Err(usage(
            what,
            "put the word there that `sss serve` printed behind `ticket`",
        ));
    };
    let ticket = word.parse::<Ticket>();
    let completed = ticket.map(|ticket| target.with_ticket(&ticket));
    completed.map_err(|error: TicketError| {
        usage(
            format!("{source}: {error}"),
            "copy it again from what `sss serve` printed",
        )
    })
}

fn read(path: &PathBuf) -> Result<String, Error> {
    let wrong = |error: io::Error| Error::local(path, "read the ticket in", &error);
    let file = File::open(path).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        let shown = path.display();
        let what = format!("others can read the ticket in {shown}, or change it");
        return Err(Error::new(Exit::Failed, what, format!("chmod 600 {shown}")));
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}
