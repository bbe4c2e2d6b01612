//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum as _};

use crate::backend::{Backend, Program};
use crate::setup::Workload;
use crate::tree_shape::Shape;

const EXAMPLES: &str = "\
Examples:
  sss-bench compare                                   everything, about five minutes
  sss-bench compare --only bulk,rpc-100               two workloads, all backends
  sss-bench compare --only handshake --backends sss,quinn-aws-tuned --rounds 5
  sss-bench compare --json run.json --markdown --charts charts > run.md
  sss-bench prioritisation --csv p.csv --svg p.svg     17 seconds
  sudo sss-bench links --rounds 3                      an hour and a half
  sss-bench million                                    1,000,000 streams in each of three shapes
  sss-bench waits                                      1,000,000 waits of each kind that are given up

Client and server run as two processes over the loopback interface, those of `links` in namespaces; nothing leaves
this machine. Build with `--release`, and let nothing else run: on a busy machine the numbers are worth little.

Exit status: 0 if every measurement succeeded, 1 if one failed, 2 for a wrong command line.";

/// Measures libsss and its peers side by side.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line of a program.
    pub(crate) fn read<T: Into<OsString> + Clone>(
        program: &Program,
        line: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&command(program).try_get_matches_from(line)?)
    }
}

/// The command line with the backends of a program.
fn command(program: &Program) -> clap::Command {
    let values = program
        .backends
        .iter()
        .map(|backend| PossibleValue::new(backend.name).help(backend.about));
    let parser = PossibleValuesParser::new(values.collect::<Vec<_>>());
    Cli::command().name(program.name).mut_subcommand("compare", |compare| {
        compare.mut_arg("backends", |backends| backends.value_parser(parser))
    })
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run workloads over several backends in interleaved rounds; report medians and ratios.
    #[command(after_help = EXAMPLES)]
    Compare(Compare),
    /// Repeat the paper's experiment with priorities over an emulated link between real sockets.
    Prioritisation(Prioritisation),
    /// Send over emulated links, beside the kernel's TCP: rates, starts, queues, and shares of two. Needs root.
    #[cfg(target_os = "linux")]
    Links(Links),
    /// Open very many streams on one channel of libsss; measure their memory, what they cost others, and closing them.
    Million(Million),
    /// Wait for what never comes and give up, very often; measure time and memory of each wait.
    Waits(Waits),
    /// The server process of one measurement (started by `compare`).
    #[command(hide = true)]
    Serve,
    /// The client process of one measurement (started by `compare`).
    #[command(hide = true)]
    Client,
    /// The server process of `million`.
    #[command(hide = true)]
    Hold,
}

#[derive(Args)]
pub(crate) struct Compare {
    /// Workloads to run, separated by commas [default: all but bulk-100, rpc-8, rpc-32, rpc-1000,
    /// those of many peers and datagrams].
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD")]
    pub(crate) only: Vec<Workload>,

    /// Backends to run, separated by commas [default: all but sss-dedicated, sss-shards
    /// and sss-deep].
    #[arg(long, value_delimiter = ',', value_name = "BACKEND")]
    pub(crate) backends: Vec<String>,

    /// Rounds over all backends; the report shows medians. The memory workloads run in the first round only.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Length of each timed measurement, after its warm-up.
    #[arg(long, default_value_t = 1.5, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Length of the warm-up before each timed measurement.
    #[arg(long, default_value_t = 0.4, value_name = "S", value_parser = seconds)]
    pub(crate) warmup: f64,

    /// Connections that `idle-channels` opens.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) channels: u32,

    /// Streams that `idle-streams` opens (`idle-streams-100k` always opens 100,000).
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) streams: u32,

    /// Write machine, versions, all rounds and medians to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Print the tables as Markdown instead of plain text.
    #[arg(long)]
    pub(crate) markdown: bool,

    /// Write a chart for each group of workloads to the folder DIR, in SVG: each library beside the best peer of the
    /// same settings.
    #[arg(long, value_name = "DIR")]
    pub(crate) charts: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Prioritisation {
    /// Bits per second towards the client.
    #[arg(long, default_value_t = 1_500_000, value_name = "BITS", value_parser = clap::value_parser!(u64).range(100_000..=1_000_000_000))]
    pub(crate) rate: u64,

    /// Round-trip time of the empty link, in milliseconds.
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=2000))]
    pub(crate) rtt: u64,

    /// Bytes that wait in front of the link, at most.
    #[arg(long, default_value_t = 9_375, value_name = "BYTES")]
    pub(crate) queue: usize,

    /// Write the bytes of each response in bins of 100 ms to FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Write a chart to FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[cfg(target_os = "linux")]
