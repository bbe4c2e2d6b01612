//! Calls from one file to another.
//!
//! Types are inferred as far as it is easy: of `self`, parameters, fields, and what methods return. A method of an
//! unknown receiver counts if only one type of the crate has a method of that name, and the name is none of the
//! standard library's; else it is unclear.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use super::types::{Method, TypeId, Types, type_of};
use crate::source::{Crate, arguments, is_test_only};

/// How often one file calls another.
#[derive(Clone, Default)]
pub(crate) struct Count {
    /// One of these calls: its line, and what is called.
    pub(crate) first: (usize, String),
    pub(crate) all: usize,
    /// Of these, methods of `self` in a file of the same type.
    pub(crate) of_self: usize,
}

#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) between: BTreeMap<(usize, usize), Count>,
    /// Calls whose receiver is not known, by file, if they may be to another file of the crate.
    pub(crate) unclear: BTreeMap<usize, usize>,
}

impl Calls {
    pub(crate) fn of(krate: &Crate, types: &Types) -> Self {
        let mut calls = Self::default();
        for (index, file) in krate.files.iter().enumerate() {
            let mut visitor = Visitor {
                krate,
                types,
                file: index,
                own: None,
                known: BTreeMap::new(),
                calls: &mut calls,
            };
            visitor.visit_file(&file.syntax);
        }
        calls
    }
}

/// Methods of the standard library's containers: nothing is said by their name alone.
const COMMON: &[&str] = &[
    "advance",
    "all",
    "and_then",
    "any",
    "as_bytes",
    "as_mut",
    "as_ref",
    "as_slice",
    "chain",
    "clear",
    "clone",
    "contains",
    "contains_key",
    "copied",
    "count",
    "drain",
    "end",
    "entry",
    "eq",
    "extend",
    "filter",
    "find",
    "first",
    "fmt",
    "get",
    "get_mut",
    "insert",
    "is_empty",
    "is_full",
    "iter",
    "iter_mut",
    "last",
    "len",
    "map",
    "max",
    "min",
    "next",
    "peek",
    "poll",
    "pop",
    "pop_front",
    "position",
    "push",
    "push_back",
    "range",
    "read",
    "remove",
    "replace",
    "reset",
    "retain",
    "send",
    "set",
    "skip",
    "split",
    "split_to",
    "start",
    "sum",
    "take",
    "then",
    "truncate",
    "values",
    "write",
];

/// Foreign methods that return what they are called on, or what it holds.
const PASSING: &[&str] = &[
    "as_deref",
    "as_deref_mut",
    "as_mut",
    "as_ref",
    "back",
    "back_mut",
    "clone",
    "cloned",
    "copied",
    "expect",
    "filter",
    "first",
    "front",
    "front_mut",
    "get",
    "get_mut",
    "get_or_insert_with",
    "iter",
    "iter_mut",
    "last",
    "last_mut",
    "next",
    "ok",
    "ok_or",
    "or_default",
    "or_insert_with",
    "peek",
    "pop",
    "pop_back",
    "pop_front",
    "rev",
    "take",
    "unwrap_or_default",
    "values",
    "values_mut",
];

struct Visitor<'a> {
    krate: &'a Crate,
    types: &'a Types,
    file: usize,
    /// The type whose `impl` this is.
    own: Option<TypeId>,
    /// Types of variables.
    known: BTreeMap<String, TypeId>,
    calls: &'a mut Calls,
}

