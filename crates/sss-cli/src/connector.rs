//! From a target to a stream: who is there, whether we trust it, and what to say if that fails.

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sss::{
    Congestion, Eid, FoundBy, Host, HostBuilder, Identity, LinkStatus, LinkWatch, Seconds, ServiceList, Stream,
    WindowConfig,
};

use crate::caller::{Caller, TOO_MUCH, Waiting, place_of, watch_route};
use crate::cli::{ConnectArgs, key_log_has_a_place};
use crate::dns;
use crate::error::{Error, Exit};
use crate::given_ticket;
use crate::identity;
use crate::interrupt;
use crate::network;
use crate::output::Output;
use crate::server_at::ServerAt;
use crate::servers;
use crate::stun;
use crate::target::Target;
use crate::transfer::exchange::TransferError;
use crate::transfer::patience::{Patience, Way};
use crate::transfer::rate::Rate;
use crate::transfer::session::{self, Another, Session};
use crate::trust::{Identified, Trust};
use crate::turn;

/// Time for which it is told that TURN servers fail: that is known when it is of use.
const TURN_WATCHED: Duration = Duration::from_secs(60);
/// Smallest window of a stream with which it makes sense to transfer files, and smallest budget of all, in bytes.
const LEAST_WINDOW: u64 = 16 << 10;
const LEAST_BUDGET: u64 = 256 << 10;
/// Time for which a peer may be silent before that is told, once it did not answer [`KEEPALIVE`].
const GRACE: Duration = Duration::from_secs(1);
/// Time to wait at the end until the peer has heard all.
const FAREWELL: Duration = Duration::from_secs(2);

/// As [`FAREWELL`], of a command that was interrupted, or has given up a peer that does not answer.
const LAST_FAREWELL: Duration = Duration::from_millis(300);

/// The least time that there is to reach a host, once it is known where it is.
const LEAST_TIME: Duration = Duration::from_millis(250);

/// Reaches hosts for one command.
pub(crate) struct Connector {
    args: ConnectArgs,
    identity: Identity,
    limit: Option<Rate>,
    trust: Trust,
    output: Output,
}

/// A host that a target means, and who it is.
pub(crate) struct Found {
    target: Target,
    who: Identified,
}

/// A session with a service of the peer, and what it runs on.
pub(crate) struct Connection {
    pub(crate) host: Host,
    pub(crate) session: Arc<Session>,
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
    /// If there is no identity and none can be made.
    pub(crate) fn new(args: ConnectArgs, output: Output) -> Result<Self, Error> {
        Self::limited(args, None, output)
    }

