//! How soon hosts behind NATs reach each other, and what they suffer when they move: by `libsss` and by iroh, each with
//! its own relay, in the same lab (docs/experiments/iroh.md).
//!
//! `cargo run --release --manifest-path bench-peers/Cargo.toml --features lab --bin reach -- results.jsonl 10`, as
//! root: so many runs of each case for each system, alternately. The file has a line for each run, and those that are
//! there are not made again. With `only=moves` it is what has that in its name. `reach node ..` is a host or a server
//! of a run.

#[cfg(target_os = "linux")]
mod iroh;
#[cfg(target_os = "linux")]
mod lab;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod results;
#[cfg(target_os = "linux")]
mod sss;

#[cfg(target_os = "linux")]
fn main() -> sss_bench::Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node", system, role @ ..] => node::run(system, role),
        [file, settings @ ..] => lab::run(file, settings),
        [] => Err("the file for the results, the number of runs, only=NAME".into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("labs are made of Linux's network namespaces");
}
