//! Small files that come together: whatever becomes of one of them, or of the server, the others are right.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;
use sss::{Host, Stream};

use crate::exhaustion::{Unread, serve_with_descriptors, wait_until};
use crate::hostile::{NO_SECRET, ask, attributes, bytes8, entry, names_of, runtime};
use crate::support::{Home, Ran, assert_same, noise};

const CONTENT: &[u8] = b"what is in a file";

/// Something that a server answers to GATHER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// `b` was changed, `c` is gone.
    OneChangedOneGone,
    /// `b` is one byte larger than it was listed.
    OneLarger,
    /// `b` is larger than such files may be.
    OneTooLarge,
    /// `b` is not what its hash says.
    OneCorrupt,
    /// The server has too much to do, after `a`.
    Busy,
    /// It ends after `a`.
    Ends,
    /// It ends in the middle of `b`.
    EndsWithin,
    /// It is reset after `a`.
    Reset,
    /// More follows.
    Longer,
}

fn file(content: &[u8], hash: &[u8]) -> Vec<u8> {
    [
        &[0][..],
        &attributes(content.len()),
        blake3::hash(hash).as_bytes(),
        content,
    ]
    .concat()
}

fn refusal(status: u8) -> Vec<u8> {
    vec![status, 2, b'n', b'o']
}

impl Answer {
    fn of(self, name: &str) -> Option<Vec<u8>> {
        let larger = [CONTENT, b"!"].concat();
        let size = (65_537_u64 | 3 << 62).to_be_bytes();
        Some(match (self, name) {
            (Self::OneChangedOneGone, "b") => refusal(10),
            (Self::OneChangedOneGone, "c") => refusal(2),
            (Self::OneLarger, "b") => file(&larger, &larger),
            (Self::OneTooLarge, "b") => [&[0][..], &size, &attributes(0)[1..]].concat(),
            (Self::OneCorrupt, "b") => file(CONTENT, b"something else"),
            (Self::Busy, "b") => refusal(11),
            (Self::EndsWithin, "b") => file(CONTENT, CONTENT)[..60].to_vec(),
            (Self::Busy | Self::EndsWithin, "c") | (Self::Ends | Self::Reset, "b" | "c") => return None,
            _ => file(CONTENT, CONTENT),
        })
    }

    async fn answer(self, mut stream: Stream) {
        let request = stream.read_to_end(10_000).await.unwrap();
        let single = [
            &[0][..],
            &attributes(CONTENT.len()),
            &[0],
            CONTENT,
            &[0],
            blake3::hash(CONTENT).as_bytes(),
        ]
        .concat();
        let listing = ["a", "b", "c"].map(|name| entry(1, name, CONTENT.len())).concat();
        let answer = match request[0] {
            // A file that was changed is listed again.
            1 if request[1] > 0 => [&[0][..], &entry(1, "", CONTENT.len())].concat(),
            1 => [&[0][..], &entry(2, "", 0), &listing].concat(),
            5 => {
                let mut answer: Vec<u8> = names_of(&request)
                    .iter()
                    .filter_map(|name| self.of(name))
                    .flatten()
                    .collect();
                if self == Self::Longer {
                    answer.push(0);
                }
                answer
            }
            _ => single,
        };
        stream.write_all(&answer).await.unwrap();
        if self == Self::Reset && request[0] == 5 {
            // What was written may arrive before.
            let _ = stream.sent().await;
            return stream.reset(11);
        }
        let _ = stream.finish();
    }
}

/// What `get` makes of it.
fn get(answer: Answer) -> (Ran, Home) {
    get_with(answer, &[])
}

fn get_with(answer: Answer, options: &[&str]) -> (Ran, Home) {
    let (runtime, client) = (runtime(), Home::new());
    let host = runtime.block_on(Host::builder().bind("127.0.0.1:0").build()).unwrap();
    let server = runtime.block_on(async { host.listen("files", "sync/1").unwrap() });
    runtime.spawn(async move {
        while let Ok((session, _)) = server.accept().await {
            while let Ok(Some(stream)) = session.accept_substream().await {
                tokio::spawn(answer.answer(stream));
            }
        }
    });
    let copy = client.path("copy");
    let target = format!("{}@{}", host.eid(), host.local_addr());
    let get = ["get", &target, copy.to_str().unwrap()];
    (client.run(get.iter().chain(options)), client)
}

