//! The pages for people: links lead somewhere, and the code that is shown names what there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Methods that the book shows and that are not ours.
const FOREIGN: &[&str] = &[
    "as_ref",
    "as_str",
    "await",
    "block_on",
    "changed",
    "clone",
    "downcast_ref",
    "elapsed",
    "expect",
    "get_ref",
    "instrument",
    "into",
    "is_empty",
    "is_none",
    "is_some",
    "iter",
    "len",
    "map",
    "next",
    "next_frame",
    "ok",
    "parse",
    "send",
    "to_owned",
    "to_string",
    "unwrap",
];

/// Columns of a line, but for tables and blocks of code.
const COLUMNS: usize = 120;

/// Checks all pages; returns how many links there are.
pub(crate) fn check(root: &Path, sources: &[PathBuf], findings: &mut Vec<String>) -> usize {
    let pages = pages(root);
    let known = known(sources);
    let mut links = 0;
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap_or_default();
        let name = page.strip_prefix(root).unwrap_or(page).display().to_string();
        let (prose, code) = split(&text);
        for (line, target) in links_of(&prose) {
            links += 1;
            if let Some(wrong) = broken(page, &text, &target) {
                findings.push(format!("{name}:{line}: the link to {target} {wrong}"));
            }
        }
        for (line, columns) in wide(&prose) {
            findings.push(format!("{name}:{line}: a line of {columns} columns, at most {COLUMNS}"));
        }
        if is_of_the_book(&name) {
            for (line, word) in called(&code) {
                if !known.contains(word.as_str()) && !FOREIGN.contains(&word.as_str()) {
                    findings.push(format!(
                        "{name}:{line}: the code calls {word}, which is in no library crate"
                    ));
                }
            }
        }
    }
    links
}

fn is_of_the_book(name: &str) -> bool {
    name == "README.md" || name.starts_with("docs/book/")
}

/// The pages at the top, and all below docs.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root.join("docs")];
    let top = std::fs::read_dir(root).into_iter().flatten().flatten();
    pages.extend(top.map(|entry| entry.path()).filter(|path| is_page(path)));
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
        {
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "md")
}

/// Names of functions, types, variants and constants of the library crates: every word of their sources.
fn known(sources: &[PathBuf]) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for path in sources {
        let is_library = ["sss/src", "sss-proto/src", "sss-wire/src", "sss-crypto/src"];
        let shown = path.display().to_string();
        if is_library
            .iter()
            .any(|folder| shown.contains(&format!("crates/{folder}/")))
        {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            known.extend(declared(&text));
        }
    }
    known
}

/// The words that a source declares as functions, and those that begin lines: fields and variants.
fn declared(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in source.lines() {
        let line = line.trim_start();
        if let Some((_, rest)) = line.split_once("fn ") {
            found.push(word(rest));
        }
        for keyword in ["pub const ", "pub struct ", "pub enum ", "pub trait ", "pub type "] {
            if let Some(rest) = line.strip_prefix(keyword) {
                found.push(word(rest));
            }
        }
        found.push(word(line));
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The lines outside of code blocks, and those within blocks of Rust, each at its place; the others are empty.
fn split(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    let mut block: Option<&str> = None;
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, block) {
            (Some(language), None) => block = Some(language),
            (Some(_), Some(_)) => block = None,
            _ => {}
        }
        let is_code = fence.is_none() && block.is_some_and(|language| language.starts_with("rust"));
        prose.push(if fence.is_none() && block.is_none() { line } else { "" });
        code.push(if is_code {
            line.split("//").next().unwrap_or_default()
        } else {
            ""
        });
    }
    (prose, code)
}

/// Lines of prose that are too wide, and how wide they are.
fn wide(prose: &[&str]) -> Vec<(usize, usize)> {
    let lines = (1..).zip(prose).filter(|(_, line)| !line.trim_start().starts_with('|'));
    let columns = lines.map(|(number, line)| (number, line.chars().count()));
    columns.filter(|(_, columns)| *columns > COLUMNS).collect()
}

/// The targets of links, with their lines.
fn links_of(prose: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(prose) {
        for rest in line.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// What is wrong with a link, if anything is.
fn broken(page: &Path, text: &str, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = page.parent().unwrap_or(page).join(path);
    if !path.is_empty() && !file.exists() {
        return Some("leads nowhere");
    }
    let there = if path.is_empty() {
        text.to_owned()
    } else {
        std::fs::read_to_string(&file).unwrap_or_default()
    };
    let is_there = anchor.is_empty() || headings(&there).any(|heading| heading == anchor);
    (!is_there).then_some("names a heading that is not there")
}

/// What headings are called in links.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let (prose, _) = split(text);
    let headings: Vec<_> = prose
        .iter()
        .filter(|line| line.starts_with('#'))
        .map(|line| slug(line))
        .collect();
    headings.into_iter()
}

fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Methods that lines of code call, and what is named behind `::` of a type.
fn called(code: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code) {
        for rest in line.split('.').skip(1) {
            let name = word(rest);
            if !name.is_empty() && rest[name.len()..].starts_with('(') {
                found.push((number, name));
            }
        }
        let parts: Vec<&str> = line.split("::").collect();
        for pair in parts.windows(2) {
            let owner = pair[0]
                .chars()
                .rev()
                .take_while(|c| c.is_alphanumeric())
                .collect::<String>();
            let is_ours = owner.chars().last().is_some_and(char::is_uppercase);
            let owner: String = owner.chars().rev().collect();
            let name = word(pair[1]);
            if is_ours && !name.is_empty() && !FOREIGN_TYPES.contains(&owner.as_str()) {
                found.push((number, name));
            }
        }
    }
    found
}

/// Types that the book shows and that are not ours.
const FOREIGN_TYPES: &[&str] = &["AsyncReadExt", "Bytes", "Duration", "TokioIo"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_and_headings_outside_of_code() {
        let text = "# A *title*, here\n[x](a.md#b) [y](#a-title-here)\n```\n[z](no.md)\n```\n";
        let (prose, _) = split(text);
        let links = links_of(&prose);
        assert_eq!(links, [(2, "a.md#b".to_owned()), (2, "#a-title-here".to_owned())]);
        assert_eq!(headings(text).collect::<Vec<_>>(), ["a-title-here"]);
        let page = Path::new("/nowhere/page.md");
        assert_eq!(broken(page, text, "#a-title-here"), None);
        assert!(broken(page, text, "#b").is_some());
        assert!(broken(page, text, "a.md").is_some());
        assert_eq!(broken(page, text, "https://example.org/a"), None);
    }

    #[test]
    fn prose_is_not_wide() {
        let (fits, wide_line) = ("ä".repeat(120), "ä".repeat(121));
        let text = format!("{fits}\n{wide_line}\n| {wide_line} |\n```\n{wide_line}\n```\n");
        assert_eq!(wide(&split(&text).0), [(2, 121)]);
    }

    #[test]
    fn finds_what_code_names() {
        let text = "```rust,ignore\nhost.accept().await?; // .not()\nCode::app(7); std::fs::read(x);\n```\n";
        let (_, code) = split(text);
        let names: Vec<_> = called(&code).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["accept", "app"]);
        let source = "    pub async fn accept(&self)\n    Reject,\n    pub const ALL: u8 = 1;\n";
        let known = declared(source);
        assert!(
            ["accept", "Reject", "ALL"]
                .iter()
                .all(|name| known.iter().any(|k| k == name))
        );
    }
}
