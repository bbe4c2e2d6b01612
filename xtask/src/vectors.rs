//! The test vectors: every file and every field of them is described in their README, and read by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the vectors are.
pub(crate) const FOLDER: &str = "crates/sss-wire/tests/vectors";
/// Fields that are for people: a test may print them, or not.
const FOR_PEOPLE: [&str; 2] = ["name", "note"];

/// Words by the name of the file that they belong to.
type Words = BTreeMap<String, BTreeSet<String>>;

/// Checks the vectors of a project.
pub(crate) fn check(root: &Path, sources: &[PathBuf], findings: &mut Vec<String>) {
    let folder = root.join(FOLDER);
    let files = files(&folder, findings);
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let texts: Vec<(PathBuf, String)> = sources
        .iter()
        .filter(|path| !path.starts_with(root.join("xtask")))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap_or_default()))
        .collect();
    findings.extend(compare(&files, &described(&readme), |file| read_by(&texts, file)));
}

/// All files of vectors, and the fields in them.
fn files(folder: &Path, findings: &mut Vec<String>) -> Words {
    let mut all = Words::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match serde_json::from_str(&text) {
            Ok(value) => {
                let mut fields = BTreeSet::new();
                collect(&value, &mut fields);
                all.insert(name, fields);
            }
            Err(error) => findings.push(format!("{FOLDER}/{name}: {error}")),
        }
    }
    all
}

fn collect(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| collect(value, fields)),
        Value::Object(object) => {
            for (field, value) in object {
                fields.insert(field.clone());
                collect(value, fields);
            }
        }
        _ => {}
    }
}

/// The rows of the README's table of files: all words in backquotes behind the name of the file.
fn described(readme: &str) -> Words {
    let mut all = Words::new();
    for line in readme.lines() {
        let mut quoted = line.split('`').skip(1).step_by(2);
        if line.starts_with("| `")
            && let Some(file) = quoted.next().filter(|name| name.ends_with(".json"))
        {
            all.entry(file.to_owned())
                .or_default()
                .extend(quoted.map(str::to_owned));
        }
    }
    all
}

/// The words of all sources that name a file of vectors, and of the modules of these. `None` if there are none.
fn read_by(texts: &[(PathBuf, String)], file: &str) -> Option<BTreeSet<String>> {
    let named = format!("{file}\"");
    let readers: Vec<&PathBuf> = texts
        .iter()
        .filter(|(_, text)| text.contains(&named) && text.contains("#[test]"))
        .map(|(path, _)| path)
        .collect();
    if readers.is_empty() {
        return None;
    }
    let words = texts
        .iter()
        .filter(|(path, _)| {
            readers
                .iter()
                .any(|reader| *reader == path || path.starts_with(reader.with_extension("")))
        })
        .flat_map(|(_, text)| words(text));
    Some(words.collect())
}

/// Names in code, and in strings.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

fn compare(files: &Words, described: &Words, read_by: impl Fn(&str) -> Option<BTreeSet<String>>) -> Vec<String> {
    let mut findings = Vec::new();
    let none = BTreeSet::new();
    for (file, fields) in files {
        let known = described.get(file).unwrap_or(&none);
        for field in fields.difference(known) {
            findings.push(format!(
                "{FOLDER}/README.md: `{field}` of {file} is not in the table of files"
            ));
        }
        for field in known.difference(fields) {
            findings.push(format!("{FOLDER}/README.md: `{field}` is in no vector of {file}"));
        }
        let Some(words) = read_by(file) else {
            findings.push(format!("{FOLDER}/{file}: no test reads it"));
            continue;
        };
        for field in fields.difference(&words) {
            if !FOR_PEOPLE.contains(&field.as_str()) {
                findings.push(format!(
                    "{FOLDER}/{file}: no test that reads it names the field `{field}`"
                ));
            }
        }
    }
    for file in described.keys().filter(|file| !files.contains_key(*file)) {
        findings.push(format!("{FOLDER}/README.md: {file} does not exist"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# Vectors\n\n| `a.json` | `valid` | `hex`, `name`, `size` |\n| `list` | text about `hex` |\n";

    fn fields(json: &str) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        collect(&serde_json::from_str(json).unwrap(), &mut fields);
        fields
    }

    fn texts(code: &str) -> Vec<(PathBuf, String)> {
        let reader = "#[test]\nfn all() { load(\"a.json\"); }\nmod sub;";
        vec![
            (PathBuf::from("crates/x/tests/v.rs"), reader.to_owned()),
            (PathBuf::from("crates/x/tests/v/sub.rs"), code.to_owned()),
            (PathBuf::from("crates/x/src/other.rs"), "size".to_owned()),
        ]
    }

    fn findings(json: &str, code: &str) -> Vec<String> {
        let files = Words::from([("a.json".to_owned(), fields(json))]);
        let texts = texts(code);
        compare(&files, &described(README), |file| read_by(&texts, file))
    }

    const GOOD: &str = r#"{"valid": [{"name": "one", "hex": "00", "size": {"size": 1}}]}"#;

    #[test]
    fn a_field_is_described_and_read_or_found() {
        let code = "struct V { valid: Vec<V>, hex: String }\nfn size() { v[\"size\"] }";
        assert_eq!(findings(GOOD, code), [""; 0]);
        let more = GOOD.replace("\"hex\"", "\"hex\": \"\", \"extra\"");
        let found = findings(&more, code);
        assert_eq!(found.len(), 2, "not described, and not read: {found:?}");
        assert!(found.iter().all(|f| f.contains("`extra`")), "{found:?}");
        let found = findings(GOOD, "struct V { valid: Vec<V>, hex: String }");
        assert_eq!(found.len(), 1, "`size` is a word of another file only: {found:?}");
        let fewer = GOOD.replace(", \"size\": {\"size\": 1}", "");
        assert_eq!(findings(&fewer, code).len(), 1, "described, and not there");
    }

    #[test]
    fn a_file_is_described_exists_and_is_read_or_found() {
        let texts = [(
            PathBuf::from("crates/x/src/lib.rs"),
            "load(\"a.json\") valid hex size".to_owned(),
        )];
        let files = Words::from([("a.json".to_owned(), fields(GOOD))]);
        let found = compare(&files, &described(README), |file| read_by(&texts, file));
        assert_eq!(found.len(), 1, "no test: {found:?}");
        let found = compare(&Words::new(), &described(README), |_| None);
        assert_eq!(found, [format!("{FOLDER}/README.md: a.json does not exist")]);
    }
}
