//! Caps on the size of files, functions, parameter lists and structs. A cap that trips means a missing type.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::source::{is_test_file, is_test_only};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 80;
const PARAMETERS: usize = 6;
const FIELDS: usize = 12;

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
        let parameters = signature.inputs.len();
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
    fn tests_do_not_count() {
        let text = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(700));
        assert!(findings(&text).is_empty());
    }
}