#[derive(Args)]
pub(crate) struct Links {
    /// Rounds over all links and kinds; the tables show medians, and means of shares.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Length of a transfer that has a link alone, of which the first 5 s are not counted.
    #[arg(long, default_value_t = 20, value_name = "S", value_parser = clap::value_parser!(u32).range(6..=600))]
    pub(crate) seconds: u32,

    /// Length of two that share a link; the second begins up to 2 s after the first.
    #[arg(long, default_value_t = 60, value_name = "S", value_parser = clap::value_parser!(u32).range(10..=600))]
    pub(crate) shared_seconds: u32,

    /// Measure only what has all of this in its name, such as "TCP BBR" or "1 BDP: SSS cubic, TCP cubic".
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,

    /// Measurements at a time, each with a link of its own. More than one needs cores for it.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) at_once: u32,

    /// Write all rounds to FILE as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw the rates of the first round over time: alone.svg and shared.svg in DIR.
    #[arg(long, value_name = "DIR")]
    pub(crate) charts: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Million {
    /// Streams to open.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=8_000_000))]
    pub(crate) streams: u32,

    /// Places in the tree, separated by commas; each shape is measured with two new processes [default: all].
    #[arg(long, value_delimiter = ',', value_name = "SHAPE")]
    pub(crate) shape: Vec<Shape>,

    /// Length of each measurement of requests.
    #[arg(long, default_value_t = 1.5, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: f64,
}

#[derive(Args)]
pub(crate) struct Waits {
    /// Waits of each kind; of those for which a peer is looked for, a fiftieth.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=100_000_000))]
    pub(crate) waits: u32,
}

impl Compare {
    /// The workloads to be run.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        match &self.only[..] {
            [] => Workload::usual(),
            some => some.to_vec(),
        }
    }

    /// The backends to be run, out of all of a program.
    pub(crate) fn backends(&self, all: &[Backend]) -> Vec<Backend> {
        let chosen = |backend: &&Backend| match &self.backends[..] {
            [] => backend.usual,
            some => some.iter().any(|name| name == backend.name),
        };
        all.iter().filter(chosen).copied().collect()
    }
}

impl Million {
    /// The shapes to be measured.
    pub(crate) fn shapes(&self) -> Vec<Shape> {
        match &self.shape[..] {
            [] => Shape::value_variants().to_vec(),
            some => some.to_vec(),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.01..=600.0).contains(&value) => Ok(value),
        Ok(_) => Err("expected 0.01 to 600 seconds".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROGRAM;

    fn compare(arguments: &[&str]) -> Result<Compare, clap::Error> {
        let line = ["sss-bench", "compare"].iter().chain(arguments);
        match Cli::read(&PROGRAM, line)?.command {
            Command::Compare(options) => Ok(options),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command(&PROGRAM).debug_assert();
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let options = compare(&["--only", "bulk,rpc-100", "--backends", "yamux,sss"]).expect("accepted");
        assert_eq!(options.only, [Workload::Bulk, Workload::Rpc100]);
        let backends = options.backends(PROGRAM.backends);
        let names: Vec<&str> = backends.iter().map(|backend| backend.name).collect();
        assert_eq!(names, ["sss", "yamux"]);
        assert_eq!((options.rounds, options.streams), (3, 20_000));
    }

    #[test]
    fn only_backends_of_the_program_are_known() {
        let error = compare(&["--backends", "sctp"]).err().expect("refused").to_string();
        assert!(error.contains("quinn-aws-tuned"), "{error}");
        let usual = compare(&[]).expect("accepted").backends(PROGRAM.backends);
        assert!(usual.iter().all(|backend| backend.usual) && usual.len() > 4);
    }

    #[test]
    fn absurd_lengths_are_refused() {
        for text in ["0", "-1", "NaN", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds("2.5"), Ok(2.5));
    }
}
