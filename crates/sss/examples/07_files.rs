//! Sends many files over one channel, one substream each, and waits until all have arrived:
//! `cargo run -p libsss --example 07_files`.

use std::collections::BTreeMap;
use std::error::Error;

use sss::{Host, ReadError, ReadToEndError, Server, Stream};

type Failure = Box<dyn Error + Send + Sync>;
type Files = BTreeMap<String, Vec<u8>>;

/// What this application means by it, it says itself.
const GIVEN_UP: u32 = 1;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let files: Files = (0..200)
        .map(|n: usize| (format!("file-{n:03}"), vec![n as u8; n * 997]))
        .collect();

    let receiver = Host::builder().bind("127.0.0.1:0").build().await?;
    let received = tokio::spawn(receive(receiver.listen("files", "put/1")?));

    let sender = Host::builder().bind("127.0.0.1:0").build().await?;
    let mut transfer = sender
        .connect(receiver.eid(), "files", "put/1")
        .hint(receiver.local_addr())
        .await?;
    transfer.write_all(&u32::try_from(files.len())?.to_be_bytes()).await?;
    for (name, contents) in files.clone() {
        let file = transfer.open_substream()?;
        tokio::spawn(send(file, name, contents));
    }
    // Waits for the substreams too, which the tasks hold.
    transfer.close().await?;

    let arrived = received.await??;
    assert_eq!(arrived, files);
    let bytes: usize = arrived.values().map(Vec::len).sum();
    println!("{} files, {bytes} bytes", arrived.len());
    give_up(&sender, &receiver).await?;

    sender.close().await?;
    receiver.close().await?;
    println!("ok");
    Ok(())
}

/// A transfer that is given up, with all files that are on their way.
async fn give_up(sender: &Host, receiver: &Host) -> Result<(), Failure> {
    let server = receiver.listen("files", "put/2")?;
    let mut transfer = sender.connect(receiver.eid(), "files", "put/2").await?;
    let mut file = transfer.open_substream()?;
    file.write_all(b"half of a ").await?;
    let (theirs, _eid) = server.accept().await?;
    let mut half = theirs.accept_substream().await?.ok_or("a file comes")?;

    transfer.reset_tree(GIVEN_UP);
    let Err(ReadToEndError::Read(ReadError::Reset { code, .. })) = half.read_to_end(100).await else {
        return Err("the peer is told".into());
    };
    assert_eq!(code.as_app(), Some(GIVEN_UP));
    assert!(
        file.write_all(b"file").await.is_err(),
        "whoever still sends is told too"
    );
    Ok(())
}

/// A file is its name, a line end, and its contents.
async fn send(mut file: Stream, name: String, contents: Vec<u8>) -> Result<(), Failure> {
    file.write_all(name.as_bytes()).await?;
    file.write_all(b"\n").await?;
    // Takes the buffer as it is, without a copy.
    file.write_chunk(contents.into()).await?;
    file.finish()?;
    Ok(())
}

async fn receive(server: Server) -> Result<Files, Failure> {
    let (mut transfer, _eid) = server.accept().await?;
    // However many files there are, the sender is not to fill more memory than this before they are read.
    transfer.set_budget(Some(4 << 20));
    let mut count = [0; 4];
    transfer.read_exact(&mut count).await?;
    let mut tasks = Vec::new();
    for _ in 0..u32::from_be_bytes(count) {
        let file = transfer
            .accept_substream()
            .await?
            .ok_or("fewer files than were promised")?;
        tasks.push(tokio::spawn(receive_file(file)));
    }
    transfer.read_to_end(0).await?;
    let mut files = Files::new();
    for task in tasks {
        let (name, contents) = task.await??;
        files.insert(name, contents);
    }
    Ok(files)
}

async fn receive_file(mut file: Stream) -> Result<(String, Vec<u8>), Failure> {
    let whole = file.read_to_end(1 << 20).await?;
    let line_end = whole.iter().position(|b| *b == b'\n').ok_or("a file without a name")?;
    let name = String::from_utf8(whole[..line_end].to_vec())?;
    Ok((name, whole[line_end + 1..].to_vec()))
}
