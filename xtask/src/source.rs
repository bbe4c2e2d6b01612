//! The sources of a crate as modules: what each file declares and imports, and where a path leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};

/// A module's path from the crate's root, without the crate's name.
pub(crate) type Module = Vec<String>;

/// A file of a crate that is not a test.
pub(crate) struct File {
    /// Path from the root of the project.
    pub(crate) name: String,
    pub(crate) module: Module,
    pub(crate) syntax: syn::File,
    /// Names of types, functions, constants and macros declared here.
    declared: BTreeSet<String>,
    /// What each imported name stands for.
    imported: BTreeMap<String, Vec<String>>,
}

/// The modules of a crate.
pub(crate) struct Crate {
    pub(crate) files: Vec<File>,
    by_module: BTreeMap<Module, usize>,
}

impl Crate {
    /// Reads a crate's `src`, without its tests.
    pub(crate) fn load(root: &Path, folder: &Path, sources: &[std::path::PathBuf]) -> Result<Self, String> {
        let src = folder.join("src");
        let mut files = Vec::new();
        for path in sources.iter().filter(|path| path.starts_with(&src)) {
            let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
            if !is_test_file(&name) {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
                let mut module = module_of(path.strip_prefix(&src).unwrap_or(path));
                // The root of a program without a library.
                if module == ["main"] && !src.join("lib.rs").exists() {
                    module.clear();
                }
                files.push(File::parse(name, module, &text)?);
            }
        }
        Ok(Self::of(files))
    }

    pub(crate) fn of(files: Vec<File>) -> Self {
        let modules = files.iter().enumerate();
        let by_module = modules.map(|(index, file)| (file.module.clone(), index)).collect();
        Self { files, by_module }
    }

    /// The file in which what a path names is declared, and its name there, if it is of this crate. `None` stands for
    /// the module itself.
    pub(crate) fn resolve(&self, from: &Module, path: &[String]) -> Option<(usize, Option<String>)> {
        self.resolve_within(from, path, 8)
    }

    fn resolve_within(&self, from: &Module, path: &[String], depth: u32) -> Option<(usize, Option<String>)> {
        let depth = depth.checked_sub(1)?;
        let first = path.first()?;
        let (mut module, mut rest) = match first.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                (from[..from.len().checked_sub(up)?].to_vec(), &path[up..])
            }
            name if self.child(from, name).is_some() => (from.clone(), path),
            name => {
                let file = &self.files[*self.by_module.get(from)?];
                if file.declared.contains(name) {
                    return Some((*self.by_module.get(from)?, Some(name.to_owned())));
                }
                let stands_for = file.imported.get(name).filter(|target| target[..] != path[..1])?;
                let whole: Vec<String> = stands_for.iter().chain(&path[1..]).cloned().collect();
                return self.resolve_within(from, &whole, depth);
            }
        };
        while let Some(child) = rest.first().and_then(|name| self.child(&module, name)) {
            module = child;
            rest = &rest[1..];
        }
        let index = *self.by_module.get(&module)?;
        let Some(item) = rest.first() else {
            return Some((index, None));
        };
        let file = &self.files[index];
        match file.imported.get(item) {
            Some(target) if !file.declared.contains(item) => {
                let whole: Vec<String> = target.iter().chain(&rest[1..]).cloned().collect();
                self.resolve_within(&module, &whole, depth)
            }
            _ => Some((index, Some(item.clone()))),
        }
    }

    fn child(&self, module: &Module, name: &str) -> Option<Module> {
        let mut child = module.clone();
        child.push(name.to_owned());
        self.by_module.contains_key(&child).then_some(child)
    }

    /// Every path in a file that leads to another file of the crate: its line, the other file, and the name there.
    pub(crate) fn arrows(&self, index: usize) -> Vec<Arrow> {
        let file = &self.files[index];
        let mut paths = Paths::default();
        paths.visit_file(&file.syntax);
        let mut arrows = Vec::new();
        for (line, path) in paths.found {
            if let Some((to, item)) = self.resolve(&file.module, &path)
                && to != index
            {
                arrows.push(Arrow { line, to, item });
            }
        }
        arrows
    }
}

/// A name that a file takes from another.
pub(crate) struct Arrow {
    pub(crate) line: usize,
    /// The file in which the name is declared.
    pub(crate) to: usize,
    pub(crate) item: Option<String>,
}

impl File {
    pub(crate) fn parse(name: String, module: Module, text: &str) -> Result<Self, String> {
        let syntax = syn::parse_file(text).map_err(|e| format!("{name}: {e}"))?;
        let (mut declared, mut imported) = (BTreeSet::new(), BTreeMap::new());
        for item in &syntax.items {
            match item {
                syn::Item::Use(item) => {
                    for path in leaves(&item.tree) {
                        imported.insert(path.name, path.path);
                    }
                }
                item => declared.extend(declared_by(item)),
            }
        }
        Ok(Self {
            name,
            module,
            syntax,
            declared,
            imported,
        })
    }
}

