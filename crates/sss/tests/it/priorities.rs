//! Levels of streams.

use std::time::Duration;

use crate::common::{Pair, pair, within};

/// One thread: the driver sends nothing between two calls without an `await`.
#[tokio::test]
async fn the_highest_level_is_sent_first() {
    within(10, async {
        let Pair { ours, theirs, .. } = pair().await;
        let mut children = Vec::new();
        for n in 0..20_u8 {
            let mut child = ours.open_substream().unwrap();
            child.write_all(&[n]).await.unwrap();
            child.finish().unwrap();
            child.set_priority(if n == 13 { 127 } else { -(n as i8 % 3) });
            children.push(child);
        }
        children[7].set_priority(126);
        let mut order = Vec::new();
        for _ in 0..20 {
            let mut child = theirs.accept_substream().await.unwrap().unwrap();
            order.push(child.read_to_end(1).await.unwrap()[0]);
        }
        assert_eq!(order[..2], [13, 7], "{order:?}");
        assert!(
            order[2..].is_sorted_by_key(|n| n % 3),
            "levels 0, -1, -2 in turn: {order:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn each_side_has_its_level_and_may_ask_for_the_others() {
    within(10, async {
        let Pair { ours, theirs, .. } = pair().await;
        assert_eq!((ours.priority(), theirs.priority()), (0, 0));
        ours.set_priority(-128);
        theirs.request_priority(50);
        while ours.priority() != 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(theirs.priority(), 0);
        ours.set_priority(3);
        let (send, recv) = theirs.split();
        send.set_priority(9);
        assert_eq!((ours.priority(), send.priority()), (3, 9));
        recv.request_priority(4);
        while ours.priority() != 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(ours.info().unwrap().priority, 4);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_over_takes_levels_and_does_nothing() {
    within(10, async {
        let Pair { mut ours, theirs, .. } = pair().await;
        ours.reset(1);
        drop(theirs);
        ours.set_priority(1);
        ours.request_priority(1);
        ours.peer().close(0, "done");
        ours.set_priority(2);
        ours.request_priority(2);
        ours.priority();
    })
    .await;
}
