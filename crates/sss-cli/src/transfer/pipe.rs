//! The content of one file to standard output.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use sss_files::{Refusal, RelPath, Request, Status, Verdict};

use super::download::content_head;
use super::exchange::{Exchange, SEGMENT, TransferError};
use super::io_pool;
use super::rate::Limiter;
use super::session::Session;
use super::tries::until_there_is_room;

/// Writes a file of the server to standard output. Says how many bytes it had. What was written is known to be right
/// only when this returns.
///
/// # Errors
/// If it is no file, cannot be read, was changed meanwhile, or arrives wrong; if standard output takes no more.
pub(crate) async fn to_stdout(
    session: &Session,
    path: RelPath,
    limit: Option<&Arc<Limiter>>,
) -> Result<u64, TransferError> {
    let request = Request::Fetch { path, have: None };
    let asking = until_there_is_room(|| async {
        let mut exchange = Exchange::ask(session, &request).await?.limited(limit);
        let head = exchange.message(content_head).await??;
        Ok((exchange, head))
    });
    let (mut exchange, (attributes, start)) = asking.await?;
    if start != 0 {
        return Err(TransferError::Protocol(
            "it starts behind the beginning of a file".to_owned(),
        ));
    }
    let mut hasher = blake3::Hasher::new();
    let mut left = attributes.size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(SEGMENT).min(SEGMENT);
        let chunks = exchange.content(count).await?;
        left = left.saturating_sub(count as u64);
        hasher = io_pool::run(move || write(&chunks, hasher))
            .await
            .map_err(|error| TransferError::Disk(Refusal::new(Status::Io, format!("standard output: {error}"))))?;
    }
    let Verdict(hash) = exchange.message(Verdict::decode).await?;
    if hash? != hasher.finalize() {
        let text = "what went to standard output is not what was sent: do not use it";
        return Err(Refusal::new(Status::Corrupt, text).into());
    }
    exchange.end().await?;
    Ok(attributes.size)
}

fn write(chunks: &[Bytes], mut hasher: blake3::Hasher) -> io::Result<blake3::Hasher> {
    let mut out = io::stdout().lock();
    for chunk in chunks {
        hasher.update(chunk);
        out.write_all(chunk)?;
    }
    out.flush()?;
    Ok(hasher)
}
