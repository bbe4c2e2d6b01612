//! Opens the tunnel to a server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;
use std::time::Duration;

use sss_reach::TunnelEnd;
use sss_wire::Eid;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::carry::{Entry, set_up};
use super::certificate;
use crate::nat64::Prefix;
use crate::redaction::HostTag;
use crate::shared::Shared;

/// Time for all of it: looking up, TCP, TLS.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time after which the next address is tried as well (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Time after which all are asked anew, as long as one of them says nothing: the system would wait longer and longer
/// for a server that is coming back.
const AGAIN: Duration = Duration::from_secs(2);
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
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut, UnexpectedEof,
    };
    match (stage, error.kind()) {
        (Stage::Tcp, ConnectionRefused) => TunnelEnd::Refused,
        (Stage::Tls, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) => TunnelEnd::TurnedAway,
        // A router says of a machine that is off that it cannot be reached.
        (_, TimedOut) | (Stage::Tcp, HostUnreachable) => TunnelEnd::Silent,
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
    let addresses: Vec<_> = tokio::net::lookup_host(place).await?.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    }
    let mut attempts = JoinSet::new();
    let mut rounds = interval(AGAIN);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let attempt = tokio::select! {
            attempt = attempts.join_next(), if !attempts.is_empty() => attempt,
            _ = rounds.tick() => {
                for (n, address) in (0..).zip(addresses.iter().copied()) {
                    attempts.spawn(async move {
                        sleep(STAGGER * n).await;
                        connect_to(address).await
                    });
                }
                continue;
            }
        };
        match attempt.map(|attempt| attempt.map_err(io::Error::other).flatten()) {
            Some(Err(why)) if attempts.is_empty() => return Err(why),
            Some(Err(_)) | None => {}
            Some(Ok(stream)) => return Ok(stream),
        }
    }
}

/// Connects to an address; where there is no IPv4, by a translator, if there is one (RCH-46).
async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let (error, v4) = match (TcpStream::connect(address).await, address.ip()) {
        (Err(error), IpAddr::V4(v4)) if error.kind() == io::ErrorKind::NetworkUnreachable => (error, v4),
        (connected, _) => return connected,
    };
    let prefix = Prefix::find().await.ok().flatten();
    match prefix.and_then(|prefix| prefix.embed(v4)) {
        Some(translated) => TcpStream::connect((translated, address.port())).await,
        None => Err(error),
    }
}

#[cfg(all(test, target_os = "linux"))] // whose listeners say nothing when they are full
mod tests {
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    // spec: RCH-24
    #[tokio::test]
    async fn a_server_that_says_nothing_is_asked_each_second() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let at = listener.local_addr().unwrap().as_socket().unwrap();
        let mut full = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(at)).await {
            full.push(stream.unwrap());
            assert!(full.len() < 100);
        }
        let began = Instant::now();
        let dialled = tokio::spawn(async move { connect(&at.to_string()).await });
        sleep(Duration::from_millis(7400)).await;
        assert!(!dialled.is_finished());
        // There is room now. The system alone would ask again 11 s after the beginning, or later.
        let _taken: Vec<_> = full.iter().map(|_| listener.accept().unwrap()).collect();
        dialled.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_millis(9500), "{:?}", began.elapsed());
    }
}
