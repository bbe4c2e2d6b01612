//! Messages of any size on a stream.

use std::time::Duration;

use bytes::Bytes;
use sss::{Code, DatagramError, DatagramFate, ReadError, TryError};

use crate::common::{Pattern, builder, pair, pair_of, within};

#[tokio::test]
async fn messages_of_all_sizes_arrive_whole_in_both_directions() {
    let pair = pair().await;
    let sizes = [0, 1, 16, 1000, 1400, 20_000, 100_000, 1 << 20];
    for (from, to) in [(&pair.ours, &pair.theirs), (&pair.theirs, &pair.ours)] {
        for size in sizes {
            let data = Bytes::from(Pattern::new(size as u64).bytes(size / 8));
            from.send_datagram(data.clone()).reliable().await.unwrap();
            assert_eq!(within(10, to.recv_datagram()).await, Ok(Some(data)), "{size} bytes");
        }
        from.send_datagram("best effort").await.unwrap();
        assert_eq!(within(10, to.recv_datagram()).await.unwrap().unwrap(), "best effort");
    }
    let stats = pair.ours.peer().datagram_stats();
    assert!(stats.sent_stateless >= 1 && stats.received_stateless >= 1, "{stats:?}");
    assert_eq!((stats.sent_as_stream, stats.received_as_stream), (8, 8));
}

