//! Services: several protocols, several services in one loop, asking for them, refusals.

use std::time::Duration;

use sss::{
    CloseReason, Code, ConnectError, Host, ListenError, NegotiationError, ProtocolInfo, ReadError, Refusal, ServerSet,
    ServiceInfo, ServicesError, WriteError,
};

use crate::common::{builder, host, within};

fn info(name: &str, description: &str, protocols: &[(&str, &str)]) -> ServiceInfo {
    let protocol = |(name, description): &(&str, &str)| ProtocolInfo::new(*name, *description);
    ServiceInfo::new(name, description, protocols.iter().map(protocol).collect())
}

async fn listed(client: &Host, host: &Host) -> Vec<ServiceInfo> {
    let list = client.services_of(host.eid()).hint(host.local_addr()).await.unwrap();
    assert!(list.is_complete());
    list.services
}

// spec: SVC-1, SVC-3, SVC-5
#[tokio::test]
async fn a_host_tells_what_it_offers_and_what_not() {
    within(20, async {
        let (client, host) = (host().await, host().await);
        assert_eq!(listed(&client, &host).await, []);
        let files = host
            .service("files")
            .describe("Files of this machine")
            .protocol("sync/2", "With deltas")
            .protocol("sync/1", "")
            .listen()
            .unwrap();
        let _ping = host.listen("ping", "echo/1").unwrap();
        let _secret = host.service("secret").protocol("1", "").hidden().listen().unwrap();
        let ping = info("ping", "", &[("echo/1", "")]);
        let expected = [
            info(
                "files",
                "Files of this machine",
                &[("sync/1", ""), ("sync/2", "With deltas")],
            ),
            ping.clone(),
        ];
        assert_eq!(listed(&client, &host).await, expected);
        // Hidden is not closed, and the list follows changes.
        client.connect(host.eid(), "secret", "1").await.unwrap();
        drop(files);
        assert_eq!(listed(&client, &host).await, [ping]);
        let reserved = host.listen("sss", "mine").unwrap_err();
        assert_eq!(reserved, ListenError::Reserved("sss".into()));
        assert_eq!(
            host.service("x").listen().unwrap_err(),
            ListenError::NoProtocol("x".into())
        );
        client.close().await.unwrap();
    })
    .await;
}

// spec: SVC-4
#[tokio::test]
async fn a_long_list_is_told_as_far_as_it_goes() {
    within(20, async {
        let (client, host) = (host().await, host().await);
        let text = "x".repeat(1024);
        let offer = |i: usize| {
            host.service(&format!("{i:03}"))
                .describe(&text)
                .protocol("1", &text)
                .listen()
        };
        let servers: ServerSet = (0..100).map(|i| offer(i).unwrap()).collect();
        let list = client.services_of(host.eid()).hint(host.local_addr()).await.unwrap();
        assert_eq!((list.total, list.services.len()), (100, 31));
        assert!(list.services.iter().all(|s| s.description == text));
        assert_eq!(servers.servers().len(), 100);
    })
    .await;
}

// spec: STR-9, STR-42
#[tokio::test]
async fn a_service_and_a_protocol_that_are_not_there_are_told_apart() {
    within(20, async {
        let (client, host) = (host().await, host().await);
        let server = host
            .service("files")
            .protocol("sync/1", "")
            .protocol("sync/2", "")
            .listen()
            .unwrap();
        let cases = [
            ("mail", "sync/1", Refusal::Service),
            ("files", "sync/3", Refusal::Protocol),
            ("sss", "services/99", Refusal::Protocol),
        ];
        for (service, protocol, refusal) in cases {
            let mut stream = client
                .connect(host.eid(), service, protocol)
                .hint(host.local_addr())
                .await
                .unwrap();
            assert_eq!(
                stream.read_chunk(10).await,
                Err(ReadError::Refused(refusal)),
                "{service} {protocol}"
            );
            assert_eq!(stream.write(b"x").await, Err(WriteError::Refused(refusal)));
        }
        let mut stream = client.connect(host.eid(), "files", "sync/2").await.unwrap();
        stream.write_all(b"unaffected").await.unwrap();
        stream.finish().unwrap();
        let mut incoming = server.accept_incoming().await.unwrap();
        assert_eq!(
            (incoming.service.as_str(), incoming.protocol.as_str()),
            ("files", "sync/2")
        );
        assert_eq!(incoming.peer, client.eid());
        assert_eq!(&incoming.stream.read_to_end(100).await.unwrap()[..], b"unaffected");
    })
    .await;
}

