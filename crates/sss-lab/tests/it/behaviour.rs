//! Routers and firewalls do what their kind says.

use sss_lab::check::{self, Finding};

use crate::unless_skipped;

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
