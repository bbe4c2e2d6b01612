//! Requests and responses, one substream each, any number at once: `cargo run --release -p libsss --example 02_rpc`.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sss::{Host, Server, Stream};

const REQUESTS: usize = 20_000;
const IN_FLIGHT: usize = 100;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(serve(alice.listen("sums", "1")?));

    let bob = Host::builder().bind("127.0.0.1:0").build().await?;
    let session = bob.connect(alice.eid(), "sums", "1").hint(alice.local_addr()).await?;
    let session = Arc::new(session);

    let start = Instant::now();
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|worker| tokio::spawn(ask(Arc::clone(&session), worker)))
        .collect();
    for worker in workers {
        worker.await??;
    }
    let rate = REQUESTS as f64 / start.elapsed().as_secs_f64();
    println!("{REQUESTS} requests, {IN_FLIGHT} in flight: {rate:.0} a second");

    drop(session);
    bob.close().await?;
    alice.close().await?;
    println!("ok");
    Ok(())
}

/// Asks for sums, one after another, each on a substream of its own.
async fn ask(session: Arc<Stream>, worker: usize) -> Result<(), Failure> {
    for round in 0..REQUESTS / IN_FLIGHT {
        let (a, b) = (worker as u64, round as u64);
        let mut request = session.open_substream()?;
        request.write_all(&[a.to_be_bytes(), b.to_be_bytes()].concat()).await?;
        request.finish()?;
        let answer = request.read_to_end(8).await?;
        assert_eq!(answer, Bytes::copy_from_slice(&(a + b).to_be_bytes()));
    }
    Ok(())
}

async fn serve(server: Server) {
    while let Ok((session, _eid)) = server.accept().await {
        tokio::spawn(async move {
            // `None` when the client has let go of the session.
            while let Ok(Some(request)) = session.accept_substream().await {
                tokio::spawn(answer(request));
            }
        });
    }
}

async fn answer(mut request: Stream) -> Result<(), Failure> {
    let mut numbers = [0; 16];
    request.read_exact(&mut numbers).await?;
    let sum: u64 = numbers.chunks_exact(8).map(number).sum();
    request.read_to_end(0).await?;
    request.write_all(&sum.to_be_bytes()).await?;
    request.finish()?;
    Ok(())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}
