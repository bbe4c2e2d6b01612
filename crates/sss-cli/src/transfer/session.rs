//! The greeting of a session, from both sides (FIL-30, FIL-31).

use std::time::{Duration, Instant};

use sss::{Eid, ListenMode, RecvHalf, SendHalf, Stream};
use sss_files::{Cursor, Greeting, MAX_GREETING, Refusal, Status, Stop};

use super::access::Door;
use super::exchange::TransferError;
use crate::ticket::Secret;

/// Time that a client has for its greeting.
const GREETING: Duration = Duration::from_secs(30);

/// Greets the server; what it answers is read by whoever finds that nothing else is answered.
///
/// # Errors
/// If the stream has ended.
pub(crate) async fn greet(session: &mut Stream, secret: Option<&Secret>) -> Result<(), TransferError> {
    let greeting = Greeting {
        secret: secret.map(|secret| &secret.as_bytes()[..]),
    };
    Ok(session.write_all(&greeting.encode()).await?)
}

/// Hears the greeting of a client, and answers it.
///
/// # Errors
/// If the session is not let in. Then it is told why, and its requests are refused.
pub(crate) async fn hear(halves: (&mut SendHalf, &mut RecvHalf), eid: Eid, door: &Door) -> Result<(), Refusal> {
    let (send, receive) = halves;
    let heard = tokio::time::timeout(
        GREETING,
        read(receive, |greeting| door.enter(eid, greeting, Instant::now())),
    );
    let entered = heard.await.unwrap_or_else(|_| Err(bad("no greeting came")));
    let mut answer = Vec::new();
    match &entered {
        Ok(()) => answer.push(Status::Ok as u8),
        Err(refusal) => refusal.encode(&mut answer),
    }
    // Whoever is gone needs no answer.
    let _ = send.write_all(&answer).await;
    if entered.is_err() {
        send.set_listen_mode(ListenMode::Reject);
        let _ = send.finish();
    }
    entered
}

async fn read(receive: &mut RecvHalf, take: impl FnOnce(&Greeting<'_>) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    loop {
        let mut cursor = Cursor::new(&bytes);
        match Greeting::decode(&mut cursor) {
            Ok(_) if cursor.remaining() > 0 => return Err(bad("there is more than a greeting")),
            Ok(greeting) => return take(&greeting),
            Err(Stop::Incomplete) if bytes.len() <= MAX_GREETING => {}
            Err(_) => return Err(bad("it did not begin with a greeting")),
        }
        match receive.read_chunk(MAX_GREETING).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            _ => return Err(bad("it ended before its greeting")),
        }
    }
}

fn bad(text: &str) -> Refusal {
    Refusal::new(Status::BadRequest, text)
}
