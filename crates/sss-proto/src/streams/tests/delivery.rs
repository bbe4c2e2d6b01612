//! Delivery of subtrees.

use super::*;
use crate::interest::Interest;
use crate::streams::SubtreeDelivery;

/// Everything that a has sent is acknowledged.
fn flush(pair: &mut Pair, top: StreamKey) {
    pair.run();
    for (key, end) in pair.a.undelivered(top) {
        assert_eq!(pair.a.poll_flushed(key, end), Poll::Pending);
    }
    pair.run();
    assert_eq!(pair.a.undelivered(top), []);
}

// spec: STR-51
#[test]
fn what_is_under_way_is_known_whoever_holds_it() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let held = pair.child(top);
    let released = pair.child(held);
    for (n, both) in [(0, top), (5000, held), (7000, released)] {
        pair.a.write_all(both.0, &vec![0; n]);
    }
    pair.a.finish(released.0).unwrap();
    pair.a.release(released.0);
    let mut waiting = pair.a.undelivered(top.0);
    waiting.sort_unstable();
    assert_eq!(waiting, [(held.0, 5000), (released.0, 7000)]);
    for (key, end) in &waiting {
        assert_eq!(pair.a.poll_flushed(*key, *end), Poll::Pending);
    }
    // More is written meanwhile, and nobody waits for that.
    pair.a.write_all(held.0, &[0; 50_000]);
    while pair.a.poll_flushed(held.0, 5000) == Poll::Pending {
        assert!(pair.step());
    }
    assert!(pair.a.info(held.0).unwrap().unacked > 0);
    pair.run();
    let told = pair.a.events();
    assert!(
        told.contains(&StreamEvent::Ready(held.0, Interest::Drained))
            && told.contains(&StreamEvent::Ready(released.0, Interest::Drained))
    );
    assert_eq!(pair.a.undelivered(top.0), []);
    let delivery = pair.a.delivery(top.0).unwrap();
    assert_eq!((delivery.undelivered, delivery.unfinished), (0, 1));
    // Of one that is retired nothing is missing.
    assert!(pair.a.info(released.0).is_none());
    assert_eq!(pair.a.poll_flushed(released.0, u64::MAX), Poll::Ready(Ok(())));
}

// spec: STR-51
#[test]
fn losses_below_are_passed_on_when_streams_are_retired() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let middle = pair.child(top);
    let low = pair.child(middle);
    // So much that it cannot all be sent.
    pair.a.write_all(low.0, &[0; 500_000]);
    pair.a.finish(low.0).unwrap();
    pair.a.finish(middle.0).unwrap();
    pair.run();
    for (a, b) in [low, middle] {
        pair.a.release(a);
        pair.b.finish(b).unwrap();
    }
    pair.b.stop(low.1, Code::app(4), "full");
    assert_eq!(pair.b.read_now(middle.1), Poll::Ready(Ok(ReadOutcome::End)));
    for (_, b) in [low, middle] {
        pair.b.release(b);
    }
    flush(&mut pair, top.0);
    assert_eq!((pair.a.len(), pair.b.len()), (1, 1));
    let expected = SubtreeDelivery {
        undelivered: 1,
        first: Some((Code::app(4), "full".to_owned())),
        unfinished: 0,
    };
    assert_eq!(pair.a.delivery(top.0), Some(expected));
    // Who holds a stream learns there that it was stopped, and it counts as long as it is held.
    let held = pair.child(top);
    pair.a.write_all(held.0, b"x");
    pair.b.stop(held.1, Code::app(5), "");
    pair.run();
    assert_eq!(pair.a.delivery(top.0).unwrap().undelivered, 2);
    pair.a.release(held.0);
    assert_eq!(pair.a.delivery(top.0).unwrap().undelivered, 1);
}

// spec: STR-51
#[test]
fn the_end_of_the_channel_is_no_delivery() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let child = pair.child(top);
    pair.a.write_all(child.0, &[0; 5000]);
    pair.a.finish(child.0).unwrap();
    pair.a.release(child.0);
    assert_eq!(pair.a.poll_flushed(child.0, 5000), Poll::Pending);
    let reason = CloseReason::PeerRestarted;
    pair.a.fail_all(&reason);
    assert!(
        pair.a
            .events()
            .contains(&StreamEvent::Ready(child.0, Interest::Drained))
    );
    assert_eq!(pair.a.poll_flushed(child.0, 5000), Poll::Ready(Err(reason)));
}
