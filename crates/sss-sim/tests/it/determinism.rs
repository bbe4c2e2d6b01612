//! The same seed gives the same run, byte for byte.

use sss_sim::{Profile, scenario};

#[test]
fn second_run_has_the_same_hash() {
    for seed in 5000..5020 {
        let (first, second) = (scenario::run(seed, None, false).1, scenario::run(seed, None, false).1);
        assert_eq!(first.hash(), second.hash(), "seed {seed}");
        assert_eq!(first.entries(), second.entries(), "seed {seed}");
    }
}

#[test]
fn second_run_has_the_same_text() {
    for (seed, profile) in (6000..).zip(Profile::ALL) {
        let (first, second) = (
            scenario::run(seed, Some(profile), true).1,
            scenario::run(seed, Some(profile), true).1,
        );
        assert!(!first.text().is_empty());
        let differs = first.text().lines().zip(second.text().lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}, {profile}");
        assert!(first.text() == second.text(), "seed {seed}, {profile}");
    }
}

#[test]
fn keeping_the_text_changes_nothing() {
    let (with, without) = (scenario::run(77, None, true).1, scenario::run(77, None, false).1);
    assert_eq!(with.hash(), without.hash());
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(
        scenario::run(1, None, false).1.hash(),
        scenario::run(2, None, false).1.hash()
    );
}
