use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;

fn eid(n: u8) -> Eid {
    Eid::from_public_key(&[n; 32])
}

/// A peer of a network of its own.
fn owner(n: u8) -> Owner {
    of(n, n)
}

fn of(n: u8, network: u8) -> Owner {
    Owner::of(eid(n), Some(IpAddr::from([10, 0, 0, network]).into()))
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future)
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn claim(limits: &Arc<Limits>, n: u8) -> Claim {
    now(limits.claim(owner(n))).expect("there is room for a request")
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits::new(2))
}

fn call(claim: &Claim) -> Option<Call> {
    claim.entry.clock().call
}

#[test]
fn whoever_does_not_move_is_called_to_pause_once_its_time_is_over() {
    let limits = limits();
    let (idle, moving, waiting) = (claim(&limits, 1), claim(&limits, 1), claim(&limits, 1));
    let _open = (now(idle.descriptor(1)).unwrap(), now(moving.descriptor(1)).unwrap());
    let begun = Instant::now();
    limits.look(begun + PATIENCE / 2);
    assert_eq!(call(&idle), None);
    moving.entry.clock().moved = begun + PATIENCE / 2;
    limits.look(begun + PATIENCE);
    assert_eq!((call(&idle), call(&moving)), (Some(Call::Pause), None));
    assert_eq!(call(&waiting), None, "it holds nothing");
    assert!(now(idle.called_to_pause()).is_some() && now(idle.given_up()).is_none());
    idle.paused();
    assert!(now(idle.called_to_pause()).is_none());
    limits.look(begun + 2 * PATIENCE);
    assert_eq!(call(&idle), None, "nothing more is to be had of it");
    idle.resumed();
    limits.look(begun + 4 * PATIENCE);
    assert_eq!(call(&idle), Some(Call::Pause));
}

#[test]
fn who_stands_gives_way_sooner_to_those_who_wait() {
    let limits = limits();
    let (standing, moving) = (claim(&limits, 1), claim(&limits, 1));
    let _one = now(standing.descriptor(1)).unwrap();
    let _rest: Vec<_> = std::iter::from_fn(|| now(moving.descriptor(1))).collect();
    let begun = Instant::now();
    moving.entry.clock().moved = begun + BRIEF;
    limits.look(begun + BRIEF);
    assert_eq!(call(&standing), None, "nobody waits");
    let another = claim(&limits, 1);
    let mut waiting: Pin<Box<_>> = Box::pin(another.descriptor(1));
    assert!(now(waiting.as_mut()).is_none());
    limits.look(begun + BRIEF);
    assert_eq!((call(&standing), call(&moving)), (Some(Call::Pause), None));
}

#[test]
fn whoever_comes_back_gets_what_its_killed_process_holds() {
    let limits = limits();
    let begun = Instant::now();
    let [killed, idle, of_another] = [1, 1, 2].map(|n| claim(&limits, n));
    let _open = [&killed, &of_another].map(|claim| now(claim.descriptor(1)).unwrap());
    limits.pause_standing(eid(1), begun);
    assert_eq!(call(&killed), None, "it may be slow");
    limits.pause_standing(eid(1), begun + BRIEF + Duration::from_millis(100));
    let calls = [&killed, &idle, &of_another].map(call);
    assert_eq!(calls, [Some(Call::Pause), None, None]);
}

#[test]
fn whoever_waits_gets_what_moved_least_of_the_peer_that_has_most() {
    let limits = limits();
    let begun = Instant::now();
    let mut greedy = Vec::new();
    let mut rooms = Vec::new();
    for n in [1, 1, 1, 2, 4] {
        let claim = claim(&limits, n);
        rooms.push(now(claim.room((BYTES_OF_ONE / 2) as usize)));
        greedy.push(claim);
    }
    assert_eq!(rooms.iter().flatten().count(), 4, "no peer has more than its part");
    let modest = claim(&limits, 3);
    let mut room: Pin<Box<_>> = Box::pin(modest.room(1000));
    assert!(now(room.as_mut()).is_none());
    greedy[0].entry.clock().moved = begun + Duration::from_secs(1);
    limits.look(begun);
    let calls: Vec<_> = greedy.iter().map(call).collect();
    assert_eq!(calls.iter().flatten().count(), 1, "one waits: {calls:?}");
    rooms.clear();
    assert!(now(room.as_mut()).is_some());
}

