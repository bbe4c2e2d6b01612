mod vectors;

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn attributes() -> Attributes {
    Attributes {
        size: 70_000,
        mode: 0o640,
        mtime: Mtime {
            seconds: -1,
            nanoseconds: 999_999_999,
        },
        traits: Traits::all(),
    }
}

/// Encoding and decoding are inverse, and every proper beginning is incomplete.
fn round_trip<T: PartialEq + fmt::Debug>(value: &T, bytes: &[u8], decode: impl Fn(&mut Cursor<'_>) -> Result<T, Stop>) {
    let mut cursor = Cursor::new(bytes);
    assert_eq!(&decode(&mut cursor).unwrap(), value);
    assert_eq!(cursor.remaining(), 0);
    for len in 0..bytes.len() {
        let stopped = decode(&mut Cursor::new(&bytes[..len])).unwrap_err();
        assert_eq!(stopped, Stop::Incomplete, "{value:?} cut to {len} bytes");
    }
}

#[test]
fn integers_have_the_shortest_form_and_any_form_is_read() {
    for (value, len) in [
        (0, 1),
        (63, 1),
        (64, 2),
        (16_383, 2),
        (16_384, 4),
        ((1 << 30) - 1, 4),
        (1 << 30, 8),
    ] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out.len(), len);
        assert_eq!(Cursor::new(&out).varint(), Ok(value));
    }
    assert_eq!(Cursor::new(&[0xc0, 0, 0, 0, 0, 0, 0, 5]).varint(), Ok(5));
}

#[test]
fn requests_survive_the_wire() {
    let prefix = Prefix {
        len: 9,
        hash: blake3::hash(b"some bytes"),
    };
    let requests = [
        Request::List {
            path: path(""),
            depth: DEPTH_ALL,
            without: Patterns::default(),
        },
        Request::List {
            path: path("a"),
            depth: 1,
            without: Patterns::that_fit(["*.o", "/target"]),
        },
        Request::Fetch {
            path: path("a/b"),
            have: None,
        },
        Request::Fetch {
            path: path("a"),
            have: Some(prefix),
        },
        Request::Store {
            path: path("c"),
            options: Options::all(),
            attributes: attributes(),
        },
        Request::Make {
            path: path("d"),
            options: Options::empty(),
        },
    ];
    for request in requests {
        round_trip(&request, &request.encode(), Request::decode);
    }
}

#[test]
fn entries_survive_the_wire_whatever_their_names() {
    let odd = RelPath::parse(b"\xff\xfe/new\nline").unwrap();
    let kinds = [
        Kind::File(attributes()),
        Kind::Directory(Attributes::default()),
        Kind::Link(attributes(), b"../\xff".to_vec()),
        Kind::Other(attributes()),
        Kind::Unreadable(Refusal::new(Status::Denied, "permission denied")),
    ];
    for kind in kinds {
        let entry = Entry {
            path: odd.clone(),
            kind,
        };
        let mut out = Vec::new();
        entry.encode(&mut out);
        round_trip(&entry, &out, Entry::decode);
    }
}

#[test]
fn verdicts_survive_the_wire() {
    for verdict in [
        Verdict(Ok(blake3::hash(b"x"))),
        Verdict(Err(Refusal::new(Status::Changed, "it was changed"))),
    ] {
        let mut out = Vec::new();
        verdict.encode(&mut out);
        round_trip(&verdict, &out, Verdict::decode);
    }
}

#[test]
fn paths_that_lead_outside_are_never_decoded() {
    for bad in ["../x", "/etc/passwd", "a/../../b", "a//b", "a/.", "a\0b", ".x.sss-part"] {
        let mut bytes = vec![2, bad.len() as u8];
        bytes.extend_from_slice(bad.as_bytes());
        bytes.push(0);
        let stopped = Request::decode(&mut Cursor::new(&bytes)).unwrap_err();
        assert!(matches!(stopped, Stop::BadPath(_)), "{bad}: {stopped:?}");
    }
}

#[test]
fn lengths_are_bounded_before_they_are_waited_for() {
    for len in [4097, 1 << 40] {
        let mut bytes = vec![2];
        put_varint(&mut bytes, len);
        let stopped = Request::decode(&mut Cursor::new(&bytes)).unwrap_err();
        assert!(matches!(stopped, Stop::BadPath(_)), "{len}: {stopped:?}");
    }
    let mut longest = vec![2];
    put_varint(&mut longest, 4096);
    assert_eq!(Request::decode(&mut Cursor::new(&longest)), Err(Stop::Incomplete));
    assert!(matches!(
        Request::decode(&mut Cursor::new(&[9, 0])),
        Err(Stop::Malformed(_))
    ));
}

#[test]
fn texts_lose_control_characters() {
    let mut out = Vec::new();
    put_bytes(&mut out, b"red \x1b[31m");
    let refusal = Cursor::new(&out).text(Status::Io).unwrap();
    assert_eq!(refusal.text, "red [31m");
}

#[test]
fn nothing_is_refused_with_ok() {
    let mut out = vec![5, 0, Status::Ok as u8, 0];
    let stopped = Entry::decode(&mut Cursor::new(&out)).unwrap_err();
    assert_eq!(stopped, Stop::Malformed("a refusal that is none"));
    out.remove(0);
    let stopped = NotMade::decode(&mut Cursor::new(&out)).unwrap_err();
    assert_eq!(stopped, Stop::Malformed("a refusal that is none"));
}

#[test]
fn a_text_that_is_not_utf8_stays_within_its_bound() {
    let mut out = Vec::new();
    put_bytes(&mut out, &[0xff; MAX_TEXT]);
    let refusal = Cursor::new(&out).text(Status::Io).unwrap();
    assert!(!refusal.text.is_empty() && refusal.text.len() <= MAX_TEXT);
}

#[test]
fn every_status_is_found_by_its_number() {
    for (number, status) in (0..).zip(Status::ALL) {
        assert_eq!(status as u32, number, "without gaps");
        assert_eq!(Status::from_code(number), Some(status));
    }
    assert_eq!(Status::from_code(Status::ALL.len() as u32), None);
}
