//! The order of layers: which crates a crate may use, and which modules a module may take names from.

use std::path::Path;

use crate::source::{Crate, Module};

/// Crates, each with those of this project that it may use; without what only its tests use.
const CRATES: &[(&str, &[&str])] = &[
    ("sss-wire", &[]),
    ("sss-crypto", &[]),
    ("sss-files", &["sss-wire"]),
    ("sss-proto", &["sss-wire", "sss-crypto"]),
    ("sss-reach", &["sss-wire", "sss-crypto", "sss-proto"]),
    ("libsss", &["sss-wire", "sss-crypto", "sss-proto", "sss-reach"]),
    ("sss-sim", &["sss-wire", "sss-crypto", "sss-proto"]),
    ("sss-cli", &["libsss", "sss-files"]),
    (
        "sss-attack",
        &[
            "libsss",
            "sss-wire",
            "sss-crypto",
            "sss-proto",
            "sss-reach",
            "sss-files",
        ],
    ),
    ("sss-bench", &["libsss", "sss-sim", "sss-lab"]),
    ("sss-lab", &[]),
    ("xtask", &[]),
];

/// The layers of a crate, the lowest first; those of one line do not know each other. `a` stands for everything below
/// `a` that is not named by itself. The crate's root is above all of them.
type Layers = &'static [&'static [&'static str]];

const MODULES: &[(&str, Layers)] = &[
    (
        "sss-wire",
        &[
            &["constants", "error", "eid", "text", "varint"],
            &["channel_id", "code", "kem", "reader", "suite", "writer"],
            &["address"],
            &["params"],
            &["frame", "long", "services", "short"],
            &["reach"],
        ],
    ),
    (
        "sss-crypto",
        &[
            &["error", "suite"],
            &["provider"],
            &["cookie", "generator", "key", "mac"],
            &["noise"],
            &["schedule"],
            &["kem", "packet"],
        ],
    ),
    (
        "sss-files",
        &[&["flags", "path"], &["protocol"], &["greeting", "order"]],
    ),
    (
        "sss-proto",
        &[
            &[
                "entropy", "hostile", "ids", "interest", "key_log", "padding", "rare", "role", "route", "sketch",
                "time",
            ],
            &["config", "network", "pace", "refusal", "seen", "token"],
            &["error", "limit", "packet"],
            &["io", "nearby"],
            &[
                "negotiation::channel_ids",
                "negotiation::repeats",
                "negotiation::search",
                "negotiation::target",
                "negotiation::terms",
                "negotiation::ways",
            ],
            &["negotiation::cookie", "negotiation::shards"],
            &[
                "negotiation::introductions",
                "negotiation::leg",
                "negotiation::retry_tokens",
            ],
            &["negotiation::load"],
            &["negotiation::greeter"],
            &["negotiation::greeting", "negotiation::responder"],
            &["negotiation::accept", "negotiation::initiator"],
            &["channel", "negotiation"],
            &[
                "streams::data",
                "streams::flow::gauge",
                "streams::frames::delivery",
                "streams::life::listen",
                "streams::life::state",
                "streams::messages::deadlines",
                "streams::messages::line",
                "streams::messages::options",
                "streams::tree::ends",
                "streams::tree::index",
                "streams::tree::names",
                "streams::tree::opened",
                "streams::tree::queue",
            ],
            &[
                "streams::flow::backing",
                "streams::flow::lending",
                "streams::messages::mailbox",
                "streams::schedule::rings",
            ],
            &["streams::flow::account", "streams::tree::extras"],
            &["streams::tree"],
            &[
                "streams::events",
                "streams::flow::openings",
                "streams::frames::questions",
                "streams::life::cause",
                "streams::life::walks",
                "streams::schedule",
            ],
            &[
                "streams::flow::budget",
                "streams::flow::openers",
                "streams::frames::outbox",
                "streams::life::backlog",
                "streams::life::losses",
            ],
            &["streams::flow", "streams::frames::answers"],
            &["streams::messages::books", "streams::messages::limits"],
            &["streams::messages::ledger"],
            &["streams::life"],
            &[
                "streams::frames::draft",
                "streams::frames::final_size",
                "streams::frames::subject",
                "streams::reading",
                "streams::report",
                "streams::rest",
                "streams::writing",
            ],
            &["streams::frames::segment", "streams::messages::incoming"],
            &["streams::frames::init"],
            &["streams::messages"],
            &["streams::frames"],
            &["streams"],
            &["local_host"],
            &["peer"],
            &["host"],
        ],
    ),
    (
        "sss-reach",
        &[
            &["absence", "dropped", "mdns", "path"],
            &["keys"],
            &["client", "server"],
            &["desk"],
            &["rendezvous"],
        ],
    ),
    (
        "libsss",
        &[
            &[
                "desk",
                "directory::desk",
                "driver::addresses",
                "driver::clock",
                "driver::notices",
                "driver::slots",
                "driver::stats",
                "interface",
                "lifecycle",
                "mapping::desk",
                "nat64",
                "tunnels",
                "turn::table",
            ],
            &["driver::wakers", "hint", "mdns::desk", "stun::desk"],
            &["error", "shared"],
            &["directory", "redaction", "waiting"],
            &["tls", "tls_absent", "turn"],
            &["driver", "identity", "link", "mapping", "mdns", "rendezvous", "stun"],
            &["peer"],
            &["stream"],
            &["server"],
            &["service_builder", "server_set", "connect"],
            &["services_of"],
            &["host"],
            &["sharded_host"],
            &["builder", "explain", "peer_service", "search"],
        ],
    ),
    (
        "sss-sim",
        &[
            &["link", "transcript", "units"],
            &["world"],
            &["model", "scenario::plan"],
            &["actor"],
            &["scenario"],
            &[
                "bulk",
                "congestion",
                "delivery",
                "fresh",
                "handshakes",
                "prioritisation",
                "refusals",
                "work",
            ],
            &["main"],
        ],
    ),
    (
        "sss-cli",
        &[
            &["place", "screen"],
            &["server_at"],
            &["ticket"],
            &["transfer"],
            &["target"],
            &["error"],
            &["diagnosis", "interrupt"],
            &["listen", "output"],
            &[
                "identity",
                "mdns",
                "mdns_absent",
                "network",
                "port_mapping",
                "port_mapping_absent",
                "stun",
                "stun_absent",
            ],
            &["turn", "turn_absent"],
            &["dns", "dns_absent", "servers"],
            &["cli", "dry_run", "given_ticket", "progress"],
            &["known_hosts"],
            &["trust"],
            &["caller"],
            &["connector"],
            &["commands"],
        ],
    ),
    (
        "sss-attack",
        &[
            &["pace", "tally", "target"],
            &["error"],
            &["driven", "greeting", "relay", "victim"],
            &["forger", "handshake", "member", "peers", "strangers"],
            &["between", "callers", "crowd", "insiders", "liar", "scripts"],
            &["trap"],
            &["main"],
        ],
    ),
    (
        "sss-lab",
        &[
            &["error", "prefix"],
            &["site", "system", "units"],
            &["plan", "rules", "namespace", "shape"],
            &["claim", "emulator", "node"],
            &["lab", "probe"],
            &["check"],
            &["tool"],
            &["main"],
        ],
    ),
    (
        "sss-bench",
        &[
            &["colours", "outcome", "setup", "stats", "tree_shape"],
            &["link", "process", "tls", "transport", "tuning", "usage"],
            &["control"],
            &["serve", "workloads"],
            &["backend"],
            &["backends", "child", "cli", "report"],
            &["links", "million", "prioritisation", "waits"],
            &["compare"],
            &["main"],
        ],
    ),
];

/// Where people read of the layers.
const PAGE: &str = "ARCHITECTURE.md";

/// The page tells people of the same layers.
pub(crate) fn check_page(root: &Path, findings: &mut Vec<String>) {
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    for line in MODULES.iter().flat_map(|(name, layers)| rows(name, layers)) {
        if !page.lines().any(|there| there == line) {
            findings.push(format!("{PAGE}: there is no line {line}"));
        }
    }
}

/// Modules with so many layers of their own that they have a line of their own.
const OWN_LINES: &[(&str, &str)] = &[("sss-proto", "negotiation"), ("sss-proto", "streams")];

/// The lines of the page's table for a crate: that of the crate, and those of its modules that have one.
fn rows(name: &str, layers: Layers) -> Vec<String> {
    let own = OWN_LINES.iter().filter(|(of, _)| *of == name);
    let prefixes: Vec<String> = own.clone().map(|(_, module)| format!("{module}::")).collect();
    let is_inner = |module: &str| prefixes.iter().any(|prefix| module.starts_with(prefix.as_str()));
    let outer = row(name, layers, |module| (!is_inner(module)).then_some(module));
    let inner = own.map(|(_, module)| {
        let prefix = format!("{module}::");
        row(&format!("{name}/{module}"), layers, move |m| {
            m.strip_prefix(prefix.as_str())
        })
    });
    std::iter::once(outer).chain(inner).collect()
}

/// A line with those of the modules that it is for, by the names that it has for them.
fn row<'a>(name: &str, layers: &[&'a [&'a str]], known: impl Fn(&'a str) -> Option<&'a str>) -> String {
    let layers = layers
        .iter()
        .map(|layer| layer.iter().filter_map(|m| known(m)).collect::<Vec<_>>());
    let layers: Vec<String> = layers.filter(|l| !l.is_empty()).map(|l| l.join(", ")).collect();
    format!("| `{name}` | {} |", layers.join(" < "))
}

