//! Diagnosis of registration servers that have not taken this host: who is there in their place, if anybody is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sss::{
    CloseReason, Eid, Host, NegotiationError, Registration, RegistrationError, RegistrationState, RouteClass, Seen,
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Error, Exit, SERVER_ADVICE, was_answered};
use crate::server_at::ServerAt;

/// Time for which a server is asked who it is, and before that is asked for the first time.
pub(crate) const ASKING: Duration = Duration::from_secs(1);
/// Pause between two looks: who is there may have just come.
const PAUSE: Duration = Duration::from_secs(2);

/// Advises what to do if another host is where a server was thought to be.
const OTHER_ADVICE: &str = "the key of the host there is another one than that which is named: ask who runs the server \
                            for the line that `sss rendezvous` prints, and correct --server, SSS_SERVER or the file \
                            `servers`; with a new identity it has a new EID";

/// Something that is wrong with servers.
#[derive(Clone, Debug)]
pub(crate) struct Diagnosis {
    /// A sentence.
    pub(crate) what: String,
    findings: Vec<Finding>,
}

/// Something that was found where a server was thought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// Another host at each address.
    Other,
    /// Another host at some addresses, and nobody at others.
    OtherSomewhere,
    /// The server, or nobody.
    NoOther,
}

impl Diagnosis {
    /// Advice on what to do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self.findings.iter().all(|finding| *finding == Finding::NoOther) {
            true => SERVER_ADVICE,
            false => OTHER_ADVICE,
        }
    }

    /// The error of a command that needs one of the servers.
    pub(crate) fn error(&self) -> Error {
        let what = format!("no registration server has answered: {}", self.what);
        Error::new(Exit::Unreachable, what, self.advice())
    }

    /// Returns whether other hosts are where all servers were thought to be: none of them will ever answer.
    fn is_final(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(|finding| *finding == Finding::Other)
    }
}

/// Says what is wrong with servers that do not answer: asks them who they are.
pub(crate) async fn of_all(host: &Host, servers: &[ServerAt], asking: Duration) -> Diagnosis {
    let asked: Vec<_> = servers
        .iter()
        .map(|server| tokio::spawn(of_one(host.clone(), server.clone(), asking)))
        .collect();
    let (mut said, mut findings) = (Vec::new(), Vec::new());
    for answer in asked {
        if let Ok((what, finding)) = answer.await {
            said.push(what);
            findings.push(finding);
        }
    }
    Diagnosis {
        what: said.join("; "),
        findings,
    }
}

/// As [`of_all`], of one server, for as long as there is no hurry.
pub(crate) async fn of(host: &Host, server: &ServerAt) -> Diagnosis {
    of_all(host, std::slice::from_ref(server), ASKING).await
}

async fn of_one(host: Host, server: ServerAt, asking: Duration) -> (String, Finding) {
    let ServerAt { eid, place, tls } = server;
    let addresses = match timeout(asking, place.resolve()).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            return (place.unresolved(&error.to_string()).0, Finding::NoOther);
        }
        Err(_) => {
            return (place.unresolved("the resolver does not answer").0, Finding::NoOther);
        }
    };
    // Who has answered HELLO has the key: an answer to PROBE would show the EID to whoever watches (NEG-27).
    if host.explain(&eid).attempt.is_some_and(|attempt| was_answered(&attempt)) {
        let what = format!("the host at {place} is there, but does not register this one");
        return (what, Finding::NoOther);
    }
    let probes: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let host = host.clone();
            tokio::spawn(async move { host.probe(address, asking).await })
        })
        .collect();
    let (mut other, mut finding) = (None, Finding::Other);
    for probe in probes {
        match probe.await {
            Ok(Ok(found)) if found == eid => {
                let what = format!("the host at {place} is there, but does not register this one");
                return (what, Finding::NoOther);
            }
            Ok(Ok(found)) => other = Some(found),
            _ => finding = Finding::OtherSomewhere,
        }
    }
    if let Some(found) = other {
        return (format!("the host at {place} is {found}, not {eid}"), finding);
    }
    let registrations = host.registrations();
    let one = registrations.into_iter().find(|one| one.server == eid);
    let Some((port, one)) = tls.zip(one) else {
        return (format!("nobody answers at {place}"), Finding::NoOther);
    };
    if let Some(found) = found_by_tls(&host, &one) {
        let what = format!("the host at {place}, reached by TLS at port {port}, is {found}, not {eid}");
        return (what, Finding::OtherSomewhere);
    }
    let what = match one.no_tunnel {
        Some(why) => format!("nobody answers at {place} by UDP; by TLS, at port {port}, {why}"),
        None => format!("nobody answers at {place}"),
    };
    (what, Finding::NoOther)
}

/// The host that has answered at the end of a tunnel in place of a server, as it says: to the latest attempt to
/// register, or to the one that is under way.
fn found_by_tls(host: &Host, registration: &Registration) -> Option<Eid> {
    let failure = match &registration.state {
        RegistrationState::Failed(RegistrationError::Lost(CloseReason::Negotiation(error))) => Some(error.clone()),
        _ => host.explain(&registration.server).attempt,
    };
    let Some(NegotiationError::NoAnswer { addresses, .. }) = failure else {
        return None;
    };
    let mut by_tls = addresses
        .iter()
        .filter(|tried| tried.route.class() == RouteClass::Tunnel);
    by_tls.find_map(|tried| match tried.seen {
        Seen::OtherHost(found) => Some(found),
        _ => None,
    })
}

/// A watch over servers, for as long as something is awaited from them: so that it is known in time what is wrong.
pub(crate) struct Watch<'a> {
    host: &'a Host,
    servers: &'a [ServerAt],
    /// Time for the first look, and for asking.
    asking: Duration,
    latest: Mutex<Option<Diagnosis>>,
}

impl<'a> Watch<'a> {
    /// Over servers from which an answer is awaited for a time.
    pub(crate) fn new(host: &'a Host, servers: &'a [ServerAt], awaited: Duration) -> Self {
        Self {
            host,
            servers,
            // Both fit into it.
            asking: ASKING.min(awaited / 3),
            latest: Mutex::new(None),
        }
    }

    /// Watches, and ends only if other hosts are where all servers were thought to be, and none has taken this host.
    pub(crate) async fn others(&self) -> Diagnosis {
        let mut at = Instant::now() + self.asking;
        loop {
            sleep_until(at).await;
            at += PAUSE;
            if self.is_taken() || self.servers.is_empty() {
                continue;
            }
            let diagnosis = of_all(self.host, self.servers, self.asking).await;
            let is_final = diagnosis.is_final() && !self.is_taken();
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(diagnosis.clone());
            if is_final {
                return diagnosis;
            }
        }
    }

    /// The latest diagnosis; if there was none, the servers are asked now.
    pub(crate) async fn result(&self) -> Diagnosis {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match latest {
            Some(diagnosis) => diagnosis,
            None => of_all(self.host, self.servers, self.asking).await,
        }
    }

    fn is_taken(&self) -> bool {
        let registrations = self.host.registrations();
        let is_taken = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
        registrations.iter().any(|one| is_taken(&one.state))
    }
}
