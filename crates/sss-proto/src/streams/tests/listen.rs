//! Listen modes, and what waits to be accepted.

use sss_wire::constants::OPEN_COST;

use super::*;
use crate::error::{OpenError, ReadError, WriteError};
use crate::interest::Interest;
use crate::refusal::Refusal;
use crate::streams::ListenMode;

/// Opens a child and sends so many bytes on it.
fn open_child(pair: &mut Pair, parent: StreamKey, bytes: usize) -> StreamKey {
    let child = pair.a.open_substream(parent).unwrap();
    pair.a.write_all(child, &vec![1; bytes]);
    pair.run();
    pair.b.check_costs("after a child was opened");
    child
}

fn refusal(pair: &mut Pair, key: StreamKey) -> Option<Refusal> {
    match pair.a.read_now(key) {
        Poll::Ready(Err(ReadError::Refused(refusal))) => Some(refusal),
        Poll::Pending => None,
        other => panic!("{other:?}"),
    }
}

// spec: STR-41, STR-42
#[test]
fn reject_refuses_what_comes_and_what_waits() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let waiting = open_child(&mut pair, a, 10);
    let accepted = open_child(&mut pair, a, 10);
    // The first in the backlog is accepted.
    let first = pair.b.accept_substream(b).unwrap().unwrap();
    pair.b.set_listen_mode(b, ListenMode::Reject);
    pair.run();
    pair.b.check_costs("after reject");
    assert_eq!(refusal(&mut pair, waiting), None);
    assert_eq!(refusal(&mut pair, accepted), Some(Refusal::NoListener));
    let late = open_child(&mut pair, a, 10);
    assert_eq!(refusal(&mut pair, late), Some(Refusal::NoListener));
    assert_eq!(pair.a.write(late, b"x"), Err(WriteError::Refused(Refusal::NoListener)));
    assert_eq!(
        pair.a.open_substream(late),
        Err(OpenError::Refused(Refusal::NoListener))
    );
    assert_eq!(pair.b.accept_substream(b), Ok(None));
    assert!(!pair.b.events().contains(&StreamEvent::Ready(b, Interest::Accept)));
    // The stream itself, and the other direction, go on.
    pair.a.write_all(a, b"still here");
    let other = pair.b.open_substream(b).unwrap();
    pair.run();
    assert_eq!(pair.b.read_all(b).0, b"still here");
    assert!(pair.a.accept_substream(a).unwrap().is_some());
    assert_eq!(pair.b.read_all(first).0, vec![1; 10]);
    assert!(pair.b.info(other).is_some());
}

/// Lets a stream of a that is not accepted send so much more.
fn give(pair: &mut Pair, key: StreamKey, bytes: u64) {
    let lsid = pair.a.lsid_of(key);
    let limit = pair.a.life.tree.table[key.index].send.limit;
    pair.a.raise_limit(key.index, limit + bytes);
    let Found::Live(index) = pair.b.find(lsid) else {
        panic!("{lsid}");
    };
    pair.b.lend_more(index, bytes);
}

// spec: STR-41
#[test]
fn a_limit_counts_opening_and_bytes_of_what_waits() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    let limit = 3 * OPEN_COST + 1000;
    pair.b.set_listen_mode(b, ListenMode::Limit(limit));
    let three: Vec<_> = [400, 300, 300].map(|n| open_child(&mut pair, a, n)).into();
    for child in &three {
        assert_eq!(refusal(&mut pair, *child), None, "what fits exactly waits");
    }
    let too_many = open_child(&mut pair, a, 0);
    assert_eq!(refusal(&mut pair, too_many), Some(Refusal::Backlog));
    give(&mut pair, three[2], 1);
    pair.a.write_all(three[2], b"x");
    pair.run();
    pair.b.check_costs("after a byte too much");
    assert_eq!(
        refusal(&mut pair, three[2]),
        Some(Refusal::Backlog),
        "the child that exceeds"
    );
    assert_eq!(refusal(&mut pair, three[0]), None, "not another");
    // What is accepted burdens no more.
    let first = pair.b.accept_substream(b).unwrap().unwrap();
    pair.a.write_all(three[0], &[2; 5000]);
    pair.run();
    assert_eq!(pair.b.read_all(first).0.len(), 5400);
    // What the opener took back neither, but it costs its opening until it is accepted.
    pair.a.reset(three[1], Code::app(1), "");
    pair.run();
    pair.b.check_costs("after a reset");
    let again = open_child(&mut pair, a, 1000 + OPEN_COST as usize);
    assert_eq!(refusal(&mut pair, again), None);
    let second = pair.b.accept_substream(b).unwrap().unwrap();
    assert!(matches!(
        pair.b.read_now(second),
        Poll::Ready(Err(ReadError::Reset { .. }))
    ));
    let third = pair.b.accept_substream(b).unwrap().unwrap();
    assert_eq!(pair.b.read_all(third).0.len(), 1000 + OPEN_COST as usize);
    assert_eq!(pair.b.accept_substream(b), Ok(None));
    pair.b.check_costs("when all are accepted");
}

