//! Hosts that keep to their local network.

use std::net::SocketAddr;
use std::time::Duration;

use sss::{BuildError, ConnectError, Host, Identity, NegotiationError, ProbeError};

use crate::common::within;

const OUTSIDE: [&str; 3] = ["192.0.2.7:4433", "[2001:db8::7]:4433", "100.64.0.7:4433"];

// spec: RCH-37
#[tokio::test]
async fn hosts_that_keep_to_their_network_say_what_is_outside() {
    within(30, async {
        let eid = Identity::generate().eid();
        let host = || Host::builder().bind("127.0.0.1:0").lan_only(true);
        let here = host().build().await.unwrap();
        for outside in OUTSIDE {
            let address: SocketAddr = outside.parse().unwrap();
            let refused = here.connect(eid, "test", "1").hint(address).await.unwrap_err();
            let expected = NegotiationError::OutsideLan {
                address: outside.to_owned(),
            };
            assert_eq!(refused, ConnectError::Negotiation(expected));
            let asked = here.probe(address, Duration::from_secs(1)).await;
            assert_eq!(asked, Err(ProbeError::OutsideLan { address }));
        }
        let refused = here.connect(eid, "test", "1").hint("localhost:4433").await.unwrap_err();
        assert!(
            matches!(&refused, ConnectError::Unresolved { names, .. } if names.len() == 1),
            "{refused}"
        );
        assert!(refused.to_string().contains("looks up no names"), "{refused}");
        let server = host().rendezvous(eid, "127.0.0.1:1").build().await;
        assert!(matches!(server, Err(BuildError::LanOnly(_))));

        // Among themselves they are as others are.
        let there = host().build().await.unwrap();
        let service = there.listen("test", "1").unwrap();
        let stream = here
            .connect(there.eid(), "test", "1")
            .hint(there.local_addr())
            .await
            .unwrap();
        let (_, peer) = service.accept().await.unwrap();
        assert_eq!(peer, here.eid());
        drop(stream);
    })
    .await;
}
