//! `libsss` with default settings, and the registration server that relays.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ::sss::{Eid, FoundBy, Host, HostBuilder, RelayLimits, RendezvousServer, RouteClass};
use serde_json::json;
use sss_bench::Outcome;

use crate::node::{self, Call, FAREWELL, Place};

const SERVICE: (&str, &str) = ("reach", "1");
const PORT: u16 = 7757;

/// Serves as `sss rendezvous --relay` does.
pub(crate) async fn relay(at: Ipv4Addr) -> Outcome<()> {
    let server = RendezvousServer::new().relay(RelayLimits::default());
    let builder = Host::builder().bind(SocketAddr::from((at, PORT))).answer_probes(true);
    let host = builder.serve_rendezvous(server).build().await?;
    node::stay(&json!({ "key": host.eid().to_string() })).await
}

fn builder(place: &Place) -> Outcome<HostBuilder> {
    let server: Eid = place.key.parse()?;
    Ok(Host::builder().rendezvous(server, SocketAddr::from((place.at, PORT))))
}

/// Waits for callers, registered.
pub(crate) async fn listen(place: &Place) -> Outcome<()> {
    let host = builder(place)?.found_by(FoundBy::Known).build().await?;
    let server = host.listen(SERVICE.0, SERVICE.1)?;
    while host.observed_addrs().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node::tell(&json!({ "id": host.eid().to_string() }));
    loop {
        let (stream, _) = server.accept().await?;
        let (writer, reader) = stream.split();
        tokio::spawn(node::answer(writer, reader));
    }
}

/// Calls by the EID alone, and measures.
pub(crate) async fn call(place: &Place, id: &str, what: &str) -> Outcome<()> {
    let (eid, begun): (Eid, _) = (id.parse()?, Instant::now());
    let host = builder(place)?.build().await?;
    let built = Instant::now();
    let stream = host.connect(eid, SERVICE.0, SERVICE.1).open()?;
    let peer = stream.peer();
    let is_direct = move || peer.info().is_some_and(|info| info.route.class() == RouteClass::Direct);
    let (writer, reader) = stream.split();
    let call = Call {
        writer,
        reader,
        is_direct: Box::new(is_direct),
        built,
    };
    node::measure(begun, call, what).await?;
    // It says goodbye, if it is heard.
    let _ = host.close_within(FAREWELL).await;
    Ok(())
}
