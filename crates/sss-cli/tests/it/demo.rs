//! The demo, shortened.

use crate::support::Home;

#[test]
fn the_demo_shows_everything_and_ends_well() {
    let home = Home::new();
    let ran = home.run(["demo", "--json", "--calls", "2000", "--seed", "7"]).expect(0);
    let generated = ran.event("generated");
    assert!(generated["files"].as_u64().unwrap() >= 300);
    assert_eq!(generated["bytes"], 64 << 20);
    assert_eq!(generated["largest"], 8 << 20);
    let connected = ran.event("connected");
    assert_ne!(connected["ours"], connected["theirs"]);
    let done = ran.event("done");
    assert_eq!((&done["bytes_moved"], &done["failed"]), (&(64 << 20).into(), &0.into()));
    assert!(ran.event("tree")["streams"].as_u64().unwrap() > 2);
    assert_eq!(ran.event("compared")["files"], generated["files"]);
    let calls = ran.event("calls");
    assert_eq!(calls["count"], 2000);
    assert!(calls["p99_ms"].as_f64().unwrap() >= calls["median_ms"].as_f64().unwrap());
    let link = ran.event("link");
    assert!(link["mtu"].as_u64().unwrap() >= 1200);
    assert!(["Limit", "Searching"].contains(&link["mtu_state"].as_str().unwrap()));
    assert!(link["peak_bandwidth"].as_u64() >= link["bandwidth"].as_u64() && link["bandwidth"].is_u64());
    assert_eq!(ran.json().last().unwrap()["event"], "ok");
}

#[test]
fn the_demo_says_what_it_does() {
    let home = Home::new();
    let ran = home.run(["demo", "--calls", "100"]).expect(0);
    for word in [
        "generated ",
        "host A  sss1",
        "host B  sss1",
        "negotiated a channel",
        "the tree of streams",
        "compared: every file",
        "100 calls",
        "p99",
        "RTT",
        "path MTU",
        "this host received",
    ] {
        assert!(ran.out.contains(word), "{word:?}: {}", ran.out);
    }
    assert!(ran.out.lines().last().unwrap().starts_with("ok"), "{}", ran.out);
    // Nothing is left running, and nothing is left behind: the second host ends with its input.
    assert!(!home.path("config").exists(), "the demo has no configuration");
}
