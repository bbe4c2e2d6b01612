//! Peers that speak the file protocol, and mean no good: its messages are made by hand here (docs/spec/files.md).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use sss::{Host, Stream};

use crate::support::{Home, noise};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn bytes8(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 64);
    let mut out = vec![bytes.len() as u8];
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn attributes(size: usize) -> Vec<u8> {
    assert!(size < 64);
    let mut out = vec![size as u8, 0x41, 0xa4];
    out.extend_from_slice(&1_000_000_000_u64.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

pub(crate) fn entry(kind: u8, path: &str, size: usize) -> Vec<u8> {
    [vec![kind], bytes8(path.as_bytes()), attributes(size)].concat()
}

fn link(path: &str, target: &Path) -> Vec<u8> {
    let target = target.as_os_str().as_encoded_bytes();
    let mut out = entry(3, path, 0);
    out.extend_from_slice(&[0x40, target.len() as u8]);
    out.extend_from_slice(target);
    out
}

const EVIL: &[u8] = b"evil content";

/// The paths that a GATHER asks for, if they and their number are short.
pub(crate) fn names_of(request: &[u8]) -> Vec<String> {
    let (above, rest) = request[1..].split_at(1 + usize::from(request[1]));
    assert!(above.len() <= 64 && rest[0] < 64);
    let (mut names, mut rest) = (Vec::new(), &rest[1..]);
    while let Some((len, behind)) = rest.split_first() {
        let (name, behind) = behind.split_at((*len).into());
        names.push(String::from_utf8(name.to_vec()).unwrap());
        rest = behind;
    }
    names
}

/// Serves one listing, and for every file the same content with the given BLAKE3.
async fn evil_server(listing: Vec<u8>, hash: blake3::Hash) -> (Host, String) {
    let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
    let server = host.listen("files", "sync/1").unwrap();
    let target = format!("{}@{}", host.eid(), host.local_addr());
    let listing = Arc::new(listing);
    tokio::spawn(async move {
        loop {
            let Ok((session, _)) = server.accept().await else {
                return;
            };
            while let Ok(Some(mut stream)) = session.accept_substream().await {
                let listing = listing.clone();
                tokio::spawn(async move {
                    let request = stream.read_to_end(10_000).await.unwrap();
                    let answer = match request.first() {
                        Some(1) => [&[0][..], &listing].concat(),
                        Some(5) => {
                            let file = [&[0][..], &attributes(EVIL.len()), hash.as_bytes(), EVIL].concat();
                            file.repeat(names_of(&request).len())
                        }
                        _ => [&[0][..], &attributes(EVIL.len()), &[0], EVIL, &[0], hash.as_bytes()].concat(),
                    };
                    stream.write_all(&answer).await.unwrap();
                    stream.finish().unwrap();
                });
            }
        }
    });
    (host, target)
}

/// What a client makes of a listing. Everything is in `copy` below the returned home; next to it nothing may appear.
fn get(listing: Vec<u8>, hash: blake3::Hash, client: &Home) -> crate::support::Ran {
    get_with(listing, hash, (client, &[]))
}

fn get_with(listing: Vec<u8>, hash: blake3::Hash, (client, options): (&Home, &[&str])) -> crate::support::Ran {
    let runtime = runtime();
    let (_host, target) = runtime.block_on(evil_server(listing, hash));
    let copy = client.dir("copy");
    let get = ["get", &target, copy.to_str().unwrap(), "--force"];
    client.run(get.iter().chain(options))
}

// spec: FIL-4
#[test]
fn a_server_cannot_write_outside_of_the_destination() {
    for path in [
        "../evil",
        "/tmp/evil-sss-test",
        "a/../../evil",
        "..",
        "a//b",
        ".x.sss-part",
        "nul\0",
    ] {
        let client = Home::new();
        let listing = [
            entry(2, "", 0),
            entry(1, "good", EVIL.len()),
            entry(1, path, EVIL.len()),
        ]
        .concat();
        get(listing, blake3::hash(EVIL), &client).expect(4);
        assert!(
            !client.path("evil").exists() && !Path::new("/tmp/evil-sss-test").exists(),
            "{path}"
        );
        let mut names: Vec<_> = fs::read_dir(client.path(""))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["config", "copy"], "{path}");
    }
}

// spec: FIL-4
#[test]
fn a_server_cannot_write_through_its_own_links() {
    let client = Home::new();
    let outside = client.dir("outside");
    fs::write(outside.join("victim"), "precious").unwrap();
    // A listing with something below a link is out of order.
    for below in [
        entry(1, "l/evil", EVIL.len()),
        entry(1, "l/victim", EVIL.len()),
        entry(2, "l/directory", 0),
        link("l/link", Path::new("x")),
    ] {
        let listing = [entry(2, "", 0), link("l", &outside), below].concat();
        let ran = get(listing, blake3::hash(EVIL), &client).expect(1);
        ran.says(&["out of order"]);
    }
    // So it lists a directory, after it got the client to make a link there.
    let listing = [
        entry(2, "", 0),
        link("f", &outside.join("victim")),
        entry(1, "good", EVIL.len()),
        link("l", &outside),
    ]
    .concat();
    get(listing, blake3::hash(EVIL), &client).expect(0);
    let listing = [
        entry(2, "", 0),
        entry(1, "f", EVIL.len()),
        entry(2, "l", 0),
        entry(1, "l/evil", EVIL.len()),
        entry(1, "l/victim", EVIL.len()),
    ]
    .concat();
    get(listing, blake3::hash(EVIL), &client).expect(0);
    assert!(
        fs::symlink_metadata(client.path("copy/l")).unwrap().is_dir(),
        "the link made way"
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"precious");
    assert_eq!(fs::read(client.path("copy/good")).unwrap(), EVIL);
    assert_eq!(
        fs::read(client.path("copy/f")).unwrap(),
        EVIL,
        "the link itself was replaced"
    );
}

// spec: FIL-9
#[test]
fn content_with_another_hash_never_gets_its_name() {
    let client = Home::new();
    let listing = [entry(2, "", 0), entry(1, "f", EVIL.len())].concat();
    let hash = blake3::hash(b"something else");
    let ran = get(listing.clone(), hash, &client).expect(5);
    ran.says(&["f: what arrived does not have the BLAKE3", "run the same command again"]);
    assert_eq!(fs::read_dir(client.path("copy")).unwrap().count(), 0);
    // Nothing of it counts as received.
    let ran = get_with(listing, hash, (&client, &["--json"])).expect(5);
    let done = ran.event("done");
    assert_eq!((&done["bytes_moved"], &done["failed"]), (&0.into(), &1.into()));
}

#[test]
fn nonsense_from_a_server_is_an_error_and_no_hang() {
    for listing in [
        vec![],
        vec![9, 9, 9],
        vec![2, 0, 1],
        noise(3, 1000),
        vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let client = Home::new();
        let ran = get(listing, blake3::hash(EVIL), &client);
        assert!(matches!(ran.code, Some(1 | 4)), "{:?} {}", ran.code, ran.err);
    }
}

/// The greeting of a client without a ticket.
pub(crate) const NO_SECRET: &[u8] = &[0];

pub(crate) async fn ask(session: &Stream, request: &[u8]) -> Vec<u8> {
    let mut stream = session.open_substream().unwrap();
    // The server may have refused before all was sent.
    let _ = stream.write_all(request).await;
    let _ = stream.finish();
    stream.read_to_end(1 << 20).await.unwrap_or_default().to_vec()
}

// spec: FIL-4
#[test]
fn a_client_cannot_reach_what_is_not_served() {
    const BAD_PATH: u8 = 6;
    let server = Home::new();
    let dir = server.dir("source");
    fs::write(server.path("secret"), "secret").unwrap();
    fs::create_dir(server.path("other")).unwrap();
    fs::write(server.path("other/secret"), "secret").unwrap();
    symlink(server.path("other"), dir.join("out")).unwrap();
    symlink(server.path("secret"), dir.join("file")).unwrap();
    fs::write(dir.join("open"), "open").unwrap();
    let serving = server.serve(&dir, &["--write"]);

    runtime().block_on(async {
        let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
        let eid = serving.eid().parse().unwrap();
        let mut session = host
            .connect(eid, "files", "sync/1")
            .hint(serving.address())
            .await
            .unwrap();
        session.write_all(NO_SECRET).await.unwrap();
        for path in [
            "../secret",
            "/etc/passwd",
            "out/secret",
            "file",
            "out/../../secret",
            "a/./b",
        ] {
            let fetch = [&[2][..], &bytes8(path.as_bytes()), &[0]].concat();
            let answer = ask(&session, &fetch).await;
            assert_eq!(answer.first(), Some(&BAD_PATH), "FETCH {path}: {answer:?}");
            let gather = [&[5, 0, 1][..], &bytes8(path.as_bytes())].concat();
            let answer = ask(&session, &gather).await;
            assert_eq!(answer.first(), Some(&BAD_PATH), "GATHER {path}: {answer:?}");
            let hash = blake3::hash(EVIL);
            let store = [
                &[3][..],
                &bytes8(path.as_bytes()),
                &[0],
                &attributes(EVIL.len()),
                &[0],
                EVIL,
                &[0],
                hash.as_bytes(),
            ]
            .concat();
            if path != "file" {
                let answer = ask(&session, &store).await;
                assert_eq!(answer.first(), Some(&BAD_PATH), "STORE {path}: {answer:?}");
            }
        }
        let list = [&[1][..], &bytes8(b"out/"), &[255, 0]].concat();
        assert_eq!(ask(&session, &list).await.first(), Some(&BAD_PATH));
        let list = [&[1][..], &bytes8(b"out"), &[255, 0]].concat();
        let answer = ask(&session, &list).await;
        assert_eq!(
            answer.get(..2),
            Some(&[0, 3][..]),
            "a link is listed as a link, and not entered: {answer:?}"
        );

        for nonsense in [&[][..], &[0], &[9, 0], &[2, 0xc0], &[4, 0, 0x70], &noise(9, 400)] {
            let answer = ask(&session, nonsense).await;
            assert!(
                answer.first().is_some_and(|status| *status > 1),
                "{nonsense:?}: {answer:?}"
            );
        }
        let fetch = [&[2][..], &bytes8(b"open"), &[0]].concat();
        let answer = ask(&session, &fetch).await;
        assert!(answer.windows(4).any(|w| w == b"open"), "it still answers");
    });
    assert_eq!(fs::read_dir(server.path("other")).unwrap().count(), 1);
}
