//! Much data.

use sss::{RecvHalf, SendHalf};

use crate::common::{Pair, Pattern, pair, within};

const PIECE_WORDS: usize = 8192;
const PIECES: usize = 800;

async fn send(mut half: SendHalf, seed: u64) {
    let mut pattern = Pattern::new(seed);
    for n in 0..PIECES {
        let piece = pattern.bytes(PIECE_WORDS);
        if n % 2 == 0 {
            half.write_all(&piece).await.unwrap();
        } else {
            half.write_chunk(piece.into()).await.unwrap();
        }
    }
    half.finish().unwrap();
    half.drained().await.unwrap();
}

async fn check(mut half: RecvHalf, seed: u64) {
    let mut pattern = Pattern::new(seed);
    let mut expected = Vec::new();
    let mut total = 0;
    let mut chunks = Vec::new();
    while half.read_chunks(1 << 20, &mut chunks).await.unwrap() > 0 {
        for chunk in chunks.drain(..) {
            while expected.len() < chunk.len() {
                expected.extend(pattern.bytes(PIECE_WORDS));
            }
            assert!(expected[..chunk.len()] == chunk[..], "at {total}, seed {seed}");
            expected.drain(..chunk.len());
            total += chunk.len();
        }
    }
    assert_eq!(total, PIECES * PIECE_WORDS * 8);
}

async fn both_ways() {
    let Pair {
        client: _client,
        host: _host,
        server: _server,
        ours,
        theirs,
    } = pair().await;
    let (our_send, our_recv) = ours.split();
    let (their_send, their_recv) = theirs.split();
    let tasks = [
        tokio::spawn(send(our_send, 11)),
        tokio::spawn(check(their_recv, 11)),
        tokio::spawn(send(their_send, 22)),
        tokio::spawn(check(our_recv, 22)),
    ];
    for task in tasks {
        task.await.unwrap();
    }
}

/// 50 MiB each way.
#[tokio::test]
async fn bulk_both_ways_on_one_thread() {
    within(60, both_ways()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_on_several_threads() {
    within(60, both_ways()).await;
}
