//! `sss-attack`: attacks a host of SSS on this machine, one way after the other.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sss_attack::{AttackError, Command, Report};

const HELP: &str = "\
Try your own server, in two terminals:
  sss serve --public --bind 127.0.0.1:0 DIRECTORY        prints EID@127.0.0.1:PORT
  sss-attack hellos EID@127.0.0.1:PORT                   floods it for 5 seconds
  sss-attack --seconds 30 unread EID@127.0.0.1:PORT --path big.iso
Meanwhile `sss get` of another file should go on, and the memory of the server stay where it is.

And your own client:
  sss-attack serve trees                                 prints EID@127.0.0.1:PORT, and does evil to whoever connects
  sss-attack between EID@127.0.0.1:PORT                  prints another address of your server: forgeries come from there
It should end with an error, or at ^C, or get its file from the honest server.

Only addresses of this machine are attacked, and 198.18.0.0/15 (networks for tests): nothing leaves for others.

Exit status: 0 when the attack is over, 1 if it could not be tried (nobody with this EID answers at the target within
3 s), 2 for a wrong command line. What the server made of it is to be seen there.";

/// Attacks your own server, to see what it holds.
#[derive(Parser)]
#[command(name = "sss-attack", version, after_help = HELP)]
struct Cli {
    /// Seconds for which the attack goes on.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Tell what was done as one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match attack(&cli) {
        Ok(report) if cli.json => println!("{}", report.json()),
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("sss-attack: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn attack(cli: &Cli) -> Result<Report, AttackError> {
    let attack = cli.command.prepare()?;
    if let Some(target) = attack.listening()? {
        println!("listening {target}");
    }
    attack.run(Duration::from_secs(cli.seconds))
}
