//! Routers and firewalls do what their kind says.

use std::time::Duration;

use sss_lab::check::{self, Finding};
use sss_lab::{Kind, Lab, Link, probe};

use crate::{lab_or_skip, unless_skipped};

fn assert_good(findings: Vec<Finding>, number: usize) {
    assert_eq!(findings.len(), number);
    let bad: Vec<Finding> = findings.into_iter().filter(|finding| !finding.is_good()).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn routers_map_and_filter_as_their_kind_says() {
    if let Some(findings) = unless_skipped(check::kinds()) {
        assert_good(findings, 13);
    }
}

#[test]
fn firewalls_let_through_what_they_say() {
    if let Some(findings) = unless_skipped(check::firewalls()) {
        assert_good(findings, 6);
    }
}

#[test]
fn hosts_get_through_where_no_trick_is_needed() {
    if let Some(findings) = unless_skipped(check::pairs()) {
        assert_good(findings, 28);
    }
}

#[test]
fn an_open_input_takes_the_mapping_of_who_is_later_than_a_one_way_delay() {
    let link = Link::parse(["delay=200ms"]).unwrap();
    let lab = Lab::builder()
        .site("a", Kind::PrcAccept)
        .site("b", Kind::PrcAccept)
        .link(link);
    let Some(lab) = lab_or_skip(lab) else {
        return;
    };
    let punch = |later| {
        let [a, b, server] = ["a", "b", "server"].map(|name| lab.node(name).unwrap());
        probe::punch(a, b, server, Duration::from_millis(later)).unwrap()
    };
    let [together, apart] = std::thread::scope(|scope| {
        let attempts = [scope.spawn(|| punch(0)), scope.spawn(|| punch(500))];
        attempts.map(|attempt| attempt.join().unwrap())
    });
    assert!(
        together.after.is_some_and(|after| after >= Duration::from_millis(400)),
        "{together:?}"
    );
    assert_eq!(apart.after, None);
}
