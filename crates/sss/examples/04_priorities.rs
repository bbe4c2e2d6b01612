//! Three downloads; one of them is wanted first, and then another: `cargo run --release -p libsss --example
//! 04_priorities`.

use std::error::Error;

use sss::{Host, Server, Stream};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const SIZE: usize = 8 << 20;
const NAMES: [&str; 3] = ["first", "second", "urgent"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(serve(alice.listen("files", "get/1")?));
    let bob = Host::builder().bind("127.0.0.1:0").build().await?;
    let session = bob
        .connect(alice.eid(), "files", "get/1")
        .hint(alice.local_addr())
        .await?;

    let mut downloads = JoinSet::new();
    for name in NAMES {
        let mut download = session.open_substream()?;
        download.write_all(name.as_bytes()).await?;
        download.finish()?;
        if name == "urgent" {
            // It is the peer who sends, so the peer is asked: it sends nothing of the others while it has something of
            // this.
            download.request_priority(1);
        }
        downloads.spawn(fetch(download, name));
    }
    let mut order = Vec::new();
    while let Some(name) = downloads.join_next().await {
        order.push(name??);
    }
    println!("in this order: {order:?}");
    assert_eq!(order.first(), Some(&"urgent"));

    // What this host sends it ranks by itself. A level counts among siblings only, and holds for all below.
    let (background, page) = (session.open_substream()?, session.open_substream()?);
    background.set_priority(-1);
    let image = page.open_substream()?;
    image.set_priority(1);
    assert_eq!((background.priority(), page.priority(), image.priority()), (-1, 0, 1));
    drop((background, page, image, session));
    bob.close().await?;
    alice.close().await?;
    println!("ok");
    Ok(())
}

async fn fetch(mut download: Stream, name: &'static str) -> Result<&'static str, Failure> {
    let contents = download.read_to_end(SIZE).await?;
    assert_eq!(contents.len(), SIZE);
    Ok(name)
}

async fn serve(server: Server) {
    while let Ok((session, _eid)) = server.accept().await {
        tokio::spawn(async move {
            while let Ok(Some(request)) = session.accept_substream().await {
                tokio::spawn(send(request));
            }
        });
    }
}

async fn send(mut request: Stream) -> Result<(), Failure> {
    request.read_to_end(100).await?;
    request.write_chunk(vec![0; SIZE].into()).await?;
    request.finish()?;
    Ok(())
}
