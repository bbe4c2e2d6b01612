//! Positions of players, as best-effort datagrams, and a map, as a reliable one: `cargo run -p libsss --example
//! 06_datagrams`.

use std::error::Error;
use std::time::Duration;

use sss::{DatagramError, DatagramFate, Host, Server, Stream};

type Failure = Box<dyn Error + Send + Sync>;

/// How often a player says where it is, and for how long that is of interest.
const TICK: Duration = Duration::from_millis(20);
const TICKS: u32 = 50;
const MAP_SIZE: usize = 300_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let host = Host::builder().bind("127.0.0.1:0").max_message(10_000).build().await?;
    let game = tokio::spawn(play(host.listen("game", "1")?));

    let player = Host::builder().bind("127.0.0.1:0").build().await?;
    let stream = player.connect(host.eid(), "game", "1").hint(host.local_addr()).await?;

    // The map comes as one message, whatever its size.
    let map = stream.recv_datagram().await?.ok_or("the map comes first")?;
    assert_eq!(map.len(), MAP_SIZE);
    println!("a map of {} bytes", map.len());

    // The other way, this host takes less, and says so.
    match stream.send_datagram(map).await {
        Err(DatagramError::TooLarge { size, limit }) => println!("{size} bytes are more than {limit}"),
        other => return Err(format!("{other:?}").into()),
    }
    for tick in 0..TICKS {
        let position = [tick.to_be_bytes(), (tick * tick).to_be_bytes()].concat();
        stream.send_datagram(position).deadline(TICK * 5).await?;
        tokio::time::sleep(TICK).await;
    }
    // The last word must arrive, and before any position that is still queued.
    let receipt = stream.send_datagram("bye").reliable().priority(1).tracked().await?;
    assert_eq!(receipt.await, DatagramFate::Delivered);

    let moves = game.await??;
    println!("{moves} of {TICKS} positions arrived, and in order");
    assert!(moves > 0 && moves <= TICKS);
    drop(stream);
    player.close().await?;
    host.close().await?;
    println!("ok");
    Ok(())
}

/// Serves one player; returns how often it moved.
async fn play(server: Server) -> Result<u32, Failure> {
    let (stream, _eid) = server.accept().await?;
    stream.send_datagram(vec![0x2e; MAP_SIZE]).reliable().await?;
    let moves = follow(&stream).await?;
    // Waits until the player has everything, datagrams included.
    stream.close().await?;
    Ok(moves)
}

async fn follow(stream: &Stream) -> Result<u32, Failure> {
    let mut latest = None;
    let mut moves = 0;
    // `None` when the player has let go of the stream.
    while let Some(message) = stream.recv_datagram().await? {
        if &message[..] == b"bye" {
            return Ok(moves);
        }
        let (tick, _place) = message.split_at_checked(4).ok_or("a position has 8 bytes")?;
        // Datagrams have no order: an old position is of no use.
        let tick = u32::from_be_bytes(tick.try_into()?);
        if latest < Some(tick) {
            latest = Some(tick);
            moves += 1;
        }
    }
    Err("the player went without a word".into())
}
