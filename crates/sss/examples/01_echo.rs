//! One host offers an echo service, another uses it: `cargo run -p libsss --example 01_echo`.

use std::error::Error;

use sss::{Host, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(serve(alice.listen("echo", "1")?));

    let bob = Host::builder().bind("127.0.0.1:0").build().await?;
    let mut stream = bob.connect(alice.eid(), "echo", "1").hint(alice.local_addr()).await?;
    for line in ["hello", "is anybody there?"] {
        stream.write_all(line.as_bytes()).await?;
        let mut answer = vec![0; line.len()];
        stream.read_exact(&mut answer).await?;
        println!("{line:?} came back as {:?}", String::from_utf8_lossy(&answer));
    }
    stream.finish()?;
    assert!(
        stream.read_to_end(0).await?.is_empty(),
        "the echo ends when the caller does"
    );

    bob.close().await?;
    alice.close().await?;
    println!("ok");
    Ok(())
}

/// Answers every stream with its own bytes.
async fn serve(server: Server) {
    while let Ok((stream, eid)) = server.accept().await {
        println!("a stream from {eid}");
        tokio::spawn(async move {
            let (mut send, mut recv) = stream.split();
            while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
                send.write_chunk(chunk).await?;
            }
            send.finish()?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
}