/// The names of files that are there, all of which are right.
fn there(client: &Home) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(client.path("copy"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        assert_eq!(fs::read(client.path("copy").join(name)).unwrap(), CONTENT, "{name}");
    }
    names
}

// spec: FIL-45
#[test]
fn what_becomes_of_one_file_is_nothing_to_the_others() {
    let (ran, client) = get(Answer::OneChangedOneGone);
    ran.expect(1).says(&["c: no"]);
    assert_eq!(there(&client), ["a", "b"]);
    let (ran, client) = get(Answer::OneCorrupt);
    ran.expect(5).says(&["b: what arrived does not have the BLAKE3"]);
    assert_eq!(there(&client), ["a", "c"]);
    for answer in [Answer::OneLarger, Answer::Busy, Answer::Reset] {
        let (ran, client) = get(answer);
        ran.expect(0);
        assert_eq!(there(&client), ["a", "b", "c"], "{answer:?}");
    }
}

#[test]
fn no_more_is_counted_than_was_verified() {
    for (answer, code, files) in [
        (Answer::OneCorrupt, 5, 2),
        (Answer::OneLarger, 0, 3),
        (Answer::Busy, 0, 3),
    ] {
        let (ran, _client) = get_with(answer, &["--json"]);
        let done = ran.expect(code).event("done");
        let moved = (&done["files_moved"], &done["bytes_moved"]);
        assert_eq!(moved, (&files.into(), &(files * CONTENT.len()).into()), "{answer:?}");
    }
}

// spec: FIL-45
#[test]
fn an_answer_that_is_none_ends_it_and_what_came_before_stays() {
    for (answer, says, kept) in [
        (
            Answer::OneTooLarge,
            "a file of more than 64 KiB among others",
            &["a"][..],
        ),
        (Answer::Ends, "ended in the middle of a message", &["a"]),
        (Answer::EndsWithin, "ended in the middle of a", &["a"]),
        (Answer::Longer, "more than expected", &["a", "b", "c"]),
    ] {
        let (ran, client) = get(answer);
        ran.expect(1).says(&[says]);
        assert_eq!(there(&client), kept, "{answer:?}");
    }
}

fn gather(above: &str, names: &[&str]) -> Vec<u8> {
    let mut request = [&[5][..], &bytes8(above.as_bytes())].concat();
    request.extend([0x40 | (names.len() >> 8) as u8, names.len() as u8]);
    names.iter().for_each(|name| request.extend(bytes8(name.as_bytes())));
    request
}

// spec: FIL-45
#[test]
fn each_path_is_answered() {
    let server = Home::new();
    let dir = server.dir("source");
    fs::create_dir_all(dir.join("in/directory")).unwrap();
    std::os::unix::fs::symlink("small", dir.join("in/link")).unwrap();
    fs::write(dir.join("in/small"), CONTENT).unwrap();
    fs::write(dir.join("in/empty"), "").unwrap();
    fs::write(dir.join("in/most"), noise(1, 65_536)).unwrap();
    fs::write(dir.join("in/large"), noise(1, 65_537)).unwrap();
    let serving = server.serve(&dir, &[]);
    runtime().block_on(async {
        let host = Host::builder().bind("127.0.0.1:0").build().await.unwrap();
        let connect = host.connect(serving.eid().parse().unwrap(), "files", "sync/1");
        let mut session = connect.hint(serving.address()).await.unwrap();
        session.write_all(NO_SECRET).await.unwrap();
        let refused = |status: u8, answer: &mut &[u8]| {
            let (head, rest) = answer.split_at(2 + usize::from(answer[1] & 0x3f));
            assert!(head[0] == status && head[1] < 64, "{head:?}");
            *answer = rest;
        };
        let sent = |content: &[u8], answer: &mut &[u8]| {
            // The time of the file is its own.
            let head = 1 + if content.len() < 64 { 1 } else { 4 } + 2 + 12;
            let (head, rest) = answer.split_at(head);
            assert_eq!(head[0], 0);
            let (hash, rest) = rest.split_at(32);
            assert_eq!(hash, blake3::hash(content).as_bytes());
            let (there, rest) = rest.split_at(content.len());
            assert!(there == content);
            *answer = rest;
        };
        let names = ["none", "small", "directory", "link", "large", "link/x", "empty", "most"];
        let answer = ask(&session, &gather("in", &names)).await;
        let mut rest = &answer[..];
        refused(2, &mut rest);
        sent(CONTENT, &mut rest);
        refused(7, &mut rest);
        refused(6, &mut rest);
        // CHANGED, with a text that is longer.
        assert_eq!(rest[0], 10);
        let text = usize::from(u16::from_be_bytes([rest[1] & 0x3f, rest[2]]));
        rest = &rest[3 + text..];
        refused(6, &mut rest);
        sent(b"", &mut rest);
        sent(&noise(1, 65_536), &mut rest);
        assert!(rest.is_empty());

        let nobody = vec!["small"; 129];
        for nonsense in [
            gather("in", &[]),
            gather("in", &nobody),
            gather("in", &["../source/in/small"]),
        ] {
            let answer = ask(&session, &nonsense).await;
            assert!(matches!(answer.first(), Some(6 | 13)), "{answer:?}");
        }
        let many = vec!["small"; 128];
        let answer = ask(&session, &gather("in", &many)).await;
        assert_eq!(
            answer.windows(CONTENT.len()).filter(|there| *there == CONTENT).count(),
            128
        );
    });
}