impl Visitor<'_> {
    fn infer(&self, expression: &syn::Expr) -> Option<TypeId> {
        match expression {
            syn::Expr::Path(path) => {
                let name = path.path.get_ident()?.to_string();
                if name == "self" {
                    self.own.clone()
                } else {
                    self.known.get(&name).cloned()
                }
            }
            syn::Expr::Field(field) => {
                let name = match &field.member {
                    syn::Member::Named(name) => name.to_string(),
                    syn::Member::Unnamed(number) => number.index.to_string(),
                };
                self.types.field(&self.infer(&field.base)?, &name).cloned()
            }
            syn::Expr::MethodCall(call) => {
                let receiver = self.infer(&call.receiver)?;
                let name = call.method.to_string();
                match self.types.method(&receiver, &name) {
                    Some(method) => method.returns.clone(),
                    None => PASSING.contains(&name.as_str()).then_some(receiver),
                }
            }
            syn::Expr::Call(call) => {
                let syn::Expr::Path(function) = &*call.func else {
                    return None;
                };
                let names = names(&function.path);
                let wraps = matches!(names.last().map(String::as_str), Some("Some" | "Ok" | "Ready"));
                match call.args.first() {
                    Some(argument) if wraps => self.infer(argument),
                    _ => self.function(&names)?.returns,
                }
            }
            syn::Expr::Struct(item) => {
                let (file, name) = self.type_named(&names(&item.path))?;
                Some((file, name))
            }
            syn::Expr::Reference(inner) => self.infer(&inner.expr),
            syn::Expr::Paren(inner) => self.infer(&inner.expr),
            syn::Expr::Unary(inner) => self.infer(&inner.expr),
            syn::Expr::Try(inner) => self.infer(&inner.expr),
            syn::Expr::Await(inner) => self.infer(&inner.base),
            syn::Expr::Index(inner) => self.infer(&inner.expr),
            _ => None,
        }
    }

    fn type_named(&self, path: &[String]) -> Option<TypeId> {
        if path == ["Self"] {
            return self.own.clone();
        }
        let (file, name) = self.krate.resolve(&self.krate.files[self.file].module, path)?;
        Some((file, name?))
    }

    /// The function that a path names: of a type, or of a module.
    fn function(&self, path: &[String]) -> Option<Method> {
        let (last, owner) = path.split_last()?;
        if !owner.is_empty()
            && let Some(owner) = self.type_named(owner)
            && let Some(method) = self.types.method(&owner, last)
        {
            return Some(method.clone());
        }
        self.types.function(&self.type_named(path)?).cloned()
    }

    fn note(&mut self, to: usize, called: &syn::Ident, is_of_self: bool) {
        if to != self.file {
            let count = self.calls.between.entry((self.file, to)).or_default();
            if count.all == 0 {
                count.first = (called.span().start().line, called.to_string());
            }
            count.all += 1;
            count.of_self += usize::from(is_of_self);
        }
    }

    fn called(&mut self, call: &syn::ExprMethodCall) {
        let name = call.method.to_string();
        let is_self = matches!(&*call.receiver, syn::Expr::Path(path) if path.path.is_ident("self"));
        if let Some(receiver) = self.infer(&call.receiver) {
            if let Some(method) = self.types.method(&receiver, &name) {
                self.note(method.file, &call.method, is_self);
            }
            return;
        }
        let mut named = self.types.named(&name);
        let (first, is_only) = (named.next().map(|method| method.file), named.next().is_none());
        match first {
            None => {}
            Some(file) if is_only && !COMMON.contains(&name.as_str()) => self.note(file, &call.method, false),
            Some(_) if COMMON.contains(&name.as_str()) => {}
            Some(_) => *self.calls.unclear.entry(self.file).or_default() += 1,
        }
    }

    /// The variables of a pattern have this type, or one that is not known.
    fn bind(&mut self, pattern: &syn::Pat, of: Option<TypeId>) {
        match pattern {
            syn::Pat::Ident(ident) => {
                let name = ident.ident.to_string();
                match of {
                    Some(of) => self.known.insert(name, of),
                    None => self.known.remove(&name),
                };
            }
            syn::Pat::Type(typed) => {
                let module = &self.krate.files[self.file].module;
                let written = type_of(self.krate, module, self.own.as_ref(), &typed.ty);
                self.bind(&typed.pat, written.or(of));
            }
            syn::Pat::Reference(inner) => self.bind(&inner.pat, of),
            syn::Pat::Paren(inner) => self.bind(&inner.pat, of),
            syn::Pat::TupleStruct(inner) => {
                let wraps = matches!(
                    names(&inner.path).last().map(String::as_str),
                    Some("Some" | "Ok" | "Ready")
                );
                for element in &inner.elems {
                    self.bind(element, of.clone().filter(|_| wraps));
                }
            }
            syn::Pat::Tuple(inner) => inner.elems.iter().for_each(|element| self.bind(element, None)),
            syn::Pat::Struct(inner) => {
                let owner = self.type_named(&names(&inner.path));
                for field in &inner.fields {
                    let syn::Member::Named(name) = &field.member else {
                        continue;
                    };
                    let of = owner
                        .as_ref()
                        .and_then(|owner| self.types.field(owner, &name.to_string()));
                    self.bind(&field.pat, of.cloned());
                }
            }
            _ => {}
        }
    }

    fn parameters(&mut self, signature: &syn::Signature) {
        self.known.clear();
        for input in &signature.inputs {
            if let syn::FnArg::Typed(typed) = input {
                let module = &self.krate.files[self.file].module;
                let of = type_of(self.krate, module, self.own.as_ref(), &typed.ty);
                self.bind(&typed.pat, of);
            }
        }
    }
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_test_only(&item.attrs) {
            let module = &self.krate.files[self.file].module;
            self.own = type_of(self.krate, module, None, &item.self_ty);
            visit::visit_item_impl(self, item);
            self.own = None;
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test_only(&item.attrs) {
            self.parameters(&item.sig);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            self.parameters(&item.sig);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_local(&mut self, item: &'ast syn::Local) {
        visit::visit_local(self, item);
        let init = item.init.as_ref().map(|init| &*init.expr);
        match (&item.pat, init) {
            (syn::Pat::Tuple(pattern), Some(syn::Expr::Tuple(values))) => {
                for (pattern, value) in pattern.elems.iter().zip(&values.elems) {
                    let of = self.infer(value);
                    self.bind(pattern, of);
                }
            }
            (pattern, init) => {
                let of = init.and_then(|init| self.infer(init));
                self.bind(pattern, of);
            }
        }
    }

    fn visit_expr_let(&mut self, item: &'ast syn::ExprLet) {
        visit::visit_expr_let(self, item);
        let of = self.infer(&item.expr);
        self.bind(&item.pat, of);
    }

    fn visit_expr_match(&mut self, item: &'ast syn::ExprMatch) {
        self.visit_expr(&item.expr);
        let of = self.infer(&item.expr);
        for arm in &item.arms {
            self.bind(&arm.pat, of.clone());
            self.visit_arm(arm);
        }
    }

    fn visit_expr_for_loop(&mut self, item: &'ast syn::ExprForLoop) {
        self.visit_expr(&item.expr);
        let of = self.infer(&item.expr);
        self.bind(&item.pat, of);
        self.visit_block(&item.body);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.called(call);
        self.visit_expr(&call.receiver);
        let of = self.infer(&call.receiver);
        for argument in &call.args {
            // What a closure is given is mostly what the receiver holds.
            if let syn::Expr::Closure(closure) = argument {
                for input in &closure.inputs {
                    self.bind(input, of.clone());
                }
            }
            self.visit_expr(argument);
        }
    }

    fn visit_expr_path(&mut self, item: &'ast syn::ExprPath) {
        if let (Some(function), Some(last)) = (self.function(&names(&item.path)), item.path.segments.last()) {
            self.note(function.file, &last.ident, false);
        }
        visit::visit_expr_path(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        for expression in arguments(item) {
            self.visit_expr(&expression);
        }
    }
}
