//! The specification and its tests: every requirement that says MUST is cited by a test, and every one of the test
//! vectors' README.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::vectors::FOLDER;

/// Checks all requirements; returns how many there are.
pub(crate) fn check(root: &Path, sources: &[PathBuf], findings: &mut Vec<String>) -> usize {
    let mut requirements = requirements(&root.join("docs/spec"), findings);
    requirements.extend(vectors(&root.join(FOLDER).join("README.md")));
    let mut cited: BTreeMap<String, usize> = BTreeMap::new();
    for path in sources {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for (line, id) in citations(&text) {
            if !requirements.contains_key(&id) {
                findings.push(format!("{}:{line}: {id} is not in docs/spec", path.display()));
            }
            *cited.entry(id).or_default() += 1;
        }
    }
    for (id, is_must) in &requirements {
        if *is_must && !cited.contains_key(id) {
            findings.push(format!("{id} has to be kept and no test cites it (`// spec: {id}`)"));
        }
    }
    requirements.len()
}

/// Each id of the test vectors' README. Whoever uses them has to keep all of them.
fn vectors(readme: &Path) -> impl Iterator<Item = (String, bool)> {
    let text = std::fs::read_to_string(readme).unwrap_or_default();
    paragraphs(&text).into_iter().map(|(id, _)| (id, true))
}

/// Each id of the specification, and whether it says MUST.
fn requirements(folder: &Path, findings: &mut Vec<String>) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (id, body) in paragraphs(&text) {
            let is_must = body.contains("MUST");
            if all.insert(id.clone(), is_must).is_some() {
                findings.push(format!("docs/spec: {id} is defined twice"));
            }
        }
    }
    all
}

/// Paragraphs that begin with `**ABC-1**`.
fn paragraphs(text: &str) -> Vec<(String, String)> {
    text.split("\n\n")
        .filter_map(|paragraph| {
            let rest = paragraph.trim_start().strip_prefix("**")?;
            let (id, body) = rest.split_once("**")?;
            is_id(id).then(|| (id.to_owned(), body.to_owned()))
        })
        .collect()
}

/// Ids in comments of the form `// spec: ABC-1, ABC-2`, with their lines.
fn citations(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(list) = line.trim_start().strip_prefix("// spec: ") else {
            continue;
        };
        for id in list.split([',', ' ']).filter(|id| is_id(id)) {
            found.push((index + 1, id.to_owned()));
        }
    }
    found
}

fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(area, number)| {
        area.len() == 3
            && area.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_requirements_and_citations() {
        let spec = "# Title\n\n**NEG-1** A host MUST.\nMore.\n\n**NEG-2** It may.\n\n**Bold** text";
        let found = paragraphs(spec);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, "NEG-1");
        assert!(found[0].1.contains("MUST"));
        assert!(!found[1].1.contains("MUST"));
        let code = "    // spec: NEG-1, NEG-2\n// other NEG-3\n";
        assert_eq!(citations(code), [(1, "NEG-1".to_owned()), (1, "NEG-2".to_owned())]);
    }
}
