//! From a target to a stream: who is there, whether we trust it, and what to say if that fails.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sss::{
    Congestion, ConnectError, Eid, Host, HostBuilder, Identity, LinkStatus, LinkWatch, ReadError, Refusal, Seconds,
    ServiceList, ServicesError, Stream, WindowConfig,
};

use crate::cli::ConnectArgs;
use crate::error::{Error, Exit};
use crate::given_ticket;
use crate::identity;
use crate::interrupt;
use crate::output::Output;
use crate::target::Target;
use crate::transfer::patience::Patience;
use crate::transfer::rate::Rate;
use crate::transfer::session;
use crate::trust::{Identified, Trust};

/// Smallest window of a stream with which it makes sense to transfer files, and smallest budget of all, in bytes.
const LEAST_WINDOW: u64 = 16 << 10;
const LEAST_BUDGET: u64 = 256 << 10;
/// Time for which a peer may be silent before that is told, once it did not answer [`KEEPALIVE`].
const GRACE: Duration = Duration::from_secs(1);
/// Time to wait at the end until the peer has heard all.
const FAREWELL: Duration = Duration::from_secs(2);

/// As [`FAREWELL`], of a command that was interrupted.
const LAST_FAREWELL: Duration = Duration::from_millis(300);

/// Reaches hosts for one command.
pub(crate) struct Connector {
    host: Host,
    trust: Trust,
    patience: Duration,
    ticket: Option<PathBuf>,
    output: Output,
}

/// A host that a target means, and who it is.
pub(crate) struct Found {
    target: Target,
    who: Identified,
}

/// A stream to a service of the peer, and what it runs on.
pub(crate) struct Connection {
    pub(crate) host: Host,
    pub(crate) stream: Stream,
    pub(crate) eid: Eid,
    /// Address at which it was reached, for people.
    pub(crate) address: String,
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
        Self::limited(args, None, output).await
    }

    /// As [`Self::new`], for content that is to come in no faster than that: the peer may send little ahead.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) async fn limited(args: ConnectArgs, limit: Option<Rate>, output: Output) -> Result<Self, Error> {
        let times = Times {
            connect: args.timeout,
            silence: args.patience,
        };
        let identity = identity::load(args.identity.as_deref(), output)?;
        let bind = match &args.bind {
            Some(bind) => Some(bind.address(0).await?),
            None => None,
        };
        Ok(Self {
            trust: Trust::new(&args, output)?,
            host: build_with(identity, bind, times, |host| {
                host.key_log(args.key_log)
                    .congestion(args.congestion)
                    .post_quantum(args.pq)
                    .padding(args.padding)
                    .window(window(limit))
            })
            .await?,
            patience: args.patience,
            ticket: args.ticket,
            output,
        })
    }

    /// Finds out who is at the target, and whether that is trusted.
    ///
    /// # Errors
    /// If that needs an answer and there is none; if it is not trusted.
    pub(crate) async fn find(&self, target: &Target) -> Result<Found, Error> {
        let finding = async {
            let target = given_ticket::completed(target, self.ticket.as_deref()).await?;
            let who = self.trust.identify(&self.host, &target).await?;
            Ok(Found { target, who })
        };
        interrupt::or(finding).await
    }

    /// Lets the port go.
    pub(crate) async fn close(self) {
        // Nobody was connected to.
        let _ = self.host.close_within(LAST_FAREWELL).await;
    }

    /// Opens a stream to a service of the target. A host that is trusted on first use is remembered when it has proved
    /// who it is.
    ///
    /// # Errors
    /// If nobody answers, it is somebody else, it is not trusted, or it does not accept us.
    pub(crate) async fn connect(self, target: &Target, service: &str, protocol: &str) -> Result<Connection, Error> {
        self.connect_to((target, None), service, protocol).await
    }

    /// As [`Self::connect`]; `found` says who is there, if that is known.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) async fn connect_to(
        self,
        (target, found): (&Target, Option<Found>),
        service: &str,
        protocol: &str,
    ) -> Result<Connection, Error> {
        let found = match found {
            Some(found) => found,
            None => self.find(target).await?,
        };
        interrupt::or(self.reach(found, service, protocol)).await
    }

    async fn reach(self, found: Found, service: &str, protocol: &str) -> Result<Connection, Error> {
        let Found { target, who } = found;
        let connect = |eid| {
            let connect = self.host.connect(eid, service, protocol).hints(&target.places);
            async { connect.await.map_err(connect_error) }
        };
        let asked = self.trust.ask_host(&self.host, (who, &target.places), connect);
        let (eid, mut stream) = asked.await?;
        if service == sss_files::SERVICE {
            session::greet(&mut stream, target.secret.as_ref()).await?;
        }
        patience(self.patience, stream.peer().link(), self.output).take_effect();
        tokio::spawn(tell_of_link(stream.peer().link(), self.patience, self.output));
        let remote = stream.peer().info().map(|info| info.route.to_string());
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
        let found = self.find(target).await?;
        interrupt::or(self.ask_for_services(found)).await
    }

    async fn ask_for_services(self, found: Found) -> Result<Offered, Error> {
        let Found { target, who } = found;
        let ask = |eid| {
            let question = self.host.services_of(eid).hints(&target.places);
            async { question.await.map_err(services_error) }
        };
        let (eid, list) = self.trust.ask_host(&self.host, (who, &target.places), ask).await?;
        Ok(Offered {
            host: self.host,
            eid,
            list,
        })
    }
}