#[test]
fn what_is_under_way_to_a_peer_that_is_gone_is_given_up_for_others() {
    let limits = limits();
    let begun = Instant::now();
    let gone = claim(&limits, 1);
    let _under_way = [
        now(gone.room(BYTES_OF_ONE as usize)),
        now(claim(&limits, 2).room(BYTES_OF_ONE as usize - 10)),
    ];
    gone.paused();
    let modest = claim(&limits, 3);
    let mut room: Pin<Box<_>> = Box::pin(modest.room(1000));
    assert!(now(room.as_mut()).is_none());
    limits.look(begun + PATIENCE / 2);
    assert_eq!(call(&gone), None, "it may come back");
    limits.look(begun + PATIENCE + Duration::from_secs(1));
    assert_eq!(call(&gone), Some(Call::GiveUp));
}

#[test]
fn nobody_is_given_up_for_the_sake_of_whoever_has_its_part() {
    let limits = limits();
    let begun = Instant::now();
    let gone = claim(&limits, 1);
    let modest = [claim(&limits, 2), claim(&limits, 3)];
    let _under_way = [
        now(gone.room(BYTES_OF_ONE as usize)).unwrap(),
        now(modest[0].room((BYTES_OF_ONE / 2) as usize)).unwrap(),
        now(modest[1].room((BYTES_OF_ONE / 2) as usize)).unwrap(),
    ];
    gone.paused();
    let mut more: Pin<Box<_>> = Box::pin(modest[0].room(1000));
    assert!(now(more.as_mut()).is_none());
    limits.look(begun + 2 * PATIENCE);
    assert_eq!(call(&gone), None);
}

#[test]
fn room_that_bytes_do_not_need_is_given_back_at_once() {
    let limits = limits();
    let claim = claim(&limits, 1);
    let bytes = now(claim.room(BYTES_OF_ONE as usize)).unwrap().hold(vec![7; 100]);
    assert_eq!(claim.entry.clock().bytes.count, 100);
    let _rest = claim.try_room((BYTES_OF_ONE - 100) as usize).unwrap();
    assert!(claim.try_room(1).is_none());
    drop(bytes);
    assert!(claim.try_room(100).is_some());
}

#[test]
fn bytes_hold_their_room_until_nobody_holds_them() {
    let limits = limits();
    let claim = claim(&limits, 1);
    let content = vec![7; BYTES_OF_ONE as usize];
    let bytes = now(claim.room(BYTES_OF_ONE as usize)).unwrap().hold(content);
    let slice = bytes.slice(10..20);
    drop(bytes);
    assert!(claim.try_room(1).is_none());
    assert_eq!(claim.entry.clock().bytes.count, BYTES_OF_ONE);
    drop(slice);
    assert!(claim.try_room(1).is_some());
}

#[test]
fn requests_at_hand_are_bounded_for_each_peer() {
    let limits = limits();
    let claims: Vec<_> = (0..REQUESTS_OF_ONE).map(|_| claim(&limits, 1)).collect();
    assert!(now(limits.claim(owner(1))).is_none());
    assert!(now(limits.claim(owner(2))).is_some());
    drop(claims);
    assert!(now(limits.claim(owner(1))).is_some());
    assert!(limits.at_hand().requests.is_empty());
}

#[test]
fn open_files_are_bounded_for_each_peer_and_for_all() {
    let limits = limits();
    let one = claim(&limits, 1);
    let of_one: Vec<_> = std::iter::from_fn(|| now(one.descriptor(1))).collect();
    assert_eq!(of_one.len() as u64, descriptors() / 2);
    let another = claim(&limits, 2);
    let of_another: Vec<_> = std::iter::from_fn(|| now(another.descriptor(1))).collect();
    assert!(!of_another.is_empty() && of_another.len() < of_one.len());
}

#[test]
fn when_the_system_has_no_descriptor_left_the_least_mover_gives_up_its_own() {
    let limits = limits();
    let (least, other, without) = (claim(&limits, 1), claim(&limits, 2), claim(&limits, 3));
    let _open = (now(least.descriptor(1)).unwrap(), now(other.descriptor(1)).unwrap());
    let now = Instant::now();
    for (claim, moved) in [(&without, 30), (&least, 20), (&other, 10)] {
        claim.entry.clock().moved = now - Duration::from_millis(moved);
    }
    limits.out_of_descriptors();
    assert_eq!(
        (call(&without), call(&least), call(&other)),
        (None, Some(Call::Pause), None)
    );
}

fn claim_of(limits: &Arc<Limits>, n: u8, network: u8) -> Claim {
    now(limits.claim(of(n, network))).expect("there is room for a request")
}