// spec: FIL-33, FIL-45
#[test]
fn those_that_are_not_read_hold_little_and_go_on_later() {
    const FILES: usize = 60;
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    let names: Vec<_> = (0..FILES).map(|i| format!("f{i}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for (i, name) in names.iter().enumerate() {
        fs::write(dir.join(name), noise(i as u64, 60_000)).unwrap();
    }
    let serving = serve_with_descriptors(&server, &dir, 200, &[]);
    let before = serving.descriptors();
    let runtime = runtime();
    let mut unread = runtime.block_on(async {
        let mut unread = Vec::new();
        for _ in 0..4 {
            unread.push(Unread::ask(&serving, (0..150).map(|_| gather("", &names))).await);
        }
        unread
    });
    std::thread::sleep(Duration::from_secs(2));
    let copy = client.path("copy");
    client.run(["get", &serving.target, copy.to_str().unwrap()]).expect(0);
    assert_same(&dir, &copy);
    let given_back = wait_until(Duration::from_secs(60), || serving.descriptors() <= before + 3);
    eprintln!(
        "given back after {given_back:?}; {} MiB at most",
        serving.peak_memory() >> 20
    );
    assert!(serving.peak_memory() < 300 << 20);

    let mut some = unread.swap_remove(0).requests;
    let read = |stream: &mut Stream| runtime.block_on(stream.read_to_end(8 << 20));
    let answer = read(&mut some[0]).unwrap();
    let mut rest = &answer[..];
    for i in 0..FILES {
        let content = noise(i as u64, 60_000);
        assert!(rest[1 + 4 + 2 + 12 + 32..].starts_with(&content), "{i}");
        rest = &rest[1 + 4 + 2 + 12 + 32 + content.len()..];
    }
    assert!(rest.is_empty());
    // What has left in part is not true any more.
    for (i, name) in names.iter().enumerate() {
        fs::write(dir.join(name), noise(1000 + i as u64, 60_000)).unwrap();
    }
    let ends = some[1..20].iter_mut().map(read);
    let ends: Vec<_> = ends
        .filter_map(|end| end.err())
        .map(|error| error.to_string())
        .collect();
    assert!(ends.iter().any(|error| error.contains("was changed")), "{ends:?}");
}

#[test]
fn each_file_is_logged() {
    const FILES: usize = 300;
    let (server, client) = (Home::new(), Home::new());
    let dir = server.dir("source");
    for i in 0..FILES {
        fs::create_dir_all(dir.join(format!("{}", i % 7))).unwrap();
        fs::write(dir.join(format!("{}/{i}", i % 7)), noise(i as u64, 100)).unwrap();
    }
    let mut command = server.command();
    command
        .args(["serve", "--public", "--json", "--bind", "127.0.0.1:0"])
        .arg(&dir);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let target = next()["target"].as_str().unwrap().to_owned();
    let copy = client.path("copy");
    client.run(["get", &target, copy.to_str().unwrap()]).expect(0);
    assert_same(&dir, &copy);
    let mut paths = BTreeSet::new();
    while paths.len() < FILES {
        let fact = next();
        if fact["request"] == "get" {
            assert_eq!(fact["status"], "Ok");
            assert!(fact["sent"].as_u64() > Some(100), "{fact}");
            assert!(paths.insert(fact["path"].as_str().unwrap().to_owned()), "twice: {fact}");
        }
    }
    assert!((0..FILES).all(|i| paths.contains(&format!("{}/{i}", i % 7))));
    child.kill().unwrap();
    child.wait().unwrap();
}
