//! What an attacker could guess piece by piece is compared in constant time, and not by `==`.
//!
//! Names tell what is secret: tags, macs, tokens and secrets. A type of which all values are secret can bring its own
//! `PartialEq` that takes constant time.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::source::{Crate, is_test_only};

/// Last parts of names that secrets have.
const SECRETS: [&str; 5] = ["mac", "secret", "tag", "token", "ticket"];

/// What may be compared so, and why.
const ALLOWED: [(&str, &str, &str); 2] = [
    (
        "crates/sss-proto/src/negotiation/greeting.rs",
        "token",
        "the initiator compares tokens that both came to it in the clear",
    ),
    (
        "crates/sss-cli/src/transfer/access.rs",
        "secret",
        "its type compares in constant time",
    ),
];

/// Looks for comparisons of secrets in what is not a test.
pub(crate) fn check(krate: &Crate, findings: &mut Vec<String>) {
    for file in &krate.files {
        for (line, secret) in comparisons(&file.syntax) {
            if !ALLOWED
                .iter()
                .any(|(name, what, _)| *name == file.name && *what == secret)
            {
                findings.push(format!(
                    "{}:{line}: {secret} is compared by == or !=, and not in constant time",
                    file.name
                ));
            }
        }
    }
}

fn comparisons(syntax: &syn::File) -> Vec<(usize, String)> {
    let mut comparisons = Comparisons(Vec::new());
    comparisons.visit_file(syntax);
    comparisons.0
}

struct Comparisons(Vec<(usize, String)>);

impl<'ast> Visit<'ast> for Comparisons {
    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let is_comparison = matches!(binary.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_));
        if is_comparison && !is_constant(&binary.left) && !is_constant(&binary.right) {
            let names = [name_of(&binary.left), name_of(&binary.right)];
            let secret = names.into_iter().flatten().find(|name| is_secret(name));
            self.0.extend(secret.map(|name| (binary.span().start().line, name)));
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }
}

/// Whether all know the value that something is compared with.
fn is_constant(operand: &syn::Expr) -> bool {
    matches!(operand, syn::Expr::Repeat(_) | syn::Expr::Array(_) | syn::Expr::Lit(_))
}

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name.rsplit('_').next().unwrap_or_default())
}

/// The name of what an operand is: of `&self.reset_token`, `reset_token`; of `Some(token)`, `token`.
fn name_of(operand: &syn::Expr) -> Option<String> {
    match operand {
        syn::Expr::Reference(of) => name_of(&of.expr),
        syn::Expr::Unary(of) => name_of(&of.expr),
        syn::Expr::Paren(of) => name_of(&of.expr),
        syn::Expr::Index(of) => name_of(&of.expr),
        syn::Expr::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        syn::Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.to_string()),
            syn::Member::Unnamed(_) => name_of(&field.base),
        },
        syn::Expr::Call(call) => match name_of(&call.func)?.as_str() {
            "Some" | "Ok" => name_of(call.args.first()?),
            name => Some(name.to_owned()),
        },
        syn::Expr::MethodCall(call) => match call.method.to_string().as_str() {
            "as_ref" | "as_slice" | "as_bytes" | "to_bytes" | "to_vec" | "copied" | "cloned" => name_of(&call.receiver),
            name => Some(name.to_owned()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<String> {
        let file = syn::parse_file(&format!("fn f() {{ {code}; }}")).unwrap();
        comparisons(&file).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        assert_eq!(found("self.reset_token.as_ref() == Some(other)"), ["reset_token"]);
        assert_eq!(found("if a && &mac[..] != b {}"), ["mac"]);
        assert_eq!(found("x == long::token(&hello)"), ["token"]);
        assert_eq!(found("*secret != other"), ["secret"]);
        assert_eq!(found("*token == [0; 16]"), [""; 0], "there is nothing to guess");
        assert_eq!(found("ticket.serial == 3"), [""; 0]);
        assert_eq!(found("tokens.len() == 3 || constant_time_eq(mac, tag)"), [""; 0]);
    }

    #[test]
    fn tests_may_compare() {
        let file = syn::parse_file("#[cfg(test)] mod tests { fn f() { mac == tag; } }").unwrap();
        assert!(comparisons(&file).is_empty());
    }
}