fn declared_by(item: &syn::Item) -> Option<String> {
    let ident = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Whether a file is for tests alone.
pub(crate) fn is_test_file(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("/testing.rs")
}

/// Whether an item is compiled for tests alone.
pub(crate) fn is_test_only(attrs: &[syn::Attribute]) -> bool {
    attrs
        .iter()
        .any(|attr| attr.path().is_ident("cfg") && attr.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test"))
}

/// `a/b.rs` is `a::b`, `lib.rs` the root; a program beside a library is a module of its own.
fn module_of(path: &Path) -> Module {
    let whole = path.with_extension("");
    let mut module: Module = whole.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "lib" || last == "mod") {
        module.pop();
    }
    module
}

/// An imported path, and the name that it has from then on.
struct Leaf {
    path: Vec<String>,
    name: String,
}

fn leaves(tree: &syn::UseTree) -> Vec<Leaf> {
    match tree {
        syn::UseTree::Path(path) => {
            let mut found = leaves(&path.tree);
            for leaf in &mut found {
                leaf.path.insert(0, path.ident.to_string());
                // `a::{self}` is called a.
                if leaf.path[1..] == ["self"] {
                    leaf.path.pop();
                    leaf.name = leaf.path[0].clone();
                }
            }
            found
        }
        syn::UseTree::Name(name) => vec![Leaf {
            path: vec![name.ident.to_string()],
            name: name.ident.to_string(),
        }],
        syn::UseTree::Rename(rename) => vec![Leaf {
            path: vec![rename.ident.to_string()],
            name: rename.rename.to_string(),
        }],
        syn::UseTree::Glob(_) => vec![Leaf {
            path: Vec::new(),
            name: "*".to_owned(),
        }],
        syn::UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// All paths of a file that is not for tests: imports, and those written in full.
#[derive(Default)]
struct Paths {
    found: Vec<(usize, Vec<String>)>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attrs = match item {
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test_only(attrs) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for leaf in leaves(&item.tree) {
            let line = first_line(&item.tree);
            self.found.push((line, leaf.path));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let line = path.segments.first().map_or(0, |s| s.ident.span().start().line);
            let names = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.found.push((line, names));
        }
        visit::visit_path(self, path);
    }

    /// `pub(in a::b)` takes nothing from there.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        visit::visit_macro(self, item);
        for expression in arguments(item) {
            self.visit_expr(&expression);
        }
    }
}

fn first_line(tree: &syn::UseTree) -> usize {
    use syn::spanned::Spanned;
    tree.span().start().line
}

/// The arguments of a macro that is called like a function.
pub(crate) fn arguments(item: &syn::Macro) -> Vec<syn::Expr> {
    type List = syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>;
    let list = item.parse_body_with(List::parse_terminated);
    list.map(|list| list.into_iter().collect()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A crate of files given as module paths with `/` and texts.
    pub(crate) fn made_of(files: &[(&str, &str)]) -> Crate {
        let files = files.iter().map(|(module, text)| {
            let path: Module = module.split('/').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            File::parse((*module).to_owned(), path, text).unwrap()
        });
        Crate::of(files.collect())
    }

    fn lead(krate: &Crate, index: usize) -> Vec<(String, String)> {
        let arrows = krate.arrows(index).into_iter();
        arrows
            .map(|arrow| (krate.files[arrow.to].name.clone(), arrow.item.unwrap_or_default()))
            .collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn paths_lead_to_where_a_name_is_declared() {
        let krate = made_of(&[
            ("", "mod a; mod b; pub use a::Shown;"),
            (
                "a",
                "mod inner; pub use inner::Shown; pub fn f() { super::b::g(inner::X) }",
            ),
            (
                "a/inner",
                "pub struct Shown; pub const X: u8 = 1; use super::super::b::{self, B as C};",
            ),
            (
                "b",
                "use crate::Shown; use crate::a; use std::fmt; pub struct B; pub fn g(x: u8) { a::f(); fmt::x(); C::new() }",
            ),
        ]);
        assert_eq!(lead(&krate, 0), pairs(&[("a/inner", "Shown")]));
        assert_eq!(
            lead(&krate, 1),
            pairs(&[("a/inner", "Shown"), ("b", "g"), ("a/inner", "X")])
        );
        assert_eq!(lead(&krate, 2), pairs(&[("b", ""), ("b", "B")]));
        assert_eq!(lead(&krate, 3), pairs(&[("a/inner", "Shown"), ("a", ""), ("a", "f")]));
    }

    #[test]
    fn tests_and_visibilities_take_nothing_and_macros_do() {
        let krate = made_of(&[
            ("", "mod a; pub struct Y;"),
            (
                "a",
                "pub(super) fn f() { assert!(g(crate::Y)) }\n#[cfg(test)] mod tests { use crate::Y; }\n#[cfg(test)] impl A { fn x() { crate::Y } }",
            ),
        ]);
        let arrows = krate.arrows(1);
        assert_eq!(arrows.iter().map(|arrow| arrow.line).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn files_are_modules() {
        let of = |path: &str| module_of(Path::new(path)).join("::");
        assert_eq!(of("lib.rs"), "");
        assert_eq!(of("main.rs"), "main");
        assert_eq!(of("a/b.rs"), "a::b");
        assert_eq!(of("a/mod.rs"), "a");
    }
}
