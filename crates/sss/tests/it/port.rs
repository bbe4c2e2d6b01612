//! A host that is closed, or dropped, leaves its port to the next.

use std::time::Duration;

use sss::Host;
use tokio::runtime::Builder;

use crate::common::{builder, within};

/// So often is the port bound anew; `SSS_ROUNDS` says how often instead.
fn rounds() -> u32 {
    std::env::var("SSS_ROUNDS").map_or(20, |text| text.parse().expect("SSS_ROUNDS is a number"))
}

/// Binds, connects, ends both hosts, and binds the same port again: so often was that refused.
async fn rebind(close: impl AsyncFn(Host)) {
    let first = builder().build().await.unwrap();
    let port = first.local_addr();
    close(first).await;
    let mut refused = 0;
    for _ in 0..rounds() {
        let host = match builder().bind(port).build().await {
            Ok(host) => host,
            Err(error) => {
                eprintln!("{error}");
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let server = host.listen("test", "1").unwrap();
        let client = builder().build().await.unwrap();
        let stream = client.connect(host.eid(), "test", "1").hint(port).await.unwrap();
        let accepted = server.accept().await.unwrap();
        drop((stream, accepted, server));
        tokio::join!(close(client), close(host));
    }
    assert_eq!(refused, 0, "of {}", rounds());
}

async fn closed(host: Host) {
    // Both ends close at once: what either has to say may not be acknowledged any more.
    let _ = host.close().await;
}

async fn dropped(host: Host) {
    let stopped = host.stopped();
    drop(host);
    stopped.await;
}

#[test]
fn a_port_is_free_when_closing_returns() {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(within(600, rebind(closed)));
    }
}

#[test]
fn a_port_is_free_when_a_host_that_was_dropped_has_stopped() {
    for mut runtime in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(within(600, rebind(dropped)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_free_when_a_host_with_a_thread_of_its_own_is_closed() {
    within(60, async {
        let dedicated = || builder().driver(sss::DriverMode::Dedicated);
        let mut host = dedicated().build().await.unwrap();
        let port = host.local_addr();
        for _ in 0..20 {
            host.close().await.unwrap();
            host = dedicated().bind(port).build().await.unwrap();
        }
    })
    .await;
}
