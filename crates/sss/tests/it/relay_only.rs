//! Hosts that reach others, and are reached, by relays alone.

use std::time::Duration;

use sss::{BuildError, ConnectError, Host, HostBuilder, NegotiationError, ProbeError, RelayUse, RendezvousServer};

use crate::common::within;

fn builder() -> HostBuilder {
    Host::builder().bind("127.0.0.1:0").answer_probes(true)
}

// spec: RCH-40
#[tokio::test]
async fn hosts_of_relays_neither_go_to_others_directly_nor_answer_them() {
    within(30, async {
        let host = builder().relay(RelayUse::Always).build().await.unwrap();
        let other = builder().build().await.unwrap();
        let _services = [host.listen("test", "1").unwrap(), other.listen("test", "1").unwrap()];
        let at = other.local_addr();
        let refused = host.connect(other.eid(), "test", "1").hint(at).await.unwrap_err();
        let expected = NegotiationError::NotRelayed {
            address: at.to_string(),
        };
        assert_eq!(refused, ConnectError::Negotiation(expected));
        let asked = host.probe(at, Duration::from_secs(1)).await;
        assert_eq!(asked, Err(ProbeError::NotRelayed { address: at }));
        assert_eq!(other.stats().datagrams_received, 0);
        // The other way round, all is dropped.
        let at = host.local_addr();
        let half = Duration::from_millis(500);
        assert!(matches!(other.probe(at, half).await, Err(ProbeError::NoAnswer { .. })));
        let asked = other.connect(host.eid(), "test", "1").hint(at).timeout(half).await;
        assert!(asked.is_err());
        let stats = host.stats();
        assert_eq!(stats.datagrams_sent, 0);
        assert_eq!(stats.dropped(sss::DropReason::NotRelayed), stats.datagrams_received);
    })
    .await;
}

// spec: RCH-40
#[tokio::test]
async fn hosts_of_relays_have_nothing_that_tells_where_they_are() {
    within(30, async {
        let always = || builder().relay(RelayUse::Always);
        let built = [
            always().serve_rendezvous(RendezvousServer::new()),
            #[cfg(feature = "mdns")]
            always().mdns(sss::Mdns::Browse),
            #[cfg(feature = "mdns")]
            always().mdns(sss::Mdns::Announce),
            #[cfg(feature = "port-mapping")]
            always().port_mapping(sss::PortMapping::On),
        ];
        for builder in built {
            let refused = builder.build().await.map(drop);
            assert!(matches!(refused, Err(BuildError::RelayOnly(_))), "{refused:?}");
        }
    })
    .await;
}
