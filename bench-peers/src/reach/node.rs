//! A host or a server of a run, in a process of its own: what it does is the same for each system.
//!
//! It says what it has to say as lines of JSON, and ends when it is killed, or has told what it measured.

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};
use sss_bench::Outcome;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{iroh, sss};

/// Bytes of a request, and of its answer.
const MESSAGE: usize = 100;
/// First byte of a request for an answer of the same length, and of one for the whole content.
const ECHO: u8 = 0;
const BULK: u8 = 1;
/// Bytes of the content.
const CONTENT: usize = 20_000_000;
/// Requests of a call, and the time from one to the next.
const ROUNDS: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(250);
/// Gaps in a transfer that are told of.
const GAP: Duration = Duration::from_millis(20);
/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Time that a host has to end what it began.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// A place where hosts are found: the server's address, and what it is known by.
pub(crate) struct Place {
    pub(crate) at: Ipv4Addr,
    pub(crate) key: String,
}

/// A stream to a host that was called.
pub(crate) struct Call<W, R> {
    pub(crate) writer: W,
    pub(crate) reader: R,
    /// Says whether what is sent now goes directly.
    pub(crate) is_direct: Box<dyn Fn() -> bool + Send>,
    /// The time at which the endpoint was there, and connecting began.
    pub(crate) built: Instant,
}

/// Runs one: `relay ADDRESS`, `listen ADDRESS KEY`, `call ADDRESS KEY ID rounds|bulk`.
pub(crate) fn run(system: &str, role: &[&str]) -> Outcome<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build()?.block_on(async {
        match (system, role) {
            ("sss", ["relay", at]) => sss::relay(at.parse()?).await,
            ("iroh", ["relay", at]) => iroh::relay(at.parse()?).await,
            ("sss", ["listen", at, key]) => sss::listen(&place(at, key)?).await,
            ("iroh", ["listen", at, key]) => iroh::listen(&place(at, key)?).await,
            ("sss", ["call", at, key, id, what]) => sss::call(&place(at, key)?, id, what).await,
            ("iroh", ["call", at, key, id, what]) => iroh::call(&place(at, key)?, id, what).await,
            _ => Err(format!("{system} has no role {role:?}").into()),
        }
    })
}

fn place(at: &str, key: &str) -> Outcome<Place> {
    Ok(Place {
        at: at.parse()?,
        key: key.to_owned(),
    })
}

/// Tells who asked for this process something.
pub(crate) fn tell(line: &Value) {
    println!("{line}");
}

/// Tells that it is ready, and waits until it is killed.
pub(crate) async fn stay(line: &Value) -> Outcome<()> {
    tell(line);
    pending().await
}

/// The content: words that do not repeat.
fn content() -> Bytes {
    let word = |n: usize| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes();
    (0..CONTENT / 4).flat_map(word).collect()
}

/// Answers what comes on a stream, until the caller ends it.
pub(crate) async fn answer(mut writer: impl AsyncWrite + Unpin, mut reader: impl AsyncRead + Unpin) -> Outcome<()> {
    let mut request = [ECHO; MESSAGE];
    while reader.read_exact(&mut request).await.is_ok() {
        match request[0] {
            BULK => writer.write_all(&content()).await?,
            _ => writer.write_all(&request).await?,
        }
        writer.flush().await?;
    }
    Ok(writer.shutdown().await?)
}

/// Measures a call that began at `begun`, and tells of it.
pub(crate) async fn measure<W, R>(begun: Instant, call: Call<W, R>, what: &str) -> Outcome<()>
where
    W: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let (mut writer, mut reader) = (call.writer, call.reader);
    let paths = Arc::new(Mutex::new(Vec::new()));
    let watched = tokio::spawn(watch(begun, call.is_direct, paths.clone()));
    let measured = async {
        match what {
            "bulk" => bulk(&mut writer, &mut reader).await,
            _ => rounds(begun, &mut writer, &mut reader).await,
        }
    };
    let mut line = match tokio::time::timeout(PATIENCE, measured).await {
        Ok(line) => line?,
        Err(_) => json!({ "error": format!("nothing more in {PATIENCE:?}") }),
    };
    watched.abort();
    line["built_ms"] = json!(ms(call.built - begun));
    line["direct"] = json!(paths.lock().map(|paths| paths.clone()).unwrap_or_default());
    tell(&line);
    // The other side is told that nothing more is wanted. It may have been lost.
    let _ = writer.shutdown().await;
    Ok(())
}

/// Notes when the way changes: milliseconds from the beginning, and whether it is direct from then on.
async fn watch(begun: Instant, is_direct: Box<dyn Fn() -> bool + Send>, paths: Arc<Mutex<Vec<(f64, bool)>>>) {
    let (mut ticks, mut latest) = (tokio::time::interval(Duration::from_millis(1)), None);
    loop {
        let now = is_direct();
        if latest != Some(now)
            && let Ok(mut paths) = paths.lock()
        {
            paths.push((ms(begun.elapsed()), now));
        }
        latest = Some(now);
        ticks.tick().await;
    }
}

/// Requests and answers, one after another; the first byte of the first answer counts by itself.
async fn rounds(
    begun: Instant,
    writer: &mut (impl AsyncWrite + Unpin),
    reader: &mut (impl AsyncRead + Unpin),
) -> Outcome<Value> {
    let (mut first, mut rounds) = (None, Vec::new());
    let mut next = tokio::time::Instant::now();
    for _ in 0..ROUNDS {
        tokio::time::sleep_until(next).await;
        next += INTERVAL;
        let (sent, mut answer) = (Instant::now(), [ECHO; MESSAGE]);
        writer.write_all(&answer).await?;
        writer.flush().await?;
        answer[0] = reader.read_u8().await?;
        first.get_or_insert_with(|| ms(begun.elapsed()));
        reader.read_exact(&mut answer[1..]).await?;
        rounds.push((ms(sent - begun), ms(sent.elapsed())));
    }
    Ok(json!({ "first_byte_ms": first, "rounds": rounds }))
}

/// The whole content, and the gaps in which nothing of it came: at which time each began (seconds since 1970), and how
/// long it was.
async fn bulk(writer: &mut (impl AsyncWrite + Unpin), reader: &mut (impl AsyncRead + Unpin)) -> Outcome<Value> {
    let (content, mut gaps) = (content(), Vec::new());
    let (mut buffer, mut at, mut is_whole) = (vec![0; 1 << 16], 0, true);
    let mut latest: Option<(Instant, f64)> = None;
    writer.write_all(&[BULK; MESSAGE]).await?;
    writer.flush().await?;
    let error = loop {
        let now = match reader.read(&mut buffer).await {
            Ok(0) => break Some("it ended early".to_owned()),
            Ok(length) => {
                is_whole &= content.get(at..at + length) == Some(&buffer[..length]);
                at += length;
                (Instant::now(), SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64())
            }
            Err(error) => break Some(error.to_string()),
        };
        match latest {
            None => tell(&json!({ "begun": true })),
            Some((before, time)) if now.0 - before >= GAP => gaps.push((time, ms(now.0 - before))),
            Some(_) => {}
        }
        latest = Some(now);
        if at >= content.len() {
            break None;
        }
    };
    Ok(json!({ "bytes": at, "whole": is_whole && at == content.len(), "gaps": gaps, "error": error }))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
