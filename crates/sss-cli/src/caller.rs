//! The host of a command, registered with servers: what it asks of others, and what to say if that fails.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use serde_json::json;
use sss::{
    Absence, ConnectError, Eid, Host, NegotiationError, Peer, ReadError, Refusal, RegistrationError, RegistrationState,
    Route, RouteClass, Seconds, ServicesError, Tried,
};

use crate::diagnosis::{Diagnosis, Watch};
use crate::error::{Error, Exit, NO_WAY, NO_WAY_BY_RELAY, NOT_FOUND_YET};
use crate::mdns;
use crate::output::Output;
use crate::place::{CHECK_ADDRESS, CHECK_NAME, NAME_INTERFACE, Place};
use crate::server_at::ServerAt;
use crate::servers;
use crate::target::Target;
use crate::transfer::exchange::is_for_want_of_room;
use crate::transfer::session::FULL;
use crate::trust;
use crate::turn;

/// Time by which the host's answer may come before that of the server that has found it.
const LATER: Duration = Duration::from_millis(100);
/// Pause between looks at an attempt for which there is no patience left.
const LOOK: Duration = Duration::from_millis(50);
/// Pause before a server that was asked too often, or has not answered, is asked again.
const BUSY: Duration = Duration::from_secs(1);
/// The time that has to be left for a host that did not answer its server to be asked for again.
const REVIVAL: Duration = Duration::from_secs(5);
/// Time to look up names again, of which one may be where a host was reached.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Words about a server that has no room.
pub(crate) const TOO_MUCH: &str = "the server has too much to do";
/// Words about one that may have none: it has said nothing where it is asked to take us.
const NOT_ACCEPTED: &str = "the server answers, but does not let us in";
/// Words about one where hosts register, and not all have done so again.
const RESTARTED: &str = "the registration server was restarted, and does not know the host yet";

/// Words about one that has taken us, and finds nobody for us just now.
const ASKED_TOO_OFTEN: &str = "the registration server is asked too often";

/// The host of a command, and the servers that it is registered with.
pub(crate) struct Caller {
    pub(crate) host: Host,
    pub(crate) servers: Vec<ServerAt>,
    /// Time in which a peer is to be reached.
    pub(crate) timeout: Duration,
    /// Set if nobody else finds the peer.
    pub(crate) needs_server: bool,
    /// Set if nothing is sent to the peer but by a relay.
    pub(crate) relay_only: bool,
    /// Means to go on asking a host that has no room. `None`: it is asked once.
    pub(crate) waiting: Option<Waiting>,
}

