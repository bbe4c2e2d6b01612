//! A chat room: one stream for each guest, one record for each message: `cargo run -p libsss --example
//! 05_records_chat`.

use std::error::Error;

use futures_util::{SinkExt, StreamExt};
use sss::{Host, RecordReader, RecordWriter, Server};
use tokio::sync::broadcast;

type Failure = Box<dyn Error + Send + Sync>;

const GUESTS: [&str; 3] = ["ann", "ben", "cleo"];
const LINES: [&str; 3] = ["hello", "", "a message may have\nseveral lines, or none"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let host = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(keep_room(host.listen("chat", "room/1")?));

    let mut guests = Vec::new();
    for name in GUESTS {
        let guest = Host::builder().bind("127.0.0.1:0").build().await?;
        let mut stream = guest
            .connect(host.eid(), "chat", "room/1")
            .hint(host.local_addr())
            .await?;
        // Nobody in this room says much.
        stream.set_record_limit(1000);
        // The first record is the name. That it comes back means to be in the room.
        stream.write_record(name.as_bytes()).await?;
        let welcome = stream.read_record().await?.ok_or("the room is closed")?;
        assert_eq!(&welcome[..], name.as_bytes());
        guests.push((guest, stream.into_records()));
    }
    let talks: Vec<_> = guests
        .into_iter()
        .map(|(guest, records)| tokio::spawn(talk(guest, records)))
        .collect();
    for talk in talks {
        talk.await??;
    }
    host.close().await?;
    println!("ok");
    Ok(())
}

/// Says all lines, hears those of everybody, and leaves.
async fn talk(guest: Host, (mut say, mut hear): (RecordWriter, RecordReader)) -> Result<(), Failure> {
    for line in LINES {
        say.send(line.into()).await?;
    }
    for _ in 0..GUESTS.len() * LINES.len() {
        let message = hear.next().await.ok_or("the room is closed")??;
        println!("{:?}", String::from_utf8_lossy(&message));
    }
    say.close().await?;
    assert!(hear.next().await.is_none(), "the room closes the door behind a guest");
    guest.close().await?;
    Ok(())
}

async fn keep_room(server: Server) {
    let (messages, _) = broadcast::channel::<String>(100);
    while let Ok((stream, _eid)) = server.accept().await {
        let (say, hear) = stream.into_records();
        tokio::spawn(keep_guest(say, hear, messages.clone()));
    }
}

/// Passes a guest's messages to the room, and those of the room to the guest.
async fn keep_guest(
    mut say: RecordWriter,
    mut hear: RecordReader,
    room: broadcast::Sender<String>,
) -> Result<(), Failure> {
    let mut messages = room.subscribe();
    let Some(name) = hear.next().await.transpose()? else {
        return Ok(());
    };
    say.send(name.clone()).await?;
    let name = String::from_utf8_lossy(&name).into_owned();
    loop {
        // Reading a record can be given up at any time: none is lost.
        tokio::select! {
            message = hear.next() => match message.transpose()? {
                Some(message) => {
                    room.send(format!("{name}: {}", String::from_utf8_lossy(&message)))?;
                }
                None => break,
            },
            message = messages.recv() => say.send(message?.into()).await?,
        }
    }
    say.close().await?;
    Ok(())
}
