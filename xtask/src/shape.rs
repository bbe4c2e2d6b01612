//! The shape of a crate: which types have many methods, and which files call each other in a circle.

mod calls;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::graph;
use crate::source::{Crate, File};
use calls::Calls;
use types::Types;

/// How many types are listed.
const LISTED: usize = 10;
/// The crate that is shown if none is named.
const DEFAULT: &str = "sss-proto";

/// Methods a type may have over all its files: without those of traits, and without tests.
const METHODS: usize = 60;

/// Types that have more, and how many. The numbers only fall, and nothing is added.
const EXCEPTIONS: &[Exception] = &[];

/// A type above the cap.
struct Exception {
    krate: &'static str,
    name: &'static str,
    methods: usize,
}

#[cfg(test)]
const fn exception(krate: &'static str, name: &'static str, methods: usize) -> Exception {
    Exception { krate, name, methods }
}

/// Prints the shape of a crate, or of one of its modules.
pub(crate) fn print(
    root: &Path,
    crates: &[(String, PathBuf)],
    sources: &[PathBuf],
    arguments: &[String],
) -> Result<(), String> {
    let name = arguments.first().map_or(DEFAULT, String::as_str);
    let found = crates.iter().find(|(other, _)| other == name);
    let (_, folder) = found.ok_or(format!("there is no crate {name}"))?;
    let krate = Crate::load(root, folder, sources)?;
    print!("{}", describe(name, &krate, arguments.get(1).map(String::as_str)));
    Ok(())
}

/// Checks the cap on methods of a type.
pub(crate) fn check(crate_name: &str, krate: &Crate, findings: &mut Vec<String>) {
    compare(crate_name, &Types::of(krate), EXCEPTIONS, findings);
}

fn compare(crate_name: &str, types: &Types, exceptions: &[Exception], findings: &mut Vec<String>) {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for size in types.sizes() {
        let exception = exceptions.iter().find(|e| e.krate == crate_name && e.name == size.name);
        let cap = exception.map_or(METHODS, |e| e.methods);
        if size.methods > cap {
            findings.push(format!(
                "{crate_name}: {} has {} methods in {} files, at most {cap}",
                size.name,
                size.methods,
                size.files.len()
            ));
        }
        if let Some(exception) = exception {
            known.insert(exception.name);
            if size.methods < cap {
                findings.push(format!(
                    "xtask/src/shape.rs: {} has only {} methods now: lower the number of its exception{}",
                    size.name,
                    size.methods,
                    if size.methods > METHODS {
                        ""
                    } else {
                        ", or rather remove it"
                    }
                ));
            }
        }
    }
    for exception in exceptions.iter().filter(|e| e.krate == crate_name) {
        if !known.contains(exception.name) {
            findings.push(format!(
                "xtask/src/shape.rs: there is no type {} any more",
                exception.name
            ));
        }
    }
}

fn describe(name: &str, krate: &Crate, only: Option<&str>) -> String {
    let types = Types::of(krate);
    let mut text = format!("{name}: methods of a type over all its files, without those of traits and without tests\n");
    for size in types.sizes().into_iter().take(LISTED) {
        let files: Vec<_> = size.files.iter().map(|file| short(krate, *file)).collect();
        let (count, plural) = (files.len(), if files.len() == 1 { "" } else { "s" });
        let _ = writeln!(
            text,
            "{:>5} {} in {count} file{plural}: {}",
            size.methods,
            size.name,
            files.join(" ")
        );
    }
    text.push_str(&describe_modules(krate, only.is_some()));
    let calls = Calls::of(krate, &types);
    for (module, files) in groups(krate) {
        if only.is_none_or(|only| only == module) {
            text.push_str(&describe_module(krate, &calls, &module, &files));
            if only.is_some() {
                text.push_str(&describe_pairs(krate, &calls, &files));
            }
        }
    }
    text
}

/// Whether the modules at the top take names from each other in a circle.
fn describe_modules(krate: &Crate, with_arrows: bool) -> String {
    let tops: BTreeSet<&str> = krate.files.iter().filter_map(|file| top(file)).collect();
    let tops: Vec<&str> = tops.into_iter().collect();
    let number = |name| tops.binary_search(&name).ok();
    let mut edges = vec![Vec::new(); tops.len()];
    let mut text = String::from("\n");
    for (index, file) in krate.files.iter().enumerate() {
        let Some(from) = top(file).and_then(number) else {
            continue;
        };
        for arrow in krate.arrows(index) {
            let Some(to) = top(&krate.files[arrow.to]).and_then(number) else {
                continue;
            };
            if from != to && !edges[from].contains(&to) {
                edges[from].push(to);
            }
        }
    }
    for cycle in graph::cycles(&edges) {
        let names: Vec<_> = cycle.iter().map(|n| tops[*n]).collect();
        let _ = writeln!(text, "cycle of names taken between modules: {}", names.join(" "));
    }
    if with_arrows {
        for (from, to) in edges.iter().enumerate() {
            let to: Vec<_> = to.iter().map(|n| tops[*n]).collect();
            let _ = writeln!(text, "{} -> {}", tops[from], to.join(" "));
        }
    }
    text
}

fn top(file: &File) -> Option<&str> {
    file.module.first().map(String::as_str)
}

/// The files of each module at the top that has files below it.
fn groups(krate: &Crate) -> BTreeMap<String, BTreeSet<usize>> {
    let mut groups: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (index, file) in krate.files.iter().enumerate() {
        if let Some(top) = file.module.first() {
            groups.entry(top.clone()).or_default().insert(index);
        }
    }
    groups.retain(|_, files| files.len() > 1);
    groups
}