    /// As [`Self::new`], for content that is to come in no faster than that: the peer may send little ahead.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn limited(args: ConnectArgs, limit: Option<Rate>, output: Output) -> Result<Self, Error> {
        Ok(Self {
            identity: identity::load(args.identity.as_deref(), output)?,
            trust: Trust::new(&args, output)?,
            args,
            limit,
            output,
        })
    }

    /// A host that is registered with these servers, and has so much time to reach another one.
    async fn host(&self, servers: &[ServerAt], timeout: Duration) -> Result<Host, Error> {
        let args = &self.args;
        key_log_has_a_place(args.key_log)?;
        let times = Times {
            connect: timeout,
            silence: args.patience,
        };
        let bind = match &args.bind {
            Some(bind) => Some(bind.address(0).await?),
            None => None,
        };
        build_with(self.identity.clone(), bind, times, |host| {
            let host = host
                .key_log(args.key_log)
                .congestion(args.congestion)
                .post_quantum(args.pq)
                .padding(args.padding)
                .window(window(self.limit));
            servers::register(host, (servers, &args.servers), FoundBy::Nobody)
        })
        .await
    }

    /// The target, with the ticket that is given elsewhere if it needs that.
    async fn completed(&self, target: &Target) -> Result<Target, Error> {
        let target = given_ticket::completed(target, self.args.ticket.as_deref()).await?;
        let target = self.args.servers.confined(target)?;
        let target = dns::resolved(target, self.args.dns, self.args.timeout).await?;
        self.args.servers.without_places(target)
    }

    /// Finds out who is at the target, and whether that is trusted. `host` asks.
    ///
    /// # Errors
    /// If that needs an answer and there is none; if it is not trusted.
    async fn find(&self, host: &Host, target: &Target) -> Result<Found, Error> {
        let finding = async {
            let target = self.completed(target).await?;
            let who = self.trust.identify(host, &target).await?;
            Ok(Found { target, who })
        };
        interrupt::or(finding).await
    }

    /// The host that reaches the target, and who that is.
    async fn caller(&self, (target, found): (&Target, Option<Found>)) -> Result<(Caller, Found), Error> {
        let (begun, is_in_dns) = (Instant::now(), target.name.is_some());
        let (target, who) = match found {
            Some(Found { target, who }) => (target, Some(who)),
            None => (self.completed(target).await?, None),
        };
        // What the DNS took is gone.
        let timeout = match is_in_dns {
            true => self.args.timeout.saturating_sub(begun.elapsed()).max(LEAST_TIME),
            false => self.args.timeout,
        };
        let servers = self.args.servers.enough_with(&target.servers)?;
        self.args.servers.note_turn(&servers, self.output);
        for server in self.args.servers.unasked(&target.servers, &servers) {
            let why = "with --relay-only it is not asked unless --server names it";
            self.output.note(format!("the ticket names the server {server}: {why}"));
        }
        if target.places.is_empty() && servers.is_empty() && !self.args.servers.mdns.is_on() {
            return Err(nowhere(&target, self.args.servers.forbidden_by()));
        }
        // By mDNS others are found at addresses that are not known yet.
        if self.args.bind.is_none() && !self.args.servers.mdns.is_on() {
            let of_servers = servers.iter().map(|server| &server.place);
            network::tell_if_missing(target.places.iter().chain(of_servers), timeout, self.output);
        }
        let host = self.host(&servers, timeout).await?;
        tokio::spawn(stun::tell_when_known(host.clone(), self.output));
        tokio::spawn(turn::watch(host.clone(), self.output, Some(TURN_WATCHED)));
        let who = match who {
            Some(who) => who,
            None => self.trust.identify(&host, &target).await?,
        };
        let waiting = Waiting {
            patience: self.args.patience,
            tell: Box::new(no_room(self.args.patience, self.output)),
        };
        let caller = Caller {
            host,
            servers,
            timeout,
            needs_server: target.places.is_empty() && !self.args.servers.mdns.is_on(),
            relay_only: self.args.servers.relay.relay_only,
            waiting: Some(waiting),
        };
        Ok((caller, Found { target, who }))
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
        interrupt::or(self.reach((target, found), service, protocol)).await
    }

    async fn reach(self, target: (&Target, Option<Found>), service: &str, protocol: &str) -> Result<Connection, Error> {
        let (caller, Found { target, who }) = self.caller(target).await?;
        let (of, places) = (&caller, &target.places);
        let connect = |eid| async move {
            of.ask(&eid, || of.host.connect(eid, service, protocol).hints(places))
                .await
        };
        let asked = self
            .trust
            .ask_host(&caller.host, (who, &target.places, caller.patience()), connect);
        let (eid, mut stream) = asked.await?;
        greet(&mut stream, service, &target).await;
        let way = way(caller.host.clone(), stream.peer().link());
        patience(self.args.patience, stream.peer().link(), way, self.output).take_effect();
        tokio::spawn(tell_of_link(stream.peer().link(), self.args.patience, self.output));
        let route = stream.peer().info().map(|info| info.route);
        if let Some(route) = route {
            caller.tell_how(&target, (eid, route), self.output).await;
            tokio::spawn(watch_route(stream.peer().clone(), route.class(), self.output));
        }
        let address = route.map_or_else(|| target.place(), place_of);
        let again = Again {
            host: caller.host.clone(),
            target,
            eid,
            service: service.to_owned(),
            protocol: protocol.to_owned(),
        };
        let no_room = no_room(self.args.patience, self.output);
        let another = Another {
            open: Box::new(move || Box::pin(again.clone().session())),
            tell: Box::new(move || no_room(TOO_MUCH)),
            patience: self.args.patience,
        };
        Ok(Connection {
            host: caller.host,
            address,
            session: Arc::new(Session::new(stream, Some(another))),
            eid,
        })
    }

    /// Asks the target what it offers. For the rest as [`Self::connect`].
    ///
    /// # Errors
    /// As [`Self::connect`], or if its answer makes no sense.
    pub(crate) async fn services(self, target: &Target) -> Result<Offered, Error> {
        interrupt::or(self.ask_for_services(target)).await
    }

    async fn ask_for_services(self, target: &Target) -> Result<Offered, Error> {
        let (caller, Found { target, who }) = self.caller((target, None)).await?;
        let (of, places) = (&caller, &target.places);
        let ask = |eid| async move { of.ask(&eid, || of.host.services_of(eid).hints(places)).await };
        let asked = self
            .trust
            .ask_host(&caller.host, (who, &target.places, caller.patience()), ask);
        let (eid, list) = asked.await?;
        if let Some(info) = caller.host.peer(&eid).and_then(|peer| peer.info()) {
            caller.tell_how(&target, (eid, info.route), self.output).await;
        }
        Ok(Offered {
            host: caller.host,
            eid,
            list,
        })
    }
}