#[tokio::test]
async fn one_loop_takes_the_streams_of_many_services_in_turn() {
    within(20, async {
        let (client, host) = (host().await, host().await);
        let servers = ServerSet::from(["a", "b", "c"].map(|name| {
            let service = host.service(name).protocol("1", "").protocol("2", "");
            service.listen().unwrap()
        }));
        let mut streams = Vec::new();
        for (service, protocol, times) in [("a", "1", 30), ("b", "2", 2), ("c", "1", 2)] {
            for _ in 0..times {
                let connect = client.connect(host.eid(), service, protocol).hint(host.local_addr());
                let mut stream = connect.await.unwrap();
                stream.write_all(service.as_bytes()).await.unwrap();
                streams.push(stream);
            }
        }
        let mut order = Vec::new();
        let mut held = Vec::new();
        for _ in 0..34 {
            let mut incoming = servers.accept().await.unwrap();
            let said = incoming.stream.read_chunk(10).await.unwrap().unwrap();
            assert_eq!(said, incoming.service.as_bytes());
            assert_eq!(incoming.protocol, if incoming.service == "b" { "2" } else { "1" });
            order.push(incoming.service);
            held.push(incoming.stream);
        }
        let late = order.iter().rposition(|s| s != "a").unwrap();
        assert!(late < 30, "a busy service keeps the others waiting: {order:?}");
        let pending = tokio::time::timeout(Duration::from_millis(50), servers.accept()).await;
        assert!(pending.is_err());
        // Whoever waits is woken by any of them.
        let waiting = tokio::spawn(async move { servers.accept().await.map(|i| i.service) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _stream = client.connect(host.eid(), "c", "2").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), "c");
    })
    .await;
}

#[tokio::test]
async fn asking_a_host_that_does_not_answer_or_talks_nonsense() {
    within(20, async {
        let client = builder()
            .connect_timeout(Duration::from_millis(300))
            .build()
            .await
            .unwrap();
        let nobody = host().await;
        let (eid, address) = (nobody.eid(), nobody.local_addr());
        nobody.close().await.unwrap();
        let error = client.services_of(eid).hint(address).await.unwrap_err();
        assert!(
            matches!(
                error,
                ServicesError::Connect(ConnectError::Negotiation(NegotiationError::NoAnswer { .. }))
            ),
            "{error:?}"
        );
        let error = client.services_of(eid).await.unwrap_err();
        let no_address = ConnectError::Negotiation(NegotiationError::NoAddress);
        assert_eq!(error, ServicesError::Connect(no_address));
        let picky = builder().accept_filter(|_, _| false).build().await.unwrap();
        let error = client
            .services_of(picky.eid())
            .hint(picky.local_addr())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                ServicesError::Connect(ConnectError::Negotiation(_) | ConnectError::Closed(_))
            ),
            "{error:?}"
        );
        let after = Duration::from_millis(20);
        let asking = client.services_of(eid).hint(address).timeout(after);
        assert_eq!(asking.await.unwrap_err(), ServicesError::NoAnswer { after });
        let closed = CloseReason::Peer {
            code: Code::SHUTDOWN,
            reason: String::new(),
        };
        assert!(
            ServicesError::from(ReadError::Lost(closed))
                .to_string()
                .contains("does not tell")
        );
    })
    .await;
}

#[tokio::test]
async fn a_set_without_servers_has_nothing_to_accept() {
    let set = ServerSet::new();
    let accepted = tokio::time::timeout(Duration::from_secs(10), set.accept()).await;
    assert_eq!(accepted.unwrap().unwrap_err(), sss::AcceptError::NoServer);
}
