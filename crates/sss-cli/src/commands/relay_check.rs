//! A call of a host to itself, where it is reached by relays alone: nothing else tells whether its servers relay.

use std::time::Duration;

use serde_json::json;
use sss::{Absence, ConnectError, Eid, FoundBy, Host, Identity, NegotiationError, RegistrationState, ServicesError};

use crate::connector::{Times, build_with};
use crate::output::Output;
use crate::server_at::ServerAt;
use crate::servers::{self, ServerArgs};

/// Pause between looks at a registration.
const PAUSE: Duration = Duration::from_millis(100);
/// Time in which the host is to be reached.
const CALL: Duration = Duration::from_secs(5);
/// Time that the server has to hear that the caller is going.
const FAREWELL: Duration = Duration::from_millis(300);

/// Advises what to do about a server that relays nothing.
const ADVICE: &str = "start that server with `sss rendezvous --relay`, name one that relays with --server, or leave \
                      --relay-only out";

/// Tells which of its servers do not relay what is for a host, once it is registered there.
pub(crate) fn start(host: &Host, identity: &Identity, (servers, args): (&[ServerAt], &ServerArgs), output: Output) {
    for server in servers {
        tokio::spawn(check(
            host.clone(),
            identity.clone(),
            (server.clone(), args.clone()),
            output,
        ));
    }
}

async fn check(host: Host, identity: Identity, (server, args): (ServerAt, ServerArgs), output: Output) {
    while !is_registered(&host, &server.eid) {
        if host.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if relays_nothing(host.eid(), identity, (&server, &args)).await {
        let what = format!(
            "nobody reaches this host by the server {}: it relays nothing, and with --relay-only nothing goes directly",
            server.place
        );
        let fact = json!({"event": "unrelayed", "server": server.to_string(), "error": what, "next": ADVICE});
        output.prose_aside(format!("{what}\n  -> {ADVICE}"), &fact);
    }
}

fn is_registered(host: &Host, server: &Eid) -> bool {
    let registrations = host.registrations();
    let mut of_server = registrations.iter().filter(|one| one.server == *server);
    of_server.any(|one| matches!(one.state, RegistrationState::Registered { .. }))
}

/// Calls the host of this name, by the relay of a server alone. Returns whether both were introduced, and had no way to
/// each other.
async fn relays_nothing(eid: Eid, identity: Identity, (server, args): (&ServerAt, &ServerArgs)) -> bool {
    let times = Times {
        connect: CALL,
        silence: CALL,
    };
    let servers = std::slice::from_ref(server);
    let caller = build_with(identity, None, times, |builder| {
        servers::register(builder, (servers, args), FoundBy::Nobody)
    });
    // What keeps it from being built keeps nobody else from calling.
    let Ok(caller) = caller.await else {
        return false;
    };
    let answer = caller.services_of(eid).await;
    let _ = caller.close_within(FAREWELL).await;
    matches!(
        answer,
        Err(ServicesError::Connect(ConnectError::Negotiation(
            NegotiationError::Unfound(Absence::Refused | Absence::NoWay)
        )))
    )
}
