//! The types of a crate: their fields, their methods, and what these return.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Crate, Module, is_test_only};

/// A type by the file in which it is declared, and its name.
pub(crate) type TypeId = (usize, String);

/// A method, or a function outside of types.
#[derive(Clone)]
pub(crate) struct Method {
    /// The file in which it is.
    pub(crate) file: usize,
    /// The type that it returns, perhaps in an `Option` or the like.
    pub(crate) returns: Option<TypeId>,
}

/// How large a type is.
pub(crate) struct Size {
    pub(crate) name: String,
    pub(crate) methods: usize,
    /// The files in which it has methods.
    pub(crate) files: BTreeSet<usize>,
}

#[derive(Default)]
pub(crate) struct Types {
    fields: BTreeMap<(TypeId, String), TypeId>,
    methods: BTreeMap<TypeId, BTreeMap<String, Method>>,
    functions: BTreeMap<TypeId, Method>,
    /// How many methods there are, those of the same name with different `cfg` included.
    counts: BTreeMap<TypeId, usize>,
}

impl Types {
    pub(crate) fn of(krate: &Crate) -> Self {
        let mut types = Self::default();
        for (index, file) in krate.files.iter().enumerate() {
            for item in &file.syntax.items {
                types.add(krate, index, item);
            }
        }
        types
    }

    /// All types with methods, the largest first.
    pub(crate) fn sizes(&self) -> Vec<Size> {
        let size = |(id, methods): (&TypeId, &BTreeMap<String, Method>)| Size {
            name: id.1.clone(),
            methods: self.counts.get(id).copied().unwrap_or_default(),
            files: methods.values().map(|method| method.file).collect(),
        };
        let mut sizes: Vec<Size> = self.methods.iter().map(size).collect();
        sizes.sort_by(|a, b| b.methods.cmp(&a.methods).then_with(|| a.name.cmp(&b.name)));
        sizes
    }

    pub(crate) fn method(&self, of: &TypeId, name: &str) -> Option<&Method> {
        self.methods.get(of)?.get(name)
    }

    pub(crate) fn field(&self, of: &TypeId, name: &str) -> Option<&TypeId> {
        self.fields.get(&(of.clone(), name.to_owned()))
    }

    pub(crate) fn function(&self, id: &TypeId) -> Option<&Method> {
        self.functions.get(id)
    }

    /// All methods of a name.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Method> {
        self.methods.values().filter_map(move |methods| methods.get(name))
    }

    fn add(&mut self, krate: &Crate, index: usize, item: &syn::Item) {
        let module = &krate.files[index].module;
        match item {
            syn::Item::Struct(item) => {
                let id = (index, item.ident.to_string());
                for (number, field) in item.fields.iter().enumerate() {
                    let name = field.ident.as_ref().map_or(number.to_string(), ToString::to_string);
                    if let Some(of) = type_of(krate, module, None, &field.ty) {
                        self.fields.insert((id.clone(), name), of);
                    }
                }
            }
            syn::Item::Fn(item) if !is_test_only(&item.attrs) => {
                let method = method(krate, index, None, &item.sig);
                self.functions.insert((index, item.sig.ident.to_string()), method);
            }
            syn::Item::Impl(item) if !is_test_only(&item.attrs) => self.add_methods(krate, index, item),
            _ => {}
        }
    }

    fn add_methods(&mut self, krate: &Crate, index: usize, item: &syn::ItemImpl) {
        let module = &krate.files[index].module;
        let Some(id) = type_of(krate, module, None, &item.self_ty) else {
            return;
        };
        if item.trait_.is_some() {
            return;
        }
        for part in &item.items {
            if let syn::ImplItem::Fn(function) = part
                && !is_test_only(&function.attrs)
            {
                let method = method(krate, index, Some(&id), &function.sig);
                let methods = self.methods.entry(id.clone()).or_default();
                methods.insert(function.sig.ident.to_string(), method);
                *self.counts.entry(id.clone()).or_default() += 1;
            }
        }
    }
}

fn method(krate: &Crate, file: usize, own: Option<&TypeId>, signature: &syn::Signature) -> Method {
    let returns = match &signature.output {
        syn::ReturnType::Type(_, of) => type_of(krate, &krate.files[file].module, own, of),
        syn::ReturnType::Default => None,
    };
    Method { file, returns }
}

/// Types that hold others: what is called on their contents is looked for there.
const HOLDERS: [&str; 14] = [
    "Arc", "Box", "Cell", "Entry", "Mutex", "Option", "Poll", "Rc", "RefCell", "Result", "Slab", "Some", "Vec",
    "VecDeque",
];
const MAPS: [&str; 2] = ["BTreeMap", "HashMap"];

/// The type of the crate that is written there, perhaps behind references, or in an `Option` or the like.
pub(crate) fn type_of(krate: &Crate, module: &Module, own: Option<&TypeId>, of: &syn::Type) -> Option<TypeId> {
    match of {
        syn::Type::Reference(of) => type_of(krate, module, own, &of.elem),
        syn::Type::Paren(of) => type_of(krate, module, own, &of.elem),
        syn::Type::Slice(of) => type_of(krate, module, own, &of.elem),
        syn::Type::Array(of) => type_of(krate, module, own, &of.elem),
        syn::Type::Path(of) => {
            let last = of.path.segments.last()?;
            let name = last.ident.to_string();
            if name == "Self" {
                return own.cloned();
            }
            let inner = if HOLDERS.contains(&name.as_str()) {
                Some(0)
            } else {
                MAPS.contains(&name.as_str()).then_some(1)
            };
            if let Some(position) = inner {
                let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
                    return None;
                };
                let mut types = arguments.args.iter().filter_map(|argument| match argument {
                    syn::GenericArgument::Type(of) => Some(of),
                    _ => None,
                });
                return type_of(krate, module, own, types.nth(position)?);
            }
            let path: Vec<String> = of.path.segments.iter().map(|s| s.ident.to_string()).collect();
            let (file, name) = krate.resolve(module, &path)?;
            Some((file, name?))
        }
        _ => None,
    }
}