/// Means to go on asking a host that has no room, or is not back at its server.
pub(crate) struct Waiting {
    /// Time for which it is asked.
    pub(crate) patience: Duration,
    /// Told, once, why it is asked again.
    pub(crate) tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl Caller {
    /// Time to wait for the peer before somebody else is thought to be in its place.
    pub(crate) fn patience(&self) -> Duration {
        match self.servers.is_empty() {
            true => trust::PATIENCE,
            false => trust::PATIENCE_WITH_SERVERS,
        }
    }

    /// Asks the host of this name for something; again, until the time is over, while servers do not answer or were
    /// asked too often, and while the host says that it has too many connections.
    ///
    /// # Errors
    /// Why it cannot be reached, and what is wrong with servers that do not answer.
    pub(crate) async fn ask<T, E, Q>(&self, eid: &Eid, question: impl Fn() -> Q) -> Result<T, Error>
    where
        Q: IntoFuture<Output = Result<T, E>>,
        E: Failure,
    {
        let watch = Watch::new(&self.host, &self.servers, self.timeout);
        let answer = tokio::select! {
            answer = self.ask_again((eid, &watch), question) => answer,
            diagnosis = self.hopeless(&watch) => Err(diagnosis.error()),
        };
        answer.map_err(|error| turn::named_in(error, &self.host))
    }

    async fn ask_again<T, E, Q>(&self, (eid, watch): (&Eid, &Watch<'_>), question: impl Fn() -> Q) -> Result<T, Error>
    where
        Q: IntoFuture<Output = Result<T, E>>,
        E: Failure,
    {
        let begun = Instant::now();
        let until = begun + self.timeout;
        let mut is_told = false;
        let mut in_vain: Option<E> = None;
        loop {
            let asked = question().into_future();
            let asked = async {
                match in_vain.take() {
                    None => asked.await,
                    // It was asked once, for as long as that takes.
                    Some(error) => tokio::time::timeout_at(until.into(), asked).await.unwrap_or(Err(error)),
                }
            };
            let answer = tokio::select! {
                answer = asked => answer,
                error = self.out_of_patience(eid, begun) => Err(error.into()),
                error = self.out_of_time(eid, until) => Err(error.into()),
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let why = error.may_yet_end().or_else(|| self.is_put_off(&error));
            match (why, &self.waiting) {
                (Some(why), Some(waiting)) if begun.elapsed() < waiting.patience => {
                    if !std::mem::replace(&mut is_told, true) {
                        (waiting.tell)(why);
                    }
                    tokio::time::sleep(FULL).await;
                }
                _ if error.passes_in().is_some_and(|time| Instant::now() + time < until) => {
                    in_vain = Some(error);
                    tokio::time::sleep(BUSY).await;
                }
                _ => return Err(self.explained(error, (eid, watch)).await),
            }
        }
    }

    /// Ends with why the attempt under way would fail now, when the time is over and it has more, where a host is asked
    /// once.
    async fn out_of_time(&self, eid: &Eid, until: Instant) -> ConnectError {
        if self.waiting.is_some() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until((until + LOOK).into()).await;
        loop {
            if let Some(error) = self.host.explain(eid).attempt {
                return within(error, self.timeout).into();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns why it is to be asked again: a server that has taken this host was asked too often (RCH-3), perhaps by
    /// other programs with the same EID.
    fn is_put_off(&self, error: &impl Failure) -> Option<&'static str> {
        let is_taken = !self.host.observed_addrs().is_empty();
        (is_taken && error.absence() == Some(Absence::TooMany)).then_some(ASKED_TOO_OFTEN)
    }

    /// Watches the servers, and ends when none of them will ever find the peer, and nobody else does.
    async fn hopeless(&self, watch: &Watch<'_>) -> Diagnosis {
        let diagnosis = watch.others().await;
        match self.needs_server {
            true => diagnosis,
            false => std::future::pending().await,
        }
    }

    /// Ends when there is no patience left with a server that was restarted. The attempt under way may have more time
    /// than that.
    async fn out_of_patience(&self, eid: &Eid, begun: Instant) -> ConnectError {
        let Some(waiting) = &self.waiting else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until((begun + waiting.patience).into()).await;
        loop {
            let attempt = self.host.explain(eid).attempt;
            // That INITIATE is not answered yet says nothing before the attempt has failed.
            let is_away = |error: &NegotiationError| matches!(error, NegotiationError::Unfound(Absence::NotYet(_)));
            if let Some(error) = attempt.filter(is_away) {
                return error.into();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Says more where the servers may be what is wrong.
    async fn explained(&self, error: impl Failure, (eid, watch): (&Eid, &Watch<'_>)) -> Error {
        let is_unfound = error.absence().is_some();
        let error = self.explained_by_servers(error, (eid, watch)).await;
        let referral = self.host.referral(eid).filter(|_| is_unfound);
        match referral.and_then(|told| told.failure.map(|why| (why, told))) {
            None => error,
            Some((why, told)) => {
                let by = self.servers.iter().find(|server| server.eid == told.by);
                let by = by.map_or_else(|| told.by.to_string(), |server| server.place.to_string());
                let (server, address) = (told.server, told.address);
                error.and(&format!(
                    "the server {by} says that the server {server}@{address} knows the host, and {why}"
                ))
            }
        }
    }

    async fn explained_by_servers(&self, error: impl Failure, (eid, watch): (&Eid, &Watch<'_>)) -> Error {
        let (absence, is_silent) = (error.absence(), error.is_silent());
        let is_relayed = self.relay_only || error.is_relayed();
        let error = error.explained();
        let lan = mdns::failed(&self.host).filter(|_| absence.is_some() || is_silent);
        let with_lan = |error: Error| match &lan {
            Some(why) => error.and(why),
            None => error,
        };
        let error = with_lan(error);
        if self.servers.is_empty() {
            return error;
        }
        if !self.host.observed_addrs().is_empty() {
            let is_found = !self.host.found_by(eid).is_empty();
            return match absence {
                // A server has taken this host, and the time was over before more was known.
                Some(Absence::NoServer | Absence::Pending) => {
                    let what = format!("the host was not reached by a server within {}", Seconds(self.timeout));
                    advised(Error::new(Exit::Unreachable, what, NO_WAY), is_found, is_relayed)
                }
                _ if is_silent => advised(error, is_found, is_relayed),
                // Of the servers that have answered; another one may know it.
                Some(Absence::NeverSeen | Absence::Offline(_)) => match self.silent_servers() {
                    Some(what) => error.and(&what),
                    None => error,
                },
                _ => error,
            };
        }
        if matches!(absence, Some(Absence::NoServer | Absence::Pending)) {
            return with_lan(watch.result().await.error());
        }
        if is_silent {
            let what = watch.result().await.what;
            return error.and(&format!("no registration server has answered either: {what}"));
        }
        error
    }

    /// Waits until a server has said where a host is that was reached: the host's own answer may come before that.
    async fn until_it_is_known_by_whom(&self, eid: &Eid) {
        let until = Instant::now() + LATER;
        while self.host.found_by(eid).is_empty() && Instant::now() < until {
            tokio::time::sleep(LATER / 10).await;
        }
    }

    /// Names the servers that have not answered, if there are any.
    fn silent_servers(&self) -> Option<String> {
        let registrations = self.host.registrations();
        let is_silent = |server: &ServerAt| {
            let mut of_it = registrations.iter().filter(|one| one.server == server.eid);
            of_it.any(|one| match &one.state {
                RegistrationState::Asking | RegistrationState::Resolving => true,
                RegistrationState::Failed(why) => matches!(why, RegistrationError::Lost(_)),
                _ => false,
            })
        };
        let silent = self.servers.iter().filter(|server| is_silent(server));
        let silent: Vec<_> = silent.map(|server| server.place.to_string()).collect();
        (!silent.is_empty()).then(|| format!("not asked, as it has not answered: the server {}", silent.join(", ")))
    }

    /// Tells where the host was reached, if it was not at one of the places of the target.
    pub(crate) async fn tell_how(&self, target: &Target, (eid, route): (Eid, Route), output: Output) {
        if mdns::has_found(&self.host, &eid, route) {
            if !is_at(&target.places, route).await {
                tell_of_lan((eid, route), output);
            }
            return;
        }
        if self.servers.is_empty() || is_at(&target.places, route).await {
            return;
        }
        self.until_it_is_known_by_whom(&eid).await;
        let found_by = servers::found_by(&self.host, &eid, &self.servers);
        // Another server may have been named for this.
        let finders = self.host.found_by(&eid);
        let referral = self.host.referral(&eid).filter(|told| finders.contains(&told.server));
        let named = referral.filter(|_| found_by.is_empty());
        let named = named.map(|told| (told.server, told.address));
        if found_by.is_empty() && named.is_none() {
            return;
        }
        let mut places: Vec<_> = found_by.iter().map(|server| server.place.to_string()).collect();
        places.extend(named.map(|(_, address)| address.to_string()));
        let by = match &places[..] {
            [place] => format!("the server {place}"),
            _ => format!("one of the servers {}", places.join(", ")),
        };
        if output.is_json() {
            let mut servers: Vec<_> = found_by.iter().map(ToString::to_string).collect();
            servers.extend(named.map(|(server, address)| format!("{server}@{address}")));
            let fact = json!({
                "event": "found",
                "eid": eid.to_string(),
                "address": route.address().map(|address| address.to_string()),
                "route": route.class().name(),
                "turn": turn::server_of(&self.host, route),
                "servers": servers,
            });
            output.fact("", &fact);
        } else {
            let how = match route.class() {
                RouteClass::Direct | RouteClass::Turn => "at",
                _ => "through",
            };
            let place = match (turn::server_of(&self.host, route), route.address()) {
                (Some(server), Some(address)) => format!("{address} by TURN server {server}"),
                _ => place_of(route),
            };
            output.note(format!("connected to {eid} {how} {place}, found by {by}"));
        }
    }
}

/// An error that names a time, if that was cut short.
fn within(error: NegotiationError, limit: Duration) -> NegotiationError {
    match error {
        NegotiationError::Unfound(Absence::NotOnLan(time)) => {
            NegotiationError::Unfound(Absence::NotOnLan(time.min(limit)))
        }
        other => other,
    }
}

/// Advises what to do about a host that was silent, though a server works.
fn advised(error: Error, is_found: bool, is_relayed: bool) -> Error {
    match (is_found, is_relayed) {
        (true, true) => error.and("a server has found it").advising(NO_WAY_BY_RELAY),
        (true, false) => error.and("a server has found it").advising(NO_WAY),
        (false, _) => error.and("no server has said where it is").advising(NOT_FOUND_YET),
    }
}

/// Tells where a host was reached that mDNS has found.
fn tell_of_lan((eid, route): (Eid, Route), output: Output) {
    if output.is_json() {
        let fact = json!({
            "event": "found",
            "eid": eid.to_string(),
            "address": route.address().map(|address| address.to_string()),
            "route": route.class().name(),
            "servers": [],
        });
        output.fact("", &fact);
    } else {
        output.note(format!(
            "connected to {eid} at {}, found on the local network",
            place_of(route)
        ));
    }
}

/// Pause between looks at the route by which a peer is spoken to.
const ROUTE_LOOK: Duration = Duration::from_millis(500);

/// Tells when a peer that was reached by one class of routes is spoken to by another, until it is gone.
pub(crate) async fn watch_route(peer: Peer, mut class: RouteClass, output: Output) {
    while let Some(info) = peer.info() {
        if info.route.class() != class {
            class = info.route.class();
            tell_of_route(&peer.eid(), info.route, output);
        }
        tokio::time::sleep(ROUTE_LOOK).await;
    }
}

/// Tells that a peer is spoken to by another route now.
pub(crate) fn tell_of_route(eid: &Eid, route: Route, output: Output) {
    let fact = json!({
        "event": "route",
        "eid": eid.to_string(),
        "address": route.address().map(|address| address.to_string()),
        "route": route.class().name(),
    });
    output.machine(&[fact]);
    output.note(match route.class() {
        RouteClass::Direct => format!("{eid} is reached directly now, at {route}"),
        RouteClass::Turn => format!("{eid} is reached at {} now", place_of(route)),
        _ => format!("{eid} is reached through {} now", place_of(route)),
    });
}

/// The place of a route, for people.
pub(crate) fn place_of(route: Route) -> String {
    match (route.class(), route.address()) {
        (RouteClass::Relay, Some(relay)) => format!("the relay {relay}"),
        (RouteClass::Turn, Some(address)) => format!("{address} by TURN"),
        (RouteClass::Tunnel, _) => "the relay over TLS".to_owned(),
        _ => route.to_string(),
    }
}

/// Returns whether a route leads to one of these places. Names whose addresses are not known may be there.
async fn is_at(places: &[Place], route: Route) -> bool {
    for place in places {
        match tokio::time::timeout(LOOK_UP, place.resolve()).await {
            Ok(Ok(addresses)) if addresses.iter().all(|address| route != Route::udp(*address)) => {}
            Ok(Err(_)) => {}
            _ => return true,
        }
    }
    false
}

/// Failure to reach a host.
pub(crate) trait Failure: From<ConnectError> {
    fn connecting(&self) -> Option<&ConnectError>;
    fn explained(self) -> Error;

    /// The reason why no connection came about, whatever names could not be looked up besides.
    fn cause(&self) -> Option<&ConnectError> {
        match self.connecting()? {
            ConnectError::Unresolved { error: Some(error), .. } => Some(error),
            other => Some(other),
        }
    }

    fn absence(&self) -> Option<Absence> {
        match self.cause()? {
            ConnectError::Negotiation(NegotiationError::Unfound(absence)) => Some(*absence),
            _ => None,
        }
    }

    /// Returns the least time in which it may pass by itself: servers were asked too often, or have not answered, or
    /// the host has not answered its server, and its router may have been restarted.
    fn passes_in(&self) -> Option<Duration> {
        match self.absence()? {
            Absence::TooMany | Absence::NoServer | Absence::Pending => Some(BUSY),
            Absence::Unreachable => Some(REVIVAL),
            _ => None,
        }
    }

    /// Returns why it is to be asked again: the host has too many connections, and says so as often as it may (NEG-23),
    /// or says nothing (NEG-38); or a server does not know yet where it is (RCH-1).
    fn may_yet_end(&self) -> Option<&'static str> {
        match self.cause()? {
            ConnectError::Negotiation(NegotiationError::Unfound(Absence::NotYet(_))) => Some(RESTARTED),
            ConnectError::Closed(reason) if is_for_want_of_room(reason) => Some(TOO_MUCH),
            ConnectError::Negotiation(NegotiationError::NotAccepted { .. }) => Some(NOT_ACCEPTED),
            _ => None,
        }
    }

    /// Returns whether all that was sent to the host went through a relay.
    fn is_relayed(&self) -> bool {
        match self.cause() {
            Some(ConnectError::Negotiation(NegotiationError::NoAnswer { addresses, .. })) => {
                let is_direct = |tried: &Tried| tried.route.class() == RouteClass::Direct;
                !addresses.is_empty() && !addresses.iter().any(is_direct)
            }
            _ => false,
        }
    }

    /// Returns whether nobody has answered where the host may be.
    fn is_silent(&self) -> bool {
        let silent = |error: &ConnectError| {
            matches!(
                error,
                ConnectError::Negotiation(NegotiationError::NoAnswer { .. }) | ConnectError::Unresolved { .. }
            )
        };
        self.connecting().is_some_and(silent)
    }
}

impl Failure for ConnectError {
    fn connecting(&self) -> Option<&ConnectError> {
        Some(self)
    }

    fn explained(self) -> Error {
        connect_error(self)
    }
}

impl Failure for ServicesError {
    fn connecting(&self) -> Option<&ConnectError> {
        match self {
            Self::Connect(error) => Some(error),
            _ => None,
        }
    }

    fn explained(self) -> Error {
        services_error(self)
    }
}

/// Explains what it means that no stream could be opened.
pub(crate) fn connect_error(error: ConnectError) -> Error {
    match error {
        ConnectError::Negotiation(error) => error.into(),
        ConnectError::Closed(reason) => reason.into(),
        ConnectError::Unresolved { ref names, .. } => {
            let is_address = |name: &str| name.parse::<std::net::SocketAddr>().is_ok();
            let is_name = |name: &str| !name.contains('%') && !is_address(name);
            let any = |is_so: &dyn Fn(&str) -> bool| names.iter().any(|unresolved| is_so(&unresolved.name));
            let next = match (any(&is_name), any(&is_address)) {
                (true, _) => CHECK_NAME,
                (false, true) => CHECK_ADDRESS,
                (false, false) => NAME_INTERFACE,
            };
            Error::new(Exit::Unreachable, error.to_string(), next)
        }
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

#[cfg(test)]
mod tests {
    use sss::{Link, RelayHandle, Seen, TunnelId};

    use super::*;

    #[test]
    fn what_went_through_relays_alone_is_told_apart() {
        let at = "192.0.2.1:7757".parse().unwrap();
        let direct = Route::udp(at);
        let relayed = Route::through(Link::Udp(at), RelayHandle(7));
        let tunnelled = Route::through(Link::Tunnel(TunnelId(0)), RelayHandle(7));
        let is_relayed = |routes: &[Route]| {
            let error = NegotiationError::NoAnswer {
                addresses: routes.iter().map(|route| Tried::new(*route, Seen::Nothing)).collect(),
                attempts: 1,
                after: Duration::from_secs(1),
            };
            ConnectError::from(error).is_relayed()
        };
        assert!(is_relayed(&[relayed]) && is_relayed(&[tunnelled, relayed]));
        assert!(!is_relayed(&[direct]) && !is_relayed(&[relayed, direct]) && !is_relayed(&[]));
    }

    #[test]
    fn a_time_that_was_cut_short_is_told_as_it_was() {
        let absent = |seconds| NegotiationError::Unfound(Absence::NotOnLan(Duration::from_secs(seconds)));
        for (limit, told) in [(2, 2), (3, 3), (10, 3)] {
            assert_eq!(within(absent(3), Duration::from_secs(limit)), absent(told));
        }
    }

    #[test]
    fn the_advice_is_by_what_is_known() {
        let said = |is_found, is_relayed| {
            let error = Error::new(Exit::Unreachable, "not reached", "");
            advised(error, is_found, is_relayed).to_string()
        };
        let (direct, relayed) = (said(true, false), said(true, true));
        assert!(
            direct.contains("has found it") && direct.contains("sss rendezvous --relay"),
            "{direct}"
        );
        assert!(
            relayed.contains("has found it") && relayed.contains("more --timeout"),
            "{relayed}"
        );
        for is_relayed in [false, true] {
            let unknown = said(false, is_relayed);
            assert!(unknown.contains("no server has said where it is"), "{unknown}");
            assert!(unknown.contains("more --timeout"), "{unknown}");
        }
        for text in [relayed, said(false, true)] {
            assert!(!text.contains("rendezvous --relay"), "{text}");
        }
    }
}