/// Checks the dependencies of a crate of this project, and the layers of its modules.
pub(crate) fn check(name: &str, folder: &Path, krate: &Crate, findings: &mut Vec<String>) {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    match CRATES.iter().find(|(of, _)| *of == name) {
        None => findings.push(format!("xtask/src/layers.rs: {name} is in no layer")),
        Some((_, allowed)) => check_dependencies(name, &manifest, allowed, findings),
    }
    if let Some((_, layers)) = MODULES.iter().find(|(of, _)| *of == name) {
        check_modules(name, krate, layers, findings);
    }
}

fn check_dependencies(name: &str, manifest: &str, allowed: &[&str], findings: &mut Vec<String>) {
    for used in dependencies(manifest) {
        if CRATES.iter().any(|(of, _)| *of == used) && !allowed.contains(&used) {
            findings.push(format!("{name}/Cargo.toml: {name} is not to use {used}"));
        }
    }
}

/// The names in the tables of dependencies, but for those of tests.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut is_in_table = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_in_table = line.ends_with("dependencies]") && !line.ends_with("dev-dependencies]");
        } else if is_in_table && let Some((key, _)) = line.split_once('=') {
            found.push(key.trim().split('.').next().unwrap_or_default());
        }
    }
    found
}

fn check_modules(name: &str, krate: &Crate, layers: Layers, findings: &mut Vec<String>) {
    for (index, file) in krate.files.iter().enumerate() {
        let Some(own) = place(&file.module, layers) else {
            if !file.module.is_empty() {
                findings.push(format!("{}: xtask/src/layers.rs names no layer for it", file.name));
            }
            continue;
        };
        for arrow in krate.arrows(index) {
            let to = &krate.files[arrow.to];
            let item = arrow.item.as_deref().unwrap_or("the module");
            let what = match place(&to.module, layers) {
                Some(other) if other.name == own.name || other.layer < own.layer => continue,
                Some(other) if other.layer == own.layer => "a neighbour",
                _ => "a layer above",
            };
            findings.push(format!(
                "{}:{}: takes {item} from {}, {what}",
                file.name, arrow.line, to.name
            ));
        }
    }
    for listed in layers.iter().flat_map(|layer| *layer) {
        if !krate
            .files
            .iter()
            .any(|file| place(&file.module, layers).is_some_and(|p| p.name == *listed))
        {
            findings.push(format!("xtask/src/layers.rs: {name} has no module {listed}"));
        }
    }
}

