//! A conversation outlives the network: `cargo run -p libsss --example 08_mobility`.
//!
//! The way between two hosts is cut for three seconds, longer than a channel lasts here; and every second the
//! channel is replaced by one with new keys. The stream does not notice.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sss::{Host, LinkStatus, LinkWatch, Server};
use tokio::net::UdpSocket;

type Failure = Box<dyn Error + Send + Sync>;

const CUT: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(echo(alice.listen("echo", "1")?));
    let is_cut = Arc::new(AtomicBool::new(false));
    let relay = relay(alice.local_addr(), Arc::clone(&is_cut)).await?;

    let bob = Host::builder()
        .bind("127.0.0.1:0")
        .idle_timeout(Duration::from_secs(2))
        .renew(Duration::from_secs(1))
        .build()
        .await?;
    let mut stream = bob.connect(alice.eid(), "echo", "1").hint(relay).await?;
    let watching = tokio::spawn(watch(stream.peer().link()));

    for line in 0..80_u32 {
        if line == 40 {
            is_cut.store(true, Ordering::Relaxed);
            let is_cut = Arc::clone(&is_cut);
            tokio::spawn(async move {
                tokio::time::sleep(CUT).await;
                is_cut.store(false, Ordering::Relaxed);
            });
        }
        // Nothing here knows that there is a network. While it is gone, this takes longer.
        stream.write_all(&line.to_be_bytes()).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, line.to_be_bytes());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    stream.finish()?;
    assert!(stream.read_to_end(0).await?.is_empty());
    let channels = bob.stats().channels_made;
    println!("one stream, {channels} channels");
    assert!(channels >= 3);
    bob.close().await?;
    drop(stream);
    let seen = watching.await?;
    assert!(seen.contains(&LinkStatus::Stalled) && seen.contains(&LinkStatus::Up));
    alice.close().await?;
    println!("ok");
    Ok(())
}

/// Tells how the way to the peer is, until there is nothing shared with it any more.
async fn watch(mut link: LinkWatch) -> Vec<LinkStatus> {
    let mut seen = vec![link.status()];
    while let Some(status) = link.changed().await {
        println!("link: {status:?}");
        seen.push(status);
    }
    seen
}

async fn echo(server: Server) -> Result<(), Failure> {
    let (mut stream, _eid) = server.accept().await?;
    while let Some(chunk) = stream.read_chunk(100).await? {
        stream.write_chunk(chunk).await?;
    }
    stream.close().await?;
    Ok(())
}

/// Passes datagrams between one client and one server, except while it is cut.
async fn relay(server: SocketAddr, is_cut: Arc<AtomicBool>) -> Result<SocketAddr, Failure> {
    let front = UdpSocket::bind("127.0.0.1:0").await?;
    let back = UdpSocket::bind("127.0.0.1:0").await?;
    let address = front.local_addr()?;
    tokio::spawn(async move {
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            let (bytes, socket, to) = tokio::select! {
                Ok((n, from)) = front.recv_from(&mut up) => {
                    client = Some(from);
                    (&up[..n], &back, Some(server))
                }
                Ok((n, _)) = back.recv_from(&mut down) => (&down[..n], &front, client),
                else => continue,
            };
            if let Some(to) = to.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                let _ = socket.send_to(bytes, to).await;
            }
        }
    });
    Ok(address)
}
