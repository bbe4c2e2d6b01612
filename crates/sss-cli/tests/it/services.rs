//! Asking a host what it offers.

use serde_json::json;

use crate::support::Home;

#[test]
fn a_served_directory_is_listed_with_its_protocols() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let serving = server.serve(&dir, &["--write"]);
    let ran = client.run(["services", &serving.target]).expect(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.out);
    assert_eq!(lines[0], "files     Files, to be read and written");
    assert!(
        lines[1].starts_with("  sync/1  ") && lines[3].starts_with("  echo/1  "),
        "{}",
        ran.out
    );

    let ran = client.run(["services", &serving.target, "--json"]).expect(0);
    let end = ran.event("services");
    assert_eq!((&end["total"], &end["listed"]), (&json!(2), &json!(2)));
    assert_eq!(end["eid"], serving.eid());
    let ping = ran.json().into_iter().find(|fact| fact["name"] == "ping").unwrap();
    assert_eq!(ping["event"], "service");
    assert_eq!(ping["protocols"][0]["name"], "echo/1");
}

#[test]
fn trust_and_errors_are_those_of_the_other_commands() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let mut serving = server.serve(&dir, &[]);
    let address = serving.address().to_owned();
    client
        .run(["services", &address])
        .expect(4)
        .says(&["not known", "--trust"]);
    client
        .run(["services", &address, "--trust"])
        .expect(0)
        .says(&["remembered in"]);
    client.run(["services", &address]).expect(0);
    let stranger = client
        .run(["id", "--new", "--file", client.path("other").to_str().unwrap()])
        .expect(0)
        .out;
    let wrong = format!("{}@{address}", stranger.trim());
    client
        .run(["services", &wrong])
        .expect(4)
        .says(&["the host at", serving.eid()]);
    serving.kill();
    let target = serving.target.clone();
    client
        .run(["services", &target, "--timeout", "1"])
        .expect(3)
        .says(&["no answer"]);
    client
        .run(["services", "non sense"])
        .expect(2)
        .says(&["192.0.2.7:7757"]);
}

#[test]
fn a_host_that_offers_nothing_says_so() {
    let client = Home::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = runtime
        .block_on(sss::Host::builder().bind("127.0.0.1:0").build())
        .unwrap();
    let target = format!("{}@{}", host.eid(), host.local_addr());
    let ran = client.run(["services", &target]).expect(0);
    assert_eq!(ran.out.trim(), "no services are listed");
}