// Threat 34: many identities of one network that read slowly.
#[test]
fn threat_34_who_moves_slowly_has_what_others_wait_for_for_a_turn() {
    let limits = limits();
    let begun = Instant::now();
    let crowd: Vec<_> = (0..200).map(|n| claim_of(&limits, n, 1)).collect();
    let piece = 256 << 10;
    let rooms: Vec<_> = crowd.iter().map_while(|claim| now(claim.room(piece))).collect();
    assert!(rooms.len() < 150, "something is left for others");
    // Each of them moves, a little, all the time.
    let look = |at| {
        crowd.iter().for_each(|claim| claim.entry.clock().moved = begun + at);
        limits.look(begun + at);
        crowd.iter().filter_map(call).count()
    };
    let own = claim_of(&limits, 200, 1);
    let mut waiting: Pin<Box<_>> = Box::pin(own.room(piece));
    assert!(now(waiting.as_mut()).is_none());
    assert_eq!(look(TURN / 2), 0);
    assert_eq!(look(TURN + Duration::from_millis(500)), 1);
    let other = claim_of(&limits, 201, 2);
    assert!(now(other.room(piece)).is_some() && now(other.descriptor(1)).is_some());
}

// Threat 34
#[test]
fn threat_34_listings_that_are_read_slowly_give_way() {
    let limits = limits();
    let begun = Instant::now();
    let crowd: Vec<_> = (0..100).map(|n| claim_of(&limits, n, 1)).collect();
    let walks: Vec<_> = crowd.iter().map_while(|claim| now(claim.walk())).collect();
    let (own, other) = (claim_of(&limits, 100, 1), claim_of(&limits, 101, 2));
    assert!(now(other.walk()).is_some());
    let mut waiting: Pin<Box<_>> = Box::pin(own.walk());
    assert!(now(waiting.as_mut()).is_none());
    let after = begun + TURN + Duration::from_millis(500);
    crowd.iter().for_each(|claim| claim.entry.clock().moved = after);
    limits.look(after);
    let called: Vec<_> = crowd.iter().filter_map(call).collect();
    assert_eq!(called, [Call::Pause]);
    drop(walks);
    assert!(now(waiting.as_mut()).is_some());
}

// Threat 34: they cannot pause.
#[test]
fn threat_34_entries_that_come_slowly_are_given_up_for_others() {
    let limits = limits();
    let begun = Instant::now();
    let crowd: Vec<_> = (0..=255).map(|n| claim_of(&limits, n, 1)).collect();
    let makings: Vec<_> = crowd.iter().map_while(|claim| now(claim.making())).collect();
    assert!(makings.len() as u64 * 3 <= MAKINGS * 2 + 3);
    let mut waiting: Pin<Box<_>> = Box::pin(crowd[255].making());
    assert!(now(waiting.as_mut()).is_none());
    let look = |at| {
        crowd.iter().for_each(|claim| claim.entry.clock().moved = begun + at);
        limits.look(begun + at);
        crowd.iter().filter_map(call).collect::<Vec<_>>()
    };
    assert_eq!(look(PATIENCE / 2), []);
    assert_eq!(look(PATIENCE + Duration::from_secs(1)), [Call::GiveUp]);
}

// Threat 34
#[test]
fn threat_34_requests_of_a_crowd_leave_room_for_others_and_are_given_up_for_who_has_none() {
    let limits = limits();
    let begun = Instant::now();
    let crowd = (0..100).flat_map(|n| {
        std::iter::from_fn(|| now(limits.claim(of(n, 1))))
            .take(200)
            .collect::<Vec<_>>()
    });
    let crowd: Vec<_> = crowd.collect();
    assert!(crowd.len() as u64 * 3 <= REQUESTS * 2 + 3);
    assert!(now(limits.claim(of(100, 2))).is_some());
    let mut waiting: Pin<Box<_>> = Box::pin(limits.claim(of(101, 1)));
    assert!(now(waiting.as_mut()).is_none());
    let look = |at| {
        crowd.iter().for_each(|claim| claim.entry.clock().moved = begun + at);
        limits.look(begun + at);
        crowd.iter().filter_map(call).collect::<Vec<_>>()
    };
    assert_eq!(look(PATIENCE / 2), [], "they have not had their time");
    assert_eq!(look(PATIENCE + Duration::from_secs(1)), [Call::GiveUp]);
}

