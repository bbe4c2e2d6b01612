//! `sss id`.

use serde_json::json;

use crate::cli::IdArgs;
use crate::error::Error;
use crate::identity;
use crate::output::Output;

/// Shows the identity; creates or replaces it before, if asked to or if there is none.
pub(crate) fn run(args: &IdArgs, output: Output) -> Result<(), Error> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => identity::default_file()?,
    };
    let identity = match (args.new, args.force) {
        (true, true) => identity::replace(&file)?,
        (true, false) => identity::create(&file)?,
        (false, _) => identity::load_or_create(Some(&file))?,
    };
    let eid = identity.eid().to_string();
    output.fact(
        &eid,
        &json!({"event": "identity", "eid": eid, "file": file.display().to_string()}),
    );
    Ok(())
}
