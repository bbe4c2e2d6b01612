//! Counts the instructions of the simulator's workloads, under callgrind.
//!
//! Times on a busy machine say little about a change of one percent; counts of instructions are the same in every run.
//! They are comparable between two versions on the same machine, with the same compiler. Those of the core, without
//! cryptography and copies that other processors do in other ways, are comparable between machines too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::iter::Sum;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Beginning of the line that names the compiler.
const COMPILER: &str = "# compiler: ";
/// The workloads of `sss-sim work`.
const WORKLOADS: [&str; 5] = ["bulk", "rpc", "tree", "datagram", "migration"];
/// Times the limit by which the core may cost more where another compiler made what it is compared with.
const OTHER_COMPILER: f64 = 4.0;
/// Where the core's sources are: what is not inlined from elsewhere counts as its own.
const CORE: &str = "crates/sss-proto/src/";

/// Instructions of one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    all: u64,
    core: u64,
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self { all: 0, core: 0 }, |a, b| Self {
            all: a.all + b.all,
            core: a.core + b.core,
        })
    }
}

type Counts = BTreeMap<String, Count>;

/// Counts that were saved, and the compiler that made what was counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Saved {
    compiler: String,
    counts: Counts,
}

/// What is asked for on the command line.
#[derive(Debug, Default, PartialEq)]
struct Options {
    save: Option<PathBuf>,
    compare: Option<PathBuf>,
    /// Percents by which the core may take more than what it is compared with.
    limit: Option<f64>,
    workloads: Vec<String>,
}

/// Builds the simulator, runs the workloads, prints the table.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments)?;
    let before = options.compare.as_deref().map(load).transpose()?;
    let compiler = compiler()?;
    find_valgrind()?;
    let simulator = build(root)?;
    let folder = simulator.with_file_name("instructions");
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let mut counts = Counts::new();
    for workload in &options.workloads {
        eprintln!("{workload} ..");
        counts.insert(workload.clone(), count(&simulator, workload, &folder)?);
    }
    print!("{}", table(&counts, before.as_ref().map(|before| &before.counts)));
    if let Some(path) = &options.save {
        std::fs::write(path, saved(&counts, &compiler)).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    match (options.limit, before) {
        (Some(limit), Some(before)) if before.compiler == compiler => check(&counts, &before.counts, limit),
        (Some(limit), Some(before)) => {
            let limit = limit * OTHER_COMPILER;
            println!(
                "compared with what {} made, this is {compiler}: {limit} % are allowed",
                before.compiler
            );
            check(&counts, &before.counts, limit)
        }
        _ => Ok(()),
    }
}

/// Fails if the core takes more than `limit` percents more than before in any workload.
fn check(counts: &Counts, before: &Counts, limit: f64) -> Result<(), String> {
    let rises = counts.iter().filter_map(|(name, now)| {
        let then = before.get(name)?.core;
        let has_risen = now.core as f64 > then as f64 * (1.0 + limit / 100.0);
        has_risen.then(|| format!("{name} {}", percent(now.core, then)))
    });
    let rises: Vec<_> = rises.collect();
    if rises.is_empty() {
        return Ok(());
    }
    Err(format!(
        "sss-proto takes more than {limit} % more instructions: {}. Find out why; if it is worth it, count again with \
         --save and say so in docs/experiments/instructions.md.",
        rises.join(", ")
    ))
}

/// What the compiler says of its version.
fn compiler() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let said = said.map_err(|e| format!("rustc does not run: {e}"))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut path = || rest.next().map(PathBuf::from).ok_or(format!("{argument} needs a file"));
        match argument.as_str() {
            "--save" => options.save = Some(path()?),
            "--compare" => options.compare = Some(path()?),
            "--limit" => {
                let percents = rest.next().and_then(|text| text.parse().ok());
                options.limit = Some(percents.ok_or("--limit needs a number of percents")?);
            }
            name if WORKLOADS.contains(&name) => options.workloads.push(name.to_owned()),
            other => {
                return Err(format!(
                    "{other} is neither --save, --compare, --limit nor one of {}",
                    WORKLOADS.join(", ")
                ));
            }
        }
    }
    if options.limit.is_some() && options.compare.is_none() {
        return Err("--limit needs --compare".to_owned());
    }
    if options.workloads.is_empty() {
        options.workloads = WORKLOADS.map(str::to_owned).to_vec();
    }
    Ok(options)
}