#[tokio::test]
async fn a_receipt_tells_what_became_of_it() {
    let mut pair = pair().await;
    let small = pair.ours.send_datagram("small").tracked().await.unwrap();
    let large = pair.ours.send_datagram(vec![7; 50_000]).tracked().await.unwrap();
    assert_eq!(within(10, small).await, DatagramFate::Delivered);
    assert_eq!(within(10, large).await, DatagramFate::Delivered);
    assert_eq!(pair.theirs.recv_datagram().await.unwrap().unwrap(), "small");
    assert_eq!(pair.theirs.recv_datagram().await.unwrap().unwrap(), vec![7; 50_000]);
    assert_eq!(pair.theirs.try_recv_datagram(), Err(TryError::Empty));
    // Half of a round trip is more than no time.
    let late = pair.ours.send_datagram("late").deadline(Duration::ZERO).tracked();
    assert_eq!(within(10, late.await.unwrap()).await, DatagramFate::Expired);
    pair.ours.finish().unwrap();
    let (send, recv) = pair.theirs.split();
    drop((send, recv));
    within(10, async {
        loop {
            let receipt = match pair.ours.send_datagram(vec![7; 50_000]).reliable().tracked().await {
                Ok(receipt) => receipt,
                Err(DatagramError::PeerGone) => break,
                Err(other) => panic!("{other}"),
            };
            let fate = receipt.await;
            assert!(
                matches!(fate, DatagramFate::Refused(Code::NO_LISTENER | Code::PARENT_GONE)),
                "{fate:?}"
            );
        }
    })
    .await;
    pair.client.close().await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_channel_is_told_to_all_who_wait() {
    let pair = pair().await;
    // Nobody takes them, so that there is no credit for all.
    let mut receipts = Vec::new();
    loop {
        let sent = pair.ours.send_datagram(vec![1; 30_000]).reliable().tracked();
        match tokio::time::timeout(Duration::from_millis(200), sent).await {
            Ok(receipt) => receipts.push(receipt.unwrap()),
            Err(_) => break,
        }
    }
    within(10, async {
        while pair.ours.send_datagram(vec![1; 30_000]).reliable().try_send().unwrap() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(receipts.len() < 1000, "only so many are queued");
    let waiting = pair.ours.send_datagram(vec![1; 30_000]);
    let receiving = pair.ours.recv_datagram();
    let close = async { pair.ours.peer().close(7, "enough") };
    let (waiting, receiving, ()) = within(10, async { tokio::join!(waiting, receiving, close) }).await;
    assert!(matches!(waiting, Err(DatagramError::Lost(_))), "{waiting:?}");
    assert!(matches!(receiving, Err(ReadError::Lost(_))), "{receiving:?}");
    let mut lost = 0;
    for receipt in receipts {
        let fate = within(10, receipt).await;
        assert!(matches!(fate, DatagramFate::Delivered | DatagramFate::ChannelLost));
        lost += usize::from(fate == DatagramFate::ChannelLost);
    }
    assert!(lost > 0);
}

#[tokio::test]
async fn many_are_sent_at_once_each_of_its_own() {
    let pair = pair().await;
    let all: Vec<Bytes> = (0..3000_u32).map(|n| n.to_be_bytes().repeat(200).into()).collect();
    let send = pair.ours.send_datagrams(all.clone()).reliable();
    let receive = async {
        let mut received = Vec::new();
        while received.len() < all.len() {
            received.push(pair.theirs.recv_datagram().await.unwrap().unwrap());
        }
        received.sort();
        received
    };
    let (sent, received) = within(20, async { tokio::join!(send, receive) }).await;
    sent.unwrap();
    assert!(received == all, "{}", received.len());
    pair.ours.send_datagrams(Vec::<Bytes>::new()).await.unwrap();
}

#[tokio::test]
async fn those_of_many_that_were_queued_are_the_first_ones() {
    let pair = pair_of(builder(), builder().max_message(5000)).await;
    let sizes = [10, 20, 5001, 30];
    let mut send = pair.ours.send_datagrams(sizes.map(|size| vec![1; size])).reliable();
    let (size, limit) = (5001, 5000);
    assert_eq!((&mut send).await, Err(DatagramError::TooLarge { size, limit }));
    assert_eq!(send.left(), 2);
    // Nobody takes them: not all are queued, and what was given up is not sent.
    let all = std::iter::repeat_n(Bytes::from(vec![2; 4000]), 20_000);
    let mut many = pair.ours.send_datagrams(all).reliable();
    let wait = tokio::time::timeout(Duration::from_millis(300), &mut many);
    wait.await.unwrap_err();
    let queued = 20_000 - many.left();
    assert!(queued > 0 && many.left() > 0, "{queued} queued");
    drop(many);
    let receive = async {
        let mut sizes = Vec::new();
        while sizes.len() < 2 + queued {
            sizes.push(pair.theirs.recv_datagram().await.unwrap().unwrap().len());
        }
        sizes
    };
    let mut sizes = within(20, receive).await;
    sizes.sort_unstable();
    assert_eq!(sizes[..3], [10, 20, 4000]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(pair.theirs.try_recv_datagram(), Err(TryError::Empty));
}

#[tokio::test]
async fn many_are_tried_as_far_as_there_is_room_and_the_rest_is_awaited() {
    let pair = pair().await;
    let all: Vec<Bytes> = (0..2000_u32).map(|n| n.to_be_bytes().repeat(250).into()).collect();
    let mut send = pair.ours.send_datagrams(all.clone()).reliable();
    // The driver of this host runs when this task waits.
    let queued = send.try_send().unwrap();
    assert!((300..600).contains(&queued), "{queued} of 1000 bytes in 512 KiB");
    assert_eq!((send.try_send(), send.left()), (Ok(0), 2000 - queued));
    let receive = async {
        let mut received = Vec::new();
        while received.len() < all.len() {
            let limit = 1 + received.len() % 100;
            let before = received.len();
            let count = pair.theirs.recv_datagrams(&mut received, limit).await.unwrap();
            assert!((1..=limit).contains(&count) && received.len() == before + count);
        }
        received.sort();
        received
    };
    let (sent, received) = within(20, async { tokio::join!(&mut send, receive) }).await;
    sent.unwrap();
    assert_eq!(send.left(), 0);
    assert!(received == all);
}

#[tokio::test]
async fn many_that_fit_into_a_packet_come_in_their_order() {
    let pair = pair().await;
    let all: Vec<Bytes> = (0..50_u8).map(|n| vec![n; 10].into()).collect();
    let mut received = Vec::new();
    assert_eq!(pair.ours.send_datagrams(all.clone()).try_send(), Ok(50));
    while received.len() < all.len() {
        let count = within(10, pair.theirs.recv_datagrams(&mut received, 100)).await;
        assert!(count.unwrap() > 0);
    }
    assert_eq!(received, all);
    assert_eq!(pair.ours.peer().datagram_stats().sent_stateless, 50);
}

#[tokio::test]
async fn of_many_one_that_is_too_large_can_be_left_out() {
    let pair = pair_of(builder(), builder().max_message(5000)).await;
    let sizes = [10, 6000, 20, 7000, 30];
    let mut send = pair.ours.send_datagrams(sizes.map(|size| vec![1; size])).reliable();
    let mut too_large = Vec::new();
    while let Err(error) = (&mut send).await {
        let DatagramError::TooLarge { limit: 5000, .. } = error else {
            panic!("{error}");
        };
        // It stays so.
        assert_eq!(send.try_send(), Err(error));
        let mut left = send.into_left();
        too_large.extend(left.next().map(|data| data.len()));
        send = pair.ours.send_datagrams(left).reliable();
    }
    assert_eq!(too_large, [6000, 7000]);
    let mut sizes = Vec::new();
    while sizes.len() < 3 {
        sizes.push(within(10, pair.theirs.recv_datagram()).await.unwrap().unwrap().len());
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [10, 20, 30]);
}

#[tokio::test]
async fn of_none_nothing_is_sent_and_nothing_said() {
    let pair = pair().await;
    let none = Vec::<Bytes>::new;
    pair.ours.send_datagrams(none()).await.unwrap();
    assert_eq!(pair.ours.send_datagrams(none()).try_send(), Ok(0));
    pair.client.close().await.unwrap();
    pair.ours.send_datagrams(none()).await.unwrap();
    let one = pair.ours.send_datagrams(["one"]).await;
    assert!(matches!(one, Err(DatagramError::Lost(_))), "{one:?}");
}

#[tokio::test]
async fn the_end_of_the_channel_ends_the_sending_of_many() {
    let pair = pair().await;
    // Nobody takes them.
    let mut send = pair
        .ours
        .send_datagrams(vec![Bytes::from(vec![1; 30_000]); 2000])
        .reliable();
    tokio::time::timeout(Duration::from_millis(200), &mut send)
        .await
        .unwrap_err();
    let left = send.left();
    assert!(left > 0 && left < 2000, "{left}");
    let close = async { pair.ours.peer().close(7, "enough") };
    let (sent, ()) = within(10, async { tokio::join!(&mut send, close) }).await;
    assert!(matches!(sent, Err(DatagramError::Lost(_))), "{sent:?}");
    let rest = send.into_left().len();
    assert!(rest > 0 && rest <= left, "{rest} of {left}");
}

#[tokio::test]
async fn many_are_received_until_the_peer_lets_go() {
    let pair = pair().await;
    let (ours, theirs) = (pair.ours, pair.theirs);
    let mut into = vec![Bytes::from("before")];
    assert_eq!(theirs.try_recv_datagrams(&mut into, 10), Err(TryError::Empty));
    assert_eq!(theirs.recv_datagrams(&mut into, 0).await, Ok(0));
    let waiting = tokio::time::timeout(Duration::from_millis(20), theirs.recv_datagrams(&mut into, 10));
    waiting.await.unwrap_err();
    assert_eq!(into, ["before"], "nothing came");
    ours.send_datagrams(["a", "b", "c"]).reliable().await.unwrap();
    drop(ours);
    let mut received = 0;
    within(10, async {
        loop {
            match theirs.recv_datagrams(&mut into, 2).await.unwrap() {
                0 => break,
                count => received += count,
            }
        }
    })
    .await;
    into.sort_unstable();
    assert_eq!(
        (received, into),
        (3, ["a", "b", "before", "c"].map(Bytes::from).to_vec())
    );
    assert_eq!(theirs.try_recv_datagrams(&mut Vec::new(), 1), Ok(0));
}

#[tokio::test]
async fn one_that_is_too_large_names_the_limit() {
    let pair = pair_of(builder(), builder().max_message(5000)).await;
    let (size, limit) = (5001, 5000);
    // The limit came with the channel.
    assert_eq!(pair.ours.max_datagram_size(), limit);
    assert_eq!(
        pair.ours.send_datagram(vec![0; 5001]).await,
        Err(DatagramError::TooLarge { size, limit })
    );
    pair.ours.send_datagram(vec![3; 5000]).await.unwrap();
    assert_eq!(
        within(10, pair.theirs.recv_datagram()).await.unwrap().unwrap(),
        vec![3; 5000]
    );
    assert_eq!(pair.theirs.max_datagram_size(), 1 << 20);
}

#[tokio::test]
async fn closing_waits_for_reliable_datagrams() {
    let pair = pair().await;
    for i in 0..10_u8 {
        pair.ours.send_datagram(vec![i; 60_000]).reliable().await.unwrap();
    }
    let receive = async {
        let mut seen = Vec::new();
        for _ in 0..10 {
            let data = pair.theirs.recv_datagram().await.unwrap().unwrap();
            assert!(data.len() == 60_000 && data.iter().all(|b| *b == data[0]));
            seen.push(data[0]);
        }
        seen.sort_unstable();
        seen
    };
    let (closed, seen) = within(20, async { tokio::join!(pair.ours.close(), receive) }).await;
    assert_eq!(closed, Ok(()));
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn several_tasks_receive_from_one_stream() {
    let pair = pair().await;
    let (ours, theirs) = (pair.ours, std::sync::Arc::new(pair.theirs));
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let theirs = std::sync::Arc::clone(&theirs);
            tokio::spawn(async move {
                let mut sum = 0;
                loop {
                    let data = theirs.recv_datagram().await.unwrap().unwrap();
                    if data.is_empty() {
                        return sum;
                    }
                    sum += usize::from(data[0]);
                }
            })
        })
        .collect();
    for i in 1..=100_u8 {
        ours.send_datagram(vec![i; 200]).reliable().await.unwrap();
        if i % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..3 {
        ours.send_datagram("").reliable().await.unwrap();
    }
    let mut sum = 0;
    for receiver in receivers {
        sum += within(10, receiver).await.unwrap();
    }
    assert_eq!(sum, 5050);
}

#[tokio::test]
async fn a_sender_is_told_at_which_rate_datagrams_leave() {
    let pair = pair().await;
    pair.ours.send_datagram("first").reliable().await.unwrap();
    assert_eq!(pair.theirs.recv_datagram().await.unwrap().unwrap(), "first");
    // An initial window in a round trip of a tenth of a second at least.
    let rate = pair.ours.datagram_rate().unwrap();
    assert!(rate > 100_000, "{rate}");
    assert!(pair.ours.peer().info().unwrap().rate > 100_000);
    pair.client.close().await.unwrap();
    assert_eq!(pair.ours.datagram_rate(), None);
}
