//! Random scenarios. `SSS_SEED=n cargo test -p sss-sim --test it replay -- --nocapture` plays one again.

use sss_sim::{Profile, scenario};

fn play(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let (Err(failure), _) = scenario::run(seed, None, false) {
            panic!("{failure}");
        }
    }
}

// spec: STR-4, STR-5, STR-11, STR-12, STR-13, STR-15
#[test]
fn seeds_0() {
    play(0..40);
}

#[test]
fn seeds_1() {
    play(40..80);
}

#[test]
fn seeds_2() {
    play(80..120);
}

#[test]
fn seeds_3() {
    play(120..160);
}

#[test]
fn seeds_4() {
    play(160..200);
}

#[test]
fn seeds_5() {
    play(200..240);
}

#[test]
fn seeds_6() {
    play(240..280);
}

#[test]
fn seeds_7() {
    play(280..320);
}

#[test]
fn every_profile() {
    for profile in Profile::ALL {
        for seed in 1000..1003 {
            if let (Err(failure), _) = scenario::run(seed, Some(profile), false) {
                panic!("{failure}");
            }
        }
    }
}

// spec: STR-27, STR-29
#[test]
fn records_are_among_what_happens() {
    let records = |seed| match scenario::run(seed, Some(Profile::Transfer), false).0 {
        Ok(report) => report.records,
        Err(failure) => panic!("{failure}"),
    };
    let all: u64 = (2000..2016).map(records).sum();
    assert!(all > 200, "{all}");
}

// spec: STR-32, STR-34
#[test]
fn datagrams_are_among_what_happens() {
    let datagrams = |seed| match scenario::run(seed, Some(Profile::Mixed), false).0 {
        Ok(report) => report.datagrams,
        Err(failure) => panic!("{failure}"),
    };
    assert!((2100..2106).map(datagrams).sum::<u64>() > 50);
}

#[test]
fn replay() {
    let Ok(text) = std::env::var("SSS_SEED") else {
        return;
    };
    let seed = text.parse().expect("SSS_SEED is a number");
    let (result, transcript) = scenario::run(seed, None, true);
    println!("{}", transcript.text());
    match result {
        Ok(report) => println!("{report:#?}"),
        Err(failure) => panic!("{failure}"),
    }
}