/// Error for a host of which nobody can know where it is.
pub(crate) fn nowhere(target: impl Display, forbidden_by: Option<&str>) -> Error {
    if let Some(switch) = forbidden_by {
        let what = format!("no address is given for {target}, and {switch} forbids to ask a server for it");
        let next = "give its address, as in EID@HOST/PATH; or --mdns, if it is on the local network";
        return Error::new(Exit::Usage, what, next);
    }
    let what = format!("no address is given for {target}, and no registration server is known that finds it");
    let next = "give its address, as in EID@HOST/PATH; or --mdns, if it is on the local network; or the server where it \
                registers, with --server EID@HOST, in SSS_SERVER, or in the file `servers` beside the identity";
    Error::new(Exit::Usage, what, next)
}

/// Finds out who is at each of several targets, and asks about those who are not known, before anything is done with
/// one of them. The same host is asked about once. Of a single target it finds out nothing: that has time until it is
/// connected to. One that cannot be reached does not keep the others.
///
/// # Errors
/// As [`Connector::find`], but for hosts that cannot be reached.
pub(crate) async fn find_all(
    targets: &[&Target],
    args: &ConnectArgs,
    output: Output,
) -> Result<Vec<Result<Option<Found>, Error>>, Error> {
    if targets.len() == 1 {
        return Ok(vec![Ok(None)]);
    }
    let connector = Connector::new(args.clone(), output)?;
    let host = connector.host(&[], args.timeout).await?;
    let mut all: Vec<Result<Option<Found>, Error>> = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let before = targets.iter().take(number).position(|other| target.is_same_host(other));
        let found = match before.and_then(|at| all.get(at)) {
            Some(Ok(Some(found))) => Ok(found.again()),
            _ => connector.find(&host, target).await,
        };
        all.push(match found {
            Err(error) if error.exit != Exit::Unreachable => return Err(error),
            found => found.map(Some),
        });
    }
    // Nobody was connected to: this lets the port go.
    let _ = host.close_within(LAST_FAREWELL).await;
    Ok(all)
}

/// Means to open another session with a host that was reached.
#[derive(Clone)]
struct Again {
    host: Host,
    target: Target,
    eid: Eid,
    service: String,
    protocol: String,
}

impl Again {
    async fn session(self) -> Result<Stream, TransferError> {
        let places = &self.target.places;
        let connecting = self.host.connect(self.eid, &self.service, &self.protocol).hints(places);
        let mut stream = connecting.await?;
        greet(&mut stream, &self.service, &self.target).await;
        Ok(stream)
    }
}

/// Says what the server of files wants to hear first.
async fn greet(stream: &mut Stream, service: &str, target: &Target) {
    if service == sss_files::SERVICE {
        session::greet(stream, target.secret.as_ref()).await;
    }
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
fn patience(
    limit: Duration,
    link: LinkWatch,
    way: impl Fn() -> Way + Send + Sync + 'static,
    output: Output,
) -> Patience {
    let text = format!(
        "the peer is there and says nothing: waiting, for {} at most",
        Seconds(limit)
    );
    let tell = move || {
        if link.status() == LinkStatus::Up {
            tell(output, "silent", &text);
        }
    };
    Patience::new(limit, tell, way)
}

/// Tells how it is about the way to a peer. What could not be sent while it works does not count.
fn way(host: Host, link: LinkWatch) -> impl Fn() -> Way {
    let before = host.socket_stats();
    move || {
        let now = host.socket_stats();
        match link.status() {
            LinkStatus::Up => Way::Works,
            _ if now.send_denied > before.send_denied => Way::Refused,
            _ if now.send_errors > before.send_errors => Way::Cut,
            _ => Way::Silent,
        }
    }
}

/// Says why the server is asked again: it has no room.
fn no_room(patience: Duration, output: Output) -> impl Fn(&str) {
    move |why| {
        let text = format!("{why}: asking it again, for {} at most", Seconds(patience));
        tell(output, "busy", &text);
    }
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
        let is_given_up = result.as_ref().is_err_and(|error| error.exit == Exit::Unreachable);
        let goodbye = host.close_within(if is_given_up { LAST_FAREWELL } else { FAREWELL });
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
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

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

/// As [`build`], with more that is wanted of it.
pub(crate) async fn build_with(
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

/// Makes sure that a path that the user named can be used, and says what it is.
pub(crate) fn metadata(path: &PathBuf) -> Result<std::fs::Metadata, Error> {
    std::fs::symlink_metadata(path).map_err(|error| Error::local(path, "read", &error))
}
