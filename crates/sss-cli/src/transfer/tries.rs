//! Requests that are refused now and may be granted later: when they are made again.

use std::time::{Duration, Instant};

use sss_files::{Refusal, Status};

use super::exchange::TransferError;

/// Time between two requests of what somebody else is at.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// Time to wait for others who are at the same file, together.
const LONGEST: Duration = Duration::from_secs(600);

/// Time of waiting after which it is told.
const QUIET: Duration = Duration::from_secs(1);

/// Number of times that something is asked for again, by reason.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    changed: u32,
    exists: u32,
    busy_since: Option<Instant>,
    is_told: bool,
}

impl Tries {
    /// Returns whether to try again what was refused so, after a pause if somebody else is at it.
    ///
    /// Cancel safe.
    pub(crate) async fn again(&mut self, status: Status) -> bool {
        match status {
            Status::Changed => {
                self.changed = self.changed.saturating_add(1);
                self.changed < 2
            }
            // It is there since we looked.
            Status::Exists => {
                self.exists = self.exists.saturating_add(1);
                self.exists < 2
            }
            Status::Busy => {
                let since = *self.busy_since.get_or_insert_with(Instant::now);
                let goes_on = since.elapsed() < LONGEST;
                if goes_on {
                    tokio::time::sleep(PAUSE).await;
                }
                goes_on
            }
            _ => false,
        }
    }

    /// Returns what is to be told of waiting, once, when it has become long.
    pub(crate) fn tell_once(&mut self, refusal: &Refusal) -> Option<String> {
        let since = self.busy_since.filter(|since| since.elapsed() > QUIET)?;
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let left = LONGEST.saturating_sub(since.elapsed()).as_secs().div_ceil(60);
        Some(format!("{}: waiting, for {left} minutes at most", refusal.text))
    }
}

/// Makes a request again for as long as the server has too much to do for it.
///
/// # Errors
/// Those of the request.
pub(crate) async fn until_there_is_room<T, F>(request: impl Fn() -> F) -> Result<T, TransferError>
where
    F: Future<Output = Result<T, TransferError>>,
{
    let mut tries = Tries::default();
    loop {
        match request().await {
            Err(TransferError::Refused(refusal))
                if refusal.status == Status::Busy && tries.again(refusal.status).await => {}
            done => return done,
        }
    }
}
