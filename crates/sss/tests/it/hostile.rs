//! Garbage on the port.

use std::net::UdpSocket;

use crate::common::{Pair, Pattern, pair, within};

// spec: OVR-2, PRT-7
#[tokio::test]
async fn threat_39_garbage_is_counted_and_changes_nothing() {
    within(20, async {
        let Pair {
            client,
            host,
            ours,
            theirs,
            ..
        } = pair().await;
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut pattern = Pattern::new(42);
        for round in 0..100_usize {
            let mut garbage = pattern.bytes(1 + round * 2);
            garbage.truncate(1 + round * 13);
            for address in [client.local_addr(), host.local_addr()] {
                stranger.send_to(&garbage, address).unwrap();
                garbage[0] = [0x00, 0x40, 0x80, 0x86, 0xff][round % 5];
                stranger.send_to(&garbage, address).unwrap();
                stranger.send_to(&[], address).unwrap();
            }
            let mut child = ours.open_substream().unwrap();
            child.write_all(&[9; 2000]).await.unwrap();
            child.finish().unwrap();
            let mut theirs = theirs.accept_substream().await.unwrap().unwrap();
            assert_eq!(theirs.read_to_end(1 << 20).await.unwrap().len(), 2000);
        }
        assert!(host.stats().dropped_total() >= 150, "{:?}", host.stats());
        assert_eq!(host.peers().len(), 1);
    })
    .await;
}
