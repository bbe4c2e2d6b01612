//! Frames: every field has its place in the specification's table, and a vector that shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::source::{Crate, is_test_only};
use crate::vectors::FOLDER;

const PAGE: &str = "docs/spec/frames.md";
/// Parts of frames that are types of their own, with the row of the table that they belong to.
const PARTS: &[(&str, &str)] = &[("Init", "STREAM"), ("EcnCounts", "ACK_ECN")];
/// Fields that the specification calls otherwise.
const NAMES: &[(&str, &str)] = &[("delay_us", "delay"), ("ecn", "ACK_ECN")];
/// What stands in the place of fields for numbers that have no frame yet.
const RESERVED: &str = "reserved";

/// Words by the name of the frame to which they belong, `OPEN_CREDIT`.
type Words = BTreeMap<String, BTreeSet<String>>;

/// Checks the frames of `sss-wire`.
pub(crate) fn check(root: &Path, wire: &Crate, findings: &mut Vec<String>) {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let vectors = serde_json::from_str(&read(&format!("{FOLDER}/frames.json"))).unwrap_or_default();
    let declared = declared(wire);
    if declared.is_empty() {
        findings.push("xtask/src/frames.rs: no frame is found in sss-wire".to_owned());
    }
    findings.extend(compare(&declared, &described(&read(PAGE)), &shown(&vectors)));
}

/// A field of a frame, as it is in the code.
struct Field {
    place: String,
    frame: String,
    name: String,
}

/// Public fields of the types in `sss-wire/src/frame`.
fn declared(wire: &Crate) -> Vec<Field> {
    let mut found = Vec::new();
    for file in wire
        .files
        .iter()
        .filter(|file| file.module.first().is_some_and(|m| m == "frame"))
    {
        for item in &file.syntax.items {
            let syn::Item::Struct(item) = item else { continue };
            let (name, is_public) = (item.ident.to_string(), matches!(item.vis, syn::Visibility::Public(_)));
            if !is_public || is_test_only(&item.attrs) {
                continue;
            }
            let part = PARTS.iter().find(|(part, _)| *part == name);
            let frame = part.map_or_else(|| upper(&name), |(_, frame)| (*frame).to_owned());
            for field in item
                .fields
                .iter()
                .filter(|f| matches!(f.vis, syn::Visibility::Public(_)))
            {
                if let Some(ident) = &field.ident {
                    let line = ident.span().start().line;
                    found.push(Field {
                        place: format!("{}:{line}", file.name),
                        frame: frame.clone(),
                        name: ident.to_string(),
                    });
                }
            }
        }
    }
    found
}

/// `OpenCredit` is `OPEN_CREDIT`.
fn upper(name: &str) -> String {
    let mut upper = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !upper.is_empty() {
            upper.push('_');
        }
        upper.push(c.to_ascii_uppercase());
    }
    upper
}

/// The words of each row of the page's table, in lower case, and of the section that it refers to.
fn described(page: &str) -> Words {
    let mut all = Words::new();
    for line in page.lines().filter(|line| line.starts_with("| 0x")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let &[_, _, name, fields, ..] = cells.as_slice()
            && !fields.starts_with(RESERVED)
        {
            let mut words = words(fields);
            if fields.starts_with("see") {
                let section = page.split(&format!("\n## {name}\n")).nth(1).unwrap_or_default();
                words.extend(self::words(section.split("\n## ").next().unwrap_or_default()));
            }
            all.insert(name.to_owned(), words);
        }
    }
    all
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The fields of each type of frame in the vectors, those of its parts included.
fn shown(vectors: &Value) -> Words {
    let mut all = Words::new();
    let list = |key: &str| vectors[key].as_array().into_iter().flatten();
    let alone = list("valid").map(|vector| &vector["frame"]);
    let of_packets = list("packets").flat_map(|vector| vector["frames"].as_array().into_iter().flatten());
    for frame in alone.chain(of_packets) {
        let name = frame["type"].as_str().unwrap_or_default().to_uppercase();
        let fields = all.entry(name).or_default();
        keys(frame, fields);
    }
    all
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        found.insert(key.clone());
        keys(value, found);
    }
}

fn compare(declared: &[Field], described: &Words, shown: &Words) -> Vec<String> {
    let mut findings = Vec::new();
    for Field { place, frame, name } in declared {
        // Types that are no frames, but help to write them.
        let Some(row) = described.get(frame) else { continue };
        let known = NAMES
            .iter()
            .find(|(field, _)| field == name)
            .map_or(name.as_str(), |(_, known)| *known);
        if !row.contains(&known.to_lowercase()) && !described.contains_key(known) {
            findings.push(format!(
                "{PAGE}: the table says nothing of `{name}` of {frame} ({place})"
            ));
        }
        let in_vectors = if frame == "ACK_ECN" { "ACK" } else { frame };
        if !shown.get(in_vectors).is_some_and(|fields| fields.contains(name)) {
            findings.push(format!(
                "{FOLDER}/frames.json: no vector has `{name}` of {frame} ({place})"
            ));
        }
    }
    for frame in described
        .keys()
        .filter(|frame| *frame != "ACK_ECN" && !shown.contains_key(*frame))
    {
        findings.push(format!("{FOLDER}/frames.json: there is no vector of {frame}"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::made_of;

    const TABLE: &str = "# Frames\n\n| type | name | fields |\n|---|---|---|\n| 0x01 | PING | none |\n| 0x0a | OPEN_CREDIT | lsid varint, limit varint |\n\
        | 0x0f | FEC | reserved |\n| 0x20-0x3f | STREAM | see below |\n\n## STREAM\n\n type u8 | [init] | lsid\n\n## Other\n\nlimit\n";

    fn findings(code: &str, vectors: &str) -> Vec<String> {
        let krate = made_of(&[
            ("", "mod frame;"),
            ("frame", "mod a; pub struct Frames { pub x: u8 }"),
            ("frame/a", code),
        ]);
        let vectors = serde_json::from_str(vectors).unwrap();
        compare(&declared(&krate), &described(TABLE), &shown(&vectors))
    }

    const CODE: &str = "pub struct OpenCredit { pub lsid: u64, pub limit: u64 } pub struct Stream { pub init: u8 } pub struct Init { pub lsid: u8 }";
    const VECTORS: &str = r#"{"valid": [{"frame": {"type": "open_credit", "lsid": 1, "limit": 2}}, {"frame": {"type": "ping"}}],
        "packets": [{"frames": [{"type": "stream", "init": {"lsid": 3}}]}]}"#;

    #[test]
    fn a_field_is_in_the_table_and_in_a_vector() {
        assert_eq!(findings(CODE, VECTORS), [""; 0]);
        let more = CODE.replace("pub limit: u64", "pub limit: u64, pub more: u64");
        let found = findings(&more, VECTORS);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found.iter().all(|f| f.contains("`more` of OPEN_CREDIT (frame/a:1)")),
            "{found:?}"
        );
        let found = findings(&CODE.replace("pub init: u8", "pub limit: u8"), VECTORS);
        assert_eq!(
            found.len(),
            2,
            "the word is in another section, and in another frame: {found:?}"
        );
    }

    #[test]
    fn a_frame_has_a_vector() {
        let found = findings(CODE, &VECTORS.replace("ping", "pong"));
        assert_eq!(found, [format!("{FOLDER}/frames.json: there is no vector of PING")]);
    }
}
