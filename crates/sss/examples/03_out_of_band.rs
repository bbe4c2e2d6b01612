//! A word on the side while 64 MB are queued: `cargo run --release -p libsss --example 03_out_of_band`.
//!
//! A substream does not wait for what its parent has queued: it is heard at once.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sss::{Host, Stream};

type Failure = Box<dyn Error + Send + Sync>;

const SIZE: usize = 64 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    let server = alice.listen("backup", "1")?;
    let taking = tokio::spawn(async move { take(server.accept().await?.0).await });

    let bob = Host::builder().bind("127.0.0.1:0").build().await?;
    let stream = bob.connect(alice.eid(), "backup", "1").hint(alice.local_addr()).await?;
    // The sending half opens substreams as the whole stream does.
    let (mut send, mut recv) = stream.split();
    let mut word = send.open_substream()?;
    let queueing = tokio::spawn(async move {
        send.write_chunk(Bytes::from(vec![7; SIZE])).await?;
        send.finish()?;
        Ok::<_, Failure>(send)
    });
    tokio::time::sleep(Duration::from_millis(20)).await;

    let asked = Instant::now();
    word.write_all(b"pause").await?;
    word.finish()?;
    assert_eq!(&word.read_to_end(100).await?[..], b"paused");
    println!(
        "answered in {:?}, by a peer that is being sent {SIZE} bytes",
        asked.elapsed()
    );

    let send = queueing.await??;
    assert_eq!(&recv.read_to_end(100).await?[..], b"got it all");
    let taken = taking.await??;
    println!(
        "{} of {SIZE} bytes had arrived when the word came",
        taken.before_the_word
    );
    assert!(taken.before_the_word < SIZE && taken.total == SIZE);
    drop(send);
    bob.close().await?;
    alice.close().await?;
    println!("ok");
    Ok(())
}

struct Taken {
    before_the_word: usize,
    total: usize,
}

/// Takes the backup. When a word comes on the side, it stops reading for a while, as asked.
async fn take(mut stream: Stream) -> Result<Taken, Failure> {
    let mut word = stream.accept_substream().await?.ok_or("a word comes")?;
    let (mut total, mut before_the_word) = (0, None);
    loop {
        tokio::select! {
            said = word.read_to_end(100), if before_the_word.is_none() => {
                assert_eq!(&said?[..], b"pause");
                before_the_word = Some(total);
                word.write_all(b"paused").await?;
                word.finish()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            chunk = stream.read_chunk(1 << 16) => match chunk? {
                Some(chunk) => total += chunk.len(),
                None => break,
            },
        }
    }
    stream.write_all(b"got it all").await?;
    stream.close().await?;
    let before_the_word = before_the_word.ok_or("the word came too late")?;
    Ok(Taken { before_the_word, total })
}
