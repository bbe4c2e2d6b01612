//! Subtrees as units.

use super::*;
use crate::streams::SubtreeInfo;

/// A stream with two children, one of which has one.
fn family(pair: &mut Pair) -> [(StreamKey, StreamKey); 4] {
    let top = pair.stream();
    let left = pair.child(top);
    let right = pair.child(top);
    [top, left, right, pair.child(right)]
}

#[test]
fn sums_of_a_subtree_are_those_of_its_streams() {
    let mut pair = Pair::new();
    let [top, left, right, low] = family(&mut pair);
    for (n, both) in [(100, top), (20_000, left), (3000, right), (700, low)] {
        pair.a.write_all(both.0, &vec![0; n]);
    }
    let expected = SubtreeInfo {
        streams: 2,
        unsent: 3700,
        unacked: 3700,
        ..SubtreeInfo::default()
    };
    assert_eq!(pair.a.subtree_info(right.0), Some(expected));
    let packet = pair.a.packet(ROOM).unwrap();
    let info = pair.a.subtree_info(top.0).unwrap();
    assert_eq!((info.streams, info.unacked), (4, 23_800));
    assert!(info.sent > 1000 && info.sent + info.unsent == 23_800, "{info:?}");
    pair.b.take(&packet).unwrap();
    pair.a.acked(&packet);
    pair.run();
    let _ = pair.b.read(Instant::default(), low.1, 300);
    let expected = SubtreeInfo {
        streams: 2,
        received: 3700,
        unread: 3400,
        ..SubtreeInfo::default()
    };
    assert_eq!(pair.b.subtree_info(right.1), Some(expected));
    assert_eq!(pair.b.subtree_info(top.1).unwrap().unread, 23_500);
    let gone = pair.b.subtree_info(StreamKey {
        index: 0,
        generation: 0,
    });
    assert_eq!(gone, None, "the root is no stream of the application");
}
