//! Numbers of a registration server, for Prometheus: its text format (version 0.0.4) over HTTP.
//!
//! They are counters and gauges without labels that the host keeps anyway, so that a registry would only copy them; and
//! a request is answered with the whole page whatever it asks for, so that little of HTTP is needed (RFC 9112).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sss::{Host, ServerStats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::commands::rendezvous::open_tunnels;
use crate::error::{Error, Exit};

/// Connections at a time; others wait.
const MOST: usize = 16;
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 8192;
/// Time for a request and its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds the address.
///
/// # Errors
/// If it is taken, or not of this machine.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = format!("cannot listen for metrics at {address}: {error}");
        Error::new(
            Exit::Failed,
            what,
            "give --metrics another address of this machine, such as 127.0.0.1:9757",
        )
    })
}

/// Answers requests as long as the host is there.
pub(crate) async fn serve(listener: TcpListener, host: Host) {
    let room = Arc::new(Semaphore::new(MOST));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let stats = (host.rendezvous_stats().unwrap_or_default(), open_tunnels(&host));
        tokio::spawn(async move {
            // Whoever does not hear it asks again.
            let _ = tokio::time::timeout(PATIENCE, answer(connection, stats)).await;
            drop(permit);
        });
    }
}

async fn answer(mut connection: TcpStream, stats: (ServerStats, u64)) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let n = connection.read(&mut bytes).await?;
        head.extend_from_slice(bytes.get(..n).unwrap_or_default());
        if n == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
    }
    let is_wanted = [&b"GET /metrics "[..], b"GET / "]
        .iter()
        .any(|begin| head.starts_with(begin));
    let (status, body) = match is_wanted {
        true => ("200 OK", page(stats)),
        false => ("404 Not Found", "the numbers are at /metrics\n".to_owned()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}

/// The page, for what a server has done and the number of its tunnels.
fn page((stats, tunnels): (ServerStats, u64)) -> String {
    let gauges = [
        ("registered", stats.leases, "Hosts that are registered now"),
        ("introductions", stats.introductions, "Introductions under way"),
        (
            "relay_handles",
            stats.handles,
            "Handles of the relay, two for each pair of hosts",
        ),
        ("tunnels", tunnels, "Tunnels of TLS that are open"),
    ];
    let counters = [
        ("renewed_total", stats.renewed, "Renewals of registrations"),
        ("introduced_total", stats.introduced, "Introductions begun"),
        (
            "notified_total",
            stats.notified,
            "Packets that told a host of an introduction",
        ),
        (
            "directory_up",
            u64::from(stats.directory.is_up),
            "1 if the directory that servers share answers",
        ),
        (
            "directory_asked_total",
            stats.directory.asked,
            "Questions to the directory",
        ),
        (
            "directory_unanswered_total",
            stats.directory.unanswered,
            "Questions that the directory has not answered",
        ),
        (
            "directory_malformed_total",
            stats.directory.malformed,
            "Entries of the directory that were not believed",
        ),
        (
            "directory_written_total",
            stats.directory.written,
            "Entries written into the directory",
        ),
        (
            "referred_total",
            stats.directory.referred,
            "Callers sent to another server",
        ),
        ("refused_total", stats.refused, "Requests and calls that were refused"),
        (
            "dropped_total",
            stats.dropped,
            "Packets of registration that were dropped",
        ),
        ("relayed_packets_total", stats.relayed_packets, "Packets relayed"),
        (
            "relayed_bytes_total",
            stats.relayed_bytes,
            "Bytes relayed, headers of the relay included",
        ),
        (
            "relay_dropped_total",
            stats.unrelayed,
            "Packets that the relay did not pass on",
        ),
    ];
    let gauges = gauges.map(|metric| ("gauge", metric));
    let counters = counters.map(|metric| ("counter", metric));
    let mut page = String::new();
    for (kind, (name, value, help)) in gauges.into_iter().chain(counters) {
        let name = format!("sss_rendezvous_{name}");
        let _ = writeln!(page, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}");
    }
    page
}