#[test]
fn room_goes_to_the_heir_as_soon_as_its_bytes_have_arrived() {
    let limits = limits();
    let claim = claim(&limits, 1);
    let bytes = now(claim.room(1000)).unwrap().hold(Vec::with_capacity(1000));
    let mut heir = claim.heir();
    assert!(heir.try_recv().is_err());
    drop(bytes);
    let room = heir.try_recv().expect("it has arrived");
    assert_eq!((room.bytes(), claim.entry.clock().bytes.count), (1000, 1000));
    let bytes = room.hold(Vec::with_capacity(1000));
    drop(claim.heir());
    drop(bytes);
    assert_eq!(claim.entry.clock().bytes.count, 0, "nobody waits for it any more");
}

// Threat 34: who reads slowly takes nothing from who reads quickly, wherever it comes from.
#[test]
fn threat_34_those_who_read_slowly_leave_the_room_of_the_others_alone() {
    let limits = limits();
    let piece = 16 << 10;
    let mut rooms = Vec::new();
    let mut crowd = Vec::new();
    for n in 0..=255 {
        for network in 0..4 {
            let claim = claim_of(&limits, n, network);
            claim.note_slow(true);
            rooms.extend(now(claim.room(piece)));
            crowd.push(claim);
        }
    }
    assert!(rooms.len() < crowd.len(), "there is not enough for all");
    let quick = claim_of(&limits, 1, 0);
    assert!(now(quick.room(BYTES_OF_ONE as usize)).is_some());
    quick.note_slow(true);
    assert!(now(quick.room(piece)).is_none(), "it waits as the others do");
}

// Threat 34: requests that a crowd leaves behind.
#[test]
fn threat_34_requests_of_those_that_are_gone_are_given_up_for_others_soon() {
    let limits = limits();
    let begun = Instant::now();
    let crowd: Vec<_> = (0..100)
        .flat_map(|n| (0..200).map(move |_| n))
        .map_while(|n| now(limits.claim(of(n, 1))))
        .enumerate()
        .map(|(n, claim)| claim.of_peer(Arc::new(move || n == 7)))
        .collect();
    let mut waiting: Pin<Box<_>> = Box::pin(limits.claim(of(200, 1)));
    assert!(now(waiting.as_mut()).is_none());
    let calls = |at| {
        limits.look(begun + at);
        let called = crowd
            .iter()
            .enumerate()
            .filter_map(|(n, claim)| Some((n, call(claim)?)));
        called.collect::<Vec<_>>()
    };
    assert_eq!(calls(GONE / 2), [], "it may come back");
    assert_eq!(calls(GONE + Duration::from_secs(1)), [(7, Call::GiveUp)]);
}

#[test]
fn requests_of_processes_that_were_killed_are_given_up_for_those_of_the_same_peer() {
    let limits = limits();
    let begun = Instant::now();
    let killed = Arc::new(AtomicBool::new(false));
    let all = std::iter::from_fn(|| now(limits.claim(owner(1))));
    let all: Vec<_> = all
        .map(|claim| {
            let killed = killed.clone();
            claim.of_peer(Arc::new(move || killed.load(Ordering::Relaxed)))
        })
        .collect();
    assert_eq!(all.len() as u64, REQUESTS_OF_ONE);
    let given_up = |at| {
        limits.look(begun + at);
        all.iter().filter(|claim| call(claim) == Some(Call::GiveUp)).count() as u64
    };
    killed.store(true, Ordering::Relaxed);
    assert_eq!(given_up(2 * GONE), 0, "nobody waits");
    let mut other: Pin<Box<_>> = Box::pin(limits.claim(owner(1)));
    assert!(now(other.as_mut()).is_none());
    killed.store(false, Ordering::Relaxed);
    assert_eq!(given_up(2 * GONE), 0, "they can be reached");
    killed.store(true, Ordering::Relaxed);
    assert_eq!(given_up(GONE / 2), 0, "they may come back");
    assert_eq!(given_up(2 * GONE), REQUESTS_OF_ONE);
    drop(all);
    assert!(now(other.as_mut()).is_some());
}

// Threat 34: the first pieces of a crowd do not take all the room there is.
#[test]
fn threat_34_room_is_scarce_before_there_is_none() {
    let limits = limits();
    let one = claim(&limits, 1);
    let _some = now(one.room((BYTES / 4) as usize)).unwrap();
    assert!(!one.is_room_scarce());
    let another = claim(&limits, 2);
    let _more = now(another.room(1)).unwrap();
    assert!(another.is_room_scarce());
}
