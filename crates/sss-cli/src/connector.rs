//! From a target to a stream: who is there, whether we trust it, and what to say if that fails.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sss::{
    Congestion, ConnectError, Eid, Host, Identity, LinkStatus, LinkWatch, ProbeError, ReadError, Refusal, ServiceList,
    ServicesError, Stream,
};
use tokio::task::JoinSet;

use crate::cli::ConnectArgs;
use crate::error::{Error, Exit};
use crate::identity;
use crate::known_hosts::KnownHosts;
use crate::output::Output;
use crate::place::Place;
use crate::target::Target;
use crate::transfer::io_pool;

/// Time to wait for a peer before asking who is at its address.
const PATIENCE: Duration = Duration::from_secs(1);
/// Part of the time that is left for reaching the peer in which whoever is asked for its name may answer.
const ASKING: f64 = 0.75;
/// Time for which a peer may be silent before that is told.
const GRACE: Duration = Duration::from_secs(2);
/// Time to wait at the end until the peer has heard all.
const FAREWELL: Duration = Duration::from_secs(2);

/// Reaches hosts for one command.
pub(crate) struct Connector {
    host: Host,
    known: KnownHosts,
    trust: bool,
    timeout: Duration,
    output: Output,
}

/// A stream to a service of the peer, and what it runs on.
pub(crate) struct Connection {
    pub(crate) host: Host,
    pub(crate) stream: Stream,
    pub(crate) eid: Eid,
    /// Address at which it was reached, for people.
    pub(crate) address: String,
}

/// The host that a target means.
struct Identified {
    eid: Eid,
    /// Address at which it is to be remembered, if it was not known.
    news_of: Option<SocketAddr>,
}

/// Services that a host said it offers, and the host that asked.
pub(crate) struct Offered {
    pub(crate) host: Host,
    pub(crate) eid: Eid,
    pub(crate) list: ServiceList,
}

impl Connector {
    /// With the identity and the trust that the command line names.
    ///
    /// # Errors
    /// If there is no identity and none can be made, or no socket.
    pub(crate) async fn new(args: ConnectArgs, output: Output) -> Result<Self, Error> {
        let identity = identity::load_or_create(args.identity.as_deref())?;
        Ok(Self {
            host: build(identity, args.bind, args.timeout, args.congestion).await?,
            known: KnownHosts::new(args.known_hosts)?,
            trust: args.trust,
            timeout: args.timeout,
            output,
        })
    }

    /// Opens a stream to a service of the target. A host that is trusted on first use is remembered when it has proved
    /// who it is.
    ///
    /// # Errors
    /// If nobody answers, it is somebody else, it is not trusted, or it does not accept us.
    pub(crate) async fn connect(self, target: &Target, service: &str, protocol: &str) -> Result<Connection, Error> {
        let found = self.identify(target).await?;
        let eid = found.eid;
        let connect = self.host.connect(eid, service, protocol).hints(&target.places);
        let connecting = async { connect.await.map_err(connect_error) };
        let stream = self.unless_somebody_else(eid, &target.places, connecting).await?;
        self.remember(&found)?;
        tokio::spawn(tell_of_link(stream.peer().link(), self.output));
        let remote = stream.peer().info().map(|info| info.remote.to_string());
        Ok(Connection {
            host: self.host,
            address: remote.unwrap_or_else(|| target.place()),
            stream,
            eid,
        })
    }

    /// Asks the target what it offers. For the rest as [`Self::connect`].
    ///
    /// # Errors
    /// As [`Self::connect`], or if its answer makes no sense.
    pub(crate) async fn services(self, target: &Target) -> Result<Offered, Error> {
        let found = self.identify(target).await?;
        let eid = found.eid;
        let question = self.host.services_of(eid).hints(&target.places);
        let asking = async { question.await.map_err(services_error) };
        let list = self.unless_somebody_else(eid, &target.places, asking).await?;
        self.remember(&found)?;
        Ok(Offered {
            host: self.host,
            eid,
            list,
        })
    }

