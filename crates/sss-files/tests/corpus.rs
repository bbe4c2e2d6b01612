//! Replays the seeds of the fuzz target of the file protocol, and every truncation and many mutations of them.
//!
//! With `SSS_WRITE_CORPUS` set, the seeds are first written.

#[path = "../../../fuzz/src/files.rs"]
pub mod fuzz;

use std::fs;
use std::path::PathBuf;

use sss_files::{
    Attributes, DEPTH_ALL, Entry, Gathered, Kind, Mtime, Names, NotMade, Options, Patterns, Prefix, Refusal, RelPath,
    Request, Status, Traits, Verdict,
};

fn corpus() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus/file_messages"]
        .iter()
        .collect()
}

fn path(bytes: &[u8]) -> RelPath {
    RelPath::parse(bytes).unwrap()
}

/// Messages of every kind, and some that are not decoded.
fn examples() -> Vec<Vec<u8>> {
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    let prefix = Prefix {
        len: 70_000,
        hash: blake3::hash(b"the beginning"),
    };
    let attributes = Attributes {
        size: 1 << 33,
        mode: 0o640,
        mtime: Mtime {
            seconds: -1,
            nanoseconds: 999_999_999,
        },
        traits: Traits::all(),
    };
    let refusal = Refusal::new(Status::Denied, "permission denied: h\u{e4}\u{df}lich");
    let odd = path(b"\xff\xfe/new\nline/\xe2\x80\xae");
    let requests = [
        Request::List {
            path: path(b""),
            depth: DEPTH_ALL,
            without: Patterns::that_fit(["*.o", "/target", "cache/"]),
        },
        Request::Fetch {
            path: path(b"a/b"),
            have: None,
        },
        Request::Fetch {
            path: odd.clone(),
            have: Some(prefix),
        },
        Request::Store {
            path: path(b"c"),
            options: Options::REPLACE,
            attributes,
        },
        Request::Make {
            path: path(b"d/e"),
            options: Options::empty(),
        },
    ];
    let kinds = [
        Kind::File(attributes),
        Kind::Directory(Attributes::default()),
        Kind::Link(attributes, b"../\xff".to_vec()),
        Kind::Other(attributes),
        Kind::Unreadable(refusal.clone()),
    ];
    let mut all: Vec<_> = requests.iter().map(Request::encode).collect();
    for kind in kinds {
        let entry = Entry {
            path: odd.clone(),
            kind,
        };
        all.push(encoded(&|out| entry.encode(out)));
    }
    all.push(encoded(&|out| Verdict(Ok(blake3::hash(b"x"))).encode(out)));
    all.push(encoded(&|out| Verdict(Err(refusal.clone())).encode(out)));
    let not_made = NotMade {
        path: path(b"link"),
        refusal,
    };
    all.push(encoded(&|out| not_made.encode(out)));
    all.push(encoded(&|out| Prefix::encode(Some(&prefix), out)));
    for outside in [&b"../x"[..], b"/etc/passwd", b"a/../../b", b"a//b", b".x.sss-part"] {
        all.push([&[2, outside.len() as u8], outside, &[0]].concat());
    }
    let mut names = Names::default();
    assert!(names.push(&path(b"small")) && names.push(&odd));
    let gather = Request::Gather {
        path: path(b"d"),
        names,
    };
    all.push(gather.encode());
    let small = Attributes { size: 5, ..attributes };
    all.push(encoded(&|out| {
        Gathered(Ok((small, blake3::hash(b"12345")))).encode(out)
    }));
    // Nothing in it is UTF-8: as text it would be three times as long.
    all.push([&[Status::Io as u8, 0x44, 0x00], &[0xff; 1024][..]].concat());
    all
}

/// The seeds in the order of their names.
fn seeds() -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpus()).unwrap_or_else(|e| panic!("{}: {e}", corpus().display()));
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|p| (p.clone(), fs::read(p).unwrap())).collect()
}

// spec: FIL-2, FIL-3
#[test]
fn threat_39_seeds_truncations_and_mutations_break_nothing() {
    if std::env::var_os("SSS_WRITE_CORPUS").is_some() {
        fs::create_dir_all(corpus()).unwrap();
        for (i, seed) in examples().iter().enumerate() {
            fs::write(corpus().join(format!("{i:02}")), seed).unwrap();
        }
    }
    let seeds = seeds();
    assert!(seeds.len() >= examples().len(), "{} seeds", seeds.len());
    for (path, seed) in seeds {
        println!("{}", path.display());
        fuzz::file_messages(&seed);
        for end in 0..seed.len() {
            fuzz::file_messages(&seed[..end]);
        }
        for i in 0..seed.len() {
            for bit in [0x01, 0x40, 0x80, 0xff] {
                let mut mutated = seed.clone();
                mutated[i] ^= bit;
                fuzz::file_messages(&mutated);
            }
        }
    }
}
