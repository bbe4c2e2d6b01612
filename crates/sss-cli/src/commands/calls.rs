//! Calls of a host that serves: by them, its NAT lets in whoever calls it at the same time.

use std::time::Duration;

use serde_json::json;
use sss::{ConnectError, Eid, Host, ServicesError};

use crate::caller::place_of;
use crate::error::{Error, Exit};
use crate::output::Output;
use crate::place::{CHECK_NAME, Place};
use crate::target::Target;

/// Time for one call: a host that is called sends HELLO every other second, later each 10 s (NEG-15).
const CALL: Duration = Duration::from_secs(30);
/// Pause between two calls, and between two looks whether there is a channel.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// Hosts that are called, and where they may be.
pub(crate) struct Called(Vec<(Eid, Vec<Place>)>);

impl Called {
    /// Checks that the host itself is none of them.
    ///
    /// # Errors
    /// If it is.
    pub(crate) fn check(&self, own: &Eid) -> Result<(), Error> {
        match self.0.iter().any(|(eid, _)| eid == own) {
            false => Ok(()),
            true => {
                let next = "give the EID or the ticket of the other host; each has an identity of its own";
                Err(Error::new(Exit::Usage, "--call names this host itself", next))
            }
        }
    }
}

/// The hosts that targets mean.
///
/// # Errors
/// If it is not known who is at one, or where one is.
pub(crate) fn of_targets(targets: &[Target]) -> Result<Called, Error> {
    let each = targets.iter().map(|target| match target.eid {
        Some(_) if target.places.iter().any(Place::is_nobodys) => {
            let at = target.places.iter().filter(|place| place.is_nobodys()).map(Place::host);
            let what = format!("--call: no host is ever at {}", at.collect::<Vec<_>>().join(", "));
            let next = "give the address and the port where the host is seen from outside";
            Err(Error::new(Exit::Usage, what, next))
        }
        Some(eid) if !target.places.is_empty() => Ok((eid, target.places.clone())),
        _ => {
            let next = "give it as EID@HOST:PORT, or its ticket: `sss ticket --stun` there prints one";
            let what = "--call needs the EID of the host, and where it is seen from outside";
            Err(Error::new(Exit::Usage, what, next))
        }
    });
    each.collect::<Result<_, _>>().map(Called)
}

/// Calls each of them again and again, as long as the host is at work and it is not connected.
pub(crate) fn start(host: &Host, called: Called, output: Output) {
    for (eid, places) in called.0 {
        tokio::spawn(call(host.clone(), (eid, places), output));
    }
}

async fn call(host: Host, (eid, places): (Eid, Vec<Place>), output: Output) {
    let mut told: Option<String> = None;
    while !host.is_closed() {
        let connected = async {
            while host.peer(&eid).is_none() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let why = tokio::select! {
            // Whatever it answers, there is a channel then.
            answer = tokio::time::timeout(CALL, host.services_of(eid).hints(&places)) => answer.ok().and_then(unnamed),
            () = connected => None,
        };
        if let Some(why) = why.as_ref().filter(|why| told.as_ref() != Some(*why)) {
            let text = format!("cannot call {eid} yet, trying on: {why}\n  -> {CHECK_NAME}");
            output.prose_aside(&text, &json!({"event": "note", "text": text}));
        }
        told = why;
        if let Some(info) = host.peer(&eid).and_then(|peer| peer.info()) {
            let address = place_of(info.route);
            let fact = json!({"event": "called", "eid": eid.to_string(), "address": address});
            output.prose(format!("called {eid}: reached at {address}"), &fact);
        }
        while host.peer(&eid).is_some() {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reason why no name of a host leads anywhere, if that is why it was not called.
fn unnamed<T>(answer: Result<T, ServicesError>) -> Option<String> {
    match answer {
        Err(ServicesError::Connect(error @ ConnectError::Unresolved { .. })) => Some(error.to_string()),
        _ => None,
    }
}