// spec: STR-41
#[test]
fn nesting_does_not_evade_a_limit() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.set_listen_mode(b, ListenMode::Limit(2600));
    let child = open_child(&mut pair, a, 0);
    let grandchild = open_child(&mut pair, child, 500);
    let great = open_child(&mut pair, grandchild, 500);
    let more = open_child(&mut pair, great, 0);
    assert_eq!(refusal(&mut pair, more), Some(Refusal::Backlog));
    give(&mut pair, grandchild, 300);
    pair.a.write_all(grandchild, &[1; 300]);
    pair.run();
    pair.b.check_costs("after too much");
    assert_eq!(refusal(&mut pair, grandchild), Some(Refusal::Backlog));
    assert_eq!(refusal(&mut pair, great), Some(Refusal::NoListener), "it waited below");
    assert_eq!(refusal(&mut pair, child), None);
    // What waits below an accepted stream burdens that one.
    let grandchild = open_child(&mut pair, child, 1000);
    let child_b = pair.b.accept_substream(b).unwrap().unwrap();
    pair.b.check_costs("when the middle is accepted");
    open_child(&mut pair, child, 400);
    open_child(&mut pair, a, 1700);
    assert!(pair.b.accept_substream(child_b).unwrap().is_some());
    assert!(pair.b.accept_substream(child_b).unwrap().is_some());
    assert!(pair.b.accept_substream(b).unwrap().is_some());
    assert_eq!(refusal(&mut pair, grandchild), None);
    assert_eq!(pair.b.accept_substream(b), Ok(None));
}

// spec: STR-41
#[test]
fn modes_are_inherited_from_the_nearest_that_has_one() {
    let mut pair = Pair::new();
    let top = pair.stream();
    let middle = pair.child(top);
    let low = pair.child(middle);
    pair.b.set_listen_mode(top.1, ListenMode::Reject);
    let refused = open_child(&mut pair, low.0, 1);
    assert_eq!(refusal(&mut pair, refused), Some(Refusal::NoListener));
    pair.b.set_listen_mode(middle.1, ListenMode::Unlimited);
    let waits = open_child(&mut pair, low.0, 1);
    assert_eq!(refusal(&mut pair, waits), None);
    pair.b.set_listen_mode(middle.1, ListenMode::Inherit);
    let refused = open_child(&mut pair, low.0, 1);
    assert_eq!(refusal(&mut pair, refused), Some(Refusal::NoListener));
    let refused = open_child(&mut pair, top.0, 1);
    assert_eq!(refusal(&mut pair, refused), Some(Refusal::NoListener));
}

// spec: STR-41
#[test]
fn without_a_mode_only_credit_bounds_what_waits() {
    let mut pair = Pair::with_root(65_536);
    let (a, b) = pair.stream();
    let children: Vec<_> = (0..1000).map(|_| pair.a.open_substream(a).unwrap()).collect();
    pair.run();
    let first = pair.b.len() as u64;
    assert!((16..65_536 / OPEN_COST).contains(&first), "{first}");
    let mut accepted = 0;
    while pair.b.accept_substream(b).unwrap().is_some() {
        accepted += 1;
        pair.run();
    }
    assert_eq!(accepted, children.len());
}

// spec: STR-42
#[test]
fn an_application_cannot_pretend_a_refusal() {
    let mut pair = Pair::new();
    let (a, b) = pair.stream();
    pair.b.stop(b, Code::BACKLOG, "");
    pair.b.reset(b, Code::REFUSED_SERVICE, "");
    pair.run();
    let stopped = pair.a.write(a, b"x");
    assert!(
        matches!(stopped, Err(WriteError::Stopped { code: Code::UNREAD, .. })),
        "{stopped:?}"
    );
    let reset = pair.a.read_now(a);
    assert!(
        matches!(
            reset,
            Poll::Ready(Err(ReadError::Reset {
                code: Code::DROPPED,
                ..
            }))
        ),
        "{reset:?}"
    );
    // A peer that does: only who opened a stream can be refused.
    let mut pair = Pair::new();
    let (_, b) = pair.stream();
    let (scope, code) = (Scope::Stream, Code::BACKLOG);
    let forged = Frame::Reset(Reset {
        lsid: 1,
        scope,
        code,
        final_size: 0,
        reason: "",
    });
    pair.b.forged(&forged).unwrap();
    let reset = pair.b.read_now(b);
    assert!(
        matches!(
            reset,
            Poll::Ready(Err(ReadError::Reset {
                code: Code::BACKLOG,
                ..
            }))
        ),
        "{reset:?}"
    );
}
