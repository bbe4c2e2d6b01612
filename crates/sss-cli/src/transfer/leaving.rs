//! The wait for what was written to leave, as the server's clock sees it.

use std::time::Duration;

use super::exchange::{Exchange, TransferError};
use super::limits::Claim;

/// Between two looks whether some of it has left.
const LOOK: Duration = Duration::from_millis(400);

/// Waits until everything written has left. False: the request has to pause before.
///
/// Cancel safe.
///
/// # Errors
/// If it never will leave.
pub(crate) async fn left(exchange: &Exchange, claim: &Claim) -> Result<bool, TransferError> {
    let mut sent = exchange.bytes_sent();
    loop {
        tokio::select! {
            left = exchange.sent() => {
                left?;
                claim.moved();
                return Ok(true);
            }
            () = claim.called_to_pause() => return Ok(false),
            () = tokio::time::sleep(LOOK) => {
                let now = exchange.bytes_sent();
                if now > sent {
                    sent = now;
                    claim.moved();
                }
            }
        }
    }
}
