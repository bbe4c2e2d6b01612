//! `sss-sim`: plays random scenarios in a deterministic world, and measures goodput over a simulated bottleneck.

use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use sss_proto::{Congestion, PostQuantum};
use sss_sim::bulk::{self, BulkConfig};
use sss_sim::congestion::{links, tables};
use sss_sim::delivery;
use sss_sim::prioritisation::{self, Setup, chart};
use sss_sim::work::{self, Workload};
use sss_sim::{Profile, fresh, handshakes, refusals, scenario, units};

const EXAMPLES: &str = "\
Examples:
  sss-sim run --seeds 300                      300 random scenarios, seeds 0 to 299
  sss-sim run --from 1234 --seeds 1 --transcript    one seed again, with everything that happened
  sss-sim run --seeds 50 --scenario harsh --json    only bad links, one JSON object a seed
  sss-sim run --seeds 3000 --hash-datagrams > before    what is sent, and when, to compare with another version
  sss-sim bulk --rate 20M --rtt 50ms --queue 125000 --loss 1%    goodput over a bottleneck
  sss-sim congestion                           how congestion controls use, share and follow a bottleneck
  sss-sim fresh                                how long the content of a fresh stream takes
  sss-sim datagrams --loss 1% --size 16384 --json    which datagrams arrive before their deadline
  sss-sim prioritisation --csv out.csv --svg out.svg    responses that share a link while their priorities change
  sss-sim refusals --runs 1000                 how soon a host that is refused hears why
  sss-sim handshakes --loss 20% --pq off       what a new channel costs: time, and a processor's time

Exit status: 0 if all went well; 1 if a seed failed; 2 if the arguments are wrong.";

/// Plays Structured Secure Streams in a simulated world: virtual time, virtual links, one seed.
#[derive(Parser)]
#[command(name = "sss-sim", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays random scenarios against the reference model.
    Run(RunArgs),
    /// Measures goodput, round-trip time and utilisation of one bulk transfer.
    Bulk(BulkArgs),
    /// Measures how congestion controls use a bottleneck, share it, and follow what it does.
    Congestion(CongestionArgs),
    /// Measures how senders begin, share a link, and follow it when it becomes longer.
    Links(LinksArgs),
    /// Measures how long the content of a fresh stream takes on a channel that has been in use.
    Fresh(FreshArgs),
    /// Measures which datagrams arrive before their deadline, by loss and size.
    Datagrams(DatagramsArgs),
    /// Plays two responses that share a narrow link, a third of high priority, and a change of mind.
    Prioritisation(PrioritisationArgs),
    /// Measures how soon a host that is refused hears why.
    Refusals(RefusalsArgs),
    /// Measures what a new channel costs: time to the first byte of an answer, and the processor's time of both hosts.
    Handshakes(HandshakesArgs),
    /// Does a fixed piece of work, of which `cargo run -p xtask -- instructions` counts the instructions.
    Work(WorkArgs),
}

#[derive(Args)]
struct WorkArgs {
    /// Which: bulk, rpc, tree, datagram, migration; all of them if none is named.
    workloads: Vec<Workload>,
}

