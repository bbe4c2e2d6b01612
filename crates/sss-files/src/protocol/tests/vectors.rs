//! The vectors of `files.json` hold for this implementation.

use serde_json::Value;

use super::*;

fn vectors(list: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sss-wire/tests/vectors/files.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[list].as_array().expect(list).clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    unhex(text(value, field))
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn number<T: TryFrom<u64>>(value: &Value, field: &str) -> T {
    let n = value[field].as_u64().unwrap_or_else(|| panic!("{field} of {value}"));
    T::try_from(n).ok().expect(field)
}

fn path_of(value: &Value) -> RelPath {
    RelPath::parse(&bytes(value, "path")).unwrap()
}

fn attributes_of(value: &Value) -> Attributes {
    let attributes = &value["attributes"];
    let bits: u32 = number(attributes, "mode");
    Attributes {
        size: text(attributes, "size").parse().unwrap(),
        mode: bits & 0o777,
        mtime: Mtime {
            seconds: text(attributes, "seconds").parse().unwrap(),
            nanoseconds: number(attributes, "nanoseconds"),
        },
        traits: Traits::from_bits(bits & !0o777).unwrap(),
    }
}

fn hash_of(value: &Value) -> blake3::Hash {
    let hash: [u8; 32] = bytes(value, "blake3").try_into().unwrap();
    hash.into()
}

fn refusal_of(value: &Value) -> Refusal {
    let status = Status::from_code(number(value, "status")).unwrap();
    Refusal::new(status, text(value, "text"))
}

fn request_of(value: &Value) -> Request {
    let path = path_of(value);
    let options = || Options::from_bits(number(value, "options")).unwrap();
    match number::<u8>(value, "operation") {
        1 => Request::List {
            path,
            depth: number(value, "depth"),
            without: Patterns::that_fit(value["without"].as_array().unwrap().iter().map(|p| p.as_str().unwrap())),
        },
        2 => {
            let prefix = Some(&value["prefix"]).filter(|p| !p.is_null());
            let have = prefix.map(|prefix| Prefix {
                len: text(prefix, "length").parse().unwrap(),
                hash: hash_of(prefix),
            });
            Request::Fetch { path, have }
        }
        3 => Request::Store {
            path,
            options: options(),
            attributes: attributes_of(value),
        },
        4 => Request::Make {
            path,
            options: options(),
        },
        5 => {
            let mut names = Names::default();
            for name in value["names"].as_array().unwrap() {
                let digits = name.as_str().unwrap();
                let name = RelPath::parse(&unhex(digits)).unwrap();
                assert!(names.push(&name));
            }
            Request::Gather { path, names }
        }
        other => panic!("operation {other}"),
    }
}

fn entry_of(value: &Value) -> Entry {
    let kind = match number::<u8>(value, "kind") {
        1 => Kind::File(attributes_of(value)),
        2 => Kind::Directory(attributes_of(value)),
        3 => Kind::Link(attributes_of(value), bytes(value, "target")),
        4 => Kind::Other(attributes_of(value)),
        5 => Kind::Unreadable(refusal_of(&value["refusal"])),
        other => panic!("kind {other}"),
    };
    Entry {
        path: path_of(value),
        kind,
    }
}

fn verdict_of(value: &Value) -> Verdict {
    match &value["refusal"] {
        Value::Null => Verdict(Ok(hash_of(value))),
        refusal => Verdict(Err(refusal_of(refusal))),
    }
}

fn check<T: PartialEq + fmt::Debug>(
    vector: &Value,
    expected: &T,
    written: &[u8],
    decode: impl Fn(&mut Cursor<'_>) -> Result<T, Stop>,
) {
    let hex = bytes(vector, "hex");
    let mut cursor = Cursor::new(&hex);
    assert_eq!(decode(&mut cursor).as_ref(), Ok(expected), "{vector}");
    assert_eq!(cursor.remaining(), 0, "{vector}");
    assert_eq!(written == hex, vector["canonical"] == true, "{vector}");
    for len in 0..hex.len() {
        let stopped = decode(&mut Cursor::new(&hex[..len])).unwrap_err();
        assert_eq!(stopped, Stop::Incomplete, "{vector} cut to {len} bytes");
    }
}

fn gathered_of(value: &Value) -> Gathered {
    match &value["refusal"] {
        Value::Null => Gathered(Ok((attributes_of(value), hash_of(value)))),
        refusal => Gathered(Err(refusal_of(refusal))),
    }
}

// spec: VEC-15, FIL-2, FIL-3, FIL-45
#[test]
fn messages_are_those_of_the_vectors() {
    for vector in vectors("requests") {
        let request = request_of(&vector["request"]);
        check(&vector, &request, &request.encode(), Request::decode);
    }
    for vector in vectors("entries") {
        let (entry, mut out) = (entry_of(&vector["entry"]), Vec::new());
        entry.encode(&mut out);
        check(&vector, &entry, &out, Entry::decode);
    }
    for vector in vectors("verdicts") {
        let (verdict, mut out) = (verdict_of(&vector["verdict"]), Vec::new());
        verdict.encode(&mut out);
        check(&vector, &verdict, &out, Verdict::decode);
    }
    for vector in vectors("gathered") {
        let (gathered, mut out) = (gathered_of(&vector["file"]), Vec::new());
        gathered.encode(&mut out);
        check(&vector, &gathered, &out, Gathered::decode);
    }
}

// spec: VEC-15, FIL-2, FIL-3
#[test]
fn what_is_refused_in_the_vectors_is_refused_as_soon_as_it_is_known() {
    for vector in vectors("invalid") {
        let hex = bytes(&vector, "hex");
        let mut cursor = Cursor::new(&hex);
        let stopped = match text(&vector, "message") {
            "request" => Request::decode(&mut cursor).unwrap_err(),
            "entry" => Entry::decode(&mut cursor).unwrap_err(),
            "verdict" => Verdict::decode(&mut cursor).unwrap_err(),
            "gathered" => Gathered::decode(&mut cursor).unwrap_err(),
            other => panic!("{other}"),
        };
        let status = match stopped {
            Stop::BadPath(_) => Status::BadPath,
            Stop::Malformed(_) => Status::BadRequest,
            Stop::Incomplete => panic!("{vector} is waited for"),
        };
        assert_eq!(status as u32, number::<u32>(&vector, "status"), "{vector}");
    }
}
