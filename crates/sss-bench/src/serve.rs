//! The server side of every workload.

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::control::Work;
use crate::outcome::Outcome;
use crate::setup::{MANY, REQUEST, Setup, Workload};
use crate::transport::{Connection, Listener, Stream};

/// Treatment by the server with the streams of its clients.
#[derive(Clone)]
enum Service {
    /// Takes everything, then tells how many bytes it was.
    Sink,
    /// Reads a request, answers with these bytes.
    Respond(Bytes),
    /// Counts datagrams.
    Count,
    /// Counts them, several at a time.
    CountMany,
    /// Takes one byte, answers with one byte, keeps the stream open.
    Hold,
}

impl Service {
    fn of(workload: Workload) -> Self {
        match workload {
            Workload::Bulk | Workload::BulkNatural | Workload::Bulk100 => Self::Sink,
            Workload::Datagrams => Self::Count,
            Workload::DatagramsMany => Self::CountMany,
            Workload::IdleStreams | Workload::IdleStreams100k => Self::Hold,
            _ => Self::Respond(vec![0x5a; workload.response()].into()),
        }
    }
}

/// Serves until the process ends.
pub(crate) async fn run<L: Listener>(mut listener: L, setup: &Setup, work: Work) -> Outcome<()> {
    let service = Service::of(setup.workload);
    loop {
        let incoming = listener.accept().await?;
        let (service, work) = (service.clone(), work.clone());
        let runtime = L::runtime(&incoming).unwrap_or_else(Handle::current);
        runtime.spawn(async move {
            match L::establish(incoming).await {
                Ok(connection) => streams(connection, service, work).await,
                Err(failure) => eprintln!("sss-bench serve: handshake: {failure}"),
            }
        });
    }
}

async fn streams<C: Connection>(connection: C, service: Service, work: Work) {
    // What is rare has a place of its own: a task that idles makes no room for what it does not do.
    match service {
        Service::Count => Box::pin(count(connection, work)).await,
        Service::CountMany => Box::pin(count_many(connection, work)).await,
        Service::Hold => Box::pin(keep(connection)).await,
        Service::Sink | Service::Respond(_) => {
            while let Some(stream) = connection.accept().await {
                match service.clone() {
                    Service::Respond(response) => spawn(respond(stream, response)),
                    _ => spawn(sink(stream, work.clone())),
                }
            }
        }
    }
}

async fn count<C: Connection>(connection: C, work: Work) {
    while connection.recv_datagram().await.is_some() {
        work.add(1);
    }
}

async fn count_many<C: Connection>(connection: C, work: Work) {
    let mut space = Vec::with_capacity(MANY);
    while let Some(count) = connection.recv_datagrams(&mut space).await {
        work.add(count as u64);
    }
}

async fn keep<C: Connection>(connection: C) {
    let mut held = Vec::new();
    while let Some(mut stream) = connection.accept().await {
        match hold(&mut stream).await {
            Ok(()) => held.push(stream),
            Err(failure) => eprintln!("sss-bench serve: {failure}"),
        }
    }
}

fn spawn(task: impl Future<Output = Outcome<()>> + Send + 'static) {
    tokio::spawn(async {
        if let Err(failure) = task.await {
            eprintln!("sss-bench serve: {failure}");
        }
    });
}

async fn sink<S: Stream>(mut stream: S, work: Work) -> Outcome<()> {
    let mut total = 0;
    loop {
        let count = stream.drain().await? as u64;
        if count == 0 {
            break;
        }
        total += count;
        work.add(count);
    }
    stream.send(Bytes::copy_from_slice(&u64::to_be_bytes(total))).await?;
    stream.finish().await
}

async fn respond<S: Stream>(mut stream: S, response: Bytes) -> Outcome<()> {
    let mut total = 0;
    loop {
        match stream.drain().await? {
            0 => break,
            count => total += count,
        }
    }
    if total != REQUEST {
        return Err(format!("a request of {total} bytes instead of {REQUEST}").into());
    }
    stream.send(response).await?;
    stream.finish().await
}

async fn hold<S: Stream>(stream: &mut S) -> Outcome<()> {
    let mut byte = [0];
    stream.receive_exact(&mut byte).await?;
    stream.send(Bytes::from_static(b"!")).await
}