#[derive(Args)]
struct RefusalsArgs {
    /// Attempts for each row.
    #[arg(long, default_value_t = 500)]
    runs: u64,
    /// Probabilities of loss, in each direction.
    #[arg(long, default_values = ["0", "20%"], value_parser = units::probability)]
    loss: Vec<f64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct HandshakesArgs {
    /// Attempts for each row; for the processor's time, the handshakes of each of five rounds.
    #[arg(long, default_value_t = 1000)]
    runs: u32,
    /// Probabilities of loss, in each direction.
    #[arg(long, default_values = ["0", "20%"], value_parser = units::probability)]
    loss: Vec<f64>,
    /// Policies of both hosts: required, preferred, off.
    #[arg(long, default_values = ["off", "required"])]
    pq: Vec<PostQuantum>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct RunArgs {
    /// Number of seeds to play.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plays only this kind: mixed, transfer, tree, abort, churn, refused, simultaneous, harsh, rebind.
    #[arg(long)]
    scenario: Option<Profile>,
    /// Plays each seed twice and compares the transcripts.
    #[arg(long)]
    twice: bool,
    /// One JSON object a seed on standard output.
    #[arg(long)]
    json: bool,
    /// One line a seed.
    #[arg(short, long)]
    verbose: bool,
    /// Prints the full transcript of each seed.
    #[arg(long)]
    transcript: bool,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Prints the hash of each seed's datagrams, with their times, and one of all: the same before and after a change
    /// that leaves the wire as it is.
    #[arg(long, conflicts_with_all = ["json", "transcript"])]
    hash_datagrams: bool,
}

#[derive(Args)]
struct BulkArgs {
    /// Rate of the bottleneck, in bits per second.
    #[arg(long, default_value = "20M", value_parser = units::rate)]
    rate: u64,
    /// Round-trip time of the empty path.
    #[arg(long, default_value = "50ms", value_parser = units::duration)]
    rtt: Duration,
    /// Queue at the bottleneck, in bytes.
    #[arg(long, default_value = "125000", value_parser = units::bytes)]
    queue: u64,
    /// Probability of loss.
    #[arg(long, default_value = "0", value_parser = units::probability)]
    loss: f64,
    /// Probability of being overtaken.
    #[arg(long, default_value = "0", value_parser = units::probability)]
    reorder: f64,
    /// Jitter in each direction.
    #[arg(long, default_value = "0us", value_parser = units::duration)]
    jitter: Duration,
    /// Largest datagram, in bytes.
    #[arg(long, default_value_t = 1472)]
    mtu: usize,
    /// Congestion control, by its name.
    #[arg(long, default_value_t)]
    congestion: Congestion,
    /// Virtual time.
    #[arg(long, default_value = "20s", value_parser = units::duration)]
    time: Duration,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CongestionArgs {
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct LinksArgs {
    /// Which tables: starts, pieces, longer, crowds, late; all of them if none is named.
    tables: Vec<links::Table>,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct FreshArgs {
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct DatagramsArgs {
    /// Rate of the link, in bits per second.
    #[arg(long, default_value = "100M", value_parser = units::rate)]
    rate: u64,
    /// Round-trip time of the empty path.
    #[arg(long, default_value = "50ms", value_parser = units::duration)]
    rtt: Duration,
    /// Time for which each datagram is of use.
    #[arg(long, default_value = "500ms", value_parser = units::duration)]
    deadline: Duration,
    /// Probabilities of loss.
    #[arg(long, default_values = ["0", "1%", "5%", "20%"], value_parser = units::probability)]
    loss: Vec<f64>,
    /// Sizes, in bytes.
    #[arg(long, default_values_t = [16, 1024, 16_384, 131_072, 1_048_576])]
    size: Vec<usize>,
    /// Congestion control, by its name.
    #[arg(long, default_values_t = Congestion::ALL)]
    congestion: Vec<Congestion>,
    /// Time from one datagram to the next. Default: it depends on the size.
    #[arg(long, value_parser = units::duration)]
    interval: Option<Duration>,
    /// Number of datagrams. Default: it depends on the size.
    #[arg(long)]
    count: Option<u32>,
    /// Lets another stream fill the link and its queue at the same time.
    #[arg(long)]
    bulk: bool,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object for each loss and size.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PrioritisationArgs {
    /// Rate of the bottleneck, in bits per second.
    #[arg(long, default_value = "1.5M", value_parser = units::rate)]
    rate: u64,
    /// Round-trip time of the empty path.
    #[arg(long, default_value = "50ms", value_parser = units::duration)]
    rtt: Duration,
    /// Queue at the bottleneck, in bytes.
    #[arg(long, default_value = "9375", value_parser = units::bytes)]
    queue: u64,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File for the bytes of each response in each 100 ms, as comma-separated values.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// File for a picture of the same.
    #[arg(long)]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Bulk(args) => run_bulk(&args),
        Command::Congestion(args) => exit(tables::all(args.seed).map(|text| print!("{text}"))),
        Command::Links(args) => exit(links::print(&args.tables, args.seed)),
        Command::Fresh(args) => exit(fresh::table(args.seed).map(|text| print!("{text}"))),
        Command::Datagrams(args) => exit(run_datagrams(&args)),
        Command::Prioritisation(args) => exit(run_prioritisation(&args)),
        Command::Refusals(args) => exit(run_refusals(&args)),
        Command::Handshakes(args) => exit(run_handshakes(&args)),
        Command::Work(args) => exit(run_work(&args)),
    }
}

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> ExitCode {
    let start = Instant::now();
    let mut failures = 0u64;
    let mut bytes = 0;
    let mut simulated = Duration::ZERO;
    let mut datagrams = DefaultHasher::new();
    for (count, seed) in (args.from..args.from.saturating_add(args.seeds)).enumerate() {
        match play(seed, args) {
            Ok(report) => {
                bytes += report.bytes;
                simulated += report.elapsed;
                datagrams.write_u64(report.datagram_hash);
                print_report(&report, args);
            }
            Err(failure) => {
                failures += 1;
                print_failure(&failure, args);
                if !args.keep_going {
                    return ExitCode::FAILURE;
                }
            }
        }
        if (count + 1) % 50 == 0 && !args.json {
            eprintln!(
                "{} of {} seeds, {failures} failed, {:.1?}",
                count + 1,
                args.seeds,
                start.elapsed()
            );
        }
    }
    if args.hash_datagrams {
        println!("{} seeds, {failures} failed: {:016x}", args.seeds, datagrams.finish());
    } else if !args.json {
        let took = start.elapsed();
        println!(
            "{} seeds, {failures} failed, {bytes} bytes delivered, {simulated:.0?} simulated in {took:.1?}",
            args.seeds
        );
    }
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(seed: u64, args: &RunArgs) -> Result<scenario::Report, scenario::Failure> {
    let (result, transcript) = scenario::run(seed, args.scenario, args.transcript);
    if args.transcript {
        print!("{}", transcript.text());
    }
    let report = result?;
    if args.twice {
        let (again, _) = scenario::run(seed, args.scenario, false);
        let hash = again.map(|r| r.hash).unwrap_or_default();
        if hash != report.hash {
            return Err(scenario::Failure {
                seed,
                profile: report.profile,
                at: report.elapsed,
                what: "a second run differs: something is not deterministic".to_owned(),
            });
        }
    }
    Ok(report)
}

fn print_report(report: &scenario::Report, args: &RunArgs) {
    let scenario::Report {
        seed,
        profile,
        hosts,
        tally,
        bytes,
        records,
        datagrams,
        elapsed,
        entries,
        hash,
        datagram_hash,
    } = report;
    let seconds = elapsed.as_secs_f64();
    if args.json {
        println!(
            "{{\"seed\":{seed},\"ok\":true,\"scenario\":\"{profile}\",\"hosts\":{hosts},\"opened\":{},\"accepted\":{},\
             \"resets\":{},\"tree_resets\":{},\"answers\":{},\"childless\":{},\"stops\":{},\"drops\":{},\"closes\":{},\"rebinds\":{},\"bytes\":{bytes},\"records\":{records},\
             \"datagrams\":{datagrams},\"seconds\":{seconds:.6},\"entries\":{entries},\"hash\":\"{hash:016x}\"}}",
            tally.opened,
            tally.accepted,
            tally.resets,
            tally.tree_resets,
            tally.answers,
            tally.childless,
            tally.stops,
            tally.drops,
            tally.closes,
            tally.rebinds
        );
    } else if args.hash_datagrams {
        println!("{seed} {datagram_hash:016x}");
    } else if args.verbose {
        println!(
            "seed {seed:>6} {profile:<12} {hosts} hosts {bytes:>8} bytes {records:>5} records {datagrams:>4} datagrams {seconds:>8.3} s {hash:016x} {tally:?}"
        );
    }
}

fn print_failure(failure: &scenario::Failure, args: &RunArgs) {
    eprintln!("FAILED {failure}");
    if args.hash_datagrams {
        println!("{} failed", failure.seed);
    } else if args.json {
        let what = json_escape(&failure.what);
        let (seed, profile) = (failure.seed, failure.profile);
        println!("{{\"seed\":{seed},\"ok\":false,\"scenario\":\"{profile}\",\"what\":\"{what}\"}}");
    }
}

fn json_escape(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn run_datagrams(args: &DatagramsArgs) -> Result<(), String> {
    if !args.json {
        println!("{}", delivery::TABLE);
    }
    for congestion in &args.congestion {
        for loss in &args.loss {
            for size in &args.size {
                let standard = delivery::Setup::standard(args.seed, *loss, *size);
                let setup = delivery::Setup {
                    rate: args.rate,
                    rtt: args.rtt,
                    deadline: args.deadline,
                    interval: args.interval.unwrap_or(standard.interval),
                    count: args.count.unwrap_or(standard.count),
                    bulk: args.bulk,
                    congestion: *congestion,
                    ..standard
                };
                let report = delivery::run(&setup)?;
                if args.json {
                    println!("{}", report.json());
                } else {
                    println!("{report}");
                }
            }
        }
    }
    Ok(())
}

fn run_bulk(args: &BulkArgs) -> ExitCode {
    let config = BulkConfig {
        seed: args.seed,
        rate: args.rate,
        rtt: args.rtt,
        queue: usize::try_from(args.queue).unwrap_or(usize::MAX),
        loss: args.loss,
        reorder: args.reorder,
        jitter: args.jitter,
        mtu: args.mtu,
        congestion: args.congestion,
        time: args.time,
    };
    match bulk::run(&config) {
        Err(what) => {
            eprintln!("the transfer failed: {what}");
            ExitCode::FAILURE
        }
        Ok(report) if args.json => {
            let srtt = report.channel.as_ref().map_or(0.0, |c| c.rtt.as_secs_f64());
            let lost = report.channel.as_ref().map_or(0, |c| c.packets_lost);
            let sent = report.channel.as_ref().map_or(0, |c| c.packets_sent);
            println!(
                "{{\"bytes\":{},\"goodput\":{:.0},\"steady_goodput\":{:.0},\"utilisation\":{:.4},\"srtt\":{srtt:.6},\
                 \"packets_sent\":{sent},\"packets_lost\":{lost}}}",
                report.bytes, report.goodput, report.steady_goodput, report.utilisation
            );
            ExitCode::SUCCESS
        }
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
    }
}

fn run_refusals(args: &RefusalsArgs) -> Result<(), String> {
    println!("{}", refusals::TABLE);
    for loss in &args.loss {
        for way in refusals::Way::ALL {
            println!("{}", refusals::measure(way, *loss, args.runs, args.seed)?);
        }
    }
    Ok(())
}

fn run_handshakes(args: &HandshakesArgs) -> Result<(), String> {
    println!("{}", handshakes::TABLE);
    for loss in &args.loss {
        for policy in &args.pq {
            let row = handshakes::measure(*policy, *loss, u64::from(args.runs), args.seed)?;
            println!("{row}");
        }
    }
    println!("\n| post-quantum | us, host that connects | us, host that accepts |\n|---|---|---|");
    // In turn, so that what else the machine does meets all of them.
    let rounds: Vec<Vec<_>> = (0..5)
        .map(|_| {
            args.pq
                .iter()
                .map(|policy| handshakes::cost(*policy, args.runs))
                .collect()
        })
        .collect();
    for (n, policy) in args.pq.iter().enumerate() {
        let best = |of: fn(&(Duration, Duration)) -> Duration| {
            let times = rounds.iter().filter_map(|round| round.get(n)).map(of);
            times.min().unwrap_or_default().as_secs_f64() * 1e6
        };
        println!("| {policy} | {:.1} | {:.1} |", best(|cost| cost.0), best(|cost| cost.1));
    }
    Ok(())
}

fn run_work(args: &WorkArgs) -> Result<(), String> {
    let named = !args.workloads.is_empty();
    let workloads = if named { &args.workloads[..] } else { &Workload::ALL };
    for workload in workloads {
        println!("{}", work::run(*workload)?);
    }
    Ok(())
}

fn run_prioritisation(args: &PrioritisationArgs) -> Result<(), String> {
    let setup = Setup {
        seed: args.seed,
        rate: args.rate,
        rtt: args.rtt,
        queue: usize::try_from(args.queue).unwrap_or(usize::MAX),
        ..Setup::default()
    };
    let report = prioritisation::run(&setup).map_err(|what| format!("the experiment failed: {what}"))?;
    println!("{report}");
    let csv = args.csv.as_ref().map(|path| (path, report.csv()));
    let svg = args.svg.as_ref().map(|path| (path, chart::svg(&report, setup.rate)));
    for (path, text) in csv.into_iter().chain(svg) {
        std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(())
}