    /// Finds whom the target means, and whether that is news.
    async fn identify(&self, target: &Target) -> Result<Identified, Error> {
        if let Some(eid) = target.eid {
            return Ok(Identified { eid, news_of: None });
        }
        let addresses = resolve(&target.places).await;
        let address = *addresses.first().ok_or_else(|| {
            let what = format!("{target} has no address");
            Error::new(Exit::Unreachable, what, "check the name, or give an address")
        })?;
        let (eid, is_new) = self.find_out(address).await?;
        Ok(Identified {
            eid,
            news_of: is_new.then_some(address),
        })
    }

    fn remember(&self, found: &Identified) -> Result<(), Error> {
        if let Some(address) = found.news_of {
            self.known.remember(address, found.eid)?;
            self.output.note(format!("remembered in {}", self.known.file()));
        }
        Ok(())
    }

    /// Finds who is at an address that was given alone, and whether that is news.
    async fn find_out(&self, address: SocketAddr) -> Result<(Eid, bool), Error> {
        let known = self.known.lookup(address)?;
        let found = self
            .host
            .probe(address, self.timeout)
            .await
            .map_err(|error| no_answer(&error))?;
        match known {
            Some(known) if known == found => Ok((found, false)),
            Some(known) => Err(self.changed(address, known, found)),
            None => {
                let fact = json!({"event": "unknown_host", "address": address.to_string(), "eid": found.to_string()});
                if self.output.is_json() {
                    self.output.fact("", &fact);
                } else {
                    self.output
                        .note(format!("{address} is {found}, which is not known yet"));
                }
                if self.trust || ask().await {
                    return Ok((found, true));
                }
                let what = format!("the host at {address} is not trusted");
                let next = "compare the EID with what `sss serve` printed there; if it is the same, give --trust, or give EID@IP:PORT";
                Err(Error::new(Exit::Refused, what, next))
            }
        }
    }

    fn changed(&self, address: SocketAddr, known: Eid, found: Eid) -> Error {
        let what = format!(
            "the host at {address} is not the one it was: it was {known}, it is {found}. \
             Either it has a new identity, or this is another host that pretends to be it"
        );
        let next = format!(
            "ask who runs it; if the new EID is right, remove the line of {address} from {}, or give EID@IP:PORT",
            self.known.file()
        );
        Error::new(Exit::Refused, what, next)
    }

    /// Waits for what is asked of a host, unless other hosts are found at all places.
    async fn unless_somebody_else<T>(
        &self,
        eid: Eid,
        places: &[Place],
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            answer = answer => answer,
            (address, found) = self.somebody_else(eid, places) => {
                let what = format!("the host at {address} is {found}, not {eid}");
                let next = "check address and EID: `sss serve` prints both; a host that got a new identity prints the new one";
                Err(Error::new(Exit::Refused, what, next))
            }
        }
    }

    /// A peer that is asked for by a wrong EID cannot know that it is meant, and is silent. So after a while we ask who
    /// is there. Ends only if somebody is, and everybody else has had the time to answer.
    async fn somebody_else(&self, expected: Eid, places: &[Place]) -> (SocketAddr, Eid) {
        tokio::time::sleep(PATIENCE).await;
        let mut probes = JoinSet::new();
        for address in resolve(places).await {
            let (host, limit) = (self.host.clone(), self.timeout.saturating_sub(PATIENCE).mul_f64(ASKING));
            probes.spawn(async move { (address, host.probe(address, limit).await) });
        }
        let mut found = None;
        while let Some(answer) = probes.join_next().await {
            match answer {
                Ok((_, Ok(eid))) if eid == expected => return std::future::pending().await,
                Ok((address, Ok(eid))) => found = Some((address, eid)),
                _ => {}
            }
        }
        match found {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }
}