fn find_valgrind() -> Result<(), String> {
    let version = Command::new("valgrind").arg("--version").output();
    version.map(|_| ()).map_err(|error| {
        format!("NOTHING WAS COUNTED: valgrind does not run ({error}). Install it (apt-get install valgrind) and run this again.")
    })
}

/// Builds `sss-sim` as releases are built; returns where it is.
fn build(root: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--release", "--package", "sss-sim", "--bin", "sss-sim"];
    let built = Command::new(cargo)
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo does not run: {e}"))?;
    if !built.status.success() {
        return Err("the simulator does not compile".to_owned());
    }
    let text = String::from_utf8_lossy(&built.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    executables.next_back().ok_or("cargo names no executable".to_owned())
}

fn count(simulator: &Path, workload: &str, folder: &Path) -> Result<Count, String> {
    let out = folder.join(format!("{workload}.callgrind"));
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(simulator)
        .args(["work", workload])
        .output()
        .map_err(|e| format!("valgrind does not run: {e}"))?;
    if !ran.status.success() {
        return Err(format!("{workload} failed: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    let profile = std::fs::read_to_string(&out).map_err(|e| format!("cannot read {}: {e}", out.display()))?;
    let count = read_profile(&profile);
    if count.all == 0 {
        return Err(format!("{} counts nothing", out.display()));
    }
    Ok(count)
}

/// Sums a profile in callgrind's format: of all, and of the lines that belong to the core's sources.
fn read_profile(profile: &str) -> Count {
    let mut names: BTreeMap<&str, bool> = BTreeMap::new();
    let mut count = Count { all: 0, core: 0 };
    let mut is_core = false;
    let mut is_call = false;
    for line in profile.lines() {
        let file = ["fl=", "fi=", "fe="].iter().find_map(|key| line.strip_prefix(key));
        if let Some(file) = file.or_else(|| line.strip_prefix("cfi=").or(line.strip_prefix("cfl="))) {
            // A file is named in full once, `(12) path`, and then by its number.
            let (number, path) = file.split_once(' ').unwrap_or((file, ""));
            if !path.is_empty() {
                names.insert(number, path.contains(CORE));
            }
            if !line.starts_with('c') {
                is_core = names.get(number).copied().unwrap_or_default();
            }
        } else if line.starts_with("calls=") {
            // What follows is what the called function took.
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let instructions = line.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
            if let (Some(instructions), false) = (instructions, is_call) {
                count.all += instructions;
                count.core += if is_core { instructions } else { 0 };
            }
            is_call = false;
        }
    }
    count
}

fn saved(counts: &Counts, compiler: &str) -> String {
    let mut text = format!("{COMPILER}{compiler}\n# workload, instructions, of these in sss-proto\n");
    for (name, Count { all, core }) in counts {
        let _ = writeln!(text, "{name} {all} {core}");
    }
    text
}

fn load(path: &Path) -> Result<Saved, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut saved = Saved::default();
    if let Some(compiler) = text.lines().find_map(|line| line.strip_prefix(COMPILER)) {
        compiler.clone_into(&mut saved.compiler);
    }
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, all, core] = fields.as_slice() else {
            return Err(format!("{}: cannot read {line:?}", path.display()));
        };
        let number = |text: &str| text.parse().map_err(|e| format!("{}: {text}: {e}", path.display()));
        let count = Count {
            all: number(all)?,
            core: number(core)?,
        };
        saved.counts.insert(name.to_owned(), count);
    }
    Ok(saved)
}

/// A table in Markdown, with what changed since `before`.
fn table(counts: &Counts, before: Option<&Counts>) -> String {
    let mut text = String::from("| workload | instructions, M | of these in sss-proto, M |");
    let mut rule = String::from("|---|---|---|");
    if before.is_some() {
        text.push_str(" all | sss-proto |");
        rule.push_str("---|---|");
    }
    let _ = writeln!(text, "\n{rule}");
    let named = WORKLOADS.iter().filter_map(|name| Some((*name, *counts.get(*name)?)));
    let mut rows: Vec<_> = named
        .map(|(name, now)| (name, now, before.and_then(|b| b.get(name)).copied()))
        .collect();
    let now = rows.iter().map(|(_, now, _)| *now).sum();
    let then = rows.iter().map(|(_, _, then)| *then).sum();
    rows.push(("sum", now, then));
    for (name, now, then) in rows {
        let _ = write!(text, "| {name} | {} | {} |", millions(now.all), millions(now.core));
        if before.is_some() {
            let change = |now, of: fn(Count) -> u64| then.map_or("-".to_owned(), |then| percent(now, of(then)));
            let _ = write!(
                text,
                " {} | {} |",
                change(now.all, |c| c.all),
                change(now.core, |c| c.core)
            );
        }
        text.push('\n');
    }
    text
}

fn millions(n: u64) -> String {
    format!("{:.2}", n as f64 / 1e6)
}

fn percent(now: u64, then: u64) -> String {
    format!("{:+.2} %", (now as f64 / then.max(1) as f64 - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir
summary: 37
fl=(1) /src/crates/sss-proto/src/host.rs
fn=(1) poll
10 5
+2 7
cfi=(2) /src/crates/sss-wire/src/reader.rs
cfn=(2) read
calls=3 20
* 20
fi=(3) /rustc/alloc/vec.rs
-1 2
fe=(1)
12 3
fl=(2)
fn=(2)
20 20
";

    #[test]
    fn a_profile_is_summed_by_where_lines_are_from_and_calls_do_not_count_twice() {
        assert_eq!(read_profile(PROFILE), Count { all: 37, core: 15 });
    }

    #[test]
    fn what_is_saved_is_read_again_and_compared() {
        let now = Counts::from([("rpc".to_owned(), Count { all: 99, core: 40 })]);
        let file = std::env::temp_dir().join(format!("xtask-instructions-{}", std::process::id()));
        std::fs::write(&file, "# compiler: rustc 1\n# one\nrpc 100 50\n").unwrap();
        let then = load(&file);
        std::fs::remove_file(&file).unwrap();
        let Saved { compiler, counts: then } = then.unwrap();
        assert_eq!(compiler, "rustc 1");
        let text = saved(&then, &compiler);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            matches!(lines[..], ["# compiler: rustc 1", _, "rpc 100 50"]),
            "{lines:?}"
        );
        let text = table(&now, Some(&then));
        assert!(text.contains("| rpc | 0.00 | 0.00 | -1.00 % | -20.00 % |"), "{text}");
        let first: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(first, [6; 4], "{text}");
        let other = Counts::from([("bulk".to_owned(), Count { all: 1, core: 1 })]);
        assert!(table(&now, Some(&other)).contains("| sum | 0.00 | 0.00 | - | - |"));
    }

    #[test]
    fn what_takes_more_than_the_limit_is_named() {
        let counts = |bulk, rpc| {
            let count = |core| Count { all: 1, core };
            Counts::from([("bulk".to_owned(), count(bulk)), ("rpc".to_owned(), count(rpc))])
        };
        let before = counts(1000, 1000);
        assert_eq!(check(&counts(900, 1030), &before, 3.0), Ok(()));
        let said = check(&counts(900, 1031), &before, 3.0).unwrap_err();
        assert!(said.contains("rpc +3.10 %") && !said.contains("bulk"), "{said}");
        assert_eq!(check(&counts(900, 1031), &Counts::new(), 3.0), Ok(()));
    }

    #[test]
    fn arguments_are_files_and_workloads() {
        let parse = |text: &str| parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap().workloads, WORKLOADS);
        let options = parse("--save a rpc --compare b").unwrap();
        assert_eq!((options.save, options.compare), (Some("a".into()), Some("b".into())));
        assert_eq!(options.workloads, ["rpc"]);
        assert_eq!(parse("--compare b --limit 2.5").unwrap().limit, Some(2.5));
        for wrong in ["--limit 3", "--compare b --limit", "--compare b --limit rpc"] {
            assert!(parse(wrong).is_err());
        }
        assert!(parse("--save").is_err());
        assert!(parse("calls").is_err());
    }
}
