//! `sss serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use sss::{Congestion, Eid, Host, ListenError};
use sss_files::{PROTOCOL, SERVICE};

use crate::commands::ping;
use crate::error::{Error, Exit};
use crate::identity;
use crate::interrupt;
use crate::listen::ListenArgs;
use crate::output::Output;
use crate::transfer::safe_path::Root;
use crate::transfer::server::FileService;

/// Serve a directory to other hosts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss serve ~/photos                             read only
  sss serve . --write                            others may put files
  sss serve . --allow sss1q... --allow sss1p...  only these hosts may connect

Prints `listening EID@IP:PORT` for each address at which it can be reached, and
runs until it is stopped. Also answers `sss ping` and `sss services`. Symbolic
links are served as links and never followed.")]
pub(crate) struct ServeArgs {
    /// The directory
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Let clients write below the directory
    #[arg(long)]
    pub(crate) write: bool,
    /// Let only this host connect (may be given several times)
    #[arg(long, value_name = "EID")]
    pub(crate) allow: Vec<Eid>,
    /// The file with this host's identity [default: as `sss id`]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Congestion control: cubic, or bbr for paths that lose packets by chance
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) congestion: Congestion,
}

/// Time that clients have to hear that the host is going.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until it is stopped.
pub(crate) async fn run(args: ServeArgs, output: Output) -> Result<(), Error> {
    let service = service(&args.dir, args.write)?;
    let identity = identity::load(args.identity.as_deref(), output)?;
    let builder = || {
        let builder = Host::builder()
            .identity(identity.clone())
            .congestion(args.congestion)
            .allow_own_eid(true);
        let allowed = args.allow.clone();
        if allowed.is_empty() {
            builder
        } else {
            builder.accept_filter(move |eid, _| allowed.contains(eid))
        }
    };
    let host = args.listen.host(builder).await?;
    start(&host, service)?;
    announce(&host, output);
    interrupt::requested().await;
    // Whoever does not hear it finds out by itself.
    let _ = host.close_within(FAREWELL).await;
    Ok(())
}

/// The service of a directory.
///
/// # Errors
/// If it is none, or cannot be opened.
pub(crate) fn service(dir: &Path, writable: bool) -> Result<FileService, Error> {
    let root = Root::open(dir).map_err(|error| Error::local(dir, "serve", &error))?;
    Ok(FileService {
        root: Arc::new(root),
        writable,
    })
}

/// Answers requests for files, and pings, in tasks of their own.
pub(crate) fn start(host: &Host, service: FileService) -> Result<(), Error> {
    let defect = |error: ListenError| Error::new(Exit::Failed, error.to_string(), "report this as a defect");
    let files = if service.writable {
        "Files, to be read and written"
    } else {
        "Files, to be read"
    };
    let files = host.service(SERVICE).describe(files);
    let files = files.protocol(PROTOCOL, "Lists and copies files and trees: sss ls, get, put");
    tokio::spawn(service.serve(files.listen().map_err(defect)?));
    let pings = host.service(ping::SERVICE).describe("Round trips");
    let pings = pings.protocol(ping::PROTOCOL, "Sends back what a substream says: sss ping");
    tokio::spawn(ping::serve(pings.listen().map_err(defect)?));
    Ok(())
}

/// Prints where the host can be reached.
pub(crate) fn announce(host: &Host, output: Output) {
    let eid = host.eid();
    for address in host.local_addrs() {
        let fact = json!({
            "event": "listening",
            "eid": eid.to_string(),
            "address": address.to_string(),
            "target": format!("{eid}@{address}"),
        });
        output.fact(format!("listening {eid}@{address}"), &fact);
    }
}
