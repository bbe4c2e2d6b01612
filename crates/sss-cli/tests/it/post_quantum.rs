//! `--pq`: who has to do with the post-quantum leg.

use crate::support::Home;

#[test]
fn both_sides_have_a_say() {
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    for (theirs, rows) in [
        ("required", [Ok(true), Ok(true), Err("--pq preferred")]),
        ("preferred", [Ok(true), Ok(true), Ok(false)]),
        ("off", [Err("without the protection"), Ok(false), Ok(false)]),
    ] {
        let serving = server.serve(&dir, &["--pq", theirs]);
        for (ours, expected) in ["required", "preferred", "off"].into_iter().zip(rows) {
            let ping = ["ping", &serving.target, "-c", "1", "--pq", ours];
            match expected {
                Ok(protected) => {
                    let link = client.run([&ping[..], &["--json"]].concat()).expect(0).event("link");
                    assert_eq!(link["post_quantum"], protected, "{ours}, {theirs}");
                }
                Err(advice) => drop(client.run(ping).expect(4).says(&["post-quantum", advice])),
            }
        }
    }
    let args = ["ping", "127.0.0.1:1", "--pq", "perhaps"];
    client.run(args).expect(2).says(&["required, preferred, off"]);
}