/// Finds out who is at each of several targets, and asks about those who are not known, before anything is done with
/// one of them. The same host is asked about once. Of a single target it finds out nothing: that has time until it is
/// connected to.
///
/// # Errors
/// As [`Connector::find`].
pub(crate) async fn find_all(
    targets: &[&Target],
    args: &ConnectArgs,
    output: Output,
) -> Result<Vec<Option<Found>>, Error> {
    if targets.len() == 1 {
        return Ok(vec![None]);
    }
    let connector = Connector::new(args.clone(), output).await?;
    let mut all: Vec<Option<Found>> = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let before = targets.iter().take(number).position(|other| target.is_same_host(other));
        let found = match before.and_then(|at| all.get(at)) {
            Some(Some(found)) => found.again(),
            _ => connector.find(target).await?,
        };
        all.push(Some(found));
    }
    connector.close().await;
    Ok(all)
}

impl Found {
    /// The same host, of which nothing more is to be remembered.
    fn again(&self) -> Self {
        Self {
            target: self.target.clone(),
            who: Identified::known(self.who.eid),
        }
    }
}

/// Patience with a peer, which tells when it is silent although it can be reached.
fn patience(limit: Duration, link: LinkWatch, output: Output) -> Patience {
    let text = format!(
        "the peer is there and says nothing: waiting, for {} at most",
        Seconds(limit)
    );
    Patience::new(limit, move || {
        if link.status() == LinkStatus::Up {
            tell(output, "silent", &text);
        }
    })
}

/// Says when the peer does not answer for a while, and when it does again. Silences that pass quickly are not worth a
/// word.
async fn tell_of_link(mut link: LinkWatch, patience: Duration, output: Output) {
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
        let text = format!(
            "the peer does not answer: looking for it, for {} at most",
            Seconds(patience)
        );
        tell(output, "stalled", &text);
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
        let result = interrupt::or(work).await;
        // What matters was acknowledged by answers of the peer; this only tells it that we are gone.
        let goodbye = host.close_within(FAREWELL);
        if interrupt::is_requested() {
            let _ = tokio::time::timeout(LAST_FAREWELL, goodbye).await;
        } else {
            tokio::select! {
                _ = goodbye => {}
                () = interrupt::requested() => {}
            }
        }
        result
    }
}

/// Time after which a silent server is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// The least time that a silent server has for it.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// Times for which a client waits for its peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until it is reached.
    pub(crate) connect: Duration,
    /// Until it is heard again.
    pub(crate) silence: Duration,
}

/// Receive windows that hold about a second's worth of bytes.
fn window(limit: Option<Rate>) -> WindowConfig {
    let defaults = WindowConfig::default();
    let Some(rate) = limit else { return defaults };
    defaults.with(|window| {
        let stream = rate.piece().saturating_mul(2).max(LEAST_WINDOW);
        window.per_stream_max = window.per_stream_max.min(stream);
        window.per_stream_initial = window.per_stream_initial.min(stream);
        window.per_peer_budget = window.per_peer_budget.min(rate.bytes_per_second().max(LEAST_BUDGET));
    })
}

/// A host for a client, on any port unless an address is given.
pub(crate) async fn build(
    identity: Identity,
    bind: Option<SocketAddr>,
    times: Times,
    congestion: Congestion,
) -> Result<Host, Error> {
    build_with(identity, bind, times, |host| host.congestion(congestion)).await
}

async fn build_with(
    identity: Identity,
    bind: Option<SocketAddr>,
    times: Times,
    more: impl FnOnce(HostBuilder) -> HostBuilder,
) -> Result<Host, Error> {
    let silence = times.silence.max(LEAST_PATIENCE);
    let builder = more(Host::builder())
        .identity(identity)
        .allow_own_eid(true)
        // With both, the streams end after this time, whether a channel is left or not.
        .idle_timeout(silence)
        .linger(silence)
        .keepalive(KEEPALIVE)
        .connect_timeout(times.connect);
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
        ConnectError::Unresolved { .. } => Error::new(
            Exit::Unreachable,
            error.to_string(),
            "check the name, or give the IP address",
        ),
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

/// Makes sure that a path that the user named can be used, and says what it is.
pub(crate) fn metadata(path: &PathBuf) -> Result<std::fs::Metadata, Error> {
    std::fs::symlink_metadata(path).map_err(|error| Error::local(path, "read", &error))
}
