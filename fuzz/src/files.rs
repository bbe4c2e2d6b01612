//! The messages of the file protocol of the tool.

use std::fmt::Debug;

use sss_files::{
    Attributes, Cursor, Entry, Gathered, Kind, MAX_PATH, NotMade, Prefix, Refusal, RelPath, Request, Status, Stop,
    Verdict, answer, is_part_name, put_varint, start,
};

/// Longest text of a refusal, in bytes.
const MAX_TEXT: usize = 1024;

/// Bytes of a peer, taken for each message: what is decoded is harmless, and means the same when it is encoded and
/// decoded again; bytes that end too early are found incomplete.
pub fn file_messages(data: &[u8]) {
    check(data, Request::decode, |request| {
        check_path(match request {
            Request::List { path, .. }
            | Request::Fetch { path, .. }
            | Request::Store { path, .. }
            | Request::Make { path, .. }
            | Request::Gather { path, .. } => path,
        });
        if let Request::Gather { names, .. } = request {
            assert_eq!(names.iter().count(), names.len());
            names.iter().for_each(|path| check_path(&path));
        }
        request.encode()
    });
    check(data, Entry::decode, |entry| {
        check_path(&entry.path);
        if let Kind::Unreadable(refusal) = &entry.kind {
            check_refusal(refusal);
        }
        encoded(|out| entry.encode(out))
    });
    check(data, NotMade::decode, |not_made| {
        check_path(&not_made.path);
        check_refusal(&not_made.refusal);
        encoded(|out| not_made.encode(out))
    });
    check(data, Verdict::decode, |verdict| {
        if let Err(refusal) = &verdict.0 {
            check_refusal(refusal);
        }
        encoded(|out| verdict.encode(out))
    });
    check(data, Gathered::decode, |gathered| {
        if let Err(refusal) = &gathered.0 {
            check_refusal(refusal);
        }
        encoded(|out| gathered.encode(out))
    });
    check(data, answer, |answer| {
        encoded(|out| match answer {
            Ok(()) => out.push(Status::Ok as u8),
            Err(refusal) => refusal.encode(out),
        })
    });
    check(data, Prefix::decode, |prefix| {
        encoded(|out| Prefix::encode(prefix.as_ref(), out))
    });
    check(data, Attributes::decode, |attributes| {
        assert!(attributes.mode <= 0o777 && attributes.mtime.nanoseconds < 1_000_000_000);
        encoded(|out| attributes.encode(out))
    });
    check(data, start, |offset| encoded(|out| put_varint(out, *offset)));
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn check<T: PartialEq + Debug>(
    data: &[u8],
    decode: impl Fn(&mut Cursor<'_>) -> Result<T, Stop>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) {
    let mut cursor = Cursor::new(data);
    let Ok(message) = decode(&mut cursor) else { return };
    let used = data.len() - cursor.remaining();
    for cut in [used / 2, used.saturating_sub(1)] {
        let stopped = decode(&mut Cursor::new(&data[..cut]));
        assert_eq!(
            stopped,
            Err(Stop::Incomplete),
            "{message:?} cut to {cut} of {used} bytes"
        );
    }
    let bytes = encode(&message);
    let mut cursor = Cursor::new(&bytes);
    assert_eq!(decode(&mut cursor), Ok(message));
    assert_eq!(cursor.remaining(), 0, "more was encoded than is decoded");
}

fn check_path(path: &RelPath) {
    let bytes = path.as_bytes();
    assert!(bytes.len() <= MAX_PATH && !bytes.contains(&0));
    assert_eq!(RelPath::parse(bytes).as_ref(), Ok(path));
    for name in bytes.split(|b| *b == b'/').filter(|_| !path.is_root()) {
        assert!(!name.is_empty() && name.len() <= 255 && name != b"." && name != b"..");
        assert!(!is_part_name(name));
    }
    assert!(!path.to_string().contains(char::is_control), "shown with surprises");
    assert_eq!(path.ancestors().count() + 1, bytes.split(|b| *b == b'/').count());
}

fn check_refusal(refusal: &Refusal) {
    assert_ne!(refusal.status, Status::Ok);
    assert!(refusal.text.len() <= MAX_TEXT && !refusal.text.contains(char::is_control));
}
