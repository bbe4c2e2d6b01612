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

/// Reason why the content of a file has not come to standard output.
pub(crate) enum Unpiped {
    /// It has not come to this side.
    Transfer(TransferError),
    /// Standard output takes no more.
    Output(io::Error),
}

impl<E: Into<TransferError>> From<E> for Unpiped {
    fn from(error: E) -> Self {
        Self::Transfer(error.into())
    }
}

/// Writes a file of the server to standard output. Says how many bytes it had. What was written is known to be right
/// only when this returns.
///
/// # Errors
/// If it is no file, cannot be read, was changed meanwhile, or arrives wrong; if standard output takes no more.
pub(crate) async fn to_stdout(session: &Session, path: RelPath, limit: Option<&Arc<Limiter>>) -> Result<u64, Unpiped> {
    let request = Request::Fetch { path, have: None };
    let asking = until_there_is_room(|| async {
        let mut exchange = Exchange::ask(session, &request).await?.limited(limit);
        let head = exchange.message(content_head).await??;
        Ok((exchange, head))
    });
    let (mut exchange, (attributes, start)) = asking.await?;
    if start != 0 {
        let what = "it starts behind the beginning of a file";
        return Err(TransferError::Protocol(what.to_owned()).into());
    }
    let mut hasher = blake3::Hasher::new();
    let mut left = attributes.size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(SEGMENT).min(SEGMENT);
        let chunks = exchange.content(count).await?;
        left = left.saturating_sub(count as u64);
        let written = io_pool::run(move || write(&chunks, hasher)).await;
        hasher = written.map_err(Unpiped::Output)?;
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
