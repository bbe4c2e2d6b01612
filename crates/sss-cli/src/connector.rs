//! From a target to a stream: who is there, whether we trust it, and what to say if that fails.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sss::{
    Congestion, ConnectError, Eid, Host, Identity, LinkStatus, LinkWatch, ReadError, Refusal, ServiceList,
    ServicesError, Stream,
};

use crate::cli::ConnectArgs;
use crate::error::{Error, Exit};
use crate::identity;
use crate::output::Output;
use crate::target::Target;
use crate::trust::Trust;

/// Time for which a peer may be silent before that is told.
const GRACE: Duration = Duration::from_secs(2);
/// Time to wait at the end until the peer has heard all.
const FAREWELL: Duration = Duration::from_secs(2);

/// Reaches hosts for one command.
pub(crate) struct Connector {
    host: Host,
    trust: Trust,
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
        let bind = match &args.bind {
            Some(bind) => Some(bind.address(0).await?),
            None => None,
        };
        Ok(Self {
            trust: Trust::new(&args, output)?,
            host: build(identity, bind, args.timeout, args.congestion).await?,
            output,
        })
    }

    /// Opens a stream to a service of the target. A host that is trusted on first use is remembered when it has proved
    /// who it is.
    ///
    /// # Errors
    /// If nobody answers, it is somebody else, it is not trusted, or it does not accept us.
    pub(crate) async fn connect(self, target: &Target, service: &str, protocol: &str) -> Result<Connection, Error> {
        let found = self.trust.identify(&self.host, target).await?;
        let eid = found.eid;
        let connect = self.host.connect(eid, service, protocol).hints(&target.places);
        let connecting = async { connect.await.map_err(connect_error) };
        let stream = self
            .trust
            .unless_somebody_else(&self.host, (eid, &target.places), connecting)
            .await?;
        self.trust.remember(&found)?;
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
        let found = self.trust.identify(&self.host, target).await?;
        let eid = found.eid;
        let question = self.host.services_of(eid).hints(&target.places);
        let asking = async { question.await.map_err(services_error) };
        let list = self
            .trust
            .unless_somebody_else(&self.host, (eid, &target.places), asking)
            .await?;
        self.trust.remember(&found)?;
        Ok(Offered {
            host: self.host,
            eid,
            list,
        })
    }
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