fn describe_module(krate: &Crate, calls: &Calls, module: &str, files: &BTreeSet<usize>) -> String {
    let within = |pair: &(usize, usize)| files.contains(&pair.0) && files.contains(&pair.1);
    let between: Vec<_> = calls.between.iter().filter(|(pair, _)| within(pair)).collect();
    let all: usize = between.iter().map(|(_, count)| count.all).sum();
    let of_self: usize = between.iter().map(|(_, count)| count.of_self).sum();
    let pairs_of_self = between.iter().filter(|(_, count)| count.of_self > 0).count();
    let unclear: usize = files.iter().filter_map(|file| calls.unclear.get(file)).sum();
    let mut text = format!(
        "\n{module}: {} files; {all} calls from file to file over {} pairs, of these {of_self} of `self` over \
         {pairs_of_self}; {unclear} more whose receiver is not clear\n",
        files.len(),
        between.len(),
    );
    let mut edges = vec![Vec::new(); krate.files.len()];
    for (pair, _) in &between {
        edges[pair.0].push(pair.1);
    }
    text.push_str(&describe_cycles(krate, "calls", &edges));
    let mut edges = vec![Vec::new(); krate.files.len()];
    for file in files {
        let to = krate.arrows(*file).into_iter().map(|arrow| arrow.to);
        edges[*file] = to.filter(|to| files.contains(to)).collect();
    }
    text.push_str(&describe_cycles(krate, "names taken", &edges));
    text
}

/// Which file calls which, and takes which names: what makes the circles is among these.
fn describe_pairs(krate: &Crate, calls: &Calls, files: &BTreeSet<usize>) -> String {
    let mut text = String::new();
    for ((from, to), count) in &calls.between {
        if files.contains(from) && files.contains(to) {
            let (line, name) = &count.first;
            let (from, to) = (short(krate, *from), short(krate, *to));
            let _ = writeln!(text, "{:>5} {from} -> {to}, as `{name}` in line {line}", count.all);
        }
    }
    for from in files {
        for arrow in krate.arrows(*from).iter().filter(|arrow| files.contains(&arrow.to)) {
            let (from, to) = (short(krate, *from), short(krate, arrow.to));
            let name = arrow.item.as_deref().unwrap_or("self");
            let _ = writeln!(text, "      {from}:{} takes {name} from {to}", arrow.line);
        }
    }
    text
}

fn describe_cycles(krate: &Crate, of: &str, edges: &[Vec<usize>]) -> String {
    let cycles = graph::cycles(edges);
    if cycles.is_empty() {
        return format!("  no cycle of {of}\n");
    }
    let mut text = String::new();
    for cycle in cycles {
        let files: Vec<_> = cycle.iter().map(|file| short(krate, *file)).collect();
        let _ = writeln!(text, "  cycle of {of}, {} files: {}", files.len(), files.join(" "));
    }
    text
}

/// A file's name below `src`.
fn short(krate: &Crate, file: usize) -> &str {
    let name = &krate.files[file].name;
    name.split_once("/src/").map_or(name, |(_, short)| short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::made_of;

    fn methods(count: usize) -> String {
        (0..count).map(|n| format!("fn f{n}(&self) {{}} ")).collect()
    }

    fn findings(count: usize, exceptions: &[Exception]) -> Vec<String> {
        let (some, more) = (format!("impl super::T {{ {} }}", methods(20)), methods(count - 20));
        let root = format!("struct T; impl T {{ {more} }} impl std::fmt::Debug for T {{ fn fmt() {{}} }}");
        let krate = made_of(&[("", "mod a;"), ("a", &root), ("a/b", &some)]);
        let mut findings = Vec::new();
        compare("x", &Types::of(&krate), exceptions, &mut findings);
        findings
    }

    #[test]
    fn methods_are_counted_over_all_files_of_a_type() {
        assert!(findings(60, &[]).is_empty());
        assert_eq!(findings(61, &[]), ["x: T has 61 methods in 2 files, at most 60"]);
    }

    #[test]
    fn exceptions_only_shrink() {
        assert!(findings(70, &[exception("x", "T", 70)]).is_empty());
        assert_eq!(findings(71, &[exception("x", "T", 70)]).len(), 1);
        assert_eq!(findings(69, &[exception("x", "T", 70)]).len(), 1);
        let found = findings(60, &[exception("x", "U", 70)]);
        assert_eq!(found, ["xtask/src/shape.rs: there is no type U any more"]);
        assert!(findings(60, &[exception("y", "U", 70)]).is_empty(), "another crate's");
    }

    #[test]
    fn circles_of_calls_and_of_names_are_told() {
        let krate = made_of(&[
            ("", "mod a;"),
            (
                "a",
                "mod b; mod c; pub struct T { u: c::U } impl T { fn f(&self) { self.g(); self.u.h() } }",
            ),
            ("a/b", "impl super::T { fn g(&self) { self.f() } }"),
            ("a/c", "pub struct U; impl U { fn h(&self) {} }"),
        ]);
        let text = describe("x", &krate, None);
        assert!(
            text.contains("3 calls from file to file over 3 pairs, of these 2 of `self` over 2; 0 more"),
            "{text}"
        );
        assert!(text.contains("cycle of calls, 2 files: a a/b"), "{text}");
        assert!(text.contains("no cycle of names taken"), "{text}");
        assert!(text.contains("2 T in 2 files: a a/b"), "{text}");
    }
}