/// Looks the places up: addresses in their order, each once. Names without an address are left out.
async fn resolve(places: &[Place]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for place in places {
        let more: Vec<_> = match place {
            Place::Address(address) => vec![*address],
            Place::Name(name, port) => match tokio::net::lookup_host((name.as_str(), *port)).await {
                Ok(found) => found.collect(),
                Err(_) => Vec::new(),
            },
        };
        for address in more {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

/// Says when the peer does not answer for a while, and when it does again. Silences that pass quickly are not worth a
/// word.
async fn tell_of_link(mut link: LinkWatch, output: Output) {
    loop {
        let is_up = link.status() == LinkStatus::Up;
        if is_up {
            if link.changed().await.is_none() {
                return;
            }
            continue;
        }
        if let Ok(changed) = tokio::time::timeout(GRACE, link.changed()).await {
            match changed {
                Some(_) => continue,
                None => return,
            }
        }
        tell(
            output,
            "stalled",
            "the peer does not answer: waiting, and looking for it",
        );
        while link.status() != LinkStatus::Up {
            if link.changed().await.is_none() {
                return;
            }
        }
        tell(output, "up", "the peer answers again");
    }
}

fn tell(output: Output, status: &str, text: &str) {
    if output.is_json() {
        output.fact("", &json!({"event": "peer", "status": status}));
    } else {
        output.note(text);
    }
}

impl Connection {
    /// Does the work of a command, unless it is interrupted; then says goodbye.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) async fn run<T>(host: Host, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let result = tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => {
                Err(Error::new(Exit::Interrupted, "interrupted", "run the same command again: it goes on where it was"))
            }
        };
        // What matters was acknowledged by answers of the peer; this only tells it that we are gone.
        let _ = host.close_within(FAREWELL).await;
        result
    }
}

/// Time that a command waits for a server that has gone silent, beside the idle timeout.
const LINGER: Duration = Duration::from_secs(60);

/// A host for a client, on any port unless an address is given, that tries for `timeout` to reach a peer.
pub(crate) async fn build(
    identity: Identity,
    bind: Option<SocketAddr>,
    timeout: Duration,
    congestion: Congestion,
) -> Result<Host, Error> {
    let builder = Host::builder()
        .congestion(congestion)
        .identity(identity)
        .allow_own_eid(true)
        .linger(LINGER)
        .connect_timeout(timeout);
    let builder = match bind {
        Some(address) => builder.bind(address),
        None => builder,
    };
    Ok(builder.build().await?)
}

/// Explains what it means that no stream could be opened.
pub(crate) fn connect_error(error: ConnectError) -> Error {
    match error {
        ConnectError::Negotiation(error) => error.into(),
        ConnectError::Closed(reason) => reason.into(),
        other => Error::new(Exit::Failed, other.to_string(), "run the same command again"),
    }
}

/// Explains what it means that a host did not tell its services.
fn services_error(error: ServicesError) -> Error {
    let text = error.to_string();
    match error {
        ServicesError::Connect(error) => connect_error(error),
        ServicesError::Read(ReadError::Lost(reason)) => reason.into(),
        ServicesError::Read(ReadError::Refused(Refusal::Backlog)) => {
            Error::new(Exit::Refused, text, "run the same command again, after a while")
        }
        ServicesError::Read(_) => Error::new(Exit::Refused, text, "install the same version of sss on both sides"),
        ServicesError::Malformed(_) => Error::new(
            Exit::Failed,
            text,
            "update both sides to the same version; if they are, report this as a defect",
        ),
        _ => Error::new(Exit::Unreachable, text, "run the same command again"),
    }
}

fn no_answer(error: &ProbeError) -> Error {
    let next = "check that `sss serve` runs there, that IP and PORT are those it printed, and that UDP is not blocked";
    Error::new(Exit::Unreachable, error.to_string(), next)
}

/// Asks the person at the terminal, if there is one.
async fn ask() -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    io_pool::run(|| {
        let _ = write!(std::io::stderr(), "Trust it, and remember it? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    })
    .await
}

/// Makes sure that a path that the user named can be used, and says what it is.
pub(crate) fn metadata(path: &PathBuf) -> Result<std::fs::Metadata, Error> {
    std::fs::symlink_metadata(path).map_err(|error| Error::local(path, "read", &error))
}
