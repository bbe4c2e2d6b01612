//! Subcommands of the programs: each is shown on a page.

use std::path::Path;

use crate::source::Crate;

/// Crates with a program, how pages call it, and where these are.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("sss-cli", &["sss", "--bin sss --"], "docs/book"),
    ("sss-sim", &["sss-sim", "-p sss-sim --"], "docs"),
    ("sss-attack", &["sss-attack", "-p sss-attack --"], "docs"),
    ("sss-bench", &["sss-bench", "-p sss-bench --"], "docs"),
];

/// Checks the subcommands of a crate, if it has a program.
pub(crate) fn check(root: &Path, name: &str, krate: &Crate, findings: &mut Vec<String>) {
    let Some((_, calls, folder)) = PROGRAMS.iter().find(|(program, ..)| *program == name) else {
        return;
    };
    let mut pages = Vec::new();
    read(&root.join(folder), &mut pages);
    if *folder == "docs" {
        pages.push(std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap_or_default());
    }
    let commands = commands(krate);
    if commands.is_empty() {
        findings.push(format!("xtask/src/commands.rs: {name} has no subcommand"));
    }
    for command in commands {
        if !pages
            .iter()
            .any(|page| calls.iter().any(|call| shows(page, call, &command)))
        {
            findings.push(format!("{folder}: no page shows `{} {command}`", calls[0]));
        }
    }
}

fn read(folder: &Path, pages: &mut Vec<String>) {
    for path in std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        if path.is_dir() {
            read(&path, pages);
        } else if path.extension().is_some_and(|e| e == "md") {
            pages.extend(std::fs::read_to_string(&path));
        }
    }
}

/// The subcommands of `clap`'s `enum Command`, but for hidden ones.
fn commands(krate: &Crate) -> Vec<String> {
    let items = krate.files.iter().flat_map(|file| &file.syntax.items);
    let enums = items.filter_map(|item| match item {
        syn::Item::Enum(item) if item.ident == "Command" => Some(item),
        _ => None,
    });
    let variants = enums.flat_map(|item| &item.variants);
    variants
        .filter(|variant| !is_hidden(&variant.attrs))
        .map(|variant| kebab(&variant.ident.to_string()))
        .collect()
}

fn is_hidden(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let mut is_hidden = false;
        if attr.path().is_ident("command") {
            // What cannot be read here is not `hide`.
            let _ = attr.parse_nested_meta(|meta| {
                is_hidden |= meta.path.is_ident("hide");
                meta.value().and_then(|value| value.parse::<syn::Expr>()).map(|_| ())
            });
        }
        is_hidden
    })
}

fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

/// Whether a page calls the program with this subcommand, as whole words.
fn shows(page: &str, call: &str, command: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let called = format!("{call} {command}");
    page.match_indices(&called).any(|(at, _)| {
        let before = page[..at].chars().next_back();
        let after = page[at + called.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::made_of;

    #[test]
    fn subcommands_are_those_that_are_not_hidden() {
        let code = "#[derive(Subcommand)] enum Command { /// Gets.\n Get(Args), #[command(hide = true)] Hold, \
                    #[command(about = \"x\")] SendAll { a: u8 } } enum Other { X }";
        assert_eq!(commands(&made_of(&[("", code)])), ["get", "send-all"]);
    }

    #[test]
    fn a_page_shows_a_subcommand_as_a_word() {
        assert!(shows("run `sss get EID`", "sss", "get"));
        assert!(shows("sss get", "sss", "get"));
        assert!(!shows("sss getter, other-sss get", "sss", "get"));
        assert!(!shows("sss put", "sss", "get"));
    }
}