/// Where a module stands.
struct Place {
    layer: usize,
    /// The name under which it is listed.
    name: &'static str,
}

/// The longest name that is listed and that the module is, or is below.
fn place(module: &Module, layers: Layers) -> Option<Place> {
    let path = module.join("::");
    let all = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| names.iter().map(move |name| Place { layer, name }));
    let above = all.filter(|place| {
        path.strip_prefix(place.name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    above.max_by_key(|place| place.name.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::made_of;

    const LAYERS: Layers = &[&["low", "high::part"], &["middle", "beside"], &["high"]];

    fn findings(middle: &str, part: &str) -> Vec<String> {
        let krate = made_of(&[
            ("", "mod low; mod middle; mod beside; mod high; pub use high::H;"),
            ("low", "pub struct L;"),
            ("middle", middle),
            ("beside", "pub struct B; use crate::low::L;"),
            (
                "high",
                "mod part; pub use crate::middle; pub struct H; pub use part::P;",
            ),
            ("high/part", part),
        ]);
        let mut findings = Vec::new();
        check_modules("x", &krate, LAYERS, &mut findings);
        findings
    }

    #[test]
    fn names_come_from_below() {
        let good = "use super::low::L; fn f() { crate::high::part::P }";
        assert_eq!(findings(good, "pub struct P;"), [""; 0]);
        assert_eq!(
            findings("use crate::H;", "pub struct P;"),
            ["middle:1: takes H from high, a layer above"]
        );
        let found = findings("fn f() { super::high::H::new() }", "pub struct P;");
        assert_eq!(found, ["middle:1: takes H from high, a layer above"]);
        assert_eq!(
            findings("use crate::beside;", "pub struct P;"),
            ["middle:1: takes the module from beside, a neighbour"]
        );
        let found = findings("", "pub struct P; use super::H;");
        assert_eq!(found, ["high/part:1: takes H from high, a layer above"]);
    }

    #[test]
    fn every_module_has_a_layer_and_every_layer_a_module() {
        let krate = made_of(&[("", "mod a;"), ("a", "")]);
        let mut findings = Vec::new();
        check_modules("x", &krate, &[&["b"]], &mut findings);
        assert_eq!(
            findings,
            [
                "a: xtask/src/layers.rs names no layer for it",
                "xtask/src/layers.rs: x has no module b",
            ]
        );
    }

    #[test]
    fn a_row_has_the_lowest_first() {
        assert_eq!(
            row("x", LAYERS, Some),
            "| `x` | low, high::part < middle, beside < high |"
        );
    }

    #[test]
    fn crates_use_what_is_listed_for_them() {
        let manifest = "[dependencies]\nsss-wire.workspace = true\nbytes = \"1\"\n\n[dev-dependencies]\nsss-sim = { path = \"x\" }\n\n\
                        [target.'cfg(unix)'.dependencies]\nlibsss.workspace = true\n";
        assert_eq!(dependencies(manifest), ["sss-wire", "bytes", "libsss"]);
        let mut findings = Vec::new();
        check_dependencies("sss-proto", manifest, &["sss-wire"], &mut findings);
        assert_eq!(findings, ["sss-proto/Cargo.toml: sss-proto is not to use libsss"]);
    }
}
