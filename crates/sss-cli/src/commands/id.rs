//! `sss id`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::error::Error;
use crate::identity;
use crate::output::Output;

/// Show the identity of this host; that of this user is made when it is first needed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sss id                       the EID of this user on this machine
  sss id --new --file box.key  a new identity in a file of its own; it is used
                               with --identity box.key
The file holds the private key; only its owner can read it (mode 0600).")]
pub(crate) struct IdArgs {
    /// Create a new identity; refused if there is one already, unless --force is given
    #[arg(long)]
    pub(crate) new: bool,
    /// The file that holds it [default: `identity` in the user's configuration directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// With --new: replace the identity there is. Peers will take this host for another one
    #[arg(long, requires = "new")]
    pub(crate) force: bool,
}

/// Shows the identity; creates or replaces it before, if asked to or if there is none.
pub(crate) fn run(args: &IdArgs, output: Output) -> Result<(), Error> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => identity::default_file()?,
    };
    let identity = match (args.new, args.force) {
        (true, true) => identity::replace(&file)?,
        (true, false) => identity::create(&file)?,
        (false, _) => identity::load(args.file.as_deref(), output)?,
    };
    let eid = identity.eid().to_string();
    output.fact(
        &eid,
        &json!({"event": "identity", "eid": eid, "file": file.display().to_string()}),
    );
    Ok(())
}
