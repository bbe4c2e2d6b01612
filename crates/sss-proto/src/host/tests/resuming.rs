//! Careful resume, seen from whole hosts: who is given what is known of a path, and who gets it back.

use super::*;
use crate::channel::{Path, ResumeState, SavedPath};
use sss_wire::Code;

/// Host 0 knows the path to host 1.
fn acquainted() -> (Net, SavedPath) {
    acquainted_with(Config::default())
}

fn acquainted_with(config: Config) -> (Net, SavedPath) {
    let mut net = Net::with([config, Config::default()]);
    let saved = SavedPath {
        window: 1_000_000,
        rate: 10_000_000,
        rtt: Duration::from_millis(50),
        at: net.now,
    };
    let (eid, path) = (net.eid(1), way(&net));
    net.host(0).local.history.saved_paths.note(eid, &path, saved);
    (net, saved)
}

fn way(net: &Net) -> Path {
    Path {
        route: net.nodes[1].address.into(),
        local: None,
    }
}

/// Knowledge that host 0 has of the path to host 1.
fn known(net: &mut Net) -> Option<SavedPath> {
    let (now, eid, path) = (net.now, net.eid(1), way(net));
    net.host(0).local.history.saved_paths.take(now, eid, &path)
}

fn state(net: &mut Net, stream: StreamId) -> ResumeState {
    net.host(0).channel_info(stream.peer()).unwrap().resume
}

fn leave(net: &mut Net, stream: StreamId) {
    let now = net.now;
    net.host(0).disconnect(now, stream.peer(), Code::NONE, "");
}

// spec: REC-15
#[test]
fn who_ends_a_connection_and_begins_another_one_at_once_uses_nothing_up() {
    let (mut net, saved) = acquainted();
    for pause in [0, 0, 0, 1, 5] {
        let stream = net.connect(0, 1);
        net.run(SECOND, |_| true);
        assert_eq!(state(&mut net, stream), ResumeState::Reconnaissance);
        leave(&mut net, stream);
        net.run(pause * SECOND, |_| true);
    }
    let now = net.now;
    assert!(now > saved.at);
    assert_eq!(known(&mut net), Some(saved), "with its age");
    assert_eq!(known(&mut net), None);
}

// spec: REC-15
#[test]
fn a_successor_gets_what_was_not_tried_and_no_other_does() {
    let (mut net, saved) = acquainted();
    let stream = net.connect(0, 1);
    net.run(SECOND, |_| true);
    for _ in 0..3 {
        net.renew();
        net.run(5 * SECOND, |_| true);
        assert_eq!(state(&mut net, stream), ResumeState::Reconnaissance);
        assert_eq!(known(&mut net), None, "it is in use");
    }
    leave(&mut net, stream);
    net.run(SECOND, |_| true);
    assert_eq!(known(&mut net), Some(saved));
}

// spec: REC-15
#[test]
fn what_is_known_of_one_peer_is_not_of_another_at_its_address() {
    let (mut net, saved) = acquainted();
    // Another host is there now.
    net.nodes[1].host = Host::new(Config::default(), StaticKey::from_bytes([77; 32]), [77; 32]);
    net.host(1).listen(SERVICE.0, SERVICE.1).unwrap();
    let stream = net.connect(0, 1);
    net.run(SECOND, |_| true);
    assert_eq!(state(&mut net, stream), ResumeState::Unknown);
    assert_eq!(known(&mut net), None);
    let (now, path) = (net.now, way(&net));
    let other = Eid::from_public_key(&StaticKey::from_bytes([2; 32]).public());
    assert_eq!(
        net.host(0).local.history.saved_paths.take(now, other, &path),
        Some(saved)
    );
}

// spec: REC-15
#[test]
fn who_does_not_resume_takes_nothing() {
    let (mut net, saved) = acquainted_with(Config::default().with(|c| c.careful_resume = false));
    let stream = net.connect(0, 1);
    net.run(SECOND, |_| true);
    assert_eq!(state(&mut net, stream), ResumeState::Unknown);
    assert_eq!(known(&mut net), Some(saved));
}

// spec: REC-15, MIG-13
#[test]
fn whoever_is_elsewhere_knows_no_path_from_where_he_was() {
    for is_outer in [false, true] {
        for has_moved in [false, true] {
            let (mut net, saved) = acquainted();
            let now = net.now;
            if is_outer {
                net.host(0).outer_address_changed(now, |_| has_moved);
            } else {
                net.host(0).network_changed(now, |_, _| has_moved);
            }
            assert_eq!(known(&mut net), Some(saved).filter(|_| !has_moved), "outer: {is_outer}");
        }
    }
}

// spec: REC-15, MIG-13
#[test]
fn what_a_channel_was_given_where_this_host_was_is_not_for_one_where_it_is() {
    let (mut net, _) = acquainted();
    let stream = net.connect(0, 1);
    net.run(SECOND, |_| true);
    assert_eq!(state(&mut net, stream), ResumeState::Reconnaissance);
    let now = net.now;
    net.host(0).network_changed(now, |_, _| true);
    assert_eq!(state(&mut net, stream), ResumeState::Declined);
    net.run(10 * SECOND, |_| true);
    assert_eq!(state(&mut net, stream), ResumeState::Unknown, "on its successor");
    leave(&mut net, stream);
    net.run(SECOND, |_| true);
    assert_eq!(known(&mut net), None);
}

// spec: REC-15
#[test]
fn whoever_is_called_makes_use_of_what_he_knows_as_well() {
    let (mut net, saved) = acquainted();
    let (eid, route) = (net.eid(0), net.nodes[0].address.into());
    let path = Path { route, local: None };
    net.host(1).local.history.saved_paths.note(eid, &path, saved);
    net.connect(0, 1);
    net.run(SECOND, |_| true);
    let peer = net.peer(1, 0);
    let channel = net.host(1).channel_info(peer).unwrap();
    assert_eq!(channel.resume, ResumeState::Reconnaissance);
}

// spec: REC-15
#[test]
fn a_channel_keeps_what_it_was_given_when_another_one_is_made_by_another_path() {
    let (mut net, saved) = acquainted();
    let (eid, path) = (net.eid(0), |net: &Net| Path {
        route: net.nodes[0].address.into(),
        local: None,
    });
    let first = path(&net);
    net.host(1).local.history.saved_paths.note(eid, &first, saved);
    let stream = net.connect(0, 1);
    written(net.host(0).stream(stream).poll_write(b"x"));
    net.run(SECOND, |_| true);
    let id = net.peer(1, 0);
    let state = |net: &mut Net| net.host(1).channel_info(id).unwrap().resume;
    assert_eq!(state(&mut net), ResumeState::Reconnaissance);
    // The next channel comes from another address.
    net.nodes[0].address.set_port(5000);
    assert_ne!(path(&net), first);
    net.renew();
    net.run(SECOND / 50, |_| true);
    assert_eq!(net.host(1).peers.get_mut(id).unwrap().open_channels(), 2);
    let now = net.now;
    let known = net.host(1).local.history.saved_paths.take(now, eid, &first);
    assert_eq!(known, None, "it is in use");
}
