//! Opens the tunnel to a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use sss_reach::TunnelEnd;
use sss_wire::Eid;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::carry::{Entry, set_up};
use super::certificate;
use crate::redaction::HostTag;
use crate::shared::Shared;

/// Time for all of it: looking up, TCP, TLS.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time after which the next address is tried as well (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Opens a tunnel, and carries packets until it ends.
pub(super) async fn dial(shared: Weak<Shared>, server: Eid, place: String) {
    let opened = timeout(PATIENCE, open(&place)).await;
    let why = match opened.unwrap_or_else(|_| Err((Stage::Tcp, io::ErrorKind::TimedOut.into()))) {
        Ok((stream, at)) => {
            let entry = Entry::new(&shared, |inner, now, id| {
                inner
                    .rendezvous
                    .on_tunnel_opened(now, &mut inner.core, &server, (id, at));
            });
            let Some(entry) = entry else {
                return;
            };
            tracing::debug!(server = %HostTag::of(&server), "UDP gets no answer: a tunnel is open");
            let why = entry.carry(stream, None).await;
            tracing::debug!(server = %HostTag::of(&server), %why, "the tunnel has ended");
            TunnelEnd::TurnedAway
        }
        Err((stage, error)) => {
            tracing::debug!(server = %HostTag::of(&server), %error, "UDP gets no answer, and no tunnel can be opened");
            if let Some(host) = shared.upgrade() {
                host.feed(|inner, _| inner.tunnels.stats.failed += 1);
            }
            why_none(stage, &error)
        }
    };
    if let Some(host) = shared.upgrade() {
        host.feed(|inner, now| {
            inner.rendezvous.on_tunnel_closed(now, &mut inner.core, (&server, why));
        });
    }
}

/// Stage to which a tunnel has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not to a connection.
    Tcp,
    /// To one, on which TLS is not agreed on.
    Tls,
}

/// Says why there is no tunnel.
fn why_none(stage: Stage, error: &io::Error) -> TunnelEnd {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof};
    match (stage, error.kind()) {
        (Stage::Tcp, ConnectionRefused) => TunnelEnd::Refused,
        (Stage::Tls, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) => TunnelEnd::TurnedAway,
        (_, TimedOut) => TunnelEnd::Silent,
        _ => TunnelEnd::Other(error.to_string()),
    }
}

async fn open(place: &str) -> Result<(TlsStream<TcpStream>, SocketAddr), (Stage, io::Error)> {
    let stream = connect(place).await.map_err(|error| (Stage::Tcp, error))?;
    agree(place, stream).await.map_err(|error| (Stage::Tls, error))
}

/// Agrees on TLS.
async fn agree(place: &str, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, SocketAddr)> {
    set_up(&stream);
    let at = stream.peer_addr()?;
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    // A name that is none for TLS is an address with an interface: it is not said then.
    let name = ServerName::try_from(host.to_owned()).unwrap_or(ServerName::from(at.ip()));
    let config = certificate::client().map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok((stream, SocketAddr::new(at.ip().to_canonical(), at.port())))
}

/// Connects to the first address that answers; each is tried a little later than the one before.
async fn connect(place: &str) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for (n, address) in (0..).zip(tokio::net::lookup_host(place).await?.take(MAX_ADDRESSES)) {
        attempts.spawn(async move {
            sleep(STAGGER * n).await;
            TcpStream::connect(address).await
        });
    }
    let mut error = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    while let Some(attempt) = attempts.join_next().await {
        match attempt.map_err(io::Error::other).flatten() {
            Ok(stream) => return Ok(stream),
            Err(why) => error = why,
        }
    }
    Err(error)
}
