//! Caps on the size of files, functions, parameter lists and structs. A cap that trips means a missing type.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::source::{is_test_file, is_test_only};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 80;
const PARAMETERS: usize = 6;
const FIELDS: usize = 12;

/// Columns of a line that is a comment. Lines of code are the formatter's.
const COMMENT_COLUMNS: usize = 120;

/// Places with comments that are wider, and how many at most. The numbers only fall, and nothing is added.
///
/// `cargo +nightly fmt --all -- --config wrap_comments=true,comment_width=120` mends them.
const WIDE_COMMENTS: &[(&str, usize)] = &[];

/// Checks the width of comments and of documentation, those of tests too.
pub(crate) fn check_comments(sources: &[(String, String)], findings: &mut Vec<String>) {
    compare_comments(sources, WIDE_COMMENTS, findings);
}

fn compare_comments(sources: &[(String, String)], exceptions: &[(&str, usize)], findings: &mut Vec<String>) {
    let mut counts = vec![0; exceptions.len()];
    for (name, text) in sources {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| is_wide_comment(line)) {
            match exceptions.iter().position(|(place, _)| name.starts_with(place)) {
                Some(place) => counts[place] += 1,
                None => findings.push(format!(
                    "{name}:{number}: a comment of {} columns, at most {COMMENT_COLUMNS}",
                    line.chars().count()
                )),
            }
        }
    }
    for ((place, known), count) in exceptions.iter().zip(counts) {
        if count > *known {
            findings.push(format!("{place}: {count} comments are too wide, at most {known}"));
        }
    }
}

fn is_wide_comment(line: &str) -> bool {
    line.trim_start().starts_with("//") && line.chars().count() > COMMENT_COLUMNS
}

/// Checks one file. Test code counts for nothing.
pub(crate) fn check(name: &str, text: &str, findings: &mut Vec<String>) {
    if is_test_file(name) {
        return;
    }
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(error) => {
            findings.push(format!("{name}: {error}"));
            return;
        }
    };
    let mut visitor = Caps {
        name,
        findings,
        test_lines: 0,
    };
    visitor.visit_file(&file);
    let lines = text.lines().count() - visitor.test_lines;
    if lines > FILE_LINES {
        findings.push(format!("{name}: {lines} lines without tests, at most {FILE_LINES}"));
    }
}

struct Caps<'a> {
    name: &'a str,
    findings: &'a mut Vec<String>,
    test_lines: usize,
}

impl Caps<'_> {
    fn report(&mut self, span: Span, what: &str) {
        let line = span.start().line;
        self.findings.push(format!("{}:{line}: {what}", self.name));
    }

    fn function(&mut self, signature: &syn::Signature, span: Span) {
        let lines = length(span);
        let name = &signature.ident;
        if lines > FUNCTION_LINES {
            self.report(span, &format!("fn {name} has {lines} lines, at most {FUNCTION_LINES}"));
        }
        let parameters: usize = signature.inputs.iter().map(weight).sum();
        if parameters > PARAMETERS {
            self.report(
                span,
                &format!("fn {name} has {parameters} parameters, at most {PARAMETERS}"),
            );
        }
    }
}

impl<'ast> Visit<'ast> for Caps<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test_only(&item.attrs) {
            self.test_lines += length(item.span());
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let fields = item.fields.len();
        // Arguments of a command line are a list, not a state.
        let is_arguments = item.attrs.iter().any(|a| a.path().is_ident("command"));
        if fields > FIELDS && !is_arguments && !is_plain_facts(item) {
            let name = &item.ident;
            self.report(
                item.span(),
                &format!("struct {name} has {fields} fields, at most {FIELDS}"),
            );
        }
    }
}

/// What a parameter counts: a tuple as many as it has elements, and everything else one.
fn weight(parameter: &syn::FnArg) -> usize {
    match parameter {
        syn::FnArg::Typed(typed) => match &*typed.ty {
            syn::Type::Tuple(tuple) => tuple.elems.len().max(1),
            syn::Type::Reference(reference) => match &*reference.elem {
                syn::Type::Tuple(tuple) => tuple.elems.len().max(1),
                _ => 1,
            },
            _ => 1,
        },
        syn::FnArg::Receiver(_) => 1,
    }
}

/// A struct of which every field is public is a list of facts for the reader (statistics, settings), not a state.
fn is_plain_facts(item: &syn::ItemStruct) -> bool {
    let public = |field: &syn::Field| matches!(field.vis, syn::Visibility::Public(_));
    matches!(item.vis, syn::Visibility::Public(_)) && item.fields.iter().all(public)
}

fn length(span: Span) -> usize {
    span.end().line - span.start().line + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check("crates/x/src/lib.rs", text, &mut findings);
        findings
    }

    #[test]
    fn caps_trip_just_above_the_limit() {
        let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert!(findings(&body(80)).is_empty());
        assert_eq!(findings(&body(81)).len(), 1);
        assert!(findings("fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}").is_empty());
        assert_eq!(
            findings("fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) {}").len(),
            1
        );
        assert_eq!(findings(&"\n".repeat(601)).len(), 1);
    }

    #[test]
    fn a_tuple_counts_as_often_as_it_has_elements() {
        assert!(findings("fn f(&self, a: u8, (b, c): (u8, u8), d: &(u8, u8)) {}").is_empty());
        let found = findings("fn f(&self, a: u8, (b, c): (u8, u8), d: (u8, u8, u8)) {}");
        assert_eq!(found, ["crates/x/src/lib.rs:1: fn f has 7 parameters, at most 6"]);
    }

    #[test]
    fn comments_are_not_wide() {
        let line = |columns: usize| format!("    /// {}", "ä".repeat(columns - 8));
        let of = |text: &str, exceptions: &[(&str, usize)]| {
            let mut findings = Vec::new();
            compare_comments(&[("a/b.rs".to_owned(), text.to_owned())], exceptions, &mut findings);
            findings
        };
        assert_eq!(of(&line(120), &[]), [""; 0]);
        assert_eq!(of(&line(121), &[]), ["a/b.rs:1: a comment of 121 columns, at most 120"]);
        assert_eq!(of(&format!("let a = \"{}\";", line(130)), &[]), [""; 0]);
        assert_eq!(of(&line(121), &[("a", 1)]), [""; 0]);
        assert_eq!(of(&line(121), &[("a", 0)]).len(), 1);
        assert_eq!(of(&line(121), &[("a", 2)]), [""; 0]);
    }

    #[test]
    fn tests_do_not_count() {
        let text = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(700));
        assert!(findings(&text).is_empty());
    }
}
