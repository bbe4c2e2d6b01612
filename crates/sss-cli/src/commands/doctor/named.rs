//! The host that is to be examined: what was given for it, and what the DNS says.

use serde_json::{Value, json};
use sss::Eid;

use crate::cli::{ConnectArgs, note_path};
use crate::dns;
use crate::error::{Error, Exit};
use crate::given_ticket;
use crate::interrupt;
use crate::output::Output;
use crate::target::Target;

/// Host that is to be reached, as far as it is known.
#[derive(Default)]
pub(super) struct Named {
    /// `None`: none is to be reached, or the DNS does not say which.
    pub(super) target: Option<Target>,
    /// Set if it is named in the DNS.
    pub(super) in_dns: Option<InDns>,
}

/// Answer of the DNS about a name.
pub(super) struct InDns {
    name: String,
    answer: Result<Option<Eid>, Error>,
}

/// Completes what was given. That the DNS says nothing, or nonsense, is a finding, which keeps nothing else from being
/// examined: half of the time is left for that.
///
/// # Errors
/// If what was given cannot be used, or the command was interrupted.
pub(super) async fn look_up(target: Option<Target>, args: &ConnectArgs, output: Output) -> Result<Named, Error> {
    let Some(target) = target else {
        return match &args.ticket {
            None => Ok(Named::default()),
            Some(_) => {
                let next = "write @ for its host, or leave --ticket out";
                Err(Error::new(Exit::Usage, "--ticket is given, and no host", next))
            }
        };
    };
    let target = given_ticket::completed(&target, args.ticket.as_deref()).await?;
    note_path(&target, output);
    let target = args.servers.confined(target)?;
    let name = target.name.clone();
    let found = interrupt::or(dns::resolved(target, args.dns, args.timeout / 2)).await;
    let found = match (found, name) {
        (found, None) => (found?, None),
        (Ok(target), Some(name)) => {
            let answer = Ok(target.eid);
            (target, Some(InDns { name, answer }))
        }
        (Err(error), Some(_)) if matches!(error.exit, Exit::Usage | Exit::Interrupted) => return Err(error),
        (Err(error), Some(name)) => {
            let answer = Err(error);
            let in_dns = Some(InDns { name, answer });
            return Ok(Named { target: None, in_dns });
        }
    };
    let (target, in_dns) = found;
    Ok(Named {
        target: Some(args.servers.without_places(target)?),
        in_dns,
    })
}

impl InDns {
    /// The error of a command that needs the answer.
    pub(super) fn error(&self) -> Option<Error> {
        self.answer.as_ref().err().cloned()
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match &self.answer {
            Ok(Some(eid)) => format!("{} is {eid}", self.name),
            Ok(None) => format!("{} is there", self.name),
            Err(error) => error.what().to_owned(),
        }
    }

    /// For machines.
    pub(super) fn fact(&self) -> Value {
        json!({
            "name": self.name,
            "eid": self.answer.as_ref().ok().and_then(|eid| eid.map(|eid| eid.to_string())),
            "error": self.answer.as_ref().err().map(Error::what),
        })
    }
}
